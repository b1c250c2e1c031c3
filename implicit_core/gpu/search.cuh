// Binary search in a row of a sparse matrix.
#pragma once

__device__ __forceinline__ bool contains(const int *sorted, long long begin, long long end, int id) {
    while (begin < end) {
        const long long middle = begin + (end - begin) / 2;
        if (sorted[middle] == id) return true;
        if (sorted[middle] < id)
            begin = middle + 1;
        else
            end = middle;
    }
    return false;
}
