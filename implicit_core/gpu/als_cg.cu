// Alternating least squares: steps of conjugate gradient (Takacs, Pilaszy & Tikk 2011) for rows of X, a warp a row.
//
// With A = gram + diag[u] I + sum_k w_k y_k y_k^T and b = sum_k b_k y_k over the stored entries k of row u, each step
// improves x_u in A x = b. A row without entries becomes zero. The result of a row depends on its entries, Y, the
// gram matrix, diag[u] and `kept` alone. Compiled with -DEXACT=1, for rows of X that are zero, steps end where rounding
// keeps them from going on, and left[u] becomes the share of the first squared residual that remains.
//
// Launch: any grid; block (32 * warps, 1, 1); dynamic shared memory, in bytes,
//     16 * VECTORS * (FACTORS + warps) + 4 * VECTORS * sizeof(Stored) * warps * kept.
// The gram matrix lies in shared memory, one copy a block. The first `kept` factor rows that a row of X needs stay in
// shared memory over the steps, so that rows of at most `kept` entries read Y once, not steps + 1 times.
#include "rows.cuh"
#ifndef EXACT
#define EXACT 0
#endif

constexpr int BATCH = PARTS == 1 ? 4 : 2;   // entries of a team that are loaded before the first is used
constexpr int WIDTH = 4 * VECTORS;          // elements of a row in shared memory

struct System { // the linear system of a row
    const int *indices;
    const float *values;
    const Stored *Y;
    const float *gram; // in shared memory
    float *v_shared;   // WIDTH elements for this warp
    Stored *kept_rows; // `kept` rows for this warp; entry k is written and read by the same lanes
    int64 begin, end;
    float alpha, ridge;
    int observed, kept, team, lane;

    // A v, or A x - b. The first product of a row, which is that for the residual, fills `kept_rows`.
    template <bool residual> __device__ __forceinline__ Row apply(const Row &v) const {
        __syncwarp();
        if (team == 0) v.store(v_shared, lane);
        __syncwarp();
        Row out = Row::zero();
        for (int i = team; i < FACTORS; i += TEAMS) out.add(v_shared[i], Row::load(gram + i * WIDTH, lane));
        for (int64 first = begin; first < end; first += BATCH * TEAMS) {
            Row y[BATCH];
            float s[BATCH];
#pragma unroll
            for (int e = 0; e < BATCH; ++e) y[e] = row_of<residual>(first + e * TEAMS + team);
            if (residual)
#pragma unroll
                for (int e = 0; e < BATCH; ++e) keep(first + e * TEAMS + team, y[e]);
#pragma unroll
            for (int e = 0; e < BATCH; ++e) s[e] = dot(y[e], v);
#pragma unroll
            for (int e = 0; e < BATCH; ++e) {
                const int64 k = first + e * TEAMS + team;
                if (k >= end) continue;
                const Entry entry(values[k], alpha, observed);
                out.add(entry.weight * s[e] - (residual ? entry.rhs : 0.0f), y[e]);
            }
        }
        out.sum_teams();
        out.add(ridge, v);
        return out;
    }

    template <bool first_time> __device__ __forceinline__ Row row_of(int64 k) const {
        if (k >= end) return Row::zero();
        if (!first_time && k - begin < kept) return Row::load(kept_rows + (k - begin) * WIDTH, lane);
        return Row::load(Y + int64(indices[k]) * STRIDE, lane);
    }

    __device__ __forceinline__ void keep(int64 k, const Row &y) const {
        if (k < end && k - begin < kept) y.store(kept_rows + (k - begin) * WIDTH, lane);
    }
};

extern "C" __global__ void als_cg(
    const int *rows, int n,                                                    // rows of X to solve
    const int64 *indptr, const int *indices, const float *values,              // stored entries of all rows
    float alpha, int observed,                                                 // see Entry
    Stored *X, const Stored *Y,                                                // STRIDE elements per row
    const float *gram,                                                         // (FACTORS, FLOAT_STRIDE)
    const float *diag,                                                         // ridge of each row of X
    int steps, int kept,
    float *left) {                                                             // of each row of X; where EXACT
    extern __shared__ float4 shared[];
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float *const gram_shared = reinterpret_cast<float *>(shared);
    for (int i = threadIdx.x; i < FACTORS * VECTORS; i += blockDim.x)
        shared[i] = load4(gram + i / VECTORS * FLOAT_STRIDE + i % VECTORS * 4);
    __syncthreads();

    System system;
    system.indices = indices;
    system.values = values;
    system.Y = Y;
    system.gram = gram_shared;
    system.v_shared = gram_shared + (FACTORS + warp) * WIDTH;
    system.kept_rows = reinterpret_cast<Stored *>(gram_shared + (FACTORS + warps) * WIDTH) + warp * kept * WIDTH;
    system.alpha = alpha;
    system.observed = observed;
    system.kept = kept;
    system.team = lane / TEAM;
    system.lane = lane % TEAM;

    for (int64 i = blockIdx.x * warps + warp; i < n; i += gridDim.x * warps) {
        const int u = rows[i];
        Stored *const x_u = X + int64(u) * STRIDE;
        system.begin = indptr[u];
        system.end = indptr[u + 1];
        system.ridge = diag[u];
        Row x = Row::zero();
        if (system.begin < system.end) {
            x = Row::load(x_u, system.lane);
            Row r = Row::zero();
            r.add(-1.0f, system.apply<true>(x));
            Row p = r;
            float rsold = dot(r, r);
            const float rsfirst = rsold, stop = stop_at(EXACT, rsfirst);
            for (int step = 0; step < steps && !(rsold < stop); ++step) {
                const Row Ap = system.apply<false>(p);
                const float length = step_length(rsold, dot(p, Ap));
                x.add(length, p);
                r.add(-length, Ap);
                const float rsnew = dot(r, r);
                Row next = r;
                next.add(rsnew / rsold, p);
                p = next;
                rsold = rsnew;
            }
            if (EXACT && lane == 0) left[u] = rsfirst > 0 ? rsold / rsfirst : rsfirst;
        }
        if (system.team == 0) x.store(x_u, system.lane);
    }
}
