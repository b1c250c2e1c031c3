"""Alternating least squares with approximate nearest neighbours, each a model of :mod:`implicit_core.ann` around it.

These functions need the library of their index only when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from implicit_core.als import AlternatingLeastSquares

if TYPE_CHECKING:
    from implicit_core.ann.annoy import AnnoyModel
    from implicit_core.ann.faiss import FaissModel
    from implicit_core.ann.nmslib import NMSLibModel
    from implicit_core.ann.usearch import UsearchModel

__all__ = [
    "AnnoyAlternatingLeastSquares",
    "FaissAlternatingLeastSquares",
    "NMSLibAlternatingLeastSquares",
    "UsearchAlternatingLeastSquares",
]


def UsearchAlternatingLeastSquares(
    *args: Any,
    approximate_similar_items: bool = True,
    approximate_recommend: bool = True,
    connectivity: int = 16,
    expansion_add: int = 128,
    expansion_search: int = 64,
    index_dtype: str = "f32",
    use_gpu: bool | None = None,
    deterministic: bool = True,
    **kwargs: Any,
) -> UsearchModel:
    """Give a :class:`~implicit_core.ann.usearch.UsearchModel` of a new ``AlternatingLeastSquares``.

    Parameters
    ----------
    *args, use_gpu, **kwargs
        Parameters of ``AlternatingLeastSquares``.
    approximate_similar_items, approximate_recommend, connectivity, expansion_add, expansion_search, deterministic
        Parameters of ``UsearchModel``, as is ``index_dtype`` under the name ``dtype``.
    """
    from implicit_core.ann.usearch import UsearchModel

    return UsearchModel(
        AlternatingLeastSquares(*args, **{**kwargs, "use_gpu": use_gpu}),
        approximate_similar_items=approximate_similar_items,
        approximate_recommend=approximate_recommend,
        connectivity=connectivity,
        expansion_add=expansion_add,
        expansion_search=expansion_search,
        dtype=index_dtype,
        deterministic=deterministic,
    )


def NMSLibAlternatingLeastSquares(
    *args: Any,
    approximate_similar_items: bool = True,
    approximate_recommend: bool = True,
    method: str = "hnsw",
    index_params: dict[str, Any] | None = None,
    query_params: dict[str, Any] | None = None,
    use_gpu: bool | None = None,
    deterministic: bool = True,
    **kwargs: Any,
) -> NMSLibModel:
    """Give an :class:`~implicit_core.ann.nmslib.NMSLibModel` of a new ``AlternatingLeastSquares``.

    Parameters
    ----------
    *args, use_gpu, **kwargs
        Parameters of ``AlternatingLeastSquares``.
    approximate_similar_items, approximate_recommend, method, index_params, query_params, deterministic
        Parameters of ``NMSLibModel``.
    """
    from implicit_core.ann.nmslib import NMSLibModel

    return NMSLibModel(
        AlternatingLeastSquares(*args, **{**kwargs, "use_gpu": use_gpu}),
        approximate_similar_items=approximate_similar_items,
        approximate_recommend=approximate_recommend,
        method=method,
        index_params=index_params,
        query_params=query_params,
        deterministic=deterministic,
    )


def AnnoyAlternatingLeastSquares(
    *args: Any,
    approximate_similar_items: bool = True,
    approximate_recommend: bool = True,
    n_trees: int = 50,
    search_k: int = -1,
    use_gpu: bool | None = None,
    deterministic: bool = True,
    **kwargs: Any,
) -> AnnoyModel:
    """Give an :class:`~implicit_core.ann.annoy.AnnoyModel` of a new ``AlternatingLeastSquares``.

    Parameters
    ----------
    *args, use_gpu, **kwargs
        Parameters of ``AlternatingLeastSquares``.
    approximate_similar_items, approximate_recommend, n_trees, search_k, deterministic
        Parameters of ``AnnoyModel``.
    """
    from implicit_core.ann.annoy import AnnoyModel

    return AnnoyModel(
        AlternatingLeastSquares(*args, **{**kwargs, "use_gpu": use_gpu}),
        approximate_similar_items=approximate_similar_items,
        approximate_recommend=approximate_recommend,
        n_trees=n_trees,
        search_k=search_k,
        deterministic=deterministic,
    )


def FaissAlternatingLeastSquares(
    *args: Any,
    approximate_similar_items: bool = True,
    approximate_recommend: bool = True,
    nlist: int = 400,
    nprobe: int = 20,
    use_gpu: bool | None = None,
    **kwargs: Any,
) -> FaissModel:
    """Give a :class:`~implicit_core.ann.faiss.FaissModel` of a new ``AlternatingLeastSquares``.

    Parameters
    ----------
    *args, use_gpu, **kwargs
        Parameters of ``AlternatingLeastSquares``. The index is on the CPU wherever the factors are learnt.
    approximate_similar_items, approximate_recommend, nlist, nprobe
        Parameters of ``FaissModel``.
    """
    from implicit_core.ann.faiss import FaissModel

    return FaissModel(
        AlternatingLeastSquares(*args, **{**kwargs, "use_gpu": use_gpu}),
        approximate_similar_items=approximate_similar_items,
        approximate_recommend=approximate_recommend,
        nlist=nlist,
        nprobe=nprobe,
    )
