"""ALS on the `lastfm-shaped` workload: seconds per iteration and peak memory of ours and of the installed implicit.

    python benchmarks/als_fit.py [--factors 64] [--iterations 3] [--threads 2] [--exact] [--repeat 3] [--json FILE]

Each measurement is a process of its own, ours and theirs in turn. Memory is the peak above what was resident with the
input loaded. The loss after the last iteration stands beside the time: faster must not be worse.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIBRARIES = ("implicit_core", "implicit")


def resident(key: str) -> float:
    """A field of /proc/self/status in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def measure(library: str, path: str, args: argparse.Namespace) -> dict[str, Any]:
    """Fit once; runs in a process of its own."""
    import numpy as np
    from scipy import sparse
    from threadpoolctl import threadpool_limits

    matrix = sparse.load_npz(path)
    if library == "implicit":
        from implicit.cpu.als import AlternatingLeastSquares
    else:
        from implicit_core.cpu.als import AlternatingLeastSquares
    seconds: list[float] = []
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=args.factors,
            regularization=0.05,
            alpha=2.0,
            use_cg=not args.exact,
            iterations=args.iterations,
            num_threads=args.threads,
            random_state=0,
        )
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
        before = resident("VmRSS")
        model.fit(matrix, show_progress=False, callback=lambda *report: seconds.append(report[1]))
        peak = resident("VmHWM") - before
    from implicit_core.cpu.als import calculate_loss

    matrix.data = (2 * matrix.data).astype(np.float32)
    loss = calculate_loss(matrix, model.user_factors, model.item_factors, 0.05)
    factors = (model.user_factors.nbytes + model.item_factors.nbytes) / 2**20
    return {"library": library, "seconds": seconds, "peak_mb": peak, "factors_mb": factors, "loss": loss}


def main() -> None:
    """Measure both libraries in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--exact", action="store_true", help="Cholesky instead of conjugate gradient")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--measure", nargs=2, metavar=("LIBRARY", "MATRIX"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure, args)))
        return

    from scipy import sparse

    from implicit_core.datasets.synthetic import lastfm_shaped
    from implicit_core.nearest_neighbours import bm25_weight

    samples = []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/matrix.npz"
        start = time.time()
        matrix = bm25_weight(lastfm_shaped().T, K1=100, B=0.8).T.tocsr()
        sparse.save_npz(path, matrix, compressed=False)
        transpose = (matrix.data.nbytes + matrix.indices.nbytes) / 2**20
        print(f"lastfm-shaped {matrix.shape}, {matrix.nnz:,} entries of {matrix.dtype}, in {time.time() - start:.0f} s")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        for _ in range(args.repeat):
            for library in LIBRARIES:
                command = [sys.executable, __file__, *sys.argv[1:], "--measure", library, path]
                output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
                samples.append(json.loads(output.splitlines()[-1]))
                print(samples[-1], flush=True)
    print(f"\n{'':14}{'s/iteration':>12}{'peak MB':>10}{'loss':>10}")
    medians = {}
    for library in LIBRARIES:
        own = [sample for sample in samples if sample["library"] == library]
        medians[library] = statistics.median(second for sample in own for second in sample["seconds"])
        peak = statistics.median(sample["peak_mb"] for sample in own)
        print(f"{library:14}{medians[library]:12.3f}{peak:10.0f}{own[0]['loss']:10.5f}")
    print(f"ratio {medians['implicit'] / medians['implicit_core']:.2f}")
    print(f"factors {samples[0]['factors_mb']:.0f} MB + one transpose {transpose:.0f} MB + 32 MB")
    if args.json:
        args.json.write_text(json.dumps(samples, indent=1))


if __name__ == "__main__":
    main()
