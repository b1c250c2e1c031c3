"""Principal axes, in which a half-step of alternating least squares with many factors costs less."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from implicit_core._arrays import Axes
from implicit_core._blas import one_blas_thread
from implicit_core._typing import Factors

MIN_FACTORS = 65  #: the gram matrix of fewer stays in the first cache, where it costs little
ROWS_PER_FACTOR = 32  #: of both sides, from which on eigenvectors take little of the time


def axes(rows: int, factors: int, turn: Callable[..., None]) -> Axes:
    """How to hold ``rows`` rows of both sides together; see :class:`implicit_core._arrays.Axes`."""
    return PrincipalAxes(turn) if factors >= MIN_FACTORS and rows >= ROWS_PER_FACTOR * factors else Axes()


class PrincipalAxes(Axes):
    """Turns both sides, in place, so that the gram matrix of the fixed one is diagonal.

    A step of conjugate gradient multiplies it by a vector for each row, which then takes as many multiplications as
    there are factors, and not their square. Scores, loss and the steps themselves are the same in any orthonormal
    basis, but for rounding.
    """

    def __init__(self, turn: Callable[..., None]) -> None:
        self._turn = turn  #: :func:`implicit_core.cpu.kernels.turn`
        self._axes: Factors | None = None  #: a row per coordinate in which the factors came, where they lie now

    def turn(self, X: Factors, Y: Factors, gram: NDArray[np.float64], num_threads: int = 0) -> NDArray[np.float64]:
        if np.may_share_memory(X, Y):  # such factors can only be turned as one
            return gram
        if self._axes is None:
            self._axes = np.eye(X.shape[1], dtype=X.dtype)
        with one_blas_thread:  # which gives the same bits however many there are
            values, vectors = np.linalg.eigh(gram)
        self._turn(X, Y, self._axes, vectors, num_threads)
        diagonal: NDArray[np.float64] = np.maximum(values, 0)
        return diagonal

    def turn_back(self, X: Factors, Y: Factors, num_threads: int = 0) -> None:
        if self._axes is not None:
            self._turn(X, Y, self._axes, self._axes.T, num_threads)
            self._axes = None
