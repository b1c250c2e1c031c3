"""Approximate nearest neighbours by faiss: inverted lists of clusters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._checks import check_count
from implicit_core._kernels import effective_threads
from implicit_core._typing import Ids
from implicit_core.ann._base import ApproximateModel
from implicit_core.matrix_factorization import MatrixFactorizationBase

ITEMS_PER_LIST = 39  #: what the clustering of faiss asks for
SCANNED = 16  #: how many vectors to scan at least for each that is asked for


class FaissModel(ApproximateModel):
    """A model of factors that looks items up in lists of faiss.

    Candidates come from the nearest of ``nlist`` clusters, of directions of items for ``similar_items``. For
    ``recommend`` they are clusters of items that the transformation of Bachrach et al. (2014) has made equally long.
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
    nlist : int, default 400
        Number of clusters, but at most one per 39 items.
    nprobe : int, default 20
        How many clusters to look into. As many more are as it takes to find 16 times as many items as are asked for.
    use_gpu : bool, optional
        The index is always on the CPU; True is an error.

    Notes
    -----
    Y. Bachrach, Y. Finkelstein, R. Gilad-Bachrach, L. Katzir, N. Koenigstein, N. Nice, U. Paquet, "Speeding up the Xbox
    recommender system using a Euclidean transformation for inner-product spaces", RecSys 2014.
    """

    _backend = ("faiss", "faiss-cpu")

    def __init__(
        self,
        model: MatrixFactorizationBase,
        approximate_similar_items: bool = True,
        approximate_recommend: bool = True,
        nlist: int = 400,
        nprobe: int = 20,
        use_gpu: bool | None = None,
    ) -> None:
        super().__init__(model, approximate_similar_items, approximate_recommend)
        if use_gpu:
            raise ValueError("use_gpu=True cannot be met: indexes of faiss are searched on the CPU; leave use_gpu out")
        self.nlist = nlist
        self.nprobe = nprobe
        self.use_gpu = use_gpu

    def _check_parameters(self) -> None:
        check_count(self.nlist, "nlist", 1)
        check_count(self.nprobe, "nprobe", 1)

    def _build(self, vectors: NDArray[np.float32], cosine: bool) -> Any:
        items, factors = vectors.shape
        lists = max(1, min(self.nlist, items // ITEMS_PER_LIST))
        faiss = self._import()
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(factors), factors, lists, faiss.METRIC_INNER_PRODUCT)
        with _openmp_threads(faiss, effective_threads(faiss.omp_get_max_threads())):
            index.train(vectors)
            index.add(vectors)
        return index

    def _nearest(self, index: Any, queries: NDArray[np.float32], k: int, threads: int) -> Ids:
        probes = min(index.nlist, max(self.nprobe, -(-SCANNED * k * index.nlist // index.ntotal)))
        faiss = self._import()
        with _openmp_threads(faiss, threads):
            _, positions = index.search(queries, k, params=faiss.SearchParametersIVF(nprobe=probes))
        return np.asarray(positions)


@contextmanager
def _openmp_threads(faiss: Any, threads: int) -> Iterator[None]:
    """Let faiss use so many threads: one in a forked child, where more would wait for each other without end."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
