"""Run one piece of work in several libraries by turns, each in a process of its own that sleeps while others work.

    python -m benchmarks.compare TASK [name=value ...] [--libraries implicit_core,...] [--threads 2] [--repeat 5]
    python -m benchmarks.compare Fit data=debian factors=64 --repeat 5 --json fit.json

TASK is a class of ``benchmarks/tasks.py``; its options are JSON values or else text. The first run is a warm-up, and
counts only with ``--repeat 0``. All get the same number of threads, or those after an @ (implicit_core@1). BLAS gets
the task's ``blas_threads``, from the environment of the process, so that every copy of it obeys: one, as implicit's
documentation asks, but two in RecommendOne, the only task tried in which implicit is faster with two. ratio = the
median over the rounds of (time of the peer / time of implicit_core in the same round).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import inspect
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tasks, workloads

OURS = "implicit_core"
ALONE = f"{OURS}@1"  #: ours with one thread
TASKS = {name: kind for name, kind in vars(tasks).items() if isinstance(kind, type) and hasattr(kind, "run")}


@dataclass
class Case:
    """One row of a report: a task, its options, and how many times faster than a peer it is meant to be."""

    name: str
    task: str
    options: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    libraries: Sequence[str] = (OURS, "implicit")
    own: dict[str, Any] = field(default_factory=dict)  # options of ours alone
    repeat: int = 5  # 0: the first run is what counts
    unit: str = "s"
    limit: float | None = None  # what ours may take at most


@dataclass
class Report:
    """Every sample of a case, what stood beside the time, and where results differ."""

    case: Case
    threads: int
    samples: dict[str, list[float]]
    quality: dict[str, dict[str, float]]
    agreement: dict[str, dict[str, float]]
    curves: dict[str, list[list[float]]]

    def ratio(self, peer: str) -> float:
        """How many times as long a peer takes."""
        pairs = zip(self.samples[peer], self.samples[OURS], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def lines(self) -> list[str]:
        """The rows of the table."""
        rows = []
        for library, seconds in self.samples.items():
            row = f"{self.case.name:34}{library:15}{statistics.median(seconds):10.3f} {self.case.unit:3}"
            if library == OURS:
                limit = "" if self.case.limit is None else f"(≤ {self.case.limit:g})"
                row += f"{'':12}{limit:10} "
            elif OURS in self.samples:
                target = self.case.targets.get(library)
                row += f"{self.ratio(library):8.2f} x  {f'(≥ {target:g})' if target else '':10} "
            beside = self.quality[library] | self.agreement.get(library, {})
            rows.append(row + ", ".join(f"{name} {value:.4g}" for name, value in beside.items()))
        return rows


class Worker:
    """The process of a library."""

    def __init__(self, library: str, threads: int, case: Case) -> None:
        library, _, own_threads = library.partition("@")
        threads = int(own_threads or threads)
        options = case.options | (case.own if library == OURS else {})
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
        blas = str(getattr(tasks, case.task).blas(threads))
        numbers = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": blas, "MKL_NUM_THREADS": blas}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", library, str(threads), case.task, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | numbers,
            cwd=Path(__file__).parents[1],
        )
        self.read()

    def read(self) -> Any:
        """Wait for an answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of a benchmark ended: {' '.join(map(str, self.process.args))}")
        return json.loads(line)

    def ask(self, line: str) -> Any:
        """Send a line and wait for the answer."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # of a process that has ended, which reading says
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        return self.read()

    def end(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def installed(library: str) -> bool:
    """Whether a library can be compared."""
    return importlib.util.find_spec(library.partition("@")[0]) is not None


def run(case: Case, threads: int = 2) -> Report:
    """Measure a case, in turn; a peer that does not start is left out.

    Raises
    ------
    RuntimeError
        The process of ours does not start, or any ends before it is told to; what it wrote says why.
    """
    data = case.options.get("data")
    if data:  # made before any library is timed, and only once
        workloads.matrix_path(data)
        if case.task in ("Recommend", "RecommendOne", "SimilarItems", "Metrics"):
            workloads.model_path(data, case.options["factors"])
    with contextlib.ExitStack() as stack:
        workers = {}
        for library in filter(installed, case.libraries):
            try:
                workers[library] = Worker(library, threads, case)
            except RuntimeError as error:
                if library.partition("@")[0] == OURS:
                    raise
                print(f"{library} is left out of {case.name}: {error}", file=sys.stderr)
            else:
                stack.callback(workers[library].end)
        return _measured(case, threads, workers)


def _measured(case: Case, threads: int, workers: dict[str, Worker]) -> Report:
    samples: dict[str, list[float]] = {library: [] for library in workers}
    for round_ in range(case.repeat + 1):
        for library, worker in workers.items():
            time.sleep(0.1)  # until threads of the one before, of OpenBLAS among others, no longer spin for more work
            sample = worker.ask("run")
            if round_ or case.repeat == 0:
                samples[library].append(sample)
    quality = {library: worker.ask("quality") for library, worker in workers.items()}
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for library, worker in workers.items():
            worker.ask(f"result {folder}/{library}.npz")
            with np.load(f"{folder}/{library}.npz") as file:
                results[library] = dict(file)
    peers = [library for library in results if library != OURS and OURS in results]
    agreement = {library: agree(results[OURS], results[library]) for library in peers}
    curves = {library: result["curve"].tolist() for library, result in results.items() if "curve" in result}
    return Report(case, threads, samples, quality, agreement, curves)


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Share of equal ids where scores are apart, and the largest difference of scores.

    Both are relative to the largest score of the query: where scores differ by no more than 1e-5 of it, the libraries
    order them as they round them. The last place may be such a tie with an item that is not among the results.
    """
    if "ids" not in ours or "ids" not in theirs:
        return {}
    scores = ours["scores"]
    shown = (scores > -1e30) & (theirs["scores"] > -1e30)
    unit = np.abs(np.where(shown, scores, 0)).max(axis=1, keepdims=True, initial=1e-30)
    difference = (np.abs(scores - theirs["scores"]) / unit)[shown].max(initial=0)
    near = np.abs(np.diff(scores, axis=1)) <= 1e-5 * unit
    tied = np.pad(near, ((0, 0), (1, 0))) | np.pad(near, ((0, 0), (0, 1)), constant_values=True)
    equal = (ours["ids"] == theirs["ids"])[shown & ~tied]
    return {"equal ids": float(equal.mean()) if equal.size else 1.0, "score difference": float(difference)}


def machine() -> str:
    """One line on the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def save(reports: list[Report], path: Path) -> None:
    """Write every sample as JSON."""
    path.write_text(json.dumps({"machine": machine(), "reports": [asdict(r) for r in reports]}, indent=1) + "\n")


def positive(text: str) -> int:
    """An argument that is an integer above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def libraries_of(text: str) -> list[str]:
    """The libraries of an argument, all installed."""
    libraries = text.split(",")
    for library in libraries:
        if not installed(library):
            raise argparse.ArgumentTypeError(f"{library!r} is not installed")
    return libraries


def main() -> None:
    """Compare one task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("options", nargs="*", metavar="name=value")
    made_for = "ours and each installed peer that the task is made for, if not given"
    parser.add_argument("--libraries", type=libraries_of, help=made_for)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--repeat", type=int, default=5, choices=range(1000), metavar="N")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    options = {}
    for option in args.options:
        name, _, value = option.partition("=")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    try:
        inspect.signature(TASKS[args.task]).bind(OURS, args.threads, **options)
    except TypeError as error:
        parser.error(f"the options of {args.task} must be those of its class: {error}")
    libraries = args.libraries or (OURS, *TASKS[args.task].peers)
    case = Case(args.task, args.task, options, libraries=libraries, repeat=args.repeat)
    try:
        report = run(case, args.threads)
    except (OSError, RuntimeError) as error:
        sys.exit(str(error))
    print(*report.lines(), sep="\n")
    if args.json:
        save([report], args.json)


if __name__ == "__main__":
    main()
