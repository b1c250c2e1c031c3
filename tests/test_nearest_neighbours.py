"""The nearest-neighbour models: what they compute, accept and refuse."""

import io
import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse

from implicit_core import _nearest_neighbours
from implicit_core.nearest_neighbours import (
    BM25Recommender,
    CosineRecommender,
    ItemItemRecommender,
    NearestNeighboursScorer,
    TFIDFRecommender,
    all_pairs_knn,
    bm25_weight,
    normalize,
    tfidf_weight,
)
from implicit_core.recommender_base import ModelFitError, ModelLoadError, NotFittedError
from implicit_core.utils import ParameterWarning

MODELS = [ItemItemRecommender, CosineRecommender, TFIDFRecommender, BM25Recommender]
LOWEST, NO_SCORE = np.finfo(np.float64).min, float(np.finfo(np.float32).min)
USERS, ITEMS = 60, 45


@pytest.fixture(params=MODELS, ids=lambda model: model.__name__)
def kind(request):
    return request.param


@pytest.fixture
def matrix():
    random = np.random.default_rng(0)
    values = random.integers(1, 6, size=(USERS, ITEMS)) * (random.random((USERS, ITEMS)) < 0.1)
    values[9], values[:, [7, 20]] = 0, 0
    return sparse.csr_matrix(values.astype(np.float64))


def fitted(kind, matrix, **parameters):
    model = kind(**{"K": 8, **parameters})
    model.fit(matrix, show_progress=False)
    return model


@pytest.fixture
def model(kind, matrix):
    return fitted(kind, matrix)


def weighted(kind, matrix):
    by_item = {
        ItemItemRecommender: lambda x: x,
        CosineRecommender: normalize,
        TFIDFRecommender: lambda x: normalize(tfidf_weight(x)),
        BM25Recommender: lambda x: bm25_weight(x, 1.2, 0.75),
    }[kind]
    return by_item(matrix.T).T.toarray()


def expected(model, row, N, liked=True, filtered=(), candidates=None):
    """Results for one user by a sort of dense scores."""
    similarity = model.similarity.toarray()
    sums, stored = np.zeros(ITEMS), np.zeros(ITEMS)
    for item, value in zip(row.indices, row.data, strict=True):
        sums += value * similarity[item]
    stored[row.indices] = 1
    reached = stored @ (similarity != 0) > 0
    reached[list(filtered)] = False
    if liked:
        reached[row.indices] = False
    scores = np.where(reached, sums, LOWEST)
    candidates = np.flatnonzero(reached) if candidates is None else np.sort(candidates)
    order = candidates[np.lexsort((candidates, -scores[candidates]))][:N]
    return order, scores[order]


def assert_result(result, wanted):
    np.testing.assert_array_equal(result[0], wanted[0])
    np.testing.assert_array_equal(result[1], wanted[1])
    assert result[0].dtype == np.int32
    assert result[1].dtype == np.float64


def same(first, second):
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(first, second, strict=True))


# What is computed


def test_similarities_are_the_largest_inner_products_of_weighted_items(kind, matrix, model):
    W = weighted(kind, matrix)
    full, shared = W.T @ W, (matrix.toarray() > 0).T.astype(int) @ (matrix.toarray() > 0).astype(int)
    similarity = model.similarity
    assert similarity.format == "csr"
    assert similarity.dtype == np.float64
    assert similarity.has_canonical_format
    for item in range(ITEMS):
        row = similarity[[item]]
        neighbours = np.flatnonzero(shared[item])
        assert row.nnz == min(8, len(neighbours))
        np.testing.assert_allclose(row.data, full[item, row.indices], atol=1e-12)
        assert np.isin(row.indices, neighbours).all()
        best = np.sort(full[item, neighbours])[::-1][:8]
        np.testing.assert_allclose(np.sort(row.data)[::-1], best, atol=1e-12)


def test_all_pairs_knn_leaves_out_unused_slots_and_ranks_within_rows(matrix):
    found = all_pairs_knn(matrix, K=5, show_progress=False)
    assert found.format == "coo"
    assert found.shape == (ITEMS, ITEMS)
    assert found.dtype == np.float64
    assert found.nnz < ITEMS * 5
    assert not ((found.row == 7) | (found.col == 7)).any()
    assert found.tocsr()[0, 0] == matrix.toarray()[:, 0] @ matrix.toarray()[:, 0]
    keys = np.lexsort((found.col, -found.data, found.row))
    assert np.array_equal(keys, np.arange(found.nnz))


def test_all_pairs_knn_gives_the_same_in_pieces_and_ticks_between_them(matrix, monkeypatch, capsys):
    whole = all_pairs_knn(matrix, K=5, show_progress=False)
    assert capsys.readouterr().err == ""
    calls = []
    kernel = _nearest_neighbours.kernels.all_pairs_knn
    monkeypatch.setattr(_nearest_neighbours.kernels, "all_pairs_knn", lambda *a: calls.append(a) or kernel(*a))
    monkeypatch.setattr(_nearest_neighbours, "PIECE_WORK", 100)
    pieces = all_pairs_knn(matrix, K=5, num_threads=1)
    assert len(calls) > 10
    same((whole.row, whole.col, whole.data), (pieces.row, pieces.col, pieces.data))
    assert f"{ITEMS}/{ITEMS}" in capsys.readouterr().err


def test_a_batch_in_pieces_gives_the_same(model, matrix, monkeypatch):
    whole = model.recommend(np.arange(USERS), matrix)
    monkeypatch.setattr(_nearest_neighbours, "PIECE_RESULTS", 30)
    same(model.recommend(np.arange(USERS), matrix), whole)


def test_models_are_the_same_for_any_number_of_threads(kind, matrix):
    one = fitted(kind, matrix, num_threads=1)
    for threads in (0, 2, 5, -1):
        many = fitted(kind, matrix, num_threads=threads)
        same((one.similarity.data, one.similarity.indices), (many.similarity.data, many.similarity.indices))
        same(one.recommend(np.arange(USERS), matrix), many.recommend(np.arange(USERS), matrix))


def test_a_user_with_all_items_but_one_tells_tfidf_nothing():
    """idf is ln 1 = 0 there; as a difference of logarithms it would be noise, which normalising blows up."""
    for n in range(3, 60):
        likes = np.zeros((2, n))
        likes[0, : n - 1], likes[1, [0, 1]] = 1, 1
        similarity = fitted(TFIDFRecommender, sparse.csr_matrix(likes)).similarity.toarray()
        assert (similarity[2:] == 0).all()
        if n != 3:
            np.testing.assert_allclose(similarity[:2, :2], 1)


def test_cosine_is_the_same_for_huge_and_tiny_values(matrix):
    similarity = fitted(CosineRecommender, matrix).similarity
    for scale in (2.0**600, 2.0**-600):
        again = fitted(CosineRecommender, matrix * scale).similarity
        assert np.array_equal(again.data, similarity.data)


# Recommendations


@pytest.mark.parametrize("N", [0, 1, 5, ITEMS + 5])
@pytest.mark.parametrize("liked", [True, False])
@pytest.mark.parametrize("filtered", [(), (3,), [3, 11, 3, 0], np.arange(ITEMS)])
def test_recommendations_are_what_likes_reach(model, matrix, N, liked, filtered, unmodified):
    options = {"N": N, "filter_already_liked_items": liked, "filter_items": filtered}
    users = [4, 1, 9, 4]
    with unmodified(matrix, filtered):
        ids, scores = model.recommend(users, matrix[users], **options)
    assert ids.shape == scores.shape == (4, N)
    for row, user in enumerate(users):
        alone = model.recommend(user, matrix[user], **options)
        wanted = expected(model, matrix[user], N, liked, filtered)
        assert_result(alone, wanted)
        n = len(wanted[0])
        same((ids[row, :n], scores[row, :n]), alone)
        assert (ids[row, n:] == -1).all()
        assert (scores[row, n:] == NO_SCORE).all()


@pytest.mark.parametrize("candidates", [[4], [44, 0, 3, 17], np.arange(ITEMS), np.uint8([9, 8]), (2, 2, 1)])
@pytest.mark.parametrize("liked", [True, False])
def test_all_candidates_are_ranked_whatever_n_is(model, matrix, candidates, liked, unmodified):
    options = {"N": 2, "items": candidates, "filter_already_liked_items": liked}
    with unmodified(matrix, candidates):
        ids, scores = model.recommend(np.arange(USERS), matrix, **options)
    assert ids.shape == (USERS, len(candidates))
    for user in range(USERS):
        wanted = expected(model, matrix[user], ITEMS, liked, (), candidates)
        assert_result((ids[user], scores[user]), wanted)
        same(model.recommend(user, matrix[user], **options), (ids[user], scores[user]))


def test_the_full_matrix_is_indexed_by_userid(model, matrix):
    for user in (0, 17, USERS - 1):
        same(model.recommend(user, matrix), model.recommend(user, matrix[user]))
    users = [5, 3, 5]
    same(model.recommend(users, matrix), model.recommend(users, matrix[users]))
    mask = np.zeros(3, dtype=bool)
    with pytest.raises(IndexError, match="integer ids"):
        model.recommend(mask, matrix)


def test_users_unknown_to_the_model_are_recommended_from_their_row(model, matrix):
    same(model.recommend(10**9, matrix[3]), model.recommend(3, matrix[3]))
    same(model.recommend(3, matrix[3], recalculate_user=True), model.recommend(3, matrix[3]))


@pytest.mark.parametrize("rows", [2, 5, USERS - 1])
def test_rows_that_fit_nobody_are_refused(model, matrix, rows):
    with pytest.raises(ValueError, match="one row per userid"):
        model.recommend(1, matrix[:rows])
    with pytest.raises(ValueError, match="one row per userid"):
        model.recommend([1, 2, 3], matrix[:rows])


def test_a_transposed_matrix_is_named_as_such(model, matrix):
    with pytest.raises(ValueError, match="transposed"):
        model.recommend(1, matrix.T.tocsr())


@pytest.mark.parametrize("bad", [None, "csc", "coo", "dense"])
def test_user_items_must_be_csr_even_without_a_filter(model, matrix, bad):
    given = None if bad is None else matrix.toarray() if bad == "dense" else matrix.asformat(bad)
    for liked in (True, False):
        with pytest.raises(ValueError, match="user_items must be a csr_matrix"):
            model.recommend(1, given, filter_already_liked_items=liked)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int64, np.bool_, np.uint16])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array])
def test_any_type_of_values_and_indices_will_do(kind, matrix, dtype, index, container, unmodified, row_of):
    ones = matrix.astype(bool).astype(np.float64) if dtype == np.bool_ else matrix
    wanted = fitted(kind, ones)
    given = container(ones.astype(dtype))
    given.indices, given.indptr = given.indices.astype(index), given.indptr.astype(index)
    with unmodified(given):
        model = fitted(kind, given)
        assert np.array_equal(model.similarity.data, wanted.similarity.data)
        same(model.recommend([1, 2], given[[1, 2]]), wanted.recommend([1, 2], ones[[1, 2]]))
        same(model.recommend(2, row_of(given, 2)), wanted.recommend(2, ones[2]))
    with pytest.raises(TypeError, match="real numbers"):
        fitted(kind, given.astype(complex))
    with pytest.raises(TypeError, match="real numbers"):
        model.recommend(0, given[[0]].astype(complex))


def test_what_lies_behind_the_last_entry_does_not_matter(kind, matrix, with_spare_room):
    wanted, model = fitted(kind, matrix), fitted(kind, with_spare_room(matrix))
    assert (wanted.similarity != model.similarity).nnz == 0
    for users in (2, [1, 2]):
        same(model.recommend(users, with_spare_room(matrix[users])), wanted.recommend(users, matrix[users]))
    same(model.recommend([1, 2], with_spare_room(matrix)), wanted.recommend([1, 2], matrix[[1, 2]]))


def test_order_and_duplicates_of_entries_do_not_matter(kind, matrix, unmodified):
    wanted = fitted(kind, matrix)
    coo = matrix.tocoo()
    order = np.random.default_rng(1).permutation(coo.nnz)
    order = order[np.argsort(coo.row[order], kind="stable")]
    row, col, half = coo.row[order], coo.col[order], coo.data[order] / 2
    indptr = np.searchsorted(np.repeat(row, 2), np.arange(USERS + 1))
    messy = sparse.csr_matrix((np.repeat(half, 2), np.repeat(col, 2), indptr), shape=matrix.shape)
    assert not messy.has_sorted_indices
    with unmodified(messy):
        model = fitted(kind, messy)
        ids, scores = model.recommend(np.arange(USERS), messy)
    assert np.array_equal(model.similarity.data, wanted.similarity.data)
    again = wanted.recommend(np.arange(USERS), matrix)
    np.testing.assert_array_equal(ids, again[0])
    np.testing.assert_allclose(scores, again[1])


@pytest.mark.parametrize(("options", "error"), [
    ({"items": [ITEMS]}, IndexError), ({"items": [-1]}, IndexError), ({"items": []}, IndexError),
    ({"filter_items": [ITEMS]}, IndexError), ({"filter_items": [-1]}, IndexError), ({"items": [0.5]}, IndexError),
    ({"items": [1], "filter_items": [2]}, ValueError), ({"N": -1}, ValueError), ({"N": 1.5}, TypeError),
])  # fmt: skip
def test_what_makes_no_sense_is_an_error(model, matrix, options, error):
    with pytest.raises(error):
        model.recommend(1, matrix[1], **options)
    with pytest.raises(error):
        model.similar_items([1, 2], **options)


@pytest.mark.parametrize("userid", [-1, [0, -1], 0.5])
def test_negative_and_other_userids_are_index_errors(model, matrix, userid):
    with pytest.raises(IndexError, match="userid"):
        model.recommend(userid, matrix)
    with pytest.raises(IndexError, match="userid"):
        model.recommend(userid, matrix[: np.size(userid)])


def test_unknown_columns_are_refused(model):
    row = sparse.csr_matrix(([1.0], ([0], [ITEMS])), shape=(1, ITEMS + 1))
    with pytest.raises(ValueError, match="column indices"):
        model.recommend(0, row)


def test_equal_scores_rank_by_ascending_id(kind):
    model = fitted(ItemItemRecommender, sparse.csr_matrix(np.ones((2, 30))), K=6)
    assert (model.similarity.indices.reshape(30, 6) == np.arange(6)).all()
    row = sparse.csr_matrix(([1.0], ([0], [20])), shape=(1, 30))
    assert model.recommend(0, row)[0].tolist() == list(range(6))
    assert model.recommend([0, 0], sparse.vstack([row, row], format="csr"), N=3)[0].tolist() == [[0, 1, 2]] * 2
    assert model.similar_items(20)[0].tolist() == list(range(6))


# Similar items


@pytest.mark.parametrize("N", [0, 1, 5, ITEMS + 5])
def test_similar_items_are_the_stored_row_in_order(model, N):
    ids, scores = model.similar_items(np.arange(ITEMS), N=N)
    assert ids.shape == scores.shape == (ITEMS, N)
    for item in range(ITEMS):
        row = model.similarity[[item]]
        order = np.lexsort((row.indices, -row.data))[:N]
        alone = model.similar_items(item, N=N)
        same(alone, (row.indices[order].astype(np.int32), row.data[order]))
        n = len(order)
        same((ids[item, :n], scores[item, :n]), alone)
        assert (ids[item, n:] == -1).all()
        assert (scores[item, n:] == NO_SCORE).all()


def test_similar_items_can_be_filtered_and_chosen(model):
    ids, scores = model.similar_items(3)
    left_out = ids[1]
    rest = ids != left_out
    for filtered in ([left_out], np.array([left_out])):
        same(model.similar_items(3, filter_items=filtered), (ids[rest], scores[rest]))
    others = np.setdiff1d(np.arange(ITEMS), ids)[:2]
    for chosen in ([*others, ids[2], ids[0]], np.array([*others, ids[2], ids[0]])):
        found = model.similar_items(3, items=chosen)
        assert found[0].tolist() == [ids[0], ids[2], *others]
        assert found[1].tolist() == [scores[0], scores[2], LOWEST, LOWEST]
        assert model.similar_items(3, N=1, items=chosen)[0].tolist() == [ids[0]]
        batch = model.similar_items([3], N=5, items=chosen)
        assert batch[0].tolist() == [[*found[0].tolist(), -1]]
        assert batch[1][0, -1] == NO_SCORE


@pytest.mark.parametrize("itemid", [ITEMS, -1, [0, ITEMS], [-1], 0.5])
def test_unknown_items_are_index_errors(model, itemid):
    with pytest.raises(IndexError, match="itemid"):
        model.similar_items(itemid)


def test_what_the_models_do_not_offer_says_so(model, matrix):
    with pytest.raises(NotImplementedError, match="cannot recalculate"):
        model.similar_items(1, recalculate_item=True)
    with pytest.raises(NotImplementedError, match="callback"):
        model.fit(matrix, callback=print)
    same(model.similar_items(1, item_users=matrix.T.tocsr()), model.similar_items(1))


# Users


def cosines(kind, matrix):
    """Cosines of users weighted as items are, −inf for those without an item in common."""
    vectors = weighted(kind, matrix.T).T
    lengths = np.linalg.norm(vectors, axis=1)
    vectors = vectors / np.where(lengths == 0, 1, lengths)[:, None]
    common = (matrix != 0).astype(int) @ (matrix != 0).T.astype(int)
    return np.where(common.toarray() > 0, vectors @ vectors.T, -np.inf)


@pytest.mark.parametrize("N", [1, 7, USERS + 5])
def test_similar_users_are_those_of_the_largest_cosine(kind, model, matrix, N):
    wanted = cosines(kind, matrix)
    ids, scores = model.similar_users(np.arange(USERS), N)
    assert ids.shape == scores.shape == (USERS, N)
    for user in range(USERS):
        n = min(N, np.isfinite(wanted[user]).sum())
        np.testing.assert_allclose(scores[user, :n], np.sort(wanted[user])[::-1][:n], atol=1e-12)
        np.testing.assert_allclose(wanted[user, ids[user, :n]], scores[user, :n], atol=1e-12)
        assert len(set(ids[user, :n])) == n
        assert (ids[user, n:] == -1).all()
        assert (scores[user, n:] == NO_SCORE).all()
        assert_result(model.similar_users(user, N), (ids[user, :n], scores[user, :n]))
        if n:
            assert ids[user, 0] == user
            assert scores[user, 0] == pytest.approx(1, abs=1e-12)
    assert len(model.similar_users(9)[0]) == 0  # who has no item


@pytest.mark.parametrize("kind", [CosineRecommender, TFIDFRecommender])
def test_similar_users_are_similar_items_of_the_transposed_matrix(kind, matrix):
    users, items = fitted(kind, matrix), fitted(kind, matrix.T.tocsr(), K=USERS)
    ids, scores = users.similar_users(np.arange(USERS), N=5)
    wanted = items.similar_items(np.arange(USERS), N=5)
    np.testing.assert_array_equal(ids, wanted[0])
    np.testing.assert_allclose(scores, wanted[1])


def test_similar_users_can_be_filtered_and_chosen(kind, model, matrix):
    ids, scores = model.similar_users(3)
    rest = ids != ids[1]
    for filtered in ([ids[1]], {ids[1]}):
        found = model.similar_users(3, N=10, filter_users=filtered)
        same((found[0][:9], found[1][:9]), (ids[rest], scores[rest]))
    stranger = np.flatnonzero(cosines(kind, matrix)[3] == -np.inf)[0]
    found = model.similar_users(3, users=np.array([stranger, ids[2], ids[0]]))
    assert found[0].tolist() == [ids[0], ids[2], stranger]
    assert found[1].tolist() == [scores[0], scores[2], LOWEST]
    assert model.similar_users([3], N=4, users=[3, ids[1]])[0].tolist() == [[3, ids[1], -1, -1]]
    with pytest.raises(ValueError, match="either users or filter_users"):
        model.similar_users(3, users=[1], filter_users=[2])


@pytest.mark.parametrize("userid", [USERS, -1, [0, USERS], 0.5])
def test_unknown_users_are_index_errors(model, userid):
    with pytest.raises(IndexError, match="userid"):
        model.similar_users(userid)
    with pytest.raises(ValueError, match="N must be"):
        model.similar_users(0, N=-1)


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_the_matrix_of_the_users_is_kept_as_it_is(kind, matrix, dtype, unmodified):
    given = matrix.astype(dtype)
    with unmodified(given):
        model = fitted(kind, given)
        assert model.user_items is given
        result = model.similar_users([1, 2])
    same(result, fitted(kind, matrix).similar_users([1, 2]))
    given.indices[:] = -7  # what is in use by now must not depend on it
    same(model.similar_users([1, 2]), result)


def test_without_the_matrix_of_the_users_the_error_says_what_to_do(kind, matrix):
    whole, model = fitted(kind, matrix), fitted(kind, matrix)
    model.user_items = None
    for without in (model, saved(model, kind), pickle.loads(pickle.dumps(model))):
        with pytest.raises(NotFittedError, match=r"set model\.user_items to the users × items matrix"):
            without.similar_users(1)
        without.user_items = matrix[:, :30]
        with pytest.raises(ValueError, match=f"a column for each of {ITEMS} items, got 30"):
            without.similar_users(1)
        without.user_items = matrix
        same(without.similar_users(1), whole.similar_users(1))
    model.user_items = matrix[::-1].tocsr()
    np.testing.assert_array_equal(model.similar_users(USERS - 2)[1], whole.similar_users(1)[1])


def test_unfitted_models_have_no_similar_users(kind):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        kind().similar_users(1)


# Fit


@pytest.mark.parametrize("format", ["coo", "csc", "lil"])
def test_other_formats_fit_with_a_warning(kind, matrix, format, unmodified):
    wanted, model, given = fitted(kind, matrix), kind(K=8), matrix.asformat(format)
    with pytest.warns(ParameterWarning, match=r"^Method expects CSR input") as caught:
        model.fit(given, show_progress=False)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert np.array_equal(model.similarity.data, wanted.similarity.data)


@pytest.mark.parametrize("name", ["user_items", "weighted", "counts"])
def test_the_matrix_goes_by_each_of_its_names(kind, matrix, name):
    model = kind(K=8)
    model.fit(**{name: matrix}, show_progress=False)
    assert np.array_equal(model.similarity.data, fitted(kind, matrix).similarity.data)
    with pytest.raises(TypeError, match="user_items once"):
        model.fit(matrix, **{name: matrix} if name != "user_items" else {"counts": matrix})
    with pytest.raises(TypeError, match="user_items once"):
        model.fit()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(kind, matrix, bad):
    position = matrix.indptr[5]
    matrix.data[position] = bad
    named = rf"entry \(5, {matrix.indices[position]}\)"
    with pytest.raises(ModelFitError, match=named):
        fitted(kind, matrix)
    with pytest.raises(ModelFitError, match=named):
        all_pairs_knn(matrix, show_progress=False)


def test_values_too_large_to_multiply_are_an_error(matrix):
    for kind in (ItemItemRecommender, BM25Recommender):
        with pytest.raises(ModelFitError, match="scale"):
            fitted(kind, matrix * 1e307)


@pytest.mark.parametrize("K", [0, -1])
def test_k_must_be_at_least_one(kind, matrix, K):
    with pytest.raises(ValueError, match="K must be at least 1"):
        fitted(kind, matrix, K=K)
    with pytest.raises(ValueError, match="K must be at least 1"):
        all_pairs_knn(matrix, K, show_progress=False)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (4, 4), (1, 1)])
def test_empty_matrices_fit(kind, shape):
    empty = sparse.csr_matrix(shape)
    model = fitted(kind, empty)
    assert model.similarity.shape == (shape[1], shape[1])
    assert model.similarity.nnz == 0
    ids, scores = model.recommend(np.arange(shape[0]), empty, N=2)
    assert ids.shape == scores.shape == (shape[0], 2)
    assert (ids == -1).all()


def test_a_second_fit_replaces_the_first(kind, matrix):
    model = fitted(kind, matrix)
    model.fit(matrix[:20, :30], show_progress=False)
    same(model.recommend(3, matrix[:20, :30]), fitted(kind, matrix[:20, :30]).recommend(3, matrix[:20, :30]))


def test_before_fit_there_is_nothing_to_recommend_from(kind, matrix):
    model = kind()
    assert model.similarity is None
    assert model.scorer is None
    for call in (lambda: model.recommend(0, matrix), lambda: model.similar_items(0)):
        with pytest.raises(NotFittedError, match="not fitted"):
            call()


# Parameters, files


def test_parameters_have_the_order_and_defaults_of_implicit():
    assert repr(BM25Recommender(1, 2, 3, 4)) == "BM25Recommender(K=1, K1=2, B=3, num_threads=4)"
    assert BM25Recommender().get_params() == {"K": 20, "K1": 1.2, "B": 0.75, "num_threads": 0}
    for kind in MODELS[:3]:
        assert kind().get_params() == {"K": 20, "num_threads": 0}
        assert repr(kind(7, 3)) == f"{kind.__name__}(K=7, num_threads=3)"


def test_bm25_parameters_reach_the_weights(matrix):
    similarity = fitted(BM25Recommender, matrix, K=ITEMS, K1=3, B=0.2).similarity.toarray()
    W = bm25_weight(matrix.T, 3, 0.2).T.toarray()
    np.testing.assert_allclose(similarity, W.T @ W, atol=1e-12)


def saved(model, kind):
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    return kind.load(file)


def test_saved_and_pickled_models_are_the_same(kind, matrix, tmp_path):
    model = fitted(kind, matrix, num_threads=2)
    model.save(tmp_path / "model")
    for again in (saved(model, kind), kind.load(tmp_path / "model.npz"), pickle.loads(pickle.dumps(model))):
        assert again.get_params() == model.get_params()
        assert type(again) is kind
        same(again.recommend(np.arange(USERS), matrix), model.recommend(np.arange(USERS), matrix))
        same(again.similar_items(np.arange(ITEMS)), model.similar_items(np.arange(ITEMS)))
        same(again.similar_users(np.arange(USERS)), model.similar_users(np.arange(USERS)))
        with pytest.raises(ValueError, match="one row per userid"):
            again.recommend(1, matrix[:30])


def test_models_before_fit_can_be_saved_and_pickled(kind):
    model = kind(K=3)
    assert saved(model, kind).__dict__ == model.__dict__
    assert pickle.loads(pickle.dumps(model)).__dict__ == model.__dict__


def test_parameters_of_bm25_are_saved():
    assert saved(BM25Recommender(3, 4.5, 0.1, 2), BM25Recommender).get_params() == {
        "K": 3, "K1": 4.5, "B": 0.1, "num_threads": 2,
    }  # fmt: skip


@pytest.mark.parametrize("change", [
    {"K": None}, {"indices": None}, {"shape": np.array([3, 4])}, {"indices": np.array([0, 99])},
    {"indptr": np.array([0, 1])}, {"data": np.array(["a", "b"])}, {"factors": np.array(3)},
    {"user_items_shape": np.array([2, 2])},
])  # fmt: skip
def test_files_of_something_else_are_refused(kind, change):
    state = {
        "K": np.array(3), "shape": np.array([2, 2]),
        "data": np.ones(2), "indices": np.arange(2), "indptr": np.arange(3),
    }  # fmt: skip
    for valid in (True, False):
        arrays = {name: value for name, value in (state if valid else {**state, **change}).items() if value is not None}
        file = io.BytesIO()
        np.savez(file, **arrays)
        file.seek(0)
        if valid:
            assert kind.load(file).similarity.toarray().tolist() == [[1, 0], [0, 1]]
        else:
            with pytest.raises(ModelLoadError):
                kind.load(file)


# Scorer


def test_the_scorer_recommends_from_arrays(model, matrix):
    row = matrix[4]
    same(model.scorer.recommend(row.indptr, row.indices, row.data, K=5), model.recommend(4, row, N=5))
    everything = model.scorer.recommend(row.indptr, row.indices, row.data, 5, False)
    same(everything, model.recommend(4, row, N=5, filter_already_liked_items=False))
    scorer = NearestNeighboursScorer(model.similarity)
    same(scorer.recommend(matrix.indptr[4:], matrix.indices, matrix.data, K=5), model.recommend(4, row, N=5))
    for bad in ((row.indptr, row.indices + ITEMS, row.data), (row.indptr + 1, row.indices, row.data)):
        with pytest.raises(ValueError, match="user_ind"):
            scorer.recommend(*bad)


def test_similarities_may_be_replaced(model, matrix):
    model.similarity = sparse.csr_matrix(np.eye(ITEMS, k=1, dtype=np.float32))
    row = sparse.csr_matrix(([2.0], ([0], [3])), shape=(1, ITEMS))
    assert model.recommend(0, row)[0].tolist() == [4]
    model.similarity.data[:] = 3
    with pytest.raises(ValueError, match="square"):
        model.similarity = sparse.csr_matrix((3, 4))


# A checkerboard: even users like even items, odd users odd ones; the item of the user's own number is withheld


@pytest.fixture
def board():
    parity = np.arange(50) % 2
    likes = (parity[:, None] == parity).astype(np.float64)
    np.fill_diagonal(likes, 0)
    return sparse.csr_matrix(likes)


def on_board(kind, board):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fitted(kind, board, K=50)


def test_the_withheld_item_is_recommended(kind, board):
    model = on_board(kind, board)
    for user in range(50):
        assert model.recommend(user, board[user], N=1)[0].tolist() == [user]
        ids, scores = model.recommend(user, board[user], N=10000)
        assert len(ids) == 1
        assert 0 not in model.recommend(user, board[user], N=10000, filter_items=[0])[0]
    ids, scores = model.recommend(np.arange(50), board, N=1)
    assert ids.tolist() == [[user] for user in range(50)]
    assert model.recommend([2, 3, 4], board[[2, 3, 4]], N=1)[0].tolist() == [[2], [3], [4]]
    ids, scores = model.recommend(np.arange(50), board, N=5, filter_already_liked_items=False)
    for user in range(50):
        alone = model.recommend(user, board[user], N=5, filter_already_liked_items=False)
        same(alone, (ids[user], scores[user]))
    assert not (model.recommend(np.arange(50), board, N=10, filter_items=[0])[0] == 0).any()


def test_neighbours_are_of_the_same_colour(kind, board):
    model = on_board(kind, board)
    ids, scores = model.similar_items(np.arange(50), N=10)
    assert ids.shape == (50, 10)
    assert (ids % 2 == np.arange(50)[:, None] % 2).all()
    if kind in (CosineRecommender, TFIDFRecommender):
        assert (ids[:, 0] == np.arange(50)).all()
        np.testing.assert_allclose(scores[:, 0], 1)
    assert not np.isin(model.similar_items(np.arange(50), filter_items=np.arange(10) * 5)[0], np.arange(10) * 5).any()
    assert set(model.similar_items(1, N=10, items=np.arange(10))[0].tolist()) == set(range(10))


def test_empty_rows_and_columns_are_never_similar_to_others(kind, board):
    likes = board.toarray()
    likes[[42, 49]], likes[:, [42, 49]] = 0, 0
    model = fitted(kind, sparse.csr_matrix(likes), K=50)
    rest = np.setdiff1d(np.arange(50), [42, 49])
    assert not np.isin(model.similar_items(rest, N=10)[0], [42, 49]).any()
    assert len(model.similar_items(42)[0]) == 0


def test_rank_items_ranks_all_that_are_selected(kind, board):
    model = on_board(kind, board)
    for selected in (np.arange(10) * 3, list(range(3, 9))):
        with pytest.warns(DeprecationWarning, match="rank_items"):
            ids, scores = model.rank_items(0, board[0], selected)
        assert set(ids.tolist()) == set(selected)
        assert (np.diff(scores) <= 0).all()
        ids, _ = model.recommend(np.arange(50), board, N=10, items=selected)
        assert all(set(row) == set(selected) for row in ids.tolist())
    for bad in ([10**5], [-1]):
        with pytest.raises(IndexError), pytest.warns(DeprecationWarning, match="rank_items"):
            model.rank_items(0, board[0], bad)
