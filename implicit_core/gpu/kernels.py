"""The GPU's :class:`~implicit_core._kernels.Kernels`: memory layout, launches and work space of the CUDA kernels.

Factors are CuPy arrays of float32 or float16, computed with in float32. They are views of arrays whose rows are padded
with zeros to whole sectors of 32 bytes. Beside the factors and the entries of the training matrix, a function takes
at most ``WORK_BYTES`` of device memory, unless one row needs more.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from implicit_core._arrays import ZERO_NORM
from implicit_core._typing import Counts, Factors, Ids, Index, Policy, Scores
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._modules import NULL, WARP, launch, limits

WORK_BYTES = 2**28  #: bound on the work space of a function
ALLOCATION = 512  #: bytes that an array takes at least
SECTOR = 32  #: bytes that memory moves at once, of which rows take a whole number
WARPS = 4  #: of a block, where a warp does a row
WIDE = 96  #: factors from which on blocks of als_cg have twice as many, to share the gram matrix
BLOCKS = 8  #: of a processor, in a launch whose warps take one row after another
LONG_ROW = 4096  #: entries from which on a row of least squares is shared out to many warps
CHUNK = 1024  #: entries of a long row that a warp sums up
GRAM_ROWS = 1024  #: rows that are summed in float32, before the sums are added in float64
TILE = 64  #: rows and columns of a product that a block computes
TILE_THREADS = 256
STEP_THREADS = 128  #: of a block of als_step
TOPK_THREADS = 256
TOPK_STEP = 1024  #: columns that a block of topk_select looks at between two sorts at least
TOPK_KEYS = 4096  #: that fit into the shared memory of a block
MOST_GRID_Y = 65535  #: blocks of a grid, but for its first dimension

_rows: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # padded arrays that were made here


# Factors


def is_array(array: Any) -> bool:
    """Whether it is an array of the host or of the device."""
    return isinstance(array, (np.ndarray, cp.ndarray))


def zeros(rows: int, width: int, dtype: DTypeLike) -> Factors:
    """Factors of zero; see :func:`implicit_core._arrays.zeros`."""
    return _view(cp.zeros((rows, _stride(width, np.dtype(dtype))), dtype=dtype), width)


def as_factors(array: Any) -> Factors:
    """Factors of float32 or float16 in padded rows: the array itself where it is that."""
    if not is_array(array):
        array = cp.asarray(array) if hasattr(array, "__cuda_array_interface__") else np.asarray(array)
    return writable(array, np.float16 if array.dtype == np.float16 else np.float32)


def writable(array: Any, dtype: DTypeLike) -> Factors:
    """Factors of a type in padded rows: the array itself where it is that."""
    if isinstance(array, cp.ndarray) and array.dtype == dtype and _is_padded(array):
        held: Factors = array
        return held
    rows, width = array.shape
    if isinstance(array, cp.ndarray):
        copy = zeros(rows, width, dtype)
        copy[...] = array
        return copy
    padded = np.zeros((rows, _stride(width, np.dtype(dtype))), dtype=dtype)
    padded[:, :width] = array
    return _view(cp.asarray(padded), width)


def take(factors: Factors, ids: Ids) -> Factors:
    """Rows of factors, copied."""
    return _view(_padded(factors)[cp.asarray(ids)], factors.shape[1])


def put(factors: Factors, ids: Ids, rows: Factors) -> None:
    """Write rows of factors."""
    factors[cp.asarray(ids)] = rows


def to_host(array: Any) -> NDArray[Any]:
    """An array of the device on the host; itself where it is there."""
    if not isinstance(array, cp.ndarray):
        return np.asarray(array)
    if array.ndim == 2 and _is_padded(array):  # as one piece, which needs no copy on the device
        return np.ascontiguousarray(_padded(array).get()[:, : array.shape[1]])
    host: NDArray[Any] = array.get()
    return host


def _stride(width: int, dtype: np.dtype[Any]) -> int:
    """Elements from one row to the next."""
    unit = SECTOR // dtype.itemsize
    return -(-width // unit) * unit


def _view(padded: Any, width: int) -> Factors:
    _rows[id(padded)] = padded
    view: Factors = padded[:, :width]
    return view


def _root(array: Any) -> Any:
    """The array that owns the memory of a view."""
    while array.base is not None:
        array = array.base
    return array


def _is_padded(array: Any) -> bool:
    """Whether rows are padded with zeros, which is known of arrays made here alone."""
    base = _root(array)
    return (
        array.ndim == 2
        and id(base) in _rows
        and array.dtype == base.dtype
        and array.strides == base.strides
        and _stride(array.shape[1], array.dtype) == base.shape[1]
        and (array.data.ptr - base.data.ptr) % base.strides[0] == 0
    )


def _padded(factors: Any) -> Any:
    """The rows of padded factors with their padding, as a kernel takes them."""
    base = _root(factors)
    first = (factors.data.ptr - base.data.ptr) // base.strides[0]
    return base[first : first + len(factors)]


def _options(factors: Any) -> dict[str, int]:
    return {"FACTORS": factors.shape[1], "HALF": int(factors.dtype == np.float16)}


def squared_norms(factors: Factors) -> Any:
    """Squared L2 norms of rows in float64, on the device."""
    norms = cp.empty(len(factors), dtype=np.float64)
    for rows in _pieces(len(factors), 16 * factors.shape[1]):
        norms[rows] = _sums_of_squares(factors[rows])
    return norms


def _sums_of_squares(factors: Factors) -> Any:
    wide: Any = factors.astype(np.float64)
    wide *= wide
    return wide.sum(axis=1)


def _pieces(n: int, each: int, most: int = 2**31 - 1) -> Iterator[slice]:
    """Runs of 0 … n − 1 for which ``each`` bytes of work space per row stay within the bound."""
    size = max(1, min(WORK_BYTES // max(each, 1), most))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def gram(Y: Factors, num_threads: int = 0) -> NDArray[np.float64]:
    """YᵀY in float64, on the host."""
    rows, factors = Y.shape
    total = cp.zeros((factors, factors), dtype=np.float64)
    width, padded = _stride(factors, np.dtype(np.float32)), _padded(Y)
    for part in _pieces(-(-rows // GRAM_ROWS), 4 * factors * width, MOST_GRID_Y):
        total += _partial_gram(padded[part.start * GRAM_ROWS : part.stop * GRAM_ROWS], _options(Y), width)
    upper = np.triu(total.get())
    whole: NDArray[np.float64] = upper + np.triu(upper, 1).T
    return whole


def _partial_gram(padded: Any, options: dict[str, int], width: int) -> Any:
    """The tiles on and above the diagonal of the gram matrix of some rows."""
    factors, slices = options["FACTORS"], -(-len(padded) // GRAM_ROWS)
    tiles = -(-factors // TILE)
    partial = cp.zeros((slices, factors, width), dtype=np.float32)
    args = (padded, np.int64(len(padded)), np.int32(GRAM_ROWS), partial)
    launch("matrix", "gram", options, (tiles, tiles, slices), TILE_THREADS, args)
    return partial[:, :, :factors].sum(axis=0, dtype=np.float64)


# Entries of a matrix


def check_room(counts: Counts, width: int, dtype: DTypeLike, sides: int, orders: int) -> None:
    """Raise MemoryError, with what is needed, where training does not fit into the memory that is free.

    Parameters
    ----------
    counts : Counts
        The matrix to train on.
    width : int
        Columns of the factors.
    dtype : dtype
    sides : int
        How many elements of the shape of ``counts`` need factors that are not on the device yet.
    orders : int
        2 if the entries are needed by column too.
    """
    parts = training_bytes(counts.shape, len(counts.indices), width, dtype, sides, orders)
    free = cp.cuda.Device().mem_info[0] + cp.get_default_memory_pool().free_bytes()
    if sum(parts) > free:
        factors, entries, work = (f"{part / 1e9:.3g} GB" for part in parts)
        raise MemoryError(
            f"training needs {sum(parts) / 1e9:.3g} GB of the memory of the GPU ({factors} for factors, {entries} for "
            f"entries, {work} of work space), and {free / 1e9:.3g} GB are free; take fewer factors, or use_gpu=False"
        )


def training_bytes(
    shape: tuple[int, int], entries: int, width: int, dtype: DTypeLike, sides: int = 2, orders: int = 2
) -> tuple[int, int, int]:
    """Most bytes of device memory that training takes for new factors, for entries, and as work space."""
    kind, rows = np.dtype(dtype), sum(shape)
    padded = _stride(width, np.dtype(np.float32))
    work = 32 * padded * rows + 8 * width * padded * (2 + rows // GRAM_ROWS) + 40 * (rows + entries // CHUNK)
    return (
        sum(shape[2 - sides :]) * _stride(width, kind) * kind.itemsize,
        orders * 8 * entries + 16 * (rows + 2) + 4 * ALLOCATION * orders,
        min(work + 16 * ALLOCATION, WORK_BYTES),
    )


class DeviceCounts(Counts):
    """A matrix on the host, and what the kernels need of it on the device, moved there when it is first asked for."""

    @functools.cached_property
    def starts(self) -> Any:
        """``indptr``."""
        return cp.asarray(self.indptr)

    @functools.cached_property
    def columns(self) -> Any:
        """``indices``."""
        return cp.asarray(self.indices)

    @functools.cached_property
    def weights(self) -> Any:
        """``values`` in float32."""
        return cp.asarray(self.values.astype(np.float32, copy=False))

    @functools.cached_property
    def owners(self) -> Any:
        """The row of each entry."""
        return cp.asarray(np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.indptr)))

    @functools.cached_property
    def bins(self) -> dict[tuple[int, int, int], list[Bin]]:
        """Rows that have been put in bins."""
        return {}


class Bin(NamedTuple):
    """Rows of about the same number of entries, which a launch solves for."""

    rows: Any  #: on the device
    longest: int  #: entries of a row


def to_device(counts: Counts) -> DeviceCounts:
    """A matrix whose parts are moved to the device when they are needed there."""
    return counts if isinstance(counts, DeviceCounts) else DeviceCounts(*counts)


class Chunks(NamedTuple):
    """Runs of at most ``CHUNK`` entries of a row."""

    first: NDArray[np.int32]  #: chunks of row i of the list: first[i] … first[i + 1] − 1
    owners: NDArray[np.int32]  #: positions in the list
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def _chunks(indptr: NDArray[np.int64], rows: NDArray[np.int64]) -> Chunks:
    """The entries of a list of rows in chunks."""
    starts, stops = indptr[rows], indptr[rows + 1]
    first = np.concatenate([[0], np.cumsum(-(-(stops - starts) // CHUNK))])
    owners = np.repeat(np.arange(len(rows)), np.diff(first))
    begin = starts[owners] + (np.arange(first[-1]) - first[owners]) * CHUNK
    end = np.minimum(begin + CHUNK, stops[owners])
    return Chunks(first.astype(np.int32), owners.astype(np.int32), begin, end)


def _runs(work: NDArray[np.int64], bound: int) -> Iterator[slice]:
    """Runs of positions whose work adds up to at most ``bound``, or of one position."""
    before = np.concatenate([[0], np.cumsum(work)])
    start = 0
    while start < len(work):
        stop = max(start + 1, int(np.searchsorted(before, before[start] + bound, side="right")) - 1)
        yield slice(start, stop)
        start = stop


# Least squares


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
    block_size: None = None,
) -> None:
    """Solve rows of ``X`` in place by conjugate gradient; see :func:`implicit_core._arrays.least_squares`.

    ``cg_steps=None`` takes as many steps as there are factors, which is exact but for rounding. Blocks of factors are
    not offered.
    """
    counts = to_device(counts)
    start, stop, _ = rows.indices(X.shape[0])
    factors, steps = X.shape[1], X.shape[1] if cg_steps is None else cg_steps
    problem = _Problem(counts, X, Y, _on_device(gram, factors), cp.asarray(diag.astype(np.float32)), policy, steps)
    lengths = np.diff(counts.indptr[start : stop + 1])
    if _shared(factors, 0, 0) <= limits().shared_per_block:
        for bin_ in _bins(counts, start, stop, LONG_ROW):
            _solve_rows(problem, bin_)
        _solve_split(problem, start + np.flatnonzero(lengths > LONG_ROW))
    else:
        _solve_split(problem, np.arange(start, stop))


class _Problem(NamedTuple):
    """What the rows of a half-step have in common."""

    counts: DeviceCounts
    X: Factors
    Y: Factors
    gram: Any
    diag: Any
    policy: Policy
    steps: int

    @property
    def entry_args(self) -> tuple[Any, ...]:
        return (self.counts.columns, self.counts.weights, np.float32(self.policy.alpha), np.int32(self.policy.observed))


def _on_device(gram: NDArray[np.floating], factors: int) -> Any:
    padded = np.zeros((factors, _stride(factors, np.dtype(np.float32))), dtype=np.float32)
    padded[:, :factors] = gram
    return cp.asarray(padded)


def _bins(counts: DeviceCounts, start: int, stop: int, longest: int) -> list[Bin]:
    """Rows start … stop − 1 of at most ``longest`` entries: bins of long rows first, and long rows first in each."""
    known = counts.bins.get((start, stop, longest))
    if known is None:
        lengths = np.diff(counts.indptr[start : stop + 1])
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] <= longest]
        size = np.ceil(np.log2(np.maximum(lengths[order], 8))).astype(np.int64)
        edges = [0, *(np.flatnonzero(np.diff(size)) + 1).tolist(), len(order)]
        known = counts.bins[start, stop, longest] = [
            Bin(cp.asarray((start + order[a:b]).astype(np.int32)), int(lengths[order[a]]))
            for a, b in itertools.pairwise(edges)
            if a < b
        ]
    return known


def _warps(factors: int) -> int:
    """Warps of a block of als_cg."""
    return WARPS if factors < WIDE else 2 * WARPS


def _shared(factors: int, itemsize: int, kept: int) -> int:
    """Bytes of shared memory of a block of als_cg."""
    vectors = -(-factors // 4)
    return 16 * vectors * (factors + _warps(factors)) + 4 * vectors * itemsize * _warps(factors) * kept


def _kept(factors: int, itemsize: int, longest: int) -> int:
    """How many rows of Y each warp keeps in shared memory, so that two blocks or more share a processor."""
    fixed, one = _shared(factors, itemsize, 0), _shared(factors, itemsize, 1)
    room = min(limits().shared_per_block, limits().shared_per_processor // 2 - 1024) - fixed
    kept = max(room, 0) // (one - fixed)
    return 0 if 4 * kept < longest else min(kept, longest)


def _solve_rows(problem: _Problem, bin_: Bin) -> None:
    """Solve for rows by a warp each."""
    counts, X, n = problem.counts, problem.X, len(bin_.rows)
    kept = _kept(X.shape[1], X.dtype.itemsize, bin_.longest)
    args = (
        *(bin_.rows, np.int32(n), counts.starts, *problem.entry_args),
        *(_padded(X), _padded(problem.Y), problem.gram, problem.diag, np.int32(problem.steps), np.int32(kept)),
    )
    shared = _shared(X.shape[1], X.dtype.itemsize, kept)
    warps = _warps(X.shape[1])
    launch("als_cg", "als_cg", _options(X), (_grid(n, warps),), WARP * warps, args, shared)


def _grid(rows: int, warps: int = WARPS) -> int:
    """Blocks whose warps take a row each, one after another."""
    return min(-(-rows // warps), BLOCKS * limits().processors)


def _solve_split(problem: _Problem, rows: NDArray[np.int64]) -> None:
    """Solve for rows of any number of entries and factors, shared out to warps by chunks of entries."""
    indptr, X = problem.counts.indptr, problem.X
    lengths = indptr[rows + 1] - indptr[rows]
    empty = rows[lengths == 0]
    if len(empty):
        X[cp.asarray(empty)] = 0
    rows, lengths = rows[lengths > 0], lengths[lengths > 0]
    width = _stride(X.shape[1], np.dtype(np.float32))
    for run in _runs(4 * width * (6 + -(-lengths // CHUNK)), WORK_BYTES):
        _solve_batch(problem, rows[run])


def _solve_batch(problem: _Problem, rows: NDArray[np.int64]) -> None:
    X, n, factors = problem.X, len(rows), problem.X.shape[1]
    width = _stride(factors, np.dtype(np.float32))
    ids = cp.asarray(rows)
    first, owners, starts, stops = map(cp.asarray, _chunks(problem.counts.indptr, rows))
    x, residual, direction, product = (cp.zeros((n, width), dtype=np.float32) for _ in range(4))
    x[:, :factors] = X[ids]
    diag, squares = problem.diag[ids], cp.empty(n, dtype=np.float32)
    partial = cp.empty((len(owners), width), dtype=np.float32)
    tiles = (-(-factors // TILE), -(-n // TILE))
    panels = _panels(factors)
    for step in range(problem.steps + 1):
        V, is_first = (direction, 0) if step else (x, 1)
        args: tuple[Any, ...] = (V, np.int32(n), problem.gram, NULL, np.int32(factors), product, np.int64(width))
        launch("matrix", "product", {"FACTORS": factors, "HALF": 0}, tiles, TILE_THREADS, args)
        args = (
            *(np.int32(len(owners)), owners, starts, stops, *problem.entry_args),
            *(V, _padded(problem.Y), np.int32(is_first), partial),
        )
        launch("als_split", "als_chunks", _options(X), (_grid(len(owners)), panels), WARP * WARPS, args)
        args = (first, partial, diag, np.int32(is_first), product, x, residual, direction, squares)
        launch("als_split", "als_step", _options(X), (n,), STEP_THREADS, args)
    X[ids] = x[:, :factors]


def _panels(factors: int) -> int:
    """Parts of a row that als_chunks sums up one by one."""
    vectors = -(-factors // 4)
    team = 8 if vectors <= 8 else 16 if vectors <= 16 else 32
    return -(-vectors // (min(-(-vectors // team), 8) * team))


def stored_error(counts: Counts, X: Factors, Y: Factors, policy: Policy, num_threads: int = 0) -> float:
    """Σ of what the stored entries add to the squared error; see :func:`implicit_core._arrays.stored_error`."""
    problem = _Problem(to_device(counts), X, Y, None, None, policy, 0)
    chunks = -(-np.diff(counts.indptr) // CHUNK)
    return sum(_error_of(problem, np.arange(run.start, run.stop)) for run in _runs(32 * chunks, WORK_BYTES))


def _error_of(problem: _Problem, rows: NDArray[np.int64]) -> float:
    """What the entries of consecutive rows add."""
    _, owners, starts, stops = map(cp.asarray, _chunks(problem.counts.indptr, rows))
    if len(owners) == 0:
        return 0.0
    owners += np.int32(rows[0])
    errors = cp.empty(len(owners), dtype=np.float64)
    args = (
        *(np.int32(len(owners)), owners, starts, stops, *problem.entry_args),
        *(_padded(problem.X), _padded(problem.Y), errors),
    )
    launch("loss", "stored_error", _options(problem.X), (_grid(len(owners)),), WARP * WARPS, args)
    return float(errors.sum())


# The best items


def prepare(
    items: Factors, ids: Ids | None = None, *, cosine: bool = False, queries: int = 0, num_threads: int = 0
) -> Index:
    """Candidates for ``topk``; see :func:`implicit_core._arrays.prepare`."""
    chosen: Any = None if ids is None else cp.asarray(np.asarray(ids, dtype=np.int32))
    if not cosine:
        return Index(items, chosen, cosine)
    norms = (squared_norms(items) ** 0.5).astype(np.float32)
    norms[norms == 0] = np.float32(ZERO_NORM)
    return Index(items, chosen, cosine, norms=norms if chosen is None else norms[chosen])


def topk(
    queries: Factors,
    index: Index,
    k: int,
    *,
    exclude: Counts | None = None,
    drop: NDArray[np.int32] | None = None,
    num_threads: int = 0,
) -> tuple[NDArray[np.int32], Scores]:
    """The exact k best candidates per query, on the host; see :func:`implicit_core._arrays.topk`."""
    n, columns = len(queries), len(index.factors if index.ids is None else index.ids)
    ids, scores = np.full((n, k), -1, dtype=np.int32), np.full((n, k), np.finfo(np.float32).min, dtype=np.float32)
    found = min(k, columns)
    if n == 0 or found == 0:
        return ids, scores
    dropped = (NULL, np.int32(0)) if drop is None else (cp.asarray(drop), np.int32(len(drop)))
    queries = _padded(writable(queries, np.float32))
    for rows in _pieces(n, _each_query(columns, found), MOST_GRID_Y):
        excluded = (NULL, NULL) if exclude is None else _pairs(exclude, rows)
        best = _best(queries[rows], index, columns, found, (*excluded, *dropped))
        ids[rows, :found], scores[rows, :found] = (part.get() for part in best)
        del best, excluded  # before the next ones come
    return ids, scores


def _each_query(columns: int, k: int) -> int:
    """Bytes of work space for a query."""
    return 4 * (columns + 7) + (16 * k if _selects(k) else 24 * columns + 16 * k)


def _selects(k: int) -> bool:
    """Whether so few results are wanted that a block keeps them in shared memory."""
    return k <= TOPK_KEYS - TOPK_STEP


def _best(queries: Any, index: Index, columns: int, k: int, excluded: tuple[Any, ...]) -> tuple[Any, Any]:
    """Ids and scores of the k best candidates per query, on the device."""
    pitch = -(-columns // 8) * 8
    table = cp.empty((len(queries), pitch), dtype=np.float32)
    tiles = (-(-columns // TILE), -(-len(queries) // TILE))
    candidates = NULL if index.ids is None else index.ids
    items = (_padded(index.factors), candidates, np.int32(columns))
    args = (queries, np.int32(len(queries)), *items, table, np.int64(pitch))
    launch("matrix", "product", _options(index.factors), tiles, TILE_THREADS, args)
    given = (candidates, NULL if index.norms is None else index.norms, *excluded)
    return (_select if _selects(k) else _sort)(table, columns, k, given)


def _pairs(exclude: Counts, rows: slice) -> tuple[Any, Any]:
    """Where rows of a matrix have entries: row pointers and columns."""
    indptr = exclude.indptr[rows.start : rows.stop + 1]
    return cp.asarray(indptr - indptr[0]), cp.asarray(exclude.indices[indptr[0] : indptr[-1]])


def _select(table: Any, columns: int, k: int, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """The k best columns of each row of scores in one pass, by several blocks a row where there are few rows."""
    n, pitch = table.shape
    capacity = 1 << (k + TOPK_STEP - 1).bit_length()
    parts = max(1, min(4 * limits().processors // n, -(-columns // (4 * TOPK_STEP))))
    length = -(-columns // (4 * parts)) * 4
    parts = -(-columns // length)
    keys = cp.empty((n, parts * k), dtype=np.uint64)
    ids, scores = cp.empty((n, k), dtype=np.int32), cp.empty((n, k), dtype=np.float32)
    args: tuple[Any, ...] = (table, np.int64(pitch), np.int32(columns), np.int32(length), *given)
    args = (*args, np.int32(k), np.int32(capacity), keys)
    launch("topk", "topk_select", {}, (parts, n), TOPK_THREADS, args, 8 * capacity)
    args = (keys, np.int32(parts * k), np.int32(k), np.int32(capacity), ids, scores)
    launch("topk", "topk_merge", {}, (n,), TOPK_THREADS, args, 8 * capacity)
    return ids, scores


def _sort(table: Any, columns: int, k: int, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """The k best columns of each row of scores by a sort, for a large k."""
    n, pitch = table.shape
    keys = cp.empty((n, columns), dtype=np.uint64)
    args: tuple[Any, ...] = (table, np.int64(pitch), np.int32(columns), *given, keys)
    launch("topk", "topk_keys", {}, (-(-columns // TOPK_THREADS), n), TOPK_THREADS, args)
    best = cp.ascontiguousarray(cp.sort(keys, axis=1)[:, ::-1][:, :k])
    ids, scores = cp.empty((n, k), dtype=np.int32), cp.empty((n, k), dtype=np.float32)
    blocks = min(-(-n * k // TOPK_THREADS), BLOCKS * limits().processors)
    launch("topk", "topk_scores", {}, (blocks,), TOPK_THREADS, (best, np.int64(n * k), ids, scores))
    return ids, scores


# Bayesian personalized ranking


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
    """An epoch of steps in place, of the draws of :func:`implicit_core._arrays.bpr_epoch`, in no fixed order."""
    entries = len(users)
    if entries == 0:
        return 0, 0
    counts = to_device(counts)
    found = cp.zeros(2, dtype=np.uint64)
    args = (
        *(np.uint64(key), np.uint32(epoch), np.int64(0), np.int64(entries)),
        *(counts.starts, counts.owners, counts.columns, np.int64(entries), _padded(X), _padded(Y)),
        *(np.float32(learning_rate), np.float32(regularization), np.int32(verify), found),
    )
    launch("bpr", "bpr", {"FACTORS": X.shape[1]}, (_grid(entries),), WARP * WARPS, args)
    correct, skipped = found.get().tolist()
    return correct, skipped
