"""The entries of a sparse matrix on the device, and the memory that training on them takes."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from implicit_core._typing import Counts, Policy
from implicit_core.gpu import _work
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._factors import stride
from implicit_core.gpu._matrix import GRAM_ROWS

ALLOCATION = 512  #: bytes that an array takes at least
CHUNK = 1024  #: entries of a long row that a warp sums up


class DeviceCounts(Counts):
    """A matrix on the host, and what the kernels need of it on the device, moved there when it is first asked for."""

    @functools.cached_property
    def starts(self) -> Any:
        """``indptr``."""
        return cp.asarray(self.indptr)

    @functools.cached_property
    def columns(self) -> Any:
        """``indices``."""
        return cp.asarray(self.indices)

    @functools.cached_property
    def weights(self) -> Any:
        """``values`` in float32."""
        return cp.asarray(self.values.astype(np.float32, copy=False))

    @functools.cached_property
    def owners(self) -> Any:
        """The row of each entry."""
        return cp.asarray(np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.indptr)))

    @functools.cached_property
    def _known_bins(self) -> dict[tuple[int, int, int], list[Bin]]:
        return {}

    def bins(self, start: int, stop: int, longest: int) -> list[Bin]:
        """Rows start … stop − 1 of at most ``longest`` entries in bins, those of long rows first."""
        known = self._known_bins.get((start, stop, longest))
        if known is None:
            lengths = np.diff(self.indptr[start : stop + 1])
            order = np.argsort(-lengths, kind="stable")
            order = order[lengths[order] <= longest]
            size = np.ceil(np.log2(np.maximum(lengths[order], 8))).astype(np.int64)
            edges = [0, *(np.flatnonzero(np.diff(size)) + 1).tolist(), len(order)]
            known = self._known_bins[start, stop, longest] = [
                Bin(cp.asarray((start + order[a:b]).astype(np.int32)), int(lengths[order[a]]))
                for a, b in itertools.pairwise(edges)
                if a < b
            ]
        return known


class Bin(NamedTuple):
    """Rows of about the same number of entries, which a launch solves for."""

    rows: Any  #: on the device
    longest: int  #: entries of a row


def to_device(counts: Counts) -> DeviceCounts:
    """A matrix whose parts are moved to the device when they are needed there."""
    return counts if isinstance(counts, DeviceCounts) else DeviceCounts(*counts)


def entry_args(counts: DeviceCounts, policy: Policy) -> tuple[Any, ...]:
    """Entries and how they count, as arguments of a kernel."""
    return counts.columns, counts.weights, np.float32(policy.alpha), np.int32(policy.observed)


class Chunks(NamedTuple):
    """Runs of at most ``CHUNK`` entries of a row."""

    first: NDArray[np.int32]  #: chunks of row i of the list: first[i] … first[i + 1] − 1
    owners: NDArray[np.int32]  #: positions in the list
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def chunk_counts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many chunks rows of so many entries make."""
    return -(-lengths // CHUNK)


def chunks(indptr: NDArray[np.int64], rows: NDArray[np.int64]) -> Chunks:
    """The entries of a list of rows in chunks."""
    starts, stops = indptr[rows], indptr[rows + 1]
    first = np.concatenate([[0], np.cumsum(chunk_counts(stops - starts))])
    owners = np.repeat(np.arange(len(rows)), np.diff(first))
    begin = starts[owners] + (np.arange(first[-1]) - first[owners]) * CHUNK
    end = np.minimum(begin + CHUNK, stops[owners])
    return Chunks(first.astype(np.int32), owners.astype(np.int32), begin, end)


def steps_at_once(entries: int, width: int) -> int:
    """How many steps of an epoch of BPR start from the same factors: few for little data, or very long rows."""
    return max(1, min(max(entries // 16, 64), 2048, 2**22 // width))


def check_room(counts: Counts, width: int, dtype: DTypeLike, sides: int, orders: int) -> None:
    """Raise MemoryError, with what is needed, where training does not fit into the memory that is free.

    Parameters
    ----------
    counts : Counts
        The matrix to train on.
    width : int
        Columns of the factors.
    dtype : dtype
    sides : int
        How many elements of the shape of ``counts`` need factors that are not on the device yet.
    orders : int
        2 if the entries are needed by column too.
    """
    parts = training_bytes(counts.shape, len(counts.indices), width, dtype, sides, orders)
    free = cp.cuda.Device().mem_info[0] + cp.get_default_memory_pool().free_bytes()
    if sum(parts) > free:
        factors, entries, work = (f"{part / 1e9:.3g} GB" for part in parts)
        raise MemoryError(
            f"training needs {sum(parts) / 1e9:.3g} GB of the memory of the GPU ({factors} for factors, {entries} for "
            f"entries, {work} of work space), and {free / 1e9:.3g} GB are free; take fewer factors, or use_gpu=False"
        )


def training_bytes(
    shape: tuple[int, int], entries: int, width: int, dtype: DTypeLike, sides: int = 2, orders: int = 2
) -> tuple[int, int, int]:
    """Most bytes of device memory that training takes for new factors, for entries, and as work space."""
    kind, rows = np.dtype(dtype), sum(shape)
    padded = stride(width, np.dtype(np.float32))
    work = 32 * padded * rows + 8 * width * padded * (2 + rows // GRAM_ROWS) + 40 * (rows + entries // CHUNK)
    work += 24 * padded * steps_at_once(entries, width)
    return (
        sum(shape[2 - sides :]) * stride(width, kind) * kind.itemsize,
        orders * 8 * entries + 16 * (rows + 2) + 4 * ALLOCATION * orders,
        min(work + 16 * ALLOCATION, _work.WORK_BYTES),
    )
