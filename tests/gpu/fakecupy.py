"""A strict stand-in for the part of CuPy that implicit_core uses: arrays lie on the host, kernels run in the emulator.

It refuses what CuPy refuses (to mix arrays of host and device, kernel arguments of the wrong size) and what a GPU
refuses (too much shared memory, too many registers, a grid of nothing), and more that goes wrong silently there: reads
of memory that nothing was written to, arrays as kernel arguments whose elements are not in order, more memory than the
device has. So code that runs on it runs on CuPy, as far as names and types go; ``test_fakecupy.py`` compares both.
"""

from __future__ import annotations

import operator
import types
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

import emulator
import numpy as np
from emulator import nvrtc

__version__ = "14.0.0"
ALIGNMENT = 512


@dataclass
class Settings:
    """Which device is played."""

    arch: int = 80
    memory: int = 2**34  #: bytes
    processors: int = 4


@dataclass
class Allocator:
    """Counts what is allocated."""

    used: int = 0
    peak: int = 0

    def take(self, size: int) -> None:
        if self.used + size > settings.memory:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {self.used:,} bytes)")
        self.used += size
        self.peak = max(self.peak, self.used)

    def give_back(self, size: int) -> None:
        self.used -= size


settings = Settings()
allocator = Allocator()
launches: list[str] = []  #: names of the kernels that ran, in order

SHARED_MEMORY = {70: 96, 75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  #: KB of a block, at most
REGISTERS = 65536  #: of a processor


class OutOfMemoryError(MemoryError):
    """The device has no room."""


class CUDARuntimeError(RuntimeError):
    """A call of CUDA failed."""

    def __init__(self, text: str, status: int = 1):
        super().__init__(text)
        self.status = status


class _Memory:
    """An allocation, and which of its bytes have been written."""

    def __init__(self, size: int):
        rounded = -(-size // ALIGNMENT) * ALIGNMENT
        allocator.take(rounded)
        weakref.finalize(self, allocator.give_back, rounded)
        whole = np.full(size + ALIGNMENT, 0xCB, np.uint8)
        skip = -whole.ctypes.data % ALIGNMENT
        self.bytes = whole[skip : skip + size]
        self.written = np.zeros(size, np.uint8)
        self.complete = size == 0

    def mark(self, array: np.ndarray) -> np.ndarray:
        """The marks of the bytes of a view."""
        start = array.ctypes.data - self.bytes.ctypes.data
        return np.lib.stride_tricks.as_strided(
            self.written[start:], (*array.shape, array.itemsize), (*array.strides, 1)
        )


class _Pointer:
    def __init__(self, address: int):
        self.ptr = address


class ndarray:
    """An array of the device."""

    __array_ufunc__ = None  # an operation of NumPy with it is a TypeError
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float):
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        kind = np.dtype(dtype)
        self._memory = _Memory(int(np.prod(shape, dtype=np.int64)) * kind.itemsize)
        self._a = self._memory.bytes.view(kind).reshape(shape)
        self.base: ndarray | None = None

    # Attributes

    shape = property(lambda self: self._a.shape)
    strides = property(lambda self: self._a.strides if self._owner().size else (0,) * self.ndim)
    dtype = property(lambda self: self._a.dtype)
    size = property(lambda self: self._a.size)
    ndim = property(lambda self: self._a.ndim)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    flags = property(lambda self: self._a.flags)
    data = property(lambda self: _Pointer(self._a.ctypes.data))
    T = property(lambda self: self._view(self._a.T))
    device = property(lambda self: Device())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._a.ctypes.data, False),
            "strides": None if self._a.flags.c_contiguous else self.strides,
            "version": 3,
        }

    def __dlpack__(self, **_: Any) -> Any:
        return self._read().__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    # What the stand-in does for itself

    def _owner(self) -> ndarray:
        return self if self.base is None else self.base

    def _view(self, array: np.ndarray) -> ndarray:
        view = ndarray.__new__(ndarray)
        view._memory, view._a, view.base = self._memory, array, self._owner()
        return view

    def _read(self) -> np.ndarray:
        """The elements, once it is sure that they have been written."""
        memory = self._memory
        if not memory.complete:
            if not memory.mark(self._a).all():
                raise emulator.KernelError("elements are read that nothing was written to")
            memory.complete = bool(memory.written.all())
        return self._a

    def _write(self, where: Any, value: Any) -> None:
        self._a[where] = value
        if not self._memory.complete:
            marks = self._memory.mark(self._a)
            marks[where] = 1

    # Moves and conversions

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def get(self) -> np.ndarray:
        if not (self._a.flags.c_contiguous or self._a.flags.f_contiguous):
            self = self.copy()  # as CuPy does, in memory of the device
        return self._read().copy()

    def copy(self) -> ndarray:
        return _new(self._read())

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return self if not copy and self.dtype == dtype else _new(self._read().astype(dtype))

    def reshape(self, *shape: Any) -> ndarray:
        array = self._a.reshape(*shape)
        return self._view(array) if np.shares_memory(array, self._a) or not array.size else _new(array)

    def item(self) -> Any:
        return self._read().item()

    def tolist(self) -> Any:
        return self._read().tolist()

    def sum(self, axis: Any = None, dtype: Any = None) -> ndarray:
        return _new(self._read().sum(axis=axis, dtype=dtype))

    def max(self) -> ndarray:
        return _new(self._read().max())

    def all(self) -> ndarray:
        return _new(self._read().all())

    def any(self) -> ndarray:
        return _new(self._read().any())

    def __len__(self) -> int:
        return len(self._a)

    def __float__(self) -> float:
        return float(self._read())

    def __int__(self) -> int:
        return int(self._read())

    def __bool__(self) -> bool:
        return bool(self._read())

    def __repr__(self) -> str:
        return repr(self._a)

    # Elements

    def __getitem__(self, where: Any) -> ndarray:
        if isinstance(where, (ndarray, list)):
            return _new(self._read()[_index(where)])
        return self._view(np.asarray(self._a[_index(where)]))

    def __setitem__(self, where: Any, value: Any) -> None:
        self._write(_index(where), _operand(value))

    def __neg__(self) -> ndarray:
        return _new(-self._read())

    def __abs__(self) -> ndarray:
        return _new(abs(self._read()))


def _index(where: Any) -> Any:
    if isinstance(where, tuple):
        return tuple(_index(part) for part in where)
    if isinstance(where, np.ndarray) and where.ndim:
        raise TypeError("an array of NumPy as an index; CuPy takes some, but it moves them each time")
    return where._read() if isinstance(where, ndarray) else where


def _operand(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._read()
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def _new(value: Any) -> ndarray:
    value = np.asarray(value)
    array = ndarray(value.shape, value.dtype)
    array._write(..., value)
    return array


def _add_operators() -> None:
    def binary(name: str) -> Any:
        def operation(self: ndarray, other: Any) -> ndarray:
            return _new(getattr(operator, name)(self._read(), _operand(other)))

        return operation

    def reflected(name: str) -> Any:
        def operation(self: ndarray, other: Any) -> ndarray:
            return _new(getattr(operator, name)(_operand(other), self._read()))

        return operation

    def in_place(name: str) -> Any:
        def operation(self: ndarray, other: Any) -> ndarray:
            getattr(operator, f"i{name}")(self._read(), _operand(other))
            return self

        return operation

    for name in ("add", "sub", "mul", "truediv", "pow"):  # matmul takes cuBLAS, which need not be there
        setattr(ndarray, f"__{name}__", binary(name))
        setattr(ndarray, f"__r{name}__", reflected(name))
        setattr(ndarray, f"__i{name}__", in_place(name))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(ndarray, f"__{name}__", binary(name))


_add_operators()


# Functions


def empty(shape: Any, dtype: Any = float) -> ndarray:
    return ndarray(shape, dtype)


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    array = ndarray(shape, dtype)
    array._write(..., 0)
    return array


def asarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    return array(a, dtype)


def array(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray):
        return _new(a._read() if dtype is None else a._read().astype(dtype))
    if hasattr(a, "__cuda_array_interface__"):
        given = types.SimpleNamespace(__array_interface__=a.__cuda_array_interface__)
        return _new(np.array(given, dtype))
    return _new(np.array(a, dtype))


def ascontiguousarray(a: ndarray) -> ndarray:
    return a if a._a.flags.c_contiguous else a.copy()


def asnumpy(a: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def sort(a: ndarray, axis: int = -1) -> ndarray:
    return _new(np.sort(a._read(), axis=axis))


def from_dlpack(array: Any) -> ndarray:
    return _new(np.from_dlpack(array)) if not isinstance(array, ndarray) else array


class _Pool:
    def used_bytes(self) -> int:
        return allocator.used

    def total_bytes(self) -> int:
        return allocator.used

    def free_bytes(self) -> int:
        return 0

    def free_all_blocks(self) -> None: ...


def get_default_memory_pool() -> _Pool:
    return _Pool()


# Kernels


class RawModule:
    """Kernels that are compiled when one of them is first asked for."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc"):
        if backend != "nvrtc" or not isinstance(options, tuple):
            raise TypeError("backend must be 'nvrtc' and options a tuple of str")
        self.code = code
        self.options = options
        self.backend = backend

    def get_function(self, name: str) -> RawKernel:
        defines = tuple(option for option in self.options if not option.startswith("-std="))
        return RawKernel(*_compiled(self.code, defines, settings.arch), name)


@cache
def _compiled(code: str, defines: tuple[str, ...], arch: int) -> tuple[emulator.Module, dict[str, nvrtc.Resources]]:
    return emulator.load(code, defines, arch), nvrtc.compiler().resources(code, "kernel.cu", arch, defines)


class RawKernel:
    """A kernel that checks its launches."""

    def __init__(self, module: emulator.Module, resources: dict[str, nvrtc.Resources], name: str):
        self.name = name
        self._kernel = module.get_function(name)
        self._resources = resources[name]
        self._most_shared = 48 * 1024

    num_regs = property(lambda self: self._resources.registers)
    shared_size_bytes = property(lambda self: self._resources.shared)

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._most_shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if size + self.shared_size_bytes > 1024 * SHARED_MEMORY[settings.arch]:
            raise CUDARuntimeError(f"{self.name}: {size} bytes of shared memory are too many")
        self._most_shared = size

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        threads = int(np.prod(block))
        grid_limits = (2**31 - 1, 65535, 65535)
        if not grid or any(not 1 <= extent <= most for extent, most in zip(grid, grid_limits, strict=False)):
            raise CUDARuntimeError(f"{self.name}: a grid of {grid}")
        if not 1 <= threads <= 1024 or self.num_regs * -(-threads // 32) * 32 > REGISTERS:
            raise CUDARuntimeError(f"{self.name}: {threads} threads of {self.num_regs} registers")
        if shared_mem + self.shared_size_bytes > max(self._most_shared, 48 * 1024):
            raise CUDARuntimeError(f"{self.name}: {shared_mem} bytes of shared memory, allowed {self._most_shared}")
        launches.append(self.name)
        given = [self._argument(position, arg) for position, arg in enumerate(args)]
        self._kernel(grid, block, given, shared_mem=shared_mem)

    def _argument(self, position: int, arg: Any) -> Any:
        if isinstance(arg, ndarray):
            if not arg._a.flags.c_contiguous:
                raise TypeError(f"{self.name}, argument {position}: the elements are not in order")
            memory = arg._memory
            if memory.complete:
                return arg._a
            start = arg._a.ctypes.data - memory.bytes.ctypes.data
            return arg._a, memory.written[start : start + arg.nbytes]
        if not isinstance(arg, np.generic):  # CuPy takes numbers of Python as 8 bytes
            raise TypeError(f"{self.name}, argument {position}: {type(arg)} is neither an array nor a NumPy scalar")
        return arg


# The device


class Device:
    """The one device."""

    def __init__(self, device: int = 0):
        self.id = device

    compute_capability = property(lambda self: str(settings.arch))
    mem_info = property(lambda self: (settings.memory - allocator.used, settings.memory))

    @property
    def attributes(self) -> dict[str, int]:
        shared = 1024 * SHARED_MEMORY[settings.arch]
        return {
            "MultiProcessorCount": settings.processors,
            "MaxSharedMemoryPerBlockOptin": shared,
            "MaxSharedMemoryPerMultiprocessor": shared + 1024,
        }

    def synchronize(self) -> None: ...

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None: ...


runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: 1,
    driverGetVersion=lambda: 12090,
    runtimeGetVersion=lambda: 12090,
    getDeviceProperties=lambda device: {"name": b"stand-in"},
)
cuda = types.SimpleNamespace(
    runtime=runtime,
    nvrtc=types.SimpleNamespace(getVersion=lambda: nvrtc.compiler().version),
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    Device=Device,
)
