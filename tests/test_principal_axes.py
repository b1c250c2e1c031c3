"""Fits that hold the factors in principal axes, where the gram matrix of the fixed side is diagonal."""

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

from implicit_core import _arrays
from implicit_core._arrays import Axes
from implicit_core._matrices import to_counts
from implicit_core._typing import Policy
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu import _als, _axes, kernels
from implicit_core.cpu._axes import PrincipalAxes
from implicit_core.datasets import synthetic

SIDES = ("user_factors", "item_factors")
POLICIES = [Policy(), Policy(alpha=2.0, observed=True)]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def always(monkeypatch):
    """Turn factors however few they are."""
    monkeypatch.setattr(_axes, "MIN_FACTORS", 1)
    monkeypatch.setattr(_axes, "ROWS_PER_FACTOR", 0)


@pytest.fixture(scope="module")
def matrix():
    return synthetic.make_implicit(90, 70, 1500, random_state=2)


def sides(users, items, factors, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(rows, factors)).astype(dtype) for rows in (users, items))


def orthogonal(factors, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(factors, factors)))[0]


def fitted(matrix, start=None, **parameters):
    defaults = {"factors": 7, "iterations": 4, "random_state": 3, "num_threads": 1, "alpha": 2.0}
    model = AlternatingLeastSquares(**{**defaults, **parameters})
    if start is not None:
        model.user_factors, model.item_factors = (factors.copy() for factors in start)
    model.fit(matrix, show_progress=False)
    return model


def assert_close(first, second, tolerance):
    for side in SIDES:
        expected = getattr(second, side)
        np.testing.assert_allclose(getattr(first, side), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("factors", [1, 7, 32, 33, 65, 100])
@pytest.mark.parametrize("rows", [(0, 1), (1, 63), (64, 65), (130, 7)])
def test_rows_are_multiplied_by_the_basis(dtype, factors, rows, monkeypatch):
    rng = np.random.default_rng(factors)
    basis = orthogonal(factors)
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    for threads in (1, 3):
        matrices = [rng.normal(size=(n, factors)).astype(dtype) for n in (*rows, factors)]
        expected = [matrix.astype(np.float64) @ basis for matrix in matrices]
        kernels.turn(*matrices, basis, threads)
        for found, product in zip(matrices, expected, strict=True):
            np.testing.assert_allclose(found, product, rtol=0, atol=3e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("factors", [3, 32, 64, 70, 100, 128])
@pytest.mark.parametrize("longest", [None, 8])
def test_a_diagonal_alone_stands_for_a_diagonal_matrix(dtype, policy, factors, longest, monkeypatch):
    """Rows are empty, have fewer entries than a group of the kernel, and more; some are long."""
    rng = np.random.default_rng(2)
    cells = rng.uniform(1, 3, (40, 35)) * (np.arange(35) < rng.integers(0, 36, 40)[:, None])
    counts = to_counts(sparse.csr_matrix(rng.permuted(cells, axis=1).astype(dtype)))
    X, Y = sides(40, 35, factors, dtype)
    Y *= dtype(0.3)
    gram, diag = rng.uniform(20, 60, factors), rng.uniform(0.1, 2, 40).astype(dtype)
    if longest:
        monkeypatch.setattr(kernels, "Y_BLOCK", 9 * factors * np.dtype(dtype).itemsize)
        monkeypatch.setattr(kernels, "LONG_ROW", longest * -(-factors // _als.WIDTH) * _als.WIDTH * X.itemsize)
    for steps in (0, 1, 3):
        found, expected = X.copy(), X.copy()
        kernels.least_squares(counts, found, Y, gram, diag, policy, steps, slice(None), 2)
        _arrays.least_squares(counts, expected, Y, np.diag(gram), diag, policy, steps, slice(None))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 if dtype == np.float32 else 1e-10)


def test_turning_makes_the_gram_matrix_diagonal_and_keeps_scores(dtype):
    X, Y = sides(50, 40, 9, dtype)
    Y[:, 3] = Y[:, 4]  # so that an eigenvalue is zero, but for rounding
    before, axes, accuracy = (X.copy(), Y.copy()), PrincipalAxes(kernels.turn), 1e-4 if dtype == np.float32 else 1e-11
    for fixed in (Y, X, Y):
        values = axes.turn(X, Y, kernels.gram(fixed))
        assert values.shape == (9,)
        assert (values >= 0).all()
        np.testing.assert_allclose(kernels.gram(fixed), np.diag(values), rtol=0, atol=accuracy)
        np.testing.assert_allclose(X @ Y.T, before[0] @ before[1].T, rtol=0, atol=accuracy)
        assert np.abs(X - before[0]).max() > 0.1
    for _ in range(2):  # the second changes nothing
        axes.turn_back(X, Y)
        np.testing.assert_allclose(X, before[0], rtol=0, atol=accuracy)
        np.testing.assert_allclose(Y, before[1], rtol=0, atol=accuracy)


def test_the_axes_have_the_same_bits_for_any_number_of_threads_of_the_linear_algebra_library(dtype):
    """Which has others from 256 factors on, left to itself."""
    found = []
    for threads in (1, 2):
        X, Y = sides(30, 2000, 256, dtype)
        with threadpool_limits(threads):
            values = PrincipalAxes(kernels.turn).turn(X, Y, kernels.gram(Y))
        found.append((X, Y, values))
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


def test_factors_that_share_memory_stay_as_they_are():
    rows = np.random.default_rng(0).normal(size=(30, 4))
    before, gram = rows.copy(), kernels.gram(rows)
    axes = PrincipalAxes(kernels.turn)
    assert axes.turn(rows, rows[5:], gram) is gram
    axes.turn_back(rows, rows[5:])
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("objective", [{}, {"unobserved_weight": 0.2, "regularization_exponent": 0.5}])
@pytest.mark.parametrize("factors", [7, 70])
def test_a_fit_gives_the_factors_of_the_definition(matrix, always, objective, factors):
    options = {"dtype": np.float64, "factors": factors, **objective}
    assert_close(fitted(matrix, **options), fitted(matrix, use_native=False, **options), 1e-9)


def test_it_is_as_accurate_as_without(matrix, monkeypatch):
    """Against double precision from the same start, with as many factors as make it worth its while."""
    options = {"factors": 70, "regularization": 0.1}
    start = [rows * 0.1 for rows in sides(*matrix.shape, 70, np.float32)]
    exact = fitted(matrix, [rows.astype(np.float64) for rows in start], dtype=np.float64, **options)
    scores = exact.user_factors @ exact.item_factors.T

    def error():
        model = fitted(matrix, start, **options)
        return np.sqrt(np.mean((model.user_factors @ model.item_factors.T - scores) ** 2))

    without = error()
    monkeypatch.setattr(_axes, "ROWS_PER_FACTOR", 1)
    assert 0 < error() < 3 * without < 1e-3


def test_the_factors_have_the_same_bits_for_any_number_of_threads(matrix, always, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    first, *others = (fitted(matrix, num_threads=threads, dtype=dtype) for threads in (1, 2, 3, 8))
    for other in others:
        for side in SIDES:
            np.testing.assert_array_equal(getattr(first, side), getattr(other, side))


def test_a_callback_and_a_checkpoint_see_the_factors_in_the_basis_in_which_they_came(matrix, always, tmp_path):
    seen = []
    model = AlternatingLeastSquares(7, iterations=3, random_state=3, alpha=2.0, dtype=np.float64, num_threads=1)

    def callback(*_):
        seen.append([getattr(model, side).copy() for side in SIDES])

    model.fit(matrix, show_progress=False, callback=callback, checkpoint=tmp_path / "state.npz")
    assert len(seen) == 3
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        for side, last in zip(SIDES, seen[-1], strict=True):
            np.testing.assert_array_equal(state[side], last)
    for done, factors in enumerate(seen, start=1):
        expected = fitted(matrix, iterations=done, dtype=np.float64, use_native=False)
        for side, found in zip(SIDES, factors, strict=True):
            np.testing.assert_allclose(found, getattr(expected, side), rtol=0, atol=1e-9)


def test_a_fit_goes_on_from_its_checkpoint_to_the_same_bits(matrix, always, tmp_path):
    def interrupt(iteration, *_):
        if iteration == 1:
            raise KeyboardInterrupt

    def fit(name, callback=None):
        model = AlternatingLeastSquares(7, iterations=4, random_state=3, alpha=2.0, num_threads=1)
        model.fit(matrix, show_progress=False, callback=callback, checkpoint=tmp_path / name)
        return model

    with pytest.raises(KeyboardInterrupt):
        fit("interrupted", interrupt)
    resumed, whole = fit("interrupted"), fit("whole")
    for side in SIDES:
        np.testing.assert_array_equal(getattr(resumed, side), getattr(whole, side))


def test_a_callback_may_change_how_a_fit_goes_on(matrix, always):
    """To the array programs, and back."""
    model = AlternatingLeastSquares(7, iterations=4, random_state=3, alpha=2.0, dtype=np.float64, num_threads=1)

    def switch(iteration, *_):
        model.use_native = iteration != 1

    model.fit(matrix, show_progress=False, callback=switch)
    assert_close(model, fitted(matrix, dtype=np.float64, use_native=False), 1e-9)


@pytest.mark.parametrize("failing", [2, 3])
def test_an_error_in_a_half_step_leaves_the_factors_in_the_basis_in_which_they_came(
    matrix, always, failing, monkeypatch
):
    calls, solve = [], kernels.least_squares

    def fail(*arguments):
        calls.append(1)
        if len(calls) == failing:
            raise KeyboardInterrupt
        solve(*arguments)

    model = AlternatingLeastSquares(7, iterations=3, random_state=3, alpha=2.0, dtype=np.float64, num_threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "least_squares", fail)
        with pytest.raises(KeyboardInterrupt):
            model.fit(matrix, show_progress=False)
    expected = fitted(matrix, iterations=1, dtype=np.float64, use_native=False)
    np.testing.assert_allclose(model.user_factors, expected.user_factors, rtol=0, atol=1e-9)
    if failing == 3:
        np.testing.assert_allclose(model.item_factors, expected.item_factors, rtol=0, atol=1e-9)


def test_the_loss_is_that_of_the_factors(matrix, always, caplog):
    model = AlternatingLeastSquares(
        7, iterations=3, random_state=3, alpha=2.0, dtype=np.float64, calculate_training_loss=True
    )
    with caplog.at_level("INFO", "implicit_core"):
        model.fit(matrix, show_progress=False)
    confidences = matrix * 2.0
    confidence = np.where(matrix.toarray() > 0, confidences.toarray(), 1)
    error = np.sum(confidence * ((matrix.toarray() > 0) - model.user_factors @ model.item_factors.T) ** 2)
    penalty = 0.01 * sum(np.sum(getattr(model, side) ** 2) for side in SIDES)
    assert caplog.messages[-1] == f"Final training loss {(error + penalty) / confidence.sum():.4f}"


def test_few_factors_and_few_rows_stay_as_they_are():
    assert type(kernels.axes(10**6, 64)) is Axes
    assert type(kernels.axes(32 * 65 - 1, 65)) is Axes
    assert type(kernels.axes(32 * 65, 65)) is PrincipalAxes
    gram = np.eye(3)
    assert Axes().turn(np.zeros((2, 3)), np.zeros((4, 3)), gram) is gram


def test_an_exact_fit_turns_nothing(matrix, always):
    exact = fitted(matrix, use_cg=False, dtype=np.float64)
    assert_close(exact, fitted(matrix, use_cg=False, use_native=False, dtype=np.float64), 1e-9)


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_other_instruction_sets_do_the_same(isa, run_python):
    selection = "multiplied_by or stands_for or factors_of_the_definition"
    result = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", selection, IMPLICIT_CORE_ISA=isa
    )
    assert result.returncode == 0, result.stdout
