"""Approximate nearest neighbours by usearch: hierarchical navigable small world graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._checks import check_count
from implicit_core._typing import Ids
from implicit_core.ann._base import ApproximateModel, build_threads
from implicit_core.matrix_factorization import MatrixFactorizationBase

DTYPES = ("f64", "f32", "bf16", "f16", "i8")


class UsearchModel(ApproximateModel):
    """A model of factors that looks items up in graphs of usearch.

    Candidates come from a hierarchical navigable small world graph (Malkov and Yashunin 2020) of directions for
    ``similar_items``. For ``recommend`` they come from two: one of items that the transformation of Bachrach et al.
    (2014) has made equally long, and one of items as they are. Where items differ much in length the first misses some
    of the best items, and the second those that come after them.
    Candidates are scored exactly; see :class:`~implicit_core.ann._base.ApproximateModel` for what goes to the wrapped
    model instead.

    Parameters
    ----------
    model : MatrixFactorizationBase
        The model to find items for, fitted or not.
    approximate_similar_items : bool, default True
        Whether ``similar_items`` uses an index; without it the call goes to ``model``.
    approximate_recommend : bool, default True
        Whether ``recommend`` uses an index.
    connectivity : int, default 16
        Edges per item and layer of the graph, at least 2.
    expansion_add : int, default 128
        How many candidates are looked at to insert an item.
    expansion_search : int, default 64
        How many candidates are looked at to answer a query, if that is more than are asked for. More find better
        neighbours and take longer.
    dtype : {"f32", "f64", "bf16", "f16", "i8"}, default "f32"
        What the index stores; scores do not depend on it.
    deterministic : bool, default True
        Build the graph on one thread, so that it is the same each time. False uses the threads of the model.

    Notes
    -----
    Y. A. Malkov, D. A. Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable
    small world graphs", IEEE Transactions on Pattern Analysis and Machine Intelligence 42(4), 2020.
    Y. Bachrach, Y. Finkelstein, R. Gilad-Bachrach, L. Katzir, N. Koenigstein, N. Nice, U. Paquet, "Speeding up the Xbox
    recommender system using a Euclidean transformation for inner-product spaces", RecSys 2014.
    """

    _backend = ("usearch.index", "usearch")
    _overfetch = 2
    _inner_product = True

    def __init__(
        self,
        model: MatrixFactorizationBase,
        approximate_similar_items: bool = True,
        approximate_recommend: bool = True,
        connectivity: int = 16,
        expansion_add: int = 128,
        expansion_search: int = 64,
        dtype: str = "f32",
        *,
        deterministic: bool = True,
    ) -> None:
        super().__init__(model, approximate_similar_items, approximate_recommend)
        self.connectivity = connectivity
        self.expansion_add = expansion_add
        self.expansion_search = expansion_search
        self.dtype = dtype
        self.deterministic = deterministic

    def _check_parameters(self) -> None:
        check_count(self.connectivity, "connectivity", 2)
        check_count(self.expansion_add, "expansion_add", 1)
        check_count(self.expansion_search, "expansion_search", 1)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")

    def _build(self, vectors: NDArray[np.float32], cosine: bool) -> Any:
        usearch = self._import()
        index = usearch.Index(
            ndim=vectors.shape[1],
            metric="ip",
            dtype=self.dtype,
            connectivity=self.connectivity,
            expansion_add=self.expansion_add,
            expansion_search=self.expansion_search,
        )
        index.add(np.arange(len(vectors)), vectors, threads=build_threads(self.model, self.deterministic))
        return index

    def _nearest(self, index: Any, queries: NDArray[np.float32], k: int, threads: int) -> Ids:
        if len(queries) == 1:  # of which usearch makes results of another shape
            keys = index.search(queries[0], k, threads=1).keys.astype(np.int64)
            return np.append(keys, np.full(k - len(keys), -1))[None]
        matches = index.search(queries, k, threads=threads)
        found = np.arange(k) < np.asarray(matches.counts)[:, None]
        return np.where(found, matches.keys.astype(np.int64), -1)
