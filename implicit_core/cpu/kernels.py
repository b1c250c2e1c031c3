"""The CPU's :class:`~implicit_core._kernels.Kernels`: memory layout, threads and scratch space for the Cython loops."""

from __future__ import annotations

import functools
import os
import threading
from itertools import pairwise, starmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

from implicit_core import _arrays
from implicit_core._arrays import BPR_BLOCKS, BPR_DRAWS, NO_SCORE, Axes, found_only
from implicit_core._arrays import as_factors as as_factors  # what follows the definitions do well enough
from implicit_core._arrays import check_room as check_room
from implicit_core._arrays import is_array as is_array
from implicit_core._arrays import put as put
from implicit_core._arrays import squared_norms as squared_norms
from implicit_core._arrays import take as take
from implicit_core._arrays import to_device as to_device
from implicit_core._arrays import to_host as to_host
from implicit_core._arrays import writable as writable
from implicit_core._arrays import zeros as zeros
from implicit_core._errors import ModelFitError
from implicit_core._kernels import effective_threads, product_work, split_rows
from implicit_core._memory import CACHE_LINE, aligned, round_up
from implicit_core._typing import Counts, CsrArrays, Factors, Ids, Index, Negatives, Policy, Scores
from implicit_core.cpu import _als, _axes, _bpr, _evaluation, _knn, _lmf, _topk, _weights

#: The most that kernels use of the processor's instruction sets.
ISA = os.environ.get("IMPLICIT_CORE_ISA") or "avx512vnni"
if ISA not in ("baseline", "avx2", "avx512", "avx512vnni"):
    raise ValueError(f"IMPLICIT_CORE_ISA must be baseline, avx2, avx512 or avx512vnni, got {ISA!r}")

CHUNKS_PER_THREAD = 32  #: pieces of work a thread takes in turn, so that none is left alone with the last one
THREAD_WORK = 2**21  #: multiplications that are worth another thread
PIECE_FLOP = 2e9  #: work of a call of a kernel: well under a second, so that Ctrl-C and progress get their turn
LONG_PIECE_FLOP = 1e10  #: the same for rows that are worked on together, the more of them the better
LONG_ROW = 2**21  #: bytes of Y that the entries of a row take from which on it is worked on together with others
Y_BLOCK = 2**23  #: bytes of Y that these work on at a time, for a cache that all threads share
GRAM_BYTES = 2**23  #: bound on the partial gram matrices
HEAP_BYTES = 2**23  #: bound on a thread's heaps, unless one query needs more
SEARCH_WORK = 32  #: multiplications that looking up a ranked item is worth
BPR_PIECE = 5e7  #: steps · factors between two chances to interrupt
UNEVEN_BLOCK = 96  #: queries that a thread takes at a time where bounds rule out more for some than for others
FEW_QUERIES = 4  #: queries up to which each reads the items for itself
PACK_FROM = 256  #: queries from which on packing the items pays
SCATTER_WORK = 16  #: how much longer a multiplication of a sparse product takes than one of a dense product
ROW_WORK = 64  #: multiplications that take as long as what each row of a sparse product needs besides

NO_IDS = np.empty(0, dtype=np.int32)
ONE_ROW = np.array([0, 1])  #: chunks of a single row

_kept = threading.local()  # scratch of the last product of a single row, which takes less time than to clear it


def _useful_threads(num_threads: int, work: int) -> int:
    """As many threads as are asked for, but none with so little to do that waking it takes longer."""
    return min(effective_threads(num_threads), 1 + work // THREAD_WORK)


def gram(Y: Factors, num_threads: int = 0) -> NDArray[np.float64]:
    """YᵀY in float64, summed in an order that depends on the shape alone."""
    rows, factors = Y.shape
    width = round_up(factors, _als.GRAM_TILE)
    blocks = max(1, min(64, -(-rows // 1024), GRAM_BYTES // (8 * width * width)))
    partial = np.zeros((blocks, width, width))
    if rows:
        threads = _useful_threads(num_threads, rows * factors * factors)
        scratch = np.empty((threads, _als.BLOCK * width))
        _als.gram(np.ascontiguousarray(Y), -(-rows // blocks), partial, scratch, threads)
    upper: NDArray[np.float64] = np.triu(partial.sum(axis=0)[:factors, :factors])
    return upper + np.triu(upper, 1).T


def turn(X: Factors, Y: Factors, Z: Factors, basis: NDArray[np.floating], num_threads: int = 0) -> None:
    """Multiply the rows of three matrices by ``basis`` in place; an interrupt finds all of them done, or none."""
    factors = len(basis)
    width = round_up(factors, _als.TURN_WIDTH)
    padded = zeros(factors, width, X.dtype)
    padded[:, :factors] = basis
    threads = _useful_threads(num_threads, (len(X) + len(Y) + len(Z)) * factors**2)
    _als.turn(X, Y, Z, padded, aligned((threads, _als.TURN_BLOCK * width), X.dtype), threads)


def axes(rows: int, factors: int) -> Axes:
    """How a fit holds the factors; see :func:`implicit_core._arrays.axes`."""
    return _axes.axes(rows, factors, turn)


def _entries_space(counts: Counts, start: int, stop: int, longest: int) -> int:
    """Elements that weights and right-hand sides of the longest of these rows take."""
    return 2 * round_up(min(int(np.diff(counts.indptr[start : stop + 1]).max()), longest), _als.WIDTH)


def _with_last_rows(Y: Factors, width: int) -> tuple[Factors, Factors, int]:
    """``Y``, its last rows with zeros after them, and the first of these: fewer than ``width`` elements follow them."""
    first = max(len(Y) - -(-width // Y.shape[1]) + 1, 0)
    last = np.zeros((len(Y) - first) * Y.shape[1] + width, dtype=Y.dtype)
    last[: (len(Y) - first) * Y.shape[1]] = Y[first:].ravel()
    return Y, last, first


class _System(NamedTuple):
    """What the kernels of least squares have in common, in the order of their arguments."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[Any]
    X: Factors
    Y: Factors
    last: Factors  #: the last rows of ``Y`` and what follows them
    first_of_last: int
    gram: Factors
    diag: NDArray[np.floating]
    alpha: float
    policy: int
    cg_steps: int


def least_squares(
    counts: Counts,
    X: Factors,
    Y: Factors,
    gram: NDArray[np.floating],
    diag: NDArray[np.floating],
    policy: Policy,
    cg_steps: int | None,
    rows: slice,
    num_threads: int = 0,
) -> None:
    """Solve rows of ``X`` in place; see :func:`implicit_core._arrays.least_squares`."""
    start, stop, _ = rows.indices(X.shape[0])
    stored = 0 if start >= stop else int(counts.indptr[stop] - counts.indptr[start])
    if stored == 0:
        X[start:stop] = 0
        return
    factors, steps = X.shape[1], -1 if cg_steps is None else cg_steps
    threads = _useful_threads(num_threads, (stored + (stop - start) * factors) * factors)
    width = round_up(factors, _als.WIDTH)
    is_diagonal = gram.ndim == 1
    padded = zeros(1 if is_diagonal else round_up(factors, 2), width, X.dtype)
    padded[: 1 if is_diagonal else factors, :factors] = gram
    Y = np.ascontiguousarray(Y, dtype=X.dtype)
    diag = np.ascontiguousarray(diag, dtype=X.dtype)
    system = _System(*counts[:3], X, *_with_last_rows(Y, width), padded, diag, policy.alpha, policy.observed, steps)
    longest = stored
    if cg_steps is not None and Y.nbytes > Y_BLOCK:
        longest = max(LONG_ROW // (width * X.itemsize), 1)
        _search_long_rows(system, start + np.flatnonzero(np.diff(counts.indptr[start : stop + 1]) > longest), threads)

    if cg_steps is None:
        entry_flop, row_flop = factors * (factors + 6), factors * factors * (factors + 6) / 3
        square = round_up(factors, _als.EXACT_WIDTH)
        row_space = (square + 2 * _als.BLOCK + 2) * square
    else:
        entry_flop = 4 * factors * (cg_steps + 1)
        row_flop = entry_flop * (2 if is_diagonal else factors / 2)
        row_space = _als.SEARCH * width
    flop = entry_flop * stored + row_flop * (stop - start)
    entries_of_row = row_flop / entry_flop  # that take as long as what a row needs besides
    pieces = split_rows(counts.indptr, rows, entries_of_row, int(flop / PIECE_FLOP) + 1)
    for piece in starmap(slice, pairwise(pieces.tolist())):
        chunks = split_rows(counts.indptr, piece, entries_of_row, CHUNKS_PER_THREAD * threads)
        failed = np.empty(len(chunks) - 1, dtype=np.int64)
        entries_space = _entries_space(counts, piece.start, piece.stop, longest)
        scratch = aligned((threads, round_up(entries_space + row_space, _als.WIDTH)), X.dtype)
        _als.least_squares(*system, longest, chunks, scratch, failed, threads)
        if (failed >= 0).any():
            raise ModelFitError.not_positive_definite(failed[failed >= 0].min())


def _search_long_rows(system: _System, rows: NDArray[np.int64], threads: int) -> None:
    """Conjugate gradient for ``rows``, in groups that share what they read of Y, since long rows have much in common.

    The groups are dealt the rows by length, so that they have about the same work.
    """
    if len(rows) == 0:
        return
    lengths = system.indptr[rows + 1] - system.indptr[rows]
    rows = rows[np.argsort(-lengths, kind="stable")]
    width = system.gram.shape[1]
    calls = int(4 * width * (system.cg_steps + 1) * lengths.sum() / LONG_PIECE_FLOP) + 1
    groups = [rows[first :: calls * threads] for first in range(calls * threads)]
    scratch = aligned((threads, len(groups[0]) * _als.SEARCH * width), system.X.dtype)
    long_rows = np.empty((threads, len(groups[0]) * _als.LONG_ROW_BYTES), dtype=np.int8)
    block = max(Y_BLOCK // (system.Y.shape[1] * system.Y.itemsize), 1)
    for first in range(0, len(groups), threads):
        together = groups[first : first + threads]
        bounds = np.cumsum([0, *map(len, together)])
        _als.search_by_blocks_of_Y(*system, block, np.concatenate(together), bounds, scratch, long_rows, threads)


def stored_error(counts: Counts, X: Factors, Y: Factors, policy: Policy, num_threads: int = 0) -> float:
    """Σ of what the stored entries add to the squared error; see :func:`implicit_core._arrays.stored_error`."""
    if len(counts.indices) == 0:
        return 0.0
    threads = _useful_threads(num_threads, len(counts.indices) * X.shape[1])
    width = round_up(X.shape[1], _als.WIDTH)
    errors = np.empty(X.shape[0])
    _als.row_errors(
        counts.indptr,
        counts.indices,
        counts.values,
        np.ascontiguousarray(X),
        *_with_last_rows(np.ascontiguousarray(Y, dtype=X.dtype), width),
        width,
        policy.alpha,
        policy.observed,
        split_rows(counts.indptr, slice(None), 1, CHUNKS_PER_THREAD * threads),
        np.empty((threads, _entries_space(counts, 0, X.shape[0], len(counts.indices)) + width), dtype=X.dtype),
        errors,
        threads,
    )
    return float(errors.sum())


@functools.lru_cache(maxsize=4)
def _first_ids(n: int) -> NDArray[np.int32]:
    """0 … n − 1, read-only."""
    ids = np.arange(n, dtype=np.int32)
    ids.flags.writeable = False
    return ids


def prepare(
    items: Factors, ids: Ids | None = None, *, cosine: bool = False, queries: int = 0, num_threads: int = 0
) -> Index:
    """Candidates for ``topk``; see :func:`implicit_core._arrays.prepare`.

    Where enough queries will come, the candidates are copied into panels, for inner products in order of descending
    norm, so that ``topk`` can stop early.
    """
    items = np.ascontiguousarray(items)
    ids = _first_ids(len(items)) if ids is None else np.ascontiguousarray(ids, dtype=np.int32)
    if queries < PACK_FROM or len(ids) == 0:
        return Index(items, ids, cosine)
    return _pack(items, ids, cosine, num_threads)


def _pack(items: Factors, ids: Ids, cosine: bool, num_threads: int) -> Index:
    """An index of copied candidates."""
    if not cosine:
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", items, items)
        ids = ids[np.argsort(-squares[ids], kind="stable")]
    lanes = _topk.PANEL_BYTES // items.itemsize
    panels = -(-len(ids) // lanes)
    packed = aligned((panels, items.shape[1], lanes), items.dtype)
    norms = np.empty(panels * lanes)
    threads = _useful_threads(num_threads, items.shape[1] * len(ids))
    _topk.pack_candidates(items, ids, packed, norms, threads)
    codes = None
    if _topk.HAS_CODES:
        codes = aligned((panels, -(-items.shape[1] // 2), 2 * lanes), np.dtype(np.int16))
        if not _topk.encode_candidates(packed, norms, codes, threads):
            codes = None
    if not cosine:
        norms = np.maximum.accumulate(np.maximum(norms, 1e-150)[::-1])[::-1].copy()
    return Index(items, ids, cosine, packed, norms, codes)


def topk(
    queries: Factors,
    index: Index,
    k: int,
    *,
    exclude: Counts | None = None,
    drop: NDArray[np.int32] | None = None,
    num_threads: int = 0,
    work: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int32], Scores]:
    """The exact k best candidates per query; see :func:`implicit_core._arrays.topk`.

    Adds to ``work`` how many pairs of a query and a candidate the kernel looked at, since no bound of a panel ruled
    them out, and how many of these it scored.
    """
    dtype, n, candidates = index.factors.dtype, len(queries), len(index.ids)
    found = min(k, candidates)
    if n == 0 or found == 0:
        return np.full((n, k), -1, dtype=np.int32), np.full((n, k), np.finfo(dtype).min, dtype=dtype)
    few = n <= FEW_QUERIES and index.packed is None
    threads = _useful_threads(num_threads, n * candidates * index.factors.shape[1])
    lanes = _topk.PANEL_BYTES // dtype.itemsize
    panels = -(-candidates // lanes)
    most = _topk.QUERY_BLOCK if index.cosine else UNEVEN_BLOCK
    most = 1 if few else max(1, min(most, HEAP_BYTES // (16 * found)))
    block = -(-n // (threads * -(-n // (threads * most))))  # so that each thread gets as many
    blocks = np.arange(0, n + block, block)
    blocks[-1] = n
    parts = 1 if len(blocks) > threads or index.packed is not None else min(threads, panels)
    threads = min(threads, (len(blocks) - 1) * parts)
    ids = np.empty((parts, n, found), dtype=np.int32)
    scores = np.empty((parts, n, found), dtype=dtype)
    work_of_threads = np.zeros((threads, 2), dtype=np.int64)
    query_codes = 1 if index.codes is None else _topk.QUERY_BLOCK * round_up(index.factors.shape[1], 2)
    _topk.topk(
        np.ascontiguousarray(queries, dtype=dtype),
        index.factors,
        index.ids,
        index.cosine,
        index.packed,
        index.norms,
        index.codes,
        None if exclude is None else exclude.indptr,
        None if exclude is None else exclude.indices,
        NO_IDS if drop is None else drop,
        blocks,
        np.array([panels * part // parts for part in range(parts + 1)]),
        ids,
        scores,
        np.empty((threads, block * found * 16), dtype=np.int8),
        aligned((threads, index.factors.shape[1] * lanes), dtype),
        np.empty((threads, query_codes), dtype=np.int16),
        work_of_threads,
        threads,
    )
    if work is not None:
        work += work_of_threads.sum(axis=0)
    if parts > 1:
        ids, scores = _merge(ids, scores, found)
    else:
        ids, scores = ids[0], scores[0]
    if found < k:
        ids = np.pad(ids, ((0, 0), (0, k - found)), constant_values=-1)
        scores = np.pad(scores, ((0, 0), (0, k - found)), constant_values=np.finfo(dtype).min)
    return ids, scores


def _merge(ids: NDArray[np.int32], scores: Scores, k: int) -> tuple[NDArray[np.int32], Scores]:
    """The best k among the best of all parts; ids of −1 are padding and come last."""
    ids, scores = np.concatenate(list(ids), axis=1), np.concatenate(list(scores), axis=1)
    best = np.lexsort((ids.view(np.uint32), -scores))[:, :k]
    return np.take_along_axis(ids, best, axis=1), np.take_along_axis(scores, best, axis=1)


def bpr_epoch(
    counts: Counts,
    users: NDArray[np.int32],
    X: Factors,
    Y: Factors,
    learning_rate: float,
    regularization: float,
    key: int,
    epoch: int,
    verify: bool,
    deterministic: bool = True,
    num_threads: int = 0,
) -> tuple[int, int]:
    """An epoch of steps in place; see :func:`implicit_core._arrays.bpr_epoch`."""
    triples, grouped = np.empty((2, min(len(users), BPR_DRAWS), 3), np.int32)
    tasks = np.empty(len(triples), np.uint16)
    rates, piece = (X.dtype.type(learning_rate), X.dtype.type(regularization)), int(BPR_PIECE / X.shape[1]) + 1
    correct = skipped = 0
    for start in range(0, len(users), BPR_DRAWS):
        n = min(BPR_DRAWS, len(users) - start)
        threads = _useful_threads(num_threads, n * X.shape[1])
        parts = _split(0, n, threads)
        sizes = np.zeros((threads, BPR_BLOCKS**3), np.int64)
        _bpr.draw(counts.indptr, users, counts.indices, key, epoch, start, verify, parts, triples, tasks, sizes)
        ends = np.cumsum(sizes.T).reshape(-1, threads).T  # by task, within one by part
        _bpr.group(parts, triples, tasks, sizes, np.ascontiguousarray(ends - sizes), grouped)
        offsets, steps = np.append(0, ends[-1]), int(ends[-1, -1])
        for first in range(0, steps, piece):
            last = min(first + piece, steps)
            if deterministic:
                correct += _bpr.learn(grouped, np.clip(offsets, first, last), X, Y, *rates, threads)
            else:
                correct += _bpr.race(grouped, _split(first, last, CHUNKS_PER_THREAD * threads), X, Y, *rates, threads)
        skipped += n - steps
    return correct, skipped


def _split(start: int, stop: int, parts: int) -> NDArray[np.int64]:
    """Bounds of parts of equal size."""
    return start + np.arange(parts + 1) * (stop - start) // parts


def lmf_step(
    counts: Counts,
    X: Factors,
    squares: Factors,
    Y: Factors,
    learning_rate: float,
    regularization: float,
    negatives: Negatives,
    epoch: int,
    side: int,
    rows: slice,
    num_threads: int = 0,
) -> None:
    """Take a step for rows of ``X`` in place; see :func:`implicit_core._arrays.lmf_step`."""
    if len(counts.indices) == 0:
        return
    start, stop, _ = rows.indices(X.shape[0])
    samples = counts.indptr + negatives.indptr
    threads = _useful_threads(num_threads, 2 * X.shape[1] * int(samples[stop] - samples[start]))
    padded = _pad_rows(Y)
    _lmf.lmf_rows(
        counts.indptr,
        counts.indices,
        np.ascontiguousarray(counts.values, dtype=X.dtype),
        negatives.indptr,
        negatives.pool,
        X,
        squares,
        padded,
        learning_rate,
        regularization,
        negatives.key,
        epoch,
        side,
        split_rows(samples, rows, 1, CHUNKS_PER_THREAD * threads),
        np.zeros((threads, len(Y)), dtype=np.uint16),
        aligned((threads, 2 * _lmf.GROUP * padded.shape[1]), X.dtype),
        threads,
    )


def _pad_rows(Y: Factors) -> Factors:
    """``Y`` with zeros after each row, so that rows fill whole cache lines."""
    padded = aligned((len(Y), round_up(Y.shape[1], CACHE_LINE // Y.itemsize)), Y.dtype)
    padded[:, : Y.shape[1]], padded[:, Y.shape[1] :] = Y, 0
    return padded


def ranking_counts(ranked: Ids, relevant: Counts, num_threads: int = 0) -> NDArray[np.int32]:
    """Hits among the first ranked items; see :func:`implicit_core._arrays.ranking_counts`."""
    n, k = ranked.shape
    counts = np.empty((n, k), dtype=np.int32)
    if counts.size == 0:
        return counts
    if ranked.dtype != np.int32:
        ranked = np.where((ranked < 0) | (ranked >= relevant.shape[1]), -1, ranked.astype(np.int64))
    threads = _useful_threads(num_threads, counts.size * SEARCH_WORK)
    longest = int(np.diff(relevant.indptr).max())
    _evaluation.ranking_counts(
        np.ascontiguousarray(ranked, dtype=np.int32),
        relevant.indptr,
        relevant.indices,
        np.zeros((threads, max(longest, 1)), dtype=np.uint8),
        counts,
        threads,
    )
    return counts


def split_entries(
    indptr: Ids, indices: Ids, values: NDArray[Any], chosen: NDArray[np.bool_]
) -> tuple[CsrArrays, CsrArrays]:
    """Two parts of a CSR matrix; see :func:`implicit_core._arrays.split_entries`."""
    if values.itemsize > 8:
        return _arrays.split_entries(indptr, indices, values, chosen)
    first = int(np.count_nonzero(chosen))
    parts = tuple(
        (np.zeros(len(indptr), np.int64), np.empty(size + 1, indices.dtype), np.empty(size + 1, values.dtype))
        for size in (first, len(chosen) - first)
    )
    words = f"u{values.itemsize}"
    _evaluation.split_entries(
        np.ascontiguousarray(indptr, dtype=np.int64),
        np.ascontiguousarray(indices),
        np.ascontiguousarray(values).view(words),
        np.ascontiguousarray(chosen).view(np.uint8),
        *(part.view(words) if position == 2 else part for arrays in parts for position, part in enumerate(arrays)),
    )
    (a, b) = ((indptr, indices[:-1], values[:-1]) for indptr, indices, values in parts)
    return a, b


def sum_rows_and_count_columns(X: coo_matrix) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The sum of the values of each row, in their order, and the number of entries of each column."""
    sums, counts = np.zeros(X.shape[0]), np.zeros(X.shape[1], dtype=np.int64)
    if X.nnz:
        _weights.sum_rows_and_count_columns(*_entries(X), sums, counts, min(2, _useful_threads(0, X.nnz)))
    return sums, counts


def bm25(X: coo_matrix, gain: float, scale: NDArray[np.float64], idf: NDArray[np.float64]) -> bool:
    """Replace values by gain · value / (scale of the row + value) · idf of the column; False if one is not finite."""
    return _weights.bm25(*_entries(X), gain, scale, idf, _useful_threads(0, SCATTER_WORK * X.nnz))


def _entries(X: coo_matrix) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Rows, columns and values; the values are those of the matrix itself."""
    return np.ascontiguousarray(X.row), np.ascontiguousarray(X.col), X.data


def all_pairs_knn(items: Counts, users: Counts, k: int, num_threads: int = 0) -> Counts:
    """The k largest entries of each row of items · users; see :func:`implicit_core._arrays.all_pairs_knn`."""
    return found_only(*knn_recommend(items, users, k, num_threads=num_threads), users.shape[1])


def knn_recommend(
    liked: Counts,
    similarity: Counts,
    k: int,
    *,
    exclude_liked: bool = False,
    only: NDArray[np.int32] | None = None,
    drop: NDArray[np.int32] | None = None,
    num_threads: int = 0,
) -> tuple[NDArray[np.int32], Scores]:
    """The k best columns per row of liked · similarity; see :func:`implicit_core._arrays.knn_recommend`."""
    rows, columns = len(liked.indptr) - 1, similarity.shape[1]
    found = min(k, columns if only is None else len(only))
    if rows == 0 or found == 0:
        return np.full((rows, k), -1, dtype=np.int32), np.full((rows, k), NO_SCORE)
    if rows == 1:
        threads, chunks = _useful_threads(num_threads, 0), ONE_ROW
        sums, reached = _take_scratch(columns)
    else:
        work = product_work(liked, similarity)
        threads = _useful_threads(num_threads, SCATTER_WORK * int(work[-1] + ROW_WORK * rows))
        chunks = split_rows(work, slice(None), ROW_WORK, CHUNKS_PER_THREAD * threads)
        sums, reached = _new_scratch(threads, columns)
    if drop is not None:
        sums[:, drop] = 0
    room = min(2 * found + _knn.OFFERED, columns if only is None else len(only))
    ids, scores = np.empty((rows, found), dtype=np.int32), np.empty((rows, found))
    _knn.product_topk(
        liked.indptr,
        liked.indices,
        liked.values,
        similarity.indptr,
        similarity.indices,
        similarity.values,
        exclude_liked,
        NO_IDS if only is None else only,
        NO_IDS if drop is None else drop,
        NO_SCORE,
        chunks,
        ids,
        scores,
        sums,
        reached,
        np.empty((threads, room * _knn.CANDIDATE_BYTES), dtype=np.int8),
        threads,
    )
    if rows == 1:
        if drop is not None:
            sums[:, drop] = -0.0
        _kept.scratch = sums, reached
    if found < k:
        ids = np.pad(ids, ((0, 0), (0, k - found)), constant_values=-1)
        scores = np.pad(scores, ((0, 0), (0, k - found)), constant_values=NO_SCORE)
    return ids, scores


def _new_scratch(threads: int, columns: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Sums of columns that are not reached yet, and room for those that are."""
    return np.full((threads, columns), -0.0), np.empty((threads, columns + 1), dtype=np.int32)


def _take_scratch(columns: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The same for one row: that of this Python thread's last one if it fits, which is not kept until given back."""
    kept: tuple[NDArray[np.float64], NDArray[np.int32]] | None = _kept.__dict__.pop("scratch", None)
    return kept if kept is not None and kept[0].shape[1] == columns else _new_scratch(1, columns)
