"""The proof has teeth: barriers taken out of the kernels, and bugs put into them, do not go unseen.

A bug is seen by the checks of the emulator, or by a comparison with the definition such as the tests of the kernels
make. Of those that the checks see, some would have given right results.
"""

import re
from pathlib import Path

import emulator
import launches
import numpy as np
import pytest
from launches import EVERYTHING, Launcher, relative_error

from implicit_core import _arrays, gpu

pytestmark = pytest.mark.skipif(bool(emulator.missing()), reason=emulator.missing())

FOLDER = Path(gpu.__file__).parent
BARRIERS = ("__syncthreads();", "__syncwarp();")


def als_cg(launch):
    given = launches.problem(launch.factors, launch.half, users=22, items=30)
    found = launch.als_cg(given, kept=5, grid=3)
    return relative_error(found, given.solved(_arrays, 3, np.float64)) < (6e-4 if launch.half else 3e-6)


def als_split(launch):
    given = launches.problem(launch.factors, users=12, items=30)
    expected = given.solved(_arrays, 3, np.float64)
    expected[[0, 3]] = given.X[[0, 3]]
    return relative_error(launch.als_split(given, chunk=8), expected) < 3e-6


def loss(launch):
    given = launches.problem(launch.factors, users=24, items=30)
    expected = _arrays.stored_error(given.counts, given.X.astype(np.float64), given.Y.astype(np.float64), given.policy)
    return abs(launch.stored_error(given, chunk=5) / expected - 1) < 1e-6


def matrix(launch):
    Y = launches.problem(launch.factors, items=70).Y
    gram = relative_error(launch.gram(Y, 40), np.triu(_arrays.gram(Y)))
    ids = np.arange(69, -1, -1, dtype=np.int32)
    scores = launch.product(Y, Y, ids)
    return gram < 1e-6 and relative_error(scores, Y.astype(np.float64) @ Y[ids].astype(np.float64).T) < 1e-6


def topk(launch):
    late = launches.ranking(4999, plain=True)
    late.scores.flags.writeable = True
    late.scores[0, : late.n] = -np.arange(late.n)
    late.scores[1, : late.n] = np.arange(late.n)
    late.scores[0, 2500] = -18.5
    found = [
        (launch.topk(case, 20, parts), case.best(20))
        for case, parts in ((launches.ranking(2999), 2), (launches.ranking(2999, plain=True), 1), (late, 1))
    ]
    small = launches.ranking(300)
    found.append((launch.topk_by_sort(small, 310), small.best(310)))
    return all(np.array_equal(*pair) for got, expected in found for pair in zip(got, expected, strict=True))


def bpr(launch):
    given = launches.problem(launch.factors, users=80, items=40)
    given.X[:, -1] = 1
    right = True
    for verify in (True, False):
        X, Y, seen = launch.bpr(given, 300, verify=verify)
        expected = launches.bpr_steps(given, 300, 0, verify, 0.05, 0.01)
        right = right and seen == expected[2]
        right = right and np.allclose(X, expected[0], atol=2e-6) and np.allclose(Y, expected[1], atol=2e-6)
    launch.bpr(given, 100, warps=4, grid=4)
    X, Y, _ = launch.bpr(given, 100, warps=4, grid=4, at_once=50)
    expected = launches.bpr_runs(given, 100, 50, 0.05, 0.01)
    return right and np.allclose(X, expected[0], atol=2e-6) and np.allclose(Y, expected[1], atol=2e-6)


KERNELS = {"als_cg": als_cg, "als_split": als_split, "loss": loss, "matrix": matrix, "topk": topk, "bpr": bpr}
FACTORS = {"als_cg": 40, "als_split": 40, "loss": 20, "matrix": 70, "topk": 1, "bpr": 40}


def try_out(file, change=None, **shape):
    """Whether the results of changed kernels are right, and what the checks report."""
    launch = Launcher(**{"factors": FACTORS[file], **shape}, changes=() if change is None else (change,))
    try:
        right = KERNELS[file](launch)
    except launches.PaddingError:
        right = False
    return right, launch.errors


def barriers():
    """(file, which) of each barrier in the sources."""
    for path in sorted(FOLDER.glob("*.cu")):
        for i, _ in enumerate(re.finditer("|".join(map(re.escape, BARRIERS)), path.read_text())):
            yield path.stem, i


def without_barrier(file, which):
    """A change that takes one barrier out, with so much of the text before it that it is the only such place."""
    text = launches.source(file)
    spans = [m.span() for m in re.finditer("|".join(map(re.escape, BARRIERS)), text)]
    start, stop = spans[which]
    begin = start
    while text.count(text[begin:stop]) > 1:
        begin -= 1
    return text[begin:stop], text[begin:start] + ";"


@pytest.mark.parametrize("file", KERNELS)
def test_the_kernels_as_they_are_have_no_bug(file):
    assert try_out(file) == (True, [])


@pytest.mark.parametrize(("file", "which"), list(barriers()))
def test_each_barrier_is_needed_and_its_removal_reported(file, which):
    _, errors = try_out(file, without_barrier(file, which))
    assert any(error.startswith("RACE") for error in errors)


BUGS = [
    ("als_cg", "one entry too many", "if (k >= end) continue;", "if (k > end) continue;"),
    ("als_cg", "entries beyond the row", "if (k >= end) return Row::zero();", ""),
    ("als_cg", "one row too many", "i < n; i += gridDim.x * warps", "i <= n; i += gridDim.x * warps"),
    ("als_cg", "wrong stride of Y", "indices[k]) * STRIDE", "indices[k]) * (STRIDE + 1)"),
    ("als_cg", "wrong stride of X", "int64(u) * STRIDE", "int64(u) * WIDTH + 1"),
    ("als_cg", "half a mask", "ALL = 0xffffffffu", "ALL = 0x0000ffffu"),
    ("als_cg", "a lane leaves early", "!(rsold < stop); ++step", "!(rsold < stop) && lane != 31; ++step"),
    (
        "als_cg",
        "a barrier of the block in a loop of warps",
        "const int u = rows[i];",
        "const int u = rows[i]; __syncthreads();",
    ),
    (
        "als_cg",
        "a warp returns before the barrier",
        "const int warps =",
        "if (threadIdx.x >= 96) return; const int warps =",
    ),
    ("als_cg", "vectors overlap the gram matrix", "(FACTORS + warp) * WIDTH;", "(FACTORS + warp - 1) * WIDTH;"),
    ("als_cg", "two warps share a vector", "(FACTORS + warp) * WIDTH;", "(FACTORS + warp / 2) * WIDTH;"),
    ("als_cg", "two warps share kept rows", "+ warp * kept * WIDTH", "+ warp / 2 * kept * WIDTH"),
    ("als_cg", "kept rows overlap vectors", "(FACTORS + warps) * WIDTH)", "(FACTORS + warps - 1) * WIDTH)"),
    ("als_cg", "more rows kept than fit", "if (k < end && k - begin < kept)", "if (k < end && k - begin <= kept)"),
    ("als_cg", "kept rows that were not filled", "if (residual)\n#pragma unroll", "if (!residual)\n#pragma unroll"),
    ("als_cg", "all teams write x", "if (system.team == 0) x.store", "x.store"),
    ("als_cg", "all teams write the vector", "if (team == 0) v.store", "v.store"),
    ("als_cg", "the gram matrix not wholly staged", "i < FACTORS * VECTORS;", "i < FACTORS * VECTORS - 3;"),
    ("als_cg", "writes Y", "Stored *const x_u = X +", "Stored *const x_u = const_cast<Stored *>(Y) +"),
    (
        "als_cg",
        "two blocks on the same rows",
        "blockIdx.x * warps + warp; i < n",
        "blockIdx.x / 2 * warps + warp; i < n",
    ),
    ("als_cg", "sums of teams forgotten", "        out.sum_teams();\n", ""),
    ("als_cg", "ridge forgotten", "        out.add(ridge, v);\n", ""),
    ("als_cg", "right-hand side forgotten", "(residual ? entry.rhs : 0.0f)", "0.0f"),
    ("als_cg", "beta inverted", "rsnew / rsold, p", "rsold / rsnew, p"),
    ("als_cg", "negative values like", "fmaxf(c, 0.0f)", "fabsf(c)"),
    ("als_cg", "alpha forgotten", "const float c = alpha * value", "const float c = value"),
    (
        "als_split",
        "panels overlap",
        "first + lane + i * TEAM < VECTORS) store4",
        "first + lane + i * TEAM <= VECTORS) store4",
    ),
    ("als_split", "all teams write", "if (team == 0) out.store", "out.store"),
    (
        "als_split",
        "chunks of another row",
        "V + int64(owners[c]) * FLOAT_STRIDE",
        "V + (owners[c] + 1ll) * FLOAT_STRIDE",
    ),
    ("als_split", "one chunk too many", "c < first_chunk[blockIdx.x + 1]", "c <= first_chunk[blockIdx.x + 1]"),
    ("als_split", "the sum of a warp for that of a block", "warp < THREADS / 32; ++warp", "warp < 1; ++warp"),
    ("als_split", "one more warp", "warp < THREADS / 32; ++warp", "warp <= THREADS / 32; ++warp"),
    (
        "als_split",
        "a thread leaves before the sum",
        "float curvature = 0",
        "if (threadIdx.x > FACTORS) return; float curvature = 0",
    ),
    (
        "als_split",
        "one chunk of all blocks",
        "for (int64 c = blockIdx.x * warps",
        "for (int64 c = blockIdx.x / 2 * warps",
    ),
    (
        "loss",
        "only a team",
        "for (int offset = 16; offset > 0; offset /= 2) error",
        "for (int offset = 4; offset > 0; offset /= 2) error",
    ),
    ("loss", "every lane adds", "if (k < end && lane == 0)", "if (k < end)"),
    ("loss", "every lane writes", "if (threadIdx.x % 32 == 0) errors", "errors"),
    ("loss", "entries beyond the chunk", "if (k < end) {", "if (k <= end) {"),
    ("matrix", "rows beyond the matrix", "if (first + depth < end) {", "if (first + depth <= end) {"),
    (
        "matrix",
        "columns beyond the row",
        "blockIdx.x * TILE + column < 4 * VECTORS",
        "blockIdx.x * TILE + column < 5 * VECTORS",
    ),
    (
        "matrix",
        "lower tiles too",
        "if (blockIdx.x < blockIdx.y) return;",
        "if (blockIdx.x < blockIdx.y && threadIdx.x < 32) return;",
    ),
    ("matrix", "rows of A beyond", "q < VECTORS && a < m", "q < VECTORS && a <= m"),
    ("matrix", "columns of C beyond", "i + r < m && j < pitch", "i + r < m && j <= pitch"),
    ("matrix", "ids not looked up", "(b < n && ids ? ids[b] : b)", "b"),
    ("matrix", "a tile too narrow", "PITCH = TILE + 4", "PITCH = TILE - 4"),
    ("matrix", "a misaligned tile", "PITCH = TILE + 4", "PITCH = TILE + 1"),
    ("topk", "candidates not counted by atomics", "keys[atomicAdd(count, 1)] = key", "keys[(*count)++] = key"),
    ("topk", "no room for a step", "n > capacity - STEP) sort(n);", "n >= capacity) sort(n);"),
    (
        "topk",
        "the rest of the buffer not cleared",
        "for (int i = n + threadIdx.x; i < size;",
        "for (int i = size + threadIdx.x; i < size;",
    ),
    (
        "topk",
        "a warp that sorts in the wrong order",
        "if (takes_larger == (key < other))",
        "if (takes_larger != (key < other))",
    ),
    ("topk", "the end of a part not sorted", "best.step(first + STEP >= end)", "best.step(false)"),
    ("topk", "the threshold one too high", "*threshold = keys[k - 1]", "*threshold = keys[k - 2]"),
    ("topk", "ties by descending id", "| ~unsigned(id)", "| unsigned(id)"),
    ("topk", "minus zero below zero", "score + 0.0f : LOWEST", "score : LOWEST"),
    ("topk", "excluded only by pairs", " || contains(dropped, 0, n_dropped, id)", ""),
    ("topk", "the padding of a row", "if (column >= end) continue;", ""),
    (
        "topk",
        "a barrier that some threads pass by",
        "if (last || n > capacity - STEP) sort(n);",
        "if (last || *count > capacity - STEP) sort(n);",
    ),
    ("topk", "one key too many", "i < k; i += THREADS) {\n        ids[", "i <= k; i += THREADS) {\n        ids["),
    ("topk", "search beyond the row", "indptr[blockIdx.y + 1] : 0)", "indptr[blockIdx.y + 1] + 900 : 0)"),
    ("bpr", "additions that are not atomic", "atomicAdd(row + f, change);", "row[f] += change;"),
    (
        "bpr",
        "sums that are not atomic",
        "atomicAdd(sums + f, Bits(__float2ll_rn(change * UNIT)));",
        "sums[f] += Bits(__float2ll_rn(change * UNIT));",
    ),
    ("bpr", "sums that stay", "atomicExch(sums + f, Bits(0))", "sums[f]"),
    ("bpr", "slots that are not atomic", "atomicExch(X_slots + triple.user, int(i));", "X_slots[triple.user] = i;"),
    ("bpr", "items share slots with others", "atomicExch(Y_slots + triple.disliked, int(2 * i + 1));", ""),
    ("bpr", "reads that are not atomic", "liked = relaxed(liked_row + f)", "liked = liked_row[f]"),
    ("bpr", "the bias of users drifts", "if (f < FACTORS - 1) x_row.add", "x_row.add"),
    (
        "bpr",
        "one column too many",
        "if (f >= FACTORS) continue;\n            if",
        "if (f > FACTORS) continue;\n            if",
    ),
    ("bpr", "every lane counts", "if (lane == 0) {", "{"),
    ("bpr", "nine rounds", "round < 10", "round < 9"),
    ("bpr", "the same item twice", "if (triple.liked == triple.disliked ||", "if ("),
    (
        "bpr",
        "the wrong row",
        "contains(indices, indptr[triple.user], indptr[triple.user + 1]",
        "contains(indices, indptr[triple.user], indptr[triple.user]",
    ),
]


@pytest.mark.parametrize(("file", "name", "old", "new"), BUGS, ids=lambda value: value)
def test_a_planted_bug_has_a_place(file, name, old, new):
    kernel = next(kernel for kernel, its_file in launches.FILES.items() if its_file == file)
    assert new in Launcher(changes=((old, new),)).source(kernel)


@pytest.mark.parametrize(("file", "name", "old", "new"), BUGS if EVERYTHING else BUGS[::8], ids=lambda value: value)
def test_a_planted_bug_is_seen(file, name, old, new):
    right, errors = try_out(file, (old, new))
    assert errors or not right
