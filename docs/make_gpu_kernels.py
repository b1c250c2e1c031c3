"""Write what the CUDA kernels take of GPUs into docs/gpu_kernels.md beside this file.

    PYTHONPATH=tests/gpu python docs/make_gpu_kernels.py

No GPU is needed: NVRTC (pip install nvidia-cuda-nvrtc-cu12==12.9.86) compiles and its assembler reports; memory
transactions are counted by the emulator of the tests, which needs g++.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import emulator
import launches
import numpy as np
from emulator import nvrtc
from launches import Launcher

from implicit_core.gpu._sources import source

PAGE = Path(__file__).with_name("gpu_kernels.md")
MARK = "<!-- docs/make_gpu_kernels.py writes what follows -->\n"
# Of a multiprocessor: threads, blocks, KB of shared memory, of which each block takes so many more than it asks for.
PROCESSORS = {
    70: (2048, 32, 96, 0),
    75: (1024, 16, 64, 0),
    80: (2048, 32, 164, 1),
    86: (1536, 16, 100, 1),
    89: (1536, 24, 100, 1),
    90: (2048, 32, 228, 1),
    100: (2048, 32, 228, 1),
    120: (1536, 24, 100, 1),
}
REGISTERS = 65536  # of a multiprocessor; a warp gets a multiple of 256


def shapes() -> list[tuple[str, int, bool, int, int]]:
    """(kernel, factors, half, threads of a block, bytes of dynamic shared memory) of each row of the table."""
    rows = []
    for half in (False, True):
        rows += [
            ("als_cg", f, half, t, 16 * (-(-f // 4)) * (f + t // 32)) for f, t in ((32, 128), (64, 128), (128, 256))
        ]
        rows += [("als_chunks", f, half, 128, 0) for f in (64, 128, 1024)]
    rows += [(kernel, 64, half, 256, 0) for kernel in ("gram", "product") for half in (False, True)]
    rows += [("als_step", 64, False, 128, 0), ("stored_error", 64, False, 128, 0)]
    rows += [(kernel, 65, False, 128, 0) for kernel in ("bpr", "bpr_slots", "bpr_apply")]
    return [*rows, ("topk_select", 1, False, 256, 16384), ("topk_merge", 1, False, 256, 16384)]


def occupancy(arch: int, registers: int, shared: int, threads: int) -> int:
    """Per cent of the threads of a multiprocessor that can run at once; 0 if a block does not fit."""
    most, blocks, memory, reserved = PROCESSORS[arch]
    of_block = -(-registers * 32 // 256) * 256 * threads // 32
    fitting = min(blocks, most // threads, REGISTERS // of_block, 1024 * memory // max(shared + 1024 * reserved, 1))
    return 100 * fitting * threads // most


def resources_table() -> str:
    """Registers and occupancy of each kernel on each architecture."""
    compiler = nvrtc.compiler()
    lines = ["| kernel | storage | threads | shared memory | " + " | ".join(f"sm_{arch}" for arch in PROCESSORS) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(PROCESSORS))
    spilled = 0
    for kernel, factors, half, threads, dynamic in shapes():
        cells, static = [], 0
        for arch in PROCESSORS:
            file = launches.FILES[kernel]
            options = f"-DFACTORS={factors}", f"-DHALF={int(half)}"
            found = compiler.resources(source(file), f"{file}.cu", arch, options)[kernel]
            spilled += found.spilled + found.stack
            static = found.shared
            cells.append(f"{found.registers}, {occupancy(arch, found.registers, static + dynamic, threads)} %")
        name = f"`{kernel}`" + (f", {factors} factors" if factors > 1 else "")
        storage = "float16" if half else "float32"
        lines.append(f"| {name} | {storage} | {threads} | {(static + dynamic) / 1024:.1f} KB | {' | '.join(cells)} |")
    total = f"Registers of a thread, and occupancy. Bytes of registers spilled, and of stack, in all: {spilled}.\n\n"
    return total + "\n".join(lines) + "\n"


def run_all(launcher: Launcher) -> None:
    """Each kernel once on random data."""
    factors, half = launcher.factors, launcher.half
    if factors == 1:
        launcher.topk(launches.ranking(30000, levels=1e6), 10)
        return
    given = launches.problem(factors, half)
    launcher.als_cg(given, kept=8)
    launcher.als_split(given, chunk=64)
    launcher.stored_error(given, chunk=64)
    launcher.gram(launches.problem(factors, half, items=150).Y, 80)
    launcher.product(given.X.astype(np.float32), launches.problem(factors, half, items=128).Y)
    if not half:
        launcher.bpr(given, 300, at_once=100)


def transactions_table() -> str:
    """Sectors and passes over banks of each kernel, by those of accesses without gaps or conflicts."""
    counts: dict[tuple[str, str], dict[tuple[int, bool], str]] = {}
    columns = [(f, half) for f in (37, 64, 100, 128) for half in (False, True)]
    for factors, half in [*columns, (1, False)]:
        launcher = ByKernel(factors, half, checks=emulator.Checks(costs=True, races=False))
        run_all(launcher)
        for key, (moved, ideal) in launcher.sums().items():
            counts.setdefault(key, {})[64 if factors == 1 else factors, half] = f"{moved / ideal:.2f}"
    header = "| kernel | memory | " + " | ".join(f"{f}, float{16 if half else 32}" for f, half in columns) + " |"
    lines = [header, "|---|---|" + "---|" * len(columns)]
    for (kernel, space), found in sorted(counts.items()):
        lines.append(f"| `{kernel}` | {space} | " + " | ".join(found.get(column, "") for column in columns) + " |")
    return "\n".join(lines) + "\n"


class ByKernel(Launcher):
    """A launcher that keeps the costs of kernels apart."""

    def __call__(self, kernel: str, *args: Any, **options: Any) -> None:
        """Launch a kernel."""
        before = len(self.costs)
        super().__call__(kernel, *args, **options)
        self.costs[before:] = [(kernel, cost) for cost in self.costs[before:]]

    def sums(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(moved, ideal) of each kernel and kind of memory, without binary searches."""
        sums: dict[tuple[str, str], tuple[int, int]] = {}
        for kernel, cost in self.costs:
            if "search.cuh" not in cost.place:
                moved, ideal = sums.get((kernel, cost.space), (0, 0))
                sums[kernel, cost.space] = moved + cost.moved, ideal + cost.ideal
        return sums


def main() -> None:
    """Write the page."""
    text = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(
        f"{text}{MARK}\n## Registers and occupancy\n\n{resources_table()}\n"
        f"## Memory transactions\n\nBy those of the same bytes without gaps between them, or conflicts of banks.\n\n"
        f"{transactions_table()}",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
