"""Kill a process while it saves: python tests/faults/kill.py TRIALS SEED; prints what became of the file each time.

A child saves one of two models after the other to the same file, without a pause, until SIGKILL comes at a random
moment. The file must then hold one of the two, whole.
"""

import io
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from implicit_core.als import AlternatingLeastSquares


def of(number):
    """A model of which every number tells which one it is."""
    model = AlternatingLeastSquares(16, random_state=number)
    model.user_factors = np.full((40_000, 16), number, dtype=np.float32)
    model.item_factors = np.full((20_000, 16), number, dtype=np.float32)
    return model


def main(trials, seed):
    random, both = np.random.default_rng(seed), (of(1), of(2))
    for model in both:
        model.save(io.BytesIO())  # so that nothing is imported by a child
    results = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        both[0].save(path)
        began = time.perf_counter()
        both[0].save(path)
        once = time.perf_counter() - began
        for _ in range(trials):
            child = os.fork()
            if child == 0:
                while True:
                    for model in both[::-1]:
                        model.save(path)
            time.sleep(random.uniform(0, 4 * once))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            loaded = AlternatingLeastSquares.load(path)
            (number,) = {loaded.random_state, *np.unique(loaded.user_factors), *np.unique(loaded.item_factors)}
            partial = [entry for entry in Path(folder).iterdir() if entry != path]
            assert all(entry.name.startswith(".model.npz.") and entry.suffix == ".part" for entry in partial)
            for entry in partial:
                entry.unlink()
            results["in the midst of writing" if partial else "between two files"] += 1
            results[f"model {int(number)}"] += 1
    print(json.dumps(results))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
