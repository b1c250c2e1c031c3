from typing import Any

import numpy as np
from numpy.typing import NDArray

def draw(
    indptr: NDArray[np.int64],
    users: NDArray[np.int32],
    indices: NDArray[np.int32],
    key: int,
    epoch: int,
    first: int,
    verify: bool,
    blocks: int,
    triples: NDArray[np.int32],
    tasks: NDArray[np.int32],
    num_threads: int,
) -> None: ...
def group(tasks: NDArray[np.int32], offsets: NDArray[np.int64], order: NDArray[np.int32]) -> None: ...
def learn(
    triples: NDArray[np.int32],
    offsets: NDArray[np.int64],
    order: NDArray[np.int32],
    blocks: int,
    X: NDArray[Any],
    Y: NDArray[Any],
    learning_rate: float,
    regularization: float,
    num_threads: int,
) -> int: ...
def race(
    triples: NDArray[np.int32],
    order: NDArray[np.int32],
    size: int,
    X: NDArray[Any],
    Y: NDArray[Any],
    learning_rate: float,
    regularization: float,
    num_threads: int,
) -> int: ...
