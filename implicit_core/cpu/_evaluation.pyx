"""Loops of the evaluation: hits among ranked items, and the two parts of a split matrix."""
from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

ctypedef fused index:
    int32_t
    int64_t

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t


def ranking_counts(
    const int32_t[:, ::1] ranked,  # IN: rows x k
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] relevant,  # IN: rising within a row
    uint8_t[:, ::1] seen,  # a row per thread: longest row, zeroed
    int32_t[:, ::1] counts,  # OUT: rows x k
    int num_threads,
):
    """How many distinct relevant items each prefix of a ranked row holds, in parallel over rows."""
    cdef Py_ssize_t u
    for u in prange(ranked.shape[0], nogil=True, schedule="dynamic", chunksize=64, num_threads=num_threads):
        if indptr[u + 1] > indptr[u]:
            _count_row(
                &ranked[u, 0], ranked.shape[1], &relevant[indptr[u]], indptr[u + 1] - indptr[u],
                &seen[threadid(), 0], &counts[u, 0],
            )
        else:
            memset(&counts[u, 0], 0, ranked.shape[1] * sizeof(int32_t))


cdef void _count_row(
    const int32_t *ranked, Py_ssize_t k, const int32_t *relevant, Py_ssize_t n, uint8_t *seen, int32_t *counts,
) noexcept nogil:
    cdef Py_ssize_t rank, position
    cdef int32_t hits = 0
    for rank in range(k):
        position = _lower_bound(relevant, n, ranked[rank])
        if position < n and relevant[position] == ranked[rank] and not seen[position]:
            seen[position] = 1
            hits += 1
        counts[rank] = hits
    memset(seen, 0, n)


cdef Py_ssize_t _lower_bound(const int32_t *values, Py_ssize_t n, int32_t value) noexcept nogil:
    """Position of the first of the rising ``values`` that is not below ``value``."""
    cdef Py_ssize_t low = 0, middle
    while low < n:
        middle = (low + n) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            n = middle
    return low


def split_entries(
    const int64_t[::1] indptr,  # IN
    const index[::1] indices,  # IN
    const word[::1] values,  # IN
    const uint8_t[::1] chosen,  # IN: 0 or 1 per entry
    int64_t[::1] first_indptr,  # OUT, starts with 0: of the chosen entries
    index[::1] first_indices,  # OUT, with room for one more
    word[::1] first_values,  # OUT, with room for one more
    int64_t[::1] second_indptr,  # OUT, starts with 0: of the others
    index[::1] second_indices,  # OUT, with room for one more
    word[::1] second_values,  # OUT, with room for one more
):
    """Entries of a CSR matrix into two, in order; each is written to both, and overwritten where it does not belong."""
    cdef Py_ssize_t u
    cdef int64_t i, first = 0
    with nogil:
        for u in range(indptr.shape[0] - 1):
            for i in range(indptr[u], indptr[u + 1]):
                first_indices[first] = second_indices[i - first] = indices[i]
                first_values[first] = second_values[i - first] = values[i]
                first += chosen[i]
            first_indptr[u + 1] = first
            second_indptr[u + 1] = indptr[u + 1] - first
