"""Bounds on memory, measured as the peak of a process of its own."""

import os
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the peak memory of Linux"),
    pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps freed memory"),
]

PRELUDE = """
import numpy as np
from pathlib import Path
from scipy import sparse
from implicit_core.als import AlternatingLeastSquares

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))

def peak(work):
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    result = work()
    return resident("VmHWM") - before, result

def megabytes(*arrays):
    return sum(a.nbytes for a in arrays) / 2**20

rng = np.random.default_rng(0)
"""


@pytest.fixture
def run(run_python):
    """Return a function that gives the output of a script."""

    def output(script):
        result = run_python("-c", PRELUDE + script)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return output


@pytest.mark.parametrize("values", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_fit_needs_the_factors_one_transpose_and_little_more(run, values, alpha):
    """At this size 32 MB would hide no copy of the 40 MB or 80 MB of values.

    Some releases of SciPy copy the indices for a moment when they transpose; that is while there are no factors yet.
    """
    assert (
        run(f"""
users, items, each = 200_000, 100_000, 50
within_stripe = rng.integers(0, items // each, (users, each), dtype=np.int32)
indices = within_stripe + np.arange(0, items, items // each, dtype=np.int32)
indptr = np.arange(0, users * each + 1, each, dtype=np.int32)
matrix = sparse.csr_matrix((np.ones(users * each, "{values}"), indices.ravel(), indptr), shape=(users, items))
matrix.has_canonical_format
model = AlternatingLeastSquares(12, alpha={alpha}, iterations=1, calculate_training_loss=True, random_state=0)
used, _ = peak(lambda: model.fit(matrix, show_progress=False))
bound = megabytes(model.user_factors, model.item_factors, matrix.data, matrix.indices) + 32
print("within" if used <= bound else f"used {{used:.0f}} MB, bound {{bound:.0f}} MB")
""")
        == "within\n"
    )


def test_batch_recommend_needs_a_copy_of_the_items_and_little_more(run):
    """All scores would take 24 GB, all gathered users another 61 MB."""
    assert (
        run("""
users, items = 500_000, 12_000
model = AlternatingLeastSquares(32)
model.user_factors = rng.normal(size=(users, 32)).astype("float32")
model.item_factors = rng.normal(size=(items, 32)).astype("float32")
model.item_factors *= np.geomspace(1, 0.01, items, dtype="float32")[:, None]
everyone = np.arange(users)
used, (ids, scores) = peak(lambda: model.recommend(everyone, None, filter_already_liked_items=False))
bound = megabytes(ids, scores, model.item_factors) + 48
print("within" if used <= bound else f"used {used:.0f} MB, bound {bound:.0f} MB")
""")
        == "within\n"
    )


def test_a_mapped_model_reads_what_it_uses(run, tmp_path):
    """The factors of all users would take 122 MB."""
    assert (
        run(f"""
model, path = AlternatingLeastSquares(32), {str(tmp_path / "model.npz")!r}
model.user_factors = rng.normal(size=(1_000_000, 32)).astype("float32")
model.item_factors = rng.normal(size=(12_000, 32)).astype("float32")
model.save(path)
del model

def work():
    model = AlternatingLeastSquares.load(path, mmap=True)
    for users in (7, np.arange(0, 1_000_000, 100_000)):
        model.recommend(users, None, filter_already_liked_items=False)
    row = sparse.csr_matrix(np.ones((1, 12_000)))
    return model, model.recommend(0, row, recalculate_user=True), model.similar_items(3)

used, _ = peak(work)
print("within" if used <= 48 else f"used {{used:.0f}} MB")
""")
        == "within\n"
    )
