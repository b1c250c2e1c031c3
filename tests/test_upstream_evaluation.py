"""The same input into `implicit.evaluation` and ours, wherever implicit gives an answer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from implicit_core import evaluation as ours
from implicit_core.cpu.als import AlternatingLeastSquares

theirs = pytest.importorskip("implicit.evaluation", reason="the library compared with is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")

METRICS = ["precision_at_k", "mean_average_precision_at_k", "ndcg_at_k", "AUC_at_k"]


class Lists:
    def __init__(self, ranked: np.ndarray) -> None:
        self.ranked = ranked

    def recommend(self, userids: Any, user_items: Any, N: int) -> tuple[np.ndarray, None]:
        return self.ranked[np.asarray(userids)], None


def same_arrays(a: sparse.csr_matrix, b: sparse.csr_matrix) -> None:
    assert type(a) is type(b)
    assert a.shape == b.shape
    for name in ("indptr", "indices", "data"):
        assert getattr(a, name).dtype == getattr(b, name).dtype
        assert np.array_equal(getattr(a, name), getattr(b, name))


@settings(deadline=None, max_examples=200)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    form=st.sampled_from(["csr_matrix", "csr_array", "csc_matrix", "coo_matrix", "lil_matrix", "dok_matrix"]),
    dtype=st.sampled_from([np.float32, np.float64, np.int64, np.int8, np.uint8, np.bool_]),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**40),
)
def test_the_same_seed_gives_the_same_split(shape, form, dtype, share, seed):
    rng = np.random.default_rng(seed)
    entries = int(rng.integers(0, 2 * shape[0] * shape[1]))  # with repeated cells, unsorted
    cells = rng.integers(0, shape[0], entries), rng.integers(0, shape[1], entries)
    matrix = sparse.coo_matrix((rng.integers(-3, 5, entries).astype(dtype), cells), shape=shape)
    if form == "csr_matrix" and seed % 2:
        order = np.argsort(cells[0], kind="stable")
        indptr = np.searchsorted(cells[0][order], np.arange(shape[0] + 1))
        matrix = sparse.csr_matrix((matrix.data[order], cells[1][order], indptr), shape=shape)
    else:
        matrix = getattr(sparse, form)(matrix)
    found, expected = (library.train_test_split(matrix.copy(), share, seed) for library in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
        same_arrays(a, b)


def test_the_same_seed_gives_the_same_split_of_many_entries():
    matrix = sparse.random(1000, 800, 0.2, format="csr", random_state=0, dtype=np.float32)
    for seed in (42, np.random.SeedSequence(5), np.random.PCG64(6), np.random.default_rng(7)):
        again = type(seed)(6) if isinstance(seed, np.random.PCG64) else seed
        again = np.random.default_rng(7) if isinstance(seed, np.random.Generator) else again
        found, expected = ours.train_test_split(matrix, 0.7, seed), theirs.train_test_split(matrix, 0.7, again)
        for a, b in zip(found, expected, strict=True):
            same_arrays(a, b)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 20), st.integers(2, 15), st.integers(1, 15), st.integers(0, 2**32))
def test_lists_get_the_same_metrics(users, items, K, seed):
    """Of at least K places: implicit reads beyond the end of shorter ones."""
    rng = np.random.default_rng(seed)
    K = min(K, items)
    width = int(rng.integers(K, items + 1))
    ranked = np.stack([rng.permutation(items)[:width] for _ in range(users)]).astype(np.int32)
    tests = np.zeros((users, items))
    for row in tests:
        row[rng.permutation(items)[: rng.integers(0, items)]] = 1  # never all items: implicit divides by zero
    tests[0, 0] = users == 1 or tests[0, 0] or not tests.any()
    if (tests.sum(axis=1) == items).any():
        tests[0, -1] = 0
    test = sparse.csr_matrix(tests)
    test.data[rng.random(test.nnz) < 0.3] = 0  # stored zeros
    for row, length in enumerate(tests.sum(axis=1)):  # places without an item, no more than there are items to miss
        if rng.random() < 0.3:
            kept = rng.integers(0, width + 1)
            if K - np.count_nonzero(tests[row, ranked[row, : min(kept, K)]]) <= items - length:
                ranked[row, kept:] = -1
    train = sparse.csr_matrix(test.shape)
    expected = theirs.ranking_metrics_at_k(Lists(ranked), train, test, K=K, show_progress=False)
    found = ours.ranking_metrics_at_k(Lists(ranked), train, test, K=K, show_progress=False)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-11, abs=1e-14)


def data(users: int = 2300, items: int = 200) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Users of one of four tastes; more than two of implicit's batches."""
    rng = np.random.default_rng(0)
    taste = rng.integers(0, 4, users)
    liked = rng.random((users, items)) < np.where(np.arange(items) % 4 == taste[:, None], 0.3, 0.02)
    liked[::7] = False
    return ours.train_test_split(sparse.csr_matrix(liked.astype(np.float32)), 0.6, 1)


@pytest.mark.parametrize("K", [1, 5, 50, 200])
def test_factors_get_the_same_metrics_in_both_libraries(K):
    train, test = data()
    model = AlternatingLeastSquares(factors=8, iterations=3, random_state=0)
    model.fit(train, show_progress=False)
    upstream = pytest.importorskip("implicit.cpu.als").AlternatingLeastSquares(factors=8)
    upstream.user_factors, upstream.item_factors = model.user_factors, model.item_factors
    expected = theirs.ranking_metrics_at_k(upstream, train, test, K=K, show_progress=False)
    for candidate in (model, upstream):
        for threads in (1, 2):
            found = ours.ranking_metrics_at_k(candidate, train, test, K=K, show_progress=False, num_threads=threads)
            assert found == pytest.approx(expected, rel=1e-11)
    assert ours.ranking_metrics_at_k(upstream, train, test, K=K, show_progress=False) == found
    for name in METRICS:
        value = getattr(theirs, name)(upstream, train, test, K=K, show_progress=False)
        assert getattr(ours, name)(upstream, train, test, K=K, show_progress=False) == pytest.approx(value, rel=1e-11)


@pytest.mark.filterwarnings("ignore:Method expects CSR input")
def test_a_neighbourhood_model_of_implicit_gets_the_same_metrics():
    train, test = data(users=400)
    model = pytest.importorskip("implicit.nearest_neighbours").CosineRecommender(K=3)
    model.fit(train.astype(np.float64), show_progress=False)
    arguments = (model, train.astype(np.float64), test)
    expected = theirs.ranking_metrics_at_k(*arguments, K=20, show_progress=False)
    assert (model.recommend(np.arange(400), arguments[1], N=20)[0] == -1).any()
    assert ours.ranking_metrics_at_k(*arguments, K=20, show_progress=False) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("K", [1, 3])
def test_leave_k_out_takes_as_many_entries_of_the_same_users(K):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 8, 60)
    indices = np.concatenate([np.sort(rng.permutation(9)[:n]) for n in lengths])
    matrix = sparse.csr_matrix((np.ones(len(indices)), indices, np.append(0, np.cumsum(lengths))), shape=(60, 9))
    found, expected = (library.leave_k_out_split(matrix, K)[1] for library in (ours, theirs))
    assert np.array_equal(np.diff(found.indptr) > 0, np.diff(expected.indptr) > 0)
    assert np.array_equal(np.diff(found.indptr), K * (lengths >= K + 2))


def test_leave_k_out_keeps_as_many_users_in_training_where_all_are_eligible():
    matrix = sparse.random(100, 100, 0.5, format="csr", random_state=0)
    for size in (0.0, 0.001, 0.3, 0.8, 0.99):
        tests = [library.leave_k_out_split(matrix, 2, size)[1] for library in (ours, theirs)]
        assert len({np.count_nonzero(np.diff(test.indptr)) for test in tests}) == 1
