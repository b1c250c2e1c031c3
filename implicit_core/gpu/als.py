"""Alternating least squares on a GPU, under the names of ``implicit.gpu.als``."""

from __future__ import annotations

from typing import Any

from implicit_core._devices import choose_device, kernels_of
from implicit_core._least_squares import calculate_loss as _calculate_loss
from implicit_core._typing import Factors, Matrix
from implicit_core.als import GPUAlternatingLeastSquares as AlternatingLeastSquares

__all__ = ["AlternatingLeastSquares", "calculate_loss"]


def calculate_loss(
    Cui: Matrix,
    X: Factors,
    Y: Factors,
    regularization: float,
    solver: Any = None,
    *,
    unobserved_weight: float | None = None,
    regularization_exponent: float = 0.0,
) -> float:
    """The loss that ``AlternatingLeastSquares`` minimises, divided by the sum of the weights of all squared errors.

    Parameters
    ----------
    Cui : csr_matrix or csr_array, shape (rows of X, rows of Y)
        Confidences.
    X, Y : ndarray of NumPy or CuPy, shape (rows, factors)
    regularization : float
    solver : None
        Not used; callers of ``implicit`` may pass one.
    unobserved_weight, regularization_exponent : optional
        Those of ``AlternatingLeastSquares``; ``Cui`` holds r = α · value then.

    Raises
    ------
    ValueError
        There is no GPU to use; the message says what is missing.
    """
    kernels = kernels_of(choose_device(True))
    return _calculate_loss(kernels, Cui, X, Y, regularization, 0, unobserved_weight, regularization_exponent)
