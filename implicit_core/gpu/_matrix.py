"""Launches of ``matrix.cu``: products of dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._typing import Factors
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._factors import options, padded, stride
from implicit_core.gpu._modules import NULL, launch
from implicit_core.gpu._work import MOST_GRID_Y, pieces

GRAM_ROWS = 1024  #: rows that are summed in float32, before the sums are added in float64
TILE = 64  #: rows and columns of a product that a block computes
TILE_THREADS = 256


def gram(Y: Factors, num_threads: int = 0) -> NDArray[np.float64]:
    """YᵀY in float64, on the host."""
    factors = Y.shape[1]
    width, rows = stride(factors, np.dtype(np.float32)), padded(Y)
    total = cp.zeros((factors, factors), dtype=np.float64)
    for part in pieces(-(-len(rows) // GRAM_ROWS), 4 * factors * width, MOST_GRID_Y):
        partial = _partial_gram(rows[part.start * GRAM_ROWS : part.stop * GRAM_ROWS], options(Y), width)
        total += partial[:, :, :factors].sum(axis=0, dtype=np.float64)
        del partial  # before the next one comes
    upper = np.triu(total.get())
    whole: NDArray[np.float64] = upper + np.triu(upper, 1).T
    return whole


def _partial_gram(rows: Any, defines: dict[str, int], width: int) -> Any:
    """The tiles on and above the diagonal of the gram matrices of runs of ``GRAM_ROWS`` rows."""
    factors, slices = defines["FACTORS"], -(-len(rows) // GRAM_ROWS)
    tiles = -(-factors // TILE)
    partial = cp.zeros((slices, factors, width), dtype=np.float32)
    args = (rows, np.int64(len(rows)), np.int32(GRAM_ROWS), partial)
    launch("matrix", "gram", defines, (tiles, tiles, slices), TILE_THREADS, args)
    return partial


def product(A: Any, B: Any, defines: dict[str, int], n: int, C: Any, ids: Any = None) -> None:
    """Write A Bᵀ to the first n columns of C, with row ``ids[j]`` of B, or j, for column j; all have padded rows."""
    tiles = (-(-n // TILE), -(-len(A) // TILE))
    args = (A, np.int32(len(A)), B, NULL if ids is None else ids, np.int32(n), C, np.int64(C.shape[1]))
    launch("matrix", "product", defines, tiles, TILE_THREADS, args)
