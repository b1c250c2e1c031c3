"""Exact top-k by inner product, under the name of ``implicit.cpu.topk``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from implicit_core._arrays import ZERO_NORM
from implicit_core._checks import aligned_rows, check_memory, check_selection, check_size, check_threads, pairs
from implicit_core._matrices import real_array, real_matrix, to_csr
from implicit_core._typing import Factors, Scores
from implicit_core.cpu import kernels


def topk(
    items: Factors,
    query: Factors,
    k: int,
    item_norms: Factors | None = None,
    filter_query_items: Any = None,
    filter_items: ArrayLike | None = None,
    num_threads: int = 0,
) -> tuple[NDArray[np.int32], Scores]:
    """Find the ``k`` rows of ``items`` with the largest inner product with each query.

    Parameters
    ----------
    items : ndarray of float32 or float64, shape (items, factors)
    query : ndarray, shape (factors,) or (queries, factors)
    k : int
    item_norms : ndarray, shape (items,), optional
        Divide each score by the norm of its item.
    filter_query_items : csr_matrix or csr_array, shape (queries, items), optional
        Pairs to rank last.
    filter_items : array of int, optional
        Items to rank last for every query.
    num_threads : int, default 0

    Returns
    -------
    ids : ndarray of int32, shape (queries, k)
    scores : ndarray of the type of ``items``, of the same shape
        Descending, equal scores by ascending id; filtered pairs last with the lowest finite score, padding −1.

    Raises
    ------
    TypeError, ValueError, IndexError
        An argument is of the wrong kind, shape or range.
    """
    check_threads(num_threads)
    k = check_size(k, "k")
    items = real_matrix(items, "items")
    with np.errstate(over="ignore"):
        if items.dtype not in (np.float32, np.float64):
            items = items.astype(np.float32)
        queries = np.atleast_2d(real_array(query, "query")).astype(items.dtype, copy=False)
    if queries.ndim != 2 or items.shape[1] != queries.shape[1]:
        raise ValueError(f"items and query must have the same width, got shapes {items.shape} and {queries.shape}")
    if item_norms is not None:
        with np.errstate(over="ignore"):
            norms = real_array(item_norms, "item_norms").astype(items.dtype)
        if norms.shape != (len(items),):
            raise ValueError(f"item_norms must have shape {(len(items),)}, a norm for each item, got {norms.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            items = items / np.where(norms == 0, ZERO_NORM, norms)[:, None]
    exclude = None
    if filter_query_items is not None:
        matrix = to_csr(filter_query_items, "filter_query_items")
        names = ("filter_query_items", "query")
        exclude = pairs(aligned_rows(matrix, np.arange(len(queries)), (len(queries), len(items)), names))
    _, drop = check_selection(None, filter_items, len(items), ("items", "filter_items"))
    index = kernels.prepare(items, queries=len(queries), num_threads=num_threads)
    check_memory(len(queries) * k * (4 + items.itemsize), f"k={k} results for {len(queries)} queries", "ask for fewer")
    ids, scores = kernels.topk(queries, index, k, exclude=exclude, drop=drop, num_threads=num_threads)
    return ids, scores
