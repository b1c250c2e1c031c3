"""Launches of ``bpr.cu``: Bayesian personalized ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._typing import Counts, Factors
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._entries import steps_at_once, to_device
from implicit_core.gpu._factors import padded
from implicit_core.gpu._modules import NULL, WARP, launch
from implicit_core.gpu._work import WARPS, grid


def bpr_epoch(
    counts: Counts,
    users: NDArray[np.int32],
    X: Factors,
    Y: Factors,
    learning_rate: float,
    regularization: float,
    key: int,
    epoch: int,
    verify: bool,
    deterministic: bool = True,
    num_threads: int = 0,
) -> tuple[int, int]:
    """An epoch of steps in place, of the draws of :func:`implicit_core._arrays.bpr_epoch`.

    If deterministic, runs of ``steps_at_once`` steps start from the same factors each; else all see each other's work
    in no fixed order.
    """
    entries = len(users)
    if entries == 0:
        return 0, 0
    counts = to_device(counts)
    found = cp.zeros(2, dtype=np.uint64)
    factors, given = (padded(X), padded(Y)), (counts.owners, counts.columns, np.int64(entries))
    rates = (np.float32(learning_rate), np.float32(regularization), np.int32(verify))
    at_once = steps_at_once(entries, X.shape[1]) if deterministic else entries
    slots, sums = ((NULL, NULL),) * 2
    if deterministic:
        slots = tuple(cp.zeros(len(rows), dtype=np.int32) for rows in factors)
        sums = tuple(cp.zeros((n, factors[0].shape[1]), dtype=np.uint64) for n in (at_once, 2 * at_once))

    def run(name: str, threads: int, args: tuple[Any, ...]) -> None:
        launch("bpr", name, {"FACTORS": X.shape[1]}, (grid(threads),), WARP * WARPS, args)

    for start in range(0, entries, at_once):
        n = min(at_once, entries - start)
        draws = (np.uint64(key), np.uint32(epoch), np.int64(start), np.int64(n), *given)
        if deterministic:
            run("bpr_slots", -(-n // WARP), (*draws, *slots))
        run("bpr", n, (*draws, *factors, *slots, *sums, counts.starts, *rates, found))
        if deterministic:
            run("bpr_apply", n, (*draws, *factors, *slots, *sums))
    correct, skipped = found.get().tolist()
    return correct, skipped
