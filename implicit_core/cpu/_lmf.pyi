from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GROUP: Final[int]

def lmf_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[Any],
    draws: NDArray[np.int64],
    pool: NDArray[np.int32],
    X: NDArray[Any],
    squares: NDArray[Any],
    Y: NDArray[Any],
    learning_rate: float,
    regularization: float,
    key: int,
    epoch: int,
    side: int,
    chunks: NDArray[np.int64],
    stored: NDArray[np.uint16],
    scratch: NDArray[Any],
    num_threads: int,
) -> None: ...
