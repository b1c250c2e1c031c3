"""Alternating least squares on a GPU, under the names of ``implicit.gpu.als``."""

from __future__ import annotations

from typing import Any

from implicit_core._devices import choose_device, kernels_of
from implicit_core._least_squares import calculate_loss as _calculate_loss
from implicit_core._typing import Factors, Matrix
from implicit_core.als import GPUAlternatingLeastSquares as AlternatingLeastSquares

__all__ = ["AlternatingLeastSquares", "calculate_loss"]


def calculate_loss(Cui: Matrix, X: Factors, Y: Factors, regularization: float, solver: Any = None) -> float:
    """The loss that ``AlternatingLeastSquares`` minimises, divided by the sum of all confidences.

    Parameters
    ----------
    Cui : csr_matrix or csr_array, shape (rows of X, rows of Y)
        Confidences.
    X, Y : ndarray of NumPy or CuPy, shape (rows, factors)
    regularization : float
    solver : None
        Not used; callers of ``implicit`` may pass one.

    Raises
    ------
    ValueError
        There is no GPU to use; the message says what is missing.
    """
    return _calculate_loss(kernels_of(choose_device(True)), Cui, X, Y, regularization)
