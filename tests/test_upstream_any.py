"""Over random small matrices, ALS and the functions beside the models give what `implicit` 0.7.3 gives.

Matrices have empty rows and columns, explicit zeros and negative values. Where nothing but the order of equal scores
differs, ids are compared where a score stands alone.
"""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import implicit_core.cpu.als
import implicit_core.cpu.topk
import implicit_core.nearest_neighbours
from implicit_core import utils

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("implicit", reason="compares with implicit, which is not installed")
    import implicit.cpu.als
    import implicit.cpu.topk
    import implicit.nearest_neighbours
    import implicit.utils

bounded = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
seeds = st.integers(0, 2**32 - 1)
CLASSES = implicit_core.cpu.als.AlternatingLeastSquares, implicit.cpu.als.AlternatingLeastSquares


@st.composite
def matrices(draw, values=(-3.0, -0.5, 0.0, 0.25, 1.0, 1.0, 2.0, 7.5)):
    users, items = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    cells = draw(st.lists(st.sampled_from(range(users * items)), unique=True, max_size=users * items))
    drawn = draw(st.lists(st.sampled_from(values), min_size=len(cells), max_size=len(cells)))
    at = np.array(cells, dtype=np.int64)
    return sparse.csr_matrix((np.array(drawn), (at // items, at % items)), shape=(users, items))


likes = matrices(values=(0.25, 1.0, 1.0, 2.0, 7.5))


def models(matrix, factors=3, iterations=0, seed=0, **parameters):
    """Ours and theirs with the same factors, after a fit if ``iterations`` is not 0."""
    random = np.random.default_rng(seed)
    start = [random.normal(size=(n, factors)) for n in matrix.shape]
    options = {"regularization": 0.5, "dtype": np.float64, "num_threads": 1, "iterations": iterations, **parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        pair = [cls(factors=factors, **options) for cls in CLASSES]
    for model in pair:
        model.user_factors, model.item_factors = (side.copy() for side in start)
        if iterations:
            model.fit(matrix, show_progress=False)
    return pair


def assert_close(mine, other, rtol=1e-6, atol=1e-9):
    assert np.asarray(mine).dtype == np.asarray(other).dtype
    np.testing.assert_allclose(mine, other, rtol=rtol, atol=atol)


def assert_same_ranking(mine, other, found):
    """Equal scores, and equal ids where a score stands alone among the ``found`` that there are."""
    (ids, scores), (their_ids, their_scores) = mine, other
    np.testing.assert_allclose(scores[:found], their_scores[:found], rtol=1e-6, atol=1e-6)
    for position in range(found - 1):
        if (np.abs(scores - scores[position]) < 1e-6).sum() == 1:
            assert ids[position] == their_ids[position]


@bounded
@given(matrices(), st.integers(1, 9), st.sampled_from([0.3, 1.0, 10.0]), st.booleans(), st.booleans(), seeds)
def test_training_agrees(matrix, factors, alpha, use_cg, use_native, seed):
    if not use_native:  # no empty rows, of which their array program leaves what the last step reached
        users, items = np.indices(matrix.shape)
        matrix = sparse.csr_matrix(matrix + 0.125 * ((users == 0) | (items == 0)))
    mine, other = models(matrix, factors, 2, seed, alpha=alpha, use_cg=use_cg, use_native=use_native)
    assert_close(mine.user_factors, other.user_factors, atol=1e-7)
    assert_close(mine.item_factors, other.item_factors, atol=1e-7)


@bounded
@given(matrices(), st.sampled_from([0, 3]), st.booleans(), seeds)
def test_an_int_seed_starts_alike(matrix, iterations, use_cg, seed):
    fitted = []
    for cls in CLASSES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            options = {"factors": 4, "regularization": 0.5, "dtype": np.float64, "num_threads": 1, "use_cg": use_cg}
            fitted.append(cls(iterations=iterations, random_state=seed, **options))
        fitted[-1].fit(matrix, show_progress=False)
    assert_close(fitted[0].user_factors, fitted[1].user_factors)
    assert_close(fitted[0].item_factors, fitted[1].item_factors)


@bounded
@given(likes, st.integers(1, 5), seeds)
def test_the_loss_agrees(matrix, factors, seed):
    mine, other = (
        module.calculate_loss(matrix.astype(np.float32), *sides(matrix, factors, seed), 0.3)
        for module in (implicit_core.cpu.als, implicit.cpu.als)
    )
    if matrix.sum() > 0:  # theirs divides by zero
        assert mine == pytest.approx(other, rel=1e-6)


def sides(matrix, factors, seed):
    random = np.random.default_rng(seed)
    return [random.normal(size=(n, factors)) for n in matrix.shape]


@bounded
@given(matrices(), st.integers(1, 5), st.sampled_from(["least_squares", "least_squares_cg"]), seeds)
def test_half_steps_agree(matrix, factors, name, seed):
    reached = []
    for module in (implicit_core.cpu.als, implicit.cpu.als):
        X, Y = sides(matrix, factors, seed)
        getattr(module, name)(matrix, X, Y, 0.5, num_threads=1)
        reached.append(X[np.diff(matrix.indptr) > 0])  # of an empty row, theirs leaves what the last step reached
    assert_close(*reached)


@bounded
@given(matrices(), st.data(), st.sampled_from(["user", "item"]), st.booleans(), seeds)
def test_recalculated_factors_agree(matrix, data, side, scalar, seed):
    rows = matrix if side == "user" else matrix.T.tocsr()
    ids = data.draw(st.lists(st.integers(0, rows.shape[0] - 1), min_size=1, unique=True))
    ids = ids[0] if scalar else ids
    pair = models(matrix, seed=seed)
    mine, other = (getattr(model, f"recalculate_{side}")(ids, rows[np.atleast_1d(ids)]) for model in pair)
    assert_close(mine, other)


@bounded
@given(matrices(), st.data(), st.sampled_from(["user", "item"]), seeds)
def test_partial_fits_agree(matrix, data, side, seed):
    rows = matrix if side == "user" else matrix.T.tocsr()
    n = rows.shape[0]
    ids = data.draw(st.lists(st.integers(0, n + 3), min_size=1, max_size=n, unique=True))
    pair = models(matrix, seed=seed)
    for model in pair:
        getattr(model, f"partial_fit_{side}s")(ids, rows[: len(ids)])
    known = ids + [i for i in range(n) if i not in ids]  # rows in between, that no one fitted, may hold anything
    assert_close(getattr(pair[0], f"{side}_factors")[known], getattr(pair[1], f"{side}_factors")[known])
    assert getattr(pair[0], f"{side}_factors").shape == getattr(pair[1], f"{side}_factors").shape


@bounded
@given(likes, st.data(), st.integers(1, 9), seeds)
def test_explanations_agree(matrix, data, N, seed):
    user = data.draw(st.integers(0, matrix.shape[0] - 1))
    item = data.draw(st.integers(0, matrix.shape[1] - 1))
    (score, parts, _), (their_score, their_parts, _) = (
        model.explain(user, matrix, item, N=N) for model in models(matrix, seed=seed)
    )
    assert score == pytest.approx(their_score, abs=1e-6)
    mine, other = (np.array(found, dtype=float).reshape(-1, 2).T for found in (parts, their_parts))
    assert mine.shape == other.shape
    assert_same_ranking(mine, other, mine.shape[1])


@bounded
@given(likes, st.data(), st.integers(1, 10), st.sampled_from([None, "items", "filter_items"]), st.booleans(), seeds)
def test_recommendations_of_recalculated_users_agree(matrix, data, N, selection, liked, seed):
    users, items = matrix.shape
    user = data.draw(st.integers(0, users - 1))
    options = {"N": N, "recalculate_user": True, "filter_already_liked_items": liked}
    candidates = list(range(items))
    if selection:
        candidates = data.draw(st.lists(st.integers(0, items - 1), min_size=1, unique=True))
        options[selection] = candidates
    gone = set(matrix[user].indices) if liked else set()
    found = set(candidates) if selection == "items" else set(range(items)) - set(candidates if selection else ())
    mine, other = (model.recommend(user, matrix[user], **options) for model in models(matrix, seed=seed))
    assert_same_ranking(mine, other, min(N, len(found - gone)))


@bounded
@given(
    st.integers(1, 30), st.integers(1, 6), st.integers(2, 5), st.integers(1, 12), st.booleans(), st.booleans(), seeds
)
def test_topk_agrees(items, queries, factors, k, cosine, filters, seed):
    random = np.random.default_rng(seed)
    Y, X = random.normal(size=(items, factors)), random.normal(size=(queries, factors))
    k = min(k, items)
    options = {"item_norms": np.linalg.norm(Y, axis=1)} if cosine else {}
    if filters:
        options["filter_query_items"] = sparse.csr_matrix(random.random((queries, items)) < 0.3, dtype=np.float32)
        options["filter_items"] = np.flatnonzero(random.random(items) < 0.2).astype(np.int32)
    mine, other = (
        module.topk(Y, X, k, **options, num_threads=1) for module in (implicit_core.cpu.topk, implicit.cpu.topk)
    )
    shown = mine[1] > -1e30
    assert np.array_equal(shown, other[1] > -1e30)
    np.testing.assert_array_equal(mine[0][shown], other[0][shown])
    np.testing.assert_allclose(mine[1][shown], other[1][shown], rtol=1e-9)


@bounded
@given(likes, st.sampled_from(["bm25_weight", "tfidf_weight", "normalize"]), st.sampled_from(["csr", "csc", "coo"]))
def test_weights_agree(matrix, name, form):
    matrix = (matrix + sparse.eye(*matrix.shape)).asformat(form)  # a row of zeros makes theirs divide by zero
    mine, other = (
        getattr(module, name)(matrix) for module in (implicit_core.nearest_neighbours, implicit.nearest_neighbours)
    )
    assert mine.format == other.format
    rows = matrix.tocsr().getnnz(axis=1) > 0
    assert_close(mine.toarray()[rows], other.toarray()[rows], rtol=1e-9, atol=1e-12)


@bounded
@given(likes, st.sampled_from([1.2, 3, 100]), st.sampled_from([0.0, 0.75, 1.0]))
def test_bm25_parameters_mean_the_same(matrix, K1, B):
    matrix = matrix + sparse.eye(*matrix.shape, format="csr")
    mine, other = (
        module.bm25_weight(matrix, K1=K1, B=B)
        for module in (implicit_core.nearest_neighbours, implicit.nearest_neighbours)
    )
    assert_close(mine.toarray(), other.toarray(), rtol=1e-9)


@bounded
@given(matrices(), st.data(), seeds)
def test_helpers_agree(matrix, data, seed):
    row = data.draw(st.integers(0, matrix.shape[0] - 1))
    assert list(utils.nonzeros(matrix, row)) == list(implicit.utils.nonzeros(matrix, row))
    Y = np.random.default_rng(seed).normal(size=(matrix.shape[1], 3))
    (most, augmented), (their_most, their_augmented) = (
        module.augment_inner_product_matrix(Y) for module in (utils, implicit.utils)
    )
    assert most == pytest.approx(their_most)
    np.testing.assert_allclose(augmented, their_augmented, atol=1e-6)
    assert utils.check_random_state(seed).random() == implicit.utils.check_random_state(seed).random()
