"""How the work of a kernel is shared out: grids of warps, and pieces whose work space stays within a bound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from implicit_core.gpu._modules import limits

WORK_BYTES = 2**28  #: bound on the work space of a function
WARPS = 4  #: of a block, where a warp does a row
BLOCKS = 8  #: of a processor, in a launch whose warps take one row after another
MOST_GRID_Y = 65535  #: blocks of a grid, but for its first dimension


def grid(rows: int, warps: int = WARPS) -> int:
    """Blocks whose warps take a row each, one after another."""
    return min(-(-rows // warps), BLOCKS * limits().processors)


def pieces(n: int, each: int, most: int = 2**31 - 1) -> Iterator[slice]:
    """Runs of 0 … n − 1 for which ``each`` bytes of work space per row stay within the bound."""
    size = max(1, min(WORK_BYTES // max(each, 1), most))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def runs(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of positions whose bytes of work space add up to at most the bound, or of one position."""
    before = np.concatenate([[0], np.cumsum(sizes)])
    start = 0
    while start < len(sizes):
        stop = max(start + 1, int(np.searchsorted(before, before[start] + WORK_BYTES, side="right")) - 1)
        yield slice(start, stop)
        start = stop
