"""What alternating least squares minimises, and its half-steps and loss on plain arrays."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from implicit_core._arrays import entries
from implicit_core._checks import check_count, check_number, check_threads
from implicit_core._errors import ModelFitError
from implicit_core._kernels import Kernels
from implicit_core._matrices import check_csr, confidences, entry_at, to_counts
from implicit_core._typing import Counts, Factors, Matrix, Policy

STEPS_PER_FACTOR = 10  #: of conjugate gradient, which is done after one, but for rounding, or else gets no better
LARGE = 32  #: the binary exponent up to which weights are left as they are
FLOAT32 = np.finfo(np.float32)
ADVICE = "raise regularization if it is near 0, or lower what is huge of alpha, unobserved_weight and regularization"
BLOCK = 2**18  #: entries that are looked at together, to bound memory


class Objective(NamedTuple):
    """The loss of ``AlternatingLeastSquares``, which states it."""

    regularization: float
    policy: Policy = Policy()
    weight: float = 1.0  #: of every cell, to which a stored entry adds its own
    exponent: float = 0.0

    @classmethod
    def of(
        cls,
        regularization: Any,
        alpha: Any = 1.0,
        unobserved_weight: Any = None,
        regularization_exponent: Any = 0.0,
    ) -> Objective:
        """The loss for parameters of the model.

        Raises
        ------
        TypeError, ValueError
            A parameter is of the wrong kind or out of range.
        """
        observed = unobserved_weight is not None
        return cls(
            check_number(regularization, "regularization", 0),
            Policy(check_number(alpha, "alpha"), observed),
            check_number(unobserved_weight, "unobserved_weight", float(FLOAT32.tiny)) if observed else 1.0,
            check_number(regularization_exponent, "regularization_exponent", 0),
        )

    def times(self, scale: float) -> Objective:
        """The loss multiplied by a number, but for the penalty."""
        most = float(FLOAT32.max)  # more could be needed only for values that are 0 in float32, or nearly so
        policy = self.policy._replace(alpha=min(max(scale * self.policy.alpha, -most), most))
        return self._replace(policy=policy, weight=scale * self.weight)

    def confidences(self, matrix: Matrix, name: str) -> Matrix:
        """A checked CSR matrix as :func:`implicit_core._matrices.confidences` gives it, of values that the loss takes.

        Raises
        ------
        ValueError
            α · value is negative and ``unobserved_weight`` is set.
        """
        matrix = confidences(matrix, self.policy.alpha, name)
        if self.policy.observed:
            negative = np.flatnonzero(self.policy.alpha * matrix.data[: matrix.indptr[-1]] < 0)
            if len(negative):
                raise ValueError(
                    f"{name} must hold no values that alpha={self.policy.alpha:g} makes negative where "
                    f"unobserved_weight is set, but {entry_at(matrix, negative[0])}"
                )
        return matrix

    def ridge(self, stored: NDArray[Any], columns: int) -> NDArray[np.float64]:
        """What the penalty of rows of so many stored entries multiplies their squared norms by.

        ``columns`` rows are on the fixed side.

        Raises
        ------
        ValueError
            It is infinite in float32.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            total = stored + self.weight * columns
            exponent = self.exponent if self.regularization else 0.0  # 0 times an infinity is no penalty either
            ridge: NDArray[np.float64] = self.regularization * total**exponent
        if not (ridge <= FLOAT32.max).all():
            raise ValueError(
                f"regularization_exponent={self.exponent:g} makes the regularization of a row infinite in float32: "
                f"{self.regularization:g} · {total.max():g} ** {self.exponent:g}; lower it"
            )
        return ridge

    def total_weight(self, counts: Counts) -> float:
        """Σ over all cells of the weight of their squared errors."""
        total = self.weight * counts.shape[0] * counts.shape[1]
        for start in range(0, len(counts.values), BLOCK):
            weight, _ = entries(counts.values[start : start + BLOCK], self.policy)
            total += float(weight.sum())
        return total

    def loss(
        self,
        kernels: Kernels,
        counts: Counts,
        factors: tuple[Factors, Factors],
        grams: tuple[NDArray[np.float64], NDArray[np.float64]],
        ridges: tuple[NDArray[np.float64] | float, NDArray[np.float64] | float],
        num_threads: int,
    ) -> float:
        """The loss for (X, Y), from their gram matrices and what the squared norms of their rows are multiplied by."""
        stored = kernels.stored_error(counts, *factors, self.policy, num_threads)
        squares = (kernels.to_host(kernels.squared_norms(side)) for side in factors)
        penalty = sum(float(np.sum(ridge * square)) for ridge, square in zip(ridges, squares, strict=True))
        return stored + self.weight * float(np.vdot(*grams)) + penalty


def solve(
    kernels: Kernels,
    objective: Objective,
    counts: Counts,
    X: Factors,
    Y: Factors,
    gram: NDArray[np.float64],
    cg_steps: int | None,
    num_threads: int,
) -> None:
    """Solve for all rows of ``X`` in place; ``gram`` is a matrix, or its diagonal as ``Axes.turn`` gives it."""
    cg_steps = None if cg_steps is None else min(cg_steps, STEPS_PER_FACTOR * X.shape[1])
    ridge = objective.ridge(np.diff(counts.indptr), len(Y))
    if cg_steps is not None and objective.policy.observed:
        scale = _scale(objective, counts, ridge)
        ridge, objective = scale * ridge, objective.times(scale)
    elif cg_steps is not None and not objective.exponent:
        ridge = ridge.astype(np.float32)  # as implicit takes it, so that float64 models agree to 1e-9
    diag = ridge.astype(np.promote_types(X.dtype, np.float32))
    with np.errstate(over="ignore"):
        gram = objective.weight * gram
    if not ((gram if gram.ndim == 1 else gram.diagonal()) <= np.finfo(diag.dtype).max).all():
        raise ModelFitError(f"the fixed factors are NaN, infinite or too large for {diag.dtype}; {ADVICE}")
    kernels.least_squares(counts, X, Y, gram, diag, objective.policy, cg_steps, slice(None), num_threads)


def _scale(objective: Objective, counts: Counts, ridge: NDArray[np.float64]) -> float:
    """A power of two that makes tiny weights as large as implicit's, in which a cell weighs 1, and huge ones smaller.

    Conjugate gradient takes a row for solved by a residual that does not depend on it, and computes with third powers
    of weights. The factor changes no other bit.
    """
    values = counts.values
    stored = [float(values.min()), float(values.max())] if len(values) else []
    largest = max(objective.weight, float(ridge.max(initial=0)), *(objective.policy.alpha * value for value in stored))
    exponent = math.frexp(largest)[1]
    return 2.0 ** (max(-exponent, 0) + min(LARGE - exponent, 0))


def half_step(
    kernels: Kernels,
    Cui: Matrix,
    X: Factors,
    Y: Factors,
    regularization: float,
    num_threads: int = 0,
    cg_steps: int | None = None,
    unobserved_weight: float | None = None,
    regularization_exponent: float = 0.0,
) -> None:
    """Solve for the rows of ``X`` in place, with ``Y`` fixed and confidences as they are in ``Cui``.

    By ``cg_steps`` steps of conjugate gradient, or exactly where that is None.
    The other parameters are those of ``AlternatingLeastSquares``.

    Raises
    ------
    ValueError
        Shapes or types do not go together.
    """
    objective = Objective.of(regularization, 1.0, unobserved_weight, regularization_exponent)
    check_threads(num_threads)
    counts = _checked(kernels, objective, Cui, X, Y)
    if cg_steps is not None:
        check_count(cg_steps, "cg_steps", 1, 2**31 - 1)
    on_host = isinstance(X, np.ndarray)
    if on_host and not (X.flags.c_contiguous and X.flags.writeable and X.dtype in (np.float32, np.float64)):
        raise ValueError(
            f"X is updated in place, so it must be C-contiguous, writable, and float32 or float64; got {X.dtype}"
        )
    with np.errstate(over="ignore"):
        held, Y = kernels.as_factors(X), kernels.as_factors(Y.astype(X.dtype, copy=False))
    gram = kernels.gram(Y, num_threads)
    solve(kernels, objective, counts, held, Y, gram, cg_steps, num_threads)
    if held is not X:
        X[...] = kernels.to_host(held) if on_host else held


def calculate_loss(
    kernels: Kernels,
    Cui: Matrix,
    X: Factors,
    Y: Factors,
    regularization: float,
    num_threads: int = 0,
    unobserved_weight: float | None = None,
    regularization_exponent: float = 0.0,
) -> float:
    """Give the loss of ``AlternatingLeastSquares`` divided by the sum of the weights of all squared errors."""
    check_threads(num_threads)
    objective = Objective.of(regularization, 1.0, unobserved_weight, regularization_exponent)
    counts = _checked(kernels, objective, Cui, X, Y)
    X, Y = kernels.as_factors(X), kernels.as_factors(Y)
    kind = np.promote_types(X.dtype, Y.dtype)
    X, Y = (kernels.as_factors(factors.astype(kind, copy=False)) for factors in (X, Y))
    grams = kernels.gram(X, num_threads), kernels.gram(Y, num_threads)
    total = objective.total_weight(counts)
    stored = np.diff(counts.indptr), np.bincount(counts.indices, minlength=len(Y))
    ridges = objective.ridge(stored[0], len(Y)), objective.ridge(stored[1], len(X))
    return objective.loss(kernels, counts, (X, Y), grams, ridges, num_threads) / total if total else 0.0


def _checked(kernels: Kernels, objective: Objective, Cui: Matrix, X: Factors, Y: Factors) -> Counts:
    for name, factors in (("X", X), ("Y", Y)):
        if not kernels.is_array(factors) or factors.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be an ndarray of real numbers, got {type(factors).__name__}")
    matrix = objective.confidences(check_csr(Cui, "Cui"), "Cui")
    if np.ndim(X) != 2 or np.ndim(Y) != 2 or X.shape[1] != Y.shape[1] or matrix.shape != (len(X), len(Y)):
        raise ValueError(
            "Cui must have a row for each row of X and a column for each row of Y, and X and Y the same width; got "
            f"shapes {matrix.shape}, {np.shape(X)} and {np.shape(Y)}"
        )
    return to_counts(matrix)
