"""Alternating least squares on the CPU, under the names of ``implicit.cpu.als``."""

from __future__ import annotations

import numpy as np

from implicit_core import _arrays, _least_squares
from implicit_core._checks import check_count, check_ids, check_number
from implicit_core._errors import ModelFitError
from implicit_core._matrices import check_csr, confidences, real_matrix, to_counts
from implicit_core._typing import Factors, Matrix, Policy
from implicit_core.als import CPUAlternatingLeastSquares as AlternatingLeastSquares
from implicit_core.cpu import kernels

__all__ = [
    "AlternatingLeastSquares",
    "calculate_loss",
    "item_factor",
    "least_squares",
    "least_squares_cg",
    "user_factor",
    "user_linear_equation",
]


def calculate_loss(
    Cui: Matrix,
    X: Factors,
    Y: Factors,
    regularization: float,
    num_threads: int = 0,
    *,
    unobserved_weight: float | None = None,
    regularization_exponent: float = 0.0,
) -> float:
    """The loss that ``AlternatingLeastSquares`` minimises, divided by the sum of the weights of all squared errors.

    Parameters
    ----------
    Cui : csr_matrix or csr_array, shape (rows of X, rows of Y)
        Confidences.
    X, Y : ndarray, shape (rows, factors)
    regularization : float
    num_threads : int, default 0
    unobserved_weight, regularization_exponent : optional
        Those of ``AlternatingLeastSquares``; ``Cui`` holds r = α · value then.
    """
    return _least_squares.calculate_loss(
        kernels, Cui, X, Y, regularization, num_threads, unobserved_weight, regularization_exponent
    )


def least_squares(Cui: Matrix, X: Factors, Y: Factors, regularization: float, num_threads: int = 0) -> None:
    """Solve for the rows of ``X`` in place by Cholesky decomposition, with ``Y`` fixed.

    Parameters
    ----------
    Cui : csr_matrix or csr_array, shape (rows of X, rows of Y)
        Confidences.
    X, Y : ndarray of float32 or float64, shape (rows, factors)
    regularization : float
    num_threads : int, default 0

    Raises
    ------
    ModelFitError
        The system of a row is not positive definite.
    """
    _least_squares.half_step(kernels, Cui, X, Y, regularization, num_threads)


def least_squares_cg(
    Cui: Matrix, X: Factors, Y: Factors, regularization: float, num_threads: int = 0, cg_steps: int = 3
) -> None:
    """Solve for the rows of ``X`` in place by conjugate gradient, with ``Y`` fixed.

    Parameters
    ----------
    Cui : csr_matrix or csr_array, shape (rows of X, rows of Y)
        Confidences.
    X, Y : ndarray of float32 or float64, shape (rows, factors)
    regularization : float
    num_threads : int, default 0
    cg_steps : int, default 3
    """
    check_count(cg_steps, "cg_steps", 1, np.iinfo(np.int32).max)
    _least_squares.half_step(kernels, Cui, X, Y, regularization, num_threads, cg_steps=cg_steps)


def user_linear_equation(
    Y: Factors, YtY: Factors, Cui: Matrix, u: int, regularization: float, n_factors: int
) -> tuple[Factors, Factors]:
    """The linear system A x = b of user ``u``.

    Parameters
    ----------
    Y : ndarray, shape (items, n_factors)
    YtY : ndarray, shape (n_factors, n_factors)
        Gram matrix of Y.
    Cui : csr_matrix or csr_array, shape (users, items)
        Confidences.
    u : int
    regularization : float
    n_factors : int

    Returns
    -------
    A : ndarray, shape (n_factors, n_factors)
    b : ndarray, shape (n_factors,)
    """
    counts = to_counts(confidences(check_csr(Cui, "Cui"), 1.0, "Cui"))
    Y, YtY = real_matrix(Y, "Y"), real_matrix(YtY, "YtY")
    check_number(regularization, "regularization", 0)
    check_count(n_factors, "n_factors", 1)
    if np.shape(Y) != (counts.shape[1], n_factors) or np.shape(YtY) != (n_factors, n_factors):
        raise ValueError(
            f"with n_factors={n_factors}, Y must have shape {(counts.shape[1], n_factors)} and YtY "
            f"{(n_factors, n_factors)}; got {np.shape(Y)} and {np.shape(YtY)}"
        )
    (u,) = check_ids([u], counts.shape[0], "u").tolist()
    with np.errstate(over="ignore", invalid="ignore"):
        return _arrays.linear_system(counts, u, Y, YtY, regularization, Policy())


def user_factor(Y: Factors, YtY: Factors, Cui: Matrix, u: int, regularization: float, n_factors: int) -> Factors:
    """Solve the linear system of user ``u``; parameters as in :func:`user_linear_equation`."""
    A, b = user_linear_equation(Y, YtY, Cui, u, regularization, n_factors)
    try:
        return np.linalg.solve(A, b)
    except np.linalg.LinAlgError as error:
        raise ModelFitError.not_positive_definite(u) from error


def item_factor(X: Factors, XtX: Factors, Cui: Matrix, u: int, regularization: float, n_factors: int) -> Factors:
    """Solve the linear system of item ``u``: :func:`user_factor` with the sides swapped, ``Cui`` items × users."""
    return user_factor(X, XtX, Cui, u, regularization, n_factors)
