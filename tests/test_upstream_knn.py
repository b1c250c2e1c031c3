"""The same input into the nearest-neighbour models of `implicit` 0.7.3 and into ours gives the same results.

Where the two differ on purpose, this library's behaviour is asserted. Input on which `implicit` crashes is never given
to it.
"""

import io
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import implicit_core.nearest_neighbours as ours
from implicit_core import _nearest_neighbours

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("implicit", reason="compares with implicit, which is not installed")
    import implicit._nearest_neighbours
    import implicit.nearest_neighbours as theirs

NAMES = ["ItemItemRecommender", "CosineRecommender", "TFIDFRecommender", "BM25Recommender"]
LOWEST, NO_SCORE = np.finfo(np.float64).min, float(np.finfo(np.float32).min)
BOUNDED = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def counts(users=40, items=30, seed=0, density=0.15):
    """Values of many digits, so that no two scores are equal by chance."""
    random = np.random.default_rng(seed)
    return sparse.csr_matrix(random.lognormal(size=(users, items)) * (random.random((users, items)) < density))


def pair(name, matrix, *parameters):
    """Both models, fitted to the same matrix; that of `implicit` warns of CSR input."""
    models = getattr(ours, name)(*parameters), getattr(theirs, name)(*parameters)
    models[0].fit(matrix, show_progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models[1].fit(matrix, show_progress=False)
    return models


def assert_same(mine, other):
    assert len(mine) == len(other) == 2
    np.testing.assert_array_equal(mine[0], other[0])
    np.testing.assert_allclose(mine[1], other[1], rtol=1e-9)
    assert mine[1].dtype == other[1].dtype


shapes = st.tuples(st.integers(1, 30), st.integers(2, 25), st.integers(0, 10**6), st.sampled_from([0.05, 0.2, 0.6]))


@BOUNDED
@given(shape=shapes, K=st.integers(1, 30))
def test_similarities_agree_where_no_two_are_equal(shape, K):
    matrix = counts(*shape)
    mine = ours.all_pairs_knn(matrix, K, show_progress=False)
    other = theirs.all_pairs_knn(matrix, K, show_progress=False)
    assert type(mine) is type(other)
    assert mine.row.dtype == other.row.dtype
    assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
    np.testing.assert_allclose(mine.toarray(), other.toarray(), rtol=1e-9)
    assert mine.nnz <= other.nnz == matrix.shape[1] * K  # unused slots are left out rather than (0, 0, 0)


@BOUNDED
@given(shape=shapes, K=st.integers(1, 30))
def test_models_agree_after_fit(name, shape, K):
    matrix = counts(*shape)
    if name == "TFIDFRecommender" and (np.diff(matrix.indptr) >= matrix.shape[1] - 1).any():
        return  # rounding noise, blown up
    mine, other = pair(name, matrix, K)
    values = (np.sort(model.similarity.toarray(), axis=1) for model in (mine, other))  # which of equal ones may differ
    np.testing.assert_allclose(*values, rtol=1e-8, atol=1e-13)
    assert type(mine.similarity) is type(other.similarity)


@BOUNDED
@given(seed=st.integers(0, 10**6), N=st.integers(1, 40), liked=st.booleans())
def test_unfiltered_recommendations_agree_and_liked_ones_are_left_out(name, seed, N, liked):
    matrix = counts(seed=seed)
    mine, other = pair(name, matrix, 6)
    users = np.arange(matrix.shape[0])
    for user in users[:10]:
        found = mine.recommend(user, matrix[user], N=N, filter_already_liked_items=liked)
        wanted = other.recommend(user, matrix[user], N=N, filter_already_liked_items=liked)
        if liked:  # they come back at score 0
            kept = ~np.isin(wanted[0], matrix[user].indices)
            wanted = wanted[0][kept], wanted[1][kept]
        if name == "BM25Recommender" and liked and (found[1] < 0).any():
            continue  # below the zeros
        assert_same(found, wanted)
        assert found[0].dtype == wanted[0].dtype
    if not liked:
        found, wanted = (m.recommend(users, matrix, N=N, filter_already_liked_items=False) for m in (mine, other))
        assert_same(found, wanted)
        assert found[0].dtype == wanted[0].dtype


@BOUNDED
@given(seed=st.integers(0, 10**6), N=st.integers(1, 40))
def test_similar_items_agree(name, seed, N):
    matrix = counts(seed=seed)
    mine, other = pair(name, matrix, 6)
    items = np.arange(matrix.shape[1])
    assert_same(mine.similar_items(items, N=N), other.similar_items(items, N=N))
    for item in items[:8]:
        assert_same(mine.similar_items(item, N=N), other.similar_items(item, N=N))
        neighbours = other.similar_items(item)[0][1:3]
        assert_same(
            mine.similar_items(item, N=N, filter_items=neighbours),
            other.similar_items(item, N=N, filter_items=neighbours.tolist()),
        )
        found, wanted = (m.similar_items(item, N=N, items=items) for m in (mine, other))
        reached = wanted[1] > LOWEST
        assert_same((found[0][reached], found[1][reached]), (wanted[0][reached], wanted[1][reached]))
        assert (found[1][~reached] == LOWEST).all()


def test_candidates_agree_and_are_all_returned(name):
    matrix = counts()
    mine, other = pair(name, matrix, 6)
    candidates = np.array([0, 3, 9, 17, 29])
    for user in range(20):
        options = {"N": 2, "items": candidates, "filter_already_liked_items": False}
        found, wanted = (m.recommend(user, matrix[user], **options) for m in (mine, other))
        assert len(found[0]) == len(wanted[0]) == 5
        reached = wanted[1] > LOWEST
        assert_same((found[0][reached], found[1][reached]), (wanted[0][reached], wanted[1][reached]))
        assert (found[1][~reached] == LOWEST).all()
        assert found[0].dtype == np.int32  # theirs: int64 for one user, int32 for many
    ids, _ = mine.recommend([0, 1], matrix[:2], N=2, items=candidates)
    assert ids.shape == (2, 5)  # theirs: the N best


def test_filtered_items_are_left_out_and_no_more_than_n_are_returned(name):
    matrix = counts(density=0.4)
    mine, other = pair(name, matrix, 10)
    for user in range(20):
        filtered = other.recommend(user, matrix[user], N=4, filter_already_liked_items=False)[0][:2].tolist()
        options = {"filter_items": filtered, "filter_already_liked_items": False, "N": 5}
        found, wanted = (m.recommend(user, matrix[user], **options) for m in (mine, other))
        assert len(found[0]) == 5
        assert_same(found, (wanted[0][:5], wanted[1][:5]))
        assert not np.isin(found[0], filtered).any()


def test_ties_keep_the_smallest_ids():
    ones = sparse.csr_matrix(np.ones((3, 6)))
    mine = ours.all_pairs_knn(ones, K=2, show_progress=False)
    other = theirs.all_pairs_knn(ones, K=2, show_progress=False)
    assert set(other.col) == {4, 5}
    assert set(mine.col) == {0, 1}
    np.testing.assert_array_equal(np.sort(mine.data), np.sort(other.data))


def test_a_scalar_call_takes_the_row_of_the_user(name):
    matrix = counts()
    mine, other = pair(name, matrix, 6)
    assert_same(mine.recommend(7, matrix, filter_already_liked_items=False),
                other.recommend(7, matrix[7], filter_already_liked_items=False))  # fmt: skip
    np.testing.assert_array_equal(other.recommend(7, matrix)[0], other.recommend(0, matrix[0])[0])


@pytest.mark.parametrize("source", ["ours", "theirs"])
def test_files_go_both_ways(name, source):
    matrix = counts()
    models = pair(name, matrix, 6)
    file = io.BytesIO()
    models[source == "theirs"].save(file)
    for kind in (getattr(ours, name), getattr(theirs, name)):
        file.seek(0)
        model = kind.load(file)
        assert model.K == 6
        np.testing.assert_array_equal(model.similarity.toarray(), models[source == "theirs"].similarity.toarray())
        items = np.arange(matrix.shape[1])
        assert_same(model.similar_items(items), models[0].similar_items(items))
        assert len(model.recommend(5, matrix[5], filter_already_liked_items=False)[0]) > 0


def test_a_file_of_theirs_knows_nothing_of_the_users(name):
    matrix = counts()
    mine, other = pair(name, matrix)
    file = io.BytesIO()
    other.save(file)
    file.seek(0)
    model = getattr(ours, name).load(file)
    with pytest.raises(ValueError, match=r"files of implicit have none.*set model\.user_items"):
        model.similar_users(3)
    model.user_items = matrix
    assert_same(model.similar_users([3, 4]), mine.similar_users([3, 4]))


def test_the_scorer_returns_the_same_types():
    matrix = counts()
    similarity = ours.all_pairs_knn(matrix, 5, show_progress=False).tocsr()
    arguments = (matrix.indptr[3:5], matrix.indices, matrix.data)
    for keep in ({"K": 4}, {}):
        found = _nearest_neighbours.NearestNeighboursScorer(similarity).recommend(
            *arguments, **keep, remove_own_likes=False
        )
        wanted = implicit._nearest_neighbours.NearestNeighboursScorer(similarity).recommend(
            *arguments, **keep, remove_own_likes=False
        )
        assert type(found) is type(wanted)
        assert found[0].dtype == wanted[0].dtype
        assert_same(found, wanted)


def test_noise_of_tfidf_is_not_blown_up():
    likes = sparse.csr_matrix(np.array([[1.0, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 0]]))
    mine, other = pair("TFIDFRecommender", likes, 4)
    assert other.similarity.data.any()  # noise, or NaN
    assert not mine.similarity.toarray().any()


def test_public_names_are_there():
    names = {n for n in dir(theirs) if n in (*NAMES, "all_pairs_knn", "NearestNeighboursScorer", "bm25_weight")}
    assert names <= set(ours.__all__)
    for n in ("all_pairs_knn", "NearestNeighboursScorer"):
        assert getattr(_nearest_neighbours, n) is getattr(ours, n)
