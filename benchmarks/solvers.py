"""Which solver of ALS for many factors: seconds of an iteration, the loss, and the time to the loss of another solver.

    python -m benchmarks.solvers [--data debian] [--factors 256 512] [--iterations 5] [--rounds 3] [--threads 2]
        [--json FILE]

In each round every solver, in turn, starts from the same factors; printed are medians over the rounds. The last columns
are the times until a solver has the loss that conjugate gradient, or blocks of 32, has after all ``--iterations``.
Conjugate gradient goes on for four times as many, so that its time to the loss of the other is seen; "> 9.9" is what
a solver took for all its iterations without getting there. Exact solutions are left out beyond 256 factors, since their
time grows with the cube. FILE gets every sample as JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks import workloads
from benchmarks.compare import machine
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu.als import calculate_loss

CG, BLOCKS, EXACT = "conjugate gradient", "blocks of 32", "exact"
SOLVERS: dict[str, dict[str, Any]] = {
    CG: {},
    BLOCKS: {"use_cg": False, "block_size": 32},
    "blocks of 64": {"use_cg": False, "block_size": 64},
    EXACT: {"use_cg": False},
}
REGULARIZATION, ALPHA = 0.05, 40


def fit(counts: sparse.csr_matrix, model: AlternatingLeastSquares, iterations: int) -> tuple[list[float], list[float]]:
    """Seconds of each iteration, and the loss after it; computing that is not timed."""
    seconds: list[float] = []
    losses = []
    for _ in range(iterations):
        model.fit(counts, show_progress=False, callback=lambda *report: seconds.append(report[1]))
        losses.append(calculate_loss(counts, model.user_factors, model.item_factors, REGULARIZATION))
    return seconds, losses


def measure(counts: sparse.csr_matrix, factors: int, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """By solver: its losses, which are the same in each round, and the seconds of each round."""
    names = [name for name in SOLVERS if name != EXACT or factors <= 256]
    found: dict[str, dict[str, Any]] = {name: {"factors": factors, "seconds": []} for name in names}
    for _, name in itertools.product(range(args.rounds), names):
        model = AlternatingLeastSquares(
            factors,
            iterations=1,
            regularization=REGULARIZATION,
            random_state=0,
            num_threads=args.threads,
            **SOLVERS[name],
        )
        seconds, losses = fit(counts, model, args.iterations * (4 if name == CG else 1))
        found[name]["seconds"].append(seconds)
        found[name]["losses"] = losses
    return found


def until(run: dict[str, Any], goal: float) -> str:
    """The time until a loss is reached, or the one that did not suffice."""
    reached = next((n for n, loss in enumerate(run["losses"], 1) if loss <= goal * (1 + 1e-6)), None)
    took = statistics.median(sum(seconds[:reached]) for seconds in run["seconds"])
    return f"{'' if reached else '> '}{took:.2f}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="debian", help="a workload")
    parser.add_argument("--factors", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    counts = workloads.load(args.data)
    counts.data *= np.float32(ALPHA)
    last, samples = args.iterations, []
    print(f"{'':29}{'seconds an':>11}{'loss':>10}{'loss':>10}{'seconds to loss of':>28}")
    print(f"{'factors':>7}  {'solver':20}{'iteration':>11}{'after 2':>10}{f'after {last}':>10}{CG:>20}{BLOCKS:>14}")
    for factors in args.factors:
        found = measure(counts, factors, args)
        goals = [found[name]["losses"][last - 1] for name in (CG, BLOCKS)]
        for name, run in found.items():
            samples.append({"solver": name, **run})
            seconds = statistics.median(itertools.chain(*run["seconds"]))
            cg, blocks = (until(run, goal) for goal in goals)
            two, end = run["losses"][min(2, last) - 1], run["losses"][last - 1]
            print(f"{factors:7}  {name:20}{seconds:11.2f}{two:10.6f}{end:10.6f}{cg:>20}{blocks:>14}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "samples": samples}, indent=1) + "\n")


if __name__ == "__main__":
    main()
