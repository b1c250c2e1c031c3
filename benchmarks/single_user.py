"""Calls for one user or item: microseconds of ours and of the installed implicit, in turn, and their ratio.

    python benchmarks/single_user.py [--threads 1] [--repeat 20] [--knn]

Models of factors are random, of the sizes users × items of `debian` and of a shop; `overhead` has 20 items, so that
hardly anything but the call itself is left. `--knn` times the nearest-neighbour models instead: their fit, all users in
one batch, and calls for one. BLAS has as many threads as the models. With one thread, the processor time of the thread
counts, else the clock. A sample is the mean of calls for the same 100 users or items; the least of all samples is
compared, since a shared machine only ever adds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import implicit.cpu.als
import implicit.nearest_neighbours
import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

import implicit_core.cpu.als
import implicit_core.nearest_neighbours
from implicit_core.datasets.debian import get_debian
from implicit_core.datasets.synthetic import make_implicit

LIBRARIES = (implicit_core, implicit)
SHAPES = {"debian": (36_000, 12_000, 64), "shop": (30_000, 40_000, 64), "overhead": (1_000, 20, 8)}


def in_turn(
    name: str, calls: list[Callable[[int], Any]], repeat: int, clock: Callable[[], float], many: int = 100
) -> None:
    """Time ``many`` calls of both libraries ``repeat`` times and print the least."""
    seconds: list[list[float]] = [[], []]
    for _ in range(repeat):
        for call, own in zip(calls, seconds, strict=True):
            start = clock()
            for i in range(many):
                call(i)
            own.append((clock() - start) / many)
    ours, theirs = (min(own) * 1e6 for own in seconds)
    print(f"{name:36}{ours:12,.0f} us, implicit {theirs:12,.0f} us, ratio {theirs / ours:5.2f}", flush=True)


def factors(args: argparse.Namespace, clock: Callable[[], float]) -> None:
    """Time models of factors."""
    rng = np.random.default_rng(0)
    for name, (users, items, width) in SHAPES.items():
        sides = [(0.1 * rng.standard_normal((n, width))).astype(np.float32) for n in (users, items)]
        liked = sparse.random(1_000, items, 20 / max(items, 100), format="csr", random_state=1)
        rows = [liked[u] for u in range(100)]
        models = []
        for library in LIBRARIES:
            model = library.cpu.als.AlternatingLeastSquares(factors=width, num_threads=args.threads)
            model.user_factors, model.item_factors = sides
            models.append(model)
        for call, work in (
            ("recommend", lambda model, rows=rows: lambda i: model.recommend(i, rows[i])),
            ("similar_items", lambda model, items=items: lambda i: model.similar_items(i % items)),
        ):
            in_turn(f"{name} {call}", [work(model) for model in models], args.repeat, clock)


def neighbours(args: argparse.Namespace, clock: Callable[[], float]) -> None:
    """Time nearest-neighbour models."""
    for name, matrix in (
        ("debian", get_debian()[2].T.tocsr()),
        ("synthetic", make_implicit(30_000, 40_000, 1_000_000, groups=50, random_state=0)),
    ):
        models = [library.nearest_neighbours.BM25Recommender(K=20, num_threads=args.threads) for library in LIBRARIES]
        users, rows = np.arange(matrix.shape[0]), [matrix[u] for u in range(100)]
        for call, many, work in (
            ("fit", 1, lambda model, matrix=matrix: lambda i: model.fit(matrix, show_progress=False)),
            ("all users", 1, lambda model, users=users, matrix=matrix: lambda i: model.recommend(users, matrix)),
            ("recommend", 100, lambda model, rows=rows: lambda i: model.recommend(i, rows[i])),
            ("similar_items", 100, lambda model: lambda i: model.similar_items(i)),
        ):
            repeat = min(args.repeat, 5) if many == 1 else args.repeat
            in_turn(f"{name} {call}", [work(model) for model in models], repeat, clock, many)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--knn", action="store_true")
    args = parser.parse_args()
    with threadpool_limits(args.threads, "blas"):
        (neighbours if args.knn else factors)(args, time.thread_time if args.threads == 1 else time.perf_counter)


if __name__ == "__main__":
    main()
