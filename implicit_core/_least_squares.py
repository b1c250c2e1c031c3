"""Half-steps of alternating least squares and their loss on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from implicit_core._arrays import entries
from implicit_core._checks import check_count, check_number
from implicit_core._kernels import Kernels, split_rows
from implicit_core._typing import Counts, Factors, Matrix, Policy
from implicit_core.utils import check_csr, confidences, to_counts

PIECE_FLOP = 2e9  #: work of a call of the kernel: well under a second, so that Ctrl-C and progress get their turn
BLOCK = 2**18  #: entries that are looked at together, to bound memory


def solve(
    kernels: Kernels,
    counts: Counts,
    X: Factors,
    Y: Factors,
    gram: NDArray[np.float64],
    regularization: float,
    policy: Policy,
    cg_steps: int | None,
    num_threads: int,
) -> None:
    """Solve for all rows of ``X`` in place, in pieces between which the interpreter can act on signals."""
    rows, factors = X.shape
    if cg_steps is None:
        flop = factors * factors * (counts.indptr[-1] + rows * factors / 3)
    else:
        flop = 4 * factors * (cg_steps + 1) * (counts.indptr[-1] + rows * factors / 2)
    # conjugate gradient takes regularization in float32, as implicit does: float64 models then agree to 1e-9
    diag = np.full(rows, regularization if cg_steps is None else np.float32(regularization), dtype=X.dtype)
    pieces = split_rows(counts.indptr, slice(None), factors / 2, int(flop / PIECE_FLOP) + 1)
    for start, stop in zip(pieces[:-1].tolist(), pieces[1:].tolist(), strict=True):
        kernels.least_squares(counts, X, Y, gram, diag, policy, cg_steps, slice(start, stop), num_threads)


def dense_loss(XtX: NDArray[np.float64], YtY: NDArray[np.float64], regularization: float) -> float:
    """Σ over all cells of (x_u · y_i)², plus the penalty λ (‖X‖² + ‖Y‖²), from the gram matrices alone."""
    return float(np.vdot(XtX, YtY) + regularization * (np.trace(XtX) + np.trace(YtY)))


def total_confidence(counts: Counts, policy: Policy) -> float:
    """Σ of the confidences of all cells: 1 where nothing is stored."""
    total = float(counts.shape[0] * counts.shape[1])
    for start in range(0, len(counts.values), BLOCK):
        weight, _ = entries(counts.values[start : start + BLOCK], policy)
        total += float(weight.sum())  # what a stored cell has above 1
    return total


def half_step(
    kernels: Kernels,
    Cui: Matrix,
    X: Factors,
    Y: Factors,
    regularization: float,
    num_threads: int = 0,
    cg_steps: int | None = None,
) -> None:
    """Solve for the rows of ``X`` in place, with ``Y`` fixed and confidences as they are in ``Cui``.

    By ``cg_steps`` steps of conjugate gradient, or exactly where that is None.

    Raises
    ------
    ValueError
        Shapes or types do not go together.
    """
    counts = _checked(Cui, X, Y)
    check_number(regularization, "regularization", 0)
    if cg_steps is not None:
        check_count(cg_steps, "cg_steps", 1, 2**31 - 1)
    if not (X.flags.c_contiguous and X.flags.writeable and X.dtype in (np.float32, np.float64)):
        raise ValueError(
            f"X is updated in place, so it must be C-contiguous, writable, and float32 or float64; got {X.dtype}"
        )
    Y = Y.astype(X.dtype, copy=False)
    gram = kernels.gram(Y, num_threads)
    solve(kernels, counts, X, Y, gram, regularization, Policy(), cg_steps, num_threads)


def calculate_loss(
    kernels: Kernels, Cui: Matrix, X: Factors, Y: Factors, regularization: float, num_threads: int = 0
) -> float:
    """Give the loss of ``AlternatingLeastSquares`` divided by the sum of all confidences."""
    counts = _checked(Cui, X, Y)
    if X.dtype not in (np.float32, np.float64):
        X, Y = X.astype(np.float32), Y.astype(np.float32)
    XtX, YtY = kernels.gram(X, num_threads), kernels.gram(Y, num_threads)
    stored = kernels.stored_error(counts, X, Y, Policy(), num_threads)
    total = total_confidence(counts, Policy())
    return (stored + dense_loss(XtX, YtY, regularization)) / total if total else 0.0


def _checked(Cui: Matrix, X: Factors, Y: Factors) -> Counts:
    for name, factors in (("X", X), ("Y", Y)):
        if not isinstance(factors, np.ndarray) or factors.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be an ndarray of real numbers, got {type(factors).__name__}")
    matrix = confidences(check_csr(Cui, "Cui"), 1.0, "Cui")
    if np.ndim(X) != 2 or np.ndim(Y) != 2 or X.shape[1] != Y.shape[1] or matrix.shape != (len(X), len(Y)):
        raise ValueError(
            "Cui must have a row for each row of X and a column for each row of Y, and X and Y the same width; got "
            f"shapes {matrix.shape}, {np.shape(X)} and {np.shape(Y)}"
        )
    return to_counts(matrix)
