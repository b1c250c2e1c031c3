"""Arrays of more than 2³¹ elements: every kernel finds what lies beyond, compared with the same numbers at the front.

The arrays are mapped, never filled, so that only the pages that a test touches take memory.
"""

import mmap
import sys

import numpy as np
import pytest
from scipy import sparse

from implicit_core import _arrays
from implicit_core._typing import Counts, Negatives, Policy
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu import _bpr, kernels
from implicit_core.nearest_neighbours import CosineRecommender

FAR = 2**31 + 5  #: as a signed or unsigned 32-bit offset it would be negative, or point to the front
NORESERVE = 0x4000  #: of Linux: more address space than there is memory

pytestmark = pytest.mark.skipif(sys.platform != "linux" or sys.maxsize < 2**32, reason="maps memory as Linux does")


def zeros(shape, dtype):
    """An array of zeros that takes no memory until it is written."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    except OSError as error:
        pytest.skip(f"no address space: {error}")
    return np.frombuffer(memory, dtype=dtype).reshape(shape)


def moved(counts):
    """The same rows after an empty start of FAR entries."""
    stored = len(counts.indices)
    indices, values = zeros(FAR + stored, np.int32), zeros(FAR + stored, counts.values.dtype)
    indices[FAR:], values[FAR:] = counts.indices, counts.values
    return counts._replace(indptr=counts.indptr + FAR, indices=indices, values=values)


@pytest.fixture
def counts():
    matrix = sparse.random(6, 9, 0.5, format="csr", random_state=0, dtype=np.float32)
    return Counts(matrix.indptr.astype(np.int64), matrix.indices, matrix.data, matrix.shape)


@pytest.fixture
def factors():
    random = np.random.default_rng(0)
    return random.normal(size=(6, 4)).astype(np.float32), random.normal(size=(9, 4)).astype(np.float32)


@pytest.mark.parametrize("cg_steps", [3, None])
def test_half_step_with_entries_beyond(counts, factors, cg_steps):
    X, Y = factors
    results = []
    for where in (counts, moved(counts)):
        solved = X.copy()
        kernels.least_squares(where, solved, Y, Y.T @ Y, np.ones(6), Policy(), cg_steps, slice(0, 6))
        results.append(solved)
    assert np.array_equal(*results)


@pytest.mark.parametrize("cg_steps", [3, None])
def test_half_step_with_factors_beyond(counts, factors, cg_steps):
    """More than 2³¹ factors on both sides, of which the last rows are solved for and read."""
    width, rows = 1024, 2**21 + 100
    random = np.random.default_rng(0)
    X, Y = zeros((rows, width), np.float32), zeros((rows, width), np.float32)
    Y[-9:] = random.normal(size=(9, width))
    gram = Y[-9:].T @ Y[-9:]
    indptr = np.zeros(rows + 1, np.int64)
    indptr[-7:] = counts.indptr
    far = Counts(indptr, counts.indices + np.int32(rows - 9), counts.values, (rows, rows))
    kernels.least_squares(far, X, Y, gram, np.ones(rows), Policy(), cg_steps, slice(rows - 6, rows), num_threads=1)
    expected = np.zeros((6, width), np.float32)
    kernels.least_squares(counts, expected, Y[-9:], gram, np.ones(6), Policy(), cg_steps, slice(0, 6), num_threads=1)
    assert expected.any()
    assert np.array_equal(X[-6:], expected)
    assert not X[:6].any()


def test_squared_error_of_entries_beyond(counts, factors):
    X, Y = factors
    assert kernels.stored_error(moved(counts), X, Y, Policy()) == kernels.stored_error(counts, X, Y, Policy())


def test_recommendations_from_factors_beyond():
    width, items = 1024, 2**21 + 100
    random = np.random.default_rng(0)
    model = AlternatingLeastSquares(width)
    model.user_factors, model.item_factors = random.normal(size=(3, width)).astype("f4"), zeros((items, width), "f4")
    model.item_factors[-50:] = random.normal(size=(50, width))
    candidates = np.arange(items - 50, items)
    near = AlternatingLeastSquares(width)
    near.user_factors, near.item_factors = model.user_factors, model.item_factors[-50:].copy()
    for userid in (1, [0, 2], np.tile([0, 1, 2], 100)):  # one reader, few, and packed candidates
        options = {"N": 7, "filter_already_liked_items": False}
        ids, scores = model.recommend(userid, None, items=candidates, **options)
        expected = near.recommend(userid, None, items=np.arange(50), **options)
        assert np.array_equal(ids, expected[0] + items - 50)
        assert np.array_equal(scores, expected[1])
    ids, _ = model.similar_items(items - 1, N=3, items=candidates)
    assert ids[0] == items - 1
    model.user_factors, model.item_factors = model.item_factors, model.user_factors
    ids, scores = model.recommend([items - 1], None, N=3, filter_already_liked_items=False)
    assert scores[0] == pytest.approx(np.sort(model.item_factors @ model.user_factors[-1])[::-1], rel=1e-4)


def test_pairs_beyond_are_excluded(counts, factors):
    X, Y = factors
    index = kernels.prepare(Y)
    expected = kernels.topk(X, index, 5, exclude=counts)
    for part, wanted in zip(kernels.topk(X, index, 5, exclude=moved(counts)), expected, strict=True):
        assert np.array_equal(part, wanted)


def test_products_of_entries_beyond(counts):
    similarity = Counts(np.arange(0, 82, 9), np.tile(np.arange(9, dtype=np.int32), 9), np.arange(81.0), (9, 9))
    liked = counts._replace(values=counts.values.astype(np.float64))
    expected = kernels.knn_recommend(liked, similarity, 4)
    for left, right in ((moved(liked), similarity), (liked, moved(similarity))):
        for part, wanted in zip(kernels.knn_recommend(left, right, 4), expected, strict=True):
            assert np.array_equal(part, wanted)


def test_hits_among_entries_beyond(counts):
    ranked = np.random.default_rng(0).permuted(np.tile(np.arange(9, dtype=np.int32), (6, 1)), axis=1)
    ordered = counts._replace(
        indices=np.concatenate([np.sort(row) for row in np.split(counts.indices, counts.indptr[1:-1])])
    )
    expected = kernels.ranking_counts(ranked, ordered)
    assert expected.any()
    assert np.array_equal(kernels.ranking_counts(ranked, moved(ordered)), expected)


def test_steps_of_logistic_factorization_with_entries_beyond(counts, factors):
    Y = factors[1].copy()
    pool = np.arange(9, dtype=np.int32)
    results = []
    for where in (counts, moved(counts)):
        X, squares = factors[0].copy(), np.zeros((6, 4), np.float32)
        negatives = Negatives(np.arange(0, 49, 8), pool, 12345)
        kernels.lmf_step(where, X, squares, Y, 1.0, 0.1, negatives, 0, 0, slice(0, 6))
        results.append(X)
    assert np.array_equal(*results)


def test_draws_of_entries_beyond():
    size, draws = FAR * 2, 64
    bits = _arrays.philox(7, 0, np.arange(draws, dtype=np.uint64))
    first, second = ([int(b) * size >> 64 for b in stream] for stream in bits)
    assert max(first) > FAR
    users, indices = zeros(size, np.int32), zeros(size, np.int32)
    users[first] = np.arange(draws)
    indices[first] = np.arange(1, draws + 1)
    indices[second] = np.arange(draws + 1, 2 * draws + 1)
    triples, tasks = np.empty((draws, 3), np.int32), np.empty(draws, np.uint16)
    sizes = np.zeros((1, _arrays.BPR_BLOCKS**3), np.int64)
    _bpr.draw(
        np.zeros(draws + 1, np.int64), users, indices, 7, 0, 0, False, np.array([0, draws]), triples, tasks, sizes
    )
    assert np.array_equal(triples, np.column_stack([users[first], indices[first], indices[second]]))
    assert triples.all(axis=1).sum() >= draws - 1


def test_more_columns_than_ids_are_refused_before_anything_is_allotted_to_them():
    wide = sparse.csr_array((np.ones(1), np.array([2**33]), np.array([0, 1])), shape=(1, 2**33 + 1))
    for model in (AlternatingLeastSquares(2), CosineRecommender()):
        with pytest.raises(ValueError, match="at most 2147483647 columns"):
            model.fit(wide, show_progress=False)
