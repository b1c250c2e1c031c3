from typing import Final

import numpy as np
from numpy.typing import NDArray

CANDIDATE_BYTES: Final[int]
OFFERED: Final[int]

def product_topk(
    left_indptr: NDArray[np.int64],
    left_indices: NDArray[np.int32],
    left_values: NDArray[np.float64],
    right_indptr: NDArray[np.int64],
    right_indices: NDArray[np.int32],
    right_values: NDArray[np.float64],
    exclude: bool,
    only: NDArray[np.int32],
    drop: NDArray[np.int32],
    padding: float,
    chunks: NDArray[np.int64],
    ids: NDArray[np.int32],
    scores: NDArray[np.float64],
    sums: NDArray[np.float64],
    reached: NDArray[np.int32],
    best: NDArray[np.int8],
    num_threads: int,
) -> None: ...
