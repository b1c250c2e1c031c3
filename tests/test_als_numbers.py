"""Alternating least squares at the edge of floating point: finite factors, or an error that says what to do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu.als import least_squares
from implicit_core.recommender_base import ModelFitError

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def problem(seed, exponents=(-8, 8)):
    """Confidences over many orders of magnitude, with factors that may outnumber users and items, or repeat."""
    random = np.random.default_rng(seed)
    users, items = random.integers(1, 13, 2)
    factors = int(random.integers(1, 25))
    dense = np.float32(10.0) ** random.uniform(*exponents, (users, items)).astype(np.float32)
    dense *= random.choice([1, 1, 1, -1], dense.shape) if random.random() < 0.3 else 1
    if random.random() < 0.3:  # a gram matrix of low rank
        dense[:, random.integers(items)] = dense[:, 0]
        dense[random.integers(users)] = dense[0]
    dense *= random.random(dense.shape) < random.choice([0.1, 0.5, 1.0])
    return random, sparse.csr_matrix(dense), factors


def loss_of(matrix, X, Y, regularization):
    """The loss by its definition, in float64, and the size of the terms that it is the sum of."""
    dense, X, Y = matrix.toarray().astype(np.float64), X.astype(np.float64), Y.astype(np.float64)
    weight = np.where(dense != 0, np.abs(dense), 1)
    error = (weight * ((dense > 0) - X @ Y.T) ** 2).sum()
    norms = np.outer((X**2).sum(axis=1), (Y**2).sum(axis=1))
    return error + regularization * ((X**2).sum() + (Y**2).sum()), (weight * (1 + norms)).sum()


def assert_advice(error):
    assert "raise regularization" in str(error)


@DTYPES
@settings(max_examples=150, deadline=None, database=None)
@given(seed=SEEDS, regularization=st.sampled_from([0.0, 1e-8, 1e-3, 0.01, 1.0, 1e3]))
def test_no_exact_half_step_increases_the_loss(dtype, seed, regularization):
    """Not by more than rounding can: 1000 units in the last place of the sum of w (1 + |x|²|y|²)."""
    random, matrix, factors = problem(seed)
    transposed = matrix.T.tocsr()
    X, Y = (random.normal(size=(n, factors)).astype(dtype) for n in matrix.shape)
    before, _ = loss_of(matrix, X, Y, regularization)
    for half_step in range(8):
        try:
            if half_step % 2 == 0:
                least_squares(matrix, X, Y, regularization)
            else:
                least_squares(transposed, Y, X, regularization)
        except ModelFitError as error:
            assert_advice(error)
            return
        assert np.isfinite(X).all()
        assert np.isfinite(Y).all()
        after, terms = loss_of(matrix, X, Y, regularization)
        assert after <= before + 1000 * np.finfo(dtype).eps * terms
        before = after


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-3)])
@settings(max_examples=100, deadline=None, database=None)
@given(seed=SEEDS, regularization=st.sampled_from([1e-3, 0.01, 1.0]))
def test_the_loss_falls_strictly_until_it_is_at_rest(dtype, tolerance, seed, regularization):
    """For common confidences, none of which may end in an error."""
    random, matrix, factors = problem(seed, exponents=(-2, 2))
    transposed = matrix.T.tocsr()
    X, Y = (random.normal(size=(n, factors)).astype(dtype) for n in matrix.shape)
    before, _ = loss_of(matrix, X, Y, regularization)
    for half_step in range(8):
        least_squares(*((matrix, X, Y) if half_step % 2 == 0 else (transposed, Y, X)), regularization)
        after, _ = loss_of(matrix, X, Y, regularization)
        assert after <= before * (1 + tolerance)
        before = after


@DTYPES
@pytest.mark.parametrize("use_cg", [True, False])
@pytest.mark.parametrize("unobserved_weight", [None, 0.1])
@settings(max_examples=100, deadline=None, database=None)
@given(seed=SEEDS, regularization=st.sampled_from([0.0, 1e-8, 0.01, 1e3]), alpha=st.sampled_from([1e-8, 1.0, 40.0]))
def test_a_fit_gives_finite_factors_or_says_what_to_do(dtype, use_cg, unobserved_weight, seed, regularization, alpha):
    _, matrix, factors = problem(seed)
    if unobserved_weight is not None:
        matrix = abs(matrix)
    model = AlternatingLeastSquares(
        factors,
        regularization,
        alpha,
        dtype,
        use_cg=use_cg,
        iterations=4,
        random_state=0,
        unobserved_weight=unobserved_weight,
        calculate_training_loss=True,
    )
    losses = []
    try:
        model.fit(matrix, show_progress=False, callback=lambda *report: losses.append(report[2]))
    except ModelFitError as error:
        assert_advice(error)
        return
    assert np.isfinite(model.user_factors).all()
    assert np.isfinite(model.item_factors).all()
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("use_native", [True, False])
def test_what_overflows_on_the_way_is_an_error_without_a_warning(use_native):
    matrix = sparse.csr_matrix(np.array([[4e17, 1e25, 1e-9], [3e17, -1e6, 1e9], [1e7, 2e16, 4e25]], dtype=np.float32))
    model = AlternatingLeastSquares(5, 1e-8, 40.0, use_native=use_native, iterations=3, random_state=0, cg_steps=10)
    try:
        model.fit(matrix, show_progress=False)
    except ModelFitError as error:
        assert_advice(error)
    else:
        assert np.isfinite(model.item_factors).all()


@pytest.mark.parametrize("use_native", [True, False])
def test_conjugate_gradient_ends_where_its_residual_never_gets_small(use_native):
    random = np.random.default_rng(0)
    matrix = sparse.csr_matrix(10.0 ** random.uniform(-8, 8, (30, 20)).astype(np.float32))
    model = AlternatingLeastSquares(
        12, 1e-3, use_native=use_native, cg_steps=2**31 - 1, iterations=2, random_state=0, init_scale=10.0
    )
    try:
        model.fit(matrix, show_progress=False)
    except ModelFitError as error:  # which depends on how an instruction set rounds
        assert_advice(error)
    else:
        assert np.isfinite(model.item_factors).all()
