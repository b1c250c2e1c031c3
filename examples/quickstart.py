"""From the embedded data set to recommendations: Debian packages that belong together.

The "users" are Debian packages, the "items" what they depend on or recommend. Nothing is downloaded.

    python examples/quickstart.py [--package NAME ...] [--dependency NAME ...]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from implicit_core.als import AlternatingLeastSquares
from implicit_core.datasets.debian import get_debian
from implicit_core.nearest_neighbours import bm25_weight


def position(labels: np.ndarray, name: str) -> int:
    """The id of a label, which are sorted."""
    i = int(np.searchsorted(labels, name))
    if i == len(labels) or labels[i] != name:
        raise SystemExit(f"{name!r} is not in the data set")
    return i


def table(title: str, names: np.ndarray, scores: np.ndarray) -> None:
    """Print ranked names with their scores."""
    print(f"\n{title}")
    for name, score in zip(names, scores, strict=True):
        print(f"  {score:6.3f}  {name}")


def main() -> None:
    """Fit and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", nargs="+", default=["python3-sklearn", "wordpress"])
    parser.add_argument("--dependency", nargs="+", default=["python3-numpy", "r-base-core", "texlive-latex-base"])
    args = parser.parse_args()

    dependencies, packages, matrix = get_debian()
    print(f"{matrix.shape[1]:,} packages × {matrix.shape[0]:,} dependencies, {matrix.nnz:,} relations")

    # as for plays of songs: weigh down what everybody has, then turn to users × items
    package_dependencies = bm25_weight(matrix, K1=100, B=0.8).T.tocsr()

    model = AlternatingLeastSquares(factors=64, regularization=0.05, alpha=2.0, random_state=42)
    start = time.perf_counter()
    model.fit(package_dependencies)
    print(f"fitted in {time.perf_counter() - start:.1f} s: {model}")

    for name in args.package:
        package = position(packages, name)
        ids, scores = model.recommend(package, package_dependencies[package], N=5)
        table(f"{name} could also depend on", dependencies[ids], scores)

    for name in args.dependency:
        ids, scores = model.similar_items(position(dependencies, name), N=6)
        table(f"similar to {name}", dependencies[ids], scores)

    start = time.perf_counter()
    ids, _ = model.recommend(np.arange(len(packages)), package_dependencies)
    seconds = time.perf_counter() - start
    print(f"\n{len(ids):,} packages × 10 recommendations in {seconds:.2f} s ({len(ids) / seconds:,.0f} packages/s)")


if __name__ == "__main__":
    main()
