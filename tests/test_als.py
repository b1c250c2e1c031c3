"""Alternating least squares: loss, solvers, input, fits; what every model promises is in test_conformance_*.py."""

import logging
import pickle

import numpy as np
import pytest
from als_cases import (
    FACTORS,
    ITEMS,
    SIDES,
    USERS,
    as_csr,
    assert_same_factors,
    assert_stationary,
    confidence_and_preference,
    fitted,
    loss_of,
    model_of,
    starting_factors,
    stored,
)
from als_cases import cells as cells
from als_cases import dtype as dtype
from als_cases import matrix as matrix
from als_cases import use_cg as use_cg
from scipy import sparse

from implicit_core.cpu import kernels
from implicit_core.cpu.als import calculate_loss, least_squares, least_squares_cg
from implicit_core.recommender_base import ModelFitError
from implicit_core.utils import ParameterWarning

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
