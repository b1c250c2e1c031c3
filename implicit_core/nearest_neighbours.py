"""Recommendations from the similarity of items, and weights of interactions from information retrieval."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix, csr_matrix

from implicit_core._checks import (
    aligned_rows,
    as_rows,
    check_count,
    check_number,
    check_one_or_many,
    check_selection,
    check_size,
    is_one,
    pairs,
)
from implicit_core._files import check_finite_entry, check_single_entries, is_mapped, set_state, write_npz
from implicit_core._matrices import check_csr, check_structure, finite_float64, to_counts
from implicit_core._nearest_neighbours import NearestNeighboursScorer, all_pairs_knn, neighbours, rank
from implicit_core._typing import Counts, Ids, Matrix, Scores
from implicit_core._weights import bm25_weight, normalize, tfidf_weight
from implicit_core.recommender_base import ModelFitError, ModelLoadError, NotFittedError, RecommenderBase

__all__ = [
    "BM25Recommender",
    "CosineRecommender",
    "ItemItemRecommender",
    "NearestNeighboursScorer",
    "TFIDFRecommender",
    "all_pairs_knn",
    "bm25_weight",
    "normalize",
    "tfidf_weight",
]

_MATRIX = ("shape", "data", "indptr", "indices")  #: what a file holds of ``similarity``


class ItemItemRecommender(RecommenderBase):
    r"""Recommend items that are similar to those that a user likes.

    An item j scores for a user u, with the stored values r of the row that is passed,

    .. math:: \hat r_{uj} = \sum_i r_{ui} s_{ij}, \qquad s_{ij} = \sum_u w_{ui} w_{uj}

    where row i of s keeps only its K largest entries, and w are the values that the model was fitted to, as they are.
    Subclasses weight them.

    Parameters
    ----------
    K : int, default 20
        How many neighbours of each item to keep, itself included.
    num_threads : int, default 0
        0 means all that this process may use; negative counts from the end, −1 = all. Results have the same bits for
        any number.

    Attributes
    ----------
    similarity : csr_matrix of float64, shape (items, items)
        s above; None before ``fit``. May be replaced by another.
    scorer : NearestNeighboursScorer
        What recommends from ``similarity``; None before ``fit``.
    user_items : csr_matrix or csr_array, shape (users, items)
        The matrix that the model was fitted to, for ``similar_users`` alone; kept as it is, not copied, and saved and
        pickled with the model. Set it to None to save that space, or to the matrix where a file holds none.

    Notes
    -----
    Only items that can be reached are recommended: those that are neighbours of a liked one. Liked items (if
    ``filter_already_liked_items``) and ``filter_items`` are left out, not ranked last. A call for one user returns as
    many as there are, up to N; a batch is filled up with id −1 and score −3.4e38, the lowest of float32. With
    ``items`` all of these are returned, whatever N is; those unreached or filtered come last with score −1.8e308.
    Ids are int32, scores float64.

    ``recommend`` always scores the row that is passed, so that users whom the model has not seen get recommendations
    too, and ``recalculate_user`` changes nothing. ``user_items`` is always needed.
    """

    _saved: ClassVar[tuple[str, ...]] = ("K", "num_threads")  #: names of the attributes that a file holds

    def __init__(self, K: int = 20, num_threads: int = 0) -> None:
        self.K = K
        self.num_threads = num_threads
        self.scorer: NearestNeighboursScorer | None = None
        self.user_items: Any = None
        self._users = 0  # how many the model was fitted to, if known
        self._cache: dict[str, Any] = {}  # derived from user_items; not pickled

    @property
    def similarity(self) -> Any:
        """Similarity of items, csr_matrix of shape (items, items); None before ``fit``."""
        return None if self.scorer is None else self.scorer.similarity

    @similarity.setter
    def similarity(self, similarity: Matrix | None) -> None:
        self.scorer = None if similarity is None else NearestNeighboursScorer(similarity)

    def fit(
        self,
        user_items: Matrix | None = None,
        show_progress: bool = True,
        callback: Callable[..., object] | None = None,
        *,
        weighted: Matrix | None = None,
        counts: Matrix | None = None,
    ) -> None:
        """Find the neighbours of each item.

        Parameters
        ----------
        user_items : csr_matrix or csr_array, shape (users, items)
            What each user did with each item. Other sparse formats are converted, with a ParameterWarning. Entries of
            the same cell are added up.
        show_progress : bool, default True
            Show a progress bar.
        callback : None
            There are no iterations after which to call it.
        weighted, counts : csr_matrix or csr_array
            Other names of ``user_items``, which ``implicit`` uses.

        Raises
        ------
        ModelFitError
            A value is NaN or infinite (the first is named), or a weight or similarity is.
        NotImplementedError
            A callback is given.
        """
        if callback:
            raise NotImplementedError(f"{type(self).__name__} has no iterations after which to call a callback")
        given = [matrix for matrix in (user_items, weighted, counts) if matrix is not None]
        if len(given) != 1:
            raise TypeError(f"fit needs user_items once, got it {len(given)} times")
        K = check_count(self.K, "K", 1)
        user_items = check_csr(given[0])
        matrix = finite_float64(user_items, "user_items")
        weights = csr_matrix((self._weights(matrix.tocoo().T).data, matrix.indices, matrix.indptr), shape=matrix.shape)
        found = neighbours(weights, K, self.num_threads, show_progress)
        similarity = csr_matrix((found.values, found.indices, found.indptr), shape=found.shape)
        similarity.sort_indices()
        if not np.isfinite(similarity.data).all():
            raise ModelFitError("similarities are too large for float64; scale the values of user_items down")
        self.similarity, self.user_items, self._users = similarity, user_items, matrix.shape[0]

    def _weights(self, vectors: coo_matrix) -> coo_matrix:
        """Weighted vectors, one in each row, which keep the order of their entries.

        Raises
        ------
        ModelFitError
            A weight is not finite.
        """
        try:
            return self._weighted(vectors)
        except ModelFitError as error:
            raise ModelFitError("the weights of user_items are not finite; scale its values down") from error

    def _weighted(self, vectors: coo_matrix) -> coo_matrix:
        return vectors

    def recommend(  # noqa: D102
        self,
        userid: int | ArrayLike,
        user_items: Matrix | None,
        N: int = 10,
        filter_already_liked_items: bool = True,
        filter_items: ArrayLike | None = None,
        recalculate_user: bool = False,
        items: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        scorer, n = self._fitted()
        N = check_size(N, "N")
        rows: Any = as_rows(user_items)
        if getattr(rows, "format", None) != "csr":
            raise ValueError(f"user_items must be a csr_matrix or csr_array, got {type(user_items).__name__}")
        ids = check_one_or_many(userid, sys.maxsize, "userid")
        rows = aligned_rows(rows, ids, (self._users, n), ("user_items", "userid"))
        only, drop = check_selection(items, filter_items, n, ("items", "filter_items"))
        return self._rank(
            scorer,
            pairs(rows),
            N if only is None else len(only),
            is_one(userid, "userid"),
            only,
            drop,
            exclude_liked=filter_already_liked_items,
        )

    def similar_items(
        self,
        itemid: int | ArrayLike,
        N: int = 10,
        recalculate_item: bool = False,
        item_users: Matrix | None = None,
        filter_items: ArrayLike | None = None,
        items: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        """Find the items most similar to one item or to each of many: the best of its K neighbours.

        Parameters
        ----------
        itemid : int or array of int
        N : int, default 10
            Number of results for each item, the item itself included.
        recalculate_item : bool, default False
            Not offered by this model.
        item_users : None
            Not used.
        filter_items : array of int, optional
            Items to leave out.
        items : array of int, optional
            Rank only these candidates; those that are no neighbours come last, with score −1.8e308. Not together with
            ``filter_items``.

        Returns
        -------
        ids : ndarray of int32
        scores : ndarray of float64, of the same shape
            Descending; equal scores by ascending id. One item has as many as there are, up to N; a batch is filled up
            with id −1 and score −3.4e38.

        Raises
        ------
        IndexError
            An id that the model does not know.
        NotImplementedError
            ``recalculate_item`` is set.
        """
        if recalculate_item:
            raise NotImplementedError(f"{type(self).__name__} cannot recalculate items; call fit")
        scorer, n = self._fitted()
        N = check_size(N, "N")
        ids = check_one_or_many(itemid, n, "itemid")
        only, drop = check_selection(items, filter_items, n, ("items", "filter_items"))
        # Who likes one item, once, is recommended its neighbours.
        liked = Counts(np.arange(len(ids) + 1), ids.astype(np.int32), np.ones(len(ids)), (len(ids), n))
        return self._rank(scorer, liked, N, is_one(itemid, "itemid"), only, drop)

    def similar_users(
        self,
        userid: int | ArrayLike,
        N: int = 10,
        filter_users: ArrayLike | None = None,
        users: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        """Find the users most similar to one user or to each of many.

        Users are weighted as the model weights items, each a vector of values given to items, and compared by the
        cosine of the angle between these vectors. Those who have an item in common count as similar, the user itself
        included, which comes first with score 1. The first call after ``fit`` weights and sorts the whole of
        ``user_items`` and keeps the result; later calls are fast.

        Parameters
        ----------
        userid : int or array of int
        N : int, default 10
            Number of results for each user, the user itself included.
        filter_users : array of int, optional
            Users to leave out.
        users : array of int, optional
            Rank only these candidates; those that have no item in common come last, with score −1.8e308. Not together
            with ``filter_users``.

        Returns
        -------
        ids : ndarray of int32
        scores : ndarray of float64, of the same shape
            As in :meth:`similar_items`.

        Raises
        ------
        IndexError
            An id that the model does not know.
        NotFittedError
            ``user_items`` is None, as after loading a file of ``implicit``.
        """
        self._fitted()
        N = check_size(N, "N")
        vectors, by_item = self._users_as_vectors()
        n = vectors.shape[0]
        ids = check_one_or_many(userid, n, "userid")
        only, drop = check_selection(users, filter_users, n, ("users", "filter_users"))
        found = rank(
            to_counts(vectors[ids]),
            by_item,
            N,
            only=None if only is None else only.astype(np.int32),
            drop=drop,
            num_threads=self.num_threads,
        )
        return _trimmed(*found, is_one(userid, "userid"))

    def _users_as_vectors(self) -> tuple[Matrix, Counts]:
        """Weighted users of unit length, and the same by item."""
        user_items = self.user_items
        if user_items is None:
            raise NotFittedError(
                f"this {type(self).__name__} knows nothing of its users, since it comes from a file without user_items "
                "(files of implicit have none) or they were taken away; set model.user_items to the users × items "
                "matrix that it was fitted to"
            )
        of, vectors, by_item = self._cache.get("users", (None, None, None))
        if of is not user_items:
            matrix = finite_float64(check_csr(user_items), "user_items")
            items = self._fitted()[1]
            if matrix.shape[1] != items:
                raise ValueError(f"user_items must have a column for each of {items} items, got {matrix.shape[1]}")
            vectors = normalize(self._weights(matrix.tocoo())).tocsr()
            by_item = to_counts(vectors.T.tocsr())
            self._cache["users"] = user_items, vectors, by_item
        return vectors, by_item

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    __setstate__ = set_state

    def _check_parameters(self) -> None:
        """Raise TypeError or ValueError for a parameter of the wrong kind or out of range."""
        for name in self._saved:
            (check_number if name in ("K1", "B") else check_count)(getattr(self, name), name, -sys.maxsize)
        check_count(self.K, "K", 1)

    def save(self, fileobj_or_path: Any) -> None:  # noqa: D102
        self._check_parameters()
        state = {name: getattr(self, name) for name in self._saved}
        if self.similarity is not None:
            state.update((name, getattr(self.similarity, name)) for name in _MATRIX)
            state["users"] = self._users
        if self.user_items is not None:
            matrix = check_csr(self.user_items)
            state.update((f"user_items_{name}", getattr(matrix, name)) for name in _MATRIX)
        write_npz(fileobj_or_path, state)

    def _restore(self, state: dict[str, Any]) -> None:
        if "K" not in state or any(name in state for name in ("factors", "user_factors", "item_factors")):
            raise ModelLoadError(f"the file holds no {type(self).__name__}")
        check_single_entries(state, self._saved)
        try:
            for name in self._saved:
                if name in state:
                    setattr(self, name, state[name])
            self._check_parameters()
        except (TypeError, ValueError) as error:
            raise ModelLoadError(f"the file holds a parameter that cannot be: {error}") from error
        try:
            self.similarity = _stored_matrix(state, "")
            self._users = check_count(state.get("users", 0), "users")
        except (KeyError, ValueError, TypeError) as error:
            raise ModelLoadError(f"the file must hold a square similarity matrix in {', '.join(_MATRIX)}") from error
        try:
            self.user_items = _stored_matrix(state, "user_items_")
            if self.user_items is not None and not is_mapped(self.user_items.data):
                check_structure(self.user_items, "user_items")
        except (KeyError, ValueError, TypeError) as error:
            raise ModelLoadError("the file must hold user_items as a sparse matrix") from error

    def _fitted(self) -> tuple[NearestNeighboursScorer, int]:
        """The scorer and the number of items."""
        if self.scorer is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit or load first")
        return self.scorer, self.scorer.similarity.shape[0]

    def _rank(
        self,
        scorer: NearestNeighboursScorer,
        liked: Counts,
        k: int,
        scalar: bool,
        only: NDArray[np.int64] | None,
        drop: NDArray[np.int32] | None,
        exclude_liked: bool = False,
    ) -> tuple[Ids, Scores]:
        """Best k items for each row of ``liked``, without padding for a single one."""
        found = scorer.rank(
            liked,
            k,
            exclude_liked=exclude_liked,
            only=None if only is None else only.astype(np.int32),
            drop=drop,
            num_threads=self.num_threads,
        )
        return _trimmed(*found, scalar)


class CosineRecommender(ItemItemRecommender):
    """Recommend by the cosine of the angle between items, each a vector of the values that users gave it.

    Everything else is as in :class:`ItemItemRecommender`.

    Parameters
    ----------
    K : int, default 20
        How many neighbours of each item to keep, itself included.
    num_threads : int, default 0
        0 means all that this process may use; negative counts from the end, −1 = all.
    """

    def _weighted(self, vectors: coo_matrix) -> coo_matrix:
        return normalize(vectors)


class TFIDFRecommender(ItemItemRecommender):
    """Recommend by the cosine between items weighted by :func:`tfidf_weight`, where an item is a document of users.

    Everything else is as in :class:`ItemItemRecommender`. A user who has all items but one tells nothing (the weight
    is 0), and nobody can be told apart by a user who has all.

    Parameters
    ----------
    K : int, default 20
        How many neighbours of each item to keep, itself included.
    num_threads : int, default 0
        0 means all that this process may use; negative counts from the end, −1 = all.
    """

    def _weighted(self, vectors: coo_matrix) -> coo_matrix:
        return normalize(tfidf_weight(vectors))


class BM25Recommender(ItemItemRecommender):
    """Recommend by the inner product of items weighted by :func:`bm25_weight`, where an item is a document of users.

    Everything else is as in :class:`ItemItemRecommender`.

    Parameters
    ----------
    K : int, default 20
        How many neighbours of each item to keep, itself included.
    K1 : float, default 1.2
        How slowly the weight of a growing value levels off.
    B : float, default 0.75
        From 0 (not at all) to 1: how much items with many interactions are scaled down.
    num_threads : int, default 0
        0 means all that this process may use; negative counts from the end, −1 = all.
    """

    _saved = ("K", "K1", "B", "num_threads")

    def __init__(self, K: int = 20, K1: float = 1.2, B: float = 0.75, num_threads: int = 0) -> None:
        super().__init__(K, num_threads)
        self.K1 = K1
        self.B = B

    def _weighted(self, vectors: coo_matrix) -> coo_matrix:
        return bm25_weight(vectors, self.K1, self.B)


def _stored_matrix(state: dict[str, Any], prefix: str) -> csr_matrix | None:
    """The matrix that a file holds under names with this prefix, if any."""
    names = [prefix + name for name in _MATRIX]
    if not any(name in state for name in names):
        return None
    shape, data, indptr, indices = (np.atleast_1d(state[name]) for name in names)
    if any(part.dtype.kind not in "iu" for part in (shape, indptr, indices)) or data.dtype.kind not in "biuf":
        raise TypeError("its arrays must hold numbers")
    if data.dtype.kind == "f":
        check_finite_entry({names[1]: data}, names[1])
    return csr_matrix((data, indices, indptr), shape=tuple(shape.tolist()))


def _trimmed(ids: Ids, scores: Scores, scalar: bool) -> tuple[Ids, Scores]:
    """Results as they are for many, without padding for a single one."""
    if not scalar:
        return ids, scores
    found = np.count_nonzero(ids >= 0)
    return ids[0, :found], scores[0, :found]
