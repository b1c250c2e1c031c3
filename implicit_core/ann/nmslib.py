"""Approximate nearest neighbours by nmslib: by default hierarchical navigable small world graphs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._typing import Ids
from implicit_core.ann._base import ApproximateModel, build_threads
from implicit_core.matrix_factorization import MatrixFactorizationBase


class NMSLibModel(ApproximateModel):
    """A model of factors that looks items up in an index of nmslib.

    Candidates come from an index of directions for
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
    method : str, default "hnsw"
        Kind of index, under nmslib's name; "hnsw" is the graph of Malkov and Yashunin (2020).
    index_params : dict, optional
        Parameters to build the index with, default ``{"M": 16, "post": 0, "efConstruction": 400}``.
    query_params : dict, optional
        Parameters to search the index with, default ``{"ef": 90}``. Queries for more results than that, filtered items
        included and rounded up to a power of two, are answered exactly.
    deterministic : bool, default True
        Build the index on one thread, so that it is the same each time. False uses the threads of the model.
        ``indexThreadQty`` in ``index_params`` overrides both.

    Notes
    -----
    Y. A. Malkov, D. A. Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable
    small world graphs", IEEE Transactions on Pattern Analysis and Machine Intelligence 42(4), 2020.
    Y. Bachrach, Y. Finkelstein, R. Gilad-Bachrach, L. Katzir, N. Koenigstein, N. Nice, U. Paquet, "Speeding up the Xbox
    recommender system using a Euclidean transformation for inner-product spaces", RecSys 2014.
    """

    _backend = ("nmslib", "nmslib")
    _overfetch = 2
    _inner_product = True

    def __init__(
        self,
        model: MatrixFactorizationBase,
        approximate_similar_items: bool = True,
        approximate_recommend: bool = True,
        method: str = "hnsw",
        index_params: dict[str, Any] | None = None,
        query_params: dict[str, Any] | None = None,
        *,
        deterministic: bool = True,
    ) -> None:
        super().__init__(model, approximate_similar_items, approximate_recommend)
        self.method = method
        self.index_params = {"M": 16, "post": 0, "efConstruction": 400} if index_params is None else index_params
        self.query_params = {"ef": 90} if query_params is None else query_params
        self.deterministic = deterministic

    def _check_parameters(self) -> None:
        for name in ("index_params", "query_params"):
            if not isinstance(getattr(self, name), dict):
                raise TypeError(f"{name} must be a dict, got {getattr(self, name)!r}")

    def _build(self, vectors: NDArray[np.float32], cosine: bool) -> Any:
        nmslib = self._import()
        index = nmslib.init(method=self.method, space="negdotprod")
        index.addDataPointBatch(vectors)
        threads = {"indexThreadQty": build_threads(self.model, self.deterministic)}
        with ThreadPoolExecutor(1) as fresh:  # a thread's random numbers go on from index to index
            fresh.submit(index.createIndex, {**threads, **self.index_params}, print_progress=False).result()
        index.setQueryTimeParams(self.query_params)
        return index

    def _nearest(self, index: Any, queries: NDArray[np.float32], k: int, threads: int) -> Ids:
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        reach = min(k, self.query_params.get("ef", k))
        if k <= self._overfetch * reach:
            for row, (found, _) in zip(
                positions, index.knnQueryBatch(queries, reach, num_threads=threads), strict=True
            ):
                row[: len(found)] = found
        return positions
