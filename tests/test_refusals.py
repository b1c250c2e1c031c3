"""Arguments that used to crash, hang, warn, pass through or fail inside a library: each is refused by its name."""

import contextlib

import numpy as np
import pytest
from scipy import sparse

from implicit_core import evaluation
from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.cpu.als import calculate_loss, least_squares, least_squares_cg, user_factor
from implicit_core.cpu.matrix_factorization_base import _filter_items_from_sparse_matrix
from implicit_core.cpu.topk import topk
from implicit_core.datasets.synthetic import make_implicit
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import (
    BM25Recommender,
    CosineRecommender,
    NearestNeighboursScorer,
    all_pairs_knn,
    bm25_weight,
)
from implicit_core.recommender_base import ModelFitError
from implicit_core.utils import augment_inner_product_matrix, check_random_state

MATRIX = sparse.csr_matrix(np.arange(12.0).reshape(3, 4))
X, Y = np.ones((3, 2)), np.ones((4, 2))
RAGGED = [[0], [0, 1]]


def spoilt(kind=sparse.csr_matrix, **arrays):
    """The matrix with other arrays."""
    matrix = kind(MATRIX)
    for name, array in arrays.items():
        setattr(matrix, name, array)
    return matrix


@pytest.fixture
def model():
    fitted = AlternatingLeastSquares(2, iterations=1, random_state=0)
    fitted.fit(MATRIX, show_progress=False)
    return fitted


def fit(matrix, **parameters):
    AlternatingLeastSquares(2, iterations=1, **parameters).fit(matrix, show_progress=False)


@pytest.mark.parametrize(
    ("call", "error", "name"),
    [
        (lambda m: check_random_state(-1), ValueError, "random_state"),
        (lambda m: fit(MATRIX, random_state="seed"), TypeError, "random_state"),
        (lambda m: fit(MATRIX, dtype="no such"), TypeError, "dtype"),
        (lambda m: fit(MATRIX, regularization=10**400), ValueError, "regularization"),
        (lambda m: fit(MATRIX, cg_steps=np.ones(2)), TypeError, "cg_steps"),
        (lambda m: AlternatingLeastSquares(2**40).fit(MATRIX, show_progress=False), ValueError, "factors"),
        (lambda m: fit(spoilt(indptr=MATRIX.indptr.astype(float))), ValueError, "user_items"),
        (lambda m: fit(spoilt(indices=MATRIX.indices + 0.5)), ValueError, "user_items"),
        (lambda m: fit(spoilt(indices=MATRIX.indices[:, None])), ValueError, "user_items"),
        (lambda m: fit(spoilt(data=MATRIX.data[:, None])), ValueError, "user_items"),
        (lambda m: fit(spoilt(sparse.coo_matrix, row=MATRIX.tocoo().row + 9)), ValueError, "user_items"),
        (lambda m: fit(spoilt(sparse.csc_matrix, indices=MATRIX.tocsc().indices - 5)), ValueError, "user_items"),
        (lambda m: m.recommend(RAGGED, MATRIX), IndexError, "userid"),
        (lambda m: m.similar_items(RAGGED), IndexError, "itemid"),
        (lambda m: m.recommend(0, None, filter_already_liked_items=False, items=RAGGED), IndexError, "items"),
        (
            lambda m: m.recommend(0, None, filter_already_liked_items=False, filter_items={1, "a"}),
            IndexError,
            "filter_items",
        ),
        (lambda m: m.recommend(0, MATRIX[[0]], N=2**31), ValueError, "N must"),
        (lambda m: m.similar_items(0, N=2**62), ValueError, "N must"),
        (lambda m: m.recommend([0, 1, 2], spoilt(data=MATRIX.data.astype(object))), TypeError, "user_items"),
        (lambda m: m.explain([0, 1], MATRIX[[0, 1]], 1), IndexError, "userid"),
        (lambda m: m.partial_fit_users(RAGGED, MATRIX[:2]), IndexError, "userids"),
        (lambda m: all_pairs_knn(MATRIX, num_threads=1.5), TypeError, "num_threads"),
        (lambda m: NearestNeighboursScorer(MATRIX[:, :3]).recommend("a", [0], [1.0]), TypeError, "user_indptr"),
        (lambda m: NearestNeighboursScorer(MATRIX[:, :3]).recommend([0], [0], [1.0]), ValueError, "user_indptr"),
        (lambda m: bm25_weight(MATRIX, K1=-1), ValueError, "K1"),
        (lambda m: bm25_weight(MATRIX, B=1.5), ValueError, "B must"),
        (lambda m: bm25_weight(MATRIX * 1e307), ValueError, "X h"),
        (lambda m: bm25_weight(spoilt(indices=MATRIX.indices + 9)), ValueError, "X must"),
        (lambda m: evaluation.train_test_split(MATRIX, random_state=-1), ValueError, "random_state"),
        (
            lambda m: evaluation.train_test_split(spoilt(sparse.coo_matrix, row=MATRIX.tocoo().row + 9)),
            ValueError,
            "ratings",
        ),
        (
            lambda m: evaluation.precision_at_k(m, spoilt(indices=MATRIX.indices - 9), MATRIX),
            ValueError,
            "train_user_items",
        ),
        (lambda m: evaluation.precision_at_k(m, MATRIX, MATRIX, num_threads="2"), TypeError, "num_threads"),
        (lambda m: calculate_loss(MATRIX, X, Y, "a"), TypeError, "regularization"),
        (lambda m: calculate_loss(MATRIX[:0], X[:0], Y, 0.1, 1.5), TypeError, "num_threads"),
        (lambda m: least_squares_cg(MATRIX, X.copy(), Y, 0.1, cg_steps=None), TypeError, "cg_steps"),
        (lambda m: user_factor(Y, Y.T @ Y, MATRIX, 0, 0.0, 2), ModelFitError, "regularization"),
        (lambda m: user_factor("Y", Y.T @ Y, MATRIX, 0, 0.1, 2), TypeError, "Y must"),
        (lambda m: topk(Y.astype(complex), X, 2), TypeError, "items"),
        (lambda m: topk(Y, RAGGED, 2), TypeError, "query"),
        (lambda m: topk(Y, X, 2, item_norms=np.ones(5)), ValueError, "item_norms"),
        (lambda m: topk(Y, X, 2**31), ValueError, "k must"),
        (lambda m: _filter_items_from_sparse_matrix(RAGGED, MATRIX), ValueError, "items"),
        (lambda m: augment_inner_product_matrix(np.ones(3)), ValueError, "factors"),
        (lambda m: make_implicit(random_state=-1), ValueError, "random_state"),
        (lambda m: make_implicit(users=2.5), TypeError, "users"),
        (lambda m: make_implicit(affinity="a"), TypeError, "affinity"),
        (lambda m: make_implicit(users=2**70, entries=0), ValueError, "users"),
    ],
)
def test_it_is_refused_by_name(model, call, error, name):
    with pytest.raises(error, match=name):
        call(model)


def test_factors_that_are_no_numbers_are_refused(model):
    for kind in (object, complex):
        model.user_factors = np.ones((3, 2), kind)
        with pytest.raises(TypeError, match="user_factors"):
            model.recommend(0, MATRIX[[0]])


def test_factors_that_run_away_are_an_error_without_a_warning():
    model = BayesianPersonalizedRanking(3, learning_rate=1e30, iterations=3, random_state=0)
    with pytest.raises(ModelFitError, match="lower the learning rate"):
        model.fit(make_implicit(30, 20, 200, random_state=0), show_progress=False)


def test_a_huge_k_does_not_loop_over_users_that_are_not_there():
    train, test = evaluation.leave_k_out_split(MATRIX, K=2**40)
    assert test.nnz == 0
    assert (train != MATRIX).nnz == 0


@pytest.mark.parametrize("stride", [2, -1])
def test_arrays_that_are_no_block_of_memory_are_taken(model, stride):
    stored = {name: np.repeat(getattr(MATRIX, name), 2)[::2] for name in ("data", "indices")}
    if stride < 0:
        stored = {name: np.ascontiguousarray(getattr(MATRIX, name)[::-1])[::-1] for name in stored}
    strided = spoilt(**stored)
    for first, second in (
        (all_pairs_knn(strided, show_progress=False), all_pairs_knn(MATRIX, show_progress=False)),
        (model.recommend([0, 1, 2], strided)[0], model.recommend([0, 1, 2], MATRIX)[0]),
    ):
        first, second = (part.toarray() if sparse.issparse(part) else part for part in (first, second))
        assert np.array_equal(first, second)


def test_half_precision_works_wherever_scipy_is_asked(model):
    half = spoilt(data=MATRIX.data.astype(np.float16), indices=MATRIX.indices[::-1].copy())
    assert model.recommend([0, 1, 2], half)[0].shape == (3, 10)
    assert evaluation.precision_at_k(model, half, half) >= 0
    assert bm25_weight(half).nnz == MATRIX.nnz
    train, test = evaluation.leave_k_out_split(half)
    assert train.dtype == test.dtype == np.float32
    CosineRecommender().fit(half, show_progress=False)


MODELS = [AlternatingLeastSquares, BayesianPersonalizedRanking, LogisticMatrixFactorization]
COLUMNS = {AlternatingLeastSquares: 0, BayesianPersonalizedRanking: 1, LogisticMatrixFactorization: 2}


def wide_factors(kind, width):
    return {"user_factors": np.ones((3, width + COLUMNS[kind])), "item_factors": np.ones((4, width + COLUMNS[kind]))}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("changes", "name"),
    [
        (lambda kind: {"regularization": "0"}, "regularization"),
        (lambda kind: {"regularization": -1}, "regularization"),
        (lambda kind: {"num_threads": 1.5}, "num_threads"),
        (lambda kind: {"factors": "2"}, "factors"),
        (lambda kind: {"factors": 200}, "factors"),
        (lambda kind: {"dtype": np.int32}, "dtype"),
        (lambda kind: {"iterations": "3"}, "iterations"),
        (lambda kind: {"user_factors": None}, "user_factors"),
        (lambda kind: {"item_factors": None}, "item_factors"),
        (lambda kind: {"item_factors": wide_factors(kind, 2)["item_factors"].astype(complex)}, "item_factors"),
        (lambda kind: {"user_factors": wide_factors(kind, 2)["user_factors"].astype(object)}, "user_factors"),
        (lambda kind: {"user_factors": wide_factors(kind, 200)["user_factors"]}, "user_factors"),
    ],
)
def test_what_a_callback_sets_wrong_is_refused_by_name(kind, changes, name):
    """A kernel that trusted them would write outside its arrays."""
    model = kind(2, iterations=3, random_state=0)
    with pytest.raises((TypeError, ValueError), match=name):
        model.fit(MATRIX, show_progress=False, callback=lambda *_: vars(model).update(changes(kind)))


@pytest.mark.parametrize("cg_steps", [-1, 0, 2**31, None])
def test_steps_that_a_callback_sets_wrong_are_refused(cg_steps):
    model = AlternatingLeastSquares(40, iterations=3, random_state=0)
    with pytest.raises((TypeError, ValueError), match="cg_steps"):
        model.fit(MATRIX, show_progress=False, callback=lambda *_: model.set_params(cg_steps=cg_steps))


def test_a_callback_cannot_widen_a_logistic_fit_whose_sums_have_a_width():
    model = LogisticMatrixFactorization(2, iterations=3, random_state=0)
    wide = {"factors": 500, **wide_factors(LogisticMatrixFactorization, 500)}
    with pytest.raises(ValueError, match="factors and dtype must stay the same during fit, 2 and float32, got 500"):
        model.fit(MATRIX, show_progress=False, callback=lambda *_: vars(model).update(wide))
    model = LogisticMatrixFactorization(2, iterations=3, random_state=0)
    with pytest.raises(ValueError, match="dtype must stay the same"):
        model.fit(MATRIX, show_progress=False, callback=lambda *_: setattr(model, "dtype", np.dtype(np.float64)))


@pytest.mark.parametrize("kind", MODELS)
def test_a_callback_must_be_a_function(kind):
    with pytest.raises(TypeError, match="callback must be a function"):
        kind(2, iterations=1).fit(MATRIX, show_progress=False, callback=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.uint32, np.uint64])
def test_ids_of_any_integer_type_find_their_rows_in_the_full_matrix(dtype):
    matrix = make_implicit(300, 20, 3000, random_state=0)
    model = AlternatingLeastSquares(2, iterations=1, random_state=0)
    model.fit(matrix, show_progress=False)
    last = min(np.iinfo(dtype).max, 299)
    expected = model.recalculate_user([0, last], matrix[[0, last]])
    assert np.array_equal(model.recalculate_user(np.array([0, last], dtype), matrix), expected)
    assert np.array_equal(model.recalculate_user(dtype(last), matrix), expected[1])
    ids, _ = model.recommend(np.array([0, last], dtype), matrix, recalculate_user=True)
    assert np.array_equal(ids, model.recommend([0, last], matrix[[0, last]], recalculate_user=True)[0])


@pytest.mark.parametrize("flag", [True, False, np.bool_(False), np.array(True)])
def test_a_single_truth_value_is_no_id_even_where_there_is_one_user(flag):
    matrix = sparse.csr_matrix([[1.0, 2.0, 0.0]])
    model, neighbours = AlternatingLeastSquares(2, iterations=1), CosineRecommender()
    for fitted in (model, neighbours):
        fitted.fit(matrix, show_progress=False)
        for call in (
            lambda fitted=fitted: fitted.recommend(flag, matrix),
            lambda fitted=fitted: fitted.similar_users(flag),
        ):
            with pytest.raises(IndexError, match="userid"):
                call()
    with pytest.raises(IndexError, match="userid"):
        model.recommend(flag, matrix, recalculate_user=True)
    with pytest.raises(IndexError, match="filter_users"):
        model.similar_users(0, filter_users=flag)


@pytest.mark.parametrize(
    "arrays",
    [
        *({"indices": kind, "indptr": kind} for kind in (">i4", ">i8", "u4", "u8", "i2", "u2", "u1")),
        {"indices": "i8"},
        {"indptr": "i8"},
        {"data": ">f8"},
        {"data": ">f4"},
    ],
    ids=lambda arrays: ", ".join(f"{name} {kind}" for name, kind in arrays.items()),
)
def test_arrays_of_any_type_and_byte_order_give_what_usual_ones_do(model, arrays):
    order = slice(None, None, -1)  # not sorted
    usual = spoilt(indices=MATRIX.indices[order].copy(), data=MATRIX.data[order].copy())
    matrix = spoilt(indices=usual.indices, data=usual.data)
    for name, kind in arrays.items():
        setattr(matrix, name, getattr(matrix, name).astype(kind))
    for call in (
        lambda m: model.recommend([0, 1, 2], m)[0],
        lambda m: model.recalculate_user([2, 0], m[[2, 0]] if m is usual else m),
        lambda m: all_pairs_knn(m, show_progress=False).toarray(),
        lambda m: np.vstack([part.toarray() for part in evaluation.train_test_split(m, random_state=0)]),
        lambda m: np.vstack([part.toarray() for part in evaluation.leave_k_out_split(m, random_state=0)]),
        lambda m: evaluation.precision_at_k(model, m, m, show_progress=False),
        lambda m: bm25_weight(m).toarray(),
    ):
        assert np.array_equal(call(matrix), call(usual))
    for kind in (*MODELS, CosineRecommender):
        fitted = kind()
        fitted.fit(matrix, show_progress=False)


@pytest.mark.parametrize("kind", [AlternatingLeastSquares, BM25Recommender])
def test_more_results_than_fit_into_memory_are_an_error_that_names_their_number(kind):
    matrix = make_implicit(20_000, 30, 60_000, random_state=0)
    model = kind()
    model.fit(matrix, show_progress=False)
    users = np.arange(20_000)
    for call in (
        lambda: model.recommend(users, matrix, N=2**31 - 1),
        lambda: model.similar_users(users, N=2**31 - 1),
        lambda: model.similar_items(users % 30, N=2**31 - 1),
    ):
        with pytest.raises(MemoryError, match="N=2147483647 results for 20000 ids take"):
            call()
    few = make_implicit(5, 30, 60, random_state=0)
    assert evaluation.precision_at_k(model, few, few, K=2**62) == evaluation.precision_at_k(model, few, few, K=30)


def test_more_results_of_topk_than_fit_into_memory_are_an_error():
    with pytest.raises(MemoryError, match="k=2147483647 results for 20000 queries take"):
        topk(Y, np.ones((20_000, 2)), 2**31 - 1)


@pytest.mark.parametrize("kind", MODELS)
def test_more_factors_than_fit_into_memory_are_an_error_that_says_so(kind):
    with pytest.raises(MemoryError, match="factors of 20000 users and 30 items take"):
        kind(2**31 - 1).fit(make_implicit(20_000, 30, 60_000, random_state=0), show_progress=False)


@pytest.mark.parametrize(
    "weights",
    [
        "x",
        3,
        [],
        (1, 2),
        (np.eye(3), True),
        (np.full((2, 2), np.nan), True),
        (np.zeros((2, 2)), True),
        (np.eye(2), "x"),
        (np.eye(2), np.array([True])),
        (np.eye(2), [[True], [True, True]]),
    ],
)
def test_weights_that_explain_did_not_return_are_refused(model, weights):
    with pytest.raises((TypeError, ValueError), match="user_weights"):
        model.explain(0, MATRIX, 1, user_weights=weights)
    _, _, right = model.explain(0, MATRIX, 1)
    assert isinstance(right[1], bool)
    for given in (right, (right[0], np.array(right[1]))):
        assert model.explain(0, MATRIX, 2, user_weights=given)[:2] == model.explain(0, MATRIX, 2)[:2]


HUGE = [1e19, 1e39, 1e200, np.inf]


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("kind", MODELS)
def test_factors_too_large_for_single_precision_are_an_error_or_a_result_without_a_warning(kind, value):
    """Warnings are errors here."""
    for side in ("user_factors", "item_factors"):
        model = kind(2, iterations=1, random_state=0)
        vars(model).update(wide_factors(kind, 2))
        getattr(model, side)[1] = value
        model.recommend([0, 1], MATRIX[[0, 1]])
        model.similar_items([0, 1])
        calls = [lambda model=model: model.fit(MATRIX, show_progress=False)]
        if kind is AlternatingLeastSquares:
            calls += [
                lambda model=model: model.recalculate_user([0], MATRIX[[0]]),
                lambda model=model: model.recalculate_item([0], MATRIX.T.tocsr()[[0]]),
                lambda model=model: model.YtY,
                lambda model=model: model.explain(0, MATRIX, 1),
            ]
        for call in calls:
            with contextlib.suppress(ModelFitError):
                call()


@pytest.mark.parametrize("value", HUGE)
def test_functions_on_arrays_take_large_numbers_or_refuse_them_without_a_warning(value):
    large = np.full((4, 2), value)
    topk(Y.astype(np.float32), large[:1], 2)
    topk(large, Y[:1], 2)
    topk(Y, Y[:1], 2, item_norms=large[:, 0])
    topk(Y.astype(np.float32), Y[:1], 2, item_norms=large[:, 0])
    for solve in (least_squares, least_squares_cg):
        with pytest.raises(ModelFitError, match="too large for float32"):
            solve(MATRIX, X.astype(np.float32), large, 0.1)
    calculate_loss(MATRIX, X.astype(np.float32), large, 0.1)
    if value < 1e100:
        assert np.isfinite(augment_inner_product_matrix(large)[1]).all()
    else:
        with pytest.raises(ValueError, match="factors must be finite"):
            augment_inner_product_matrix(large)


@pytest.mark.parametrize("use_native", [True, False])
@pytest.mark.parametrize("parameters", [{"unobserved_weight": 1e38, "alpha": 1e38}, {"init_scale": 3e38}])
def test_parameters_that_exceed_single_precision_together_are_an_error(parameters, use_native):
    model = AlternatingLeastSquares(3, iterations=3, use_cg=False, use_native=use_native, random_state=0, **parameters)
    with pytest.raises(ModelFitError, match="too large"):
        model.fit(make_implicit(30, 20, 200, random_state=0), show_progress=False)
