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
    parts: NDArray[np.int64],
    triples: NDArray[np.int32],
    tasks: NDArray[np.uint16],
    sizes: NDArray[np.int64],
) -> None: ...
def group(
    parts: NDArray[np.int64],
    triples: NDArray[np.int32],
    tasks: NDArray[np.uint16],
    sizes: NDArray[np.int64],
    places: NDArray[np.int64],
    grouped: NDArray[np.int32],
) -> None: ...
def learn(
    triples: NDArray[np.int32],
    offsets: NDArray[np.int64],
    X: NDArray[Any],
    Y: NDArray[Any],
    learning_rate: float,
    regularization: float,
    num_threads: int,
) -> int: ...
def race(
    triples: NDArray[np.int32],
    parts: NDArray[np.int64],
    X: NDArray[Any],
    Y: NDArray[Any],
    learning_rate: float,
    regularization: float,
    num_threads: int,
) -> int: ...
