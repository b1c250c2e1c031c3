"""Every device's kernels against their definitions."""

import multiprocessing
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import sparse

from implicit_core import _arrays, _kernels
from implicit_core._kernels import effective_threads, split_rows
from implicit_core._typing import Counts, Policy
from implicit_core.cpu import _als
from implicit_core.cpu import kernels as cpu_kernels
from implicit_core.recommender_base import ModelFitError

POLICIES = [Policy(), Policy(alpha=0.7), Policy(alpha=2.0, observed=True)]


@pytest.fixture(params=[cpu_kernels, _arrays], ids=["cpu", "arrays"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> type:
    return request.param


def random_counts(rows: int, columns: int, seed: int, values: str = "mixed", dtype: type = np.float32) -> Counts:
    """Rows of 0 to `columns` entries, so that every remainder of a loop over entries comes up."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, columns + 1, rows)
    lengths[: min(rows, 3)] = [0, columns, 1][: min(rows, 3)]
    indices = np.concatenate([np.sort(rng.permutation(columns)[:n]) for n in lengths]).astype(np.int32)
    data = rng.uniform(0.1, 4, len(indices))
    if values == "mixed":
        data[::5] *= -1
        data[::7] = 0
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Counts(indptr, indices, data.astype(dtype), (rows, columns))


def dense(counts: Counts, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
    """Weights and right-hand sides of all cells, zero where nothing is stored; the definition of a policy."""
    c = np.float32(policy.alpha) * counts.values.astype(np.float32)
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    weight, rhs = np.zeros(counts.shape), np.zeros(counts.shape)
    weight[row, counts.indices] = c if policy.observed else np.abs(c).astype(np.float64) - 1
    rhs[row, counts.indices] = c if policy.observed else np.maximum(c, 0)
    return weight, rhs


def systems(counts: Counts, Y: np.ndarray, diag: np.ndarray, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
    """A and b of every row."""
    weight, rhs = dense(counts, policy)
    Y = Y.astype(np.float64)
    A = Y.T @ Y + np.einsum("ui,if,ig->ufg", weight, Y, Y)
    return A + diag[:, None, None] * np.eye(Y.shape[1]), rhs @ Y


def sides(rows: int, columns: int, factors: int, dtype: type, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, factors)).astype(dtype), rng.normal(size=(columns, factors)).astype(dtype)


def tolerance(dtype: type) -> float:
    return 2e-4 if dtype == np.float32 else 1e-10


# gram


@pytest.mark.parametrize(("rows", "factors"), [(0, 3), (1, 1), (31, 5), (33, 16), (2500, 17), (5000, 64), (70, 130)])
def test_gram_is_the_product_of_the_transpose_with_the_matrix(kernels, dtype, rows, factors):
    Y = np.random.default_rng(rows).normal(size=(rows, factors)).astype(dtype)
    gram = kernels.gram(Y)
    assert gram.dtype == np.float64
    np.testing.assert_allclose(gram, Y.astype(np.float64).T @ Y.astype(np.float64), rtol=1e-12, atol=1e-11)
    assert np.array_equal(gram, gram.T)


def test_gram_has_the_same_bits_for_any_number_of_threads(dtype):
    Y = np.random.default_rng(0).normal(size=(20_000, 33)).astype(dtype)
    grams = [cpu_kernels.gram(Y, num_threads=n) for n in (1, 2, 3, 8)]
    assert all(np.array_equal(gram, grams[0]) for gram in grams)


def test_gram_of_float32_is_accumulated_in_float64():
    Y = np.full((100_000, 1), 1.0001, dtype=np.float32)
    assert cpu_kernels.gram(Y)[0, 0] == pytest.approx(100_000 * float(Y[0, 0]) ** 2, rel=1e-13)


def test_gram_takes_any_memory_order(dtype):
    Y = np.random.default_rng(0).normal(size=(40, 6)).astype(dtype)
    assert np.array_equal(cpu_kernels.gram(np.asfortranarray(Y)), cpu_kernels.gram(Y))


# least squares


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("factors", [1, 4, 7, 16, 32, 35, 64, 100, 128, 200])
def test_exact_solution_solves_the_system_of_each_row(kernels, dtype, policy, factors):
    counts = random_counts(30, 23, seed=factors, values="positive")
    X, Y = sides(30, 23, factors, dtype)
    diag = np.linspace(1, 3, 30).astype(dtype)
    kernels.least_squares(counts, X, Y, kernels.gram(Y), diag, policy, None, slice(None))
    A, b = systems(counts, Y, diag.astype(np.float64), policy)
    empty = np.diff(counts.indptr) == 0
    expected = np.where(empty[:, None], 0, np.linalg.solve(A, b[:, :, None])[:, :, 0])
    np.testing.assert_allclose(X, expected, rtol=tolerance(dtype), atol=tolerance(dtype))


@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("factors", [5, 33, 64])
def test_what_lies_in_scratch_space_does_not_matter(dtype, factors, steps, monkeypatch):
    counts, policy = random_counts(30, 23, seed=1), Policy()
    (X, Y), diag = sides(30, 23, factors, dtype), np.full(30, 2, dtype)
    expected, gram = X.copy(), cpu_kernels.gram(Y)
    cpu_kernels.least_squares(counts, expected, Y, gram, diag, policy, steps, slice(None))
    error = cpu_kernels.stored_error(counts, X, Y, policy)
    empty = np.empty
    junk = {np.uint8: 0xC1}  # what four or eight of make a number too
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full_like(empty(shape, dtype), junk.get(dtype, -7)))
    assert np.array_equal(cpu_kernels.gram(Y), gram)
    assert cpu_kernels.stored_error(counts, X, Y, policy) == error
    cpu_kernels.least_squares(counts, X, Y, gram, diag, policy, steps, slice(None))
    assert np.array_equal(X, expected)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("factors", [1, 4, 7, 16, 32, 35, 64, 100, 128, 200])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_conjugate_gradient_takes_the_textbook_steps(kernels, dtype, policy, factors, steps):
    counts = random_counts(30, 23, seed=factors, values="mixed" if not policy.observed else "positive")
    X, Y = sides(30, 23, factors, dtype)
    diag = np.linspace(20, 60, 30).astype(dtype)
    expected = X.astype(np.float64)
    for u, (A, b) in enumerate(zip(*systems(counts, Y, diag.astype(np.float64), policy), strict=True)):
        if counts.indptr[u] == counts.indptr[u + 1]:
            expected[u] = 0
            continue
        r = p = b - A @ expected[u]
        for _ in range(steps):
            if r @ r < 1e-20:
                break
            length = (r @ r) / (p @ A @ p)
            expected[u] += length * p
            beta = 1 / (r @ r)
            r = r - length * A @ p
            p = r + beta * (r @ r) * p
    kernels.least_squares(counts, X, Y, kernels.gram(Y), diag, policy, steps, slice(None))
    np.testing.assert_allclose(X, expected, rtol=tolerance(dtype), atol=tolerance(dtype))


def test_conjugate_gradient_leaves_a_solved_row_alone(kernels, dtype):
    counts = random_counts(20, 11, seed=1, values="positive")
    X, Y = sides(20, 11, 4, dtype)
    diag = np.full(20, 2, dtype=dtype)
    kernels.least_squares(counts, X, Y, kernels.gram(Y), diag, Policy(), None, slice(None))
    for _ in range(3):
        kernels.least_squares(counts, X, Y, kernels.gram(Y), diag, Policy(), 20, slice(None))
        assert np.isfinite(X).all()
    A, b = systems(counts, Y, diag.astype(np.float64), Policy())
    gradient = np.einsum("ufg,ug->uf", A, X.astype(np.float64)) - b
    gradient[np.diff(counts.indptr) == 0] = 0
    assert np.abs(gradient).max() < (1e-4 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("cg_steps", [None, 3])
@pytest.mark.parametrize("values", [np.float32, np.float64])
def test_a_row_has_the_same_bits_for_any_slice_and_threads(dtype, cg_steps, values):
    counts = random_counts(200, 40, seed=2, values="positive", dtype=values)
    X, Y = sides(200, 40, 19, dtype)
    diag, gram = np.full(200, 0.5, dtype=dtype), cpu_kernels.gram(Y)

    def solved(slices: list[slice], threads: int) -> np.ndarray:
        result = X.copy()
        for rows in slices:
            cpu_kernels.least_squares(counts, result, Y, gram, diag, Policy(), cg_steps, rows, threads)
        return result

    whole = solved([slice(None)], 1)
    assert all(np.array_equal(solved([slice(None)], n), whole) for n in (2, 3, 8))
    assert np.array_equal(solved([slice(0, 1), slice(1, 77), slice(77, 200)], 2), whole)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("factors", [70, 100, 128, 200])
def test_rows_have_the_bits_of_those_solved_alone(dtype, policy, factors):
    """Some are empty, some converge at once, some are fetched into the cache again in each pass."""
    long = 2**16 // (-(-factors // _als.WIDTH) * _als.WIDTH * np.dtype(dtype).itemsize)
    lengths = np.array([3, 0, 7, 1, 12, long + 1, 5, long, 1, 2 * long, 0, 2, 40, 0])
    rng = np.random.default_rng(4)
    ids = np.concatenate([rng.permutation(2 * long)[:n] for n in lengths]).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.uniform(0.1, 4, len(ids))
    values[indptr[2] : indptr[3]] = 0 if policy.observed else 1 / np.float32(policy.alpha)
    counts = Counts(indptr, ids, values.astype(dtype), (len(lengths), 2 * long))
    X, Y = sides(len(lengths), 2 * long, factors, dtype)
    X[2] = 0 if policy.observed else X[2]
    diag, gram = rng.uniform(0.1, 1, len(lengths)).astype(dtype), cpu_kernels.gram(Y)

    def solved(steps: int, slices: list[slice], threads: int = 1) -> np.ndarray:
        result = X.copy()
        for rows in slices:
            cpu_kernels.least_squares(counts, result, Y, gram, diag, policy, steps, rows, threads)
        return result

    for steps in (0, 1, 3):
        alone = solved(steps, [slice(u, u + 1) for u in range(len(lengths))])
        assert np.array_equal(solved(steps, [slice(None)]), alone)
        assert np.array_equal(solved(steps, [slice(0, 4), slice(4, None)], 3), alone)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("factors", [3, 64, 70])
@pytest.mark.parametrize("block", [1, 70, 999])
def test_long_rows_have_the_bits_of_other_rows(dtype, policy, factors, block, monkeypatch):
    """Some are empty, some converge at once, some have several pieces in a block, and columns come in any order."""
    rng = np.random.default_rng(5)
    lengths = np.array([3, 0, 900, 1, 4, 5, 257, 40, 7, 1000, 30])
    ids = np.concatenate([np.sort(rng.permutation(1000)[:n]) for n in lengths]).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    rng.shuffle(ids[indptr[9] : indptr[10]])
    values = rng.uniform(0.1, 4, len(ids))
    values[indptr[7] : indptr[8]] = 0 if policy.observed else 1 / np.float32(policy.alpha)
    X, Y = sides(len(lengths), 1000, factors, dtype)
    X[7] = 0 if policy.observed else X[7]
    diag, gram = rng.uniform(0.1, 1, len(lengths)).astype(dtype), cpu_kernels.gram(Y)

    def solved(values: np.ndarray, steps: int, rows: slice, threads: int = 1) -> np.ndarray:
        result = X.copy()
        counts = Counts(indptr, ids, values, (len(lengths), 1000))
        cpu_kernels.least_squares(counts, result, Y, gram, diag, policy, steps, rows, threads)
        return result

    for steps, kind in ((0, dtype), (1, dtype), (3, dtype), (3, np.float32), (3, np.float64)):
        for rows in (slice(None), slice(2, 9)):
            with monkeypatch.context() as patch:
                expected = solved(values.astype(kind), steps, rows)
                patch.setattr(cpu_kernels, "Y_BLOCK", block * factors * np.dtype(dtype).itemsize)
                patch.setattr(cpu_kernels, "LONG_ROW", 4 * -(-factors // _als.WIDTH) * _als.WIDTH * X.itemsize)
                assert np.array_equal(solved(values.astype(kind), steps, rows), expected)
                assert np.array_equal(solved(values.astype(kind), steps, rows, threads=3), expected)
                patch.setattr(cpu_kernels, "LONG_PIECE_FLOP", 1e5)
                assert np.array_equal(solved(values.astype(kind), steps, rows, threads=2), expected)


@pytest.mark.parametrize("cg_steps", [None, 3])
def test_rows_outside_the_slice_and_inputs_do_not_change(kernels, dtype, cg_steps):
    counts = random_counts(12, 9, seed=3, values="positive")
    X, Y = sides(12, 9, 5, dtype)
    before = X.copy(), Y.copy(), *(a.copy() for a in counts[:3])
    kernels.least_squares(counts, X, Y, kernels.gram(Y), np.ones(12, dtype), Policy(), cg_steps, slice(4, 9))
    assert np.array_equal(X[:4], before[0][:4])
    assert np.array_equal(X[9:], before[0][9:])
    assert not np.array_equal(X[4:9], before[0][4:9])
    assert all(np.array_equal(a, b) for a, b in zip((Y, *counts[:3]), before[1:], strict=True))


def test_a_system_without_unique_solution_is_an_error_that_names_the_first_row(kernels, dtype):
    indptr = np.array([0, 1, 2, 3, 4], dtype=np.int64)
    counts = Counts(indptr, np.array([0, 1, 0, 1], np.int32), np.array([2, 0, 2, 0], np.float32), (4, 2))
    X, Y = np.ones((4, 2), dtype), np.eye(2, dtype=dtype)
    with pytest.raises(ModelFitError, match=r"row 1 .*regularization"):
        kernels.least_squares(counts, X, Y, kernels.gram(Y), np.zeros(4, dtype), Policy(), None, slice(None))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("factors", [1, 7, 64])
def test_stored_error_with_the_gram_is_the_squared_error_of_all_cells(kernels, dtype, policy, factors):
    counts = random_counts(30, 23, seed=factors)
    X, Y = sides(30, 23, factors, dtype)
    weight, rhs = dense(counts, policy)
    score = X.astype(np.float64) @ Y.T.astype(np.float64)
    stored = kernels.stored_error(counts, X, Y, policy)
    # Σ of weight (1 - s)² over positive cells and weight s² over others, less what the unit weight of a cell counts
    positive = rhs > 0
    unit = 0.0 if policy.observed else 1.0
    stored_cells = np.zeros(counts.shape, bool)
    stored_cells[np.repeat(np.arange(30), np.diff(counts.indptr)), counts.indices] = True
    target = np.where(positive, 1.0, 0.0) if not policy.observed else np.ones(counts.shape)
    definition = (weight + unit) * (target - score) ** 2 - unit * score**2
    assert stored == pytest.approx(definition[stored_cells].sum(), rel=1e-4 if dtype == np.float32 else 1e-10)


def test_stored_error_of_no_entries_is_zero(kernels, dtype):
    counts = Counts(np.zeros(4, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), (3, 2))
    assert kernels.stored_error(counts, *sides(3, 2, 4, dtype), Policy()) == 0


# top-k


def ranking(
    queries: np.ndarray, items: np.ndarray, ids: np.ndarray, exclude: Counts | None, drop: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """A full stable sort: by descending score, then by ascending id, excluded and dropped ones at the lowest score."""
    scores = (queries @ items[ids].T).astype(queries.dtype)
    lowest = np.finfo(queries.dtype).min
    if drop is not None:
        scores[:, np.isin(ids, drop)] = lowest
    if exclude is not None:
        for q in range(len(queries)):
            scores[q, np.isin(ids, exclude.indices[exclude.indptr[q] : exclude.indptr[q + 1]])] = lowest
    order = np.stack([np.lexsort((ids, -row)) for row in scores])
    return ids[order], np.take_along_axis(scores, order, axis=1)


def integers(shape: tuple[int, int], dtype: type, seed: int) -> np.ndarray:
    """Small integers: inner products are exact, and many are equal."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(dtype)


@pytest.mark.parametrize("queries_to_come", [0, 10_000], ids=["plain", "packed"])
@pytest.mark.parametrize("restricted", [False, True], ids=["all", "candidates"])
@pytest.mark.parametrize("filtered", [False, True], ids=["unfiltered", "filtered"])
@pytest.mark.parametrize(("n", "items", "factors"), [(1, 1, 1), (3, 31, 2), (13, 33, 5), (100, 200, 17), (5, 65, 64)])
def test_topk_is_a_full_stable_sort(kernels, dtype, queries_to_come, restricted, filtered, n, items, factors):
    Q, Y = integers((n, factors), dtype, 1), integers((items, factors), dtype, 2)
    rng = np.random.default_rng(3)
    only = np.sort(rng.integers(0, items, items // 2 + 1)) if restricted else None
    ids = np.arange(items) if only is None else only
    exclude = random_counts(n, items, seed=4) if filtered else None
    drop = np.unique(rng.integers(0, items, items // 4 + 1)).astype(np.int32) if filtered else None
    expected_ids, expected_scores = ranking(Q, Y, ids, exclude, drop)
    index = kernels.prepare(Y, only, queries=queries_to_come)
    for k in {1, 2, 10, len(ids), len(ids) + 3}:
        found_ids, found_scores = kernels.topk(Q, index, k, exclude=exclude, drop=drop)
        m = min(k, len(ids))
        assert found_ids.dtype == np.int32
        assert found_scores.dtype == dtype
        assert np.array_equal(found_ids[:, :m], expected_ids[:, :m])
        assert np.array_equal(found_scores[:, :m], expected_scores[:, :m])
        assert (found_ids[:, m:] == -1).all()
        assert (found_scores[:, m:] == np.finfo(dtype).min).all()


@pytest.mark.parametrize("factors", [1, 3, 50, 64, 100])
def test_a_score_has_the_same_bits_however_it_is_asked_for(dtype, factors):
    Q, Y = sides(300, 700, factors, dtype)
    Y *= np.random.default_rng(5).lognormal(size=(700, 1)).astype(dtype)
    ids, scores = cpu_kernels.topk(Q, cpu_kernels.prepare(Y), 20, num_threads=1)
    packed = cpu_kernels.prepare(Y, queries=300)
    assert packed.packed is not None
    for threads in (1, 2, 3, 8):
        for index in (packed, cpu_kernels.prepare(Y)):
            again = cpu_kernels.topk(Q, index, 20, num_threads=threads)
            assert np.array_equal(again[0], ids)
            assert np.array_equal(again[1], scores)
        single = cpu_kernels.topk(Q[7:8], cpu_kernels.prepare(Y), 20, num_threads=threads)
        assert np.array_equal(single[0][0], ids[7])
        assert np.array_equal(single[1][0], scores[7])
    some = cpu_kernels.topk(Q[7:8], cpu_kernels.prepare(Y, np.sort(ids[7])), 20)
    assert np.array_equal(some[1][0], scores[7])


@pytest.mark.parametrize("queries_to_come", [0, 10_000], ids=["plain", "packed"])
def test_cosine_divides_by_the_norm_of_the_item(kernels, dtype, queries_to_come):
    Q, Y = sides(40, 90, 13, dtype)
    Y[17] = 0
    ids, scores = kernels.topk(Q, kernels.prepare(Y, cosine=True, queries=queries_to_come), 90)
    norms = np.linalg.norm(Y.astype(np.float64), axis=1)
    norms[17] = 1
    expected = Q.astype(np.float64) @ Y.astype(np.float64).T / norms
    assert np.array_equal(np.sort(ids, axis=1), np.tile(np.arange(90), (40, 1)))
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids, axis=1), atol=10 * np.finfo(dtype).eps * 13)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_stopping_early_loses_nothing_where_bounds_are_met_exactly(dtype):
    """Items along the query reach the bound |x| |y|, up to rounding: the worst case of the early stop."""
    rng = np.random.default_rng(6)
    Q = rng.normal(size=(400, 24)).astype(dtype)
    Y = np.repeat(Q[:40], 30, axis=0) * np.repeat(rng.uniform(0.999999, 1.000001, (1200, 1)), 1, axis=1).astype(dtype)
    index = cpu_kernels.prepare(Y, queries=400)
    without_bounds = index._replace(norms=np.full_like(index.norms, np.inf))
    for k in (1, 5, 40):
        ids, scores = cpu_kernels.topk(Q, index, k)
        expected_ids, expected_scores = cpu_kernels.topk(Q, without_bounds, k)
        assert np.array_equal(ids, expected_ids)
        assert np.array_equal(scores, expected_scores)


def test_stopping_early_looks_at_a_small_part_of_items_of_falling_norm(dtype):
    Q, Y = sides(400, 6400, 8, dtype)
    Y *= np.geomspace(1, 1e-4, 6400, dtype=dtype)[:, None]
    work = np.zeros(2, dtype=np.int64)
    index = cpu_kernels.prepare(Y, queries=400)
    cpu_kernels.topk(Q, index, 10, work=work)
    looked_at, scored = work / (len(Q) * len(Y))
    assert 0.01 < scored < looked_at < 0.5


@pytest.mark.parametrize("queries", [1, 9])
@pytest.mark.parametrize("queries_to_come", [0, 10_000], ids=["plain", "packed"])
def test_work_counts_pairs_of_queries_and_candidates(dtype, queries, queries_to_come):
    Q, Y = sides(queries, 75, 8, dtype)
    work = np.array([1000, 2000])
    for threads in (1, 3):  # all candidates are among the best, so that none can be ruled out
        cpu_kernels.topk(Q, cpu_kernels.prepare(Y, queries=queries_to_come), 75, num_threads=threads, work=work)
    assert work.tolist() == [1000 + 2 * 75 * queries, 2000 + 2 * 75 * queries]


def test_a_query_alone_scores_a_small_part_of_what_it_looks_at(dtype):
    Q, Y = sides(1, 5000, 32, dtype)
    work = np.zeros(2, dtype=np.int64)
    cpu_kernels.topk(Q, cpu_kernels.prepare(Y), 10, num_threads=1, work=work)
    assert work[0] == 5000
    assert 10 <= work[1] < 500


def assert_alone_as_in_a_batch(Q: np.ndarray, Y: np.ndarray, k: int, cosine: bool, exclude: Counts | None = None):
    """Bit for bit: a single query estimates first, a batch does not."""
    ids, scores = cpu_kernels.topk(Q, cpu_kernels.prepare(Y, cosine=cosine, queries=10_000), k, exclude=exclude)
    index = cpu_kernels.prepare(Y, cosine=cosine)
    for q in range(len(Q)):
        of_q = None if exclude is None else exclude._replace(indptr=exclude.indptr[q : q + 2])
        alone = cpu_kernels.topk(Q[q : q + 1], index, k, exclude=of_q, num_threads=1)
        assert np.array_equal(alone[0][0], ids[q])
        assert np.array_equal(alone[1][0], scores[q])


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("factors", [3, 4, 7, 8, 9, 16, 21, 64, 67])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_a_query_alone_finds_what_it_finds_in_a_batch(dtype, cosine, factors, k):
    Q, Y = sides(20, 1001, factors, dtype)
    Q[0] = 0
    Y[::7] *= 1000
    assert_alone_as_in_a_batch(Q, Y, k, cosine)
    assert_alone_as_in_a_batch(Q, Y, k, cosine, random_counts(20, 1001, seed=4))


@pytest.mark.parametrize("cosine", [False, True])
def test_items_that_differ_by_rounding_are_told_apart_by_a_query_alone(dtype, cosine):
    """Large terms cancel in every score, so that two orders of summation rank the items differently."""
    rng = np.random.default_rng(8)
    Q = np.ones((10, 64), dtype=dtype)
    Y = np.tile(rng.normal(size=64), (2000, 1))
    Y = (Y - Y.mean() + rng.normal(size=Y.shape) * 4 * np.finfo(dtype).eps).astype(dtype)
    for sign in (1, -1):
        assert_alone_as_in_a_batch(Q * dtype(sign), Y, 5, cosine)
    Y += dtype(0.01)  # scores well above, and below, zero
    for sign in (1, -1):
        assert_alone_as_in_a_batch(Q * dtype(sign), Y, 5, cosine)


@pytest.mark.parametrize("cosine", [False, True])
def test_overflow_and_underflow_hide_nothing_from_a_query_alone(dtype, cosine):
    rng = np.random.default_rng(9)
    largest, smallest = float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)
    Q = np.abs(rng.normal(size=(1, 32)))
    first = -np.abs(rng.normal(size=(64, 32)))  # what comes later is better than the first panels
    later = rng.normal(size=(64, 32))
    for query in (1, smallest, smallest**0.5, largest**0.5 / 100):
        for scale in (smallest, smallest**0.5, smallest**0.75, largest**0.5, largest / 100, 1):
            Y = np.concatenate([first, later * scale, -first[:3] * scale]).astype(dtype)
            assert_alone_as_in_a_batch((Q * query).astype(dtype), Y, 5, cosine)
    Y = np.zeros((96, 32), dtype=dtype)
    Y[:64] = 1
    Y[70, [0, 1, 16, 17]] = np.array([largest, largest, -largest, -largest]) * 0.9  # in one order of four an infinity
    Y[71, [0, 1, 16, 17]] = np.array([-largest, largest, -largest, largest]) * 0.9
    Y[72, [0, 16, 1, 17]] = np.array([-largest, -largest, largest, largest]) * 0.9
    assert_alone_as_in_a_batch(np.ones((1, 32), dtype), Y, 3, cosine)


@pytest.mark.parametrize("cosine", [False, True])
def test_a_query_alone_ranks_what_is_no_number_last(dtype, cosine):
    Y = np.tile(np.linspace(1, 2, 200)[:, None], (1, 33)).astype(dtype)
    Y[::9, 3], Y[4::9, 30], Y[7::50, 32] = np.nan, -np.inf, np.inf
    assert_alone_as_in_a_batch(np.ones((1, 33), dtype), Y, 200, cosine)
    assert_alone_as_in_a_batch(np.ones((1, 33), dtype), Y, 20, cosine)


@pytest.mark.parametrize("queries_to_come", [0, 10_000], ids=["plain", "packed"])
def test_scores_that_are_no_number_rank_last(kernels, dtype, queries_to_come):
    Y = np.ones((70, 3), dtype=dtype)
    Y[5], Y[6], Y[7] = np.nan, -np.inf, np.inf
    ids, scores = kernels.topk(np.ones((2, 3), dtype), kernels.prepare(Y, queries=queries_to_come), 70)
    assert (ids[:, 0] == 7).all()
    assert (scores[:, 0] == np.inf).all()
    assert np.array_equal(ids[0, -2:], [5, 6])
    assert (scores[:, -2:] == np.finfo(dtype).min).all()
    assert np.array_equal(ids[0, 1:-2], np.setdiff1d(np.arange(70), [5, 6, 7]))


def test_tiny_norms_do_not_stop_early():
    """Squares of these norms underflow in float64."""
    Q = np.full((300, 2), 1e-160)
    Y = np.zeros((64, 2))
    Y[:, 0] = np.arange(64) * 1e-162
    Y[0] = 1e-100
    ids, _ = cpu_kernels.topk(Q, cpu_kernels.prepare(Y, queries=300), 64)
    assert np.array_equal(np.sort(ids[0]), np.arange(64))
    assert ids[0, 0] == 0


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("queries_to_come", [0, 10_000], ids=["plain", "packed"])
def test_scores_that_are_no_numbers_tie_with_excluded_ones(kernels, dtype, queries_to_come, bad):
    Q, Y = np.ones((20, 2), dtype), np.ones((200, 2), dtype)
    Y[:72] = bad  # the others fill panels of candidates
    index = kernels.prepare(Y, queries=queries_to_come)
    ids, scores = kernels.topk(Q, index, 5, drop=np.arange(72, 200, dtype=np.int32))
    assert (ids == np.arange(5)).all()
    assert (scores == np.finfo(dtype).min).all()


def test_no_queries_and_no_candidates_give_empty_or_padded_results(kernels, dtype):
    Y = np.ones((4, 2), dtype)
    ids, scores = kernels.topk(np.empty((0, 2), dtype), kernels.prepare(Y), 3)
    assert ids.shape == scores.shape == (0, 3)
    ids, scores = kernels.topk(np.ones((2, 2), dtype), kernels.prepare(Y[:0]), 3)
    assert (ids == -1).all()
    assert (scores == np.finfo(dtype).min).all()
    assert kernels.topk(np.ones((2, 2), dtype), kernels.prepare(Y), 0)[0].shape == (2, 0)


# instruction sets


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same_results_within_rounding(isa, run_python):
    script = """
import numpy as np, sys
from implicit_core import _arrays
from implicit_core._typing import Policy
from implicit_core.cpu import kernels
from test_kernels import random_counts, sides
counts = random_counts(50, 40, 7, "positive")
for dtype, tolerance in ((np.float32, 3e-4), (np.float64, 1e-10)):
    for factors in (3, 32, 50):
        for cg_steps in (None, 3):
            X, Y = sides(50, 40, factors, dtype)
            expected, diag = X.copy(), np.full(50, 9, dtype)
            arguments = (kernels.gram(Y), diag, Policy(), cg_steps, slice(None))
            kernels.least_squares(counts, X, Y, *arguments)
            _arrays.least_squares(counts, expected, Y, *arguments)
            np.testing.assert_allclose(X, expected, rtol=tolerance, atol=tolerance)
            Q, Y = sides(300, 90, factors, dtype)
            for n in (0, 300):
                ids, scores = kernels.topk(Q, kernels.prepare(Y, queries=n), 10)
                expected = _arrays.topk(Q, _arrays.prepare(Y), 10)
                np.testing.assert_allclose(scores, expected[1], rtol=tolerance, atol=tolerance)
                plain = kernels.topk(Q[:1], kernels.prepare(Y), 10)
                assert np.array_equal(plain[0][0], ids[0]) and np.array_equal(plain[1][0], scores[0])
print("same")
"""
    result = run_python("-c", script, IMPLICIT_CORE_ISA=isa)
    assert result.stdout == "same\n", result.stderr


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_other_instruction_sets_take_the_steps_of_the_definition(isa, run_python):
    least_squares = "textbook_steps or exact_solution or squared_error"
    for names, selection in (
        (["test_bpr.py", "test_lmf.py"], "of_the_definition"),
        (["test_kernels.py"], f"cpu and ({least_squares}) or bits_of"),
    ):
        tests = [str(Path(__file__).with_name(name)) for name in names]
        options = ["-q", "-p", "no:cacheprovider", "-k", selection]
        result = run_python("-m", "pytest", *options, *tests, IMPLICIT_CORE_ISA=isa)
        assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("isa", ["AVX2", "sse"])
def test_an_instruction_set_that_is_none_is_an_error(isa, run_python):
    result = run_python("-c", "import implicit_core.als", IMPLICIT_CORE_ISA=isa)
    assert f"IMPLICIT_CORE_ISA must be baseline, avx2, avx512 or avx512vnni, got {isa!r}" in result.stderr


# threads


def test_rows_are_split_into_runs_of_equal_work_that_cover_them_all():
    indptr = np.concatenate([[0], np.cumsum(np.r_[1000, np.ones(999, int)])]).astype(np.int64)
    boundaries = split_rows(indptr, slice(None), 1.0, 4)
    assert boundaries[0] == 0
    assert boundaries[-1] == 1000
    assert (np.diff(boundaries) > 0).all()
    work = np.diff(indptr[boundaries]) + np.diff(boundaries)
    assert work[0] >= 1001
    assert work[1:].max() <= 1000
    assert np.array_equal(split_rows(indptr, slice(10, 20), 1.0, 1), [10, 20])


def test_thread_numbers_mean_what_joblib_means(monkeypatch):
    monkeypatch.setattr(_kernels, "_forked_from_threads", False)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setattr(_kernels, "_container_quota", lambda: 1 << 30)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert [effective_threads(n) for n in (0, -1, -2, -6, -99, 1, 5)] == [6, 6, 5, 1, 1, 1, 5]


def test_threads_are_limited_by_affinity_and_container_quota(monkeypatch):
    monkeypatch.setattr(_kernels, "_forked_from_threads", False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    monkeypatch.setattr(_kernels, "_container_quota", lambda: 1 << 30)
    assert effective_threads(0) == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert effective_threads(0) == 7
    monkeypatch.setattr(_kernels, "_container_quota", lambda: 3)
    assert effective_threads(0) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_of_a_process_that_used_threads_computes_on_one():
    Y = np.random.default_rng(0).normal(size=(5000, 16))
    expected = cpu_kernels.gram(Y, num_threads=2)
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        gram, threads = pool.apply_async(_in_child, (Y,)).get(timeout=60)
    assert np.array_equal(gram, expected)
    assert threads == 1


def _in_child(Y: np.ndarray) -> tuple[np.ndarray, int]:
    return cpu_kernels.gram(Y, num_threads=2), effective_threads(4)


def test_sparse_input_of_the_public_api_reaches_the_kernels_unchanged():
    """`to_counts` shares memory where types allow, and keeps every entry where they do not."""
    from implicit_core._matrices import to_counts

    matrix = sparse.random(20, 30, 0.3, format="csr", random_state=0, dtype=np.float32)
    counts = to_counts(matrix)
    assert np.shares_memory(counts.values, matrix.data)
    assert np.shares_memory(counts.indices, matrix.indices)
    wide = matrix.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert all(np.array_equal(a, b) for a, b in zip(to_counts(wide)[:3], counts[:3], strict=True))
