"""Kill a process while it fits with a checkpoint: python tests/faults/kill_fit.py KILLS SEED; prints what happened.

A child fits each model until SIGKILL comes at a random moment, then another one goes on, and so on. Where one comes to
the end, its factors must have the bits of a fit that was never interrupted; then a new fit begins.
"""

import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization

MODELS = (AlternatingLeastSquares, BayesianPersonalizedRanking, LogisticMatrixFactorization)


def main(kills, seed):
    random, results = np.random.default_rng(seed), Counter()
    matrix = sparse.random(300, 200, 0.05, format="csr", random_state=1, dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        for kind in MODELS:
            parameters = {"factors": 8, "iterations": 20, "random_state": 5, "num_threads": 1}
            expected = kind(**parameters)
            began = time.perf_counter()
            expected.fit(matrix, show_progress=False, checkpoint=Path(folder) / "first")
            once = time.perf_counter() - began
            path = Path(folder) / f"{kind.__name__}.npz"
            killed = 0
            while killed < kills or not results[f"{kind.__name__} ended"]:
                child = os.fork()
                if child == 0:
                    kind(**parameters).fit(matrix, show_progress=False, checkpoint=path)
                    os._exit(0)
                time.sleep(random.uniform(0, once))
                os.kill(child, signal.SIGKILL)
                if os.waitpid(child, 0)[1]:
                    killed += 1
                    continue
                model = kind(**parameters)
                model.fit(matrix, show_progress=False, checkpoint=path)
                assert np.array_equal(model.user_factors, expected.user_factors)
                assert np.array_equal(model.item_factors, expected.item_factors)
                results[f"{kind.__name__} ended"] += 1
                path.unlink()
            results["killed"] += killed
            (Path(folder) / "first.npz").unlink()
    print(json.dumps(results))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
