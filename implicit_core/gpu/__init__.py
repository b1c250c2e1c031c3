"""Whether models can be trained on a GPU, why not, and upstream's names of what lies there."""

from __future__ import annotations

import functools
import importlib
from typing import Any

HAS_CUDA: bool  #: whether models can be trained on a GPU; found out when it is first asked for
HAS_RMM = False  #: kept since callers of ``implicit`` look at it; RMM is never needed

OLDEST_CUPY = (13, 0)
OLDEST_DEVICE = 70  #: compute capability times ten: Volta, the first whose threads of a warp are independent
NVRTC_13_FROM = 75  #: the oldest that NVRTC 13 compiles for

_CUDA_NAMES = frozenset(
    (
        *("COOMatrix", "CSRMatrix", "IntVector", "KnnQuery", "LeastSquaresSolver", "Matrix", "RandomState"),
        *("calculate_norms", "get_device_count"),
    )
)
_INSTALL = 'pip install "implicit-core[gpu]" (or [gpu-cu13] for CUDA 13)'
_NO_DRIVER = 35  # cudaErrorInsufficientDriver
_NO_DEVICE = 100  # cudaErrorNoDevice


def why_not() -> str:
    """Say what keeps models from the GPU and what mends it; empty where the GPU works.

    The answer of the first call holds for the life of the process.
    """
    problem = _problem()
    if not problem:
        return ""
    return f"no GPU can be used: {problem}; leave use_gpu out, or set it to False, to train on the CPU with all cores"


@functools.cache
def _problem() -> str:
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        return f"CuPy cannot be imported ({error}); {_INSTALL}"
    if tuple(int(part) for part in cupy.__version__.split(".")[:2]) < OLDEST_CUPY:
        oldest = ".".join(map(str, OLDEST_CUPY))
        return f"CuPy must be of version {oldest} or later, got {cupy.__version__}; {_INSTALL}"
    runtime = cupy.cuda.runtime
    try:
        devices = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return _driver_problem(runtime, error)
    if devices < 1:
        return "the driver sees no GPU; look at nvidia-smi and at CUDA_VISIBLE_DEVICES"
    try:
        nvrtc = cupy.cuda.nvrtc.getVersion()
    except (RuntimeError, ImportError) as error:  # cuda.pathfinder raises its own RuntimeError
        return f"NVRTC, CUDA's compiler at run time, cannot be loaded ({error}); {_INSTALL}"
    try:
        capability = int(cupy.cuda.Device().compute_capability)
    except runtime.CUDARuntimeError as error:
        return f"the GPU cannot be used ({error}); look at nvidia-smi and at CUDA_VISIBLE_DEVICES"
    oldest_device = NVRTC_13_FROM if nvrtc >= (13, 0) else OLDEST_DEVICE
    if capability < oldest_device:
        return (
            f"the GPU is too old: it must have compute capability {oldest_device / 10} or later for NVRTC "
            f"{nvrtc[0]}.{nvrtc[1]}, got {capability / 10}"
            + ('; pip install "implicit-core[gpu]" for CUDA 12' if capability >= OLDEST_DEVICE else "")
        )
    return ""


def _driver_problem(runtime: Any, error: Any) -> str:
    """Why there is no device to count."""
    if error.status == _NO_DEVICE:
        return "the driver sees no GPU; look at nvidia-smi and at CUDA_VISIBLE_DEVICES"
    if error.status != _NO_DRIVER:
        return f"CUDA does not start ({error}); look at nvidia-smi"
    driver, needed = (
        f"{version // 1000}.{version % 1000 // 10}"
        for version in (runtime.driverGetVersion(), runtime.runtimeGetVersion())
    )
    if driver == "0.0":
        return "no NVIDIA driver is installed, or it does not run; install one, and look at nvidia-smi"
    return (
        f"the NVIDIA driver offers CUDA {driver}, and this CuPy needs {needed}; update the driver, or take the CuPy of "
        f"your CUDA version: {_INSTALL}"
    )


def __getattr__(name: str) -> Any:
    if name == "HAS_CUDA":
        return not _problem()
    if name in _CUDA_NAMES and not _problem():
        return getattr(importlib.import_module("implicit_core.gpu._cuda"), name)
    reason = f": {why_not()}" if name in _CUDA_NAMES else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{reason}")
