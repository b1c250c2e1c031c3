"""What is particular to alternating least squares; what every model promises is in test_conformance.py."""

import inspect
import logging
import math
import pickle

import numpy as np
import pytest
from scipy import sparse

import implicit_core.cpu.als
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu import kernels
from implicit_core.cpu.als import calculate_loss, least_squares, least_squares_cg
from implicit_core.recommender_base import ModelFitError, NotFittedError
from implicit_core.utils import ParameterWarning

USERS, ITEMS, FACTORS = 40, 30, 6
SIDES = ("user_factors", "item_factors")


def stored(users=USERS, items=ITEMS, seed=0, values=(-2.5, -1.0, 0.0, 0.3, 1.0, 3.7), density=0.2):
    """A dense array with NaN where nothing is stored; user 3 and item 4 are empty."""
    random = np.random.default_rng(seed)
    cells = random.choice(np.array(values), size=(users, items))
    cells[random.random(cells.shape) > density] = np.nan
    cells[3 % users], cells[:, 4 % items] = np.nan, np.nan
    return cells


def as_csr(cells, kind=sparse.csr_matrix):
    rows, columns = np.nonzero(~np.isnan(cells))
    return kind((cells[rows, columns], (rows, columns)), shape=cells.shape)


def confidence_and_preference(cells, alpha=1.0):
    """The documented meaning of stored values, in float32 as promised, for all cells."""
    c = (np.float32(alpha) * cells.astype(np.float32)).astype(np.float64)
    return np.where(np.isnan(c), 1, np.abs(c)), np.nan_to_num(c) > 0


def loss_of(cells, X, Y, regularization, alpha=1.0):
    confidence, preference = confidence_and_preference(cells, alpha)
    error = np.sum(confidence * (preference - X @ Y.T) ** 2)
    return (error + regularization * (np.sum(X**2) + np.sum(Y**2))) / confidence.sum()


def gradient(cells, X, Y, regularization, alpha=1.0):
    """Gradient of the documented loss with respect to X, beside the size of its terms."""
    confidence, preference = confidence_and_preference(cells, alpha)
    pull, push = confidence * preference, confidence * (X @ Y.T)
    return (push - pull) @ Y + regularization * X, (np.abs(push) + pull) @ np.abs(Y)


def assert_stationary(cells, X, Y, regularization, alpha=1.0):
    slope, scale = gradient(cells, X, Y, regularization, alpha)
    assert np.abs(slope).max() <= 1e-12 * scale.max()


def model_of(**parameters):
    """A small model; one thread, since such small work is slow on several while other processes use them."""
    defaults = {"factors": FACTORS, "iterations": 3, "random_state": 1, "num_threads": 1}
    return AlternatingLeastSquares(**{**defaults, **parameters})


def fitted(matrix, **parameters):
    model = model_of(**parameters)
    model.fit(matrix, show_progress=False)
    return model


def assert_same_factors(first, second):
    for side in SIDES:
        np.testing.assert_array_equal(getattr(first, side), getattr(second, side))


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["cg", "cholesky"])
def use_cg(request):
    return request.param


@pytest.fixture
def cells():
    return stored()


@pytest.fixture
def matrix(cells):
    return as_csr(cells)


# The loss and its minimum


@pytest.mark.parametrize("alpha", [1.0, 0.4, 7.3])
@pytest.mark.parametrize("use_native", [True, False])
def test_the_gradient_of_the_loss_vanishes_at_the_exact_half_step(cells, alpha, use_native):
    model = fitted(
        as_csr(cells), alpha=alpha, regularization=0.1, use_cg=False, use_native=use_native, dtype=np.float64
    )
    X, Y = model.user_factors, model.item_factors
    assert_stationary(cells.T, Y, X, 0.1, alpha)
    X = model.recalculate_user(np.arange(USERS), as_csr(cells))
    assert_stationary(cells, X, Y, 0.1, alpha)


@pytest.mark.parametrize("factors", [1, 2, 7, 8, 17, 64, 100, 129])
def test_the_gradient_vanishes_for_every_number_of_factors(factors):
    cells = stored(70, 50)
    model = fitted(as_csr(cells), factors=factors, regularization=0.5, use_cg=False, dtype=np.float64, iterations=1)
    assert_stationary(cells.T, model.item_factors, model.user_factors, 0.5)


@pytest.mark.parametrize("alpha", [1.0, 0.4, 7.3])
@pytest.mark.parametrize("use_native", [True, False])
def test_the_loss_is_the_documented_formula(cells, alpha, use_native, dtype):
    losses = []
    model = model_of(
        alpha=alpha, regularization=0.2, calculate_training_loss=True, use_native=use_native, dtype=dtype, iterations=2
    )
    model.fit(as_csr(cells), callback=lambda *args: losses.append(args[2]), show_progress=False)
    X, Y = (getattr(model, side).astype(np.float64) for side in SIDES)
    assert losses[-1] == pytest.approx(loss_of(cells, X, Y, 0.2, alpha), rel=2e-5 if dtype is np.float32 else 1e-12)


def test_calculate_loss_is_the_documented_formula(cells, dtype):
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(USERS, 5)).astype(dtype), random.normal(size=(ITEMS, 5)).astype(dtype)
    loss = calculate_loss(as_csr(cells), X, Y, 0.3)
    assert isinstance(loss, float)
    assert loss == pytest.approx(loss_of(cells, X, Y, 0.3), rel=1e-5 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize(("regularization", "expected"), [(0.0, 4 / 6), (1.0, 8 / 6), (2.5, 14 / 6)])
def test_the_loss_of_a_hand_computed_example(regularization, expected):
    """Entries of confidence 2 missed by 1 and 0, empty cells missed by 0 and √2, squared norms 0 + 1 + 2 + 1."""
    matrix = sparse.csr_matrix([[2.0, 0.0], [0.0, 2.0]])
    X, Y = np.array([[0.0], [1.0]]), np.array([[np.sqrt(2)], [1.0]])
    assert calculate_loss(matrix, X, Y, regularization) == pytest.approx(expected)


def test_a_negative_entry_is_a_confident_zero():
    """It costs c · (x · y)² and nothing where the score is 0."""
    matrix = sparse.csr_matrix([[-3.0]])
    assert calculate_loss(matrix, np.zeros((1, 1)), np.ones((1, 1)), 0) == 0
    assert calculate_loss(matrix, np.full((1, 1), 0.5), np.ones((1, 1)), 0) == pytest.approx(0.25)


def test_the_loss_falls_in_every_iteration_of_the_exact_solver():
    losses = []
    model = model_of(calculate_training_loss=True, use_cg=False, iterations=6, dtype=np.float64)
    model.fit(as_csr(stored(values=(1.0, 4.0))), callback=lambda *args: losses.append(args[2]), show_progress=False)
    assert (np.diff(losses) < 0).all()


def test_empty_rows_and_columns_get_zeros(matrix, use_cg, dtype):
    model = fitted(matrix, use_cg=use_cg, dtype=dtype)
    assert not model.user_factors[3].any()
    assert not model.item_factors[4].any()
    assert np.abs(model.user_factors).sum(axis=1).astype(bool).sum() >= USERS - 3


def test_an_explicit_zero_takes_its_cell_out_of_the_loss(use_cg):
    """Not storing the cell says, weakly, that the user does not want the item."""
    cells = np.full((12, 9), np.nan)
    cells[np.arange(12), np.arange(12) % 9] = 2
    cells[:, 0] = 2
    with_zero = cells.copy()
    with_zero[1, 2] = 0
    models = [
        fitted(as_csr(c), use_cg=use_cg, cg_steps=20, factors=3, regularization=0.5, dtype=np.float64)
        for c in (cells, with_zero)
    ]
    assert np.abs(models[0].item_factors[2] - models[1].item_factors[2]).max() > 1e-6
    assert_stationary(
        with_zero, models[1].recalculate_user(np.arange(12), as_csr(with_zero)), models[1].item_factors, 0.5
    )


def test_confidences_are_float32_times_alpha_in_float32_whatever_the_dtype(use_cg, dtype):
    values = as_csr(stored(values=(0.1, 0.7, 3.3)))
    scaled = values.astype(np.float32)
    scaled.data *= np.float32(2.7)
    assert scaled.data.dtype == np.float32
    assert_same_factors(
        fitted(values, alpha=2.7, use_cg=use_cg, dtype=dtype), fitted(scaled, use_cg=use_cg, dtype=dtype)
    )


# Conjugate gradient


def test_many_steps_of_conjugate_gradient_reach_the_exact_solution(cells, dtype):
    matrix, (X, Y) = as_csr(cells), starting_factors(dtype)
    exact, steps = X.copy(), X.copy()
    least_squares(matrix, exact, Y, 0.25)
    least_squares_cg(matrix, steps, Y, 0.25, cg_steps=40)
    np.testing.assert_allclose(
        steps, exact, rtol=0, atol=np.abs(exact).max() * (1e-4 if dtype is np.float32 else 1e-11)
    )


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_each_step_takes_the_best_point_of_one_more_krylov_direction(cells, steps):
    """Conjugate gradient's definition: among x + span{r, Ar, …}, the point with the least xᵀAx/2 − bᵀx."""
    X, Y = starting_factors(np.float64)
    result = X.copy()
    least_squares_cg(as_csr(cells), result, Y, 0.25, cg_steps=steps)
    confidence, preference = confidence_and_preference(cells)
    for u in range(USERS):
        if np.isnan(cells[u]).all():
            assert not result[u].any()
            continue
        A = Y.T @ (confidence[u][:, None] * Y) + 0.25 * np.eye(FACTORS)
        r = Y.T @ (confidence[u] * preference[u]) - A @ X[u]
        basis = [r / np.linalg.norm(r)]
        for _ in range(steps - 1):
            basis.append(A @ basis[-1])
            basis[-1] /= np.linalg.norm(basis[-1])
        basis = np.linalg.qr(np.stack(basis, axis=1))[0]
        best = X[u] + basis @ np.linalg.solve(basis.T @ A @ basis, basis.T @ r)
        np.testing.assert_allclose(result[u], best, rtol=0, atol=1e-9)


def starting_factors(dtype, users=USERS, items=ITEMS):
    random = np.random.default_rng(5)
    return random.normal(size=(users, FACTORS)).astype(dtype), random.normal(size=(items, FACTORS)).astype(dtype)


def test_a_solved_row_stays_as_it_is(cells):
    """Steps stop at a tiny residual instead of dividing zero by zero."""
    X, Y = starting_factors(np.float64)
    least_squares(as_csr(cells), X, Y, 0.25)
    again = X.copy()
    least_squares_cg(as_csr(cells), again, Y, 0.25, cg_steps=30)
    np.testing.assert_allclose(again, X, atol=1e-12)
    zeros = np.zeros_like(X)
    least_squares_cg(as_csr(cells), zeros, np.zeros_like(Y), 0.25)
    assert not zeros.any()


def test_cg_steps_is_what_fit_uses(matrix):
    models = [fitted(matrix, cg_steps=steps, iterations=1, dtype=np.float64) for steps in (1, 3, 40)]
    exact = fitted(matrix, use_cg=False, iterations=1, dtype=np.float64)
    distance = [np.abs(model.item_factors - exact.item_factors).max() for model in models]
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 1e-6
    later = model_of(iterations=1, dtype=np.float64)
    assert later.cg_steps == 3
    later.cg_steps = 1
    later.fit(matrix, show_progress=False)
    assert_same_factors(later, models[0])


@pytest.mark.parametrize("use_native", [True, False])
def test_a_triangular_matrix_gives_no_nan(use_native):
    raw = np.tri(6) + np.diag([0.0, 1, 2, 3, 4, 5])
    model = fitted(
        sparse.csr_matrix(raw), factors=3, regularization=0, dtype=np.float64, use_native=use_native, iterations=30
    )
    for side in SIDES:
        assert np.isfinite(getattr(model, side)).all()


@pytest.mark.parametrize("use_native", [True, False])
def test_an_almost_empty_matrix_gives_no_nan(use_native):
    matrix = sparse.csr_matrix(([1.0, 1.0], ([0, 2], [0, 2])), shape=(10, 12))
    model = fitted(matrix, factors=8, regularization=0.01, use_native=use_native)
    for side in SIDES:
        assert np.isfinite(getattr(model, side)).all()


def test_more_factors_than_users_rank_what_was_liked_first(use_cg):
    matrix = sparse.csr_matrix([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    model = fitted(matrix, factors=32, regularization=0.01, use_cg=use_cg, iterations=15)
    for user in range(3):
        assert model.recommend(user, matrix[user], N=1, filter_already_liked_items=False)[0].tolist() == [user]


@pytest.mark.parametrize("use_native", [True, False])
def test_enough_factors_reconstruct_the_matrix(use_native, use_cg, dtype):
    rows = ["110100", "011100", "101000", "110000", "001101", "010001", "000011"]
    likes = np.array([list(row) for row in rows], dtype=np.float64)
    model = fitted(
        sparse.csr_matrix(likes),
        regularization=0 if use_cg else 1e-6,
        alpha=2.0,
        use_native=use_native,
        use_cg=use_cg,
        dtype=dtype,
        iterations=100,
        random_state=23,
    )
    np.testing.assert_allclose(model.user_factors @ model.item_factors.T, likes, atol=2e-3)


# Kernels and array programs, threads, pieces


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_the_array_programs_give_the_factors_of_the_kernels(matrix, use_cg, dtype, alpha):
    native, arrays = (
        fitted(matrix, use_cg=use_cg, dtype=dtype, alpha=alpha, use_native=native, iterations=1)
        for native in (True, False)
    )
    for side in SIDES:
        first, second = getattr(native, side), getattr(arrays, side)
        tolerance = (2e-3 if dtype is np.float32 else 1e-10) * np.abs(second).max()
        np.testing.assert_allclose(first, second, rtol=0, atol=tolerance)


def test_the_factors_have_the_same_bits_for_any_number_of_threads(use_cg, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    matrix = as_csr(stored(700, 300))
    models = [
        fitted(matrix, factors=19, use_cg=use_cg, dtype=dtype, num_threads=threads)
        for threads in (1, 2, 3, 4, 0, -1, -2)
    ]
    for model in models[1:]:
        assert_same_factors(models[0], model)


def test_a_partial_fit_has_the_same_bits_for_any_number_of_threads(dtype, monkeypatch):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    matrix = as_csr(stored(700, 300))
    models = [fitted(matrix[:400], num_threads=threads, dtype=dtype) for threads in (1, 2, 3, 4)]
    for model in models:
        model.partial_fit_users(np.arange(300, 700), matrix[300:])
        model.partial_fit_items(np.arange(10), matrix.T.tocsr()[:10])
        assert_same_factors(models[0], model)


def test_the_work_of_a_half_step_in_pieces_gives_the_same_bits(monkeypatch, use_cg):
    matrix = as_csr(stored(700, 300))
    whole = fitted(matrix, use_cg=use_cg)
    monkeypatch.setattr(kernels, "PIECE_FLOP", 1e4)
    assert_same_factors(whole, fitted(matrix, use_cg=use_cg))


def test_a_row_depends_on_its_own_entries_alone(matrix, use_cg):
    X, Y = starting_factors(np.float32)
    whole, reverse = X.copy(), X[::-1].copy()
    solve = least_squares_cg if use_cg else least_squares
    solve(matrix, whole, Y, 0.1)
    solve(matrix[::-1], reverse, Y, 0.1)
    np.testing.assert_array_equal(whole, reverse[::-1])


@pytest.mark.parametrize("cg", [True, False])
def test_solver_is_the_half_step_of_fit(matrix, cg):
    model = model_of(use_cg=cg, cg_steps=2)
    model.fit(matrix, show_progress=False)
    before = model.user_factors.copy()
    by_solver, by_function = before.copy(), before.copy()
    model.solver(matrix, by_solver, model.item_factors, 0.1)
    if cg:
        least_squares_cg(matrix, by_function, model.item_factors, 0.1, cg_steps=2)
    else:
        least_squares(matrix, by_function, model.item_factors, 0.1)
    np.testing.assert_array_equal(by_solver, by_function)


def test_gram_properties_are_gram_matrices(matrix, dtype):
    model = fitted(matrix, dtype=dtype)
    for gram, side in ((model.YtY, "item_factors"), (model.XtX, "user_factors")):
        factors = getattr(model, side).astype(np.float64)
        assert gram.dtype == dtype
        np.testing.assert_allclose(gram, factors.T @ factors, rtol=1e-6)


# Input


@pytest.mark.parametrize(
    "kind", ["int64 indices", "csr_array", "unsorted", "duplicates", "read-only", "int64 csr_array"]
)
def test_the_form_of_the_csr_input_does_not_matter(cells, use_cg, kind, unmodified):
    values = as_csr(np.where(np.isnan(cells), np.nan, np.abs(cells) + 1))
    other = as_csr(np.where(np.isnan(cells), np.nan, np.abs(cells) + 1))
    if "csr_array" in kind:
        other = sparse.csr_array(other)
    if "int64" in kind:
        other.indices, other.indptr = other.indices.astype(np.int64), other.indptr.astype(np.int64)
    if kind == "unsorted":
        for row in range(USERS):
            own = slice(*other.indptr[row : row + 2])
            other.indices[own], other.data[own] = other.indices[own][::-1].copy(), other.data[own][::-1].copy()
        other.has_sorted_indices = False
    if kind == "duplicates":
        other = sparse.csr_matrix(
            (np.repeat(other.data / 2, 2), np.repeat(other.indices, 2), other.indptr * 2), shape=other.shape
        )
    if kind == "read-only":
        for part in (other.data, other.indices, other.indptr):
            part.flags.writeable = False
    with unmodified(other):
        model = fitted(other, use_cg=use_cg)
        recalculated = model.recalculate_user(np.arange(USERS), other)
    expected = fitted(values, use_cg=use_cg)
    assert_same_factors(model, expected)
    np.testing.assert_array_equal(recalculated, expected.recalculate_user(np.arange(USERS), values))


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64, np.uint16, np.bool_, np.float16, np.float32, np.float64])
def test_any_real_type_of_values_will_do(kind, dtype, unmodified):
    ones = as_csr(stored(values=(1.0,)))
    given = ones.astype(np.float64)
    given.data = given.data.astype(kind)
    with unmodified(given):
        model = fitted(given, dtype=dtype, alpha=2.0)
    assert model.user_factors.dtype == model.item_factors.dtype == dtype
    assert_same_factors(model, fitted(ones, dtype=dtype, alpha=2.0))


def test_complex_values_are_refused(matrix):
    with pytest.raises(TypeError, match="real numbers"):
        fitted(matrix.astype(np.complex128))


@pytest.mark.parametrize("kind", ["coo", "csc", "lil", "dok", "bsr", "dia"])
def test_other_sparse_formats_fit_alike_with_a_warning(kind):
    matrix = as_csr(stored(values=(1.0, 2.0)))
    with pytest.warns(ParameterWarning, match=r"^Method expects CSR input"):
        model = fitted(matrix.asformat(kind))
    assert_same_factors(model, fitted(matrix))


@pytest.mark.parametrize("given", [np.eye(3), [[1, 0], [0, 1]], None, "matrix"])
def test_what_is_no_sparse_matrix_is_refused(given):
    with pytest.raises(TypeError, match=r"scipy\.sparse"):
        fitted(given)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_entry_that_is_not_finite_is_named(matrix, value):
    bad = matrix.copy()
    row = 7
    bad.data[bad.indptr[row]] = bad.data[-1] = value
    with pytest.raises(ModelFitError, match=rf"entry \({row}, {bad.indices[bad.indptr[row]]}\) is {value}"):
        fitted(bad)
    model = fitted(matrix)
    with pytest.raises(ModelFitError, match=rf"user_items .*entry \(0, {bad.indices[bad.indptr[row]]}\) is {value}"):
        model.recalculate_user(row, bad[row])
    with pytest.raises(ModelFitError, match="finite"):
        model.partial_fit_users([row], bad[row])


def test_a_value_beyond_float32_is_named_after_alpha(matrix):
    bad = matrix.copy()
    bad.data[5] = 2e38
    fitted(bad, iterations=0)
    with pytest.raises(ModelFitError, match="too large for float32"):
        fitted(bad, alpha=2.0)


def test_a_system_without_solution_names_the_row_and_what_to_do():
    zeros = as_csr(np.array([[np.nan, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    model = fitted(as_csr(np.ones((2, 3))), factors=2, regularization=0.5, use_cg=False)
    model.regularization = 0
    model.item_factors = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    with pytest.raises(ModelFitError, match=r"row 1 .*regularization"):
        model.recalculate_user([0, 1], zeros)
    assert issubclass(ModelFitError, ValueError)


@pytest.mark.parametrize("side", SIDES)
def test_factors_that_became_nan_end_the_fit(matrix, side):
    model = fitted(matrix)
    getattr(model, side)[7] = np.nan
    if side == "user_factors":  # solved first, from the items
        model.use_cg = True
    with pytest.raises(ModelFitError, match="NaN or infinite"):
        model.fit(matrix, show_progress=False)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (5, 4), (1, 1)])
def test_a_matrix_without_entries_fits_to_zeros(shape, use_cg):
    model = fitted(sparse.csr_matrix(shape), use_cg=use_cg, calculate_training_loss=shape[0] * shape[1] > 0)
    assert model.user_factors.shape == (shape[0], FACTORS)
    assert model.item_factors.shape == (shape[1], FACTORS)
    assert not model.user_factors.any()
    assert not model.item_factors.any()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("factors", [0, -1, 1.5, "8", None]),
        ("iterations", [-1, 1.5, None]),
        ("cg_steps", [0, -1, 2.5]),
        ("regularization", [-0.1, np.nan, np.inf, None, "much", [0.1, 0.2]]),
        ("alpha", [np.nan, np.inf, None, "much", [1.0]]),
    ],
)
def test_a_parameter_out_of_range_is_named_by_fit(matrix, name, values):
    for value in values:
        model = model_of(**{name: value})
        with pytest.raises((ValueError, TypeError), match=name):
            model.fit(matrix, show_progress=False)
        assert model.user_factors is None


@pytest.mark.parametrize("kind", [np.float16, np.int32, np.complex64])
def test_only_float32_and_float64_are_trained(matrix, kind):
    with pytest.raises(TypeError, match="float32 or float64"):
        fitted(matrix, dtype=kind)


# The course of a fit


def test_the_callback_gets_iteration_seconds_and_loss(matrix):
    calls = []
    fitted_by = model_of(iterations=4)
    fitted_by.fit(matrix, show_progress=False, callback=lambda *args: calls.append(args))
    assert [call[0] for call in calls] == [0, 1, 2, 3]
    assert all(isinstance(call[1], float) and call[1] >= 0 and call[2] is None for call in calls)


def test_fit_callback_is_used_where_none_is_passed(matrix):
    calls = []
    model = model_of(iterations=2)
    assert model.fit_callback is None
    model.fit_callback = lambda iteration, *_: calls.append(("attribute", iteration))
    model.fit(matrix, show_progress=False)
    model.fit(matrix, show_progress=False, callback=lambda iteration, *_: calls.append(("argument", iteration)))
    assert calls == [("attribute", 0), ("attribute", 1), ("argument", 0), ("argument", 1)]


def test_no_iterations_leave_the_initial_factors(matrix, dtype):
    model = fitted(matrix, iterations=0, calculate_training_loss=True, dtype=dtype, random_state=7)
    random = np.random.default_rng(7)
    for side, rows in zip(SIDES, (USERS, ITEMS), strict=True):
        expected = random.random((rows, FACTORS), dtype=dtype) * dtype(0.01)
        np.testing.assert_array_equal(getattr(model, side), expected)


def test_the_progress_bar_can_be_silenced_and_the_loss_logged(matrix, capsys, caplog):
    with caplog.at_level(logging.INFO, logger="implicit_core"):
        fitted(matrix, calculate_training_loss=True, iterations=2)
    assert capsys.readouterr() == ("", "")
    assert sum("loss after iteration" in record.message for record in caplog.records) == 2
    model_of(calculate_training_loss=True, iterations=2).fit(matrix)
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "loss=" in shown


def test_a_second_fit_goes_on_from_the_factors(matrix, use_cg, dtype):
    whole = fitted(matrix, iterations=5, use_cg=use_cg, dtype=dtype)
    model = fitted(matrix, iterations=2, use_cg=use_cg, dtype=dtype)
    model.iterations = 3
    model.fit(matrix, show_progress=False)
    assert_same_factors(model, whole)


@pytest.mark.parametrize(
    ("rows", "columns", "side"), [(-1, 0, "user"), (1, 0, "user"), (0, -1, "item"), (0, 1, "item")]
)
def test_going_on_with_another_shape_is_refused(matrix, rows, columns, side):
    model = fitted(matrix)
    kept = pickle.loads(pickle.dumps(model))
    other = as_csr(stored(USERS + rows, ITEMS + columns))
    with pytest.raises(
        ValueError, match=rf"{side}_factors must have shape .* set user_factors and item_factors to None"
    ):
        model.fit(other, show_progress=False)
    assert_same_factors(model, kept)
    model.user_factors = model.item_factors = None
    model.fit(other, show_progress=False)
    assert_same_factors(model, fitted(other))


def test_a_second_fit_sees_factors_that_were_written_in_place(matrix, use_cg):
    models = [fitted(matrix, use_cg=use_cg) for _ in range(2)]
    models[0].item_factors *= 2
    models[1].item_factors = models[1].item_factors * 2
    for model in models:
        model.fit(matrix, show_progress=False)
    assert_same_factors(*models)


def test_going_on_with_another_number_of_factors_is_refused(matrix):
    model = fitted(matrix)
    model.factors = FACTORS + 1
    with pytest.raises(ValueError, match="shape"):
        model.fit(matrix, show_progress=False)


@pytest.mark.parametrize("layout", ["read-only", "Fortran", "list", "other dtype", "strided"])
def test_factors_that_the_user_set_are_what_fit_starts_from(matrix, layout, use_cg, unmodified):
    expected = fitted(matrix, iterations=0)
    X, Y = expected.user_factors.copy(), expected.item_factors.copy()
    expected.iterations = 2
    expected.use_cg = use_cg
    expected.fit(matrix, show_progress=False)
    change = {
        "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
        "Fortran": np.asfortranarray,
        "list": lambda a: a.tolist(),
        "other dtype": lambda a: a.astype(np.float64),
        "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    }[layout]
    model = model_of(iterations=2, use_cg=use_cg)
    model.user_factors, model.item_factors = given = change(X), change(Y)
    with unmodified(*given):
        model.fit(matrix, show_progress=False)
    assert_same_factors(model, expected)


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_an_interrupted_fit_leaves_a_model_that_can_go_on(matrix, use_cg, stop_after):
    def interrupt(iteration, *_):
        if iteration == stop_after:
            raise KeyboardInterrupt

    model = model_of(iterations=5, use_cg=use_cg)
    with pytest.raises(KeyboardInterrupt):
        model.fit(matrix, show_progress=False, callback=interrupt)
    assert model.user_factors.shape == (USERS, FACTORS)
    assert model.item_factors.shape == (ITEMS, FACTORS)
    assert all(np.isfinite(getattr(model, side)).all() for side in SIDES)
    model.recommend(0, matrix[0])
    model.iterations = 5 - stop_after - 1
    model.fit(matrix, show_progress=False)
    assert_same_factors(model, fitted(matrix, iterations=5, use_cg=use_cg))


# Recalculation and partial fits


@pytest.fixture(params=["user", "item"])
def side(request):
    """How to recalculate and extend one side, so that both are tested as the mirror images that they are."""
    return request.param


def half(side, matrix):
    """The matrix with the ids of a side as its rows."""
    return matrix if side == "user" else matrix.T.tocsr()


def recalculate(model, side, ids, rows):
    return getattr(model, f"recalculate_{side}")(ids, rows)


def partial_fit(model, side, ids, rows):
    return getattr(model, f"partial_fit_{side}s")(ids, rows)


def factors_of(model, side):
    return getattr(model, f"{side}_factors")


def test_recalculation_is_exact_and_leaves_the_model(cells, side, dtype, unmodified):
    matrix = as_csr(cells)
    model = fitted(matrix, alpha=1.5, regularization=0.2, dtype=dtype)
    rows, count = half(side, matrix), (USERS if side == "user" else ITEMS)
    before = pickle.loads(pickle.dumps(model))
    with unmodified(rows):
        new = recalculate(model, side, np.arange(count), rows)
    assert_same_factors(model, before)
    assert new.dtype == dtype
    assert new.shape == (count, FACTORS)
    if dtype is np.float64:
        other = factors_of(model, "item" if side == "user" else "user")
        assert_stationary(cells if side == "user" else cells.T, new, other, 0.2, 1.5)
    for given in (5, np.int64(5), np.array(5)):
        alone = recalculate(model, side, given, rows[5])
        assert alone.shape == (FACTORS,)
        np.testing.assert_array_equal(alone, new[5])
    np.testing.assert_array_equal(recalculate(model, side, [5], rows[5]), new[5:6])
    np.testing.assert_array_equal(recalculate(model, side, [7, 2], rows[[7, 2]]), new[[7, 2]])
    np.testing.assert_array_equal(recalculate(model, side, [7, 2], rows), new[[7, 2]])
    np.testing.assert_array_equal(recalculate(model, side, 5, rows), new[5])
    assert recalculate(model, side, [], rows[:0]).shape == (0, FACTORS)


def test_an_id_that_the_model_does_not_know_can_be_recalculated(matrix, side):
    model = fitted(matrix)
    rows = half(side, matrix)
    np.testing.assert_array_equal(recalculate(model, side, 10_000, rows[0]), recalculate(model, side, 0, rows[0]))


def test_recalculation_takes_other_formats_as_fit_does(matrix, side, row_of):
    model = fitted(matrix)
    rows = half(side, matrix)
    expected = recalculate(model, side, [1, 2], rows[[1, 2]])
    with pytest.warns(ParameterWarning, match=r"^Method expects CSR input"):
        given = recalculate(model, side, [1, 2], rows[[1, 2]].tocoo())
    np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(recalculate(model, side, [1, 2], sparse.csr_array(rows)[[1, 2]]), expected)
    np.testing.assert_array_equal(recalculate(model, side, 1, row_of(sparse.csr_array(rows), 1)), expected[0])


@pytest.mark.parametrize("count", [1, 3, 5, USERS - 1])
def test_recalculation_of_the_wrong_number_of_rows_says_what_to_pass(matrix, count):
    model = fitted(matrix)
    with pytest.raises(ValueError, match=r"one row per userid \(2\).*pass user_items\[userid\]"):
        model.recalculate_user([0, 1], matrix[:count])


@pytest.mark.parametrize("column", [ITEMS, ITEMS + 5, 10**6])
def test_a_stored_column_that_is_not_known_is_refused(matrix, column):
    model = fitted(matrix)
    wide = sparse.csr_matrix(([1.0], ([0], [column])), shape=(1, column + 1))
    for call in (model.recalculate_user, model.recommend, lambda u, m: model.partial_fit_users([u], m)):
        with pytest.raises(ValueError, match=str(column)):
            call(0, wide)


def test_a_recalculated_recommendation_is_that_of_the_recalculated_factors(matrix, dtype):
    model = fitted(matrix, dtype=dtype)
    ids, scores = model.recommend([90, 91], matrix[[5, 6]], N=ITEMS, recalculate_user=True)
    again = fitted(matrix, dtype=dtype)
    again.partial_fit_users([5, 6], matrix[[5, 6]])
    expected = again.recommend([5, 6], matrix[[5, 6]], N=ITEMS)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_similar_items_of_recalculated_items(matrix):
    model = fitted(matrix)
    rows = matrix.T.tocsr()
    given = model.similar_items([ITEMS + 3, 0], N=5, recalculate_item=True, item_users=rows[[6, 7]])
    model.partial_fit_items([6, 7], rows[[6, 7]])
    vectors = model.item_factors[[6, 7]] / np.linalg.norm(model.item_factors[[6, 7]], axis=1, keepdims=True)
    old = fitted(matrix).item_factors
    norms = np.maximum(np.linalg.norm(old, axis=1), 1e-10)
    np.testing.assert_allclose(given[1], -np.sort(-(vectors @ old.T / norms), axis=1)[:, :5], rtol=1e-5)
    with pytest.raises(ValueError, match="item_users"):
        model.similar_items(0, recalculate_item=True)


def test_partial_fit_replaces_known_rows_and_appends_new_ones(matrix, side):
    model = fitted(matrix)
    before, rows = factors_of(model, side).copy(), half(side, matrix)
    count = len(before)
    expected = recalculate(model, side, np.arange(4), rows[[8, 9, 10, 11]])
    assert partial_fit(model, side, [2, count + 2, 0, count], rows[[8, 9, 10, 11]]) is None
    after = factors_of(model, side)
    assert after.shape == (count + 3, FACTORS)
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after[[2, count + 2, 0, count]], expected)
    assert not after[count + 1].any()
    unchanged = np.setdiff1d(np.arange(count), [0, 2])
    np.testing.assert_array_equal(after[unchanged], before[unchanged])


def test_new_ids_can_be_asked_for_after_a_partial_fit(matrix):
    model = fitted(matrix)
    model.similar_items(0)
    model.partial_fit_users([USERS], matrix[5])
    model.partial_fit_items([ITEMS], matrix.T.tocsr()[6])
    ids, _ = model.recommend(USERS, None, N=ITEMS + 1, filter_already_liked_items=False)
    assert sorted(ids) == list(range(ITEMS + 1))
    assert model.similar_items(ITEMS, N=1)[0].tolist() == [ITEMS]
    assert model.similar_users(USERS, N=1)[0].tolist() == [USERS]
    factors = model.item_factors.astype(np.float64)
    np.testing.assert_allclose(model.YtY, factors.T @ factors, rtol=1e-5)


@pytest.mark.parametrize("changed", [[1, 2], [1, ITEMS]])
def test_a_partial_fit_uses_the_fixed_side_as_it_is_now(matrix, changed):
    """Items that a partial fit changed, in place or by growth, count in the next fold-in of a user."""
    model = fitted(matrix, dtype=np.float64, regularization=0.1)
    model.recalculate_user(0, matrix[0])
    model.partial_fit_items(changed, matrix.T.tocsr()[[6, 7]])
    cells = np.full((1, len(model.item_factors)), np.nan)
    cells[0, [0, *changed]] = 2, 1, 3
    assert_stationary(cells, model.recalculate_user([0], as_csr(cells)), model.item_factors, 0.1)


@pytest.mark.parametrize("more", [-1, 1])
def test_partial_fit_wants_exactly_one_row_per_id(matrix, side, more):
    model = fitted(matrix)
    rows = half(side, matrix)
    with pytest.raises(ValueError, match="one row for each"):
        partial_fit(model, side, [0, 1, 2], rows[: 3 + more])
    with pytest.raises(ValueError, match="one row for each"):
        partial_fit(model, side, [0, 1], rows)
    assert factors_of(model, side).shape == factors_of(fitted(matrix), side).shape


@pytest.mark.parametrize("ids", [[-1], [0.5], ["a"], [[0]]])
def test_partial_fit_of_what_is_no_id_is_refused(matrix, side, ids):
    model = fitted(matrix)
    with pytest.raises((IndexError, TypeError)):
        partial_fit(model, side, ids, half(side, matrix)[:1])
    with pytest.raises(TypeError, match="sequence"):
        partial_fit(model, side, 0, half(side, matrix)[:1])


def test_a_partial_fit_of_nobody_changes_nothing(matrix, side):
    model = fitted(matrix)
    partial_fit(model, side, [], half(side, matrix)[:0])
    assert_same_factors(model, fitted(matrix))


def test_adding_rows_one_by_one_moves_the_factors_a_logarithmic_number_of_times(matrix, side):
    model, rows = fitted(matrix), half(side, matrix)
    count, buffers = rows.shape[0], {}
    expected = recalculate(model, side, [0], rows[6])[0]
    for new in range(count, count + 2000):
        partial_fit(model, side, [new], rows[6])
        factors = factors_of(model, side)
        owner = factors if factors.base is None else factors.base
        buffers[id(owner)] = owner  # kept, so that no id is used again
    assert len(buffers) <= math.log2(2000) + 2
    assert factors_of(model, side).shape == (count + 2000, FACTORS)
    np.testing.assert_array_equal(factors_of(model, side)[count:], np.broadcast_to(expected, (2000, FACTORS)))
    assert len(pickle.dumps(model)) < 2 * factors_of(model, side).nbytes


def test_growth_never_shows_rows_of_an_earlier_state(matrix):
    """Rows that a partial fit skips are zero, even where the buffer held others before."""
    model = fitted(matrix)
    model.partial_fit_users(np.arange(USERS, USERS + 9), matrix[6:15])
    model.user_factors = model.user_factors[:USERS]
    model.partial_fit_users([USERS + 8], matrix[6])
    assert not model.user_factors[USERS : USERS + 8].any()


def test_a_copy_of_a_grown_model_grows_by_itself(matrix):
    model = fitted(matrix)
    model.partial_fit_users([USERS], matrix[6])
    twin = pickle.loads(pickle.dumps(model))
    twin.partial_fit_users([USERS + 1], matrix[7])
    model.partial_fit_users([USERS + 1], matrix[8])
    np.testing.assert_array_equal(twin.user_factors[USERS + 1], model.recalculate_user(0, matrix[7]))
    np.testing.assert_array_equal(model.user_factors[USERS + 1], model.recalculate_user(0, matrix[8]))


@pytest.mark.parametrize("layout", ["read-only", "Fortran"])
def test_partial_fit_on_factors_that_cannot_be_written_takes_a_copy(matrix, side, layout, unmodified):
    model, expected = fitted(matrix), fitted(matrix)
    for name in SIDES:
        factors = np.array(getattr(model, name), order="F" if layout == "Fortran" else "C")
        factors.flags.writeable = layout == "Fortran"
        setattr(model, name, factors)
    rows = half(side, matrix)
    with unmodified(factors_of(model, side)):
        given = factors_of(model, side)
        partial_fit(model, side, [0, 2], rows[[5, 6]])
        partial_fit(expected, side, [0, 2], rows[[5, 6]])
        assert layout == "Fortran" or not np.array_equal(given, factors_of(model, side))
    np.testing.assert_allclose(factors_of(model, side), factors_of(expected, side), rtol=1e-5, atol=1e-7)


# Explanations


@pytest.fixture
def explained(cells):
    return fitted(as_csr(cells), alpha=1.7, regularization=0.3, dtype=np.float64)


def test_the_total_of_an_explanation_is_the_recalculated_score(explained, cells, matrix, unmodified):
    scores = explained.recalculate_user(np.arange(USERS), matrix) @ explained.item_factors.T
    for user in range(USERS):
        for item in (0, 4, 17):
            with unmodified(matrix):
                total, contributions, _ = explained.explain(user, matrix, item, N=ITEMS)
            assert isinstance(total, float)
            assert total == pytest.approx(scores[user, item], abs=1e-11)
            assert sum(score for _, score in contributions) == pytest.approx(total, abs=1e-11)
            liked = np.flatnonzero(np.nan_to_num(cells[user]) > 0)
            assert sorted(item for item, _ in contributions) == liked.tolist()


def test_a_contribution_is_the_weighted_similarity_of_two_items(explained, cells, matrix):
    confidence, preference = confidence_and_preference(cells, 1.7)
    user, item, Y = np.argmax(preference.sum(axis=1)), 9, explained.item_factors
    A = Y.T @ (confidence[user][:, None] * Y) + 0.3 * np.eye(FACTORS)
    _, contributions, _ = explained.explain(user, matrix, item, N=ITEMS)
    assert len(contributions) > 2
    for liked, score in contributions:
        assert preference[user, liked]
        assert score == pytest.approx(confidence[user, liked] * Y[item] @ np.linalg.solve(A, Y[liked]), abs=1e-12)


def test_contributions_are_the_n_largest_in_descending_order(explained, matrix):
    total, every, _ = explained.explain(6, matrix, 9, N=ITEMS)
    assert [score for _, score in every] == sorted((score for _, score in every), reverse=True)
    for n in (0, 1, 2, 10):
        assert explained.explain(6, matrix, 9, N=n)[:2] == (total, every[:n])
    assert explained.explain(6, matrix, 9)[1] == every[:10]
    assert all(type(item) is int and type(score) is float for item, score in every)
    with pytest.raises(ValueError, match="N must be at least 0"):
        explained.explain(6, matrix, 9, N=-1)


def test_an_explanation_takes_the_full_matrix_or_the_row_of_the_user(explained, matrix, row_of):
    expected = explained.explain(6, matrix, 9)
    array = sparse.csr_array(matrix)
    for row in (matrix[6], array[[6]], row_of(array, 6), array):
        assert explained.explain(6, row, 9)[:2] == expected[:2]
    with pytest.raises(ValueError, match="one row per userid"):
        explained.explain(6, matrix[:5], 9)
    with pytest.warns(ParameterWarning, match=r"^Method expects CSR input"):
        assert explained.explain(6, matrix.tocoo(), 9)[:2] == expected[:2]


def test_user_weights_spare_the_work_of_a_second_explanation(explained, matrix):
    weights = explained.explain(6, matrix, 9)[2]
    fresh, reused = explained.explain(6, matrix, 3), explained.explain(6, matrix, 3, user_weights=weights)
    assert reused[:2] == fresh[:2]
    assert reused[2] is weights
    doubled = explained.explain(6, matrix, 3, user_weights=(weights[0] * np.sqrt(2), weights[1]))
    assert doubled[0] == pytest.approx(fresh[0] / 2)


def test_a_user_without_likes_has_nothing_to_explain(explained, matrix):
    total, contributions, _ = explained.explain(3, matrix, 9)
    assert total == 0
    assert contributions == []


@pytest.mark.parametrize(("user", "item"), [(0, -1), (0, ITEMS), (-1, 0)])
def test_unknown_ids_cannot_be_explained(explained, matrix, user, item):
    with pytest.raises(IndexError):
        explained.explain(user, matrix, item)


def test_explanations_of_float32_models_agree_with_their_recommendations(matrix):
    model = fitted(matrix)
    ids, scores = model.recommend(6, matrix[6], N=3, recalculate_user=True)
    for item, score in zip(ids, scores, strict=True):
        assert model.explain(6, matrix, item)[0] == pytest.approx(score, abs=1e-4)


# The public class and those of the devices


ORDER = {
    "facade": [
        ("factors", 100),
        ("regularization", 0.01),
        ("alpha", 1.0),
        ("dtype", np.float32),
        ("use_native", True),
        ("use_cg", True),
        ("use_gpu", None),
        ("iterations", 15),
        ("calculate_training_loss", False),
        ("num_threads", 0),
        ("random_state", None),
    ],
}
ORDER["cpu"] = [pair for pair in ORDER["facade"] if pair[0] != "use_gpu"]
BEYOND = [
    ("cg_steps", 3),
    ("unobserved_weight", None),
    ("regularization_exponent", 0.0),
    ("init_scale", None),
]
CLASSES = {"facade": AlternatingLeastSquares, "cpu": implicit_core.cpu.als.AlternatingLeastSquares}


@pytest.mark.parametrize("place", CLASSES)
def test_the_signature_lists_the_parameters_in_the_order_of_the_place(place):
    for callable_ in (CLASSES[place], CLASSES[place].__init__):
        parameters = [p for p in inspect.signature(callable_).parameters.values() if p.name != "self"]
        assert [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ORDER[place]
        assert [(p.name, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY] == BEYOND


@pytest.mark.parametrize("place", CLASSES)
def test_positional_arguments_follow_that_order(place):
    values = {
        "factors": 11,
        "regularization": 0.5,
        "alpha": 2.5,
        "dtype": np.dtype(np.float64),
        "use_native": False,
        "use_cg": False,
        "use_gpu": False,
        "iterations": 7,
        "calculate_training_loss": True,
        "num_threads": 3,
        "random_state": 17,
    }
    model = CLASSES[place](*[values[name] for name, _ in ORDER[place]], cg_steps=5)
    assert {name: getattr(model, name) for name in values} == values
    assert model.cg_steps == 5
    assert CLASSES[place]().dtype == np.float32
    with pytest.raises(TypeError):
        CLASSES[place](*range(12))
    with pytest.raises(TypeError, match="nonsense"):
        CLASSES[place](nonsense=1)


@pytest.mark.parametrize("place", CLASSES)
def test_every_model_is_an_instance_of_both_classes(place):
    model = CLASSES[place](factors=3)
    assert isinstance(model, AlternatingLeastSquares)
    assert isinstance(model, implicit_core.cpu.als.AlternatingLeastSquares)
    assert issubclass(implicit_core.cpu.als.AlternatingLeastSquares, AlternatingLeastSquares)
    assert type(model).__module__ == "implicit_core.cpu.als"
    assert type(model).__qualname__ == "AlternatingLeastSquares"


class Loud(AlternatingLeastSquares):
    """A user's model with a parameter of its own."""

    def __init__(self, factors=4, volume=11, **rest):
        super().__init__(factors=factors, **rest)
        self.volume = volume

    def recommend(self, *args, **kwargs):
        ids, scores = super().recommend(*args, **kwargs)
        return ids, scores * self.volume


class CPULoud(implicit_core.cpu.als.AlternatingLeastSquares):
    """A user's subclass of the CPU class that adds nothing."""


def test_users_can_subclass_the_public_class(matrix):
    model = Loud(5, volume=2, random_state=1, iterations=3)
    assert type(model) is Loud
    model.fit(matrix, show_progress=False)
    plain = fitted(matrix, factors=5)
    assert_same_factors(model, plain)
    ids, scores = model.recommend(1, matrix[1])
    np.testing.assert_array_equal(ids, plain.recommend(1, matrix[1])[0])
    np.testing.assert_array_equal(scores, plain.recommend(1, matrix[1])[1] * 2)
    assert model.volume == 2
    assert model.get_params()["volume"] == 2
    assert repr(model) == "Loud(factors=5, volume=2)"


def test_users_can_subclass_the_cpu_class(matrix):
    model = CPULoud(FACTORS, 0.01, 1.0, np.float32, True, True, 3, random_state=1)
    model.fit(matrix, show_progress=False)
    assert type(model) is CPULoud
    assert_same_factors(model, fitted(matrix))


def test_a_gpu_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"use_gpu=True cannot be met: .*GPU.*use_gpu"):
        AlternatingLeastSquares(use_gpu=True)
    with pytest.raises(ValueError, match=r"to_gpu cannot be met: .*GPU"):
        AlternatingLeastSquares().to_gpu()
    assert AlternatingLeastSquares().use_gpu is False


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "AlternatingLeastSquares()"),
        ({"factors": 3, "alpha": 2.0}, "AlternatingLeastSquares(factors=3, alpha=2.0)"),
        ({"dtype": np.float64}, "AlternatingLeastSquares(dtype=dtype('float64'))"),
        ({"random_state": 5, "cg_steps": 4}, "AlternatingLeastSquares(random_state=5, cg_steps=4)"),
    ],
)
def test_repr_shows_what_differs_from_the_defaults(parameters, text):
    assert repr(AlternatingLeastSquares(**parameters)) == text
    again = eval(text, {"AlternatingLeastSquares": AlternatingLeastSquares, "dtype": np.dtype})
    assert again.get_params() == AlternatingLeastSquares(**parameters).get_params()


def test_get_params_and_set_params_are_the_constructor_s(matrix):
    model = implicit_core.cpu.als.AlternatingLeastSquares(factors=3, random_state=5)
    names = [name for name, _ in ORDER["cpu"] + BEYOND]
    assert list(model.get_params()) == names
    clone = type(model)(**model.get_params())
    assert clone.get_params() == model.get_params()
    assert clone.set_params(factors=FACTORS, random_state=1, iterations=3) is clone
    clone.fit(matrix, show_progress=False)
    assert_same_factors(clone, fitted(matrix))
    with pytest.raises(ValueError, match="nonsense"):
        clone.set_params(nonsense=1)
    assert not hasattr(clone, "nonsense")


@pytest.mark.parametrize(
    "call",
    [
        lambda model, rows: model.recalculate_user(0, rows),
        lambda model, rows: model.recalculate_item(0, rows),
        lambda model, rows: model.partial_fit_users([0], rows),
        lambda model, rows: model.partial_fit_items([0], rows),
        lambda model, rows: model.explain(0, rows, 0),
        lambda model, rows: model.recommend(0, rows, recalculate_user=True),
        lambda model, rows: model.YtY,
        lambda model, rows: model.XtX,
    ],
)
def test_an_unfitted_model_says_so(matrix, call):
    with pytest.raises(NotFittedError, match="not fitted"):
        call(model_of(), matrix[0])


# The functions of implicit_core.cpu.als


@pytest.mark.parametrize("bad", ["read-only", "Fortran", "width", "rows", "columns", "float16"])
def test_a_half_step_that_cannot_be_done_in_place_is_refused(matrix, bad):
    X, Y = starting_factors(np.float32)
    if bad == "read-only":
        X.flags.writeable = False
    X = {"Fortran": np.asfortranarray(X), "width": X[:, :-1].copy()}.get(bad, X)
    X = X[:-1] if bad == "rows" else X
    Y = Y[:-1] if bad == "columns" else Y
    if bad == "float16":
        X, Y = X.astype(np.float16), Y.astype(np.float16)
    before = X.copy()
    for solve in (least_squares, least_squares_cg):
        with pytest.raises(ValueError, match="must"):
            solve(matrix, X, Y, 0.1)
    np.testing.assert_array_equal(X, before)


def test_the_linear_system_of_a_user_is_the_definition(cells, matrix):
    _, Y = starting_factors(np.float64)
    confidence, preference = confidence_and_preference(cells)
    for user in (0, 6):
        A, b = implicit_core.cpu.als.user_linear_equation(Y, Y.T @ Y, matrix, user, 0.3, FACTORS)
        np.testing.assert_allclose(A, Y.T @ (confidence[user][:, None] * Y) + 0.3 * np.eye(FACTORS), atol=1e-10)
        np.testing.assert_allclose(b, Y.T @ (confidence[user] * preference[user]), atol=1e-10)
        x = implicit_core.cpu.als.user_factor(Y, Y.T @ Y, matrix, user, 0.3, FACTORS)
        np.testing.assert_allclose(A @ x, b, atol=1e-10)
        np.testing.assert_array_equal(implicit_core.cpu.als.item_factor(Y, Y.T @ Y, matrix, user, 0.3, FACTORS), x)
    with pytest.raises(ValueError, match="n_factors"):
        implicit_core.cpu.als.user_linear_equation(Y, Y.T @ Y, matrix, 0, 0.3, FACTORS + 1)


def test_factors_begin_at_a_cache_line(matrix, dtype, tmp_path):
    """A kernel then reads no line twice for a row; NumPy's own arrays begin anywhere."""
    scaled = AlternatingLeastSquares(factors=16, iterations=1, dtype=dtype, init_scale=0.1, use_gpu=False)
    model = AlternatingLeastSquares(factors=16, iterations=1, dtype=dtype, use_gpu=False)
    for each in (model, scaled):
        each.fit(matrix, show_progress=False)
    model.save(tmp_path / "model.npz")
    loaded = AlternatingLeastSquares.load(tmp_path / "model.npz")
    model.partial_fit_users([matrix.shape[0] + 3], matrix[:1])
    for each in (model, scaled, loaded):
        assert each.user_factors.ctypes.data % 64 == each.item_factors.ctypes.data % 64 == 0
