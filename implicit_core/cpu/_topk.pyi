from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HAS_CODES: Final[bool]
PANEL_BYTES: Final[int]
QUERY_BLOCK: Final[int]

def pack_candidates(
    items: NDArray[Any],
    ids: NDArray[np.int32],
    packed: NDArray[Any],
    norms: NDArray[np.float64],
    num_threads: int,
) -> None: ...
def encode_candidates(
    packed: NDArray[Any], norms: NDArray[np.float64], codes: NDArray[np.int16], num_threads: int
) -> bool: ...
def topk(
    queries: NDArray[Any],
    items: NDArray[Any],
    ids: NDArray[np.int32],
    cosine: bool,
    packed: NDArray[Any] | None,
    norms: NDArray[np.float64] | None,
    codes: NDArray[np.int16] | None,
    exclude_indptr: NDArray[np.int64] | None,
    exclude_indices: NDArray[np.int32] | None,
    drop: NDArray[np.int32],
    blocks: NDArray[np.int64],
    slices: NDArray[np.int64],
    best_ids: NDArray[np.int32],
    best_scores: NDArray[Any],
    heaps: NDArray[np.int8],
    panels: NDArray[Any],
    query_codes: NDArray[np.int16],
    work: NDArray[np.int64],
    num_threads: int,
) -> None: ...
