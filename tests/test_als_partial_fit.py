"""Recalculation and partial fits of alternating least squares."""

import math
import pickle

import numpy as np
import pytest
from als_cases import FACTORS, ITEMS, SIDES, USERS, as_csr, assert_same_factors, assert_stationary, fitted
from als_cases import cells as cells
from als_cases import dtype as dtype
from als_cases import matrix as matrix
from scipy import sparse

from implicit_core.utils import ParameterWarning


@pytest.fixture(params=["user", "item"])
def side(request):
    """How to recalculate and extend one side, so that both are tested as the mirror images that they are."""
    return request.param


def half(side, matrix):
    """The matrix with the ids of a side as its rows."""
    return matrix if side == "user" else matrix.T.tocsr()


def recalculate(model, side, ids, rows):
    return getattr(model, f"recalculate_{side}")(ids, rows)


def partial_fit(model, side, ids, rows):
    return getattr(model, f"partial_fit_{side}s")(ids, rows)


def factors_of(model, side):
    return getattr(model, f"{side}_factors")


def test_recalculation_is_exact_and_leaves_the_model(cells, side, dtype, unmodified):
    matrix = as_csr(cells)
    model = fitted(matrix, alpha=1.5, regularization=0.2, dtype=dtype)
    rows, count = half(side, matrix), (USERS if side == "user" else ITEMS)
    before = pickle.loads(pickle.dumps(model))
    with unmodified(rows):
        new = recalculate(model, side, np.arange(count), rows)
    assert_same_factors(model, before)
    assert new.dtype == dtype
    assert new.shape == (count, FACTORS)
    if dtype is np.float64:
        other = factors_of(model, "item" if side == "user" else "user")
        assert_stationary(cells if side == "user" else cells.T, new, other, 0.2, 1.5)
    for given in (5, np.int64(5), np.array(5)):
        alone = recalculate(model, side, given, rows[5])
        assert alone.shape == (FACTORS,)
        np.testing.assert_array_equal(alone, new[5])
    np.testing.assert_array_equal(recalculate(model, side, [5], rows[5]), new[5:6])
    np.testing.assert_array_equal(recalculate(model, side, [7, 2], rows[[7, 2]]), new[[7, 2]])
    np.testing.assert_array_equal(recalculate(model, side, [7, 2], rows), new[[7, 2]])
    np.testing.assert_array_equal(recalculate(model, side, 5, rows), new[5])
    assert recalculate(model, side, [], rows[:0]).shape == (0, FACTORS)


def test_an_id_that_the_model_does_not_know_can_be_recalculated(matrix, side):
    model = fitted(matrix)
    rows = half(side, matrix)
    np.testing.assert_array_equal(recalculate(model, side, 10_000, rows[0]), recalculate(model, side, 0, rows[0]))


def test_recalculation_takes_other_formats_as_fit_does(matrix, side, row_of):
    model = fitted(matrix)
    rows = half(side, matrix)
    expected = recalculate(model, side, [1, 2], rows[[1, 2]])
    with pytest.warns(ParameterWarning, match=r"^Method expects CSR input"):
        given = recalculate(model, side, [1, 2], rows[[1, 2]].tocoo())
    np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(recalculate(model, side, [1, 2], sparse.csr_array(rows)[[1, 2]]), expected)
    np.testing.assert_array_equal(recalculate(model, side, 1, row_of(sparse.csr_array(rows), 1)), expected[0])


@pytest.mark.parametrize("count", [1, 3, 5, USERS - 1])
def test_recalculation_of_the_wrong_number_of_rows_says_what_to_pass(matrix, count):
    model = fitted(matrix)
    with pytest.raises(ValueError, match=r"one row per userid \(2\).*pass user_items\[userid\]"):
        model.recalculate_user([0, 1], matrix[:count])


@pytest.mark.parametrize("column", [ITEMS, ITEMS + 5, 10**6])
def test_a_stored_column_that_is_not_known_is_refused(matrix, column):
    model = fitted(matrix)
    wide = sparse.csr_matrix(([1.0], ([0], [column])), shape=(1, column + 1))
    for call in (model.recalculate_user, model.recommend, lambda u, m: model.partial_fit_users([u], m)):
        with pytest.raises(ValueError, match=str(column)):
            call(0, wide)


def test_a_recalculated_recommendation_is_that_of_the_recalculated_factors(matrix, dtype):
    model = fitted(matrix, dtype=dtype)
    ids, scores = model.recommend([90, 91], matrix[[5, 6]], N=ITEMS, recalculate_user=True)
    again = fitted(matrix, dtype=dtype)
    again.partial_fit_users([5, 6], matrix[[5, 6]])
    expected = again.recommend([5, 6], matrix[[5, 6]], N=ITEMS)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_similar_items_of_recalculated_items(matrix):
    model = fitted(matrix)
    rows = matrix.T.tocsr()
    given = model.similar_items([ITEMS + 3, 0], N=5, recalculate_item=True, item_users=rows[[6, 7]])
    model.partial_fit_items([6, 7], rows[[6, 7]])
    vectors = model.item_factors[[6, 7]] / np.linalg.norm(model.item_factors[[6, 7]], axis=1, keepdims=True)
    old = fitted(matrix).item_factors
    norms = np.maximum(np.linalg.norm(old, axis=1), 1e-10)
    np.testing.assert_allclose(given[1], -np.sort(-(vectors @ old.T / norms), axis=1)[:, :5], rtol=1e-5)
    with pytest.raises(ValueError, match="item_users"):
        model.similar_items(0, recalculate_item=True)


def test_partial_fit_replaces_known_rows_and_appends_new_ones(matrix, side):
    model = fitted(matrix)
    before, rows = factors_of(model, side).copy(), half(side, matrix)
    count = len(before)
    expected = recalculate(model, side, np.arange(4), rows[[8, 9, 10, 11]])
    assert partial_fit(model, side, [2, count + 2, 0, count], rows[[8, 9, 10, 11]]) is None
    after = factors_of(model, side)
    assert after.shape == (count + 3, FACTORS)
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after[[2, count + 2, 0, count]], expected)
    assert not after[count + 1].any()
    unchanged = np.setdiff1d(np.arange(count), [0, 2])
    np.testing.assert_array_equal(after[unchanged], before[unchanged])


def test_new_ids_can_be_asked_for_after_a_partial_fit(matrix):
    model = fitted(matrix)
    model.similar_items(0)
    model.partial_fit_users([USERS], matrix[5])
    model.partial_fit_items([ITEMS], matrix.T.tocsr()[6])
    ids, _ = model.recommend(USERS, None, N=ITEMS + 1, filter_already_liked_items=False)
    assert sorted(ids) == list(range(ITEMS + 1))
    assert model.similar_items(ITEMS, N=1)[0].tolist() == [ITEMS]
    assert model.similar_users(USERS, N=1)[0].tolist() == [USERS]
    factors = model.item_factors.astype(np.float64)
    np.testing.assert_allclose(model.YtY, factors.T @ factors, rtol=1e-5)


@pytest.mark.parametrize("changed", [[1, 2], [1, ITEMS]])
def test_a_partial_fit_uses_the_fixed_side_as_it_is_now(matrix, changed):
    """Items that a partial fit changed, in place or by growth, count in the next fold-in of a user."""
    model = fitted(matrix, dtype=np.float64, regularization=0.1)
    model.recalculate_user(0, matrix[0])
    model.partial_fit_items(changed, matrix.T.tocsr()[[6, 7]])
    cells = np.full((1, len(model.item_factors)), np.nan)
    cells[0, [0, *changed]] = 2, 1, 3
    assert_stationary(cells, model.recalculate_user([0], as_csr(cells)), model.item_factors, 0.1)


@pytest.mark.parametrize("more", [-1, 1])
def test_partial_fit_wants_exactly_one_row_per_id(matrix, side, more):
    model = fitted(matrix)
    rows = half(side, matrix)
    with pytest.raises(ValueError, match="one row for each"):
        partial_fit(model, side, [0, 1, 2], rows[: 3 + more])
    with pytest.raises(ValueError, match="one row for each"):
        partial_fit(model, side, [0, 1], rows)
    assert factors_of(model, side).shape == factors_of(fitted(matrix), side).shape


@pytest.mark.parametrize("ids", [[-1], [0.5], ["a"], [[0]]])
def test_partial_fit_of_what_is_no_id_is_refused(matrix, side, ids):
    model = fitted(matrix)
    with pytest.raises((IndexError, TypeError)):
        partial_fit(model, side, ids, half(side, matrix)[:1])
    with pytest.raises(TypeError, match="sequence"):
        partial_fit(model, side, 0, half(side, matrix)[:1])


def test_a_partial_fit_of_nobody_changes_nothing(matrix, side):
    model = fitted(matrix)
    partial_fit(model, side, [], half(side, matrix)[:0])
    assert_same_factors(model, fitted(matrix))


def test_adding_rows_one_by_one_moves_the_factors_a_logarithmic_number_of_times(matrix, side):
    model, rows = fitted(matrix), half(side, matrix)
    count, buffers = rows.shape[0], {}
    expected = recalculate(model, side, [0], rows[6])[0]
    for new in range(count, count + 2000):
        partial_fit(model, side, [new], rows[6])
        factors = factors_of(model, side)
        owner = factors if factors.base is None else factors.base
        buffers[id(owner)] = owner  # kept, so that no id is used again
    assert len(buffers) <= math.log2(2000) + 2
    assert factors_of(model, side).shape == (count + 2000, FACTORS)
    np.testing.assert_array_equal(factors_of(model, side)[count:], np.broadcast_to(expected, (2000, FACTORS)))
    assert len(pickle.dumps(model)) < 2 * factors_of(model, side).nbytes


def test_growth_never_shows_rows_of_an_earlier_state(matrix):
    """Rows that a partial fit skips are zero, even where the buffer held others before."""
    model = fitted(matrix)
    model.partial_fit_users(np.arange(USERS, USERS + 9), matrix[6:15])
    model.user_factors = model.user_factors[:USERS]
    model.partial_fit_users([USERS + 8], matrix[6])
    assert not model.user_factors[USERS : USERS + 8].any()


def test_a_copy_of_a_grown_model_grows_by_itself(matrix):
    model = fitted(matrix)
    model.partial_fit_users([USERS], matrix[6])
    twin = pickle.loads(pickle.dumps(model))
    twin.partial_fit_users([USERS + 1], matrix[7])
    model.partial_fit_users([USERS + 1], matrix[8])
    np.testing.assert_array_equal(twin.user_factors[USERS + 1], model.recalculate_user(0, matrix[7]))
    np.testing.assert_array_equal(model.user_factors[USERS + 1], model.recalculate_user(0, matrix[8]))


@pytest.mark.parametrize("layout", ["read-only", "Fortran"])
def test_partial_fit_on_factors_that_cannot_be_written_takes_a_copy(matrix, side, layout, unmodified):
    model, expected = fitted(matrix), fitted(matrix)
    for name in SIDES:
        factors = np.array(getattr(model, name), order="F" if layout == "Fortran" else "C")
        factors.flags.writeable = layout == "Fortran"
        setattr(model, name, factors)
    rows = half(side, matrix)
    with unmodified(factors_of(model, side)):
        given = factors_of(model, side)
        partial_fit(model, side, [0, 2], rows[[5, 6]])
        partial_fit(expected, side, [0, 2], rows[[5, 6]])
        assert layout == "Fortran" or not np.array_equal(given, factors_of(model, side))
    np.testing.assert_allclose(factors_of(model, side), factors_of(expected, side), rtol=1e-5, atol=1e-7)
