// Rows of factors: how they lie in memory, and how the lanes of a warp share one.
// Compile with -DFACTORS=n, the columns of a factor matrix, and -DHALF=0|1, whether it is stored in float16.
//
// A row of factors takes a whole number of sectors of 32 bytes, STRIDE elements; those from FACTORS on are zero. All
// arithmetic is in float32, offsets into matrices have 64 bits. Matrices of float32 whatever HALF says (the gram
// matrix, work space) have FLOAT_STRIDE elements per row. A sparse matrix is (indptr int64, indices int32, values
// float32), the indices of a row rising.
#pragma once
typedef long long int64;

#if HALF
typedef unsigned short Stored; // the bits of a float16, so that no header of the CUDA toolkit is needed
#else
typedef float Stored;
#endif

__host__ __device__ constexpr int padded(int n, int unit) { return (n + unit - 1) / unit * unit; }

constexpr int STRIDE = padded(FACTORS, 32 / sizeof(Stored));
constexpr int FLOAT_STRIDE = padded(FACTORS, 8);
constexpr int VECTORS = padded(FACTORS, 4) / 4; // of four elements, what a lane loads at once

// A team of lanes reads a row; where rows are short, several teams of a warp work on a row each.
constexpr int TEAM = VECTORS <= 8 ? 8 : VECTORS <= 16 ? 16 : 32;
constexpr int TEAMS = 32 / TEAM;
constexpr unsigned ALL = 0xffffffffu;

__device__ __forceinline__ float4 load4(const float *p) { return *reinterpret_cast<const float4 *>(p); }

__device__ __forceinline__ float from_half(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

__device__ __forceinline__ unsigned short to_half(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

__device__ __forceinline__ float4 load4(const unsigned short *p) {
    const ushort4 bits = *reinterpret_cast<const ushort4 *>(p);
    return make_float4(from_half(bits.x), from_half(bits.y), from_half(bits.z), from_half(bits.w));
}

// Written as instructions, since the compiler splits some plain stores into four.
__device__ __forceinline__ void store4(float *p, float4 v) {
    if (__isShared(p))
        asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_shared(p)), "f"(v.x), "f"(v.y),
                     "f"(v.z), "f"(v.w)
                     : "memory");
    else
        __stcg(reinterpret_cast<float4 *>(p), v);
}

__device__ __forceinline__ void store4(unsigned short *p, float4 v) {
    const ushort4 bits = make_ushort4(to_half(v.x), to_half(v.y), to_half(v.z), to_half(v.w));
    if (__isShared(p))
        asm volatile("st.shared.v4.u16 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_shared(p)), "h"(bits.x),
                     "h"(bits.y), "h"(bits.z), "h"(bits.w)
                     : "memory");
    else
        *reinterpret_cast<ushort4 *>(p) = bits;
}

__device__ __forceinline__ float dot4(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }

__device__ __forceinline__ void add4(float4 &a, float s, float4 b) {
    a.x += s * b.x;
    a.y += s * b.y;
    a.z += s * b.z;
    a.w += s * b.w;
}

// Sum over the lanes of a team; all 32 lanes of the warp take part.
__device__ __forceinline__ float team_sum(float x) {
#pragma unroll
    for (int offset = TEAM / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL, x, offset);
    return x;
}

// Sum over the teams of a warp, lane by lane.
__device__ __forceinline__ float sum_of_teams(float x) {
#pragma unroll
    for (int offset = 16; offset >= TEAM; offset /= 2) x += __shfl_xor_sync(ALL, x, offset);
    return x;
}

// What a lane of a team holds of a row, or of PARTS * TEAM vectors of it: vectors lane, lane + TEAM, ...
template <int PARTS> struct Share {
    float4 part[PARTS];

    static __device__ __forceinline__ Share zero() {
        Share share;
#pragma unroll
        for (int i = 0; i < PARTS; ++i) share.part[i] = make_float4(0, 0, 0, 0);
        return share;
    }

    template <class T> static __device__ __forceinline__ Share load(const T *row, int lane, int first = 0) {
        Share share = zero();
#pragma unroll
        for (int i = 0; i < PARTS; ++i)
            if (first + lane + i * TEAM < VECTORS) share.part[i] = load4(row + 4 * (first + lane + i * TEAM));
        return share;
    }

    template <class T> __device__ __forceinline__ void store(T *row, int lane, int first = 0) const {
#pragma unroll
        for (int i = 0; i < PARTS; ++i)
            if (first + lane + i * TEAM < VECTORS) store4(row + 4 * (first + lane + i * TEAM), part[i]);
    }

    __device__ __forceinline__ void add(float s, const Share &other) { // this += s * other
#pragma unroll
        for (int i = 0; i < PARTS; ++i) add4(part[i], s, other.part[i]);
    }

    __device__ __forceinline__ float own_dot(const Share &other) const { // this lane's part of the inner product
        float sum = 0;
#pragma unroll
        for (int i = 0; i < PARTS; ++i) sum += dot4(part[i], other.part[i]);
        return sum;
    }

    __device__ __forceinline__ void sum_teams() { // the sum of what the teams hold, in each of them
#pragma unroll
        for (int i = 0; i < PARTS; ++i) {
            part[i].x = sum_of_teams(part[i].x);
            part[i].y = sum_of_teams(part[i].y);
            part[i].z = sum_of_teams(part[i].z);
            part[i].w = sum_of_teams(part[i].w);
        }
    }
};

constexpr int PARTS = (VECTORS + TEAM - 1) / TEAM;
typedef Share<PARTS> Row; // a lane's share of a whole row

__device__ __forceinline__ float dot(const Row &a, const Row &b) { return team_sum(a.own_dot(b)); }

// Conjugate gradient stops at this squared residual; where a system is to be solved exactly, at a share of the first,
// or at the least normal number, since CuPy compiles with -ftz=true: a lesser one is zero, which no residual is below.
constexpr float TINY = 1e-20f;
__device__ __forceinline__ float stop_at(bool exactly, float first) {
    return exactly ? fmaxf(1e-13f * first, 1.17549435e-38f) : TINY;
}

// Of conjugate gradient: NaN, which shows in the result, and not a step of 0, where the curvature overflows.
__device__ __forceinline__ float step_length(float rsold, float curvature) {
    return fabsf(curvature) <= 3.40282347e+38f ? rsold / curvature : curvature - curvature;
}

// Weight and right-hand side of a stored value, with c = alpha * value: (c, c) where only stored cells weigh, else
// (|c| - 1, max(c, 0)).
struct Entry {
    float weight, rhs;

    __device__ __forceinline__ Entry(float value, float alpha, int observed) {
        const float c = alpha * value;
        weight = observed ? c : fabsf(c) - 1;
        rhs = observed ? c : fmaxf(c, 0.0f);
    }
};
