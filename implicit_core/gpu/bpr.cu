// Bayesian personalized ranking (Rendle et al. 2009): steps of stochastic gradient ascent, a warp a step. Compile with
// -DHALF=0 and -DFACTORS=n, the columns with the bias: the last column is the bias of an item and 1 for a user.
//
// Draw n of an epoch is a function of (key, epoch, n), the same as on the CPU: Philox4x32-10 (Salmon et al. 2011). Steps
// run side by side and see each other's work in no fixed order; each read and each addition is atomic by itself.
// Launch: any grid; block (32 * warps, 1, 1).
#include "rows.cuh"
#include "search.cuh"

typedef unsigned long long Bits;
constexpr int COLUMNS = (FACTORS + 31) / 32; // of a lane
constexpr bool HELD = COLUMNS <= 16;         // a lane's columns stay in registers; or else they are read again

struct Draw {
    Bits first, second;
};

__device__ __forceinline__ Draw philox(Bits key, unsigned epoch, Bits n) {
    unsigned c0 = unsigned(n), c1 = unsigned(n >> 32), c2 = epoch, c3 = 0;
    unsigned k0 = unsigned(key), k1 = unsigned(key >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c2 = high0 ^ c3 ^ k1;
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {Bits(c1) << 32 | c0, Bits(c3) << 32 | c2};
}

__device__ __forceinline__ float relaxed(const float *p) { // others may add to it at the same time
    float x;
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(x) : "l"(p) : "memory");
    return x;
}

struct Column { // of the three rows of a step
    float x, liked, disliked;

    __device__ __forceinline__ void read(const float *x_row, const float *liked_row, const float *disliked_row, int f) {
        x = relaxed(x_row + f);
        liked = relaxed(liked_row + f);
        disliked = relaxed(disliked_row + f);
    }
};

// Steps for draws first .. first + n of an epoch. Adds to counts[0] how many triples were in the right order before
// their step, and to counts[1] how many draws were of no use.
extern "C" __global__ void bpr(
    Bits key, unsigned epoch, int64 first, int64 n,
    const int64 *indptr, const int *users, const int *indices, int64 entries,  // users[k]: the row of entry k
    float *X, float *Y,                                                        // STRIDE elements per row
    float rate, float regularization, int verify,
    Bits *counts) {
    const int lane = threadIdx.x % 32;
    const int64 warps = int64(gridDim.x) * (blockDim.x / 32);
    Bits correct = 0, skipped = 0;
    for (int64 i = int64(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; i < n; i += warps) {
        const Draw draw = philox(key, epoch, first + i);
        const int64 entry = __umul64hi(draw.first, entries), other = __umul64hi(draw.second, entries);
        const int user = users[entry], liked_item = indices[entry], disliked_item = indices[other];
        if (liked_item == disliked_item ||
            (verify && contains(indices, indptr[user], indptr[user + 1], disliked_item))) {
            ++skipped;
            continue;
        }
        float *const x_row = X + int64(user) * STRIDE;
        float *const liked_row = Y + int64(liked_item) * STRIDE;
        float *const disliked_row = Y + int64(disliked_item) * STRIDE;
        Column held[HELD ? COLUMNS : 1];
        float score = 0;
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
            Column &column = held[HELD ? c : 0];
            if (lane + 32 * c >= FACTORS) continue;
            column.read(x_row, liked_row, disliked_row, lane + 32 * c);
            score += column.x * (column.liked - column.disliked);
        }
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) score += __shfl_xor_sync(ALL, score, offset);
        const float z = 1 / (1 + expf(score));
        if (z < 0.5f) ++correct;
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
            const int f = lane + 32 * c;
            Column &column = held[HELD ? c : 0];
            if (f >= FACTORS) continue;
            if (!HELD) column.read(x_row, liked_row, disliked_row, f);
            const float x = column.x, liked = column.liked, disliked = column.disliked;
            if (f < FACTORS - 1) atomicAdd(x_row + f, rate * (z * (liked - disliked) - regularization * x));
            atomicAdd(liked_row + f, rate * (z * x - regularization * liked));
            atomicAdd(disliked_row + f, rate * (-z * x - regularization * disliked));
        }
    }
    if (lane == 0) {
        atomicAdd(&counts[0], correct);
        atomicAdd(&counts[1], skipped);
    }
}
