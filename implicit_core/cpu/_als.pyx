"""Loops of alternating least squares; the mathematics of a row is in ``_als.h``."""
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t


cdef extern from "_span.h" nogil:
    cppclass Span[T]:
        pass
    Span[T] span[T](T *data, Py_ssize_t size)

cdef extern from "_als.h" nogil:
    cppclass Fixed[T]:
        Span[const T] Y
        Span[const T] gram
        Py_ssize_t factors
    cppclass Row[T]:
        const int32_t *ids
        const T *weight
        const T *rhs
        Py_ssize_t n
        Py_ssize_t readable
        T ridge
    void entries[T, V](const V *values, Py_ssize_t n, float alpha, int policy, T *weight, T *rhs)
    void conjugate_gradient[T](Fixed[T] fixed, Row[T] row, int steps, T *x, T *work)
    bint cholesky[T](Fixed[T] fixed, Row[T] row, T *x, T *work)
    double row_error[T](Fixed[T] fixed, Row[T] row, const T *x)
    Py_ssize_t GRAM_ROWS, GRAM_TILE
    void gram_block[T](
        Span[const T] Y, Py_ssize_t rows, Py_ssize_t factors, Py_ssize_t width, double *out, double *work
    )

GRAM_HEIGHT, GRAM_WIDTH = GRAM_ROWS, GRAM_TILE  # a thread's scratch for ``gram`` is GRAM_HEIGHT rows

ctypedef fused value:
    float
    double


def least_squares(
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] indices,  # IN
    const value[::1] values,  # IN
    floating[:, ::1] X,  # IN/OUT
    const floating[:, ::1] Y,  # IN
    const floating[:, ::1] gram,  # IN
    const floating[::1] diag,  # IN
    float alpha,
    int policy,
    Py_ssize_t cg_steps,
    const int64_t[::1] chunks,  # IN: chunk c is the rows chunks[c] .. chunks[c + 1] - 1
    floating[:, ::1] scratch,  # a row per thread: 2 * longest row, then 3 f (CG) or f (f + 1) (exact, cg_steps < 0)
    int64_t[::1] failed,  # OUT: per chunk, the first row whose matrix is not positive definite, or -1
    int num_threads,
):
    """Solve the rows of ``X`` in ``chunks``, in parallel over chunks."""
    cdef Py_ssize_t c
    for c in prange(chunks.shape[0] - 1, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        failed[c] = _solve_chunk(
            indptr, indices, values, X, Y, gram, diag, alpha, policy, cg_steps, chunks[c], chunks[c + 1],
            scratch[threadid()],
        )


cdef int64_t _solve_chunk(
    const int64_t[::1] indptr, const int32_t[::1] indices, const value[::1] values, floating[:, ::1] X,
    const floating[:, ::1] Y, const floating[:, ::1] gram, const floating[::1] diag, float alpha, int policy,
    Py_ssize_t cg_steps, int64_t start, int64_t stop, floating[::1] scratch,
) noexcept nogil:
    cdef Py_ssize_t f = Y.shape[1], n
    cdef int64_t u, j, failed = -1
    cdef floating *work
    cdef Fixed[floating] fixed
    cdef Row[floating] row
    fixed.Y = span(&Y[0, 0], Y.shape[0] * f)
    fixed.gram = span(&gram[0, 0], f * f)
    fixed.factors = f
    for u in range(start, stop):
        n = indptr[u + 1] - indptr[u]
        if n == 0:
            for j in range(f):
                X[u, j] = 0
            continue
        row.n = n
        row.readable = indptr[indptr.shape[0] - 1] - indptr[u]
        row.ridge = diag[u]
        row.ids = &indices[indptr[u]]
        row.weight = &scratch[0]
        row.rhs = &scratch[n]
        entries(&values[indptr[u]], n, alpha, policy, &scratch[0], &scratch[n])
        work = &scratch[2 * n]
        if cg_steps >= 0:
            conjugate_gradient(fixed, row, <int> cg_steps, &X[u, 0], work)
        elif not cholesky(fixed, row, &X[u, 0], work) and failed < 0:
            failed = u
    return failed


def row_errors(
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] indices,  # IN
    const value[::1] values,  # IN
    const floating[:, ::1] X,  # IN
    const floating[:, ::1] Y,  # IN
    float alpha,
    int policy,
    const int64_t[::1] chunks,  # IN
    floating[:, ::1] scratch,  # a row per thread: 2 * longest row
    double[::1] errors,  # OUT: per row
    int num_threads,
):
    """Per row, what its stored entries add to the squared error."""
    cdef Py_ssize_t c
    for c in prange(chunks.shape[0] - 1, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        _chunk_errors(
            indptr, indices, values, X, Y, alpha, policy, chunks[c], chunks[c + 1], scratch[threadid()], errors
        )


cdef void _chunk_errors(
    const int64_t[::1] indptr, const int32_t[::1] indices, const value[::1] values, const floating[:, ::1] X,
    const floating[:, ::1] Y, float alpha, int policy, int64_t start, int64_t stop, floating[::1] scratch,
    double[::1] errors,
) noexcept nogil:
    cdef Py_ssize_t f = Y.shape[1], n
    cdef int64_t u
    cdef Fixed[floating] fixed
    cdef Row[floating] row
    fixed.Y = span(&Y[0, 0], Y.shape[0] * f)
    fixed.factors = f
    for u in range(start, stop):
        n = indptr[u + 1] - indptr[u]
        if n == 0:
            errors[u] = 0
            continue
        row.n = n
        row.ids = &indices[indptr[u]]
        row.weight = &scratch[0]
        row.rhs = &scratch[n]
        entries(&values[indptr[u]], n, alpha, policy, &scratch[0], &scratch[n])
        errors[u] = row_error(fixed, row, &X[u, 0])


def gram(
    const floating[:, ::1] Y,  # IN
    Py_ssize_t block,
    double[:, :, ::1] partial,  # OUT, zeroed: the upper triangle, by tiles, per block of rows
    double[:, ::1] scratch,  # a row per thread: GRAM_HEIGHT * width, width a multiple of GRAM_WIDTH
    int num_threads,
):
    """Partial gram matrices of blocks of ``block`` rows."""
    cdef Py_ssize_t b, f = Y.shape[1]
    for b in prange(partial.shape[0], nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        gram_block(
            span(&Y[b * block, 0], min(block, Y.shape[0] - b * block) * f), min(block, Y.shape[0] - b * block), f,
            partial.shape[2], &partial[b, 0, 0], &scratch[threadid(), 0],
        )
