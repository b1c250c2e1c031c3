"""Upstream's path of :class:`~implicit_core.matrix_factorization.MatrixFactorizationBase`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from implicit_core._matrices import check_csr
from implicit_core._typing import Matrix
from implicit_core.matrix_factorization import MatrixFactorizationBase

__all__ = ["MatrixFactorizationBase", "_filter_items_from_sparse_matrix"]


def _filter_items_from_sparse_matrix(items: ArrayLike, query_items: Matrix) -> Matrix:
    """Entries of ``query_items`` in the columns ``items``, moved to the columns 0, 1, … of their places in ``items``.

    Parameters
    ----------
    items : array of int
        Ascending.
    query_items : csr_matrix or csr_array, shape (queries, items)
        Not changed.

    Returns
    -------
    filtered : csr_matrix or csr_array
        As wide as ``query_items``, or as ``items`` is long if that is more.

    Raises
    ------
    TypeError, ValueError
        ``items`` is empty or does not ascend, or the matrix contradicts itself.
    """
    matrix = check_csr(query_items, "query_items")
    try:
        ids = np.asarray(items)
    except (TypeError, ValueError) as error:
        raise ValueError(f"items must be a sequence of one or more ascending ids, got {items!r}") from error
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or len(ids) == 0 or (ids[1:] < ids[:-1]).any():
        raise ValueError(f"items must be a sequence of one or more ascending ids, got {items!r}; sort them first")
    stored = matrix.indptr[-1]
    columns = matrix.indices[:stored]
    places = np.minimum(np.searchsorted(ids, columns), len(ids) - 1)
    kept = ids[places] == columns
    indptr = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr].astype(matrix.indptr.dtype)
    return type(matrix)(
        (matrix.data[:stored][kept], places[kept].astype(columns.dtype), indptr),
        shape=(matrix.shape[0], max(matrix.shape[1], len(ids))),
    )
