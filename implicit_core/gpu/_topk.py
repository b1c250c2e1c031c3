"""Launches of ``topk.cu``: the best items."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._typing import Counts, Factors, Ids, Index, Scores
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._factors import norms, options, padded, writable
from implicit_core.gpu._matrix import product
from implicit_core.gpu._modules import NULL, launch, limits
from implicit_core.gpu._work import BLOCKS, MOST_GRID_Y, pieces

THREADS = 256
STEP = 1024  #: columns that a block of topk_select looks at between two sorts at least
KEYS = 4096  #: that fit into the shared memory of a block


def prepare(
    items: Factors, ids: Ids | None = None, *, cosine: bool = False, queries: int = 0, num_threads: int = 0
) -> Index:
    """Candidates for ``topk``; see :func:`implicit_core._arrays.prepare`."""
    chosen: Any = None if ids is None else cp.asarray(np.asarray(ids, dtype=np.int32))
    if not cosine:
        return Index(items, chosen, cosine)
    lengths = norms(items)
    return Index(items, chosen, cosine, norms=lengths if chosen is None else lengths[chosen])


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
    queries = padded(writable(queries, np.float32))
    for rows in pieces(n, _each_query(columns, found), MOST_GRID_Y):
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
    return k <= KEYS - STEP


def _best(queries: Any, index: Index, columns: int, k: int, excluded: tuple[Any, ...]) -> tuple[Any, Any]:
    """Ids and scores of the k best candidates per query, on the device."""
    table = cp.empty((len(queries), -(-columns // 8) * 8), dtype=np.float32)
    product(queries, padded(index.factors), options(index.factors), columns, table, index.ids)
    given = (NULL if index.ids is None else index.ids, NULL if index.norms is None else index.norms, *excluded)
    return (_select if _selects(k) else _sort)(table, columns, k, given)


def _pairs(exclude: Counts, rows: slice) -> tuple[Any, Any]:
    """Where rows of a matrix have entries: row pointers and columns."""
    indptr = exclude.indptr[rows.start : rows.stop + 1]
    return cp.asarray(indptr - indptr[0]), cp.asarray(exclude.indices[indptr[0] : indptr[-1]])


def _select(table: Any, columns: int, k: int, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """The k best columns of each row of scores in one pass, by several blocks a row where there are few rows."""
    n, pitch = table.shape
    capacity = 1 << (k + STEP - 1).bit_length()
    parts = max(1, min(4 * limits().processors // n, -(-columns // (4 * STEP))))
    length = -(-columns // (4 * parts)) * 4
    parts = -(-columns // length)
    keys = cp.empty((n, parts * k), dtype=np.uint64)
    ids, scores = cp.empty((n, k), dtype=np.int32), cp.empty((n, k), dtype=np.float32)
    args: tuple[Any, ...] = (table, np.int64(pitch), np.int32(columns), np.int32(length), *given)
    args = (*args, np.int32(k), np.int32(capacity), keys)
    launch("topk", "topk_select", {}, (parts, n), THREADS, args, 8 * capacity)
    args = (keys, np.int32(parts * k), np.int32(k), np.int32(capacity), ids, scores)
    launch("topk", "topk_merge", {}, (n,), THREADS, args, 8 * capacity)
    return ids, scores


def _sort(table: Any, columns: int, k: int, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """The k best columns of each row of scores by a sort, for a large k."""
    n, pitch = table.shape
    keys = cp.empty((n, columns), dtype=np.uint64)
    args: tuple[Any, ...] = (table, np.int64(pitch), np.int32(columns), *given, keys)
    launch("topk", "topk_keys", {}, (-(-columns // THREADS), n), THREADS, args)
    best = cp.ascontiguousarray(cp.sort(keys, axis=1)[:, ::-1][:, :k])
    ids, scores = cp.empty((n, k), dtype=np.int32), cp.empty((n, k), dtype=np.float32)
    blocks = min(-(-n * k // THREADS), BLOCKS * limits().processors)
    launch("topk", "topk_scores", {}, (blocks,), THREADS, (best, np.int64(n * k), ids, scores))
    return ids, scores
