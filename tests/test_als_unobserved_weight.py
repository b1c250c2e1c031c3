"""The loss of Rendle et al. (2021): a weight of all cells, a penalty by the number of entries, a normal start."""

import math
import pickle
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from als_cases import FACTORS, ITEMS, SIDES, USERS, as_csr, assert_same_factors, stored
from als_cases import dtype as dtype
from als_cases import matrix as matrix
from als_cases import use_cg as use_cg
from scipy import sparse

import implicit_core.cpu.als
from implicit_core._matrices import to_counts
from implicit_core._typing import Policy
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu import kernels
from implicit_core.datasets.debian import get_debian
from implicit_core.recommender_base import ModelFitError
from implicit_core.utils import ParameterWarning

NAMES = ("unobserved_weight", "regularization_exponent", "init_scale")
VALUES = (0.0, 0.3, 1.0, 3.7)
LOSSES = [
    {"unobserved_weight": 0.1, "regularization_exponent": 1.0},
    {"unobserved_weight": 0.1, "regularization_exponent": 1.0, "alpha": 2.5},
    {"unobserved_weight": 3.0, "alpha": 0.4},
    {"unobserved_weight": 0.02, "regularization_exponent": 0.5, "alpha": 7.3},
    {"regularization_exponent": 0.7, "alpha": 1.5},
    {"regularization_exponent": 1.0},
]


def terms(cells, unobserved_weight=None, regularization_exponent=0.0, alpha=1.0, items=None):
    """By the documentation: weight and target of all cells for each of the two squared errors, and each penalty.

    The targets are 1 and 0 in the loss with a weight of all cells. Without it, one squared error will do: the other has
    no weight.
    """
    is_stored = ~np.isnan(cells)
    r = np.where(is_stored, (np.float32(alpha) * cells.astype(np.float32)).astype(np.float64), 0)
    w = 1.0 if unobserved_weight is None else unobserved_weight
    if unobserved_weight is None:
        weights, targets = [np.where(is_stored, np.abs(r), 1), np.zeros_like(r)], [(r > 0) * 1.0, np.zeros_like(r)]
    else:
        weights, targets = [r, np.full_like(r, w)], [np.ones_like(r), np.zeros_like(r)]
    penalties = [
        (is_stored.sum(axis=axis) + w * others) ** regularization_exponent
        for axis, others in ((1, items or cells.shape[1]), (0, cells.shape[0]))
    ]
    return weights, targets, penalties


def loss_of(cells, X, Y, regularization, **loss):
    weights, targets, penalties = terms(cells, **loss)
    error = sum(np.sum(w * (p - X @ Y.T) ** 2) for w, p in zip(weights, targets, strict=True))
    penalty = sum(np.sum(factor[:, None] * side**2) for factor, side in zip(penalties, (X, Y), strict=True))
    return (error + regularization * penalty) / sum(w.sum() for w in weights)


def assert_stationary(cells, X, Y, regularization, *, accuracy=1e-12, **loss):
    """The gradient of the loss with respect to X vanishes beside the size of its terms."""
    weights, targets, (penalty, _) = terms(cells, **loss)
    pull = sum(w * p for w, p in zip(weights, targets, strict=True))
    push = sum(weights) * (X @ Y.T)
    slope = (push - pull) @ Y + regularization * penalty[:, None] * X
    assert np.abs(slope).max() <= accuracy * ((np.abs(push) + pull) @ np.abs(Y)).max()


def model_of(**parameters):
    defaults = {"factors": FACTORS, "regularization": 0.1, "iterations": 3, "random_state": 1, "num_threads": 1}
    return AlternatingLeastSquares(**{**defaults, **parameters})


def fitted(matrix, **parameters):
    model = model_of(**parameters)
    model.fit(matrix, show_progress=False)
    return model


@pytest.fixture
def cells():
    return stored(values=VALUES)


@pytest.fixture(params=LOSSES, ids=lambda loss: ", ".join(f"{name}={value}" for name, value in loss.items()))
def loss(request):
    return request.param


# The loss and its minimum


@pytest.mark.parametrize("use_native", [True, False])
def test_the_gradient_of_the_loss_vanishes_at_the_exact_solution_of_a_side(cells, loss, use_native):
    matrix = as_csr(cells)
    model = fitted(matrix, use_cg=False, use_native=use_native, dtype=np.float64, init_scale=0.1, **loss)
    X, Y = model.user_factors, model.item_factors
    assert_stationary(cells.T, Y, X, 0.1, **loss)
    assert_stationary(cells, model.recalculate_user(np.arange(USERS), matrix), Y, 0.1, **loss)
    assert_stationary(cells.T, model.recalculate_item(np.arange(ITEMS), matrix.T.tocsr()), X, 0.1, **loss)
    assert np.abs(X).max() > 0.01


@pytest.mark.parametrize("use_native", [True, False])
def test_conjugate_gradient_comes_to_that_solution(cells, loss, use_native):
    """So exactly that no term of the loss may be rounded to float32."""
    options = {"dtype": np.float64, "init_scale": 0.1, "cg_steps": 10 * FACTORS, "use_native": use_native}
    model = fitted(as_csr(cells), **options, **loss)
    assert_stationary(cells.T, model.item_factors, model.user_factors, 0.1, accuracy=1e-11, **loss)


@pytest.mark.parametrize("use_native", [True, False])
def test_the_reported_loss_is_the_documented_formula(cells, loss, use_native, dtype):
    losses = []
    model = model_of(calculate_training_loss=True, use_native=use_native, dtype=dtype, iterations=2, **loss)
    model.fit(as_csr(cells), callback=lambda *args: losses.append(args[2]), show_progress=False)
    X, Y = (getattr(model, side).astype(np.float64) for side in SIDES)
    assert losses[-1] == pytest.approx(loss_of(cells, X, Y, 0.1, **loss), rel=2e-5 if dtype is np.float32 else 1e-12)


def test_the_loss_falls_in_every_iteration_of_the_exact_solver(matrix, loss):
    losses = []
    model = model_of(calculate_training_loss=True, use_cg=False, iterations=6, dtype=np.float64, init_scale=1, **loss)
    model.fit(matrix, callback=lambda *args: losses.append(args[2]), show_progress=False)
    assert (np.diff(losses) < 0).all()


def test_both_solvers_converge_to_the_same(matrix, loss):
    steps, exact = (
        fitted(matrix, use_cg=cg, cg_steps=60, dtype=np.float64, init_scale=0.1, **loss) for cg in (True, False)
    )
    for side in SIDES:
        scale = np.abs(getattr(exact, side)).max()
        assert np.abs(getattr(steps, side) - getattr(exact, side)).max() <= 1e-6 * scale


def test_the_array_programs_give_the_factors_of_the_kernels(matrix, loss, use_cg, dtype):
    native, arrays = (
        fitted(matrix, use_cg=use_cg, dtype=dtype, use_native=native, iterations=1, init_scale=0.1, **loss)
        for native in (True, False)
    )
    for side in SIDES:
        first, second = getattr(native, side), getattr(arrays, side)
        tolerance = (2e-3 if dtype is np.float32 else 1e-10) * np.abs(second).max()
        np.testing.assert_allclose(first, second, rtol=0, atol=tolerance)


def test_without_the_parameters_factors_are_those_of_the_kernel_bit_for_bit(matrix, use_cg, dtype):
    """The gram matrix as it is, one λ for all, and the policy of confidences."""
    matrix = matrix.astype(dtype)
    random = np.random.default_rng(1)
    X, Y = (random.random((rows, FACTORS), dtype=dtype) * dtype(0.01) for rows in (USERS, ITEMS))
    rows, columns = to_counts(matrix), to_counts(matrix.T.tocsr())
    regularization = np.float32(0.1) if use_cg else 0.1
    for _ in range(3):
        for counts, solved, fixed in ((rows, X, Y), (columns, Y, X)):
            diag = np.full(len(solved), regularization, dtype=dtype)
            arguments = (kernels.gram(fixed), diag, Policy(1.5), 3 if use_cg else None, slice(None), 1)
            kernels.least_squares(counts, solved, fixed, *arguments)
    for given in ({}, {"unobserved_weight": None, "regularization_exponent": 0, "init_scale": None}):
        model = fitted(matrix, use_cg=use_cg, dtype=dtype, alpha=1.5, **given)
        np.testing.assert_array_equal(model.user_factors, X)
        np.testing.assert_array_equal(model.item_factors, Y)


def test_a_weight_of_one_is_the_loss_of_hu_with_one_more_for_each_entry():
    """Up to a constant, r (1 − s)² + s² is (r + 1) (r / (r + 1) − s)²; without penalties scores are r / (r + 1)."""
    matrix = sparse.csr_matrix([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]])
    model = fitted(matrix, unobserved_weight=1.0, regularization=1e-9, dtype=np.float64, use_cg=False, factors=3)
    np.testing.assert_allclose(model.user_factors @ model.item_factors.T, 0.75 * np.eye(3), atol=1e-6)


def test_empty_rows_and_columns_get_zeros(matrix, loss, use_cg):
    model = fitted(matrix, use_cg=use_cg, init_scale=0.1, **loss)
    assert not model.user_factors[3].any()
    assert not model.item_factors[4].any()


def test_the_solver_of_a_model_is_its_half_step(matrix, loss, use_cg):
    parameters = {name: value for name, value in loss.items() if name != "alpha"}
    model = fitted(matrix, use_cg=use_cg, iterations=1, init_scale=0.1, **parameters)
    start = fitted(matrix, use_cg=use_cg, iterations=0, init_scale=0.1, **parameters)
    start.solver(matrix, start.user_factors, start.item_factors, 0.1)
    np.testing.assert_array_equal(start.user_factors, model.user_factors)
    if model.unobserved_weight is not None:
        with pytest.raises(ValueError, match="Cui must hold no values"):
            start.solver(-matrix, start.user_factors, start.item_factors, 0.1)


def test_the_factors_have_the_same_bits_for_any_number_of_threads_and_pieces(monkeypatch, loss, use_cg, dtype):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    matrix = as_csr(stored(700, 300, values=VALUES))
    models = [
        fitted(matrix, factors=19, use_cg=use_cg, dtype=dtype, num_threads=threads, init_scale=0.1, **loss)
        for threads in (1, 2, 3, 4)
    ]
    monkeypatch.setattr(kernels, "PIECE_FLOP", 1e4)
    models.append(fitted(matrix, factors=19, use_cg=use_cg, dtype=dtype, init_scale=0.1, **loss))
    for model in models[1:]:
        assert_same_factors(models[0], model)


# The start


@pytest.mark.parametrize("unobserved_weight", [None, 0.1])
def test_the_start_is_normal_with_the_scale_over_the_root_of_the_factors(unobserved_weight, dtype):
    parameters = {"factors": 25, "iterations": 0, "random_state": 7, "dtype": dtype, "init_scale": 0.5}
    model = fitted(sparse.csr_matrix((400, 300)), unobserved_weight=unobserved_weight, **parameters)
    random = np.random.default_rng(7)
    for side, rows in zip(SIDES, (400, 300), strict=True):
        expected = random.standard_normal((rows, 25), dtype=dtype) * dtype(0.5 / math.sqrt(25))
        assert getattr(model, side).dtype == dtype
        np.testing.assert_array_equal(getattr(model, side), expected)
        assert getattr(model, side).std() == pytest.approx(0.1, rel=0.05)


def test_a_weight_alone_keeps_the_uniform_start(matrix):
    assert_same_factors(fitted(matrix, iterations=0, unobserved_weight=0.1), fitted(matrix, iterations=0))


# What else solves for rows


def test_a_row_is_folded_in_by_its_entries_and_the_items_that_the_model_knows(cells, matrix, loss):
    """The width of the matrix that is given does not count."""
    model = fitted(matrix, dtype=np.float64, init_scale=0.1, **loss)
    row, Y = cells[5], model.item_factors
    weights, targets, (penalty, _) = terms(row[None], **loss)
    A = (Y.T * sum(weights)) @ Y + 0.1 * penalty[0] * np.eye(FACTORS)
    b = Y.T @ sum(w[0] * p[0] for w, p in zip(weights, targets, strict=True))
    expected = np.linalg.solve(A, b)
    used = np.flatnonzero(~np.isnan(row)).max() + 1
    for columns in (used, ITEMS, ITEMS + 50):
        given = sparse.csr_matrix((matrix[5].data, matrix[5].indices, [0, matrix[5].nnz]), shape=(1, columns))
        np.testing.assert_allclose(model.recalculate_user(99, given), expected, rtol=0, atol=1e-12)
    ids, scores = model.recommend(99, matrix[5], N=3, filter_already_liked_items=False, recalculate_user=True)
    np.testing.assert_allclose(scores, np.sort(Y @ expected)[::-1][:3], rtol=0, atol=1e-12)
    with pytest.warns(DeprecationWarning, match="rank_items"):
        ranked, _ = model.rank_items(99, matrix[5], ids[::-1], recalculate_user=True)
    assert ranked.tolist() == ids.tolist()


def test_partial_fits_solve_their_rows_and_count_the_items_that_they_add(cells, matrix, loss):
    model = fitted(matrix, dtype=np.float64, init_scale=0.1, **loss)
    model.partial_fit_items([2, ITEMS + 4], matrix.T.tocsr()[[6, 7]])
    assert_stationary(cells.T[[6, 7]], model.item_factors[[2, ITEMS + 4]], model.user_factors, 0.1, **loss)
    model.partial_fit_users([0, USERS], matrix[[8, 9]])
    wide = np.full((2, ITEMS + 5), np.nan)
    wide[:, :ITEMS] = cells[[8, 9]]
    assert_stationary(wide, model.user_factors[[0, USERS]], model.item_factors, 0.1, **loss)


def test_an_explanation_adds_up_to_the_score(cells, matrix, loss):
    model = fitted(matrix, dtype=np.float64, init_scale=0.1, **loss)
    scores = model.recalculate_user(np.arange(USERS), matrix) @ model.item_factors.T
    for user in (0, 3, 8):
        weights, given = None, matrix[user]
        given.resize(1, ITEMS + 50)  # the number of items that the model knows counts
        for item in (0, 4, 17):
            total, contributions, weights = model.explain(user, given, item, user_weights=weights, N=ITEMS)
            assert total == pytest.approx(scores[user, item], abs=1e-11)
            assert sum(score for _, score in contributions) == pytest.approx(total, abs=1e-11)
            assert sorted(j for j, _ in contributions) == np.flatnonzero(np.nan_to_num(cells[user]) > 0).tolist()


# Input and parameters


@pytest.mark.parametrize(
    "call",
    [
        lambda model, bad: model_of(unobserved_weight=0.1, alpha=model.alpha).fit(bad, show_progress=False),
        lambda model, bad: model.recalculate_user(np.arange(USERS), bad),
        lambda model, bad: model.partial_fit_users(np.arange(USERS), bad),
        lambda model, bad: model.explain(7, bad, 0),
        lambda model, bad: model.recommend(7, bad, recalculate_user=True),
    ],
)
@pytest.mark.parametrize("alpha", [1.0, -2.0])
def test_negative_values_are_an_error_that_names_the_first(matrix, call, alpha):
    model = model_of(unobserved_weight=0.1)
    model.fit(matrix, show_progress=False)
    before = pickle.loads(pickle.dumps(model))
    model.alpha = alpha
    bad = np.sign(alpha) * matrix
    first = bad.indptr[7] + 1
    bad.data[first] = -0.5 * np.sign(alpha)
    with pytest.raises(ValueError, match=rf"user_items .*negative.*unobserved_weight.*\d, {bad.indices[first]}\) is"):
        call(model, bad)
    assert_same_factors(model, before)


def test_a_fit_that_refuses_negative_values_leaves_the_model_without_factors(matrix):
    model = model_of(unobserved_weight=0.1)
    with pytest.raises(ValueError, match="negative"):
        model.fit(-matrix, show_progress=False)
    assert model.user_factors is None
    fitted(-matrix, regularization_exponent=1.0)
    fitted(matrix, unobserved_weight=0.1, alpha=0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("unobserved_weight", [0, -0.1, np.nan, np.inf, "much", [0.1]]),
        ("regularization_exponent", [-0.1, np.nan, np.inf, None, "much", 1e4]),
        ("init_scale", [0, 9e-7, -0.1, np.nan, np.inf, "much", [0.1]]),
    ],
)
def test_a_parameter_out_of_range_is_named_and_no_factors_are_made(matrix, name, values, tmp_path):
    for value in values:
        model = model_of(**{name: value})
        with pytest.raises((ValueError, TypeError), match=name):
            model.fit(matrix, show_progress=False)
        assert model.user_factors is None
    good = fitted(matrix)
    setattr(good, name, -1.0)
    for call in (good.recalculate_user, lambda user, rows: good.partial_fit_users([user], rows)):
        with pytest.raises(ValueError, match=name):
            call(0, matrix[0])
    with pytest.raises(ValueError, match=name):
        good.save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def test_without_a_penalty_its_exponent_changes_nothing(matrix):
    weights = {"unobserved_weight": 0.1, "regularization": 0.0}
    assert_same_factors(
        fitted(abs(matrix), regularization_exponent=1e4, **weights),
        fitted(abs(matrix), regularization_exponent=0.0, **weights),
    )


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**-30, 2.0**-50])
@pytest.mark.parametrize("use_native", [True, False])
def test_a_loss_times_a_small_number_has_the_same_minimum(matrix, scale, use_native, dtype):
    def fit(scale):
        weights = {"alpha": 2 * scale, "regularization": 0.1 * scale, "unobserved_weight": 0.3 * scale}
        return fitted(abs(matrix), use_native=use_native, dtype=dtype, regularization_exponent=0.0, **weights)

    assert_same_factors(fit(scale), fit(1.0))


def test_the_smallest_weight_without_anything_to_learn_makes_factors_smaller(matrix):
    model = fitted(matrix, unobserved_weight=float(np.finfo(np.float32).tiny), regularization=0.0, alpha=0.0)
    assert np.abs(model.user_factors).max() < 1e-3


def test_values_that_single_precision_rounds_to_zero_count_as_zeros(matrix):
    weights = {"unobserved_weight": 1e-35, "regularization": 1e-35, "regularization_exponent": 0.0, "alpha": 1e20}
    zeros, nearly = abs(matrix) * 0.0, abs(matrix).astype(np.float64) * 1e-60
    for use_native in (True, False):
        model = fitted(nearly, use_native=use_native, **weights)
        assert_same_factors(model, fitted(zeros, use_native=use_native, **weights))
        assert np.abs(model.user_factors).max() < 1e-3


@pytest.mark.parametrize(
    "weights",
    [
        {"unobserved_weight": 1e20},
        {"unobserved_weight": 1e25, "alpha": 1e25, "regularization": 1e25},
        {"unobserved_weight": 1.0, "regularization": 1e30},
        {"unobserved_weight": 1.0, "regularization": 0.01, "regularization_exponent": 9.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("use_native", [True, False])
def test_huge_weights_have_the_minimum_of_the_exact_solver(matrix, weights, use_native):
    options = {"regularization_exponent": 0.0, "init_scale": 0.1, "calculate_training_loss": True, "iterations": 8}

    def last_loss(use_cg):
        losses = []
        model = model_of(**options | weights, use_cg=use_cg, use_native=use_native)
        model.fit(abs(matrix), callback=lambda *report: losses.append(report[2]), show_progress=False)
        return losses[-1]

    assert last_loss(use_cg=True) <= last_loss(use_cg=False) * 1.05 + 1e-7


@pytest.mark.parametrize("huge", [{"regularization": 1e15}, {"alpha": 1e16}, {"regularization": 1e30}], ids=str)
@pytest.mark.parametrize("use_native", [True, False])
def test_what_conjugate_gradient_cannot_hold_is_an_error_not_an_untrained_model(matrix, huge, use_native):
    with pytest.raises(ModelFitError, match="lower what is huge of alpha, unobserved_weight and regularization"):
        fitted(abs(matrix), use_native=use_native, unobserved_weight=None, init_scale=0.1, **huge)


def test_a_callback_that_changes_the_loss_has_the_loss_reported_that_it_asks_for(cells):
    losses, matrix = [], as_csr(cells)
    changed = {"unobserved_weight": 0.01, "alpha": 5.0, "regularization_exponent": 1.0}

    def callback(iteration, _, loss):
        losses.append(loss)
        vars(model).update(changed, calculate_training_loss=True)

    model = model_of(dtype=np.float64, iterations=2, unobserved_weight=1.0)
    model.fit(abs(matrix), callback=callback, show_progress=False)
    factors = model.user_factors, model.item_factors
    assert losses == [None, pytest.approx(loss_of(abs(cells), *factors, 0.1, **changed), rel=1e-12)]


@pytest.mark.parametrize("changed", [{"unobserved_weight": 0.1}, {"unobserved_weight": 0.1, "alpha": -1.0}], ids=str)
def test_negative_values_are_an_error_too_where_a_callback_sets_the_weight(matrix, changed):
    if "alpha" not in changed:
        matrix.data[5] = -1
    model = model_of(iterations=2)
    with pytest.raises(ValueError, match="user_items must hold no values that alpha"):
        model.fit(matrix, callback=lambda *_: vars(model).update(changed), show_progress=False)


def test_calculate_loss_is_the_documented_formula(cells, loss):
    random = np.random.default_rng(0)
    X, Y = random.random((USERS, FACTORS)), random.random((ITEMS, FACTORS))
    matrix = as_csr(cells) * loss.get("alpha", 1.0)
    weights = {name: loss[name] for name in NAMES[:2] if name in loss}
    found = implicit_core.cpu.als.calculate_loss(matrix, X, Y, 0.3, **weights)
    assert found == pytest.approx(loss_of(cells, X, Y, 0.3, **loss), rel=1e-6)


@pytest.mark.filterwarnings("ignore:implicit has no parameter")
@pytest.mark.parametrize("name", [*NAMES, "alpha", "regularization"])
@pytest.mark.parametrize("value", [Fraction(1, 2), 2**70])
def test_numbers_that_numpy_has_no_type_for_are_kept_in_files(matrix, tmp_path, name, value):
    model = model_of(**{"unobserved_weight": 0.1, name: value})
    model.fit(matrix, show_progress=False, checkpoint=tmp_path / "fit.npz") if value < 1 else model._check_parameters()
    model.save(tmp_path / "model.npz")
    assert getattr(AlternatingLeastSquares.load(tmp_path / "model.npz"), name) == float(value)


def test_the_smallest_initial_factors_are_learnt_from(matrix, use_cg, dtype):
    model = fitted(matrix, init_scale=1e-6, use_cg=use_cg, dtype=dtype, iterations=15)
    scores = model.user_factors @ model.item_factors.T
    assert scores[matrix.toarray() > 0].mean() > 0.3


# Files, copies, parameters


class Narrow(AlternatingLeastSquares):
    """A user's model that passes on what it does not name."""

    def __init__(self, factors=4, **rest):
        super().__init__(factors=factors, **rest)


@pytest.mark.parametrize("kind", [AlternatingLeastSquares, implicit_core.cpu.als.AlternatingLeastSquares, Narrow])
def test_files_and_copies_keep_the_parameters(matrix, tmp_path, kind):
    values = {"unobserved_weight": 0.1, "regularization_exponent": 0.5, "init_scale": 0.2}
    model = kind(factors=FACTORS, iterations=2, random_state=1, **values)
    model.fit(matrix, show_progress=False)
    path = tmp_path / "model.npz"
    with pytest.warns(
        ParameterWarning, match=r"unobserved_weight=0\.1, regularization_exponent=0\.5, init_scale=0\.2 and will ignore"
    ) as caught:
        model.save(path)
    assert [warning.filename for warning in caught] == [__file__]
    for copy in (kind.load(path), kind.load(path, mmap=True), pickle.loads(pickle.dumps(model))):
        assert {name: getattr(copy, name) for name in NAMES} == values
        np.testing.assert_array_equal(copy.recalculate_user(5, matrix[5]), model.recalculate_user(5, matrix[5]))


def test_parameters_can_be_read_set_and_shown():
    model = AlternatingLeastSquares(unobserved_weight=0.1, regularization_exponent=1.0)
    assert [model.get_params()[name] for name in NAMES] == [0.1, 1.0, None]
    assert repr(model) == "AlternatingLeastSquares(unobserved_weight=0.1, regularization_exponent=1.0)"
    model.set_params(unobserved_weight=None, init_scale=0.3)
    assert [model.get_params()[name] for name in NAMES] == [None, 1.0, 0.3]
    with pytest.raises(TypeError):
        AlternatingLeastSquares(*range(11), 0.1)


def test_files_go_to_implicit_and_back(matrix, tmp_path):
    theirs = pytest.importorskip("implicit.cpu.als", reason="loads a file in implicit, which is not installed")
    model = fitted(matrix, unobserved_weight=0.1, regularization_exponent=1.0, init_scale=0.1)
    with pytest.warns(ParameterWarning, match="implicit has no parameter for unobserved_weight"):
        model.save(tmp_path / "ours.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of BLAS threads
        loaded = theirs.AlternatingLeastSquares.load(str(tmp_path / "ours.npz"))
    assert_same_factors(loaded, model)
    loaded.save(str(tmp_path / "theirs.npz"))
    again = AlternatingLeastSquares.load(tmp_path / "theirs.npz")
    assert_same_factors(again, model)
    assert [getattr(again, name) for name in NAMES] == [None, 0.0, None]


# Accuracy


def held_out(matrix):
    """The pairs of a matrix as (train, test): a fifth of them drawn for the test."""
    pairs = matrix.tocoo()
    drawn = np.random.default_rng(42).random(pairs.nnz) < 0.2
    return tuple(
        sparse.csr_matrix((np.ones(chosen.sum(), np.float32), (pairs.row[chosen], pairs.col[chosen])), pairs.shape)
        for chosen in (~drawn, drawn)
    )


def recall_and_ndcg(train, test, users, **parameters):
    """Means over those of ``users`` with test pairs of Recall@20 and of NDCG@20, by the textbook."""
    model = AlternatingLeastSquares(64, iterations=10, **parameters)
    model.fit(train, show_progress=False)
    users = users[np.diff(test.indptr)[users] > 0]
    ids, _ = model.recommend(users, train[users], N=20)
    discount, figures = 1 / np.log2(np.arange(2, 22)), []
    for user, ranked in zip(users, ids, strict=True):
        relevant = test[user].indices
        hits = np.isin(ranked, relevant)
        figures.append((hits.sum() / len(relevant), hits @ discount / discount[: len(relevant)].sum()))
    return np.mean(figures, axis=0)


def test_recommendations_of_purchases_are_as_accurate_as_others_measured():
    """The means over ten starts, since figures of single ones have standard deviations of 0.0017 and 0.0009."""
    path = Path(__file__).parents[2] / "shared" / "data" / "online-retail" / "orders_csr.npz"
    if not path.exists():
        pytest.skip("needs the Online Retail data")
    train, test = held_out(sparse.load_npz(path))
    parameters = {"unobserved_weight": 0.1, "regularization_exponent": 1.0, "init_scale": 0.1}
    users = np.arange(train.shape[0])
    recall, ndcg = np.mean(
        [recall_and_ndcg(train, test, users, random_state=seed, **parameters) for seed in range(10)], axis=0
    )
    assert recall >= 0.252
    assert ndcg >= 0.228


def test_dependencies_are_recommended_better_than_by_the_loss_of_hu():
    train, test = held_out(get_debian()[2].T.tocsr())
    users = np.arange(0, train.shape[0], 10)
    recall, ndcg = recall_and_ndcg(
        train,
        test,
        users,
        regularization=0.003,
        unobserved_weight=0.01,
        regularization_exponent=1.0,
        init_scale=0.1,
        random_state=0,
    )
    baseline = recall_and_ndcg(train, test, users, alpha=100.0, random_state=0)
    assert recall > baseline[0] + 0.01
    assert ndcg > baseline[1] + 0.01
    assert recall > 0.6


@pytest.mark.parametrize("use_cg", [True, False])
def test_factors_whose_squares_overflow_are_an_error_not_an_untrained_model(use_cg):
    model = AlternatingLeastSquares(4, init_scale=1e20, use_cg=use_cg, random_state=0)
    with pytest.raises(ModelFitError, match="too large"):
        model.fit(sparse.random(30, 20, 0.2, format="csr", random_state=0), show_progress=False)
