// The k best columns of each row of scores, in one pass.
//
// A column is a key of 64 bits: its score, in bits that rise with it, then its id, inverted. The order of keys is that
// of results: higher scores first, equal ones by ascending id. A block reads its part of a row, puts what exceeds the
// best k so far, and passes the checks, into a buffer, and sorts that when it is full. Excluded pairs, dropped ids and
// scores that are no number count as LOWEST; they are looked up for columns alone that would be taken.
//
// Launch: `topk_select` with grid (parts, rows, 1), then `topk_merge` with grid (rows, 1, 1), both with block
// (THREADS, 1, 1), 1 <= k <= capacity - STEP, and capacity * 8 bytes of dynamic shared memory, capacity a power of two.
// For a larger k, `topk_keys` with grid (any, rows, 1), a sort of each row of keys, and `topk_scores`.
#include "search.cuh"

typedef long long int64;
typedef unsigned long long Key; // 0: none

constexpr int THREADS = 256;
constexpr int STEP = 4 * THREADS; // columns that a block reads between two looks at the buffer
constexpr float LOWEST = -3.402823466e38f;

__device__ __forceinline__ Key key_of(float score, int id) {
    score = score >= LOWEST ? score + 0.0f : LOWEST; // -0 becomes 0
    const unsigned bits = __float_as_uint(score);
    return Key(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | ~unsigned(id);
}

__device__ __forceinline__ int id_of(Key key) { return key ? int(~unsigned(key)) : -1; }

__device__ __forceinline__ float score_of(Key key) {
    const unsigned bits = unsigned(key >> 32);
    return key ? __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits) : LOWEST;
}

struct Excluded { // what does not count in a row: the entries of a row of a sparse matrix, and a list of ids for all
    const int *indices, *dropped;
    int64 begin, end;
    int n_dropped;

    __device__ __forceinline__ Excluded(const int64 *indptr, const int *indices, const int *dropped, int n_dropped)
        : indices(indices), dropped(dropped), begin(indptr ? indptr[blockIdx.y] : 0),
          end(indptr ? indptr[blockIdx.y + 1] : 0), n_dropped(n_dropped) {}

    __device__ __forceinline__ bool has(int id) const {
        return contains(indices, begin, end, id) || contains(dropped, 0, n_dropped, id);
    }
};

// The best keys so far of a block, in shared memory.
struct Best {
    Key *keys; // capacity
    int *count;
    Key *threshold; // keys up to it are not among the best k
    int k, capacity;

    __device__ __forceinline__ void start() {
        if (threadIdx.x == 0) {
            *count = 0;
            *threshold = 0;
        }
        __syncthreads();
    }

    __device__ __forceinline__ void add(Key key) {
        if (key > *threshold) keys[atomicAdd(count, 1)] = key;
    }

    // After each thread has added up to four keys: makes room for the next, or sorts them all.
    __device__ __forceinline__ void step(bool last) {
        __syncthreads();
        const int n = *count;
        __syncthreads(); // none adds a key before all have read the count
        if (last || n > capacity - STEP) sort(n);
    }

    // The keys in descending order, by a bitonic sort of the power of two that holds them; only the best k remain.
    __device__ __forceinline__ void sort(int n) {
        int size = 32;
        while (size < n || size < k) size *= 2;
        for (int i = n + threadIdx.x; i < size; i += THREADS) keys[i] = 0;
        __syncthreads();
        for (int run = 32; run <= size; run *= 2) {
            for (int distance = run / 2; distance >= 32; distance /= 2) {
                for (int i = threadIdx.x; i < size / 2; i += THREADS) {
                    const int a = 2 * i - (i & (distance - 1)), b = a + distance;
                    const Key first = keys[a], second = keys[b];
                    if ((first < second) == ((a & run) == 0)) {
                        keys[a] = second;
                        keys[b] = first;
                    }
                }
                __syncthreads();
            }
            merge_in_warps(run == 32 ? 2 : run, run, size);
        }
        if (threadIdx.x == 0) {
            *count = n < k ? n : k;
            *threshold = keys[k - 1];
        }
        __syncthreads();
    }

    // The steps of the sort between keys less than 32 apart, for runs of these lengths: a lane holds a key.
    __device__ __forceinline__ void merge_in_warps(int first_run, int last_run, int size) {
        for (int i = threadIdx.x; i < size; i += THREADS) {
            Key key = keys[i];
            for (int run = first_run; run <= last_run; run *= 2)
                for (int distance = run < 32 ? run / 2 : 16; distance > 0; distance /= 2) {
                    const Key other = __shfl_xor_sync(0xffffffffu, key, distance);
                    const bool takes_larger = ((i & distance) == 0) == ((i & run) == 0);
                    if (takes_larger == (key < other)) key = other;
                }
            keys[i] = key;
        }
        __syncthreads();
    }
};

// The best keys of columns part * length .. (part + 1) * length of each row, in descending order.
extern "C" __global__ void topk_select(
    const float *scores, int64 pitch, int n, int length,                       // (rows, pitch); length: of a part
    const int *ids, const float *norms,                                        // of the columns, or null; norms divide
    const int64 *indptr, const int *indices,                                   // excluded pairs, or null
    const int *dropped, int n_dropped,                                         // ids, rising
    int k, int capacity,
    Key *keys) {                                                               // (rows, parts, k)
    extern __shared__ Key buffer[];
    __shared__ int count;
    __shared__ Key threshold;
    Best best = {buffer, &count, &threshold, k, capacity};
    const float *const row = scores + blockIdx.y * pitch;
    const Excluded excluded(indptr, indices, dropped, n_dropped);
    const int64 begin = int64(blockIdx.x) * length, end = begin + length < n ? begin + length : n;
    best.start();
    for (int64 first = begin; first < end; first += STEP) {
        Key found[STEP / THREADS];
#pragma unroll
        for (int c = 0; c < STEP / THREADS; ++c) {
            const int64 column = first + c * THREADS + threadIdx.x;
            found[c] = 0;
            if (column >= end) continue;
            found[c] = key_of(norms ? row[column] / norms[column] : row[column], ids ? ids[column] : int(column));
        }
#pragma unroll
        for (int c = 0; c < STEP / THREADS; ++c) {
            if (found[c] <= threshold) continue;
            const int id = id_of(found[c]);
            best.add(excluded.has(id) ? key_of(LOWEST, id) : found[c]);
        }
        best.step(first + STEP >= end);
    }
    for (int i = threadIdx.x; i < k; i += THREADS)
        keys[(int64(blockIdx.y) * gridDim.x + blockIdx.x) * k + i] = buffer[i];
}

// The best of the keys that the parts of each row have found.
extern "C" __global__ void topk_merge(
    const Key *keys, int n, int k, int capacity,                               // (rows, n)
    int *ids, float *scores) {                                                 // (rows, k): -1 and LOWEST beyond all
    extern __shared__ Key buffer[];
    __shared__ int count;
    __shared__ Key threshold;
    Best best = {buffer, &count, &threshold, k, capacity};
    const Key *const row = keys + int64(blockIdx.x) * n;
    best.start();
    for (int64 first = 0; first < n; first += STEP) {
        for (int64 i = first + threadIdx.x; i < n && i < first + STEP; i += THREADS) best.add(row[i]);
        best.step(first + STEP >= n);
    }
    for (int i = threadIdx.x; i < k; i += THREADS) {
        ids[int64(blockIdx.x) * k + i] = id_of(buffer[i]);
        scores[int64(blockIdx.x) * k + i] = score_of(buffer[i]);
    }
}

// The keys of all columns, for a sort of each row; arguments as above.
extern "C" __global__ void topk_keys(
    const float *scores, int64 pitch, int n, const int *ids, const float *norms, const int64 *indptr,
    const int *indices, const int *dropped, int n_dropped,
    Key *keys) {                                                               // (rows, n)
    const Excluded excluded(indptr, indices, dropped, n_dropped);
    for (int64 i = int64(blockIdx.x) * THREADS + threadIdx.x; i < n; i += int64(gridDim.x) * THREADS) {
        const int id = ids ? ids[i] : int(i);
        const float score = scores[blockIdx.y * pitch + i];
        keys[int64(blockIdx.y) * n + i] =
            key_of(excluded.has(id) ? LOWEST : norms ? score / norms[i] : score, id);
    }
}

// Ids and scores of keys.
extern "C" __global__ void topk_scores(const Key *keys, int64 n, int *ids, float *scores) {
    for (int64 i = int64(blockIdx.x) * THREADS + threadIdx.x; i < n; i += int64(gridDim.x) * THREADS) {
        ids[i] = id_of(keys[i]);
        scores[i] = score_of(keys[i]);
    }
}
