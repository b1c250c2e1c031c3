"""Kernels of the nearest-neighbour models against their definitions."""

from types import ModuleType

import numpy as np
import pytest
from scipy import sparse

from implicit_core import _arrays
from implicit_core._kernels import product_work
from implicit_core._matrices import to_counts
from implicit_core._typing import Counts
from implicit_core.cpu import kernels as cpu_kernels

LOWEST = np.finfo(np.float64).min
NO_SCORE = float(np.finfo(np.float32).min)


@pytest.fixture(params=[cpu_kernels, _arrays], ids=["cpu", "arrays"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def integers(rows: int, columns: int, seed: int, density: float = 0.2) -> Counts:
    """Small whole numbers, zeros stored among them: products are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    matrix = sparse.random(rows, columns, density, format="csr", random_state=seed)
    matrix.data = rng.integers(-2, 3, matrix.nnz).astype(np.float64)
    return to_counts(matrix)


def dense(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Values, and which cells are stored."""
    values, stored = np.zeros(counts.shape), np.zeros(counts.shape)
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    values[row, counts.indices], stored[row, counts.indices] = counts.values, 1
    return values, stored


def ranking(
    liked: Counts, similarity: Counts, k: int, exclude: bool, only: np.ndarray | None, drop: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """A full sort of dense products."""
    (left, stored), (right, links) = dense(liked), dense(similarity)
    scores, reached = left @ right, stored @ links > 0
    if exclude:
        reached &= stored == 0
    if drop is not None:
        reached[:, drop] = False
    ids, values = np.full((len(left), k), -1), np.full((len(left), k), NO_SCORE)
    for r in range(len(left)):
        candidates = np.flatnonzero(reached[r]) if only is None else only
        score = np.where(reached[r], scores[r], LOWEST)[candidates]
        best = np.lexsort((candidates, -score))[:k]
        ids[r, : len(best)], values[r, : len(best)] = candidates[best], score[best]
    return ids, values


@pytest.mark.parametrize("exclude", [False, True], ids=["all", "unliked"])
@pytest.mark.parametrize("drop", [None, [3], [0, 4, 5, 39]])
@pytest.mark.parametrize("only", [None, [7], [0, 3, 3, 4, 20, 39]])
@pytest.mark.parametrize("density", [0.03, 0.3, 1.0])
def test_recommendations_are_a_full_stable_sort(kernels, exclude, drop, only, density):
    liked, similarity = integers(60, 40, 1, density), integers(40, 40, 2, density)
    only = None if only is None else np.array(only, dtype=np.int32)
    drop = None if drop is None else np.array(drop, dtype=np.int32)
    for k in (1, 3, 40, 45):
        expected = ranking(liked, similarity, k, exclude, only, drop)
        ids, scores = kernels.knn_recommend(liked, similarity, k, exclude_liked=exclude, only=only, drop=drop)
        assert ids.dtype == np.int32
        assert scores.dtype == np.float64
        assert np.array_equal(ids, expected[0])
        assert np.array_equal(scores, expected[1])


@pytest.mark.parametrize(("users", "items"), [(1, 1), (5, 3), (40, 700), (300, 90)])
@pytest.mark.parametrize("k", [1, 2, 20, 90])
def test_neighbours_are_the_largest_products_of_items_that_share_a_user(kernels, users, items, k):
    matrix = integers(users, items, users)
    transpose = integers(users, items, users)
    transposed = sparse.csr_matrix(
        (transpose.values, transpose.indices, transpose.indptr), shape=transpose.shape
    ).T.tocsr()
    found = kernels.all_pairs_knn(to_counts(transposed), matrix, k)
    ids, scores = ranking(to_counts(transposed), matrix, k, False, None, None)
    assert found.shape == (items, items)
    assert np.array_equal(np.diff(found.indptr), (ids >= 0).sum(axis=1))
    assert np.array_equal(found.indices, ids[ids >= 0])
    assert np.array_equal(found.values, scores[ids >= 0])


def test_many_candidates_and_a_rising_order_lose_nothing(kernels):
    """The list of candidates is cut down many times; the best come last, equal ones in a run across each cut."""
    n = 5000
    values = np.repeat(np.arange(n // 50, dtype=np.float64), 50)
    similarity = Counts(np.array([0, n]), np.arange(n, dtype=np.int32), values, (1, n))
    liked = Counts(np.array([0, 1]), np.zeros(1, np.int32), np.ones(1), (1, 1))
    for k in (1, 7, 60, 333):
        expected = np.lexsort((np.arange(n), -values))[:k]
        ids, scores = kernels.knn_recommend(liked, similarity, k)
        assert np.array_equal(ids[0], expected)
        assert np.array_equal(scores[0], values[expected])


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_results_have_the_same_bits_for_any_number_of_threads(threads):
    rng = np.random.default_rng(0)
    matrix = sparse.random(2000, 3000, 0.02, format="csr", random_state=1, data_rvs=rng.standard_normal)
    users, items = to_counts(matrix), to_counts(matrix.T.tocsr())
    for result, again in zip(
        (*cpu_kernels.all_pairs_knn(items, users, 10, 1)[:3], *cpu_kernels.knn_recommend(users, users_like(items), 9)),
        (
            *cpu_kernels.all_pairs_knn(items, users, 10, threads)[:3],
            *cpu_kernels.knn_recommend(users, users_like(items), 9, num_threads=threads),
        ),
        strict=True,
    ):
        assert np.array_equal(result, again)


def users_like(items: Counts) -> Counts:
    """Similarities of items, cut from a rectangle."""
    return items._replace(shape=(items.shape[0], 3000))


def test_a_slice_of_rows_gives_their_part_of_the_result(kernels):
    liked, similarity = integers(30, 20, 5), integers(20, 20, 6)
    ids, scores = kernels.knn_recommend(liked, similarity, 5, exclude_liked=True)
    part = kernels.knn_recommend(liked._replace(indptr=liked.indptr[7:19]), similarity, 5, exclude_liked=True)
    assert np.array_equal(part[0], ids[7:18])
    assert np.array_equal(part[1], scores[7:18])


def test_a_row_alone_gives_what_it_gives_in_a_batch_whatever_came_before(kernels):
    """Scratch space is kept from one row to the next, also where columns are dropped or their number changes."""
    for columns, seed in ((20, 5), (30, 6), (20, 7)):
        liked, similarity = integers(30, columns, seed), integers(columns, columns, seed)
        for drop in (None, np.array([1, 4, 15], np.int32), None):
            ids, scores = kernels.knn_recommend(liked, similarity, 25, exclude_liked=True, drop=drop)
            for r in range(30):
                row = liked._replace(indptr=liked.indptr[r : r + 2])
                alone = kernels.knn_recommend(row, similarity, 25, exclude_liked=True, drop=drop)
                assert np.array_equal(alone[0][0], ids[r])
                assert np.array_equal(alone[1][0], scores[r])


def test_products_that_cancel_or_are_a_negative_zero_count_once(kernels):
    """−0 marks columns that were not reached; sums of −0 must not be taken for it."""
    similarity = Counts(
        np.array([0, 3, 6], np.int64),
        np.array([0, 1, 2, 0, 1, 2], np.int32),
        np.array([-0.0, 1.0, 5e-324, -0.0, 1.0, 0.0]),
        (2, 3),
    )
    liked = Counts(np.array([0, 2]), np.array([0, 1], np.int32), np.array([0.1, -0.1]), (1, 2))
    for _ in range(2):
        ids, scores = kernels.knn_recommend(liked, similarity, 4)
        assert ids.tolist() == [[0, 1, 2, -1]]
        assert scores.tolist() == [[0, 0, 0, NO_SCORE]]
    negative = liked._replace(values=np.array([-0.1, -0.1]))
    assert kernels.knn_recommend(negative, similarity, 4)[0].tolist() == [[0, 2, 1, -1]]


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_scores_that_are_no_number_rank_last(kernels, bad):
    similarity = Counts(np.array([0, 3]), np.arange(3, dtype=np.int32), np.array([bad, 1, np.inf]), (1, 3))
    liked = Counts(np.array([0, 1, 1]), np.zeros(1, np.int32), np.ones(1), (2, 1))
    ids, scores = kernels.knn_recommend(liked, similarity, 3)
    assert ids.tolist() == [[2, 1, 0], [-1, -1, -1]]
    assert scores[0].tolist() == [np.inf, 1, LOWEST]


def test_nothing_to_rank_gives_padding(kernels):
    similarity, liked = integers(4, 4, 0, 1.0), integers(2, 4, 1, 1.0)
    assert kernels.knn_recommend(liked, similarity, 0)[0].shape == (2, 0)
    empty = liked._replace(indptr=np.zeros(1, np.int64))
    assert kernels.knn_recommend(empty, similarity, 3)[1].shape == (0, 3)
    none = Counts(np.zeros(3, np.int64), np.empty(0, np.int32), np.empty(0), (2, 4))
    ids, scores = kernels.knn_recommend(none, similarity, 3)
    assert (ids == -1).all()
    assert (scores == NO_SCORE).all()


def test_inputs_do_not_change(kernels):
    liked, similarity = integers(30, 20, 5), integers(20, 20, 6)
    before = [a.copy() for a in (*liked[:3], *similarity[:3])]
    kernels.knn_recommend(liked, similarity, 5, exclude_liked=True, drop=np.array([1], np.int32))
    kernels.all_pairs_knn(similarity, similarity, 3)
    assert all(np.array_equal(a, b) for a, b in zip(before, (*liked[:3], *similarity[:3]), strict=True))


def test_work_before_a_row_counts_its_multiplications():
    left, right = integers(30, 20, 5), integers(20, 10, 6)
    expected = (dense(left)[1] @ dense(right)[1]).sum(axis=1).cumsum()
    work = product_work(left, right)
    assert work[0] == 0
    assert np.array_equal(work[1:], expected)
    part = product_work(left._replace(indptr=left.indptr[9:21]), right)
    assert np.array_equal(part, work[9:21] - work[9])
