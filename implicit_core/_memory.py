"""Where arrays lie in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

CACHE_LINE = 64  #: bytes


def round_up(n: int, unit: int) -> int:
    """The least multiple of ``unit`` that is not below ``n``."""
    return -(-n // unit) * unit


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised array at the start of a cache line.

    Where its rows fill whole lines too, a kernel reads each line once; NumPy's own arrays start anywhere in a line.
    """
    dtype = np.dtype(dtype)
    memory = np.empty(math.prod(shape) * dtype.itemsize + CACHE_LINE, dtype=np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    return memory[first : memory.size - CACHE_LINE + first].view(dtype).reshape(shape)
