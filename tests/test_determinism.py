"""The same seed gives the same bits: any number of threads, any number of times, whatever is computed."""

import hashlib

import numpy as np
import pytest
from scipy import sparse

from implicit_core import approximate_als, bpr, evaluation, lmf
from implicit_core import nearest_neighbours as knn
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu import _axes, kernels
from implicit_core.datasets.synthetic import make_implicit

USERS, ITEMS = 130, 90
THREADS = (1, 2, 3, 8)
REPETITIONS = 20
FACTORS = {"factors": 7, "iterations": 2, "random_state": 5}


MODELS = {
    "als-cg": lambda threads: AlternatingLeastSquares(**FACTORS, num_threads=threads, calculate_training_loss=True),
    "als-cholesky-float64": lambda threads: AlternatingLeastSquares(
        **FACTORS, num_threads=threads, use_cg=False, dtype=np.float64
    ),
    "als-principal-axes": lambda threads: AlternatingLeastSquares(**{**FACTORS, "factors": 70}, num_threads=threads),
    "als-unobserved-weight": lambda threads: AlternatingLeastSquares(
        **FACTORS, num_threads=threads, unobserved_weight=0.1, regularization_exponent=1.0, init_scale=0.1
    ),
    "bpr": lambda threads: bpr.BayesianPersonalizedRanking(**FACTORS, num_threads=threads, learning_rate=0.1),
    "lmf": lambda threads: lmf.LogisticMatrixFactorization(**FACTORS, num_threads=threads),
    "cosine": lambda threads: knn.CosineRecommender(K=10, num_threads=threads),
    "tfidf": lambda threads: knn.TFIDFRecommender(K=10, num_threads=threads),
    "bm25": lambda threads: knn.BM25Recommender(K=10, num_threads=threads),
}


@pytest.fixture(autouse=True)
def principal_axes_in_small(monkeypatch):
    monkeypatch.setattr(_axes, "ROWS_PER_FACTOR", 0)


@pytest.fixture(scope="module")
def split():
    return evaluation.train_test_split(make_implicit(USERS, ITEMS, 1500, random_state=0), random_state=1)


def results(model, train, test):
    """Everything that a model computes, by name."""
    losses = []
    if isinstance(model, AlternatingLeastSquares):
        model.fit(train, show_progress=False, callback=lambda *report: losses.append(report[2]))
    else:
        model.fit(train, show_progress=False)
    users, items = np.arange(USERS), np.arange(ITEMS)
    found = {"loss": np.array(losses, dtype=np.float64)}
    for name, call in {
        "one": lambda: model.recommend(3, train[[3]], N=9),
        "batch": lambda: model.recommend(users, train, N=9),
        "packed batch": lambda: model.recommend(np.tile(users, 3), train[np.tile(users, 3)], N=9),
        "candidates": lambda: model.recommend(users, train, items=[5, 1, 44, 60]),
        "similar items": lambda: model.similar_items(items, N=9),
        "similar users": lambda: model.similar_users(users, N=9),
    }.items():
        found[name], found[f"scores: {name}"] = call()
    metrics = evaluation.ranking_metrics_at_k(model, train, test, 10, False, getattr(model, "num_threads", 0))
    found["metrics"] = np.array(list(metrics.values()))
    if isinstance(model, AlternatingLeastSquares):
        found["recalculated"] = model.recalculate_user(users, train)
        model.partial_fit_users(users[20:] + 40, train[20:])
        model.partial_fit_items(
            [*range(50), ITEMS + 2], sparse.vstack([train.T.tocsr()[:50], train.T.tocsr()[[7]]]).tocsr()
        )
    if hasattr(model, "similarity"):
        found["similarity"], found["neighbours"] = model.similarity.data, model.similarity.indices
    else:
        found["user factors"], found["item factors"] = model.user_factors, model.item_factors
    return {name: hashlib.sha256(np.ascontiguousarray(array)).hexdigest() for name, array in found.items()}


@pytest.mark.parametrize("name", MODELS)
def test_everything_has_the_same_bits_on_any_number_of_threads_each_time(name, split, monkeypatch):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)  # so that small work is shared out too
    expected = results(MODELS[name](1), *split)
    for repetition in range(REPETITIONS):
        for threads in THREADS:
            found = results(MODELS[name](threads), *split)
            unlike = [part for part in expected if found[part] != expected[part]]
            assert not unlike, f"{threads} threads, repetition {repetition}: other bits in {', '.join(unlike)}"


@pytest.mark.parametrize("name", ["Usearch", "Faiss", "NMSLib"])
def test_approximate_models_have_the_same_bits_on_any_number_of_threads_each_time(name, monkeypatch):
    pytest.importorskip(name.lower())
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    matrix, users, found = make_implicit(60, 1200, 3000, random_state=0), np.arange(60), set()
    for repetition in range(REPETITIONS):
        threads = THREADS[repetition % len(THREADS)]
        model = getattr(approximate_als, f"{name}AlternatingLeastSquares")(**FACTORS, num_threads=threads)
        model.fit(matrix, show_progress=False)
        assert model.recommend_index is not None
        parts = [*model.recommend(users, matrix, N=3), *model.similar_items(np.arange(60), N=3)]
        found.add(tuple(part.tobytes() for part in parts))
    assert len(found) == 1


@pytest.mark.parametrize("name", ["als-cg", "bpr", "lmf"])
def test_fitting_further_has_the_same_bits_on_any_number_of_threads(name, split, monkeypatch):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    found = set()
    for threads in THREADS * 5:
        model = MODELS[name](threads)
        results(model, *split)
        if name == "als-cg":  # partial_fit has added users and items
            model.user_factors, model.item_factors = model.user_factors[:USERS], model.item_factors[:ITEMS]
        model.fit(split[0], show_progress=False)
        found.add((model.user_factors.tobytes(), model.item_factors.tobytes()))
    assert len(found) == 1


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_racing_threads_are_not_mistaken_for_determinism(threads, monkeypatch):
    """The comparison can fail: without the schedule, the bits of BPR depend on how threads take turns."""
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    matrix = make_implicit(300, 200, 20_000, random_state=0)
    found = set()
    for _ in range(20):
        model = bpr.BayesianPersonalizedRanking(**FACTORS, num_threads=threads, deterministic=False)
        model.fit(matrix, show_progress=False)
        found.add(model.user_factors.tobytes())
        if len(found) > 1:
            return
    pytest.skip("threads took turns in the same order each time")
