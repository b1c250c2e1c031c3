"""Data for the CUDA kernels, and their launches on NumPy arrays: in the emulator, or on a GPU where there is one."""

from __future__ import annotations

import importlib
import math
import os
from dataclasses import dataclass, field
from typing import Any

import emulator
import numpy as np
from emulator import nvrtc
from numpy.typing import NDArray

from implicit_core import _arrays, gpu
from implicit_core._typing import Counts, Policy
from implicit_core.cpu import kernels as cpu
from implicit_core.gpu._sources import source

FILES = {
    "als_cg": "als_cg",
    "als_chunks": "als_split",
    "als_step": "als_split",
    "stored_error": "loss",
    "gram": "matrix",
    "product": "matrix",
    "topk_select": "topk",
    "topk_merge": "topk",
    "topk_keys": "topk",
    "topk_scores": "topk",
    "bpr": "bpr",
    "bpr_slots": "bpr",
    "bpr_apply": "bpr",
}
ON_DEVICE = os.environ.get("IMPLICIT_CORE_FAKE_GPU") != "1" and gpu.HAS_CUDA
#: whether all shapes and architectures are tested, or a selection
EVERYTHING = os.environ.get("IMPLICIT_CORE_GPU_TESTS") == "all"


def architectures(compiled: bool = False) -> list[int]:
    """Those to test: two, or one of each family, or where kernels are compiled alone all from Volta on."""
    if emulator.missing():
        return [80]
    known = [arch for arch in nvrtc.compiler().architectures() if arch >= 70]
    if EVERYTHING and compiled:
        return known
    return [arch for arch in known if arch in ((70, 75, 80, 90, 100, 120) if EVERYTHING else (75, 90))]


@dataclass(frozen=True)
class Launcher:
    """Launches kernels compiled for a shape; errors that the checks found gather in ``errors``."""

    factors: int = 1
    half: bool = False
    arch: int = 80
    exact: bool = False  #: whether als_cg is compiled with EXACT
    changes: tuple[tuple[str, str], ...] = ()  #: texts of the source to replace, each once
    checks: emulator.Checks = emulator.default
    errors: list[str] = field(default_factory=list)
    costs: list[emulator.Cost] = field(default_factory=list)

    @property
    def stored(self) -> type:
        """The type that factors are stored in."""
        return np.float16 if self.half else np.float32

    @property
    def vectors(self) -> int:
        """VECTORS of rows.cuh."""
        return -(-self.factors // 4)

    @property
    def float_stride(self) -> int:
        """FLOAT_STRIDE of rows.cuh."""
        return -(-self.factors // 8) * 8

    def padded(self, rows: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
        """Rows as the kernels take them: of whole sectors, aligned."""
        dtype = np.dtype(dtype or self.stored)
        unit = 32 // dtype.itemsize
        return aligned(np.pad(rows, ((0, 0), (0, -rows.shape[1] % unit))).astype(dtype))

    def source(self, kernel: str) -> str:
        """The source of a kernel with the changes."""
        text = source(FILES[kernel])
        for old, new in self.changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the source of {kernel}"
            text = text.replace(old, new)
        return text

    def __call__(self, kernel: str, grid: Any, block: int, *args: Any, shared_mem: int = 0) -> None:
        """Launch a kernel."""
        defines = f"-DFACTORS={self.factors}", f"-DHALF={int(self.half)}", f"-DEXACT={int(self.exact)}"
        if ON_DEVICE and self.checks.races and not self.changes:  # what only the emulator sees, it is asked for
            self._on_device(kernel, grid if isinstance(grid, tuple) else (grid,), block, defines, args, shared_mem)
            return
        module = emulator.load(self.source(kernel), defines, self.arch, f"{FILES[kernel]}.cu")
        grid = grid if isinstance(grid, tuple) else (grid,)
        report = module.get_function(kernel).run(grid, (block,), args, shared_mem=shared_mem, checks=self.checks)
        self.errors.extend(report.errors)
        self.costs.extend(report.costs)

    def _on_device(self, kernel: str, grid: Any, block: int, defines: Any, args: Any, shared_mem: int) -> None:
        cupy: Any = importlib.import_module("cupy")
        function = cupy.RawModule(code=self.source(kernel), options=("-std=c++17", *defines)).get_function(kernel)
        if shared_mem > 48 * 1024:
            function.max_dynamic_shared_size_bytes = shared_mem
        given = [cupy.asarray(a) if isinstance(a, np.ndarray) else np.uint64(0) if a is None else a for a in args]
        function(grid, (block,), tuple(given), shared_mem=shared_mem)
        for array, held in zip(args, given, strict=True):
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = held.get()

    # ---- kernels, with the results that they make

    def als_cg(
        self, problem: Problem, steps: int = 3, kept: int = 4, warps: int = 4, grid: int = 5, rows: Any = None,
        left: Any = None,
    ) -> NDArray[Any]:  # fmt: skip
        """Rows of X after steps of the solver; ``rows`` defaults to all, the longest first."""
        X = self.padded(problem.X)
        rows = np.argsort(-np.diff(problem.counts.indptr), kind="stable") if rows is None else rows
        shared = (
            16 * self.vectors * (self.factors + warps)
            + 4 * self.vectors * np.dtype(self.stored).itemsize * warps * kept
        )
        self(
            "als_cg", grid, 32 * warps, frozen(np.asarray(rows, np.int32)), np.int32(len(rows)), *problem.entries(),
            *problem.policy_args(), X, frozen(self.padded(problem.Y)), frozen(self.padded(problem.gram, np.float32)),
            frozen(problem.diag), np.int32(steps), np.int32(kept), left,
            shared_mem=shared,
        )  # fmt: skip
        return unpadded(X, self.factors)

    def als_split(
        self, problem: Problem, steps: int = 3, chunk: int = 16, warps: int = 4, grid: int = 3, left: Any = None
    ) -> NDArray[Any]:
        """The same by the kernels for long rows; rows without entries stay as they are."""
        counts = problem.counts
        rows = np.flatnonzero(np.diff(counts.indptr))
        owners, starts, stops, first_chunk = chunks(counts.indptr, rows, chunk)
        x = self.padded(problem.X[rows], np.float32)
        R, P = aligned(np.zeros_like(x)), aligned(np.zeros_like(x))
        partial = aligned(np.full((len(owners), x.shape[1]), np.nan, np.float32))
        squares, diag = np.full(len(rows), np.nan, np.float32), frozen(problem.diag[rows])
        squares_first = None if left is None else np.full(len(rows), np.nan, np.float32)
        team = 8 if self.vectors <= 8 else 16 if self.vectors <= 16 else 32
        panels = -(-self.vectors // (team * min(8, -(-self.vectors // team))))
        Y = frozen(self.padded(problem.Y))
        for step in range(-1, steps):
            v = x if step < 0 else P
            first = np.int32(step < 0)
            AV = self.padded(v[:, : self.factors] @ problem.gram, np.float32)
            self(
                "als_chunks", (grid, panels), 32 * warps, np.int32(len(owners)), owners, starts, stops,
                *problem.entries()[1:], *problem.policy_args(), frozen(v), Y, first, partial,
            )  # fmt: skip
            v.flags.writeable = True
            self(
                "als_step",
                len(rows),
                128,
                first_chunk,
                frozen(partial),
                diag,
                first,
                AV,
                x,
                R,
                P,
                squares,
                squares_first,
            )
            partial.flags.writeable = True
        solved = problem.X.copy()
        solved[rows] = x[:, : self.factors]
        if left is not None:
            left[rows] = squares / squares_first
        return solved

    def stored_error(self, problem: Problem, chunk: int = 16, warps: int = 4, grid: int = 3) -> float:
        """The loss over stored entries."""
        counts = problem.counts
        owners, starts, stops, _ = chunks(counts.indptr, np.arange(counts.shape[0]), chunk)
        errors = np.full(len(owners), np.nan)
        self(
            "stored_error", grid, 32 * warps, np.int32(len(owners)), owners, starts, stops, *problem.entries()[1:],
            *problem.policy_args(), frozen(self.padded(problem.X)), frozen(self.padded(problem.Y)), errors,
        )  # fmt: skip
        return float(errors.sum())

    def gram(self, Y: NDArray[Any], slice_: int) -> NDArray[np.float64]:
        """The upper triangle of YᵀY."""
        slices, tiles = -(-len(Y) // slice_), -(-self.factors // 64)
        partial = aligned(np.full((slices, self.factors, self.float_stride), np.nan, np.float32))
        self("gram", (tiles, tiles, slices), 256, frozen(self.padded(Y)), np.int64(len(Y)), np.int32(slice_), partial)
        total = partial.astype(np.float64).sum(axis=0)[:, : self.factors]
        return np.triu(np.where(np.tri(self.factors, k=-1, dtype=bool), 0, total))

    def product(self, A: NDArray[Any], B: NDArray[Any], ids: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
        """A Bᵀ, of the rows of B in ``ids``."""
        n = len(B) if ids is None else len(ids)
        pitch = -(-n // 8) * 8
        C = aligned(np.full((len(A), pitch), np.nan, np.float32))
        self(
            "product", (-(-n // 64), -(-len(A) // 64)), 256, frozen(self.padded(A, np.float32)), np.int32(len(A)),
            frozen(self.padded(B)), ids, np.int32(n), C, np.int64(pitch),
        )  # fmt: skip
        return unpadded(C, n)

    def topk(self, case: Ranking, k: int, parts: int = 1) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Ids and scores of the k best columns of each row."""
        rows = len(case.scores)
        capacity = 2048
        while capacity < k + 1024:
            capacity *= 2
        length = -(-case.n // parts)
        keys, ids = np.zeros((rows, parts, k), np.uint64), np.full((rows, k), -7, np.int32)
        scores = np.full((rows, k), np.nan, np.float32)
        self(
            "topk_select", (parts, rows), 256, *case.args()[:3], np.int32(length), *case.args()[3:], np.int32(k),
            np.int32(capacity), keys, shared_mem=8 * capacity,
        )  # fmt: skip
        self(
            "topk_merge", rows, 256, frozen(keys), np.int32(parts * k), np.int32(k), np.int32(capacity), ids, scores,
            shared_mem=8 * capacity,
        )  # fmt: skip
        return ids, scores

    def topk_by_sort(self, case: Ranking, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The same by a sort of all keys."""
        rows = len(case.scores)
        keys = np.zeros((rows, case.n), np.uint64)
        self("topk_keys", (2, rows), 256, *case.args(), keys)
        best = np.zeros((rows, k), np.uint64)
        best[:, : case.n] = np.sort(keys, axis=1)[:, ::-1][:, :k]
        ids, scores = np.zeros((rows, k), np.int32), np.zeros((rows, k), np.float32)
        self("topk_scores", 1, 256, frozen(best), np.int64(best.size), ids, scores)
        return ids, scores

    def bpr(
        self, problem: Problem, n: int, first: int = 0, verify: bool = True, warps: int = 1, grid: int = 1,
        rates: tuple[float, float] = (0.05, 0.01), at_once: int = 0,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:  # fmt: skip
        """X and Y after the steps of n draws of epoch 3, and (correct, skipped); ``at_once`` from the same factors."""
        counts = problem.counts
        X, Y, seen = self.padded(problem.X), self.padded(problem.Y), np.zeros(2, np.uint64)
        indptr, indices, _ = problem.entries()
        fixed, given = (*map(np.float32, rates), np.int32(verify)), (rows_of(counts), indices, np.int64(len(indices)))
        slots: tuple[Any, ...] = (None, None)
        sums: tuple[Any, ...] = (None, None)
        if at_once:
            slots = tuple(np.full(len(rows), -1, np.int32) for rows in (X, Y))
            sums = tuple(aligned(np.zeros((k * at_once, X.shape[1]), np.uint64)) for k in (1, 2))
        for start in range(first, first + n, at_once or n):
            here = min(at_once or n, first + n - start)
            draws = (np.uint64(BPR_KEY), np.uint32(BPR_EPOCH), np.int64(start), np.int64(here), *given)
            if at_once:
                self("bpr_slots", grid, 32 * warps, *draws, *slots)
            self("bpr", grid, 32 * warps, *draws, X, Y, *slots, *sums, indptr, *fixed, seen)
            if at_once:
                self("bpr_apply", grid, 32 * warps, *draws, X, Y, *slots, *sums)
        return unpadded(X, self.factors), unpadded(Y, self.factors), seen.tolist()


CONFIDENCE = Policy(1.5)
BPR_KEY, BPR_EPOCH = 0x123456789ABCDEF0, 3


@dataclass(frozen=True)
class Problem:
    """Factors, counts and all else that least squares needs."""

    counts: Counts
    X: NDArray[Any]
    Y: NDArray[Any]
    gram: NDArray[np.float32]
    diag: NDArray[np.float32]
    policy: Policy

    def entries(self) -> tuple[NDArray[Any], ...]:
        """(indptr, indices, values), not to be written."""
        return tuple(frozen(array) for array in (self.counts.indptr, self.counts.indices, self.counts.values))

    def policy_args(self) -> tuple[np.float32, np.int32]:
        """(alpha, observed)."""
        return np.float32(self.policy.alpha), np.int32(self.policy.observed)

    def solved(self, kernels: Any, steps: int, dtype: Any) -> NDArray[Any]:
        """X after steps of another device's solver in another precision."""
        X = self.X.astype(dtype)
        kernels.least_squares(
            self.counts, X, self.Y.astype(dtype), self.gram.astype(dtype), self.diag.astype(dtype), self.policy, steps,
            slice(None),
        )  # fmt: skip
        return X


def problem(
    factors: int, half: bool = False, users: int = 60, items: int = 50, policy: Policy = CONFIDENCE, seed: int = 0
) -> Problem:
    """Rows of 0, 1, all and between 2 and 16 entries, a tenth of them negative."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(random.integers(2, 17, users), items)
    lengths[:4] = 0, 1, items, 0
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.concatenate([np.sort(random.choice(items, n, replace=False)) for n in lengths]).astype(np.int32)
    values = (random.integers(1, 40, len(indices)) / 4 * np.where(random.random(len(indices)) < 0.1, -1, 1)).astype(
        np.float32
    )
    stored = np.float16 if half else np.float32
    X, Y = (((random.random((n, factors)) - 0.5) / 4).astype(stored) for n in (users, items))
    gram = np.zeros((factors, factors)) if policy.observed else _arrays.gram(Y)
    diag = (0.01 + random.random(users) / 10).astype(np.float32)
    counts = Counts(*map(aligned, (indptr, indices, values)), (users, items))
    return Problem(counts, X, Y, gram.astype(np.float32), diag, policy)


@dataclass(frozen=True)
class Ranking:
    """Scores of columns, and what is left out."""

    scores: NDArray[np.float32]  #: with padding that must not be looked at
    n: int
    ids: NDArray[np.int32] | None
    norms: NDArray[np.float32] | None
    exclude: Counts | None
    drop: NDArray[np.int32]

    def args(self) -> tuple[Any, ...]:
        """Arguments of the kernels."""
        pairs = (self.exclude.indptr, self.exclude.indices) if self.exclude else (None, None)
        pitch = np.int64(self.scores.shape[1])
        return self.scores, pitch, np.int32(self.n), self.ids, self.norms, *pairs, self.drop, np.int32(len(self.drop))

    def best(self, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What the kernels must find, by a sort."""
        lowest = np.finfo(np.float32).min
        columns = np.arange(self.n, dtype=np.int32) if self.ids is None else self.ids
        ids = np.full((len(self.scores), k), -1, np.int32)
        scores = np.full((len(self.scores), k), lowest, np.float32)
        for q, row in enumerate(self.scores[:, : self.n]):
            with np.errstate(over="ignore", invalid="ignore"):
                score = row / self.norms if self.norms is not None else row.copy()
            score[~(score >= lowest) | np.isin(columns, self.drop)] = lowest
            if self.exclude:
                stored = self.exclude.indices[self.exclude.indptr[q] : self.exclude.indptr[q + 1]]
                score[np.isin(columns, stored)] = lowest
            best = np.lexsort((columns, -score))[:k]
            ids[q, : len(best)], scores[q, : len(best)] = columns[best], score[best]
        return ids, scores


def ranking(n: int, rows: int = 2, levels: float = 4, plain: bool = False, seed: int = 0) -> Ranking:
    """Scores with many ties, and what is no number; unless plain, with ids, norms and exclusions."""
    random = np.random.default_rng(seed)
    scores = np.full((rows, -(-n // 8) * 8), 1e9, np.float32)
    scores[:, :n] = np.round(random.standard_normal((rows, n)) * levels) / levels
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, np.finfo(np.float32).min], np.float32)[:n]
    scores[0, random.choice(n, len(special), replace=False)] = special
    if plain:
        return Ranking(frozen(aligned(scores)), n, None, None, None, np.zeros(0, np.int32))
    stored = [np.flatnonzero(random.random(n) < 0.3).astype(np.int32) for _ in range(rows)]
    exclude = Counts(np.cumsum([0, *map(len, stored)]), np.concatenate(stored), np.zeros(0), (rows, n))
    drop = np.flatnonzero(random.random(n) < 0.1).astype(np.int32)
    norms = (random.random(n) + 0.5).astype(np.float32)
    ids = aligned(random.permutation(n).astype(np.int32))
    return Ranking(frozen(aligned(scores)), n, ids, aligned(norms), exclude, drop)


def chunks(indptr: NDArray[np.int64], rows: NDArray[np.int64], size: int) -> tuple[NDArray[Any], ...]:
    """Runs of at most ``size`` entries: positions of their rows, starts, stops, and the first run of each row."""
    each = -(-np.diff(indptr)[rows] // size)
    owners = np.repeat(np.arange(len(rows), dtype=np.int32), each)
    first = np.concatenate([[0], np.cumsum(each)])
    starts = indptr[rows][owners] + size * (np.arange(len(owners)) - first[owners])
    stops = np.minimum(starts + size, indptr[rows + 1][owners])
    return tuple(map(aligned, (owners, starts, stops, first.astype(np.int32))))


def rows_of(counts: Counts) -> NDArray[np.int32]:
    """The row of each stored entry."""
    return np.repeat(np.arange(counts.shape[0], dtype=np.int32), np.diff(counts.indptr))


class PaddingError(AssertionError):
    """A kernel has written to the padding of rows."""


def unpadded(rows: NDArray[Any], width: int) -> NDArray[Any]:
    """Rows without their padding, which must be zero."""
    if rows[:, width:].any():
        raise PaddingError
    return rows[:, :width]


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that starts at a multiple of 256 bytes, as device memory does."""
    room = np.empty(array.nbytes + 256, np.uint8)
    start = -room.ctypes.data % 256
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The array, not to be written to by a kernel."""
    array.flags.writeable = False
    return array


def bpr_steps(
    given: Problem, n: int, first: int, verify: bool, rate: float, regularization: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
    """What Launcher.bpr must make, by the steps one after another in double precision."""
    X, Y = given.X.astype(np.float64), given.Y.astype(np.float64)
    draws = np.arange(first, first + n, dtype=np.uint64)
    triples, skip = _arrays.bpr_draws(given.counts, rows_of(given.counts), BPR_KEY, BPR_EPOCH, draws, verify)
    correct = 0
    for u, i, j in triples[~skip]:
        x, liked, disliked = X[u].copy(), Y[i].copy(), Y[j].copy()
        z = 1 / (1 + np.exp(x @ (liked - disliked)))
        correct += int(z < 0.5)
        X[u, :-1] += rate * (z * (liked - disliked) - regularization * x)[:-1]
        Y[i] += rate * (z * x - regularization * liked)
        Y[j] += rate * (-z * x - regularization * disliked)
    return X, Y, [correct, int(skip.sum())]


def bpr_runs(
    given: Problem, n: int, at_once: int, rate: float, regularization: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What Launcher.bpr must make of steps that start from the same factors, in double precision."""
    X, Y = given.X.astype(np.float64), given.Y.astype(np.float64)
    for first in range(0, n, at_once):
        draws = np.arange(first, min(first + at_once, n), dtype=np.uint64)
        triples, skip = _arrays.bpr_draws(given.counts, rows_of(given.counts), BPR_KEY, BPR_EPOCH, draws, True)
        u, i, j = triples[~skip].T
        x, liked, disliked = X[u], Y[i], Y[j]
        z = 1 / (1 + np.exp((x * (liked - disliked)).sum(axis=1)))[:, None]
        np.add.at(X[:, :-1], u, rate * (z * (liked - disliked) - regularization * x)[:, :-1])
        np.add.at(Y, i, rate * (z * x - regularization * liked))
        np.add.at(Y, j, rate * (-z * x - regularization * disliked))
    return X, Y


def error_of_float32(given: Problem, steps: int) -> float:
    """The error of the CPU's solver in single precision: it says how much the problem magnifies rounding."""
    return relative_error(given.solved(cpu, steps, np.float32), given.solved(_arrays, steps, np.float64))


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference, by the largest value expected."""
    return math.inf if np.isnan(found).any() else float(np.abs(found - expected).max() / np.abs(expected).max())
