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
        Span[const T] last
        Py_ssize_t first_of_last
        Span[const T] gram
        Py_ssize_t factors
        Py_ssize_t width
    cppclass Row[T]:
        const int32_t *ids
        const T *weight
        const T *rhs
        Py_ssize_t n
        T ridge
    cppclass Stream:
        const int32_t *next
        const int32_t *end
    void entries[T, V](const V *values, Py_ssize_t n, float alpha, int policy, T *weight, T *rhs)
    void conjugate_gradient[T](Fixed[T] fixed, Row[T] row, Stream *stream, int steps, T *x, T *work)
    Py_ssize_t _SEARCH "SEARCH"
    bint cholesky[T](Fixed[T] fixed, Row[T] row, T *x, T *work)
    double row_error[T](Fixed[T] fixed, Row[T] row, const T *x, T *work)
    Py_ssize_t padded(Py_ssize_t n)
    Py_ssize_t _WIDTH "WIDTH", _EXACT_WIDTH "EXACT_WIDTH", _BLOCK "BLOCK", _GRAM_TILE "GRAM_TILE"
    void gram_block[T](
        Span[const T] Y, Py_ssize_t rows, Py_ssize_t factors, Py_ssize_t width, double *out, double *work
    )

cdef extern from "_als_long.h" nogil:
    cppclass LongRow[T, V]:
        const int32_t *ids
        const V *values
        Py_ssize_t n
        T ridge
        T *x
    void search_by_blocks[T](
        Fixed[T] fixed, LongRow[T, float] *rows, Py_ssize_t count, int64_t columns, int64_t block, float alpha,
        int policy, int steps, T *work
    )
    void search_by_blocks[T](
        Fixed[T] fixed, LongRow[T, double] *rows, Py_ssize_t count, int64_t columns, int64_t block, float alpha,
        int policy, int steps, T *work
    )

cdef extern from "_turn.h" nogil:
    void turn_rows[T](T *rows, Py_ssize_t count, Py_ssize_t factors, const T *basis, Py_ssize_t width, T *out)
    Py_ssize_t _TURN_BLOCK "TURN_BLOCK", _TURN_WIDTH "TURN_WIDTH"

WIDTH, EXACT_WIDTH, BLOCK, GRAM_TILE = _WIDTH, _EXACT_WIDTH, _BLOCK, _GRAM_TILE
SEARCH, TURN_BLOCK, TURN_WIDTH = _SEARCH, _TURN_BLOCK, _TURN_WIDTH
LONG_ROW_BYTES = sizeof(LongRow[double, double])

ctypedef fused value:
    float
    double


def least_squares(
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] indices,  # IN
    const value[::1] values,  # IN
    floating[:, ::1] X,  # IN/OUT
    const floating[:, ::1] Y,  # IN
    const floating[::1] last,  # IN: the rows of Y from `first_of_last` on, and zeros
    Py_ssize_t first_of_last,
    const floating[:, ::1] gram,  # IN: f, rounded up to pairs, x width, zero beyond f; or 1 x width, its diagonal
    const floating[::1] diag,  # IN
    float alpha,
    int policy,
    Py_ssize_t cg_steps,
    Py_ssize_t longest,  # rows with more entries are left to ``search_by_blocks``
    const int64_t[::1] chunks,  # IN: chunk c is the rows chunks[c] .. chunks[c + 1] - 1
    floating[:, ::1] scratch,  # a row per thread: what the solver needs, and the entries of the longest row
    int64_t[::1] failed,  # OUT: per chunk, the first row whose matrix is not positive definite, or -1
    int num_threads,
):
    """Solve the rows of ``X`` in ``chunks``, in parallel over chunks; exactly where ``cg_steps`` is negative."""
    cdef Py_ssize_t c
    cdef Fixed[floating] fixed = _fixed(Y, last, first_of_last, gram)
    for c in prange(chunks.shape[0] - 1, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        if cg_steps >= 0:
            _search_chunk(
                indptr, indices, values, X, fixed, diag, alpha, policy, <int> cg_steps, longest,
                chunks[c], chunks[c + 1], scratch[threadid()],
            )
            failed[c] = -1
        else:
            failed[c] = _solve_chunk(
                indptr, indices, values, X, fixed, diag, alpha, policy,
                chunks[c], chunks[c + 1], scratch[threadid()],
            )


cdef Fixed[floating] _fixed(
    const floating[:, ::1] Y, const floating[::1] last, Py_ssize_t first_of_last, const floating[:, ::1] gram
) noexcept:
    cdef Fixed[floating] fixed
    cdef Py_ssize_t f = Y.shape[1]
    fixed.Y = span(&Y[0, 0], Y.shape[0] * f)
    fixed.last = span(&last[0], last.shape[0])
    fixed.first_of_last = first_of_last
    fixed.gram = span(&gram[0, 0], gram.shape[0] * gram.shape[1])
    fixed.factors = f
    fixed.width = gram.shape[1]
    return fixed


cdef void _search_chunk(
    const int64_t[::1] indptr, const int32_t[::1] indices, const value[::1] values, floating[:, ::1] X,
    Fixed[floating] fixed, const floating[::1] diag, float alpha, int policy, int cg_steps,
    Py_ssize_t longest, int64_t start, int64_t stop, floating[::1] scratch,
) noexcept nogil:
    """Conjugate gradient for the rows ``start`` .. ``stop`` - 1."""
    cdef int64_t u, j, stored
    cdef Row[floating] row
    cdef Stream stream
    stream.next = &indices[0] + indptr[start]
    stream.end = &indices[0] + indptr[stop]
    for u in range(start, stop):
        stored = indptr[u + 1] - indptr[u]
        if stored > longest:
            continue
        if stored == 0:
            for j in range(fixed.factors):
                X[u, j] = 0
            continue
        row = _row(indptr, indices, values, alpha, policy, u, scratch[_SEARCH * fixed.width :])
        row.ridge = diag[u]
        conjugate_gradient(fixed, row, &stream, cg_steps, &X[u, 0], &scratch[0])


def search_by_blocks_of_Y(
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] indices,  # IN
    const value[::1] values,  # IN
    floating[:, ::1] X,  # IN/OUT
    const floating[:, ::1] Y,  # IN
    const floating[::1] last,  # IN: as in ``least_squares``
    Py_ssize_t first_of_last,
    const floating[:, ::1] gram,  # IN: f, rounded up to pairs, x width, zero beyond f; or 1 x width, its diagonal
    const floating[::1] diag,  # IN
    float alpha,
    int policy,
    Py_ssize_t cg_steps,
    Py_ssize_t block,
    const int64_t[::1] rows,  # IN: of X, group by group
    const int64_t[::1] groups,  # IN: group g is rows[groups[g]] .. rows[groups[g + 1] - 1]
    floating[:, ::1] scratch,  # a row per thread: SEARCH * width for each row of a group
    char[:, ::1] long_rows,  # a row per thread: LONG_ROW_BYTES for each row of a group
    int num_threads,
):
    """Conjugate gradient for ``rows``, in parallel over groups; those of a group take ``block`` rows of Y at a time."""
    cdef Py_ssize_t g
    cdef Fixed[floating] fixed = _fixed(Y, last, first_of_last, gram)
    for g in prange(groups.shape[0] - 1, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        _search_group(
            indptr, indices, values, X, Y.shape[0], fixed, diag, alpha, policy, <int> cg_steps, block,
            rows[groups[g] : groups[g + 1]], scratch[threadid()],
            <LongRow[floating, value] *> &long_rows[threadid(), 0],
        )


cdef void _search_group(
    const int64_t[::1] indptr, const int32_t[::1] indices, const value[::1] values, floating[:, ::1] X,
    Py_ssize_t columns, Fixed[floating] fixed, const floating[::1] diag, float alpha, int policy, int cg_steps,
    Py_ssize_t block, const int64_t[::1] rows, floating[::1] scratch, LongRow[floating, value] *long_rows,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        long_rows[i].ids = &indices[0] + indptr[rows[i]]
        long_rows[i].values = &values[0] + indptr[rows[i]]
        long_rows[i].n = indptr[rows[i] + 1] - indptr[rows[i]]
        long_rows[i].ridge = diag[rows[i]]
        long_rows[i].x = &X[rows[i], 0]
    search_by_blocks(fixed, long_rows, rows.shape[0], columns, block, alpha, policy, cg_steps, &scratch[0])


cdef int64_t _solve_chunk(
    const int64_t[::1] indptr, const int32_t[::1] indices, const value[::1] values, floating[:, ::1] X,
    Fixed[floating] fixed, const floating[::1] diag, float alpha, int policy, int64_t start,
    int64_t stop, floating[::1] scratch,
) noexcept nogil:
    """The exact solutions; the first row whose matrix is not positive definite, or -1."""
    cdef int64_t u, j, failed = -1
    cdef Row[floating] row
    cdef floating *work
    for u in range(start, stop):
        row = _row(indptr, indices, values, alpha, policy, u, scratch)
        row.ridge = diag[u]
        work = &scratch[2 * padded(row.n)]
        if row.n == 0:
            for j in range(fixed.factors):
                X[u, j] = 0
            continue
        if not cholesky(fixed, row, &X[u, 0], work) and failed < 0:
            failed = u
    return failed


cdef Row[floating] _row(
    const int64_t[::1] indptr, const int32_t[::1] indices, const value[::1] values, float alpha, int policy,
    int64_t u, floating[::1] scratch,
) noexcept nogil:
    """The entries of row u, their weights and right-hand sides at the start of ``scratch``."""
    cdef Row[floating] row
    cdef int64_t first = indptr[u]
    row.n = indptr[u + 1] - first
    row.ids = &indices[0] + first
    row.weight = &scratch[0]
    row.rhs = &scratch[padded(row.n)]
    entries(&values[0] + first, row.n, alpha, policy, &scratch[0], &scratch[padded(row.n)])
    return row


def row_errors(
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] indices,  # IN
    const value[::1] values,  # IN
    const floating[:, ::1] X,  # IN
    const floating[:, ::1] Y,  # IN
    const floating[::1] last,  # IN: as in ``least_squares``
    Py_ssize_t first_of_last,
    Py_ssize_t width,
    float alpha,
    int policy,
    const int64_t[::1] chunks,  # IN
    floating[:, ::1] scratch,  # a row per thread: 2 * longest row, padded, and width
    double[::1] errors,  # OUT: per row
    int num_threads,
):
    """Per row, what its stored entries add to the squared error."""
    cdef Py_ssize_t c, f = Y.shape[1]
    cdef Fixed[floating] fixed
    fixed.Y = span(&Y[0, 0], Y.shape[0] * f)
    fixed.last = span(&last[0], last.shape[0])
    fixed.first_of_last = first_of_last
    fixed.factors = f
    fixed.width = width
    for c in prange(chunks.shape[0] - 1, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        _chunk_errors(
            indptr, indices, values, X, fixed, alpha, policy, chunks[c], chunks[c + 1], scratch[threadid()], errors
        )


cdef void _chunk_errors(
    const int64_t[::1] indptr, const int32_t[::1] indices, const value[::1] values, const floating[:, ::1] X,
    Fixed[floating] fixed, float alpha, int policy, int64_t start, int64_t stop, floating[::1] scratch,
    double[::1] errors,
) noexcept nogil:
    cdef int64_t u
    cdef Row[floating] row
    for u in range(start, stop):
        row = _row(indptr, indices, values, alpha, policy, u, scratch)
        errors[u] = row_error(fixed, row, &X[u, 0], &scratch[2 * padded(row.n)])


def gram(
    const floating[:, ::1] Y,  # IN
    Py_ssize_t block,
    double[:, :, ::1] partial,  # OUT, zeroed: the upper triangle, by tiles, per block of rows
    double[:, ::1] scratch,  # a row per thread: BLOCK * width, width a multiple of GRAM_TILE
    int num_threads,
):
    """Partial gram matrices of blocks of ``block`` rows."""
    cdef Py_ssize_t b, f = Y.shape[1]
    for b in prange(partial.shape[0], nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        gram_block(
            span(&Y[b * block, 0], min(block, Y.shape[0] - b * block) * f), min(block, Y.shape[0] - b * block), f,
            partial.shape[2], &partial[b, 0, 0], &scratch[threadid(), 0],
        )


def turn(
    floating[:, ::1] X,  # IN/OUT
    floating[:, ::1] Y,  # IN/OUT
    floating[:, ::1] Z,  # IN/OUT
    const floating[:, ::1] basis,  # IN: f x width, zero beyond f; width a multiple of TURN_WIDTH
    floating[:, ::1] scratch,  # a row per thread: TURN_BLOCK * width
    int num_threads,
):
    """Multiply the rows of three matrices by ``basis``, in one call, so that no interrupt comes in between."""
    cdef Py_ssize_t b, before_Y = _blocks(X.shape[0]), before_Z = before_Y + _blocks(Y.shape[0])
    for b in prange(before_Z + _blocks(Z.shape[0]), nogil=True, schedule="static", num_threads=num_threads):
        if b < before_Y:
            _turn_block(X, b, basis, scratch[threadid()])
        elif b < before_Z:
            _turn_block(Y, b - before_Y, basis, scratch[threadid()])
        else:
            _turn_block(Z, b - before_Z, basis, scratch[threadid()])


cdef Py_ssize_t _blocks(Py_ssize_t rows) noexcept nogil:
    return (rows + _TURN_BLOCK - 1) // _TURN_BLOCK


cdef int _turn_block(
    floating[:, ::1] rows, Py_ssize_t b, const floating[:, ::1] basis, floating[::1] scratch
) except -1 nogil:
    cdef Py_ssize_t first = b * _TURN_BLOCK
    turn_rows(
        &rows[first, 0], min(_TURN_BLOCK, rows.shape[0] - first), basis.shape[0], &basis[0, 0], basis.shape[1],
        &scratch[0],
    )
    return 0
