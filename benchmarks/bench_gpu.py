"""Training and recommending on a GPU: seconds of ours, of the CPU, and of the installed implicit if it has a GPU build.

    python benchmarks/bench_gpu.py [--shape lastfm] [--factors 64 128] [--dtype float32] [--iterations 5] [--cpu]

Data are random, of the numbers of users, items and entries of a data set. An iteration of alternating least squares is
compared with the time in which the memory of the GPU can move the rows of factors that it needs, read once per
half-iteration and read once per step; a copy measures how fast the memory is. Times are the least of all iterations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from implicit_core import gpu
from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.datasets.synthetic import make_implicit

SHAPES = {
    "lastfm": (358_868, 292_385, 17_500_000),
    "movielens": (138_493, 26_744, 20_000_000),
    "small": (200, 100, 2_000),
}


def seconds(call: Callable[[], Any], repeat: int) -> float:
    """The least time of a call, with all that it started on the GPU."""
    import cupy

    times = []
    for _ in range(repeat):
        cupy.cuda.Device().synchronize()
        start = time.perf_counter()
        call()
        cupy.cuda.Device().synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def bandwidth(size: int) -> float:
    """Bytes per second that a copy of ``size`` bytes reads and writes."""
    import cupy

    source, target = cupy.zeros(size // 4, dtype=np.float32), cupy.zeros(size // 4, dtype=np.float32)

    def copy() -> None:
        target[...] = source

    return 2 * size / seconds(copy, 5)


def traffic(shape: tuple[int, int], entries: int, factors: int, dtype: Any, reads: int) -> float:
    """Bytes that an iteration moves if each row that an entry needs is read ``reads`` times."""
    row = -(-factors * np.dtype(dtype).itemsize // 32) * 32
    return 2.0 * entries * (row + 8) * reads + 2.0 * sum(shape) * row


def per_iteration(model: Any, matrix: Any) -> float:
    """The least seconds of an iteration of a fit, after one that compiles the kernels."""
    found: list[float] = []
    model.fit(matrix, show_progress=False, callback=lambda *given: found.append(given[1]))
    return min(found[1:] or found)


def main(arguments: list[str] | None = None) -> None:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="lastfm")
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--queries", type=int, default=10_000, help="users in a batch of recommendations")
    parser.add_argument("--cpu", action="store_true", help="time the CPU too")
    args = parser.parse_args(arguments)
    if not gpu.HAS_CUDA:
        raise SystemExit(gpu.why_not())
    users, items, entries = SHAPES[args.shape]
    matrix = make_implicit(users, items, entries, random_state=0)
    dtype, speed = np.dtype(args.dtype), bandwidth(min(2**28, 64 * entries))
    print(f"{args.shape}: {users:,} users, {items:,} items, {matrix.nnz:,} entries; memory {speed / 1e9:,.0f} GB/s")
    asked = np.arange(min(args.queries, users))
    for factors in args.factors:
        given = {"factors": factors, "iterations": args.iterations, "random_state": 0}
        model = AlternatingLeastSquares(dtype=dtype, use_gpu=True, **given)
        took = per_iteration(model, matrix)
        once, steps = (traffic(matrix.shape, matrix.nnz, factors, dtype, reads) / speed for reads in (1, 4))
        print(
            f"ALS {factors:4} {dtype}: {1e3 * took:9.2f} ms per iteration, {took / once:6.1f} times the memory bound "
            f"with rows read once ({1e3 * once:.2f} ms), {took / steps:6.1f} times that with rows read 4 times"
        )
        batch = seconds(lambda model=model: model.recommend(asked, matrix[asked], N=10), 3)  # type: ignore[misc]
        print(f"    recommend: {len(asked) / batch:12,.0f} users per second in a batch of {len(asked):,}")
        one = seconds(lambda model=model: model.recommend(0, matrix[0], N=10), 20)  # type: ignore[misc]
        print(f"    recommend: {1e6 * one:12,.0f} us for one user")
        ranking = BayesianPersonalizedRanking(use_gpu=True, **given)
        print(f"BPR {factors:4}: {1e3 * per_iteration(ranking, matrix):9.2f} ms per epoch")
        if args.cpu:
            on_cpu = AlternatingLeastSquares(use_gpu=False, **given)
            print(f"    CPU: {1e3 * per_iteration(on_cpu, matrix):9.2f} ms per iteration of ALS")
        if theirs := upstream(given, dtype):
            print(f"    implicit: {1e3 * per_iteration(theirs, matrix):9.2f} ms per iteration of ALS")


def upstream(given: dict[str, Any], dtype: Any) -> Any:
    """A model of implicit on the GPU, or None where it has no such build."""
    try:
        import implicit.gpu.als
    except ImportError:
        return None
    return implicit.gpu.als.AlternatingLeastSquares(dtype=dtype, **given) if implicit.gpu.HAS_CUDA else None


if __name__ == "__main__":
    main()
