"""The CUDA kernels as functions: compiled when they are first called, and launched."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from implicit_core.gpu._cupy import cp
from implicit_core.gpu._sources import source

FREE_SHARED = 48 * 1024  #: bytes of shared memory that a block may have without asking
WARP = 32  #: threads

NULL = np.uint64(0)  #: a pointer to nothing, as an argument of a kernel


class Limits(NamedTuple):
    """What a device offers."""

    processors: int
    shared_per_block: int  #: bytes
    shared_per_processor: int  #: bytes


def limits() -> Limits:
    """What the current device offers."""
    return _limits(cp.cuda.Device().id)


@functools.cache
def _limits(device: int) -> Limits:
    found = cp.cuda.Device(device).attributes
    return Limits(
        found["MultiProcessorCount"],
        found["MaxSharedMemoryPerBlockOptin"],
        found["MaxSharedMemoryPerMultiprocessor"],
    )


@functools.cache
def _module(file: str, defines: tuple[str, ...]) -> Any:
    return cp.RawModule(code=source(file), options=("-std=c++17", *defines))


@functools.cache
def _function(file: str, name: str, defines: tuple[str, ...]) -> Any:
    return _module(file, defines).get_function(name)


def launch(
    file: str,
    name: str,
    defines: dict[str, int],
    grid: tuple[int, ...],
    threads: int,
    args: tuple[Any, ...],
    shared: int = 0,
) -> None:
    """Run kernel ``name`` of ``file``, compiled with ``-Dkey=value`` for each of ``defines``.

    Parameters
    ----------
    file, name : str
    defines : dict
    grid : tuple of int
        Blocks.
    threads : int
        Of a block.
    args : tuple
        Arrays of the device, and NumPy scalars of the size that the kernel takes.
    shared : int
        Bytes of dynamic shared memory of a block.
    """
    function = _function(file, name, tuple(f"-D{key}={value}" for key, value in defines.items()))
    if shared > FREE_SHARED:  # as much as there is, since another thread may launch it with more before this one does
        function.max_dynamic_shared_size_bytes = limits().shared_per_block - function.shared_size_bytes
    function(grid, (threads,), args, shared_mem=shared)
