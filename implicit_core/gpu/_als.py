"""Launches of ``als_cg.cu``, ``als_split.cu`` and ``loss.cu``: least squares by conjugate gradient, and their loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from implicit_core._errors import ModelFitError
from implicit_core._typing import Counts, Factors, Policy
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._entries import Bin, DeviceCounts, chunk_counts, chunks, entry_args, to_device
from implicit_core.gpu._factors import options, padded, squared_norms, stride
from implicit_core.gpu._matrix import product
from implicit_core.gpu._modules import NULL, WARP, launch, limits
from implicit_core.gpu._work import WARPS, grid, runs

WIDE = 96  #: factors from which on blocks of als_cg have twice as many warps, to share the gram matrix
LONG_ROW = 4096  #: entries from which on a row is shared out to many warps
STEP_THREADS = 128  #: of a block of als_step
EXACT_STEPS = 3  #: a factor, at most, until a system is solved exactly
STOP = 1e-13  #: of the squared residual, where it is: see rows.cuh
UNSOLVED = 1e-4  #: of it, where it is not
LOOKS = 32  #: steps until it is looked whether all rows are solved


def least_squares(
    counts: Counts,
    X: Factors,
    Y: Factors,
    gram: NDArray[np.floating],
    diag: NDArray[np.floating],
    policy: Policy,
    cg_steps: int | None,
    rows: slice,
    num_threads: int = 0,
) -> None:
    """Solve rows of ``X`` in place by conjugate gradient; see :func:`implicit_core._arrays.least_squares`.

    ``cg_steps=None`` starts from zero and takes steps until rounding keeps them from going on. Where a system has more
    than one solution, that gives the shortest.

    Raises
    ------
    ModelFitError
        ``cg_steps`` is None, and a system has not been solved.
    """
    counts = to_device(counts)
    start, stop, _ = rows.indices(X.shape[0])
    factors, left = X.shape[1], None
    if cg_steps is None:
        X[start:stop] = 0
        left = cp.zeros(X.shape[0], dtype=np.float32)
        cg_steps = EXACT_STEPS * factors
    ridges = cp.asarray(diag.astype(np.float32))
    problem = _Problem(counts, X, Y, _on_device(gram, factors), ridges, policy, cg_steps, left)
    lengths = np.diff(counts.indptr[start : stop + 1])
    if _shared(factors, 0, 0) <= limits().shared_per_block:
        for bin_ in counts.bins(start, stop, LONG_ROW):
            _solve_rows(problem, bin_)
        _solve_split(problem, start + np.flatnonzero(lengths > LONG_ROW))
    else:
        _solve_split(problem, np.arange(start, stop))
    if left is not None:
        solved = (left.get() <= UNSOLVED)[start:stop] & np.isfinite(squared_norms(X[start:stop]).get())
        if not solved.all():
            raise ModelFitError.not_solved(start + int(solved.argmin()), X.dtype.name)


class _Problem(NamedTuple):
    """What the rows of a half-step have in common."""

    counts: DeviceCounts
    X: Factors
    Y: Factors
    gram: Any
    diag: Any
    policy: Policy
    steps: int
    left: Any  #: of a squared residual, for each row; None unless solved exactly


def _on_device(gram: NDArray[np.floating], factors: int) -> Any:
    rows = np.zeros((factors, stride(factors, np.dtype(np.float32))), dtype=np.float32)
    rows[:, :factors] = gram
    return cp.asarray(rows)


def _warps(factors: int) -> int:
    """Warps of a block of als_cg."""
    return WARPS if factors < WIDE else 2 * WARPS


def _shared(factors: int, itemsize: int, kept: int) -> int:
    """Bytes of shared memory of a block of als_cg."""
    vectors = -(-factors // 4)
    return 16 * vectors * (factors + _warps(factors)) + 4 * vectors * itemsize * _warps(factors) * kept


def _kept(factors: int, itemsize: int, longest: int) -> int:
    """How many rows of Y each warp keeps in shared memory, so that two blocks or more share a processor."""
    fixed, one = _shared(factors, itemsize, 0), _shared(factors, itemsize, 1)
    room = min(limits().shared_per_block, limits().shared_per_processor // 2 - 1024) - fixed
    kept = max(room, 0) // (one - fixed)
    return 0 if 4 * kept < longest else min(kept, longest)


def _solve_rows(problem: _Problem, bin_: Bin) -> None:
    """Solve for rows by a warp each."""
    counts, X, n = problem.counts, problem.X, len(bin_.rows)
    kept = _kept(X.shape[1], X.dtype.itemsize, bin_.longest)
    args = (
        *(bin_.rows, np.int32(n), counts.starts, *entry_args(counts, problem.policy)),
        *(padded(X), padded(problem.Y), problem.gram, problem.diag, np.int32(problem.steps), np.int32(kept)),
        NULL if problem.left is None else problem.left,
    )
    shared = _shared(X.shape[1], X.dtype.itemsize, kept)
    warps = _warps(X.shape[1])
    defines = {**options(X), "EXACT": int(problem.left is not None)}
    launch("als_cg", "als_cg", defines, (grid(n, warps),), WARP * warps, args, shared)


def _solve_split(problem: _Problem, rows: NDArray[np.int64]) -> None:
    """Solve for rows of any number of entries and factors, shared out to warps by chunks of entries."""
    indptr, X = problem.counts.indptr, problem.X
    lengths = indptr[rows + 1] - indptr[rows]
    empty = rows[lengths == 0]
    if len(empty):
        X[cp.asarray(empty)] = 0
    rows, lengths = rows[lengths > 0], lengths[lengths > 0]
    width = stride(X.shape[1], np.dtype(np.float32))
    for run in runs(4 * width * (6 + chunk_counts(lengths))):
        _solve_batch(problem, rows[run])


def _solve_batch(problem: _Problem, rows: NDArray[np.int64]) -> None:
    X, n, factors = problem.X, len(rows), problem.X.shape[1]
    width = stride(factors, np.dtype(np.float32))
    ids = cp.asarray(rows)
    first, owners, starts, stops = map(cp.asarray, chunks(problem.counts.indptr, rows))
    x, residual, direction, applied = (cp.zeros((n, width), dtype=np.float32) for _ in range(4))
    x[:, :factors] = X[ids]
    diag, squares, exact = problem.diag[ids], cp.empty(n, dtype=np.float32), problem.left is not None
    squares_first = cp.empty(n, dtype=np.float32) if exact else NULL
    partial = cp.empty((len(owners), width), dtype=np.float32)
    panels = _panels(factors)
    for step in range(problem.steps + 1):
        V, is_first = (direction, 0) if step else (x, 1)
        product(V, problem.gram, {"FACTORS": factors, "HALF": 0}, factors, applied)
        args: tuple[Any, ...] = (
            *(np.int32(len(owners)), owners, starts, stops, *entry_args(problem.counts, problem.policy)),
            *(V, padded(problem.Y), np.int32(is_first), partial),
        )
        launch("als_split", "als_chunks", options(X), (grid(len(owners)), panels), WARP * WARPS, args)
        args = (first, partial, diag, np.int32(is_first), applied, x, residual, direction, squares, squares_first)
        launch("als_split", "als_step", options(X), (n,), STEP_THREADS, args)
        if exact and step % LOOKS == 0 and bool((squares <= STOP * squares_first).all()):
            break
    X[ids] = x[:, :factors]
    if exact:
        problem.left[ids] = squares / (squares_first + (squares_first == 0))


def _panels(factors: int) -> int:
    """Parts of a row that als_chunks sums up one by one."""
    vectors = -(-factors // 4)
    team = 8 if vectors <= 8 else 16 if vectors <= 16 else 32
    return -(-vectors // (min(-(-vectors // team), 8) * team))


def stored_error(counts: Counts, X: Factors, Y: Factors, policy: Policy, num_threads: int = 0) -> float:
    """Σ of what the stored entries add to the squared error; see :func:`implicit_core._arrays.stored_error`."""
    held, sizes = to_device(counts), 32 * chunk_counts(np.diff(counts.indptr))
    return sum(_error_of(held, np.arange(run.start, run.stop), X, Y, policy) for run in runs(sizes))


def _error_of(counts: DeviceCounts, rows: NDArray[np.int64], X: Factors, Y: Factors, policy: Policy) -> float:
    """What the entries of consecutive rows add."""
    _, owners, starts, stops = map(cp.asarray, chunks(counts.indptr, rows))
    if len(owners) == 0:
        return 0.0
    owners += np.int32(rows[0])
    errors = cp.empty(len(owners), dtype=np.float64)
    args = (
        *(np.int32(len(owners)), owners, starts, stops, *entry_args(counts, policy)),
        *(padded(X), padded(Y), errors),
    )
    launch("loss", "stored_error", options(X), (grid(len(owners)),), WARP * WARPS, args)
    return float(errors.sum())
