"""Small problems, the loss by its definition and models, for the tests of alternating least squares."""

import numpy as np
import pytest
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares

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


def starting_factors(dtype, users=USERS, items=ITEMS):
    random = np.random.default_rng(5)
    return random.normal(size=(users, FACTORS)).astype(dtype), random.normal(size=(items, FACTORS)).astype(dtype)


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
