"""NVIDIA's run-time compiler of CUDA C++, called by ctypes: it needs neither a GPU nor its driver, nor CuPy."""

from __future__ import annotations

import ctypes
import re
import sys
from functools import cache
from pathlib import Path

OF_CUPY = ("-ftz=true", "--device-as-default-execution-space")  #: options that CuPy adds to those of a module


class CompileError(RuntimeError):
    """The compiler refused; the text is its log."""


def library() -> Path | None:
    """The NVRTC of a wheel on ``sys.path`` (nvidia-cuda-nvrtc-cu12, nvidia-cuda-nvrtc), or None."""
    for folder in sys.path:
        for pattern in ("nvidia/cuda_nvrtc/lib/libnvrtc.so.*", "nvidia/cu*/lib/libnvrtc.so.*"):
            found = [path for path in sorted(Path(folder).glob(pattern)) if "alt" not in path.name]
            if found:
                return found[-1]
    return None


class Compiler:
    """The compiler in one shared library."""

    def __init__(self, path: Path):
        for builtins in path.parent.glob("libnvrtc-builtins.so.*"):  # where the loader would not look
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self._lib = ctypes.CDLL(str(path))
        self._lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = major.value, minor.value

    def architectures(self) -> list[int]:
        """Compute capabilities that it compiles for, as 70, 75, ..."""
        count = ctypes.c_int()
        self._check(self._lib.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        archs = (ctypes.c_int * count.value)()
        self._check(self._lib.nvrtcGetSupportedArchs(archs))
        return list(archs)

    def ptx(self, source: str, name: str, arch: int, options: tuple[str, ...] = ()) -> str:
        """The PTX of a source, with the lines that instructions come from."""
        return self._compile(source, name, (f"-arch=compute_{arch}", "-lineinfo", *options), "PTX")[0].decode()

    def resources(self, source: str, name: str, arch: int, options: tuple[str, ...] = ()) -> dict[str, Resources]:
        """What each kernel takes of a multiprocessor of the architecture, as the assembler reports."""
        _, log = self._compile(source, name, (f"-arch=sm_{arch}", "--ptxas-options=-v", *options), "CUBIN")
        return {match[1]: Resources(match[0]) for match in _REPORT.finditer(log)}

    def _compile(self, source: str, name: str, options: tuple[str, ...], kind: str) -> tuple[bytes, str]:
        program = ctypes.c_void_p()
        self._check(
            self._lib.nvrtcCreateProgram(
                ctypes.byref(program), source.encode(), name.encode(), ctypes.c_int(0), None, None
            )
        )
        try:
            given = ("-std=c++17", *OF_CUPY, *options)
            array = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
            status = self._lib.nvrtcCompileProgram(program, len(given), array)
            log = self._get(program, "ProgramLog").decode()
            if status:
                raise CompileError(log)
            return self._get(program, kind), log
        finally:
            self._lib.nvrtcDestroyProgram(ctypes.byref(program))

    def _get(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._lib, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw.rstrip(b"\0")

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(f"NVRTC: {self._lib.nvrtcGetErrorString(status).decode()}")


_REPORT = re.compile(r"Compiling entry function '(\w+)'.*?Used [^\n]*", re.DOTALL)


class Resources:
    """Registers of a thread, bytes of static shared memory of a block, bytes of stack and spilled registers."""

    def __init__(self, report: str):
        def number(pattern: str) -> int:
            found = re.search(pattern, report)
            return int(found[1]) if found else 0

        self.registers = number(r"Used (\d+) registers")
        self.shared = number(r"(\d+) bytes smem")
        self.stack = number(r"(\d+) bytes stack frame")
        self.spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")


@cache
def compiler() -> Compiler:
    """The compiler of :func:`library`; RuntimeError where there is none."""
    path = library()
    if path is None:
        raise RuntimeError("NVRTC is missing; pip install nvidia-cuda-nvrtc-cu12==12.9.86")
    return Compiler(path)
