"""What every model promises, whatever it learns: a new model joins by a line in MODELS."""

import copy
import io
import pickle
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import implicit_core.cpu.als
from implicit_core import matrix_factorization
from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.cpu import kernels
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.recommender_base import ModelLoadError, NotFittedError, RecommenderBase
from implicit_core.utils import ParameterWarning

ALS = {"factors": 8, "iterations": 5, "random_state": 3, "num_threads": 1}
MODELS = {
    "als-cg-float32": lambda **p: AlternatingLeastSquares(**{**ALS, **p}),
    "als-cg-float64": lambda **p: AlternatingLeastSquares(**{**ALS, "dtype": np.float64, **p}),
    "als-cholesky-float32": lambda **p: AlternatingLeastSquares(**{**ALS, "use_cg": False, **p}),
    "als-cholesky-float64": lambda **p: implicit_core.cpu.als.AlternatingLeastSquares(
        **{**ALS, "use_cg": False, "dtype": np.float64, **p}
    ),
    "als-arrays": lambda **p: AlternatingLeastSquares(
        **{**ALS, "use_native": False, "use_cg": False, "iterations": 3, **p}
    ),
    "bpr": lambda **p: BayesianPersonalizedRanking(**{**ALS, "learning_rate": 0.1, **p}),
    "lmf-float32": lambda **p: LogisticMatrixFactorization(**{**ALS, **p}),
    "lmf-float64": lambda **p: LogisticMatrixFactorization(**{**ALS, "dtype": np.float64, **p}),
}
USERS, ITEMS = 60, 45
UNLIKED = [7, 20, 21]  #: items that nobody has
NOVICE = 9  #: a user without items


def checkerboard(size=50):
    """Even users like even items, odd users odd ones; the item of the user's own number is withheld."""
    parity = np.arange(size) % 2
    likes = (parity[:, None] == parity).astype(np.float64)
    np.fill_diagonal(likes, 0)
    return sparse.csr_matrix(likes)


def counts():
    random = np.random.default_rng(0)
    values = random.integers(1, 6, size=(USERS, ITEMS)) * (random.random((USERS, ITEMS)) < 0.2)
    values[NOVICE], values[:, UNLIKED] = 0, 0
    return sparse.csr_matrix(values.astype(np.float64))


def needs_recalculation(model):
    """Skip what a model cannot do, once it has said so."""
    if not isinstance(model, AlternatingLeastSquares):
        with pytest.raises(NotImplementedError, match=type(model).__name__):
            model.recalculate_user(0, None)
        with pytest.raises(NotImplementedError, match=type(model).__name__):
            model.recalculate_item(0, None)
        pytest.skip(f"{type(model).__name__} cannot recalculate")


def ways(model):
    """Options of `recommend` that lead to different code, as far as the model has them."""
    recalculated = [{"recalculate_user": True}] if isinstance(model, AlternatingLeastSquares) else []
    return [{}, {"items": np.arange(40)}, *recalculated]


def has_biases(model):
    """Whether scores depend on items alone, too: then who likes nothing does not score 0."""
    return not isinstance(model, AlternatingLeastSquares)


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def make(name):
    """Return a function that makes an unfitted model."""
    return MODELS[name]


@pytest.fixture(scope="module")
def for_board(name):
    """Parameters that are enough to converge on the checkerboard."""
    more = {"regularization": 0.0, "iterations": 300, "learning_rate": 0.05} if name == "bpr" else {}
    return {"factors": 3, "regularization": 1.0, "iterations": 30, **more}


@pytest.fixture(scope="module")
def board():
    return checkerboard()


@pytest.fixture(scope="module")
def on_board(make, board, for_board):
    model = make(**for_board)
    model.fit(board, show_progress=False)
    return model


@pytest.fixture(scope="module")
def matrix():
    return counts()


@pytest.fixture(scope="module")
def model(make, matrix):
    """A model fitted to counts; tests must not change it."""
    model = make()
    model.fit(matrix, show_progress=False)
    return model


@pytest.fixture(scope="module")
def scores(model):
    """The scores of all items for all users, as a batch of everything gives them."""
    ids, values = model.recommend(np.arange(USERS), None, N=ITEMS, filter_already_liked_items=False)
    full = np.empty_like(values)
    np.put_along_axis(full, ids.astype(np.int64), values, axis=1)
    return full


@pytest.fixture(scope="module")
def similarities(model):
    return {side: all_similarities(model, side) for side in ("items", "users")}


def similar(model, side, *args, **kwargs):
    """`similar_items` or `similar_users`, with `candidates` and `filtered` for their parameters of different names."""
    for name, theirs in (("candidates", side), ("filtered", f"filter_{side}")):
        if name in kwargs:
            kwargs[theirs] = kwargs.pop(name)
    return getattr(model, f"similar_{side}")(*args, **kwargs)


def all_similarities(model, side):
    count = ITEMS if side == "items" else USERS
    ids, values = similar(model, side, np.arange(count), N=count)
    full = np.empty_like(values)
    np.put_along_axis(full, ids.astype(np.int64), values, axis=1)
    return full


SIDES = pytest.mark.parametrize("side", ["items", "users"])


def ranked(scores, N, filtered=(), candidates=None):
    """Ids and scores by definition: a sort by score, equal ones by id, filtered ones last, then padding."""
    lowest = np.finfo(scores.dtype).min
    scores = scores.copy()
    scores[list(filtered)] = lowest
    candidates = np.arange(len(scores)) if candidates is None else np.sort(candidates)
    order = candidates[np.lexsort((candidates, -scores[candidates]))][:N]
    padding = N - len(order)
    return np.append(order, [-1] * padding), np.append(scores[order], np.full(padding, lowest, scores.dtype))


def assert_result(result, expected):
    for part, wanted in zip(result, expected, strict=True):
        np.testing.assert_array_equal(part, wanted)


def assert_same_results(first, second, matrix, unlike=False):
    """Two models give the same bits in every kind of call."""
    users = np.arange(matrix.shape[0])
    for call in (
        lambda m: m.recommend(users, matrix, N=7),
        lambda m: m.similar_items(np.arange(matrix.shape[1]), N=7),
        lambda m: m.similar_users(users, N=7),
    ):
        assert_result(call(first), call(second))


def on_host(factors):
    """Factors as an array of NumPy; those of a model on a GPU are copied."""
    return factors.get() if hasattr(factors, "get") else factors


def liked_by(matrix, user):
    return matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]


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


# Ids


UNKNOWN = pytest.mark.parametrize("unknown", [-1, -USERS, 10**6, 2**40])


@UNKNOWN
def test_unknown_ids_are_index_errors(model, matrix, unknown):
    for ids in (unknown, [unknown], [0, unknown], np.array([unknown, 1])):
        rows = matrix[np.zeros(np.size(ids), dtype=int)]
        for call in (
            lambda ids=ids, rows=rows: model.recommend(ids, rows),
            lambda ids=ids: model.recommend(ids, None, filter_already_liked_items=False),
            lambda ids=ids: model.recommend(ids, matrix),
            lambda ids=ids: model.similar_items(ids),
            lambda ids=ids: model.similar_users(ids),
        ):
            with pytest.raises(IndexError, match=str(unknown)):
                call()


def test_the_first_id_that_is_not_known_is_one_too_many(model, matrix):
    assert len(model.recommend(USERS - 1, matrix[0])[0]) == 10
    with pytest.raises(IndexError, match=f"0 to {USERS - 1}, got {USERS}"):
        model.recommend(USERS, matrix[0])
    assert len(model.similar_items(ITEMS - 1)[0]) == 10
    with pytest.raises(IndexError, match=f"0 to {ITEMS - 1}, got {ITEMS}"):
        model.similar_items(ITEMS)


@pytest.mark.parametrize("bad", [1.0, "1", None, [0.5], ["a"], [[0, 1]], {0, 1}])
def test_what_is_no_id_is_an_index_error(model, bad):
    for call in (
        lambda: model.recommend(bad, None, filter_already_liked_items=False),
        lambda: model.similar_items(bad),
        lambda: model.similar_users(bad),
    ):
        with pytest.raises(IndexError):
            call()


@pytest.mark.parametrize("kind", [list, tuple, np.uint64, np.int8, np.int32, "range", "series"])
def test_ids_can_be_any_sequence_of_integers(model, matrix, kind):
    pandas = pytest.importorskip("pandas")
    ids = {"range": range(2, 5), "series": pandas.Series([2, 3, 4], index=[9, 8, 7])}.get(kind)
    if ids is None:
        ids = kind([2, 3, 4])
    assert_result(model.recommend(ids, matrix[2:5]), model.recommend(np.arange(2, 5), matrix[2:5]))
    assert_result(model.similar_items(ids), model.similar_items(np.arange(2, 5)))


@pytest.mark.parametrize("kind", [int, np.int32, np.uint64, np.array])
def test_a_scalar_of_any_integer_type_gives_one_row(model, matrix, kind):
    assert_result(model.recommend(kind(3), matrix[3]), model.recommend([3], matrix[3])[0:2] and one_row(model, matrix))
    assert model.similar_items(kind(3))[0].shape == (10,)
    assert model.similar_users(kind(3))[0].shape == (10,)


def one_row(model, matrix):
    ids, values = model.recommend([3], matrix[3])
    return ids[0], values[0]


def test_a_boolean_mask_selects(model, matrix, scores):
    mask = np.zeros(USERS, dtype=bool)
    mask[[4, 5, 50]] = True
    chosen = np.flatnonzero(mask)
    expected = model.recommend(chosen, matrix[chosen])
    assert_result(model.recommend(mask, matrix[chosen]), expected)
    assert_result(model.recommend(mask, matrix), expected)
    assert_result(model.similar_users(mask), model.similar_users(chosen))
    with pytest.raises(IndexError):
        model.recommend(mask[:-1], matrix[chosen])
    everybody = np.ones(USERS, dtype=bool)
    assert_result(model.recommend(everybody, matrix), model.recommend(np.arange(USERS), matrix))


@pytest.mark.parametrize("nobody", [[], np.array([]), np.array([], dtype=np.int64), ()])
def test_an_empty_batch_gives_empty_results(model, matrix, nobody, scores):
    for ids, values in (
        *(model.recommend(nobody, matrix[:0], N=4, **options) for options in ways(model)),
        model.recommend(nobody, None, N=4, filter_already_liked_items=False),
        model.similar_items(nobody, N=4),
        model.similar_users(nobody, N=4),
    ):
        assert ids.shape == values.shape == (0, 4)
        assert ids.dtype.kind == "i"
        assert values.dtype == scores.dtype


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
    for model in (first, second):
        model.fit(matrix, show_progress=False)
    assert_same_results(first, second, matrix)


def test_a_generator_is_advanced_by_its_use(make, matrix):
    random = np.random.default_rng(5)
    first, second = make(random_state=random), make(random_state=random)
    for model in (first, second):
        model.fit(matrix, show_progress=False)
    assert not np.array_equal(first.recommend(0, matrix[0])[1], second.recommend(0, matrix[0])[1])


# Whose row is whose


def matrix_forms(matrix):
    return {
        "csr_matrix": matrix,
        "csr_array": sparse.csr_array(matrix),
        "float32": matrix.astype(np.float32),
        "int32": matrix.astype(np.int32),
        "int64 indices": with_wide_indices(matrix),
    }


def with_wide_indices(matrix):
    wide = matrix.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    return wide


@pytest.mark.parametrize("form", ["csr_matrix", "csr_array", "float32", "int32", "int64 indices"])
@pytest.mark.parametrize("recalculate", [True, False])
def test_rows_of_the_batch_and_the_full_matrix_mean_the_same(model, matrix, form, recalculate, unmodified, row_of):
    if recalculate:
        needs_recalculation(model)
    users, given = [7, 3, 59], matrix_forms(matrix)[form]
    expected = model.recommend(users, matrix[users], recalculate_user=recalculate)
    with unmodified(given):
        assert_result(model.recommend(users, given, recalculate_user=recalculate), expected)
    assert_result(model.recommend(users, given[users], recalculate_user=recalculate), expected)
    for row, user in enumerate(users):
        one = (expected[0][row], expected[1][row])
        assert_result(model.recommend(user, given, recalculate_user=recalculate), one)
        assert_result(model.recommend(user, given[[user]], recalculate_user=recalculate), one)
        assert_result(model.recommend(user, row_of(given, user), recalculate_user=recalculate), one)


def test_one_row_per_id_is_taken_by_position_even_for_all_users(model, matrix, scores):
    users = np.arange(USERS)[::-1]
    ids, values = model.recommend(users, matrix, N=ITEMS)
    for row, user in enumerate(users):
        assert_result((ids[row], values[row]), ranked(scores[user], ITEMS, liked_by(matrix, row)))


def test_one_row_for_one_user_is_that_user_s(model, matrix, scores):
    """Position decides: the row of user 5, passed for user 0, is what user 0 likes."""
    assert_result(model.recommend(0, matrix[5], N=ITEMS), ranked(scores[0], ITEMS, liked_by(matrix, 5)))


def test_a_full_matrix_may_hold_users_whom_the_model_has_not_seen(model, matrix):
    more = sparse.vstack([matrix, matrix[:5]], format="csr")
    assert_result(model.recommend([3, 1], more), model.recommend([3, 1], matrix))
    needs_recalculation(model)
    assert_result(
        model.recommend(USERS + 2, more, recalculate_user=True), model.recommend(2, matrix, recalculate_user=True)
    )


@pytest.mark.parametrize("rows", [0, 2, 4, 59])
@pytest.mark.parametrize("recalculate", [True, False])
def test_another_number_of_rows_says_what_to_pass(model, matrix, rows, recalculate):
    users = [0, 1, 2]
    with pytest.raises(ValueError, match=rf"\(3\), got {rows} rows; pass user_items\[userid\]"):
        model.recommend(users, matrix[:rows], recalculate_user=recalculate)
    if rows != 1:
        with pytest.raises(ValueError, match=rf"\(1\), got {rows} rows; pass user_items\[userid\]"):
            model.recommend(0, matrix[:rows], recalculate_user=recalculate)


def test_a_full_matrix_without_a_row_of_the_user_is_refused(model, matrix):
    with pytest.raises(ValueError, match="one row per userid"):
        model.recommend(USERS, matrix, recalculate_user=True)
    with pytest.raises(ValueError, match="one row per userid"):
        model.recommend([0, USERS], matrix, recalculate_user=True)


@pytest.mark.parametrize("recalculate", [True, False])
def test_a_transposed_matrix_is_named_so(model, matrix, recalculate):
    item_users = matrix.T.tocsr()
    for given in (item_users, item_users[0], item_users[:3]):
        for users in (0, np.arange(given.shape[0])):
            with pytest.raises(ValueError, match=f"user_items must have {ITEMS} columns, got {USERS}.*transposed"):
                model.recommend(users, given, recalculate_user=recalculate)
    needs_recalculation(model)
    with pytest.raises(ValueError, match=f"item_users must have {USERS} columns, got {ITEMS}.*transposed"):
        model.similar_items([0, 1, 2], recalculate_item=True, item_users=matrix[:3])


def test_a_column_that_the_model_does_not_know_is_refused(model):
    for columns in ([ITEMS], [0, ITEMS + 3]):
        wide = sparse.csr_matrix((np.ones(len(columns)), ([0] * len(columns), columns)), shape=(1, ITEMS + 4))
        for recalculate in (True, False):
            with pytest.raises(ValueError, match=f"0 to {ITEMS - 1}, got {columns[-1]}"):
                model.recommend(0, wide, recalculate_user=recalculate)


@pytest.mark.parametrize("width", [ITEMS - 5, ITEMS + 7])
def test_another_width_is_fine_as_long_as_the_stored_columns_are_known(model, matrix, scores, width):
    row = sparse.csr_matrix(([1.0, 1.0], ([0, 0], [0, ITEMS - 6])), shape=(1, width))
    assert_result(model.recommend(1, row, N=ITEMS), ranked(scores[1], ITEMS, [0, ITEMS - 6]))


@pytest.mark.parametrize("kind", ["coo", "csc", "lil", "dense", "list", "none"])
@pytest.mark.parametrize("options", [{}, {"filter_already_liked_items": False, "recalculate_user": True}])
def test_only_csr_is_taken_for_recommendations(model, matrix, kind, options):
    one = {"dense": matrix[[0]].toarray(), "list": [[1, 0]], "none": None}
    given = one[kind] if kind in one else matrix[[0]].asformat(kind)
    for user in (0, [0]):
        with pytest.raises(ValueError, match="must be a csr_matrix or csr_array"):
            model.recommend(user, given, **options)


def test_user_items_are_not_needed_where_nothing_depends_on_them(model, matrix, scores):
    for given in (None, matrix.tocoo(), matrix[:7], "nothing"):
        result = model.recommend(1, given, N=5, filter_already_liked_items=False)
        assert_result(result, ranked(scores[1], 5))


@pytest.mark.parametrize("damage", ["indptr falls", "indptr too long", "negative column", "indices too short"])
def test_a_matrix_that_contradicts_itself_is_refused(make, model, matrix, damage):
    bad = matrix.copy()
    if damage == "indptr falls":
        bad.indptr[1] = bad.indptr[2] + 5
    elif damage == "indptr too long":
        bad.indptr[-1] += 1000
    elif damage == "negative column":
        bad.indices[0] = -3
    else:
        bad.indices = bad.indices[:-3]
    users = np.arange(USERS)
    for call in (
        lambda: make().fit(bad, show_progress=False),
        lambda: model.recommend(users, bad),
        lambda: model.recommend(users, bad, recalculate_user=True),
        lambda: model.recommend([0, 1, USERS - 1], bad),
        lambda: model.recommend([0, 1, USERS - 1], bad, recalculate_user=True),
    ):
        with pytest.raises(ValueError, match="user_items"):
            call()


def test_unsorted_and_read_only_rows_filter_alike(model, matrix, unmodified):
    users = [0, 3, 8]
    given = matrix[users]
    for row in range(3):
        own = slice(*given.indptr[row : row + 2])
        given.indices[own] = given.indices[own][::-1].copy()
        given.data[own] = given.data[own][::-1].copy()
    given.has_sorted_indices = False
    for part in (given.data, given.indices, given.indptr):
        part.flags.writeable = False
    for options in ways(model):
        with unmodified(given):
            result = model.recommend(users, given, **options)
        assert_result(result, model.recommend(users, matrix[users], **options))


@pytest.mark.parametrize("layout", ["read-only", "Fortran", "list", "reversed"])
def test_factors_of_any_layout_give_the_same_results(model, matrix, layout, unmodified):
    change = {
        "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
        "Fortran": np.asfortranarray,
        "list": lambda a: a.tolist(),
        "reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
    }[layout]
    other = copy.deepcopy(model)
    other.user_factors, other.item_factors = (change(on_host(f)) for f in (model.user_factors, model.item_factors))
    with unmodified(other.user_factors, other.item_factors):
        given = other.recommend([0, 1], matrix[:2], N=7)
        similar_ones = other.similar_items(np.arange(ITEMS))
    if layout == "list":  # a list has no type of its own: it is taken as float64
        np.testing.assert_array_equal(given[0], model.recommend([0, 1], matrix[:2], N=7)[0])
    else:
        assert_result(given, model.recommend([0, 1], matrix[:2], N=7))
        assert_result(similar_ones, model.similar_items(np.arange(ITEMS)))


def test_factors_written_in_place_count_at_once(model, matrix):
    other = copy.deepcopy(model)
    other.similar_items(0)
    other.recommend(0, matrix[0])
    other.item_factors[4] = other.item_factors[5] * 2
    assert other.similar_items(5, N=2)[0].tolist() == [4, 5]
    np.testing.assert_allclose(
        other.recommend(0, None, N=1, items=[4], filter_already_liked_items=False)[1][0],
        2 * other.recommend(0, None, N=1, items=[5], filter_already_liked_items=False)[1][0],
    )


# Deprecated calls


def test_rank_items_is_a_deprecated_recommend(model, matrix):
    with pytest.warns(DeprecationWarning, match="recommend"):
        given = model.rank_items(3, matrix[3], list(range(20)))
    assert_result(given, model.recommend(3, None, items=range(20), filter_already_liked_items=False))
    assert len(given[0]) == 10
    for bad in ([-1], [ITEMS]):
        with pytest.warns(DeprecationWarning, match="recommend"), pytest.raises(IndexError):
            model.rank_items(3, matrix[3], bad)
    needs_recalculation(model)
    with pytest.warns(DeprecationWarning, match="recommend"):
        given = model.rank_items([3, 4], matrix[[3, 4]], [1, 2], recalculate_user=True)
    expected = model.recommend(
        [3, 4], matrix[[3, 4]], items=[1, 2], filter_already_liked_items=False, recalculate_user=True
    )
    assert_result(given, expected)


def test_recommend_all_is_a_deprecated_recommend(model, matrix):
    with pytest.warns(DeprecationWarning, match="recommend"):
        given = model.recommend_all(matrix, N=4)
    np.testing.assert_array_equal(given, model.recommend(np.arange(USERS), matrix, N=4)[0])
    needs_recalculation(model)
    with pytest.warns(DeprecationWarning, match="recommend"):
        given = model.recommend_all(matrix[10:15], 4, True, False, filter_items=[0], users_items_offset=10)
    expected = model.recommend(
        np.arange(10, 15),
        matrix[10:15],
        N=4,
        recalculate_user=True,
        filter_already_liked_items=False,
        filter_items=[0],
    )
    np.testing.assert_array_equal(given, expected[0])


# Copies and files


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "oldest pickle": lambda model: pickle.loads(pickle.dumps(model, protocol=2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_gives_the_same_results_and_can_go_on(model, matrix, how):
    twin = COPIES[how](model)
    assert type(twin) is type(model)
    assert_same_results(twin, model, matrix)
    assert twin.get_params() == model.get_params()
    assert twin.recommend(0, matrix[0], **ways(model)[-1])[0].shape == (10,)
    unfitted = COPIES[how](type(model)())
    with pytest.raises(NotFittedError):
        unfitted.recommend(0, matrix[0])


def test_a_deep_copy_shares_nothing(model):
    twin = copy.deepcopy(model)
    twin.item_factors[:] = 0
    assert model.item_factors.any()


def test_an_unfitted_model_says_so(make, matrix):
    model = make()
    for call in (
        lambda: model.recommend(0, matrix[0]),
        lambda: model.recommend([0], None, filter_already_liked_items=False),
        lambda: model.similar_items(0),
        lambda: model.similar_users(0),
        lambda: model.item_norms,
    ):
        for kind in (NotFittedError, ValueError, TypeError):
            with pytest.raises(kind, match="call fit or load"):
                call()


def test_parameters_survive_being_read_and_set(make, matrix, model):
    clone = type(model)(**make().get_params())
    clone.fit(matrix, show_progress=False)
    assert_same_results(clone, model, matrix)
    assert clone.get_params() == model.get_params()
    assert isinstance(clone, RecommenderBase)
    assert clone.set_params(num_threads=2) is clone
    assert clone.num_threads == 2
    with pytest.raises(ValueError, match="volume"):
        clone.set_params(volume=11)


@pytest.mark.parametrize("suffix", ["", ".npz", ".model"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_saved_model_is_loaded_by_the_name_it_was_saved_under(model, matrix, tmp_path, suffix, kind):
    path = kind(tmp_path / f"a model{suffix}")
    model.save(path)
    names = [entry.name for entry in tmp_path.iterdir()]
    assert names == [f"a model{suffix}" if suffix == ".npz" else f"a model{suffix}.npz"]
    for loaded in (type(model).load(path), type(model).load(kind(tmp_path / names[0])), model.load(path)):
        assert type(loaded) is type(model)
        assert loaded.get_params() == model.get_params()
        assert_same_results(loaded, model, matrix)


def test_a_loaded_model_can_be_recalculated_and_fitted_further(model, matrix, tmp_path):
    model.save(tmp_path / "model")
    loaded, going_on = type(model).load(tmp_path / "model"), copy.deepcopy(model)
    for options in ways(model):
        assert_result(loaded.recommend(3, matrix[3], **options), model.recommend(3, matrix[3], **options))
    for each in (loaded, going_on):
        each.fit(matrix, show_progress=False)
    assert_same_results(loaded, going_on, matrix)


def test_file_objects_will_do(model, matrix, tmp_path):
    with open(tmp_path / "model", "wb") as file:
        model.save(file)
    with open(tmp_path / "model", "rb") as file:
        assert_same_results(type(model).load(file), model, matrix)
    memory = io.BytesIO()
    model.save(memory)
    memory.seek(0)
    assert_same_results(type(model).load(memory), model, matrix)


def test_the_public_class_loads_what_the_class_of_a_device_saved(model, matrix, tmp_path):
    model.save(tmp_path / "model")
    public = type(model).__mro__[1]
    loaded = public.load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert_same_results(loaded, model, matrix)


def test_an_unfitted_model_can_be_saved(make, matrix, model, tmp_path):
    make().save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert loaded.__dict__ == make().__dict__
    with pytest.raises(NotFittedError):
        loaded.recommend(0, matrix[0])
    loaded.fit(matrix, show_progress=False)
    assert_same_results(loaded, model, matrix)


@pytest.mark.parametrize(
    "seed",
    [
        lambda: None,
        lambda: 5,
        lambda: np.int64(5),
        lambda: np.random.default_rng(5),
        lambda: np.random.Generator(np.random.MT19937(5)),
        lambda: np.random.Generator(np.random.Philox(5)),
        lambda: np.random.Generator(np.random.SFC64(5)),
        lambda: np.random.RandomState(5),
        lambda: np.random.SeedSequence(5).spawn(2)[1],
        lambda: np.random.PCG64DXSM(5),
    ],
)
def test_the_random_state_is_saved_with_the_model(make, matrix, tmp_path, seed):
    model = make(random_state=seed())
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    if seed() is None:
        assert loaded.random_state is None
        return
    for each in (model, loaded):
        each.fit(matrix, show_progress=False)
    assert_same_results(loaded, model, matrix)


def test_a_missing_file_is_not_found(model, tmp_path):
    for path in (tmp_path / "model", str(tmp_path / "model.npz")):
        with pytest.raises(FileNotFoundError):
            type(model).load(path)
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "no such folder" / "model")


class Weapon:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("trace of an unpickled object"),))


def hostile(kind, good, tmp_path):
    """Write a file that is no model."""
    path = tmp_path / "bad.npz"
    members = dict(np.load(io.BytesIO(good)))
    damages = {
        "pickled": {"random_state": np.array([Weapon()], dtype=object)},
        "pickled factors": {"user_factors": np.array([[Weapon()]], dtype=object)},
        "of integers": {"user_factors": np.ones((3, 8), dtype=int)},
        "of text": {"user_factors": np.array([["a"]])},
        "of one dimension": {"item_factors": np.ones(8)},
        "of no dimension": {"item_factors": np.float64(8)},
        "of another width": {"item_factors": np.ones((3, 5), dtype=np.float32)},
        "of no known type": {"dtype": np.array("nonsense")},
        "of objects": {"dtype": np.array("O")},
        "type is a number": {"dtype": np.array(3)},
        "with a broken seed": {"random_state": np.array('{"generator": {"bit_generator": "PCG64"}}')},
        "with a seed of text": {"random_state": np.array("nonsense")},
        "with a foreign seed": {"random_state": np.array('{"generator": {"bit_generator": "os.system"}}')},
    }
    if kind in damages:
        np.savez(path, **{**members, **damages[kind]})
    elif kind == "without factors":
        np.savez(path, user_factors=members["user_factors"], item_factors=members["item_factors"])
    elif kind == "one side":
        np.savez(path, **{name: part for name, part in members.items() if name != "item_factors"})
    elif kind == "one array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind == "a zip of text":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("factors.npy", "text")
    elif kind == "a pickle":
        path.write_bytes(pickle.dumps({"factors": 3}))
    elif kind == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "one byte flipped":
        data = good.index(members["item_factors"].tobytes())  # dates of a zip file, for example, nobody checks
        path.write_bytes(good[:data] + bytes([good[data] ^ 255]) + good[data + 1 :])
    else:
        path.write_bytes({"empty": b"", "text": b"no model at all"}[kind])
    return path


HOSTILE = [
    *("pickled", "pickled factors", "of integers", "of text", "of one dimension", "of no dimension"),
    *("of another width", "of no known type", "of objects", "type is a number", "with a broken seed"),
    *("with a seed of text", "with a foreign seed", "without factors", "one side", "one array"),
    *("a zip of text", "a pickle", "truncated", "one byte flipped", "empty", "text"),
]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_no_model_is_refused(model, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    good = io.BytesIO()
    model.save(good)
    path = hostile(kind, good.getvalue(), tmp_path)
    with pytest.raises(ModelLoadError):
        type(model).load(path)
    with open(path, "rb") as file, pytest.raises(ModelLoadError):
        type(model).load(file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.npz"]
    assert issubclass(ModelLoadError, ValueError)


def test_what_lies_behind_the_last_entry_does_not_matter(make, model, matrix, with_spare_room):
    roomy = make()
    roomy.fit(with_spare_room(matrix), show_progress=False)
    everything = {"userid": np.arange(USERS), "user_items": None, "N": ITEMS, "filter_already_liked_items": False}
    for part, wanted in zip(roomy.recommend(**everything), model.recommend(**everything), strict=True):
        np.testing.assert_array_equal(part, wanted)
    for users in (2, [1, 2]):
        for rows in (matrix, matrix[users]):
            found = model.recommend(users, with_spare_room(rows), N=5)
            for part, wanted in zip(found, model.recommend(users, rows, N=5), strict=True):
                np.testing.assert_array_equal(part, wanted)


def test_entries_that_the_model_does_not_know_do_not_become_attributes(model, matrix, tmp_path):
    memory = io.BytesIO()
    model.save(memory)
    memory.seek(0)
    members = dict(np.load(memory))
    extra = {"recommend": 1, "fit_callback": 2, "stranger": 3, "_cache": 4, "device": "gpu", "__class__": 5}
    np.savez(tmp_path / "model.npz", **members, **extra)
    loaded = type(model).load(tmp_path / "model")
    assert loaded.__dict__.keys() == model.__dict__.keys()
    assert not hasattr(loaded, "stranger")
    assert_same_results(loaded, model, matrix)


def test_a_save_that_fails_keeps_the_old_file(model, matrix, tmp_path, monkeypatch):
    model.save(tmp_path / "model")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    other = copy.deepcopy(model)
    other.item_factors = other.item_factors * 0
    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        other.save(tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]
    assert_same_results(type(model).load(tmp_path / "model"), model, matrix)
