"""The stand-in for CuPy has the names of CuPy, and refuses what goes wrong on a GPU."""

import ast
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

import fakecupy as fake
import numpy as np
import pytest
from emulator import KernelError, nvrtc

import implicit_core.gpu

SOURCES = sorted(Path(implicit_core.gpu.__file__).parent.glob("*.py"))
KERNEL = """
extern "C" __global__ void add(int n, const float *x, float *y) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] += x[i];
}
"""


@pytest.fixture(scope="module")
def real():
    """CuPy itself, which can be imported without a GPU."""
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    before = sys.modules.pop("cupy", None)
    import cupy

    yield cupy
    if before is not None:
        sys.modules["cupy"] = before


def used_names():
    """Dotted names under ``cp`` in the package."""
    names = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            parts = []
            while isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            if parts and isinstance(node, ast.Name) and node.id == "cp":
                names.add(".".join(reversed(parts)))
    return sorted(names)


def find(module, name):
    """What a dotted name stands for; arrays and modules of instances have what their classes have."""
    for part in name.split("."):
        module = getattr(module, part)
    return module


NAMES = used_names()


def test_the_stand_in_has_the_names_that_the_package_uses():
    assert {"ndarray", "zeros", "asarray", "RawModule", "cuda.Device"} <= set(NAMES)
    for name in NAMES:
        find(fake, name)


@pytest.mark.parametrize("name", NAMES)
def test_cupy_has_the_names_that_the_package_uses(name, real):
    find(real, name)


@pytest.mark.parametrize("shape", [(0, 8), (1, 8), (3, 8)])
def test_strides_and_owners_are_those_of_cupy(shape, real):
    held = np.zeros(512, np.uint8)
    memory = real.cuda.MemoryPointer(real.cuda.UnownedMemory(held.ctypes.data, len(held), held, 0), 0)
    theirs, mine = real.ndarray(shape, np.float32, memptr=memory), fake.zeros(shape, np.float32)
    assert mine.strides == theirs.strides
    for where in (np.s_[:, :5], np.s_[1:], np.s_[:0], np.s_[::2]):
        one, two = mine[where], theirs[where]
        assert (one.shape, one.strides) == (two.shape, two.strides)
        assert one.base is mine
        assert two.base is theirs
        assert one[:1].base is mine
        assert two[:1].base is theirs


def test_the_emulator_compiles_with_the_options_of_cupy(real, monkeypatch):
    compiler, given = importlib.import_module("cupy.cuda.compiler"), []

    class Compiled(Exception): ...

    class Program:
        def __init__(self, *_, **__): ...

        def compile(self, options, *_):
            given.extend(options)
            raise Compiled

    monkeypatch.setattr(compiler, "_NVRTCProgram", Program)
    for name, value in (
        *(("_get_arch_for_options_for_nvrtc", ("-arch=sm_80", "cubin")), ("_get_nvrtc_version", (12, 9))),
        *(("_use_ptx", False), ("_get_cupy_cache_key", ""), ("_preprocess", "")),
    ):
        monkeypatch.setattr(compiler, name, lambda *_, value=value, **__: value)
    with pytest.raises(Compiled):
        compiler._compile_with_cache_cuda("", ("-std=c++17",), "80", None)
    assert set(given) == {"-std=c++17", "-arch=sm_80", *nvrtc.OF_CUPY}


def public(kind):
    return [name for name in vars(kind) if not name.startswith("_")]


OWN = {"Settings", "Allocator", "settings", "allocator", "launches", "SHARED_MEMORY", "REGISTERS", "ALIGNMENT"}


def test_the_stand_in_invents_nothing(real):
    """Each public name of the stand-in, and each of its classes' attributes, is one of CuPy."""
    names = {
        name
        for name, value in vars(fake).items()
        if not name.startswith("_")
        and getattr(value, "__module__", fake.__name__) == fake.__name__
        and not inspect.ismodule(value)
    }
    places = {"OutOfMemoryError": real.cuda.memory, "CUDARuntimeError": real.cuda.runtime, "Device": real.cuda}
    places["runtime"] = real.cuda
    for name in names - OWN - {"annotations"}:
        assert hasattr(places.get(name, real), name), name
    pairs = [(fake.ndarray, real.ndarray), (fake.RawModule, real.RawModule), (fake.RawKernel, real.RawKernel)]
    for mine, theirs in [*pairs, (fake.Device, real.cuda.Device), (fake._Pool, real.cuda.MemoryPool)]:
        for name in public(mine):
            assert hasattr(theirs, name), (theirs, name)
    for mine, theirs in ((fake.cuda, real.cuda), (fake.runtime, real.cuda.runtime)):
        for name in vars(mine):
            assert hasattr(theirs, name), name


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: np.asarray(x), TypeError),
        (lambda x: x + np.ones(4, np.float32), TypeError),
        (lambda x: np.ones(4, np.float32) * x, TypeError),
        (lambda x: x[np.array([0, 1])], TypeError),
        (lambda x: x.__setitem__(slice(None), np.ones(4, np.float32)), TypeError),
        (lambda x: fake.empty(4).get(), KernelError),
        (lambda x: fake.empty(4).sum(), KernelError),
    ],
    ids=["asarray", "add", "multiply", "index", "assign", "unwritten", "sum of unwritten"],
)
def test_what_goes_wrong_on_a_gpu_is_refused(call, error):
    with pytest.raises(error):
        call(fake.asarray(np.arange(4, dtype=np.float32)))


def test_views_share_memory_and_know_their_owner():
    x = fake.zeros((4, 6), np.float32)
    view = x[1:, :3][1:]
    assert view.base is x
    view[...] = 2
    assert x.get()[2:, :3].sum() == 12
    part = fake.empty((4, 6), np.float32)
    part[:, :3] = 1
    assert part[:, :3].get().sum() == 12
    with pytest.raises(KernelError):
        part.get()


def test_memory_is_counted_and_bounded(monkeypatch):
    before = fake.allocator.used
    x = fake.zeros(1000, np.float32)
    view = x[10:]
    del x
    assert fake.allocator.used == before + 4096
    del view
    assert fake.allocator.used == before
    monkeypatch.setattr(fake.settings, "memory", before + 1024)
    with pytest.raises(MemoryError):
        fake.empty(1000)


@pytest.fixture
def launch(cupy):
    if cupy is not fake:
        pytest.skip("of the stand-in alone")
    kernel = fake.RawModule(code=KERNEL).get_function("add")

    def run(n=np.int32(4), x=None, grid=(1,), threads=32, args=None, shared=0):  # noqa: B008  # scalars do not change
        x = fake.zeros(4, np.float32) if x is None else x
        y = fake.zeros(4, np.float32)
        kernel(grid, (threads,), (n, x, y) if args is None else args, shared_mem=shared)
        return y.get()

    return run


def test_a_kernel_runs(launch):
    assert launch(x=fake.asarray(np.arange(4, dtype=np.float32))).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"n": 4}, TypeError),
        ({"n": np.int64(4)}, KernelError),
        ({"x": np.zeros(4, np.float32)}, (TypeError, KernelError)),
        ({"x": fake.zeros(8, np.float32)[::2]}, TypeError),
        ({"x": fake.empty(4, np.float32)}, KernelError),
        ({"n": np.int32(5)}, KernelError),
        ({"threads": 1025}, RuntimeError),
        ({"grid": (0,)}, RuntimeError),
        ({"grid": (1, 65536)}, RuntimeError),
        ({"shared": 49 * 1024}, RuntimeError),
        ({"args": (np.int32(4),)}, KernelError),
    ],
    ids=lambda change: str(next(iter(change))) if isinstance(change, dict) else "",
)
def test_a_launch_that_goes_wrong_on_a_gpu_is_refused(launch, change, error):
    with pytest.raises(error):
        launch(**change)


def test_more_shared_memory_must_be_asked_for_and_be_there(cupy):
    if cupy is not fake:
        pytest.skip("of the stand-in alone")
    kernel = fake.RawModule(code=KERNEL).get_function("add")
    x = fake.zeros(4, np.float32)
    with pytest.raises(RuntimeError, match="shared"):
        kernel((1,), (32,), (np.int32(4), x, x), shared_mem=100 * 1024)
    kernel.max_dynamic_shared_size_bytes = 100 * 1024
    y = fake.zeros(4, np.float32)
    kernel((1,), (32,), (np.int32(4), x, y), shared_mem=100 * 1024)
    with pytest.raises(RuntimeError, match="shared"):
        kernel.max_dynamic_shared_size_bytes = 200 * 1024
