"""What a device offers to the models (:class:`Kernels`), and how many threads it may use."""

from __future__ import annotations

import functools
import math
import operator
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from implicit_core._arrays import Axes
from implicit_core._typing import Counts, Factors, Ids, Index, Negatives, Policy, Scores


class Search(Protocol):
    """The part of a device that finds the best items; an index of approximate neighbours can take its place."""

    def prepare(
        self, items: Factors, ids: Ids | None = None, *, cosine: bool = False, queries: int = 0, num_threads: int = 0
    ) -> Index: ...

    def topk(
        self,
        queries: Factors,
        index: Index,
        k: int,
        *,
        exclude: Counts | None = None,
        drop: NDArray[np.int32] | None = None,
        num_threads: int = 0,
    ) -> tuple[NDArray[np.int32], Scores]: ...


class Kernels(Search, Protocol):
    """The functions of a device; :mod:`implicit_core._arrays` defines what each must return.

    Factors lie in the memory of the device. What a function takes or returns besides is on the host, except that a
    matrix that ``to_device`` gave saves ``least_squares``, ``stored_error`` and ``bpr_epoch`` the transfer.
    """

    def is_array(self, array: Any) -> bool: ...

    def check_room(self, counts: Counts, width: int, dtype: DTypeLike, sides: int, orders: int) -> None: ...

    def to_device(self, counts: Counts) -> Counts: ...

    def to_host(self, array: Any) -> NDArray[Any]: ...

    def as_factors(self, array: Any) -> Factors: ...

    def writable(self, array: Any, dtype: DTypeLike) -> Factors: ...

    def zeros(self, rows: int, width: int, dtype: DTypeLike) -> Factors: ...

    def take(self, factors: Factors, ids: Ids) -> Factors: ...

    def put(self, factors: Factors, ids: Ids, rows: Factors) -> None: ...

    def squared_norms(self, factors: Factors) -> NDArray[np.float64]: ...

    def gram(self, Y: Factors, num_threads: int = 0) -> NDArray[np.float64]: ...

    def axes(self, rows: int, factors: int) -> Axes: ...

    def least_squares(
        self,
        counts: Counts,
        X: Factors,
        Y: Factors,
        gram: NDArray[np.floating],
        diag: NDArray[np.floating],
        policy: Policy,
        cg_steps: int | None,
        rows: slice,
        num_threads: int = 0,
    ) -> None: ...

    def stored_error(self, counts: Counts, X: Factors, Y: Factors, policy: Policy, num_threads: int = 0) -> float: ...

    def bpr_epoch(
        self,
        counts: Counts,
        users: NDArray[np.int32],
        X: Factors,
        Y: Factors,
        learning_rate: float,
        regularization: float,
        key: int,
        epoch: int,
        verify: bool,
        deterministic: bool = True,
        num_threads: int = 0,
    ) -> tuple[int, int]: ...

    def lmf_step(
        self,
        counts: Counts,
        X: Factors,
        squares: Factors,
        Y: Factors,
        learning_rate: float,
        regularization: float,
        negatives: Negatives,
        epoch: int,
        side: int,
        rows: slice,
        num_threads: int = 0,
    ) -> None: ...

    def ranking_counts(self, ranked: Ids, relevant: Counts, num_threads: int = 0) -> NDArray[np.int32]: ...

    def all_pairs_knn(self, items: Counts, users: Counts, k: int, num_threads: int = 0) -> Counts: ...

    def knn_recommend(
        self,
        liked: Counts,
        similarity: Counts,
        k: int,
        *,
        exclude_liked: bool = False,
        only: NDArray[np.int32] | None = None,
        drop: NDArray[np.int32] | None = None,
        num_threads: int = 0,
    ) -> tuple[NDArray[np.int32], Scores]: ...


def product_work(left: Counts, right: Counts) -> NDArray[np.int64]:
    """How many multiplications of the sparse product left · right come before each row, and in all."""
    rows = left.indices[left.indptr[0] : left.indptr[-1]]
    before = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.diff(right.indptr)[rows], out=before[1:])
    work: NDArray[np.int64] = before[left.indptr - left.indptr[0]]
    return work


def split_rows(indptr: NDArray[np.int64], rows: slice, row_cost: float, parts: int) -> NDArray[np.int64]:
    """Boundaries of at most ``parts`` runs of rows of about equal work: stored entries + row_cost · rows."""
    start, stop, _ = rows.indices(len(indptr) - 1)
    if parts <= 1 or stop - start <= 1:
        return np.unique([start, stop]).astype(np.int64)
    work = (indptr[start : stop + 1] - indptr[start]) + row_cost * np.arange(stop - start + 1)
    targets = np.linspace(0, work[-1], max(1, min(parts, stop - start)) + 1)
    boundaries = start + np.searchsorted(work, targets[1:-1])
    return np.unique(np.concatenate([[start], boundaries, [stop]])).astype(np.int64)


MOST_THREADS = 1024  #: more are a mistake, and scratch space is allotted to each

_threads_started = False  # whether an OpenMP pool of more than one thread may live in this process
_forked_from_threads = False


def effective_threads(num_threads: int) -> int:
    """How many threads a kernel uses.

    Parameters
    ----------
    num_threads : int
        0: all that this process may use (CPU affinity, container quota, ``OMP_NUM_THREADS``). Negative: counted from
        the end as in joblib, −1 = all, −2 = all but one. In a child forked from a process that has used threads it
        is always 1, since the OpenMP run-time of gcc does not survive a fork.
    """
    global _threads_started
    try:
        num_threads = operator.index(num_threads)
    except TypeError:
        raise TypeError(f"num_threads must be an integer, got {num_threads!r}") from None
    if _forked_from_threads:
        return 1
    if num_threads <= 0:
        num_threads = max(_available_threads() + (num_threads + 1 if num_threads < 0 else 0), 1)
    num_threads = min(num_threads, MOST_THREADS)
    _threads_started = _threads_started or num_threads > 1
    return num_threads


def _available_threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    limit = int(asked) if asked.isdigit() and int(asked) > 0 else MOST_THREADS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(limit, cores, _container_quota()))


@functools.cache
def _container_quota() -> int:
    """Cores that the control group of this process grants, rounded up; a large number where there is no limit."""
    for quota_file, period_file in (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        try:
            text = Path(quota_file).read_text() + (Path(period_file).read_text() if period_file else "")
            quota, period = text.split()[:2]
            if quota not in ("max", "-1"):
                return math.ceil(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return 1 << 30


def _after_fork() -> None:
    global _forked_from_threads
    _forked_from_threads = _threads_started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
