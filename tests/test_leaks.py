"""A hundred fits and recommendations take no more memory than a few; `IMPLICIT_CORE_TRIALS=10` tries a thousand."""

import os
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory in use as Linux gives it"),
    pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps freed memory"),
]

TRIALS = int(os.environ.get("IMPLICIT_CORE_TRIALS", "1"))
MODELS = {
    "als": "als.AlternatingLeastSquares(factors=16, iterations=1, num_threads=2)",
    "als-cholesky": "als.AlternatingLeastSquares(factors=16, iterations=1, use_cg=False, calculate_training_loss=True)",
    "bpr": "bpr.BayesianPersonalizedRanking(factors=16, iterations=1, num_threads=2)",
    "lmf": "lmf.LogisticMatrixFactorization(factors=16, iterations=1, num_threads=2, neg_prop=3)",
    "bm25": "nearest_neighbours.BM25Recommender(num_threads=2)",
}
SCRIPT = """
import gc, os, sys, tracemalloc
from pathlib import Path
import numpy as np
from implicit_core import als, bpr, evaluation, lmf, nearest_neighbours
from implicit_core.cpu import kernels
from implicit_core.datasets.synthetic import make_implicit

kernels.THREAD_WORK = 100_000
matrix, users = make_implicit(60, 50, 600, random_state=0), np.arange(60)

def once():
    model = {model}
    model.fit(matrix, show_progress=False)
    model.recommend(users, matrix, N=5)
    model.recommend(3, matrix[[3]], items=[1, 2])
    model.similar_items(4)
    model.similar_users([4, 5], filter_users=[7])
    evaluation.precision_at_k(model, matrix, matrix, 3, show_progress=False)
    if hasattr(model, "partial_fit_users"):
        model.partial_fit_users([61], matrix[[3]])
        model.explain(3, matrix[[3]], 4)
    try:
        model.fit(matrix.T.tocsr()[:, :-1] * np.nan, show_progress=False)  # an error leaks no more
    except ValueError:
        pass

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

for _ in range(50):
    once()
before = resident()
for _ in range({repeats}):
    once()
after = resident()
tracemalloc.start(5)
for _ in range(10):
    once()
gc.collect()
first = tracemalloc.take_snapshot()
for _ in range(40):
    once()
gc.collect()
second = tracemalloc.take_snapshot()
kept = sum(part.size_diff for part in second.compare_to(first, "filename") if "tracemalloc" not in str(part.traceback))
print(after - before, kept)
"""


@pytest.mark.parametrize("name", MODELS)
def test_many_fits_and_recommendations_keep_nothing(name, run_python):
    """An array of a fit has at least 3 KB: one kept per fit would show as 0.12 MB, or as 3 MB after a thousand."""
    script = SCRIPT.replace("{model}", MODELS[name]).replace("{repeats}", str(95 * TRIALS))
    result = run_python("-c", script, MALLOC_ARENA_MAX="1", timeout=600)
    assert result.returncode == 0, result.stderr
    resident, traced = map(int, result.stdout.split())
    assert resident < 2 * 2**20
    assert traced < 2**16
