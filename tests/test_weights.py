"""Weights of interactions, against their definitions entry by entry."""

import math
import warnings

import numpy as np
import pytest
from scipy import sparse

from implicit_core.nearest_neighbours import bm25_weight, normalize, tfidf_weight
from implicit_core.recommender_base import ModelFitError

WEIGHTS = [bm25_weight, tfidf_weight, normalize]
FORMS = {
    "csr_matrix": sparse.csr_matrix,
    "csr_array": sparse.csr_array,
    "coo_matrix": sparse.coo_matrix,
    "coo_array": sparse.coo_array,
    "csc_matrix": sparse.csc_matrix,
    "lil_matrix": sparse.lil_matrix,
}


def plays(rows=12, columns=9, seed=0):
    """Counts with an empty row, an empty column and a column in which every other row is stored."""
    random = np.random.default_rng(seed)
    values = random.integers(1, 50, size=(rows, columns)) * (random.random((rows, columns)) < 0.4)
    values[:, 2] = 7
    values[3], values[:, 4] = 0, 0
    return values


def stored_in_column(matrix, j):
    return sum(1 for i in range(len(matrix)) if matrix[i][j])


def by_definition(weight, matrix, K1=100, B=0.8):
    """What the documentation says, with plain Python numbers."""
    rows, columns = matrix.shape
    matrix = [[float(x) for x in row] for row in matrix]
    mean = sum(map(sum, matrix)) / rows
    result = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            x = matrix[i][j]
            idf = math.log(rows / (1 + stored_in_column(matrix, j)))
            if not x:
                continue
            if weight is normalize:
                result[i, j] = x / math.sqrt(sum(value * value for value in matrix[i]))
            elif weight is tfidf_weight:
                result[i, j] = math.sqrt(x) * idf
            else:
                result[i, j] = (K1 + 1) * x / (K1 * (1 - B + B * sum(matrix[i]) / mean) + x) * idf
    return result


@pytest.fixture(params=WEIGHTS, ids=lambda weight: weight.__name__)
def weight(request):
    return request.param


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.float32, np.float64])
def test_each_value_is_the_documented_formula(weight, form, dtype, unmodified):
    given = FORMS[form](plays().astype(dtype))
    with unmodified(given), warnings.catch_warnings():
        warnings.simplefilter("error")
        weighted = weight(given)
    assert isinstance(weighted, sparse.coo_matrix)
    assert weighted.dtype == np.float64
    assert weighted.shape == given.shape
    np.testing.assert_allclose(weighted.toarray(), by_definition(weight, plays()), rtol=1e-12)


@pytest.mark.parametrize(("K1", "B"), [(1.2, 0.75), (100, 0.8), (3, 0.0), (10, 1.0)])
def test_bm25_parameters_are_the_documented_ones(K1, B):
    weighted = bm25_weight(sparse.csr_matrix(plays()), K1=K1, B=B)
    np.testing.assert_allclose(weighted.toarray(), by_definition(bm25_weight, plays(), K1, B), rtol=1e-12)


def test_bm25_levels_off_and_takes_long_rows_down():
    matrix = sparse.csr_matrix(np.array([[1, 10, 0, 0], [1, 0, 2000, 0], [0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 0, 0]]))
    weighted = bm25_weight(matrix, K1=2, B=0.75).toarray()
    assert weighted[0, 0] < weighted[0, 1] < 10 * weighted[0, 0]
    assert weighted[1, 0] < weighted[0, 0]


def test_a_value_that_everybody_has_weighs_little_or_less_than_nothing():
    """The inverse document frequency ln(rows / (1 + stored)) falls below 0 in a full column."""
    full = sparse.csr_matrix(np.ones((4, 2)))
    assert (tfidf_weight(full).data < 0).all()
    assert (bm25_weight(full).data < 0).all()


def test_normalized_rows_have_length_one():
    rows = normalize(sparse.csr_matrix(plays()))
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    np.testing.assert_allclose(np.delete(lengths, 3), 1)
    assert lengths[3] == 0


def test_rows_of_explicit_zeros_stay_zeros(weight):
    matrix = sparse.csr_matrix((np.array([0.0, 0.0, 3.0]), ([0, 0, 2], [0, 1, 1])), shape=(3, 2))
    weighted = weight(matrix)
    assert np.isfinite(weighted.data).all()
    assert not weighted.toarray()[:2].any()
    assert weighted.nnz == 3


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0), (4, 5)])
def test_a_matrix_without_entries_stays_so(weight, shape):
    weighted = weight(sparse.csr_matrix(shape))
    assert weighted.shape == shape
    assert weighted.nnz == 0
    assert weighted.dtype == np.float64


def test_a_value_of_the_result_can_be_written_without_reaching_the_input(weight, unmodified):
    given = sparse.coo_matrix(plays().astype(np.float64))
    with unmodified(given):
        weight(given).data[:] = -1


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_entries_may_come_in_any_order(weight, index):
    matrix = sparse.coo_matrix(plays(60, 40).astype(float))
    order = np.random.default_rng(1).permutation(matrix.nnz)
    shuffled = sparse.coo_matrix((matrix.data[order], (matrix.row[order], matrix.col[order])), shape=matrix.shape)
    shuffled.row, shuffled.col = shuffled.row.astype(index), shuffled.col.astype(index)
    result, expected = weight(shuffled), weight(matrix)
    assert np.array_equal(result.row, shuffled.row)
    assert np.array_equal(result.col, shuffled.col)
    np.testing.assert_allclose(result.data, expected.data[order], rtol=1e-14)


def test_tfidf_refuses_what_has_no_square_root():
    with pytest.raises(ValueError, match="square root"):
        tfidf_weight(sparse.csr_matrix([[1.0, -1.0]]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(weight, value):
    with pytest.raises(ValueError, match="finite values, got"):
        weight(sparse.csr_matrix([[1.0, value]]))


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="no wider floats")
def test_values_that_float64_cannot_hold_are_refused(weight):
    with pytest.raises(ValueError, match="finite values, got"):
        weight(sparse.csr_matrix(np.array([[1, np.finfo(np.longdouble).max]])))


def test_weights_of_bm25_that_are_not_finite_are_refused():
    matrix = sparse.csr_matrix(np.array([[1.7e308, -1.7e308, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]))
    with pytest.raises(ModelFitError, match="scale them down"):
        bm25_weight(matrix)


def test_weights_feed_fit_after_a_transposition(weight):
    """The weighted artists × users matrix, transposed, is users × artists with the same values."""
    user_plays = weight(sparse.csr_matrix(plays())).T.tocsr()
    assert user_plays.shape == (9, 12)
    np.testing.assert_array_equal(user_plays.toarray(), weight(sparse.csr_matrix(plays())).toarray().T)
