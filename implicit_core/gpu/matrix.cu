// Products of matrices in tiles of TILE x TILE, a block of 16 x 16 threads a tile, 4 x 4 elements a thread. An element
// is summed in an order that depends on FACTORS alone (or on `slice`), so that a score has the same bits whatever
// else is computed with it.
#include "rows.cuh"

constexpr int TILE = 64;
constexpr int DEPTH = 16;       // elements of each sum between two barriers
constexpr int PITCH = TILE + 4; // of a row in shared memory

struct Tile { // DEPTH elements of each sum: the left side of the rows of a tile, the right side of its columns
    float left[DEPTH][PITCH], right[DEPTH][PITCH];
};

// Where element i of row d lies in its row: half of the rows are shifted, so that the stores of `product` meet in no bank.
__device__ __forceinline__ int place(int d, int i) { return i ^ (d & 8); }

__device__ __forceinline__ void multiply(const Tile &tile, float4 (&sum)[4]) {
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
        const float4 left = load4(&tile.left[d][place(d, row)]), right = load4(&tile.right[d][place(d, column)]);
        add4(sum[0], left.x, right);
        add4(sum[1], left.y, right);
        add4(sum[2], left.z, right);
        add4(sum[3], left.w, right);
    }
}

// partial[s] = Y_s^T Y_s in the tiles on and above the diagonal, over rows s * slice .. (s + 1) * slice of Y.
// Launch: grid (tiles, tiles, slices) with tiles = ceil(FACTORS / TILE); block (256, 1, 1).
extern "C" __global__ void gram(
    const Stored *Y, int64 rows, int slice,                                    // STRIDE elements per row
    float *partial) {                                                          // (slices, FACTORS, FLOAT_STRIDE)
    __shared__ Tile tile;
    if (blockIdx.x < blockIdx.y) return;
    const int depth = threadIdx.x / 16, column = threadIdx.x % 16 * 4;
    const int64 begin = int64(blockIdx.z) * slice, end = begin + slice < rows ? begin + slice : rows;
    float4 sum[4] = {};
    for (int64 first = begin; first < end; first += DEPTH) {
        const Stored *const y = Y + (first + depth) * STRIDE;
        float4 left = make_float4(0, 0, 0, 0), right = left;
        if (first + depth < end) {
            if (blockIdx.y * TILE + column < 4 * VECTORS) left = load4(y + blockIdx.y * TILE + column);
            if (blockIdx.x * TILE + column < 4 * VECTORS) right = load4(y + blockIdx.x * TILE + column);
        }
        __syncthreads();
        store4(&tile.left[depth][place(depth, column)], left);
        store4(&tile.right[depth][place(depth, column)], right);
        __syncthreads();
        multiply(tile, sum);
    }
    const int i = blockIdx.y * TILE + threadIdx.x / 16 * 4, j = blockIdx.x * TILE + column;
    float *const out = partial + int64(blockIdx.z) * FACTORS * FLOAT_STRIDE;
#pragma unroll
    for (int a = 0; a < 4; ++a)
        if (i + a < FACTORS && j < FLOAT_STRIDE) store4(out + int64(i + a) * FLOAT_STRIDE + j, sum[a]);
}

// C = A B^T, row j of B being that of ids[j], or j where ids is null.
// Launch: grid (ceil(n / TILE), ceil(m / TILE), 1); block (256, 1, 1).
extern "C" __global__ void product(
    const float *A, int m,                                                     // FLOAT_STRIDE elements per row
    const Stored *B, const int *ids, int n,                                    // STRIDE elements per row
    float *C, int64 pitch) {                                                   // (m, pitch), pitch: n padded to 8
    __shared__ Tile tile;
    const int loaded = threadIdx.x / 4, part = threadIdx.x % 4; // the row and the vector that this thread loads
    const int64 a = int64(blockIdx.y) * TILE + loaded, b = int64(blockIdx.x) * TILE + loaded;
    const float *const a_row = A + a * FLOAT_STRIDE;
    const Stored *const b_row = B + (b < n && ids ? ids[b] : b) * STRIDE;
    float4 sum[4] = {};
    for (int first = 0; first < VECTORS; first += DEPTH / 4) {
        const int q = first + part;
        float4 left = make_float4(0, 0, 0, 0), right = left;
        if (q < VECTORS && a < m) left = load4(a_row + 4 * q);
        if (q < VECTORS && b < n) right = load4(b_row + 4 * q);
        __syncthreads();
        const float lefts[] = {left.x, left.y, left.z, left.w}, rights[] = {right.x, right.y, right.z, right.w};
#pragma unroll
        for (int d = 0; d < 4; ++d) {
            tile.left[4 * part + d][place(4 * part, loaded)] = lefts[d];
            tile.right[4 * part + d][place(4 * part, loaded)] = rights[d];
        }
        __syncthreads();
        multiply(tile, sum);
    }
    const int64 i = int64(blockIdx.y) * TILE + threadIdx.x / 16 * 4, j = int64(blockIdx.x) * TILE + threadIdx.x % 16 * 4;
#pragma unroll
    for (int r = 0; r < 4; ++r)
        if (i + r < m && j < pitch) store4(C + (i + r) * pitch + j, sum[r]);
}
