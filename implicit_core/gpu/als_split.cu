// Alternating least squares where a row has too many entries for one warp, or the gram matrix does not fit in shared
// memory: the steps of als_cg for a batch of rows at once, each step in three parts. With V the vectors that A is
// applied to (x at first, then p), a row of each matrix per row of the batch,
//     1. AV = V gram, by `product` of matrix.cu;
//     2. `als_chunks`: the entries of each row in chunks, a warp a chunk, whose sum over w (y . v) y goes to `partial`;
//     3. `als_step`: sums the chunks of each row in their order, and takes the step.
// So the result does not depend on the launch, and any number of factors will do.
#include "rows.cuh"

constexpr int PANEL_PARTS = PARTS < 8 ? PARTS : 8;       // vectors that a lane sums up in registers
constexpr int PANEL = PANEL_PARTS * TEAM;                // vectors of a panel: gridDim.y = ceil(VECTORS / PANEL)
constexpr int BATCH = PANEL_PARTS == 1 ? 4 : PANEL_PARTS == 2 ? 2 : 1; // entries loaded before the first is used
constexpr int THREADS = 128;                             // a block of als_step
typedef Share<PANEL_PARTS> Panel;

// y . v over all of a row, of which `panel` is already loaded where it is all.
template <class T> __device__ __forceinline__ float long_dot(const T *y, const Panel &panel, const float *v, int lane) {
    if (PARTS == PANEL_PARTS) return panel.own_dot(Panel::load(v, lane));
    float sum = 0;
    for (int q = lane; q < VECTORS; q += TEAM) sum += dot4(load4(y + 4 * q), load4(v + 4 * q));
    return sum;
}

// partial[c] = sum over entries k from starts[c] to stops[c] of (w_k (y_k . v) - b_k) y_k with v = V[owners[c]];
// without b unless `residual`. Launch: grid (any, panels); block (32 * warps, 1, 1).
extern "C" __global__ void als_chunks(
    int n, const int *owners, const int64 *starts, const int64 *stops,         // the chunks
    const int *indices, const float *values,                                   // stored entries
    float alpha, int observed,                                                 // see Entry
    const float *V,                                                            // (rows of the batch, FLOAT_STRIDE)
    const Stored *Y,                                                           // STRIDE elements per row
    int residual,
    float *partial) {                                                          // (n, FLOAT_STRIDE)
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32;
    const int team = threadIdx.x % 32 / TEAM, lane = threadIdx.x % TEAM, column = blockIdx.y * PANEL;
    for (int64 c = blockIdx.x * warps + warp; c < n; c += gridDim.x * warps) {
        const float *const v = V + int64(owners[c]) * FLOAT_STRIDE;
        const int64 end = stops[c];
        Panel out = Panel::zero();
        for (int64 first = starts[c]; first < end; first += BATCH * TEAMS) {
            Panel y[BATCH];
            float s[BATCH];
#pragma unroll
            for (int e = 0; e < BATCH; ++e) {
                const int64 k = first + e * TEAMS + team;
                y[e] = Panel::zero();
                s[e] = 0;
                if (k >= end) continue;
                const Stored *const row = Y + int64(indices[k]) * STRIDE;
                y[e] = Panel::load(row, lane, column);
                s[e] = long_dot(row, y[e], v, lane);
            }
#pragma unroll
            for (int e = 0; e < BATCH; ++e) s[e] = team_sum(s[e]);
#pragma unroll
            for (int e = 0; e < BATCH; ++e) {
                const int64 k = first + e * TEAMS + team;
                if (k >= end) continue;
                const Entry entry(values[k], alpha, observed);
                out.add(entry.weight * s[e] - (residual ? entry.rhs : 0.0f), y[e]);
            }
        }
        out.sum_teams();
        if (team == 0) out.store(partial + c * FLOAT_STRIDE, lane, column);
    }
}

// Sum over the threads of a block, in a fixed order; `sums` holds a float for each warp.
__device__ __forceinline__ float block_sum(float x, float *sums) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL, x, offset);
    __syncthreads();
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < THREADS / 32; ++warp) sum += sums[warp];
    return sum;
}

// The rest of the first product (`first`: V is X, makes the residual R and the direction P = R), or of a step (V is
// P). AV holds V gram and is work space. Launch: grid (rows of the batch, 1, 1); block (THREADS, 1, 1).
extern "C" __global__ void als_step(
    const int *first_chunk,                                                    // row i has chunks first_chunk[i] ...
    const float *partial, const float *diag,                                   // diag[i]: ridge of row i of the batch
    int first,
    float *AV, float *X, float *R, float *P,                                   // (rows of the batch, FLOAT_STRIDE)
    float *squares,                                                            // |R|^2 of each row
    float *squares_first) {                                                    // null, or that of x = 0: solve exactly
    __shared__ float sums[THREADS / 32];
    const int64 row = int64(blockIdx.x) * FLOAT_STRIDE;
    const float rsold = first ? 0.0f : squares[blockIdx.x];
    if (!first && rsold < stop_at(squares_first, squares_first ? squares_first[blockIdx.x] : 0.0f)) return;
    const float *const v = (first ? X : P) + row;
    float curvature = 0, rsnew = 0;
    for (int j = threadIdx.x; j < FACTORS; j += THREADS) {
        float sum = AV[row + j] + diag[blockIdx.x] * v[j];
        for (int c = first_chunk[blockIdx.x]; c < first_chunk[blockIdx.x + 1]; ++c)
            sum += partial[int64(c) * FLOAT_STRIDE + j];
        AV[row + j] = sum;
        curvature += v[j] * sum;
    }
    const float length = first ? 1.0f : step_length(rsold, block_sum(curvature, sums));
    for (int j = threadIdx.x; j < FACTORS; j += THREADS) {
        if (!first) X[row + j] += length * P[row + j];
        const float r = (first ? 0.0f : R[row + j]) - length * AV[row + j];
        R[row + j] = r;
        rsnew += r * r;
    }
    rsnew = block_sum(rsnew, sums);
    for (int j = threadIdx.x; j < FACTORS; j += THREADS)
        P[row + j] = R[row + j] + (first ? 0.0f : rsnew / rsold * P[row + j]);
    if (threadIdx.x == 0) squares[blockIdx.x] = rsnew;
    if (threadIdx.x == 0 && first && squares_first) squares_first[blockIdx.x] = rsnew;
}
