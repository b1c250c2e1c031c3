from typing import Any

import numpy as np
from numpy.typing import NDArray

def ranking_counts(
    ranked: NDArray[np.int32],
    indptr: NDArray[np.int64],
    relevant: NDArray[np.int32],
    seen: NDArray[np.uint8],
    counts: NDArray[np.int32],
    num_threads: int,
) -> None: ...
def split_entries(
    indptr: NDArray[np.int64],
    indices: NDArray[Any],
    values: NDArray[Any],
    chosen: NDArray[np.uint8],
    first_indptr: NDArray[np.int64],
    first_indices: NDArray[Any],
    first_values: NDArray[Any],
    second_indptr: NDArray[np.int64],
    second_indices: NDArray[Any],
    second_values: NDArray[Any],
) -> None: ...
