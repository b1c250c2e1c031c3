"""What every model promises of results: a pattern learned, order, candidates, the same however it is asked for."""

import copy
import threading
import warnings

import numpy as np
import pytest
from conformance import (
    ITEMS,
    NOVICE,
    SIDES,
    UNLIKED,
    USERS,
    assert_result,
    assert_same_results,
    has_biases,
    liked_by,
    needs_recalculation,
    on_host,
    ranked,
    similar,
    ways,
)
from conformance import board as board
from conformance import for_board as for_board
from conformance import make as make
from conformance import matrix as matrix
from conformance import model as model
from conformance import name as name
from conformance import on_board as on_board
from conformance import scores as scores
from conformance import similarities as similarities
from scipy import sparse

from implicit_core import matrix_factorization
from implicit_core.cpu import kernels
from implicit_core.utils import ParameterWarning

# A checkerboard, of which every model must learn the pattern


def test_the_withheld_item_of_its_colour_is_recommended(on_board, board):
    for user in range(50):
        assert on_board.recommend(user, board[user], N=1)[0].tolist() == [user]
    ids, _ = on_board.recommend(np.arange(50), board, N=1)
    assert ids.tolist() == [[user] for user in range(50)]
    ids, _ = on_board.recommend([2, 3, 4], board[[2, 3, 4]], N=1)
    assert ids.tolist() == [[2], [3], [4]]


def test_filtered_items_are_not_among_the_recommended(on_board, board):
    ids, _ = on_board.recommend(0, board[0], N=40, filter_items=[0, 2], filter_already_liked_items=False)
    assert not np.isin([0, 2], ids).any()
    ids, _ = on_board.recommend(np.arange(50), board, N=24, filter_items=[0], filter_already_liked_items=False)
    assert not (ids == 0).any()


def test_a_user_recalculated_from_the_same_likes_is_recommended_the_same(on_board, board):
    needs_recalculation(on_board)
    users = np.arange(50)
    stored = on_board.recommend(users, board, N=1)
    recalculated = on_board.recommend(users, board, N=1, recalculate_user=True)
    np.testing.assert_array_equal(stored[0], recalculated[0])
    np.testing.assert_allclose(stored[1], recalculated[1], atol=2e-3)
    for user in (0, 7, 49):
        alone = on_board.recommend(user, board[user], N=1, recalculate_user=True)
        assert_result(alone, (recalculated[0][user], recalculated[1][user]))


@SIDES
def test_neighbours_are_of_the_same_colour_and_oneself_comes_first(on_board, side):
    for one in range(50):
        ids, values = similar(on_board, side, one, N=10)
        assert (ids % 2 == one % 2).all()
        assert values[0] == pytest.approx(1, abs=1e-4)
    ids, values = similar(on_board, side, np.arange(50), N=10)
    assert ids.shape == values.shape == (50, 10)
    assert (ids % 2 == np.arange(50)[:, None] % 2).all()
    np.testing.assert_allclose(values[:, 0], 1, atol=1e-4)


@SIDES
def test_neighbours_can_be_filtered_and_chosen(on_board, side):
    ids, _ = similar(on_board, side, np.arange(50), N=10, filtered=np.arange(52)[:10] * 5)
    assert not (ids % 5 == 0).any()
    ids, _ = similar(on_board, side, 1, N=10, candidates=np.arange(10))
    assert sorted(ids) == list(range(10))


def test_items_recalculated_from_the_same_users_have_the_same_neighbours(on_board, board):
    needs_recalculation(on_board)
    item_users = board.T.tocsr()
    ids, values = on_board.similar_items(np.arange(50), N=10, recalculate_item=True, item_users=item_users)
    assert (ids % 2 == np.arange(50)[:, None] % 2).all()
    np.testing.assert_allclose(values[:, 0], 1, atol=1e-3)
    assert_result(on_board.similar_items(3, item_users=item_users[3]), on_board.similar_items(3))


def test_empty_rows_and_columns_are_never_similar_to_others(make, board, for_board):
    likes = board.toarray()
    likes[[42, 49]], likes[:, [42, 49]] = 0, 0
    model = make(**for_board)
    model.fit(sparse.csr_matrix(likes), show_progress=False)
    rest = np.setdiff1d(np.arange(50), [42, 49])
    for side in ("items", "users"):
        ids, _ = similar(model, side, rest, N=10)
        assert not np.isin(ids, [42, 49]).any()
    assert np.isfinite(model.recommend(np.arange(50), sparse.csr_matrix(likes), N=10)[1]).all()


@pytest.mark.parametrize("kind", ["coo", "lil", "csc"])
def test_other_sparse_formats_are_converted_with_a_warning(make, board, kind):
    model = make()
    with pytest.warns(ParameterWarning, match=r"^Method expects CSR input"):
        model.fit(board.asformat(kind), show_progress=False)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_])
def test_csr_input_of_any_type_fits_without_a_warning(make, board, kind, dtype, on_board, for_board, unmodified):
    model, given = make(**for_board), kind(board.astype(dtype))
    with unmodified(given), warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(given, show_progress=False)
    assert_same_results(model, on_board, board)


def test_the_callback_is_called_once_per_iteration(make, board):
    calls, model = [], make()
    model.fit(board, show_progress=False, callback=lambda iteration, seconds, *rest: calls.append(iteration))
    assert calls == list(range(model.iterations))


# Results: shape, type, order


@pytest.mark.parametrize("N", [0, 1, 10, ITEMS, ITEMS + 5])
def test_results_have_n_columns_whatever_there_is_to_find(model, matrix, scores, N):
    for ids, values in (model.recommend(1, matrix[1], N=N), model.similar_items(1, N), model.similar_users(1, N)):
        assert ids.shape == values.shape == (N,)
        assert ids.dtype == np.int32
        assert values.dtype == scores.dtype
    users = [4, 1, 4]
    for ids, values in (
        model.recommend(users, matrix[users], N=N),
        model.similar_items(users, N),
        model.similar_users(users, N),
    ):
        assert ids.shape == values.shape == (3, N)
        assert ids.dtype == np.int32
        assert values.dtype == scores.dtype
        assert ids.flags.c_contiguous
        assert values.flags.c_contiguous


def test_the_scores_of_a_factorization_are_inner_products(model, scores, similarities):
    X, Y = on_host(model.user_factors).astype(np.float64), on_host(model.item_factors).astype(np.float64)
    assert scores.dtype == np.promote_types(model.dtype, np.float32)
    assert model.dtype == model.item_factors.dtype == model.user_factors.dtype
    tolerance = (1e-6 if scores.dtype == np.float32 else 1e-14) * max(1, np.abs(scores).max())
    np.testing.assert_allclose(scores, X @ Y.T, rtol=0, atol=tolerance)
    for side, factors, norms in (("items", Y, model.item_norms), ("users", X, model.user_norms)):
        lengths = np.linalg.norm(factors, axis=1)
        lengths[lengths == 0] = 1e-10
        np.testing.assert_allclose(on_host(norms), lengths, rtol=1e-6)
        np.testing.assert_allclose(
            similarities[side], factors @ factors.T / np.outer(lengths, lengths), atol=10 * tolerance
        )


@pytest.mark.parametrize("N", [-1, -10])
def test_a_negative_n_is_refused(model, matrix, N):
    for call in (
        lambda: model.recommend(0, matrix[0], N=N),
        lambda: model.recommend([0], matrix[[0]], N=N, items=[1, 2]),
        lambda: model.similar_items(0, N),
        lambda: model.similar_users([0], N),
    ):
        with pytest.raises(ValueError, match="N must be at least 0"):
            call()


@pytest.mark.parametrize("N", [2.5, "3", None])
def test_n_must_be_an_integer(model, matrix, N):
    with pytest.raises(TypeError, match="N must be an integer"):
        model.recommend(0, matrix[0], N=N)
    assert len(model.recommend(0, matrix[0], N=np.int64(3))[0]) == 3


@pytest.mark.parametrize("N", [1, 3, 10, 40, ITEMS, ITEMS + 7])
def test_liked_items_come_last(model, matrix, scores, N):
    for user in range(USERS):
        assert_result(model.recommend(user, matrix[user], N=N), ranked(scores[user], N, liked_by(matrix, user)))


@pytest.mark.parametrize("liked", [True, False])
@pytest.mark.parametrize("filtered", [[], [3], [5, 3, 5, 44, 0], np.arange(ITEMS), (1, 2)])
def test_filtered_items_come_last_for_everybody(model, matrix, scores, liked, filtered, unmodified):
    with unmodified(filtered, matrix):
        ids, values = model.recommend(
            np.arange(USERS), matrix, N=ITEMS + 2, filter_items=filtered, filter_already_liked_items=liked
        )
    for user in range(USERS):
        last = np.union1d(liked_by(matrix, user) if liked else [], filtered).astype(int)
        assert_result((ids[user], values[user]), ranked(scores[user], ITEMS + 2, last))


def test_what_is_filtered_has_the_lowest_finite_score_and_padding_has_no_id(model, matrix):
    ids, values = model.recommend(0, matrix[0], N=ITEMS + 3, filter_items=np.arange(ITEMS))
    assert ids.tolist() == [*range(ITEMS), -1, -1, -1]
    assert (values == np.finfo(values.dtype).min).all()


def test_stored_zeros_and_negative_values_count_as_liked(model, matrix, scores):
    row = sparse.csr_matrix(([0.0, -1.0, 2.0], ([0, 0, 0], [3, 5, 8])), shape=(1, ITEMS))
    assert row.nnz == 3
    for more in ({}, {"items": np.arange(ITEMS)}):
        assert_result(model.recommend(1, row, N=ITEMS, **more), ranked(scores[1], ITEMS, [3, 5, 8]))


def test_equal_scores_rank_by_ascending_id(model, matrix, scores):
    """Items that nobody has score alike; without biases 0 exactly, as does everything for users without items."""
    assert (scores[:, UNLIKED] == scores[:, UNLIKED[:1]]).all()
    if not has_biases(model):
        assert not scores[:, UNLIKED].any()
        assert not scores[NOVICE].any()
        for N in (1, 4, 10, ITEMS):
            ids, _ = model.recommend(NOVICE, None, N=N, filter_already_liked_items=False)
            assert ids.tolist() == list(range(N))
        ids, _ = model.recommend([NOVICE] * 700, None, N=4, filter_already_liked_items=False)
        assert ids.tolist() == [[0, 1, 2, 3]] * 700
        ids, _ = model.recommend(NOVICE, None, N=3, items=[30, 4, 21, 20], filter_already_liked_items=False)
        assert ids.tolist() == [4, 20, 21]
    ids, _ = model.recommend(0, None, N=2, items=UNLIKED[::-1], filter_already_liked_items=False)
    assert ids.tolist() == UNLIKED[:2]


@pytest.mark.parametrize("N", [1, 2, 5, 9, 10, 60])
@pytest.mark.parametrize("batch", [1, 700])
def test_ties_across_the_cut_keep_the_smallest_ids(model, N, batch):
    """Thirty copies of two items, in turn: the winners' ids rise, then those of the others."""
    twins = copy.deepcopy(model)
    twins.item_factors = np.tile(np.array([[1.0], [2.0]], dtype=model.item_factors.dtype), (30, 4))
    twins.user_factors = np.ones((2, 4), dtype=model.item_factors.dtype)
    ids, _ = twins.recommend([1] * batch, None, N=N, filter_already_liked_items=False)
    expected = [*range(1, 60, 2), *range(0, 60, 2)][:N]
    assert ids.tolist() == [expected] * batch
    assert (twins.similar_items([1] * batch, N=N)[0] == np.arange(N)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_number_never_rank_above_others(model, bad):
    broken = copy.deepcopy(model)
    broken.item_factors = broken.item_factors.copy()
    broken.item_factors[[3, 12]] = bad
    with np.errstate(all="ignore"):
        ids, values = broken.recommend(np.arange(USERS), None, N=ITEMS, filter_already_liked_items=False)
    assert not np.isnan(values).any()
    assert (np.diff(values) <= 0).all() if np.isfinite(values).all() else True
    assert (np.sort(ids, axis=1) == np.arange(ITEMS)).all()
    if np.isnan(bad):
        assert (np.sort(ids[:, -2:], axis=1) == [3, 12]).all()


# Candidates


CANDIDATES = [[4], [44, 0, 3, 17], np.arange(ITEMS), np.arange(0, ITEMS, 3, dtype=np.int32), (2, 1), np.uint8([9, 8])]


@pytest.mark.parametrize("candidates", CANDIDATES)
@pytest.mark.parametrize("liked", [True, False])
def test_candidates_have_the_scores_that_they_have_among_all(model, matrix, scores, candidates, liked, unmodified):
    users, N = np.arange(USERS), 3
    with unmodified(candidates, matrix):
        ids, values = model.recommend(users, matrix, N=N, items=candidates, filter_already_liked_items=liked)
    assert ids.dtype == np.int64
    assert ids.shape == (USERS, min(N, len(candidates)))
    for user in users:
        last = liked_by(matrix, user) if liked else ()
        expected = ranked(scores[user], min(N, len(candidates)), last, candidates)
        assert_result((ids[user], values[user]), expected)
        alone = model.recommend(user, matrix[user], N=N, items=candidates, filter_already_liked_items=liked)
        assert alone[0].dtype == np.int64
        assert_result(alone, expected)


@SIDES
@pytest.mark.parametrize("candidates", CANDIDATES)
@pytest.mark.parametrize("N", [1, 6])
def test_similar_candidates_are_padded_rather_than_cut(model, similarities, side, candidates, N, unmodified):
    with unmodified(candidates):
        ids, values = similar(model, side, [5, 7], N=N, candidates=candidates)
    assert ids.dtype == np.int64
    for row, one in enumerate((5, 7)):
        expected = ranked(similarities[side][one], N, candidates=candidates)
        assert_result((ids[row], values[row]), expected)
        assert_result(similar(model, side, one, N=N, candidates=candidates), expected)


def test_repeated_candidates_stay_repeated(model, scores):
    ids, values = model.recommend(1, None, N=10, items=[4, 4, 9], filter_already_liked_items=False)
    assert sorted(ids) == [4, 4, 9]
    np.testing.assert_array_equal(values, scores[1][ids])


def test_candidates_and_filters_exclude_each_other(model, matrix):
    for filtered in ([0], np.array([0, 1, 2])):
        with pytest.raises(ValueError, match="items or filter_items"):
            model.recommend(0, matrix[0], items=[1, 2], filter_items=filtered)
        with pytest.raises(ValueError, match="items or filter_items"):
            model.similar_items(0, items=np.array([1, 2]), filter_items=filtered)
        with pytest.raises(ValueError, match="users or filter_users"):
            model.similar_users(0, users=[1, 2], filter_users=filtered)
    for nothing in ([], None, np.array([], dtype=np.int64)):
        assert len(model.recommend(0, matrix[0], items=[1, 2], filter_items=nothing)[0]) == 2


@pytest.mark.parametrize("bad", [[-1], [ITEMS], [0, ITEMS + 20], np.array([3, -2]), [1.5], ["a"], [], [[1]]])
def test_candidates_must_be_known_ids(model, matrix, bad):
    with pytest.raises(IndexError):
        model.recommend(0, matrix[0], items=bad)
    with pytest.raises(IndexError):
        model.recommend([0, 1], matrix[[0, 1]], items=bad)
    with pytest.raises(IndexError):
        model.similar_items(0, items=bad)


@pytest.mark.parametrize("bad", [[-1], [ITEMS], np.array([3, -2]), [1.5], {-1, 2}, -1])
def test_filters_must_be_known_ids(model, matrix, bad):
    with pytest.raises(IndexError):
        model.recommend(0, matrix[0], filter_items=bad)
    with pytest.raises(IndexError):
        model.similar_items(0, filter_items=bad)
    with pytest.raises(IndexError):
        model.similar_users(0, filter_users=[USERS])


def test_a_mask_of_candidates_or_filters_selects(model, scores):
    mask = np.zeros(ITEMS, dtype=bool)
    mask[[3, 30, 44]] = True
    given = model.recommend(1, None, N=3, items=mask, filter_already_liked_items=False)
    assert_result(given, ranked(scores[1], 3, candidates=[3, 30, 44]))
    given = model.recommend(1, None, N=ITEMS, filter_items=mask, filter_already_liked_items=False)
    assert_result(given, ranked(scores[1], ITEMS, [3, 30, 44]))


# The same result however it is asked for


@pytest.mark.parametrize("recalculate", [True, False])
@pytest.mark.parametrize("options", [{}, {"filter_items": [1, 2]}, {"items": [3, 8, 40]}])
def test_a_batch_is_its_users_bit_for_bit(model, matrix, recalculate, options):
    if recalculate:
        needs_recalculation(model)
    users = np.random.default_rng(2).integers(0, USERS, size=300)
    users[:3] = 4
    ids, values = model.recommend(users, matrix[users], recalculate_user=recalculate, **options)
    for row, user in enumerate(users[:40]):
        alone = model.recommend(user, matrix[user], recalculate_user=recalculate, **options)
        assert_result((ids[row], values[row]), alone)


@SIDES
@pytest.mark.parametrize("options", [{}, {"filtered": [1, 2]}, {"candidates": [3, 8, 40]}])
def test_a_batch_of_similarities_is_its_members_bit_for_bit(model, side, options):
    members = np.random.default_rng(2).integers(0, ITEMS, size=300)
    ids, values = similar(model, side, members, N=7, **options)
    for row, one in enumerate(members[:40]):
        assert_result((ids[row], values[row]), similar(model, side, one, N=7, **options))


def test_a_batch_worked_off_in_pieces_is_the_same(model, matrix, monkeypatch):
    users = np.random.default_rng(2).integers(0, USERS, size=1100)
    calls = (
        *(lambda options=options: model.recommend(users, matrix[users], **options) for options in ways(model)),
        lambda: model.recommend(users, matrix[users], **ways(model)[-1] | {"items": None, "filter_items": [3]}),
        lambda: model.recommend(users, None, filter_already_liked_items=False),
        lambda: model.similar_items(users % ITEMS),
    )
    whole = [call() for call in calls]
    monkeypatch.setattr(matrix_factorization, "BATCH_FLOP", 1)
    for call, expected in zip(calls, whole, strict=True):
        assert_result(call(), expected)


@SIDES
def test_filtered_neighbours_come_last(model, similarities, side):
    filtered = [5, 11, 40]
    for one in (5, 6):
        expected = ranked(similarities[side][one], 70, filtered)
        assert_result(similar(model, side, one, N=70, filtered=filtered), expected)


@SIDES
def test_oneself_is_the_most_similar_with_score_one(model, side):
    count = ITEMS if side == "items" else USERS
    empty = UNLIKED if side == "items" else [NOVICE]
    rest = np.setdiff1d(np.arange(count), empty)
    ids, values = similar(model, side, rest, N=1)
    np.testing.assert_allclose(values, 1, atol=1e-5)
    assert ids[:, 0].tolist() == rest.tolist()
    if not has_biases(model):
        ids, values = similar(model, side, empty[0], N=3)
        assert not values.any()
        assert ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize("threads", [2, 3, 4, 0, -1, -100])
def test_the_number_of_threads_changes_no_bit(model, make, matrix, threads, monkeypatch):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)  # so that small work is shared out too
    many = make(num_threads=threads)
    many.fit(matrix, show_progress=False)
    assert many.num_threads == threads
    assert_same_results(many, model, matrix)
    users = np.arange(300) % USERS
    for options in ways(model):
        assert_result(many.recommend(users, matrix[users], **options), model.recommend(users, matrix[users], **options))
    assert_result(many.recommend(3, matrix[3]), model.recommend(3, matrix[3]))


def test_a_large_catalogue_on_several_threads_is_ranked_by_definition(model, monkeypatch):
    """So many items that one query is shared out among the threads, with ties between their parts."""
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    large = copy.deepcopy(model)
    random = np.random.default_rng(0)
    large.item_factors = random.integers(-3, 4, size=(20_011, 5)).astype(model.item_factors.dtype)
    large.user_factors = random.integers(-3, 4, size=(300, 5)).astype(model.user_factors.dtype)
    exact = large.user_factors @ large.item_factors.T
    for threads in (1, 2, 3, 4):
        large.num_threads = threads
        for user in (0, 1):
            result = large.recommend(user, None, N=50, filter_already_liked_items=False)
            assert_result(result, ranked(exact[user], 50))
        ids, values = large.recommend(np.arange(300), None, N=50, filter_already_liked_items=False)
        for user in range(0, 300, 60):
            assert_result((ids[user], values[user]), ranked(exact[user], 50))


def test_concurrent_calls_do_not_disturb_each_other(model, matrix):
    users, options = np.arange(USERS), ways(model)[-1]
    expected = model.recommend(users, matrix, **options)
    results, start = [None] * 4, threading.Barrier(4, timeout=30)

    def work(number):
        start.wait()
        for _ in range(3):
            results[number] = model.recommend(users, matrix, **options)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results:
        assert_result(result, expected)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(make, model, matrix):
    same, other = make(), make(random_state=4)
    same.fit(matrix, show_progress=False)
    other.fit(matrix, show_progress=False)
    assert_same_results(same, model, matrix)
    assert not np.array_equal(other.recommend(0, matrix[0])[1], model.recommend(0, matrix[0])[1])


@pytest.mark.parametrize(
    "seed",
    [
        lambda: np.random.default_rng(5),
        lambda: np.random.RandomState(5),
        lambda: np.random.SeedSequence(5),
        lambda: np.random.PCG64(5),
        lambda: np.int64(5),
        lambda: 0,
    ],
)
def test_any_kind_of_seed_repeats(make, matrix, seed):
    first, second = make(random_state=seed()), make(random_state=seed())
    for each in (first, second):
        each.fit(matrix, show_progress=False)
    assert_same_results(first, second, matrix)


def test_a_generator_is_advanced_by_its_use(make, matrix):
    random = np.random.default_rng(5)
    first, second = make(random_state=random), make(random_state=random)
    for each in (first, second):
        each.fit(matrix, show_progress=False)
    assert not np.array_equal(first.recommend(0, matrix[0])[1], second.recommend(0, matrix[0])[1])
