"""The same input into `implicit` 0.7.3 and into this library gives the same results.

Where the two differ on purpose, this library's behaviour is asserted. Input on which `implicit` crashes (matrices of
the wrong shape, negative thread counts) is never given to it.
"""

import inspect
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import implicit_core.als
import implicit_core.cpu.als
import implicit_core.cpu.topk
import implicit_core.nearest_neighbours
from implicit_core import utils
from implicit_core.recommender_base import ModelFitError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("implicit", reason="compares with implicit, which is not installed")
    import implicit.als
    import implicit.cpu.als
    import implicit.cpu.topk
    import implicit.gpu
    import implicit.nearest_neighbours
    import implicit.utils

USERS, ITEMS, FACTORS = 50, 40, 7
SIDES = ("user_factors", "item_factors")


def theirs(**parameters):
    """A model of `implicit`, whose constructor warns of BLAS threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return implicit.cpu.als.AlternatingLeastSquares(**parameters)


def ours(**parameters):
    return implicit_core.cpu.als.AlternatingLeastSquares(**parameters)


def counts(users=USERS, items=ITEMS, seed=0, negative=True):
    random = np.random.default_rng(seed)
    values = np.round(random.lognormal(0.5, 1, size=(users, items)), 2) * (random.random((users, items)) < 0.2)
    if negative:
        values *= random.choice([-1, 1], p=[0.1, 0.9], size=values.shape)
    values[3 % users], values[:, 4 % items] = 0, 0
    return sparse.csr_matrix(values.astype(np.float32))


def pair(matrix, **parameters):
    """Both models, fitted to the same matrix."""
    parameters = {"factors": FACTORS, "iterations": 5, "random_state": 1, "num_threads": 1, **parameters}
    models = ours(**parameters), theirs(**parameters)
    for model in models:
        model.fit(matrix, show_progress=False)
    return models


def distance(first, second):
    """The largest difference relative to the largest value."""
    return np.abs(np.asarray(first, dtype=np.float64) - second).max(initial=0) / (np.abs(second).max(initial=0) or 1)


def assert_close(first, second, tolerance=1e-9):
    assert np.shape(first) == np.shape(second)
    assert np.asarray(first).dtype == np.asarray(second).dtype
    assert distance(first, second) <= tolerance


def assert_same_result(first, second, tolerance=1e-9):
    """Equal ids, and scores but for rounding."""
    np.testing.assert_array_equal(first[0], second[0])
    assert first[0].dtype == second[0].dtype
    assert_close(first[1], second[1], tolerance)


@pytest.fixture(params=[True, False], ids=["cg", "cholesky"])
def use_cg(request):
    return request.param


@pytest.fixture(scope="module")
def matrix():
    return counts()


@pytest.fixture(scope="module")
def models(matrix):
    """Float64, so that rounding cannot swap neighbours; for reading only."""
    return pair(matrix, dtype=np.float64, use_cg=False, alpha=1.5, regularization=0.1)


# Training


@pytest.mark.parametrize("seed", [0, 1, 2**40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_int_seed_gives_the_same_initial_factors(matrix, seed, dtype):
    mine, other = pair(matrix, iterations=0, random_state=seed, dtype=dtype)
    for side in SIDES:
        np.testing.assert_array_equal(getattr(mine, side), getattr(other, side))


@pytest.mark.parametrize("alpha", [1.0, 0.5, 40.0])
@pytest.mark.parametrize("regularization", [0.01, 1.0, 10])
def test_float64_factors_agree_after_five_iterations(matrix, use_cg, alpha, regularization):
    mine, other = pair(matrix, dtype=np.float64, use_cg=use_cg, alpha=alpha, regularization=regularization)
    for side in SIDES:
        assert_close(getattr(mine, side), getattr(other, side))


def test_factors_agree_without_native_code(matrix, use_cg):
    """Their Python solvers round some terms to float32, and leave what the last step reached of an empty row."""
    filled = matrix + sparse.csr_matrix(([2.0], ([3], [4])), shape=matrix.shape)
    mine, other = pair(filled.astype(np.float32), dtype=np.float64, use_cg=use_cg, use_native=False, iterations=1)
    for side in SIDES:
        assert_close(getattr(mine, side), getattr(other, side), 1e-5)


@pytest.mark.parametrize("factors", [1, 8, 33, 64, 100])
def test_float32_factors_agree_after_one_iteration(use_cg, factors):
    matrix = counts(200, 150, negative=False)
    mine, other = pair(matrix, iterations=1, use_cg=use_cg, factors=factors)
    for side in SIDES:
        assert_close(getattr(mine, side), getattr(other, side), 1e-3)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_number_of_cg_steps_means_the_same(matrix, steps):
    start = {"factors": FACTORS, "dtype": np.float64, "random_state": 1, "iterations": 3, "num_threads": 1}
    mine, other = ours(**start, cg_steps=steps), theirs(**start)
    other.cg_steps = steps
    for model in (mine, other):
        model.fit(matrix, show_progress=False)
    for side in SIDES:
        # each step amplifies rounding: after 5, that of implicit itself may be more than 1e-9
        assert_close(getattr(mine, side), getattr(other, side), 1e-8 if steps == 5 else 1e-9)


def test_float32_is_as_close_to_the_truth(use_cg):
    errors = []
    for seed in range(6):
        matrix = counts(600, 400, seed, negative=False)
        options = {"use_cg": use_cg, "random_state": seed, "factors": 32, "iterations": 1, "num_threads": 1}
        start = ours(**{**options, "iterations": 0})
        start.fit(matrix, show_progress=False)
        models = ours(**options), theirs(**options), theirs(**options, dtype=np.float64)
        for model in models:
            for side in SIDES:
                setattr(model, side, getattr(start, side).astype(model.dtype))
            model.fit(matrix, show_progress=False)
        *results, truth = (np.vstack([getattr(model, side) for side in SIDES]) for model in models)
        errors.append([np.linalg.norm(result - truth) for result in results])
    mine, other = np.exp(np.log(errors).mean(axis=0))
    assert mine <= other * (1.1 if use_cg else 1)  # steps amplify rounding, which is that of the build


def test_a_second_fit_goes_on_alike(matrix, use_cg):
    mine, other = pair(matrix, dtype=np.float64, use_cg=use_cg, iterations=2)
    for model in (mine, other):
        model.fit(matrix, show_progress=False)
    for side in SIDES:
        assert_close(getattr(mine, side), getattr(other, side))


@pytest.mark.parametrize("kind", ["coo", "lil", "csc", "integers", "wide indices", "explicit zeros"])
def test_other_input_trains_alike(matrix, use_cg, kind):
    given = matrix.copy()
    if kind == "integers":
        given = sparse.csr_matrix(np.round(matrix.toarray()).astype(np.int64))
    elif kind == "wide indices":
        given.indices, given.indptr = given.indices.astype(np.int64), given.indptr.astype(np.int64)
    elif kind == "explicit zeros":
        given.data[::5] = 0
    else:
        given = given.asformat(kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Method expects CSR input")
        mine, other = pair(given, dtype=np.float64, use_cg=use_cg, iterations=2)
    for side in SIDES:
        assert_close(getattr(mine, side), getattr(other, side))


# Callbacks and loss


def test_callbacks_get_the_same(matrix):
    calls = {}
    options = {"factors": FACTORS, "iterations": 3, "calculate_training_loss": True, "random_state": 1}
    positive = counts(negative=False)
    for name, model in (("ours", ours(**options)), ("theirs", theirs(**options))):
        model.fit(
            positive, show_progress=False, callback=lambda *args, name=name: calls.setdefault(name, []).append(args)
        )
    for mine, other in zip(calls["ours"], calls["theirs"], strict=True):
        assert mine[0] == other[0]
        assert isinstance(mine[1], float)
        assert mine[2] == pytest.approx(other[2], rel=1e-4)
    assert len(calls["ours"]) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calculate_loss_agrees_where_nothing_is_negative(dtype):
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(USERS, 5)).astype(dtype), random.normal(size=(ITEMS, 5)).astype(dtype)
    matrix = counts(negative=False).astype(np.float32)
    mine = implicit_core.cpu.als.calculate_loss(matrix, X, Y, 0.3)
    other = implicit.cpu.als.calculate_loss(matrix, X, Y, 0.3)
    assert mine == pytest.approx(other, rel=1e-5 if dtype is np.float32 else 1e-9)


def test_the_loss_lacks_their_offset_for_negative_entries():
    matrix = sparse.csr_matrix([[-3.0, 2.0]]).astype(np.float32)
    X, Y = np.zeros((1, 2)), np.ones((2, 2))
    assert implicit.cpu.als.calculate_loss(matrix, X, Y, 0) == pytest.approx((3 + 2) / 5)
    assert implicit_core.cpu.als.calculate_loss(matrix, X, Y, 0) == pytest.approx(2 / 5)


@pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
def test_a_regularization_that_overflows_leaves_theirs_untrained():
    matrix = sparse.csr_matrix(np.ones((USERS, ITEMS), dtype=np.float32))
    initial, fitted = (
        implicit.cpu.als.AlternatingLeastSquares(8, regularization=1e15, iterations=n, random_state=1) for n in (0, 3)
    )
    for model in (initial, fitted):
        model.fit(matrix, show_progress=False)
    assert np.array_equal(initial.item_factors, fitted.item_factors)
    with pytest.raises(ModelFitError, match="lower what is huge"):
        implicit_core.cpu.als.AlternatingLeastSquares(8, regularization=1e15).fit(matrix, show_progress=False)


# Recommendations


@pytest.mark.parametrize("liked", [True, False])
@pytest.mark.parametrize("recalculate", [True, False])
@pytest.mark.parametrize("selection", [{}, {"filter_items": [1, 5, 17]}, {"items": [30, 2, 9, 11, 25, 26]}])
@pytest.mark.parametrize("N", [1, 5, 15])
def test_recommendations_agree(models, matrix, liked, recalculate, selection, N):
    options = {"N": N, "filter_already_liked_items": liked, "recalculate_user": recalculate, **selection}
    users = np.setdiff1d(np.arange(USERS), [3])  # user 3 has no likes: all scores tie
    mine, other = (model.recommend(users, matrix[users], **options) for model in models)
    if "items" in selection:
        assert_same_but_for_filtered(mine, other)
    else:
        assert_same_result(mine, other)
    for user in (0, 7, USERS - 1):
        mine, other = (model.recommend(user, matrix[user].copy(), **options) for model in models)
        if "items" in selection:
            assert_same_but_for_filtered([part[None] for part in mine], [part[None] for part in other])
        else:
            assert_same_result(mine, other)


def assert_same_but_for_filtered(mine, other):
    """Filtered candidates tie with each other: `implicit` ranks larger ids first, this library smaller ones."""
    assert mine[0].dtype == other[0].dtype
    assert mine[0].shape == other[0].shape
    filtered = mine[1] == np.finfo(mine[1].dtype).min
    np.testing.assert_array_equal(filtered, other[1] == np.finfo(mine[1].dtype).min)
    np.testing.assert_array_equal(mine[0][~filtered], other[0][~filtered])
    assert_close(mine[1][~filtered], other[1][~filtered])


def test_filtered_items_come_last_in_both(models, matrix):
    mine, other = (model.recommend(np.arange(10, 20), matrix[10:20], N=ITEMS) for model in models)
    assert_same_but_for_filtered(mine, other)
    np.testing.assert_array_equal(np.sort(mine[0], axis=1), np.sort(other[0], axis=1))


def test_positions_beyond_the_items_differ_on_purpose(models, matrix):
    mine, other = (model.recommend(0, matrix[0], N=ITEMS + 2) for model in models)
    assert mine[0].shape == other[0].shape
    assert mine[0][ITEMS:].tolist() == [-1, -1]
    assert other[0][ITEMS:].tolist() == [0, 0]


def test_ties_differ_on_purpose(models):
    mine, other = (model.recommend(3, None, N=4, filter_already_liked_items=False)[0] for model in models)
    assert mine.tolist() == [0, 1, 2, 3]
    assert sorted(other) == [0, 1, 2, 3]


@pytest.mark.parametrize("users", [[], [4], [4, 4, 2], np.arange(7, dtype=np.uint8), list(range(USERS))])
def test_batches_have_the_same_shapes_and_types(models, matrix, users):
    rows = matrix[np.asarray(users, dtype=int)]
    mine, other = (model.recommend(users, rows, N=6) for model in models)
    for first, second in zip(mine, other, strict=True):
        assert first.shape == second.shape
        assert first.dtype == second.dtype


@pytest.mark.parametrize(
    "call",
    [
        lambda model, rows: model.recommend(USERS, rows[0]),
        lambda model, rows: model.recommend(0, rows[0], items=[-1]),
        lambda model, rows: model.recommend(0, rows[0], items=[ITEMS]),
        lambda model, rows: model.recommend(0, rows[0], items=[]),
        lambda model, rows: model.recommend(0, rows[0], items=[1], filter_items=[2]),
        lambda model, rows: model.recommend(0, rows[0], filter_items=[ITEMS]),
        lambda model, rows: model.recommend(0, None),
        lambda model, rows: model.recommend(0, rows[0].tocoo()),
        lambda model, rows: model.recommend(0, rows[0].tocsc()),
        lambda model, rows: model.recommend(0.5, rows[0]),
        lambda model, rows: model.recommend([0, 1], rows[:1]),
        lambda model, rows: model.recommend([0, 1], rows[:3]),
        lambda model, rows: model.similar_items(ITEMS),
        lambda model, rows: model.similar_items(0, items=[ITEMS]),
        lambda model, rows: model.similar_users(USERS),
        lambda model, rows: model.recalculate_user([0, 1], rows[:1]),
        lambda model, rows: model.partial_fit_users([0, 1], rows[:1]),
        lambda model, rows: model.partial_fit_users(0, rows[:1]),
        lambda model, rows: model.explain(USERS, rows, 0),
        lambda model, rows: model.explain(0, rows, ITEMS),
        lambda model, rows: type(model)().recommend(0, rows[0]),
    ],
)
def test_what_they_refuse_is_refused_with_an_exception_of_the_same_kind(models, matrix, call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, IndexError, TypeError)) as caught:
            call(models[1], matrix)
    with pytest.raises(type(caught.value)):
        call(models[0], matrix)


def test_deprecated_calls_agree(models, matrix):
    for call in (
        lambda model: model.rank_items(5, matrix[5], [1, 2, 8]),
        lambda model: (model.recommend_all(matrix, N=5)[5:], np.zeros(1)),
    ):
        results = []
        for model in models:
            with pytest.warns(DeprecationWarning):  # noqa: PT030
                results.append(call(model))
        assert_same_result(*results)


# Similarities


@pytest.mark.parametrize("N", [1, 5, 15])
@pytest.mark.parametrize("side", ["items", "users"])
@pytest.mark.parametrize("selection", [None, "filter", "candidates"])
def test_similarities_agree(models, side, N, selection):
    ids = np.setdiff1d(np.arange(30), [3, 4])  # the empty user and item tie with everything
    keyword = {"filter": f"filter_{side}", "candidates": side}.get(selection)
    options = {keyword: [0, 8, 9, 20, 21, *range(23, 38)]} if keyword else {}
    mine, other = (getattr(model, f"similar_{side}")(ids, N=N, **options) for model in models)
    assert_same_result(mine, other)
    mine, other = (getattr(model, f"similar_{side}")(5, N=N, **options) for model in models)
    assert_same_result(mine, other)


def test_similar_items_of_recalculated_items_agree(models, matrix):
    rows = matrix.T.tocsr()[[5, 6, 30]]
    mine, other = (model.similar_items([5, 6, 99], N=8, recalculate_item=True, item_users=rows) for model in models)
    assert_same_result(mine, other)


def test_norms_and_gram_matrices_agree(models):
    for name in ("user_norms", "item_norms", "YtY", "XtX"):
        assert_close(getattr(models[0], name), getattr(models[1], name))


# Recalculation, partial fits, explanations


@pytest.mark.parametrize("ids", [5, np.int64(5), [5], [5, 17, 2], [900, 901]])
@pytest.mark.parametrize("side", ["user", "item"])
def test_recalculated_factors_agree(models, matrix, ids, side):
    rows = (matrix if side == "user" else matrix.T.tocsr())[np.atleast_1d(ids) % 30]
    mine, other = (getattr(model, f"recalculate_{side}")(ids, rows) for model in models)
    assert_close(mine, other)


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_partial_fits_agree(matrix, side, dtype):
    models = pair(matrix, dtype=dtype, use_cg=False)
    start = [getattr(models[1], name).copy() for name in SIDES]
    rows = 2 * (matrix if side == "user" else matrix.T.tocsr())  # of no factors that the fit gave: no ties
    for model in models:
        model.user_factors, model.item_factors = (part.copy() for part in start)
        model._YtY = model._XtX = None
        fit = getattr(model, f"partial_fit_{side}s")
        fit([5, rows.shape[0] + 4, 2], rows[[6, 7, 8]])
        fit(np.array([rows.shape[0]]), rows[9])
    tolerance = 1e-4 if dtype is np.float32 else 1e-9
    for name in SIDES:
        assert_close(getattr(models[0], name), getattr(models[1], name), tolerance)
    mine, other = (model.recommend(5, matrix[5], N=3) for model in models)
    assert_same_result(mine, other, tolerance)


@pytest.mark.parametrize("user", [0, 5, USERS - 1])
@pytest.mark.parametrize("N", [1, 4, 100])
def test_explanations_agree(models, matrix, user, N):
    mine, other = (model.explain(user, matrix, 11, N=N) for model in models)
    assert mine[0] == pytest.approx(other[0], abs=1e-9)
    assert [item for item, _ in mine[1]] == [item for item, _ in other[1]]
    np.testing.assert_allclose([score for _, score in mine[1]], [score for _, score in other[1]], atol=1e-9)
    np.testing.assert_allclose(np.triu(mine[2][0]), np.triu(other[2][0]), atol=1e-9)
    assert mine[2][1] == other[2][1]
    again = [model.explain(user, matrix, 12, user_weights=weights[2]) for model, weights in zip(models, (other, mine))]  # noqa: B905
    assert again[0][0] == pytest.approx(again[1][0], abs=1e-9)


# The functions of the module paths


@pytest.mark.parametrize("name", ["least_squares", "least_squares_cg"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_half_steps_agree(matrix, name, dtype):
    random = np.random.default_rng(3)
    X, Y = random.normal(size=(USERS, FACTORS)).astype(dtype), random.normal(size=(ITEMS, FACTORS)).astype(dtype)
    mine, other = X.copy(), X.copy()
    getattr(implicit_core.cpu.als, name)(matrix, mine, Y, 0.5, num_threads=1)
    getattr(implicit.cpu.als, name)(matrix, other, Y, 0.5, num_threads=1)
    liked = np.diff(matrix.indptr) > 0  # of an empty row, their function leaves what the last step reached
    assert not mine[~liked].any()
    assert_close(mine[liked], other[liked], 1e-3 if dtype is np.float32 else 1e-6)


def test_the_linear_system_of_a_row_agrees(matrix):
    Y = np.random.default_rng(3).normal(size=(ITEMS, FACTORS))
    mine, other = (
        [
            *module.user_linear_equation(Y, Y.T @ Y, matrix, 5, 0.5, FACTORS),
            module.user_factor(Y, Y.T @ Y, matrix, 5, 0.5, FACTORS),
            module.item_factor(Y, Y.T @ Y, matrix, 5, 0.5, FACTORS),
        ]
        for module in (implicit_core.cpu.als, implicit.cpu.als)
    )
    for first, second in zip(mine, other, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 3, 250])
@pytest.mark.parametrize("filters", [False, True])
def test_topk_agrees(dtype, count, filters):
    random = np.random.default_rng(4)
    items, queries = random.normal(size=(300, 9)).astype(dtype), random.normal(size=(count, 9)).astype(dtype)
    options = {}
    if filters:
        options["filter_query_items"] = sparse.random(count, 300, 0.1, format="csr", random_state=0)
        options["filter_items"] = np.array([3, 200])
    for norms in (None, np.linalg.norm(items, axis=1)):
        mine, other = (
            module.topk(items, queries, 20, item_norms=norms, **options, num_threads=1)
            for module in (implicit_core.cpu.topk, implicit.cpu.topk)
        )
        assert_same_result(mine, other, 1e-5 if dtype is np.float32 else 1e-9)


@pytest.mark.parametrize("name", ["bm25_weight", "tfidf_weight", "normalize"])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_weights_agree(name, kind, dtype):
    matrix = counts(negative=False).toarray()
    matrix[matrix.sum(axis=1) == 0, 0] = 1  # a row of zeros makes `implicit` divide by zero
    matrix = kind(np.ceil(matrix).astype(dtype))
    mine = getattr(implicit_core.nearest_neighbours, name)(matrix)
    other = getattr(implicit.nearest_neighbours, name)(matrix)
    assert type(mine) is type(other)
    assert mine.dtype == other.dtype
    # They compute in the type of the input.
    np.testing.assert_allclose(mine.toarray(), other.toarray(), rtol=1e-5 if dtype is np.float32 else 1e-9, atol=1e-6)


def test_bm25_parameters_mean_the_same():
    matrix = counts(negative=False).astype(np.float64)
    for options in ({"K1": 1.2, "B": 0.75}, {"K1": 3, "B": 0.0}, {"K1": 10, "B": 1.0}):
        mine, other = (
            module.bm25_weight(matrix, **options)
            for module in (implicit_core.nearest_neighbours, implicit.nearest_neighbours)
        )
        np.testing.assert_allclose(mine.toarray(), other.toarray(), rtol=1e-9)


def test_helpers_agree(matrix):
    assert list(utils.nonzeros(matrix, 5)) == list(implicit.utils.nonzeros(matrix, 5))
    factors = np.random.default_rng(0).normal(size=(20, 3))
    mine, other = (module.augment_inner_product_matrix(factors) for module in (utils, implicit.utils))
    assert mine[0] == pytest.approx(other[0])
    np.testing.assert_allclose(mine[1], other[1], atol=1e-7)
    assert utils.check_random_state(5).random() == implicit.utils.check_random_state(5).random()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert utils.check_blas_config() is None


# Files


@pytest.mark.parametrize("random_state", [None, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", ["theirs to ours", "ours to theirs"])
def test_a_model_saved_by_one_is_loaded_by_the_other(matrix, tmp_path, direction, dtype, random_state):
    options = {
        "factors": FACTORS,
        "iterations": 4,
        "alpha": 2.5,
        "regularization": 0.25,
        "use_cg": False,
        "dtype": dtype,
        "random_state": random_state,
        "calculate_training_loss": True,
        "num_threads": 1,
    }
    make, load = (theirs, ours) if direction == "theirs to ours" else (ours, theirs)
    model = make(**options)
    model.cg_steps = 4
    model.fit(matrix, show_progress=False)
    path = str(tmp_path / "model.npz")
    model.save(path)
    loaded_class = type(load())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        loaded = loaded_class.load(path)
    for name in (*options, "cg_steps", "use_native"):
        assert getattr(loaded, name) == getattr(model, name)
    for side in SIDES:
        np.testing.assert_array_equal(getattr(loaded, side), getattr(model, side))
    assert_same_result(loaded.recommend(5, matrix[5], N=3), model.recommend(5, matrix[5], N=3), 1e-5)
    assert_close(loaded.recalculate_user(5, matrix[5]), model.recalculate_user(5, matrix[5]), 1e-4)
    model.fit(matrix, show_progress=False)
    loaded.fit(matrix, show_progress=False)
    for side in SIDES:
        assert_close(getattr(loaded, side), getattr(model, side), 1e-2 if dtype is np.float32 else 1e-9)


def test_an_unfitted_model_is_loaded_by_the_other():
    for make, load in ((ours, theirs), (theirs, ours)):
        file = io.BytesIO()
        make(factors=9).save(file)
        file.seek(0)
        loaded_class = type(load())
        assert loaded_class.load(file).factors == 9


def test_saved_files_have_the_same_entries(models, tmp_path):
    names = []
    for i, model in enumerate(models):
        path = tmp_path / f"{i}.npz"
        model.save(path)
        with np.load(path) as file:
            names.append({name: (file[name].dtype.kind, file[name].ndim) for name in file.files})
    assert names[0] == {**names[1], "format_version": ("i", 0), "regularization_exponent": ("f", 0)}


def test_a_model_that_they_saved_with_a_generator_is_refused(tmp_path):
    theirs(random_state=np.random.default_rng(1)).save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="Generator"):
        implicit_core.als.AlternatingLeastSquares.load(tmp_path / "model.npz")


# Names, order and defaults of parameters


def parameters_of(callable_):
    return [
        (p.name, p.default)
        for p in inspect.signature(callable_).parameters.values()
        if p.name != "self" and p.kind is p.POSITIONAL_OR_KEYWORD
    ]


@pytest.mark.parametrize("module", ["als", "cpu.als"])
def test_constructors_take_the_same_parameters(module):
    mine, other = (
        parameters_of(inspect.getattr_static(package, "AlternatingLeastSquares"))
        for package in (
            {"als": implicit_core.als, "cpu.als": implicit_core.cpu.als}[module],
            {"als": implicit.als, "cpu.als": implicit.cpu.als}[module],
        )
    )
    # Their default of use_gpu is found once at import; here it is None and decided at each call.
    default = {"use_gpu": (None, implicit.gpu.HAS_CUDA)}
    for (name, value), (their_name, their_value) in zip(mine, other, strict=True):
        assert name == their_name
        assert (value, their_value) == default.get(name, (value, value))


METHODS = [
    *("fit", "recommend", "recommend_all", "rank_items", "similar_items", "similar_users", "recalculate_user"),
    *("recalculate_item", "partial_fit_users", "partial_fit_items", "explain", "save", "load", "to_gpu"),
]


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_the_same_parameters(name):
    mine, other = (
        getattr(module.AlternatingLeastSquares, name) for module in (implicit_core.cpu.als, implicit.cpu.als)
    )
    assert parameters_of(mine) == parameters_of(other)


FUNCTIONS = [
    ("cpu.als", "least_squares"),
    ("cpu.als", "least_squares_cg"),
    ("cpu.als", "calculate_loss"),
    ("cpu.als", "user_linear_equation"),
    ("cpu.als", "user_factor"),
    ("cpu.als", "item_factor"),
    ("cpu.topk", "topk"),
    ("nearest_neighbours", "bm25_weight"),
    ("nearest_neighbours", "tfidf_weight"),
    ("nearest_neighbours", "normalize"),
    ("utils", "nonzeros"),
    ("utils", "check_blas_config"),
    ("utils", "check_random_state"),
    ("utils", "augment_inner_product_matrix"),
]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_functions_take_the_same_parameters(module, name):
    mine, other = implicit_core, implicit
    for part in (*module.split("."), name):
        mine, other = getattr(mine, part), getattr(other, part)
    assert parameters_of(mine) == parameters_of(other)


def test_public_attributes_of_a_model_are_all_there(models):
    missing = {name for name in dir(models[1]) if not name.startswith("_")} - set(dir(models[0]))
    assert missing == set()


def test_files_of_both_can_be_told_apart_by_nothing_but_their_zip(models, tmp_path):
    """Both are plain `.npz`: neither needs pickle, nor code of the library that wrote it."""
    for model in models:
        path = Path(tmp_path / "model.npz")
        model.save(path)
        with np.load(path, allow_pickle=False) as file:
            assert {name: file[name].shape for name in SIDES} == {
                "user_factors": (USERS, FACTORS),
                "item_factors": (ITEMS, FACTORS),
            }
