"""Loops of the nearest-neighbour models; a row of the sparse product is in ``_knn.h``."""
from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t


cdef extern from "_span.h" nogil:
    cppclass Span[T]:
        pass
    Span[T] span[T](T *data, Py_ssize_t size)

cdef extern from "_topk.h" nogil:
    cppclass Candidate[T]:
        pass

cdef extern from "_knn.h" nogil:
    const Py_ssize_t OFFERED_AT_ONCE "OFFERED"
    cppclass Rows:
        const int64_t *indptr
        Span[const int32_t] indices
        Span[const double] values
    cppclass Accumulator:
        double *sums
        int32_t *reached
        Span[Candidate[double]] best
    void product_topk_row(
        Rows left, Rows right, Py_ssize_t r, bint exclude, Span[const int32_t] only, Span[const int32_t] drop,
        Py_ssize_t k, double padding, int32_t *ids, double *scores, Accumulator accumulator,
    )

CANDIDATE_BYTES = sizeof(Candidate[double])
OFFERED = OFFERED_AT_ONCE


def product_topk(
    const int64_t[::1] left_indptr,  # IN
    const int32_t[::1] left_indices,  # IN
    const double[::1] left_values,  # IN
    const int64_t[::1] right_indptr,  # IN
    const int32_t[::1] right_indices,  # IN
    const double[::1] right_values,  # IN
    bint exclude,
    const int32_t[::1] only,  # IN, may be empty: all columns
    const int32_t[::1] drop,  # IN, sorted
    double padding,
    const int64_t[::1] chunks,  # IN: chunk c is the rows chunks[c] .. chunks[c + 1] - 1 of left
    int32_t[:, ::1] ids,  # OUT: rows x k
    double[:, ::1] scores,  # OUT: rows x k
    double[:, ::1] sums,  # a row of columns per thread: -0, or 0 where dropped
    int32_t[:, ::1] reached,  # a row of columns + 1 per thread
    char[:, ::1] best,  # a row per thread: CANDIDATE_BYTES for each candidate, or for k + OFFERED
    int num_threads,
):
    """The k best columns of each row of the sparse product left . right, in parallel over chunks of rows."""
    cdef Py_ssize_t c
    cdef Rows left = _rows(left_indptr, left_indices, left_values)
    cdef Rows right = _rows(right_indptr, right_indices, right_values)
    for c in prange(chunks.shape[0] - 1, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        _chunk(
            left, right, exclude, only, drop, padding, chunks[c], chunks[c + 1], ids, scores, sums[threadid()],
            reached[threadid()], best[threadid()],
        )


cdef void _chunk(
    Rows left, Rows right, bint exclude, const int32_t[::1] only, const int32_t[::1] drop, double padding,
    int64_t start, int64_t stop, int32_t[:, ::1] ids, double[:, ::1] scores, double[::1] sums, int32_t[::1] reached,
    char[::1] best,
) noexcept nogil:
    cdef Accumulator accumulator
    cdef int64_t r
    accumulator.sums = &sums[0]
    accumulator.reached = &reached[0]
    accumulator.best = span(<Candidate[double] *> &best[0], best.shape[0] // <Py_ssize_t> sizeof(Candidate[double]))
    for r in range(start, stop):
        product_topk_row(
            left, right, r, exclude, span(&only[0] if only.shape[0] else NULL, only.shape[0]),
            span(&drop[0] if drop.shape[0] else NULL, drop.shape[0]), ids.shape[1], padding, &ids[r, 0], &scores[r, 0],
            accumulator,
        )


cdef Rows _rows(const int64_t[::1] indptr, const int32_t[::1] indices, const double[::1] values) noexcept nogil:
    """Entries of the rows, without what may lie behind them, which nobody has checked."""
    cdef Py_ssize_t size = <Py_ssize_t> indptr[indptr.shape[0] - 1]
    cdef Rows rows
    rows.indptr = &indptr[0]
    rows.indices = span(&indices[0] if indices.shape[0] else NULL, size)
    rows.values = span(&values[0] if values.shape[0] else NULL, size)
    return rows
