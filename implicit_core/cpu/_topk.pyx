"""Loops of exact top-k; scoring and selection of a block of queries are in ``_topk.h``."""
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.stdint cimport int16_t, int32_t, int64_t


cdef extern from "_span.h" nogil:
    cppclass Span[T]:
        pass
    Span[T] span[T](T *data, Py_ssize_t size)

cdef extern from "_topk.h" nogil:
    cppclass Candidate[T]:
        pass
    cppclass Candidates[T]:
        Span[const T] items
        Span[const int32_t] ids
        Span[const T] packed
        Span[const double] norms
        Span[const int16_t] codes
        Py_ssize_t factors
        bint cosine
    cppclass Exclusions:
        const int64_t *indptr
        Span[const int32_t] indices
        Span[const int32_t] drop
    void pack[T](Candidates[T] candidates, Py_ssize_t panel, T *packed, double *norms)
    bint encode_panel[T](const T *panel, Py_ssize_t factors, const double *norms, int16_t *codes)
    void topk_block[T](
        Candidates[T] candidates, const T *queries, Py_ssize_t start, Py_ssize_t count, Exclusions exclusions,
        Py_ssize_t first, Py_ssize_t last, Py_ssize_t k, int32_t *ids, T *scores, Candidate[T] *heaps, T *panel,
        int16_t *codes, int64_t *work,
    )
    bint C_HAS_CODES "HAS_CODES"
    int C_QUERY_BLOCK "QUERY_BLOCK"

HAS_CODES = bool(C_HAS_CODES)
QUERY_BLOCK = C_QUERY_BLOCK
PANEL_BYTES = 128  # a factor of a panel


def pack_candidates(
    const floating[:, ::1] items,  # IN
    const int32_t[::1] ids,  # IN
    floating[:, :, ::1] packed,  # OUT: panels x factors x lanes
    double[::1] norms,  # OUT: panels * lanes
    int num_threads,
):
    """Lay the rows ``ids`` of ``items`` out in panels."""
    cdef Py_ssize_t p, lanes = packed.shape[2]
    cdef Candidates[floating] candidates = _candidates(items, ids)
    for p in prange(packed.shape[0], nogil=True, schedule="static", num_threads=num_threads):
        pack(candidates, p, &packed[p, 0, 0], &norms[p * lanes])


def encode_candidates(
    const floating[:, :, ::1] packed,  # IN
    const double[::1] norms,  # IN: panels * lanes
    int16_t[:, :, ::1] codes,  # OUT: panels x pairs of factors x 2 * lanes
    int num_threads,
):
    """Round the rows in panels to integers, for a first look; False where the norm of a row does not allow it."""
    cdef Py_ssize_t p, factors = packed.shape[1], lanes = packed.shape[2], refused = 0
    for p in prange(packed.shape[0], nogil=True, schedule="static", num_threads=num_threads):
        refused += not encode_panel(&packed[p, 0, 0], factors, &norms[p * lanes], &codes[p, 0, 0])
    return refused == 0


def topk(
    const floating[:, ::1] queries,  # IN
    const floating[:, ::1] items,  # IN
    const int32_t[::1] ids,  # IN
    bint cosine,
    const floating[:, :, ::1] packed,  # IN, or None
    const double[::1] norms,  # IN, or None
    const int16_t[:, :, ::1] codes,  # IN, or None
    const int64_t[::1] exclude_indptr,  # IN, or None
    const int32_t[::1] exclude_indices,  # IN, or None; sorted within a row
    const int32_t[::1] drop,  # IN, sorted
    const int64_t[::1] blocks,  # IN: block b is the queries blocks[b] .. blocks[b + 1] - 1, QUERY_BLOCK at most
    const int64_t[::1] slices,  # IN: slice s is the panels slices[s] .. slices[s + 1] - 1
    int32_t[:, :, ::1] best_ids,  # OUT: slices x queries x k
    floating[:, :, ::1] best_scores,  # OUT: slices x queries x k
    char[:, ::1] heaps,  # a row per thread: largest block * k * sizeof(Candidate)
    floating[:, ::1] panels,  # a row per thread: factors * lanes
    int16_t[:, ::1] query_codes,  # a row per thread: QUERY_BLOCK * factors, rounded up to pairs
    int64_t[:, ::1] work,  # INOUT: a row per thread: pairs of a query and a candidate looked at, and of these scored
    int num_threads,
):
    """The best k of each slice of candidates for each query, in parallel over blocks of queries and slices."""
    cdef Py_ssize_t n_blocks = blocks.shape[0] - 1, task, b, s
    cdef Candidates[floating] candidates = _candidates(items, ids)
    cdef Exclusions exclusions
    candidates.cosine = cosine
    if packed is not None:
        candidates.packed = span(&packed[0, 0, 0], packed.shape[0] * packed.shape[1] * packed.shape[2])
        candidates.norms = span(&norms[0], norms.shape[0])
    if codes is not None:
        candidates.codes = span(&codes[0, 0, 0], codes.shape[0] * codes.shape[1] * codes.shape[2])
    exclusions.indptr = NULL
    if exclude_indptr is not None and exclude_indices.shape[0]:
        exclusions.indptr = &exclude_indptr[0]
        exclusions.indices = span(&exclude_indices[0], exclude_indices.shape[0])
    exclusions.drop = span(&drop[0] if drop.shape[0] else NULL, drop.shape[0])
    for task in prange(
        n_blocks * (slices.shape[0] - 1), nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads
    ):
        b = task % n_blocks
        s = task // n_blocks
        topk_block(
            candidates, &queries[blocks[b], 0], blocks[b], blocks[b + 1] - blocks[b], exclusions,
            slices[s], slices[s + 1], best_ids.shape[2], &best_ids[s, blocks[b], 0], &best_scores[s, blocks[b], 0],
            <Candidate[floating] *> &heaps[threadid(), 0], &panels[threadid(), 0], &query_codes[threadid(), 0],
            &work[threadid(), 0],
        )


cdef Candidates[floating] _candidates(const floating[:, ::1] items, const int32_t[::1] ids) noexcept nogil:
    cdef Candidates[floating] candidates
    candidates.items = span(&items[0, 0], items.shape[0] * items.shape[1])
    candidates.ids = span(&ids[0], ids.shape[0])
    candidates.packed = span(<const floating *> NULL, 0)
    candidates.codes = span(<const int16_t *> NULL, 0)
    candidates.factors = items.shape[1]
    candidates.cosine = False
    return candidates
