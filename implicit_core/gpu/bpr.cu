// Bayesian personalized ranking (Rendle et al. 2009): steps of stochastic gradient ascent, a warp a step. Compile with
// -DHALF=0 and -DFACTORS=n, the columns with the bias: the last column is the bias of an item and 1 for a user.
//
// Draw n of an epoch is a function of (key, epoch, n), the same as on the CPU: Philox4x32-10 (Salmon et al. 2011).
// `bpr` takes steps side by side, in one of two ways:
// - with null for the slots, steps see each other's work in no fixed order; each read and each addition is atomic by
//   itself;
// - else all steps of a launch start from the same factors, and their changes are summed up in fixed point, where the
//   order of additions does not matter: `bpr_slots` gives each row that takes part a row of sums, `bpr` adds to that,
//   `bpr_apply` adds the sums to the factors and leaves zeros. All three take the same draws.
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

struct Triple {
    int user, liked, disliked;

    __device__ __forceinline__ Triple(
        Bits key, unsigned epoch, Bits n, const int *users, const int *indices, int64 entries) {
        const Draw draw = philox(key, epoch, n);
        const int64 entry = __umul64hi(draw.first, entries), other = __umul64hi(draw.second, entries);
        user = users[entry];
        liked = indices[entry];
        disliked = indices[other];
    }
};

constexpr float UNIT = 1099511627776.0f; // 2^40: sums count in 1 / UNIT
constexpr float LARGEST = 512.0f;        // change whose sums over 2^13 steps fit into 63 bits

// A row of factors and, unless null, the sums of its changes.
struct Target {
    float *row;
    Bits *sums;

    __device__ __forceinline__ Target(float *factors, int64 id, const int *slots, Bits *sums)
        : row(factors + id * STRIDE), sums(slots ? sums + int64(slots[id]) * STRIDE : nullptr) {}

    __device__ __forceinline__ void add(int f, float change) const {
        if (!sums)
            atomicAdd(row + f, change);
        else if (fabsf(change) < LARGEST)
            atomicAdd(sums + f, Bits(__float2ll_rn(change * UNIT)));
        else
            atomicAdd(row + f, change * __int_as_float(0x7f800000)); // has diverged: never finite again
    }

    __device__ __forceinline__ void apply(int f) const { // one of those that call it gets the sum, the others zero
        const Bits sum = atomicExch(sums + f, Bits(0));
        if (sum) row[f] += __ll2float_rn(int64(sum)) / UNIT;
    }
};

// Steps for draws first .. first + n of an epoch. Adds to counts[0] how many triples were in the right order before
// their step, and to counts[1] how many draws were of no use.
extern "C" __global__ void bpr(
    Bits key, unsigned epoch, int64 first, int64 n,
    const int *users, const int *indices, int64 entries,                       // users[k]: the row of entry k
    float *X, float *Y,                                                        // STRIDE elements per row
    const int *X_slots, const int *Y_slots, Bits *X_sums, Bits *Y_sums,        // see above
    const int64 *indptr, float rate, float regularization, int verify,
    Bits *counts) {
    const int lane = threadIdx.x % 32;
    const int64 warps = int64(gridDim.x) * (blockDim.x / 32);
    Bits correct = 0, skipped = 0;
    for (int64 i = int64(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; i < n; i += warps) {
        const Triple triple(key, epoch, first + i, users, indices, entries);
        if (triple.liked == triple.disliked ||
            (verify && contains(indices, indptr[triple.user], indptr[triple.user + 1], triple.disliked))) {
            ++skipped;
            continue;
        }
        const Target x_row(X, triple.user, X_slots, X_sums);
        const Target liked_row(Y, triple.liked, Y_slots, Y_sums), disliked_row(Y, triple.disliked, Y_slots, Y_sums);
        Column held[HELD ? COLUMNS : 1];
        float score = 0;
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
            Column &column = held[HELD ? c : 0];
            if (lane + 32 * c >= FACTORS) continue;
            column.read(x_row.row, liked_row.row, disliked_row.row, lane + 32 * c);
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
            if (!HELD) column.read(x_row.row, liked_row.row, disliked_row.row, f);
            const float x = column.x, liked = column.liked, disliked = column.disliked;
            if (f < FACTORS - 1) x_row.add(f, rate * (z * (liked - disliked) - regularization * x));
            liked_row.add(f, rate * (z * x - regularization * liked));
            disliked_row.add(f, rate * (-z * x - regularization * disliked));
        }
    }
    if (lane == 0) {
        atomicAdd(&counts[0], correct);
        atomicAdd(&counts[1], skipped);
    }
}

// Slots for the rows that take part in draws first .. first + n: below n for users, below 2 n for items. It is of no
// account which of a row's draws gives it its own.
extern "C" __global__ void bpr_slots(
    Bits key, unsigned epoch, int64 first, int64 n, const int *users, const int *indices, int64 entries,
    int *X_slots, int *Y_slots) {
    for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += int64(gridDim.x) * blockDim.x) {
        const Triple triple(key, epoch, first + i, users, indices, entries);
        atomicExch(X_slots + triple.user, int(i));
        atomicExch(Y_slots + triple.liked, int(2 * i));
        atomicExch(Y_slots + triple.disliked, int(2 * i + 1));
    }
}

// Adds the sums of draws first .. first + n to the factors.
extern "C" __global__ void bpr_apply(
    Bits key, unsigned epoch, int64 first, int64 n, const int *users, const int *indices, int64 entries,
    float *X, float *Y, const int *X_slots, const int *Y_slots, Bits *X_sums, Bits *Y_sums) {
    const int64 warps = int64(gridDim.x) * (blockDim.x / 32);
    for (int64 i = int64(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; i < n; i += warps) {
        const Triple triple(key, epoch, first + i, users, indices, entries);
        const Target x_row(X, triple.user, X_slots, X_sums);
        const Target liked_row(Y, triple.liked, Y_slots, Y_sums), disliked_row(Y, triple.disliked, Y_slots, Y_sums);
        for (int c = 0; c < COLUMNS; ++c) { // as many times in each lane, so that the lanes stay side by side
            const int f = threadIdx.x % 32 + 32 * c;
            if (f >= FACTORS) continue;
            x_row.apply(f);
            liked_row.apply(f);
            disliked_row.apply(f);
        }
    }
}
