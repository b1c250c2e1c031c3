// What the stored entries add to the squared error of all cells: sum of w s^2 - 2 b s + b with s = x_u . y_i.
//
// errors[c] is the sum over entries starts[c] .. stops[c] of a chunk, which belong to row owners[c] of X; sums are in
// double precision. A warp a chunk. Launch: any grid; block (32 * warps, 1, 1).
#include "rows.cuh"

extern "C" __global__ void stored_error(
    int n, const int *owners, const int64 *starts, const int64 *stops,         // the chunks
    const int *indices, const float *values,                                   // stored entries
    float alpha, int observed,                                                 // see Entry
    const Stored *X, const Stored *Y,                                          // STRIDE elements per row
    double *errors) {                                                          // n
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32;
    const int team = threadIdx.x % 32 / TEAM, lane = threadIdx.x % TEAM;
    for (int64 c = blockIdx.x * warps + warp; c < n; c += gridDim.x * warps) {
        const Stored *const x = X + int64(owners[c]) * STRIDE;
        const int64 end = stops[c];
        double error = 0;
        for (int64 first = starts[c]; first < end; first += TEAMS) {
            const int64 k = first + team;
            float s = 0;
            if (k < end) {
                const Stored *const y = Y + int64(indices[k]) * STRIDE;
                for (int q = lane; q < VECTORS; q += TEAM) s += dot4(load4(x + 4 * q), load4(y + 4 * q));
            }
            s = team_sum(s);
            if (k < end && lane == 0) {
                const Entry entry(values[k], alpha, observed);
                error += entry.weight * double(s) * s - 2.0 * entry.rhs * s + entry.rhs;
            }
        }
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) error += __shfl_xor_sync(ALL, error, offset);
        if (threadIdx.x % 32 == 0) errors[c] = error;
    }
}
