from typing import Any

import numpy as np
from numpy.typing import NDArray

def sum_rows_and_count_columns(
    rows: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[np.float64],
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    num_threads: int,
) -> None: ...
def bm25(
    rows: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[np.float64],
    gain: float,
    scale: NDArray[np.float64],
    idf: NDArray[np.float64],
    num_threads: int,
) -> bool: ...
