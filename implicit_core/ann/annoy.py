"""Approximate nearest neighbours by annoy: forests of random projections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._checks import check_count
from implicit_core._typing import Ids
from implicit_core.ann._base import ApproximateModel, build_threads
from implicit_core.matrix_factorization import MatrixFactorizationBase

QUERY_LENGTH = 10.0  #: makes trees split a query by its inner products rather than by its distances


class AnnoyModel(ApproximateModel):
    """A model of factors that looks items up in trees of annoy.

    Candidates come from a forest of random projection trees, of directions for ``similar_items``. For ``recommend`` it
    is one of items that the transformation of Bachrach et al. (2014) has made equally long.
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
    n_trees : int, default 50
        Number of trees. More find better neighbours and take more memory.
    search_k : int, default -1
        How many nodes to look at for a query; −1 means ``n_trees`` for each candidate asked for.
    deterministic : bool, default True
        Build the trees on one thread, so that they are the same each time. False uses the threads of the model.

    Notes
    -----
    Y. Bachrach, Y. Finkelstein, R. Gilad-Bachrach, L. Katzir, N. Koenigstein, N. Nice, U. Paquet, "Speeding up the Xbox
    recommender system using a Euclidean transformation for inner-product spaces", RecSys 2014.
    """

    _backend = ("annoy", "annoy")
    _overfetch = 4  # the nearest few are found badly where items differ much in length

    def __init__(
        self,
        model: MatrixFactorizationBase,
        approximate_similar_items: bool = True,
        approximate_recommend: bool = True,
        n_trees: int = 50,
        search_k: int = -1,
        *,
        deterministic: bool = True,
    ) -> None:
        super().__init__(model, approximate_similar_items, approximate_recommend)
        self.n_trees = n_trees
        self.search_k = search_k
        self.deterministic = deterministic

    def _check_parameters(self) -> None:
        check_count(self.n_trees, "n_trees", 1)
        check_count(self.search_k, "search_k", -1)

    def _build(self, vectors: NDArray[np.float32], cosine: bool) -> Any:
        annoy = self._import()
        index = annoy.AnnoyIndex(vectors.shape[1], "angular" if cosine else "euclidean")
        for position, vector in enumerate(vectors):
            index.add_item(position, vector)
        index.build(self.n_trees, n_jobs=build_threads(self.model, self.deterministic))
        return index

    def _nearest(self, index: Any, queries: NDArray[np.float32], k: int, threads: int) -> Ids:
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        for row, query in zip(positions, QUERY_LENGTH * queries, strict=True):
            found = index.get_nns_by_vector(query, k, self.search_k)
            row[: len(found)] = found
        return positions
