"""What every model promises of its input: ids, whose row is whose, deprecated calls."""

import copy

import numpy as np
import pytest
from conformance import ITEMS, USERS, assert_result, liked_by, needs_recalculation, on_host, ranked, ways
from conformance import make as make
from conformance import matrix as matrix
from conformance import model as model
from conformance import name as name
from conformance import scores as scores
from scipy import sparse

# Ids


UNKNOWN = pytest.mark.parametrize("unknown", [-1, -USERS, 10**6, 2**40])


@UNKNOWN
def test_unknown_ids_are_index_errors(model, matrix, unknown):
    for ids in (unknown, [unknown], [0, unknown], np.array([unknown, 1])):
        rows = matrix[np.zeros(np.size(ids), dtype=int)]
        for call in (
            lambda ids=ids, rows=rows: model.recommend(ids, rows),
            lambda ids=ids: model.recommend(ids, None, filter_already_liked_items=False),
            lambda ids=ids: model.recommend(ids, matrix),
            lambda ids=ids: model.similar_items(ids),
            lambda ids=ids: model.similar_users(ids),
        ):
            with pytest.raises(IndexError, match=str(unknown)):
                call()


def test_the_first_id_that_is_not_known_is_one_too_many(model, matrix):
    assert len(model.recommend(USERS - 1, matrix[0])[0]) == 10
    with pytest.raises(IndexError, match=f"0 to {USERS - 1}, got {USERS}"):
        model.recommend(USERS, matrix[0])
    assert len(model.similar_items(ITEMS - 1)[0]) == 10
    with pytest.raises(IndexError, match=f"0 to {ITEMS - 1}, got {ITEMS}"):
        model.similar_items(ITEMS)


@pytest.mark.parametrize("bad", [1.0, "1", None, [0.5], ["a"], [[0, 1]], {0, 1}])
def test_what_is_no_id_is_an_index_error(model, bad):
    for call in (
        lambda: model.recommend(bad, None, filter_already_liked_items=False),
        lambda: model.similar_items(bad),
        lambda: model.similar_users(bad),
    ):
        with pytest.raises(IndexError):
            call()


@pytest.mark.parametrize("kind", [list, tuple, np.uint64, np.int8, np.int32, "range", "series"])
def test_ids_can_be_any_sequence_of_integers(model, matrix, kind):
    pandas = pytest.importorskip("pandas")
    ids = {"range": range(2, 5), "series": pandas.Series([2, 3, 4], index=[9, 8, 7])}.get(kind)
    if ids is None:
        ids = kind([2, 3, 4])
    assert_result(model.recommend(ids, matrix[2:5]), model.recommend(np.arange(2, 5), matrix[2:5]))
    assert_result(model.similar_items(ids), model.similar_items(np.arange(2, 5)))


@pytest.mark.parametrize("kind", [int, np.int32, np.uint64, np.array])
def test_a_scalar_of_any_integer_type_gives_one_row(model, matrix, kind):
    assert_result(model.recommend(kind(3), matrix[3]), model.recommend([3], matrix[3])[0:2] and one_row(model, matrix))
    assert model.similar_items(kind(3))[0].shape == (10,)
    assert model.similar_users(kind(3))[0].shape == (10,)


def one_row(model, matrix):
    ids, values = model.recommend([3], matrix[3])
    return ids[0], values[0]


def test_a_boolean_mask_selects(model, matrix, scores):
    mask = np.zeros(USERS, dtype=bool)
    mask[[4, 5, 50]] = True
    chosen = np.flatnonzero(mask)
    expected = model.recommend(chosen, matrix[chosen])
    assert_result(model.recommend(mask, matrix[chosen]), expected)
    assert_result(model.recommend(mask, matrix), expected)
    assert_result(model.similar_users(mask), model.similar_users(chosen))
    with pytest.raises(IndexError):
        model.recommend(mask[:-1], matrix[chosen])
    everybody = np.ones(USERS, dtype=bool)
    assert_result(model.recommend(everybody, matrix), model.recommend(np.arange(USERS), matrix))


@pytest.mark.parametrize("nobody", [[], np.array([]), np.array([], dtype=np.int64), ()])
def test_an_empty_batch_gives_empty_results(model, matrix, nobody, scores):
    for ids, values in (
        *(model.recommend(nobody, matrix[:0], N=4, **options) for options in ways(model)),
        model.recommend(nobody, None, N=4, filter_already_liked_items=False),
        model.similar_items(nobody, N=4),
        model.similar_users(nobody, N=4),
    ):
        assert ids.shape == values.shape == (0, 4)
        assert ids.dtype.kind == "i"
        assert values.dtype == scores.dtype


# Whose row is whose


def matrix_forms(matrix):
    return {
        "csr_matrix": matrix,
        "csr_array": sparse.csr_array(matrix),
        "float32": matrix.astype(np.float32),
        "int32": matrix.astype(np.int32),
        "int64 indices": with_wide_indices(matrix),
    }


def with_wide_indices(matrix):
    wide = matrix.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    return wide


@pytest.mark.parametrize("form", ["csr_matrix", "csr_array", "float32", "int32", "int64 indices"])
@pytest.mark.parametrize("recalculate", [True, False])
def test_rows_of_the_batch_and_the_full_matrix_mean_the_same(model, matrix, form, recalculate, unmodified, row_of):
    if recalculate:
        needs_recalculation(model)
    users, given = [7, 3, 59], matrix_forms(matrix)[form]
    expected = model.recommend(users, matrix[users], recalculate_user=recalculate)
    with unmodified(given):
        assert_result(model.recommend(users, given, recalculate_user=recalculate), expected)
    assert_result(model.recommend(users, given[users], recalculate_user=recalculate), expected)
    for row, user in enumerate(users):
        one = (expected[0][row], expected[1][row])
        assert_result(model.recommend(user, given, recalculate_user=recalculate), one)
        assert_result(model.recommend(user, given[[user]], recalculate_user=recalculate), one)
        assert_result(model.recommend(user, row_of(given, user), recalculate_user=recalculate), one)


def test_one_row_per_id_is_taken_by_position_even_for_all_users(model, matrix, scores):
    users = np.arange(USERS)[::-1]
    ids, values = model.recommend(users, matrix, N=ITEMS)
    for row, user in enumerate(users):
        assert_result((ids[row], values[row]), ranked(scores[user], ITEMS, liked_by(matrix, row)))


def test_one_row_for_one_user_is_that_user_s(model, matrix, scores):
    """Position decides: the row of user 5, passed for user 0, is what user 0 likes."""
    assert_result(model.recommend(0, matrix[5], N=ITEMS), ranked(scores[0], ITEMS, liked_by(matrix, 5)))


def test_a_full_matrix_may_hold_users_whom_the_model_has_not_seen(model, matrix):
    more = sparse.vstack([matrix, matrix[:5]], format="csr")
    assert_result(model.recommend([3, 1], more), model.recommend([3, 1], matrix))
    needs_recalculation(model)
    assert_result(
        model.recommend(USERS + 2, more, recalculate_user=True), model.recommend(2, matrix, recalculate_user=True)
    )


@pytest.mark.parametrize("rows", [0, 2, 4, 59])
@pytest.mark.parametrize("recalculate", [True, False])
def test_another_number_of_rows_says_what_to_pass(model, matrix, rows, recalculate):
    users = [0, 1, 2]
    with pytest.raises(ValueError, match=rf"\(3\), got {rows} rows; pass user_items\[userid\]"):
        model.recommend(users, matrix[:rows], recalculate_user=recalculate)
    if rows != 1:
        with pytest.raises(ValueError, match=rf"\(1\), got {rows} rows; pass user_items\[userid\]"):
            model.recommend(0, matrix[:rows], recalculate_user=recalculate)


def test_a_full_matrix_without_a_row_of_the_user_is_refused(model, matrix):
    with pytest.raises(ValueError, match="one row per userid"):
        model.recommend(USERS, matrix, recalculate_user=True)
    with pytest.raises(ValueError, match="one row per userid"):
        model.recommend([0, USERS], matrix, recalculate_user=True)


@pytest.mark.parametrize("recalculate", [True, False])
def test_a_transposed_matrix_is_named_so(model, matrix, recalculate):
    item_users = matrix.T.tocsr()
    for given in (item_users, item_users[0], item_users[:3]):
        for users in (0, np.arange(given.shape[0])):
            with pytest.raises(ValueError, match=f"user_items must have {ITEMS} columns, got {USERS}.*transposed"):
                model.recommend(users, given, recalculate_user=recalculate)
    needs_recalculation(model)
    with pytest.raises(ValueError, match=f"item_users must have {USERS} columns, got {ITEMS}.*transposed"):
        model.similar_items([0, 1, 2], recalculate_item=True, item_users=matrix[:3])


def test_a_column_that_the_model_does_not_know_is_refused(model):
    for columns in ([ITEMS], [0, ITEMS + 3]):
        wide = sparse.csr_matrix((np.ones(len(columns)), ([0] * len(columns), columns)), shape=(1, ITEMS + 4))
        for recalculate in (True, False):
            with pytest.raises(ValueError, match=f"0 to {ITEMS - 1}, got {columns[-1]}"):
                model.recommend(0, wide, recalculate_user=recalculate)


@pytest.mark.parametrize("width", [ITEMS - 5, ITEMS + 7])
def test_another_width_is_fine_as_long_as_the_stored_columns_are_known(model, matrix, scores, width):
    row = sparse.csr_matrix(([1.0, 1.0], ([0, 0], [0, ITEMS - 6])), shape=(1, width))
    assert_result(model.recommend(1, row, N=ITEMS), ranked(scores[1], ITEMS, [0, ITEMS - 6]))


@pytest.mark.parametrize("kind", ["coo", "csc", "lil", "dense", "list", "none"])
@pytest.mark.parametrize("options", [{}, {"filter_already_liked_items": False, "recalculate_user": True}])
def test_only_csr_is_taken_for_recommendations(model, matrix, kind, options):
    one = {"dense": matrix[[0]].toarray(), "list": [[1, 0]], "none": None}
    given = one[kind] if kind in one else matrix[[0]].asformat(kind)
    for user in (0, [0]):
        with pytest.raises(ValueError, match="must be a csr_matrix or csr_array"):
            model.recommend(user, given, **options)


def test_user_items_are_not_needed_where_nothing_depends_on_them(model, matrix, scores):
    for given in (None, matrix.tocoo(), matrix[:7], "nothing"):
        result = model.recommend(1, given, N=5, filter_already_liked_items=False)
        assert_result(result, ranked(scores[1], 5))


@pytest.mark.parametrize("damage", ["indptr falls", "indptr too long", "negative column", "indices too short"])
def test_a_matrix_that_contradicts_itself_is_refused(make, model, matrix, damage):
    bad = matrix.copy()
    if damage == "indptr falls":
        bad.indptr[1] = bad.indptr[2] + 5
    elif damage == "indptr too long":
        bad.indptr[-1] += 1000
    elif damage == "negative column":
        bad.indices[0] = -3
    else:
        bad.indices = bad.indices[:-3]
    users = np.arange(USERS)
    for call in (
        lambda: make().fit(bad, show_progress=False),
        lambda: model.recommend(users, bad),
        lambda: model.recommend(users, bad, recalculate_user=True),
        lambda: model.recommend([0, 1, USERS - 1], bad),
        lambda: model.recommend([0, 1, USERS - 1], bad, recalculate_user=True),
    ):
        with pytest.raises(ValueError, match="user_items"):
            call()


def test_unsorted_and_read_only_rows_filter_alike(model, matrix, unmodified):
    users = [0, 3, 8]
    given = matrix[users]
    for row in range(3):
        own = slice(*given.indptr[row : row + 2])
        given.indices[own] = given.indices[own][::-1].copy()
        given.data[own] = given.data[own][::-1].copy()
    given.has_sorted_indices = False
    for part in (given.data, given.indices, given.indptr):
        part.flags.writeable = False
    for options in ways(model):
        with unmodified(given):
            result = model.recommend(users, given, **options)
        assert_result(result, model.recommend(users, matrix[users], **options))


@pytest.mark.parametrize("layout", ["read-only", "Fortran", "list", "reversed"])
def test_factors_of_any_layout_give_the_same_results(model, matrix, layout, unmodified):
    change = {
        "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
        "Fortran": np.asfortranarray,
        "list": lambda a: a.tolist(),
        "reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
    }[layout]
    other = copy.deepcopy(model)
    other.user_factors, other.item_factors = (change(on_host(f)) for f in (model.user_factors, model.item_factors))
    with unmodified(other.user_factors, other.item_factors):
        given = other.recommend([0, 1], matrix[:2], N=7)
        similar_ones = other.similar_items(np.arange(ITEMS))
    if layout == "list":  # a list has no type of its own: it is taken as float64
        np.testing.assert_array_equal(given[0], model.recommend([0, 1], matrix[:2], N=7)[0])
    else:
        assert_result(given, model.recommend([0, 1], matrix[:2], N=7))
        assert_result(similar_ones, model.similar_items(np.arange(ITEMS)))


def test_factors_written_in_place_count_at_once(model, matrix):
    other = copy.deepcopy(model)
    other.similar_items(0)
    other.recommend(0, matrix[0])
    other.item_factors[4] = other.item_factors[5] * 2
    assert other.similar_items(5, N=2)[0].tolist() == [4, 5]
    np.testing.assert_allclose(
        other.recommend(0, None, N=1, items=[4], filter_already_liked_items=False)[1][0],
        2 * other.recommend(0, None, N=1, items=[5], filter_already_liked_items=False)[1][0],
    )


# Deprecated calls


def test_rank_items_is_a_deprecated_recommend(model, matrix):
    with pytest.warns(DeprecationWarning, match="recommend"):
        given = model.rank_items(3, matrix[3], list(range(20)))
    assert_result(given, model.recommend(3, None, items=range(20), filter_already_liked_items=False))
    assert len(given[0]) == 10
    for bad in ([-1], [ITEMS]):
        with pytest.warns(DeprecationWarning, match="recommend"), pytest.raises(IndexError):
            model.rank_items(3, matrix[3], bad)
    needs_recalculation(model)
    with pytest.warns(DeprecationWarning, match="recommend"):
        given = model.rank_items([3, 4], matrix[[3, 4]], [1, 2], recalculate_user=True)
    expected = model.recommend(
        [3, 4], matrix[[3, 4]], items=[1, 2], filter_already_liked_items=False, recalculate_user=True
    )
    assert_result(given, expected)


def test_recommend_all_is_a_deprecated_recommend(model, matrix):
    with pytest.warns(DeprecationWarning, match="recommend"):
        given = model.recommend_all(matrix, N=4)
    np.testing.assert_array_equal(given, model.recommend(np.arange(USERS), matrix, N=4)[0])
    needs_recalculation(model)
    with pytest.warns(DeprecationWarning, match="recommend"):
        given = model.recommend_all(matrix[10:15], 4, True, False, filter_items=[0], users_items_offset=10)
    expected = model.recommend(
        np.arange(10, 15),
        matrix[10:15],
        N=4,
        recalculate_user=True,
        filter_already_liked_items=False,
        filter_items=[0],
    )
    np.testing.assert_array_equal(given, expected[0])
