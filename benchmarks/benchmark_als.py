"""ALS by solver and by number of factors, on a matrix of your own; the flags are those of implicit's script.

    python benchmarks/benchmark_als.py --input FILE.mtx [--speed] [--loss] [--graph]

FILE is in Matrix Market format (or an ``.npz`` of `scipy.sparse.save_npz`), users × items. ``--speed`` times an
iteration with 2, 3 and 4 steps of conjugate gradient and with Cholesky for 32 to 256 factors, and with the GPU where
there is one, into ``als_speed.json``; ``--loss`` writes the loss after each of 10 iterations with 64 factors into
``als_accuracy.json``; ``--graph`` draws what is measured, as PNG beside the JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy import io, sparse

from implicit_core import gpu
from implicit_core.als import AlternatingLeastSquares


def solvers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and parameters of each solver."""
    for steps in (2, 3, 4):
        yield f"cg{steps}", {"cg_steps": steps, "use_gpu": False}
    yield "cholesky", {"use_cg": False, "use_gpu": False}
    if gpu.HAS_CUDA:
        yield "gpu", {"use_gpu": True}


def speed(counts: sparse.csr_matrix) -> dict[str, dict[int, float]]:
    """Seconds of the faster of two iterations, by solver and factors."""
    results: dict[str, dict[int, float]] = {}
    for name, parameters in solvers():
        for factors in range(32, 257, 32):
            seconds: list[float] = []
            model = AlternatingLeastSquares(factors, iterations=2, random_state=0, **parameters)
            model.fit(counts, show_progress=False, callback=lambda *report, to=seconds: to.append(report[1]))
            results.setdefault(name, {})[factors] = min(seconds)
            print(f"{name:10}{factors:5} factors{min(seconds):10.3f} s", flush=True)
    return results


def accuracy(counts: sparse.csr_matrix) -> dict[str, list[float]]:
    """The loss after each iteration, by solver."""
    results: dict[str, list[float]] = {}
    for name, parameters in solvers():
        losses = results.setdefault(name, [])
        model = AlternatingLeastSquares(64, iterations=10, calculate_training_loss=True, random_state=0, **parameters)
        model.fit(counts, show_progress=False, callback=lambda *report, to=losses: to.append(report[2]))
        print(f"{name:10}{losses[-1]:10.6f} after 10 iterations", flush=True)
    return results


def draw(curves: dict[str, dict[int, float]], labels: tuple[str, str], path: Path) -> None:
    """A line for each solver."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(list(curve), list(curve.values()), marker=".", label=name)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure what the flags name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, help="users × items, Matrix Market or .npz")
    parser.add_argument("--graph", action="store_true", help="draw what is measured (needs matplotlib)")
    parser.add_argument("--loss", action="store_true", help="measure the loss by iterations")
    parser.add_argument("--speed", action="store_true", help="measure seconds by factors")
    args = parser.parse_args()
    if not (args.loss or args.speed):
        parser.error("nothing to measure: pass --speed, --loss or both")
    matrix = sparse.load_npz(args.input) if args.input.endswith(".npz") else io.mmread(args.input)
    counts = sparse.csr_matrix(matrix)
    if args.speed:
        seconds = speed(counts)
        Path("als_speed.json").write_text(json.dumps(seconds, indent=1))
        if args.graph:
            draw(seconds, ("factors", "seconds per iteration"), Path("als_speed.png"))
    if args.loss:
        losses = accuracy(counts)
        Path("als_accuracy.json").write_text(json.dumps(losses, indent=1))
        if args.graph:
            curves = {name: dict(enumerate(values, 1)) for name, values in losses.items()}
            draw(curves, ("iterations", "loss"), Path("als_accuracy.png"))


if __name__ == "__main__":
    main()
