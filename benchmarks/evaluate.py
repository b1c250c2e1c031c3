"""Splits and ranking metrics: seconds of ours and of the installed implicit, in turn, with what they give.

    python benchmarks/evaluate.py [--users 30000] [--items 40000] [--factors 64] [--entries 2000000] [--repeat 5]
    python benchmarks/evaluate.py --splits [--repeat 5]

The metrics are those of one ALS model, whose factors both libraries rank with their own code. The splits are of the
`lastfm-shaped` workload (17.5 million entries); implicit's leave_k_out_split takes a minute, so that it runs once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import implicit.cpu.als
import implicit.evaluation
from threadpoolctl import threadpool_limits

import implicit_core.cpu.als
import implicit_core.evaluation
from implicit_core.datasets.synthetic import lastfm_shaped, make_implicit

LIBRARIES = (implicit_core, implicit)


def in_turn(name: str, work: Callable[[ModuleType], Any], repeat: int) -> None:
    """Time both libraries ``repeat`` times and print medians."""
    seconds: dict[str, list[float]] = {library.__name__: [] for library in LIBRARIES}
    for _ in range(repeat):
        for library in LIBRARIES:
            start = time.perf_counter()
            result = work(library)
            seconds[library.__name__].append(time.perf_counter() - start)
            print(f"  {name} {library.__name__:14}{seconds[library.__name__][-1]:8.3f} s  {result}", flush=True)
    ours, theirs = (statistics.median(seconds[library.__name__]) for library in LIBRARIES)
    print(f"{name}: {ours:.3f} s, implicit {theirs:.3f} s, ratio {theirs / ours:.1f}")


def splits(args: argparse.Namespace) -> None:
    """Time the splits; the result shown is the number of entries of each part."""
    matrix = lastfm_shaped()
    for name, repeat in (("train_test_split", args.repeat), ("leave_k_out_split", 1)):
        in_turn(
            name,
            lambda library, name=name: [p.nnz for p in getattr(library.evaluation, name)(matrix, random_state=5)],
            repeat,
        )


def metrics(args: argparse.Namespace) -> None:
    """Time the metrics of one model."""
    matrix = make_implicit(args.users, args.items, args.entries, groups=50, random_state=0)
    train, test = implicit_core.evaluation.train_test_split(matrix, random_state=1)
    models = {library: library.cpu.als.AlternatingLeastSquares(factors=args.factors) for library in LIBRARIES}
    models[implicit_core].fit(train, show_progress=False)
    for side in ("user_factors", "item_factors"):
        setattr(models[implicit], side, getattr(models[implicit_core], side))
    in_turn(
        "ranking_metrics_at_k",
        lambda library: library.evaluation.ranking_metrics_at_k(models[library], train, test, show_progress=False),
        args.repeat,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=30_000)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--entries", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--splits", action="store_true")
    args = parser.parse_args()
    with threadpool_limits(1, "blas"):
        (splits if args.splits else metrics)(args)


if __name__ == "__main__":
    main()
