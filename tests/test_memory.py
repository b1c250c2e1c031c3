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


def test_recommendations_for_a_million_users_of_a_hundred_thousand_items_need_little_space(run):
    """All scores would take 400 GB. Norms of items fall, so that most need not be looked at and it takes no hours."""
    assert (
        run("""
users, items = 1_000_000, 100_000
model = AlternatingLeastSquares(8)
model.user_factors = rng.standard_normal((users, 8), dtype="float32")
model.item_factors = rng.standard_normal((items, 8), dtype="float32")
model.item_factors *= np.geomspace(1, 0.001, items, dtype="float32")[:, None]
liked = np.sort(rng.integers(0, items, (users, 10), dtype=np.int32), axis=1).ravel()
indptr = np.arange(0, 10 * users + 1, 10, dtype=np.int32)
user_items = sparse.csr_matrix((np.ones(10 * users, "float32"), liked, indptr), shape=(users, items))
everyone = np.arange(users)
used, (ids, scores) = peak(lambda: model.recommend(everyone, user_items))
bound = megabytes(ids, scores) + 100
print("within" if used <= bound else f"used {used:.0f} MB, bound {bound:.0f} MB")
""")
        == "within\n"
    )


@pytest.mark.parametrize(
    "model",
    [
        "AlternatingLeastSquares(2, iterations=2)",
        "AlternatingLeastSquares(2, iterations=2, alpha=3.0, calculate_training_loss=True)",
        "AlternatingLeastSquares(2, iterations=2, use_cg=False, dtype=np.float64)",
        "BayesianPersonalizedRanking(2, iterations=2)",
        "LogisticMatrixFactorization(2, iterations=2, neg_prop=1)",
    ],
)
def test_a_fit_copies_the_values_once_at_most(run, model):
    """Values of twice the size then take as much more as they are larger, once."""
    assert (
        run(f"""
import tracemalloc
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization

users, items, each = 10_000, 4_000, 100
within_stripe = rng.integers(0, items // each, (users, each), dtype=np.int32)
indices = within_stripe + np.arange(0, items, items // each, dtype=np.int32)
indptr = np.arange(0, users * each + 1, each, dtype=np.int32)

def traced(values):
    matrix = sparse.csr_matrix((np.ones(users * each, values), indices.ravel(), indptr), shape=(users, items))
    assert matrix.has_canonical_format
    model = {model}
    tracemalloc.start()
    model.fit(matrix, show_progress=False)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / matrix.nnz

traced("float32")
more = traced("float64") - traced("float32")
print("within" if more <= 4.5 else f"{{more:.1f}} bytes an entry more, for values that are 4 larger")
""")
        == "within\n"
    )


LOOP = """
import gc, io, pickle, tempfile, tracemalloc
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import BM25Recommender
from implicit_core.evaluation import ranking_metrics_at_k, train_test_split

matrix = sparse.random(200, 150, 0.1, format="csr", random_state=1, dtype=np.float32)
folder = tempfile.TemporaryDirectory()
KINDS = (
    lambda: AlternatingLeastSquares(8, iterations=1, calculate_training_loss=True),
    lambda: BayesianPersonalizedRanking(8, iterations=1),
    lambda: LogisticMatrixFactorization(8, iterations=1, neg_prop=3),
    lambda: BM25Recommender(),
)

def cycle(number):
    model = KINDS[number % 4]()
    if number % 4 == 3:
        model.fit(matrix, show_progress=False)
    else:
        model.fit(matrix, show_progress=False, checkpoint=f"{folder.name}/{number % 8}")
        Path(f"{folder.name}/{number % 8}.npz").unlink()
    users = np.arange(200)
    model.recommend(users, matrix)
    model.recommend(3, matrix[3], items=[1, 5, 9])
    model.similar_items([1, 2])
    model.similar_users(4)
    memory = io.BytesIO()
    model.save(memory)
    memory.seek(0)
    pickle.loads(pickle.dumps(type(model).load(memory)))
    try:
        model.recommend(200, matrix)
    except (IndexError, ValueError):
        pass
    if number % 4 == 0:
        model.recommend(users, matrix, recalculate_user=True)
        model.partial_fit_users([3, 201], matrix[[3, 4]])
        model.explain(3, matrix[[3]], 5)
        ranking_metrics_at_k(model, *train_test_split(matrix, random_state=1), K=5, show_progress=False)
"""


def test_a_thousand_fits_leave_the_process_as_large_as_it_was(run):
    """What the interpreter and the allocator keep is there after the first cycles."""
    result = run(
        LOOP
        + """
for number in range(200):
    cycle(number)
gc.collect()
before = resident("VmRSS")
for number in range(1000):
    cycle(number)
gc.collect()
print(resident("VmRSS") - before)
"""
    )
    assert float(result) < 4


def test_no_object_outlives_its_cycle(run):
    result = run(
        LOOP
        + """
tracemalloc.start()
for number in range(20):
    cycle(number)
gc.collect()
before = tracemalloc.get_traced_memory()[0]
for number in range(200):
    cycle(number)
gc.collect()
print((tracemalloc.get_traced_memory()[0] - before) / 200)
"""
    )
    assert float(result) < 500  # bytes a cycle, for what NumPy keeps of small arrays; factors of a side take 4,800
