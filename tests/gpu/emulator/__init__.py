"""Runs CUDA kernels on the CPU and checks what they do: bounds, initialisation, data races, barriers, shuffles.

:func:`load` gives the source to NVIDIA's own compiler (:mod:`emulator.nvrtc`), translates the PTX that comes out into
C++ (:mod:`emulator.ptx`), and compiles that with the run-time ``runtime.hpp``, in which each CUDA thread is a fiber.
Kernels take NumPy arrays where a GPU takes pointers.

>>> module = load(source, ("-DFACTORS=64",), arch=80)
>>> kernel = module.get_function("als_cg")
>>> kernel((4,), (128,), (x, np.int32(3)), shared_mem=1024)
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emulator import nvrtc, ptx

HERE = Path(__file__).parent
ORDERS = {"ascending": 0, "descending": 1, "random": 2}


class KernelError(RuntimeError):
    """A kernel did what it must not; the text lists each place once."""


@dataclass(frozen=True)
class Checks:
    """What is checked during a launch, and in which order blocks and threads run."""

    order: str = "ascending"  #: or "descending", or "random" by ``seed``
    seed: int = 1
    races: bool = True
    initialised: bool = True
    costs: bool = False  #: count memory transactions by source line


@dataclass(frozen=True)
class Cost:
    """The memory transactions of a source line.

    ``moved`` and ``ideal`` count sectors of 32 bytes (global memory) or passes over the banks (shared memory): those
    that the requests took, and those that the same bytes would take without gaps.
    """

    place: str  #: the source line, then those that it was inlined at
    space: str  #: "global" or "shared"
    requests: int
    moved: int
    ideal: int


@dataclass
class Report:
    """What came of a launch."""

    errors: list[str]
    costs: list[Cost] = field(default_factory=list)


def missing(nvrtc_too: bool = True) -> str:
    """What :func:`load` needs and this machine lacks, with the command that mends it; empty if nothing."""
    if platform.machine() not in ("x86_64", "AMD64") or shutil.which("g++") is None:
        return "the emulator needs g++ and a processor of the x86-64 kind"
    if nvrtc_too and nvrtc.library() is None:
        return "NVRTC is missing; pip install nvidia-cuda-nvrtc-cu12==12.9.86"
    return ""


_one_at_a_time = threading.Lock()  # the run-time keeps one launch

default = Checks()  #: of launches that give none; tests may replace it


def load(source: str, defines: Iterable[str] = (), arch: int = 80, name: str = "kernel.cu") -> Module:
    """Compile a CUDA source for an architecture, given as its compute capability times ten.

    ``defines`` are options of the compiler such as ``-DFACTORS=64``. Raises :class:`nvrtc.CompileError`, and
    :class:`ptx.Unsupported` for an instruction that the emulator does not know.
    """
    return _load(source, tuple(defines), arch, name)


@cache
def _load(source: str, defines: tuple[str, ...], arch: int, name: str) -> Module:
    return Module(nvrtc.compiler().ptx(source, name, arch, defines))


class Module:
    """The kernels of a PTX module."""

    def __init__(self, text: str):
        self.ptx = text
        self.translated = ptx.Module(text)
        _runtime()
        self._lib = ctypes.CDLL(str(_shared_library(self.translated.cpp())))

    def get_function(self, name: str) -> Kernel:
        """The kernel of this name."""
        if name not in self.translated.parameters:
            raise KernelError(f"no kernel {name!r}; there are {', '.join(self.translated.parameters)}")
        return Kernel(self.translated, getattr(self._lib, f"kernel_{name}"), name)


class Kernel:
    """A kernel that is called as CuPy's are."""

    def __init__(self, module: ptx.Module, function: Any, name: str):
        self._module = module
        self._function = function
        self.name = name
        self.sizes = [parameter.size for parameter in module.parameters[name].values()]  #: bytes of each parameter

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0
    ) -> Report:
        """Run the kernel; raise :class:`KernelError` if a check fails."""
        report = self.run(grid, block, args, shared_mem=shared_mem)
        if report.errors:
            raise KernelError("\n".join(report.errors))
        return report

    def run(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        checks: Checks | None = None,
        **changes: Any,
    ) -> Report:
        """Run the kernel and report what the checks found.

        Parameters
        ----------
        grid, block : up to three ints
        args : sequence
            NumPy scalars of the size of the parameter, None for a null pointer, arrays for pointers. A kernel may not
            write to an array that is not writeable. A pair (array, mask) stands for memory that may not have been
            written yet: ``mask`` has a uint8 for each byte, 1 where it has been; the kernel's writes set it.
        shared_mem : int
            Bytes of dynamic shared memory.
        checks, **changes
            See :class:`Checks`; default :data:`default`.
        """
        checks = replace(checks or default, **changes)
        if len(args) != len(self.sizes):
            raise KernelError(f"{self.name} takes {len(self.sizes)} arguments, got {len(args)}")
        parameters = bytearray()
        memory = _Memory()
        for position, (arg, size) in enumerate(zip(args, self.sizes, strict=True)):
            value = memory.pointer(arg, f"arg{position}") if not isinstance(arg, np.generic) else arg
            if value.nbytes != size:
                raise KernelError(f"{self.name}, argument {position}: {value.nbytes} bytes for a parameter of {size}")
            parameters += bytes(-len(parameters) % size) + value.tobytes()
        sizes = [np.array([*extent, 1, 1][:3], np.uint32) for extent in (grid, block)]
        extents = np.array([*self._module.shared, (self._module.dynamic_shared, shared_mem)], np.uint64)
        runtime = _runtime()
        with _one_at_a_time:
            runtime.set_options(ORDERS[checks.order], checks.seed, checks.races, checks.initialised, checks.costs)
            for start, size, mask, read_only, label in memory.ranges():
                runtime.allocate(start, size, mask, read_only, label.encode())
            places = (size.ctypes.data for size in sizes)
            runtime.launch(self._function, bytes(parameters), *places, extents.ctypes.data, len(extents))
            errors = re.sub(r"@(\d+)@", lambda place: self._place(int(place[1])), runtime.get_reports().decode())
            return Report(errors.splitlines(), self._costs(runtime) if checks.costs else [])

    def _place(self, where: int) -> str:
        return self._module.places.get(where, "?")

    def _costs(self, runtime: ctypes.CDLL) -> list[Cost]:
        rows = np.zeros((len(self._module.places), 5), np.uint64)
        found = runtime.get_costs(rows.ctypes.data, len(rows))
        sums: dict[tuple[str, str], list[int]] = {}
        for where, shared, *counts in rows[:found].tolist():
            total = sums.setdefault((self._place(where), "shared" if shared else "global"), [0, 0, 0])
            total[:] = (a + b for a, b in zip(total, counts, strict=True))
        return [Cost(*place, *counts) for place, counts in sums.items()]


class _Memory:
    """The ranges of memory that the arguments of a launch give access to."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, int | None, bool, str]] = []

    def pointer(self, arg: Any, label: str) -> np.uint64:
        array, mask = arg if isinstance(arg, tuple) else (arg, None)
        if array is None:
            return np.uint64(0)
        if not isinstance(array, np.ndarray):
            raise KernelError(f"{label}: a NumPy scalar, an array or None is needed, got {type(array).__name__}")
        start = stop = array.ctypes.data
        if array.size:
            ends = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
            start, stop = (
                start + sum(min(end, 0) for end in ends),
                stop + sum(max(end, 0) for end in ends) + array.itemsize,
            )
        self._ranges.append(
            (start, stop, mask.ctypes.data if mask is not None else None, not array.flags.writeable, label)
        )
        return np.uint64(array.ctypes.data)

    def ranges(self) -> Iterable[tuple[int, int, int | None, bool, str]]:
        """(start, size, mask, read-only, label), arrays that overlap as one."""
        merged: list[tuple[int, int, int | None, bool, str]] = []
        for start, stop, mask, read_only, label in sorted(self._ranges, key=lambda r: r[:2]):
            if merged and start < merged[-1][1]:
                first, last, its_mask, its_read_only, its_label = merged[-1]
                its_mask = its_mask if stop <= last else None  # a mask is as long as its array
                merged[-1] = (first, max(last, stop), its_mask, its_read_only and read_only, f"{its_label}/{label}")
            else:
                merged.append((start, stop, mask, read_only, label))
        return [(start, stop - start, *rest) for start, stop, *rest in merged]


@cache
def _cache_folder() -> Path:
    folder = Path(os.environ.get("EMULATOR_CACHE") or Path(tempfile.gettempdir()) / f"ptx-emulator-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _compiled(code: str, name: str, *options: str) -> Path:
    """The shared library that g++ makes of C++ code, kept in a folder for temporary files."""
    headers = (path.read_text() for path in sorted(HERE.glob("*.hpp")))
    key = hashlib.sha256("\0".join((code, *headers, *options)).encode()).hexdigest()[:24]
    path = _cache_folder() / f"{name}-{key}.so"
    if not path.exists():
        written = path.with_suffix(f".{os.getpid()}")
        command = ["g++", "-std=c++17", "-shared", "-fPIC", *options, f"-I{HERE}", "-x", "c++", "-", "-o", str(written)]
        subprocess.run(command, input=code.encode(), check=True)
        written.rename(path)
    return path


def _shared_library(code: str) -> Path:
    return _compiled(code, "kernels", "-O1", "-mfma", "-ffp-contract=off", "-fno-strict-aliasing", "-frounding-math")


@cache
def _runtime() -> ctypes.CDLL:
    path = _compiled((HERE / "runtime.cpp").read_text(), "runtime", "-O2")
    runtime = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)  # kernels find its functions there
    pointer, text, whole, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_int
    runtime.set_options.argtypes = [number, whole, number, number, number]
    runtime.allocate.argtypes = [whole, whole, pointer, number, text]
    runtime.launch.argtypes = [pointer, text, pointer, pointer, pointer, ctypes.c_uint32]
    runtime.get_reports.restype = text
    runtime.get_costs.argtypes = [pointer, ctypes.c_uint32]
    return runtime
