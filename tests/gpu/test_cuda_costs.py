"""What the kernels take of a GPU: registers, memory transactions; and that their offsets have 64 bits."""

import mmap
from importlib import resources

import emulator
import launches
import numpy as np
import pytest
from emulator import nvrtc
from launches import EVERYTHING, Launcher, frozen

from implicit_core import gpu
from implicit_core.gpu._sources import source

pytestmark = pytest.mark.skipif(bool(emulator.missing()), reason=emulator.missing())

COMPILED = {  # file: shapes as (factors, half)
    "als_cg": [(f, half) for f in (1, 16, 32, 37, 64, 100, 128, 150, 200, 256) for half in (0, 1)],
    "als_split": [(f, half) for f in (1, 64, 100, 128, 256, 512, 1024, 3000) for half in (0, 1)],
    "loss": [(f, half) for f in (1, 64, 100, 1024) for half in (0, 1)],
    "matrix": [(f, half) for f in (1, 64, 100, 1024) for half in (0, 1)],
    "bpr": [(f, 0) for f in (2, 65, 101, 257, 513, 4097)],
    "topk": [(1, 0)],
}
MOST_REGISTERS = {
    "als_cg": 96,
    "als_chunks": 144,
    "als_step": 64,
    "stored_error": 72,
    "gram": 72,
    "product": 72,
    "topk_select": 48,
    "topk_merge": 56,
    "topk_keys": 40,
    "topk_scores": 32,
    "bpr": 168,
    "bpr_slots": 40,
    "bpr_apply": 64,
}
MORE_REGISTERS = {
    107: {"bpr_slots": 56, "bpr_apply": 72, "product": 80}
}  # what the compiler takes for some architectures


def matrix_of_shapes():
    archs = launches.architectures(compiled=True)
    for file, shapes in COMPILED.items():
        for factors, half in shapes if EVERYTHING else shapes[::4]:
            for arch in archs:
                yield file, factors, half, arch


@pytest.mark.parametrize(("file", "factors", "half", "arch"), list(matrix_of_shapes()))
def test_no_kernel_spills_registers_or_takes_too_many(file, factors, half, arch):
    for exact in (0, 1) if file == "als_cg" else (0,):
        options = f"-DFACTORS={factors}", f"-DHALF={half}", f"-DEXACT={exact}"
        found = nvrtc.compiler().resources(source(file), f"{file}.cu", arch, options)
        assert set(found) == {kernel for kernel, its_file in launches.FILES.items() if its_file == file}
        for kernel, its in found.items():
            assert (its.stack, its.spilled) == (0, 0), kernel
            most = MORE_REGISTERS.get(arch, {}).get(kernel, MOST_REGISTERS[kernel])
            assert its.registers <= most, kernel
            assert its.shared <= 16384, kernel


def costs(factors, half, launch):
    launcher = Launcher(factors, half, checks=emulator.Checks(costs=True, races=False))
    launch(launcher)
    assert launcher.errors == []
    assert launcher.costs
    return launcher.costs


def line_of(file, text):
    """The place of the source line with a text."""
    lines = resources.files(gpu).joinpath(f"{file}.cu").read_text().split("\n")
    (number,) = (i for i, line in enumerate(lines, 1) if text in line)
    return f"{file}.cu:{number} "


def solve_and_more(launcher):
    factors, half = launcher.factors, launcher.half
    given = launches.problem(factors, half)
    launcher.als_cg(given, kept=8)
    launcher.als_split(given, chunk=64)
    launcher.stored_error(given, chunk=64)
    launcher.gram(launches.problem(factors, half, items=150).Y, 80)
    launcher.product(given.X.astype(np.float32), launches.problem(factors, half, items=128).Y)


def check_sectors(found, allowed=1.1):
    """Rows are read and written without gaps; single numbers of neighbours may lie in two sectors."""
    for cost in found:
        if cost.space == "global" and "search.cuh" not in cost.place:
            neighbours = cost.ideal <= cost.requests and cost.moved <= 2 * cost.ideal
            assert neighbours or cost.moved <= allowed * cost.ideal, cost


def check_banks(found, allowed=1.1):
    for cost in found:
        if cost.space == "shared":
            assert cost.moved <= allowed * cost.ideal + 8, cost


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("factors", [32, 37, 64, 100, 128] if EVERYTHING else [37, 64])
def test_solving_moves_no_more_than_the_rows(factors, half):
    found = costs(factors, half, solve_and_more)
    filled = factors % 16 == 0 or (not half and factors % 8 == 0)
    check_sectors(found, 1.1 if filled else 1.25)  # the end of a row fills no whole sector, but no row has two
    check_banks(found)


class WithoutSlots(Launcher):
    """A launcher that does not count `bpr_slots`, a lane of which looks up numbers of its own at random places."""

    def __call__(self, kernel, *args, **options):
        before = len(self.costs)
        super().__call__(kernel, *args, **options)
        if kernel == "bpr_slots":
            del self.costs[before:]


@pytest.mark.parametrize("at_once", [0, 100])
def test_steps_of_bpr_move_no_more_than_the_rows(at_once):
    for factors in (16, 64, 129):
        launcher = WithoutSlots(factors, checks=emulator.Checks(costs=True, races=False))
        launcher.bpr(launches.problem(factors), 300, at_once=at_once)
        assert launcher.errors == []
        assert launcher.costs
        check_sectors(launcher.costs)


def test_topk_reads_scores_once():
    case = launches.ranking(30000, rows=1, levels=1e6)
    found = costs(1, False, lambda launcher: launcher.topk(case, 10))
    check_sectors(found)
    taken = line_of("topk", "keys[atomicAdd(count, 1)]")  # threads take places one after another here, not side by side
    check_banks(cost for cost in found if taken not in cost.place)
    place = line_of("topk", "found[c] = key_of(norms")
    (cost,) = (cost for cost in found if place.strip() in cost.place)
    assert cost.moved == 3 * 30000 // 8  # with the norms and the ids


def test_rows_kept_in_shared_memory_are_read_once():
    given = launches.problem(64)
    entries = len(given.counts.indices)

    def rows_read(kept):
        found = costs(64, False, lambda launcher: launcher.als_cg(given, steps=3, kept=kept))
        place = line_of("als_cg", "Row::load(Y + ")
        moved = sum(cost.moved for cost in found if cost.space == "global" and f" < {place}" in cost.place)
        return moved / (8 * entries)

    assert rows_read(0) == pytest.approx(4, rel=0.05)
    assert rows_read(50) == pytest.approx(1, rel=0.05)


class Vast:
    """Memory that is given only to the pages that are touched."""

    def __init__(self, rows, width, dtype=np.float32):
        size = rows * width * np.dtype(dtype).itemsize
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
        self.array = np.frombuffer(self._map, dtype).reshape(rows, width)


VAST_ROWS = 2**31 // 64 + 100  # of 64 elements: the last rows lie beyond 2^31 elements
FAR = np.arange(VAST_ROWS - 50, VAST_ROWS)


def far_problem(users=20):
    """A problem whose users and items are the last of very many, and the same problem alone."""
    near = launches.problem(64, users=users, items=50)
    return near, Vast(VAST_ROWS, 64).array, Vast(VAST_ROWS, 64).array


UNCHECKED = emulator.Checks(races=False, initialised=False)


def far_als_cg(launcher):
    near, X, Y = far_problem()
    expected = Launcher(64).als_cg(near)
    X[FAR[:20]], Y[FAR] = near.X, near.Y
    indptr = Vast(VAST_ROWS + 1, 1, np.int64).array.ravel()
    indptr[FAR[0] : FAR[0] + 21] = near.counts.indptr
    diag = Vast(VAST_ROWS, 1).array.ravel()
    diag[FAR[:20]] = near.diag
    indices = near.counts.indices + np.int32(FAR[0])
    rows = FAR[:20].astype(np.int32)
    launcher(
        "als_cg", 5, 128, rows, np.int32(20), indptr, indices, near.counts.values, *near.policy_args(), X, Y,
        launcher.padded(near.gram), diag, np.int32(3), np.int32(4), None,
        shared_mem=256 * 68 + 256 * 16,
    )  # fmt: skip
    np.testing.assert_array_equal(X[FAR[:20]], expected)


def far_entries(launcher):
    near, X, Y = far_problem()
    X[FAR[:20]], Y[FAR] = near.X, near.Y
    owners, starts, stops, _ = launches.chunks(near.counts.indptr, np.arange(20), 16)
    shift = 2**31 + 5
    indices, values = Vast(shift + 1000, 1, np.int32).array.ravel(), Vast(shift + 1000, 1).array.ravel()
    indices[shift : shift + len(near.counts.indices)] = near.counts.indices + FAR[0]
    values[shift : shift + len(near.counts.indices)] = near.counts.values
    errors = np.zeros(len(owners))
    launcher(
        "stored_error", 3, 128, np.int32(len(owners)), (owners + FAR[0]).astype(np.int32), starts + shift,
        stops + shift, indices, values, *near.policy_args(), X, Y, errors,
    )  # fmt: skip
    assert errors.sum() == Launcher(64).stored_error(near)
    partial, expected = np.zeros((len(owners), 64), np.float32), np.zeros((len(owners), 64), np.float32)
    arguments = (*near.policy_args(), launcher.padded(near.X))
    launcher(
        "als_chunks", (3, 1), 128, np.int32(len(owners)), owners, starts + shift, stops + shift, indices, values,
        *arguments, Y, np.int32(1), partial,
    )  # fmt: skip
    Launcher(64)(
        "als_chunks", (3, 1), 128, np.int32(len(owners)), owners, starts, stops, *near.entries()[1:], *arguments,
        launcher.padded(near.Y), np.int32(1), expected,
    )  # fmt: skip
    np.testing.assert_array_equal(partial, expected)


def far_product(launcher):
    near, _, B = far_problem()
    B[FAR] = near.Y
    pitch = 2**31
    C = Vast(2, pitch).array
    launcher(
        "product", (1, 1), 256, launcher.padded(near.X[:2]), np.int32(2), B, FAR.astype(np.int32), np.int32(50), C,
        np.int64(pitch),
    )  # fmt: skip
    np.testing.assert_array_equal(C[:, :50], Launcher(64).product(near.X[:2], near.Y))


def far_gram(launcher):
    near, _, Y = far_problem()
    Y[FAR] = near.Y
    partial = np.zeros((2, 64, 64), np.float32)
    launcher("gram", (1, 1, 2), 256, Y, np.int64(VAST_ROWS), np.int32(FAR[0]), partial)
    np.testing.assert_array_equal(np.triu(partial[1]), Launcher(64).gram(near.Y, 50))


def far_topk(launcher):
    near = launches.ranking(300, rows=3)
    scores = Vast(3, 2**31 // 2 + 500).array
    scores[:, :300] = near.scores[:, :300]
    case = launches.Ranking(frozen(scores), *(getattr(near, name) for name in ("n", "ids", "norms", "exclude", "drop")))
    for found in (launcher.topk(case, 10), launcher.topk_by_sort(case, 10)):
        for got, expected in zip(found, near.best(10), strict=True):
            np.testing.assert_array_equal(got, expected)


def far_bpr(launcher):
    near, X, Y = far_problem(users=50)
    near.X[:, -1] = 1
    X[FAR], Y[FAR] = near.X, near.Y
    indices = near.counts.indices + np.int32(FAR[0])
    users = launches.rows_of(near.counts) + np.int32(FAR[0])
    indptr = Vast(VAST_ROWS + 1, 1, np.int64).array.ravel()
    indptr[FAR[0] : FAR[0] + 51] = near.counts.indptr
    launcher(
        "bpr", 1, 32, np.uint64(launches.BPR_KEY), np.uint32(launches.BPR_EPOCH), np.int64(0), np.int64(200), users,
        indices, np.int64(len(indices)), X, Y, None, None, None, None, indptr, np.float32(0.05), np.float32(0.01),
        np.int32(1), np.zeros(2, np.uint64),
    )  # fmt: skip
    expected = Launcher(64).bpr(near, 200)
    np.testing.assert_array_equal(X[FAR], expected[0])
    np.testing.assert_array_equal(Y[FAR], expected[1])


FAR_LAUNCHES = [  # and offsets that are too narrow, each of which must be seen
    (
        far_als_cg,
        [
            ("int64(indices[k]) * STRIDE", "int(unsigned(indices[k]) * STRIDE)"),
            ("int64(u) * STRIDE", "int(unsigned(u) * STRIDE)"),
        ],
    ),
    (
        far_entries,
        [
            ("const int64 k = first + team;\n            float s", "const int k = first + team;\n            float s"),
            ("X + int64(owners[c]) * STRIDE", "X + int(unsigned(owners[c]) * STRIDE)"),
        ],
    ),
    (far_product, [("(b < n && ids ? ids[b] : b) * STRIDE", "int((b < n && ids ? ids[b] : b) * STRIDE)")]),
    (far_gram, [("Y + (first + depth) * STRIDE", "Y + int((first + depth) * STRIDE)")]),
    (far_topk, [("scores + blockIdx.y * pitch;", "scores + int(blockIdx.y * pitch);")]),
    (far_bpr, [("row(factors + id * STRIDE)", "row(factors + int(unsigned(id) * STRIDE))")]),
]


@pytest.mark.parametrize("launch", [launch for launch, _ in FAR_LAUNCHES])
def test_offsets_have_64_bits(launch):
    launcher = Far(64, checks=UNCHECKED)
    launch(launcher)
    assert launcher.errors == []


class Far(Launcher):
    """A launcher that changes the sources which have the text, and lets `gram` do nothing but its second slice."""

    def source(self, kernel):
        text = source(launches.FILES[kernel])
        for old, new in (*self.changes, ("if (blockIdx.x < blockIdx.y) return;", "if (blockIdx.z == 0) return;")):
            text = text.replace(old, new)
        return text


@pytest.mark.parametrize(
    ("launch", "change"), [(launch, change) for launch, changes in FAR_LAUNCHES for change in changes]
)
def test_an_offset_of_32_bits_is_seen(launch, change):
    launcher = Far(64, changes=(change,), checks=UNCHECKED)
    try:
        launch(launcher)
        right = True
    except AssertionError:  # what was read is of another array
        right = False
    assert launcher.errors or not right
