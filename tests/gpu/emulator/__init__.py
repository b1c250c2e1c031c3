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
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """Memory transactions of the requests of a source line.

    ``moved`` and ``ideal`` count sectors of 32 bytes (global memory) or passes over the banks (shared memory): those
    that the requests took, and those that the same bytes would take without gaps.
    """

    line: int
    space: str
    requests: int
    moved: int
    ideal: int


@dataclass
class Report:
    """What came of a launch."""

    errors: list[str]
    costs: list[Cost] = field(default_factory=list)


default = Checks()  #: of launches that give none; tests may replace it


def load(source: str, defines: Iterable[str] = (), arch: int = 80, name: str = "kernel.cu") -> Module:
    """Compile a CUDA source for an architecture, given as its compute capability times ten.

    ``defines`` are options of the compiler such as ``-DFACTORS=64``. Raises :class:`nvrtc.CompileError`, and
    :class:`ptx.Unsupported` for an instruction that the emulator does not know.
    """
    return _load(source, tuple(defines), arch, name)


@cache
def _load(source: str, defines: tuple[str, ...], arch: int, name: str) -> Module:
    return Module(nvrtc.compiler().ptx(source, name, arch, defines), name)


class Module:
    """The kernels of a source."""

    def __init__(self, text: str, name: str = "kernel.cu"):
        translated = ptx.Module(text, name)
        self.ptx = text
        self._parameters = {kernel: translated.parameters(kernel) for kernel in translated.kernels}
        self._lib = _shared_library(translated.cpp())

    def get_function(self, name: str) -> Kernel:
        """The kernel of this name."""
        if name not in self._parameters:
            raise KernelError(f"no kernel {name!r}; there are {', '.join(self._parameters)}")
        return Kernel(self._lib, name, self._parameters[name])


class Kernel:
    """A kernel that is called as CuPy's are."""

    def __init__(self, lib: ctypes.CDLL, name: str, sizes: list[int]):
        self._lib = lib
        self.name = name
        self.sizes = sizes  #: bytes of each parameter

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
        lib, state = self._lib, self._lib.emu_new()
        lib.emu_opts(state, checks.races, checks.initialised, ORDERS[checks.order], checks.seed)
        lib.emu_clear(state)
        lib.emu_prof(state, checks.costs)
        for start, size, mask, read_only, label in memory.ranges():
            lib.emu_alloc(state, start, size, mask, read_only, label.encode())
        sizes = [np.array([*extent, 1, 1][:3], np.uint32) for extent in (grid, block)]
        lib.emu_launch(
            state, self.name.encode(), sizes[0].ctypes.data, sizes[1].ctypes.data, shared_mem, bytes(parameters) or b"\0"
        )
        text = ctypes.create_string_buffer(1 << 16)
        lib.emu_errors(state, text, len(text))
        rows = np.zeros((4096, 6), np.uint64)
        found = lib.emu_prof_get(state, rows.ctypes.data, len(rows))
        costs = [
            Cost(line, "shared" if shared else "global", requests, moved, ideal)
            for line, _, shared, requests, moved, ideal in rows[:found].tolist()
        ]
        return Report(text.value.decode().splitlines(), costs)


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
        start, stop = np.lib.array_utils.byte_bounds(array) if array.size else (array.ctypes.data, array.ctypes.data)
        self._ranges.append((start, stop, mask.ctypes.data if mask is not None else None, not array.flags.writeable, label))
        return np.uint64(array.ctypes.data)

    def ranges(self) -> Iterable[tuple[int, int, int | None, bool, str]]:
        """(start, size, mask, read-only, label), arrays that overlap as one."""
        merged: list[tuple[int, int, int | None, bool, str]] = []
        for start, stop, mask, read_only, label in sorted(self._ranges, key=lambda r: r[:2]):
            if merged and start < merged[-1][1]:
                first, last, its_mask, its_read_only, its_label = merged[-1]
                merged[-1] = (first, max(last, stop), its_mask, its_read_only and read_only, f"{its_label}/{label}")
            else:
                merged.append((start, stop, mask, read_only, label))
        return [(start, stop - start, *rest) for start, stop, *rest in merged]


@cache
def _cache_folder() -> Path:
    folder = Path(os.environ.get("EMULATOR_CACHE") or Path(tempfile.gettempdir()) / f"ptx-emulator-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _shared_library(code: str) -> ctypes.CDLL:
    headers = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.hpp")))
    key = hashlib.sha256(code.encode() + headers).hexdigest()[:24]
    path = _cache_folder() / f"{key}.so"
    if not path.exists():
        written = path.with_suffix(f".{os.getpid()}.so")
        subprocess.run(
            ["g++", "-x", "c++", "-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-shared"]
            + ["-mavx2", "-mfma", "-mf16c", "-fPIC", f"-I{HERE}", "-", "-o", str(written)],
            input=code.encode(),
            check=True,
        )
        written.rename(path)
    lib = ctypes.CDLL(str(path))
    lib.emu_new.restype = ctypes.c_void_p
    pointer, text, whole, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_int
    lib.emu_opts.argtypes = [pointer, number, number, number, whole]
    lib.emu_clear.argtypes = [pointer]
    lib.emu_alloc.argtypes = [pointer, whole, whole, pointer, number, text]
    lib.emu_launch.argtypes = [pointer, text, pointer, pointer, whole, text]
    lib.emu_errors.argtypes = [pointer, text, number]
    lib.emu_prof.argtypes = [pointer, number]
    lib.emu_prof_get.argtypes = [pointer, pointer, number]
    return lib
