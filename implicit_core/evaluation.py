"""Splits of a data set into training and test, and metrics of the rankings that a model gives.

The metrics are those of ``implicit``, under its names. With N users that have test items L_u, the K items r_1 … r_K
that the model ranks first for a user, training items filtered, and h_i = 1 where r_i is a hit, which is a member of L_u
that has not come before in the list:

- ``precision = Σ_u Σ_i h_i / Σ_u min(K, |L_u|)``. Unlike the textbook's, it is capped: 1 is always within reach, and a
  user with many test items weighs more.
- ``map = 1/N Σ_u [Σ_i h_i (h_1 + … + h_i) / i] / min(K, |L_u|)``
- ``ndcg = 1/N Σ_u [Σ_i h_i / log₂(i + 1)] / [Σ_{i ≤ min(K, |L_u|)} 1 / log₂(i + 1)]``
- ``auc = 1/N Σ_u [Σ_{i: r_i is a miss} (h_1 + … + h_i) + (n_u − misses) (hits + |L_u|) / 2] / (n_u |L_u|)``, where
  ``n_u = items − |L_u|``, which includes the training items. Beyond the K-th item hits and misses are taken to be in
  random order.

A stored entry of the test matrix is a test item, whatever its value. Users without test items count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from implicit_core._checks import check_count, check_number, check_threads
from implicit_core._matrices import as_csr, check_coo, check_sparse, to_counts
from implicit_core._progress import progress_bar
from implicit_core._typing import Ids, Matrix
from implicit_core.cpu import kernels
from implicit_core.matrix_factorization import MatrixFactorizationBase
from implicit_core.utils import check_random_state

__all__ = [
    "AUC_at_k",
    "leave_k_out_split",
    "mean_average_precision_at_k",
    "ndcg_at_k",
    "precision_at_k",
    "ranking_metrics_at_k",
    "train_test_split",
]

DRAWS = 2**15  #: random numbers that are made at a time
FOREIGN_BATCH = 1000  #: users per call of a model that may score all items of a batch at once
OWN_BATCH = 2**14  #: users per call of a model that bounds its memory itself; one packs its items per call
BATCH_RESULTS = 2**20  #: bound on the results of a batch


class Recommender(Protocol):
    """What the metrics ask of a model; one of a user's own will do."""

    def recommend(self, userids: NDArray[np.int32], user_items: Any, /, *, N: int) -> tuple[Any, Any]:
        """Ids, shape (len(userids), N) or narrower, and anything else; row r of ``user_items`` is of ``userids[r]``."""


# splits


def train_test_split(
    ratings: Any, train_percentage: float = 0.8, random_state: Any = None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Put each stored entry into the training or the test matrix at random.

    Each goes to training with probability ``train_percentage``, independently of the others.

    Parameters
    ----------
    ratings : sparse matrix or array, shape (users, items)
    train_percentage : float, default 0.8
        A probability from 0 to 1.
    random_state : None, int, SeedSequence, BitGenerator, Generator or RandomState
        An int gives the split that it gives in ``implicit``.

    Returns
    -------
    train, test : csr_matrix
        Of the shape and type of ``ratings``, float32 for float16. Entries of the same cell are added up. Entries of
        ``test`` that are not positive are left out; ``train`` keeps its own.

    Raises
    ------
    TypeError, ValueError
        ``ratings`` is not sparse or contradicts itself, or ``train_percentage`` is out of range.
    """
    share = check_number(train_percentage, "train_percentage")
    if not 0 <= share <= 1:
        raise ValueError(f"train_percentage must be a probability from 0 to 1, got {train_percentage}")
    check_sparse(ratings, "ratings")
    random = check_random_state(random_state)
    if ratings.format == "csr":
        ratings = as_csr(ratings, "ratings")
        train, test = _split(ratings, _draw(random, int(ratings.indptr[-1]), share))
    else:
        entries = check_coo(ratings, "ratings")
        in_train = _draw(random, len(entries.data), share)
        train, test = _entries(entries, in_train), _entries(entries, ~in_train)
    if test.nnz and not test.data.min() > 0:
        test.data[test.data < 0] = 0
        test.eliminate_zeros()
    return train, test


def leave_k_out_split(
    ratings: Any, K: int = 1, train_only_size: float = 0.0, random_state: Any = None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Move K entries of each user, drawn at random, into the test matrix.

    Only users with at least K + 2 entries take part; of these, ``train_only_size`` are drawn to have no test entries.

    Parameters
    ----------
    ratings : sparse matrix or array, shape (users, items)
    K : int, default 1
        Test entries per user.
    train_only_size : float, default 0.0
        Share of the users with enough entries that stay in training altogether, below 1. It is rounded down, but above
        0 it means at least one user.
    random_state : None, int, SeedSequence, BitGenerator, Generator or RandomState
        The same int gives the same split.

    Returns
    -------
    train, test : csr_matrix
        Of the shape and type of ``ratings`` (float32 for float16), which is their sum. Entries of the same cell are
        added up beforehand.

    Raises
    ------
    TypeError, ValueError
        ``ratings`` is not sparse or contradicts itself, or a parameter is out of range.
    """
    K = check_count(K, "K", 1)
    if not 0 <= check_number(train_only_size, "train_only_size") < 1:
        raise ValueError(f"train_only_size must be at least 0 and below 1, got {train_only_size}")
    matrix = _canonical(ratings, "ratings")
    random = check_random_state(random_state)
    indptr = matrix.indptr.astype(np.int64, copy=False)
    users = np.flatnonzero(np.diff(indptr) >= K + 2)
    K = K if len(users) else 0
    if train_only_size > 0:
        reserved = max(1, int(len(users) * train_only_size))
        users = np.sort(random.permutation(users)[reserved:])
    in_train = np.ones(indptr[-1], dtype=bool)
    in_train[_sample(indptr[users], indptr[users + 1], K, random)] = False
    return _split(matrix, in_train)


def _draw(random: np.random.Generator, n: int, probability: float) -> NDArray[np.bool_]:
    """Whether each of n uniform numbers is below ``probability``; they are made in pieces that stay in cache."""
    below = np.empty(n, dtype=bool)
    uniform = np.empty(min(n, DRAWS))
    for start in range(0, n, DRAWS):
        piece = below[start : start + DRAWS]
        np.less(random.random(out=uniform[: len(piece)]), probability, out=piece)
    return below


def _sample(starts: Ids, stops: Ids, K: int, random: np.random.Generator) -> Ids:
    """K different positions from each range, shape (K, ranges): the first K of a shuffle (Fisher & Yates)."""
    end = int(stops.max(initial=0))
    order = np.arange(end, dtype=np.int32 if end <= np.iinfo(np.int32).max else np.int64)
    drawn = np.empty((K, len(starts)), dtype=order.dtype)
    for j in range(K):
        other = random.integers(starts + j, stops)
        drawn[j] = order[other]
        order[other] = order[starts + j]
    return drawn


def _split(matrix: Matrix, in_train: NDArray[np.bool_]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """The entries of a CSR matrix that are in training, and the others."""
    stored = len(in_train)
    parts = kernels.split_entries(matrix.indptr, matrix.indices[:stored], matrix.data[:stored], in_train)
    train, test = (
        sparse.csr_matrix((values, indices, indptr), shape=matrix.shape, copy=False)
        for indptr, indices, values in parts
    )
    for part in (train, test):
        if matrix.has_canonical_format:
            part.has_canonical_format = True
        else:
            part.sum_duplicates()
    return train, test


def _entries(matrix: sparse.coo_matrix, chosen: NDArray[np.bool_]) -> sparse.csr_matrix:
    """Chosen entries of a COO matrix, added up by cell."""
    cells = matrix.row[chosen], matrix.col[chosen]
    return sparse.csr_matrix((matrix.data[chosen], cells), shape=matrix.shape)


def _canonical(matrix: Any, name: str) -> Matrix:
    """A sparse matrix as CSR with rising columns and one entry per cell; the matrix given does not change."""
    csr = as_csr(matrix, name)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


# metrics


def precision_at_k(
    model: Recommender,
    train_user_items: Any,
    test_user_items: Any,
    K: int = 10,
    show_progress: bool = True,
    num_threads: int = 1,
) -> float:
    """Compute the share of the hits that were possible, over all users: Σ hits / Σ min(K, number of test items).

    Parameters, returns and errors are those of :func:`ranking_metrics_at_k`.
    """
    return ranking_metrics_at_k(model, train_user_items, test_user_items, K, show_progress, num_threads)["precision"]


def mean_average_precision_at_k(
    model: Recommender,
    train_user_items: Any,
    test_user_items: Any,
    K: int = 10,
    show_progress: bool = True,
    num_threads: int = 1,
) -> float:
    """Compute the mean over users of [Σ over hits at rank i of (hits up to i) / i] / min(K, number of test items).

    Parameters, returns and errors are those of :func:`ranking_metrics_at_k`.
    """
    return ranking_metrics_at_k(model, train_user_items, test_user_items, K, show_progress, num_threads)["map"]


def ndcg_at_k(
    model: Recommender,
    train_user_items: Any,
    test_user_items: Any,
    K: int = 10,
    show_progress: bool = True,
    num_threads: int = 1,
) -> float:
    """Compute the mean over users of the discounted gain of the hits, Σ 1 / log₂(rank + 1), over that of the best list.

    Parameters, returns and errors are those of :func:`ranking_metrics_at_k`.
    """
    return ranking_metrics_at_k(model, train_user_items, test_user_items, K, show_progress, num_threads)["ndcg"]


def AUC_at_k(
    model: Recommender,
    train_user_items: Any,
    test_user_items: Any,
    K: int = 10,
    show_progress: bool = True,
    num_threads: int = 1,
) -> float:
    """Compute the mean over users of the share of (test item, other item) pairs in the right order.

    Items beyond the K-th are taken to be in random order. Parameters, returns and errors are those of
    :func:`ranking_metrics_at_k`.
    """
    return ranking_metrics_at_k(model, train_user_items, test_user_items, K, show_progress, num_threads)["auc"]


def ranking_metrics_at_k(
    model: Recommender,
    train_user_items: Any,
    test_user_items: Any,
    K: int = 10,
    show_progress: bool = True,
    num_threads: int = 1,
) -> dict[str, float]:
    """Compute precision, MAP, NDCG and AUC of the K items that a model ranks first; the module has the formulas.

    Parameters
    ----------
    model : object with a method ``recommend(userids, user_items, N=K)``
        Any model. The method gets an array of at most 1000 user ids (16384 for a matrix factorization of this package)
        and a csr_matrix with their rows of ``train_user_items``. It returns a pair whose first part holds integers,
        shape (len(userids), K) or narrower, best first. Ids of −1, or that came before, fill places: they are misses,
        of which a list has no more than there are items to miss. A narrower result is a shorter list.
    train_user_items : sparse matrix or array, shape (users, items)
        What to rank last for each user.
    test_user_items : sparse matrix or array, shape (users, items)
        The items to find.
    K : int, default 10
        Length of the lists. With more than there are items, the lists end with the items.
    show_progress : bool, default True
        Show a progress bar of users.
    num_threads : int, default 1
        Threads that count hits; 0 means all that this process may use, negative counts from the end. The model uses
        its own number. The results are the same bits for any.

    Returns
    -------
    metrics : dict
        Keys ``precision``, ``map``, ``ndcg`` and ``auc``; floats from 0 to 1. Where no user has a test item, all are
        0. A user who has every item in the test has no pair to order and does not count for the AUC, which is 0 if
        there is no other.

    Raises
    ------
    TypeError
        A matrix is not sparse, or the model returned something else than integers.
    ValueError
        K is below 1, a matrix contradicts itself, ``train_user_items`` lacks the row of a user with test items, or the
        model returned another number of rows than it was given ids.
    """
    K = check_count(K, "K", 1)
    check_threads(num_threads)
    test = to_counts(_canonical(test_user_items, "test_user_items"))
    train = sparse.csr_matrix(as_csr(train_user_items, "train_user_items"))
    K = min(K, max(train.shape[1], test.shape[1], BATCH_RESULTS))  # more would only be empty places
    sizes = np.diff(test.indptr)
    users = np.flatnonzero(sizes)
    if len(users) and users[-1] >= train.shape[0]:
        raise ValueError(
            f"train_user_items must have a row for each user of test_user_items ({test.shape[0]}), "
            f"got {train.shape[0]} rows"
        )
    # rows without entries drop out of indptr, so that row r is that of users[r]
    relevant = test._replace(indptr=np.append(test.indptr[users], test.indptr[-1]), shape=(len(users), test.shape[1]))
    sizes = sizes[users]
    totals = _Totals(*np.zeros((4, len(users))))
    with progress_bar(len(users), show_progress) as progress:
        for batch in _batches(model, len(users), K):
            ids = users[batch].astype(np.int32)
            ranked = _check_ranked(model.recommend(ids, train[ids], N=K)[0], len(ids), K)
            rows = relevant._replace(indptr=relevant.indptr[batch.start : batch.stop + 1])
            counts = kernels.ranking_counts(ranked, rows, num_threads)
            for total, part in zip(totals, _measure(counts, sizes[batch], relevant.shape[1], K), strict=True):
                total[batch] = part
            progress.update(len(ids))
    ordered = sizes < test.shape[1]
    return {
        "precision": _ratio(totals.hits, np.minimum(sizes, K)),
        "map": _ratio(totals.average_precision, np.ones(len(users))),
        "ndcg": _ratio(totals.gain, np.ones(len(users))),
        "auc": _ratio(totals.area[ordered], np.ones(np.count_nonzero(ordered))),
    }


class _Totals(NamedTuple):
    """Of each user."""

    hits: NDArray[Any]
    average_precision: NDArray[np.float64]
    gain: NDArray[np.float64]
    area: NDArray[np.float64]


def _batches(model: Recommender, users: int, K: int) -> Iterator[slice]:
    size = OWN_BATCH if isinstance(model, MatrixFactorizationBase) else FOREIGN_BATCH
    size = max(1, min(size, BATCH_RESULTS // K))
    return (slice(start, min(start + size, users)) for start in range(0, users, size))


def _check_ranked(ranked: Any, n: int, K: int) -> Ids:
    """What a model returned as ids, as an array of at most K columns."""
    try:
        ids: Ids = np.asarray(ranked)
    except (TypeError, ValueError) as error:
        raise TypeError(f"recommend must return an array of ids, got {type(ranked).__name__}: {error}") from error
    if ids.ndim != 2 or len(ids) != n:
        raise ValueError(f"recommend must return ids of shape ({n}, {K}) for {n} userids, got shape {ids.shape}")
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"recommend must return integer ids, got {ids.dtype} values")
    return ids[:, :K]


def _measure(counts: NDArray[np.int32], sizes: Ids, items: int, K: int) -> _Totals:
    """Metrics of users with ``sizes`` test items, given the hits up to each rank."""
    rank = np.arange(1, counts.shape[1] + 1)
    discount = 1 / np.log2(np.arange(2, K + 2))
    hit = np.diff(counts, axis=1, prepend=0) > 0
    hits = np.count_nonzero(hit, axis=1)
    possible = np.minimum(sizes, K)
    negatives = items - sizes
    miss = ~hit & (rank - counts <= negatives[:, None])
    unranked = negatives - np.count_nonzero(miss, axis=1)
    in_order = (counts * miss).sum(axis=1) + unranked * (hits + sizes) / 2
    return _Totals(
        hits,
        (hit * counts / rank).sum(axis=1) / possible,
        (hit * discount[: len(rank)]).sum(axis=1) / np.cumsum(discount)[possible - 1],
        in_order / np.maximum(negatives * sizes, 1),
    )


def _ratio(numerators: NDArray[Any], denominators: NDArray[Any]) -> float:
    """Ratio of two sums, 0 of nothing."""
    return float(numerators.sum() / denominators.sum()) if len(numerators) else 0.0
