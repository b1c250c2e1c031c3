"""Loops of logistic matrix factorization; the steps of a group of rows are in ``_lmf.h``."""
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t


cdef extern from "_span.h" nogil:
    cppclass Span[T]:
        pass
    Span[T] span[T](T *data, Py_ssize_t size)

cdef extern from "_lmf.h" nogil:
    cppclass HalfStep[T]:
        Span[const T] Y
        Py_ssize_t width
        Py_ssize_t columns
        Py_ssize_t constant
        Span[const int32_t] indices
        Span[const T] values
        Span[const int32_t] pool
        T rate
        T regularization
        uint64_t key
        uint32_t epoch
        uint32_t stream
    const int ROWS "GROUP"
    void lmf_group[T](
        const HalfStep[T] *half, int64_t u, int count, const int64_t *indptr, const int64_t *draws, T *X, T *squares,
        uint16_t *stored, T *scratch
    )

GROUP = ROWS


def lmf_rows(
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] indices,  # IN
    const floating[::1] values,  # IN
    const int64_t[::1] draws,  # IN: row u draws draws[u + 1] - draws[u] columns
    const int32_t[::1] pool,  # IN: columns in random order
    floating[:, ::1] X,  # IN/OUT
    floating[:, ::1] squares,  # IN/OUT: as X
    const floating[:, ::1] Y,  # IN: as X, with zeros after each row up to a multiple of 64 bytes
    floating learning_rate,
    floating regularization,
    uint64_t key,
    uint32_t epoch,
    uint32_t side,  # 0: column f - 2 of X is constant; 1: column f - 1
    const int64_t[::1] chunks,  # IN: chunk c is the rows chunks[c] .. chunks[c + 1] - 1
    uint16_t[:, ::1] stored,  # a row per thread: an element for each row of Y, zeroed
    floating[:, ::1] scratch,  # a row per thread: 2 * GROUP rows of Y
    int num_threads,
):
    """Take a step for each row of ``X`` in ``chunks``, in parallel over chunks."""
    cdef Py_ssize_t c
    cdef HalfStep[floating] half
    half.Y = span(&Y[0, 0], Y.shape[0] * Y.shape[1])
    half.width = Y.shape[1]
    half.columns = X.shape[1]
    half.constant = X.shape[1] - 2 + side
    half.indices = span(&indices[0], indices.shape[0])
    half.values = span(&values[0], values.shape[0])
    half.rate = learning_rate
    half.regularization = regularization
    half.pool = span(&pool[0], pool.shape[0])
    half.key = key
    half.epoch = epoch
    half.stream = side
    for c in prange(chunks.shape[0] - 1, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        _lmf_chunk(&half, indptr, draws, X, squares, chunks[c], chunks[c + 1], stored[threadid()], scratch[threadid()])


cdef void _lmf_chunk(
    const HalfStep[floating] *half, const int64_t[::1] indptr, const int64_t[::1] draws, floating[:, ::1] X,
    floating[:, ::1] squares, int64_t start, int64_t stop, uint16_t[::1] stored, floating[::1] scratch,
) noexcept nogil:
    cdef int64_t u = start
    cdef int count
    while u < stop:
        count = <int> min(ROWS - u % ROWS, stop - u)
        lmf_group(half, u, count, &indptr[u], &draws[u], &X[u, 0], &squares[u, 0], &stored[0], &scratch[0])
        u += count
