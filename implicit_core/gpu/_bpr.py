"""Launches of ``bpr.cu``: Bayesian personalized ranking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from implicit_core._typing import Counts, Factors
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._entries import to_device
from implicit_core.gpu._factors import padded
from implicit_core.gpu._modules import WARP, launch
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
    """An epoch of steps in place, of the draws of :func:`implicit_core._arrays.bpr_epoch`, in no fixed order."""
    entries = len(users)
    if entries == 0:
        return 0, 0
    counts = to_device(counts)
    found = cp.zeros(2, dtype=np.uint64)
    args = (
        *(np.uint64(key), np.uint32(epoch), np.int64(0), np.int64(entries)),
        *(counts.starts, counts.owners, counts.columns, np.int64(entries), padded(X), padded(Y)),
        *(np.float32(learning_rate), np.float32(regularization), np.int32(verify), found),
    )
    launch("bpr", "bpr", {"FACTORS": X.shape[1]}, (grid(entries),), WARP * WARPS, args)
    correct, skipped = found.get().tolist()
    return correct, skipped
