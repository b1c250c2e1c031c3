from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final[int]
EXACT_WIDTH: Final[int]
BLOCK: Final[int]
GRAM_TILE: Final[int]
SEARCH: Final[int]
TURN_BLOCK: Final[int]
TURN_WIDTH: Final[int]
LONG_ROW_BYTES: Final[int]

def least_squares(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[Any],
    X: NDArray[Any],
    Y: NDArray[Any],
    last: NDArray[Any],
    first_of_last: int,
    gram: NDArray[Any],
    diag: NDArray[Any],
    alpha: float,
    policy: int,
    cg_steps: int,
    longest: int,
    chunks: NDArray[np.int64],
    scratch: NDArray[Any],
    failed: NDArray[np.int64],
    num_threads: int,
) -> None: ...
def search_by_blocks_of_Y(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[Any],
    X: NDArray[Any],
    Y: NDArray[Any],
    last: NDArray[Any],
    first_of_last: int,
    gram: NDArray[Any],
    diag: NDArray[Any],
    alpha: float,
    policy: int,
    cg_steps: int,
    block: int,
    rows: NDArray[np.int64],
    groups: NDArray[np.int64],
    scratch: NDArray[Any],
    long_rows: NDArray[np.int8],
    num_threads: int,
) -> None: ...
def row_errors(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[Any],
    X: NDArray[Any],
    Y: NDArray[Any],
    last: NDArray[Any],
    first_of_last: int,
    width: int,
    alpha: float,
    policy: int,
    chunks: NDArray[np.int64],
    scratch: NDArray[Any],
    errors: NDArray[np.float64],
    num_threads: int,
) -> None: ...
def gram(
    Y: NDArray[Any],
    block: int,
    partial: NDArray[np.float64],
    scratch: NDArray[np.float64],
    num_threads: int,
) -> None: ...
def turn(
    X: NDArray[Any],
    Y: NDArray[Any],
    Z: NDArray[Any],
    basis: NDArray[Any],
    scratch: NDArray[Any],
    num_threads: int,
) -> None: ...
