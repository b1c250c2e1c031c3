"""Arguments that used to crash, hang, warn, pass through or fail inside a library: each is refused by its name."""

import numpy as np
import pytest
from scipy import sparse

from implicit_core import evaluation
from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.cpu.als import calculate_loss, least_squares_cg, user_factor
from implicit_core.cpu.matrix_factorization_base import _filter_items_from_sparse_matrix
from implicit_core.cpu.topk import topk
from implicit_core.datasets.synthetic import make_implicit
from implicit_core.nearest_neighbours import CosineRecommender, NearestNeighboursScorer, all_pairs_knn, bm25_weight
from implicit_core.utils import ModelFitError, augment_inner_product_matrix, check_random_state

MATRIX = sparse.csr_matrix(np.arange(12.0).reshape(3, 4))
X, Y = np.ones((3, 2)), np.ones((4, 2))
RAGGED = [[0], [0, 1]]


def spoilt(kind=sparse.csr_matrix, **arrays):
    """The matrix with other arrays."""
    matrix = kind(MATRIX)
    for name, array in arrays.items():
        setattr(matrix, name, array)
    return matrix


@pytest.fixture
def model():
    fitted = AlternatingLeastSquares(2, iterations=1, random_state=0)
    fitted.fit(MATRIX, show_progress=False)
    return fitted


def fit(matrix, **parameters):
    AlternatingLeastSquares(2, iterations=1, **parameters).fit(matrix, show_progress=False)


@pytest.mark.parametrize(
    ("call", "error", "name"),
    [
        (lambda m: check_random_state(-1), ValueError, "random_state"),
        (lambda m: fit(MATRIX, random_state="seed"), TypeError, "random_state"),
        (lambda m: fit(MATRIX, dtype="no such"), TypeError, "dtype"),
        (lambda m: fit(MATRIX, regularization=10**400), ValueError, "regularization"),
        (lambda m: fit(MATRIX, cg_steps=np.ones(2)), TypeError, "cg_steps"),
        (lambda m: AlternatingLeastSquares(2**40).fit(MATRIX, show_progress=False), ValueError, "factors"),
        (lambda m: fit(spoilt(indptr=MATRIX.indptr.astype(float))), ValueError, "user_items"),
        (lambda m: fit(spoilt(indices=MATRIX.indices + 0.5)), ValueError, "user_items"),
        (lambda m: fit(spoilt(indices=MATRIX.indices[:, None])), ValueError, "user_items"),
        (lambda m: fit(spoilt(data=MATRIX.data[:, None])), ValueError, "user_items"),
        (lambda m: fit(spoilt(sparse.coo_matrix, row=MATRIX.tocoo().row + 9)), ValueError, "user_items"),
        (lambda m: fit(spoilt(sparse.csc_matrix, indices=MATRIX.tocsc().indices - 5)), ValueError, "user_items"),
        (lambda m: m.recommend(RAGGED, MATRIX), IndexError, "userid"),
        (lambda m: m.similar_items(RAGGED), IndexError, "itemid"),
        (lambda m: m.recommend(0, None, filter_already_liked_items=False, items=RAGGED), IndexError, "items"),
        (
            lambda m: m.recommend(0, None, filter_already_liked_items=False, filter_items={1, "a"}),
            IndexError,
            "filter_items",
        ),
        (lambda m: m.recommend(0, MATRIX[[0]], N=2**31), ValueError, "N must"),
        (lambda m: m.similar_items(0, N=2**62), ValueError, "N must"),
        (lambda m: m.recommend([0, 1, 2], spoilt(data=MATRIX.data.astype(object))), TypeError, "user_items"),
        (lambda m: m.explain([0, 1], MATRIX[[0, 1]], 1), IndexError, "userid"),
        (lambda m: m.partial_fit_users(RAGGED, MATRIX[:2]), IndexError, "userids"),
        (lambda m: all_pairs_knn(MATRIX, num_threads=1.5), TypeError, "num_threads"),
        (lambda m: NearestNeighboursScorer(MATRIX[:, :3]).recommend("a", [0], [1.0]), TypeError, "user_indptr"),
        (lambda m: NearestNeighboursScorer(MATRIX[:, :3]).recommend([0], [0], [1.0]), ValueError, "user_indptr"),
        (lambda m: bm25_weight(MATRIX, K1=-1), ValueError, "K1"),
        (lambda m: bm25_weight(MATRIX, B=1.5), ValueError, "B must"),
        (lambda m: bm25_weight(MATRIX * 1e307), ValueError, "X h"),
        (lambda m: bm25_weight(spoilt(indices=MATRIX.indices + 9)), ValueError, "X must"),
        (lambda m: evaluation.train_test_split(MATRIX, random_state=-1), ValueError, "random_state"),
        (
            lambda m: evaluation.train_test_split(spoilt(sparse.coo_matrix, row=MATRIX.tocoo().row + 9)),
            ValueError,
            "ratings",
        ),
        (
            lambda m: evaluation.precision_at_k(m, spoilt(indices=MATRIX.indices - 9), MATRIX),
            ValueError,
            "train_user_items",
        ),
        (lambda m: evaluation.precision_at_k(m, MATRIX, MATRIX, num_threads="2"), TypeError, "num_threads"),
        (lambda m: calculate_loss(MATRIX, X, Y, "a"), TypeError, "regularization"),
        (lambda m: calculate_loss(MATRIX[:0], X[:0], Y, 0.1, 1.5), TypeError, "num_threads"),
        (lambda m: least_squares_cg(MATRIX, X.copy(), Y, 0.1, cg_steps=None), TypeError, "cg_steps"),
        (lambda m: user_factor(Y, Y.T @ Y, MATRIX, 0, 0.0, 2), ModelFitError, "regularization"),
        (lambda m: user_factor("Y", Y.T @ Y, MATRIX, 0, 0.1, 2), TypeError, "Y must"),
        (lambda m: topk(Y.astype(complex), X, 2), TypeError, "items"),
        (lambda m: topk(Y, RAGGED, 2), TypeError, "query"),
        (lambda m: topk(Y, X, 2, item_norms=np.ones(5)), ValueError, "item_norms"),
        (lambda m: topk(Y, X, 2**31), ValueError, "k must"),
        (lambda m: _filter_items_from_sparse_matrix(RAGGED, MATRIX), ValueError, "items"),
        (lambda m: augment_inner_product_matrix(np.ones(3)), ValueError, "factors"),
        (lambda m: make_implicit(random_state=-1), ValueError, "random_state"),
        (lambda m: make_implicit(users=2.5), TypeError, "users"),
        (lambda m: make_implicit(affinity="a"), TypeError, "affinity"),
        (lambda m: make_implicit(users=2**70, entries=0), ValueError, "users"),
    ],
)
def test_it_is_refused_by_name(model, call, error, name):
    with pytest.raises(error, match=name):
        call(model)


def test_factors_that_are_no_numbers_are_refused(model):
    for kind in (object, complex):
        model.user_factors = np.ones((3, 2), kind)
        with pytest.raises(TypeError, match="user_factors"):
            model.recommend(0, MATRIX[[0]])


def test_factors_that_run_away_are_an_error_without_a_warning():
    model = BayesianPersonalizedRanking(3, learning_rate=1e30, iterations=3, random_state=0)
    with pytest.raises(ModelFitError, match="lower the learning rate"):
        model.fit(make_implicit(30, 20, 200, random_state=0), show_progress=False)


def test_a_huge_k_does_not_loop_over_users_that_are_not_there():
    train, test = evaluation.leave_k_out_split(MATRIX, K=2**40)
    assert test.nnz == 0
    assert (train != MATRIX).nnz == 0


@pytest.mark.parametrize("stride", [2, -1])
def test_arrays_that_are_no_block_of_memory_are_taken(model, stride):
    stored = {name: np.repeat(getattr(MATRIX, name), 2)[::2] for name in ("data", "indices")}
    if stride < 0:
        stored = {name: np.ascontiguousarray(getattr(MATRIX, name)[::-1])[::-1] for name in stored}
    strided = spoilt(**stored)
    for first, second in (
        (all_pairs_knn(strided, show_progress=False), all_pairs_knn(MATRIX, show_progress=False)),
        (model.recommend([0, 1, 2], strided)[0], model.recommend([0, 1, 2], MATRIX)[0]),
    ):
        first, second = (part.toarray() if sparse.issparse(part) else part for part in (first, second))
        assert np.array_equal(first, second)


def test_half_precision_works_wherever_scipy_is_asked(model):
    half = spoilt(data=MATRIX.data.astype(np.float16), indices=MATRIX.indices[::-1].copy())
    assert model.recommend([0, 1, 2], half)[0].shape == (3, 10)
    assert evaluation.precision_at_k(model, half, half) >= 0
    assert bm25_weight(half).nnz == MATRIX.nnz
    train, test = evaluation.leave_k_out_split(half)
    assert train.dtype == test.dtype == np.float32
    CosineRecommender().fit(half, show_progress=False)
