"""Which solver of ALS for many factors: seconds of an iteration, the loss, and the time to the loss of another solver.

    python -m benchmarks.solvers [--data debian] [--factors 128 256 512] [--iterations 6] [--threads 2]

The last column is the time until a solver has the loss that conjugate gradient has after all iterations.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks import workloads
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu.als import calculate_loss

SOLVERS = {
    "conjugate gradient": {},
    "blocks of 32": {"use_cg": False, "block_size": 32},
    "blocks of 64": {"use_cg": False, "block_size": 64},
    "exact": {"use_cg": False},
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="debian", help="a workload")
    parser.add_argument("--factors", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    counts = workloads.load(args.data)
    counts.data *= np.float32(40)
    last = args.iterations
    print(f"{'factors':>8} {'solver':20}{'s/iteration':>12}{'loss after 2':>14}{f'after {last}':>12}{'s to loss':>11}")
    for factors in args.factors:
        goal = None
        for name, options in SOLVERS.items():
            model = AlternatingLeastSquares(
                factors, iterations=1, regularization=0.05, random_state=0, num_threads=args.threads, **options
            )
            model.fit(counts, show_progress=False)  # a warm-up
            model.user_factors = model.item_factors = None
            seconds, losses = [], []
            for _ in range(last):
                model.fit(counts, show_progress=False, callback=lambda *report, to=seconds: to.append(report[1]))
                losses.append(calculate_loss(counts, model.user_factors, model.item_factors, 0.05))
            goal = goal or losses[-1]
            reached = next((n for n, loss in enumerate(losses) if loss <= goal * (1 + 1e-6)), None)
            until = "never" if reached is None else f"{sum(seconds[: reached + 1]):.2f}"
            print(f"{factors:8} {name:20}{np.median(seconds):12.2f}{losses[1]:14.6f}{losses[-1]:12.6f}{until:>11}")


if __name__ == "__main__":
    main()
