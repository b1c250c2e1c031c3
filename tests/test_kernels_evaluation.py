"""Every device's kernels of the evaluation against their definitions."""

from types import ModuleType

import numpy as np
import pytest

from implicit_core import _arrays
from implicit_core._typing import Counts
from implicit_core.cpu import kernels as cpu_kernels


@pytest.fixture(params=[cpu_kernels, _arrays], ids=["cpu", "arrays"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def relevant_items(rows: list[list[int]], items: int) -> Counts:
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    indices = np.array([item for row in rows for item in row], dtype=np.int32)
    return Counts(indptr, indices, np.ones(len(indices), np.float32), (len(rows), items))


def random_case(users: int, items: int, k: int, seed: int = 0) -> tuple[np.ndarray, list[list[int]]]:
    """Rows of 0 to all items, and lists with repetitions and with ids that are no items."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, items + 1, users)
    lengths[: min(users, 3)] = [0, items, 1][: min(users, 3)]
    rows = [sorted(rng.permutation(items)[:n].tolist()) for n in lengths]
    return rng.integers(-1, items + 2, (users, k)).astype(np.int32), rows


def prefix_hits(ranked: np.ndarray, rows: list[list[int]]) -> list[list[int]]:
    """The definition: the size of what a prefix and the relevant items have in common."""
    return [
        [len(set(row[: k + 1].tolist()) & set(relevant)) for k in range(len(row))]
        for row, relevant in zip(ranked, rows, strict=True)
    ]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("users", "items", "k"), [(1, 1, 1), (3, 2, 5), (200, 17, 10), (50, 300, 40), (70, 4, 1)])
def test_ranking_counts_are_the_relevant_items_in_each_prefix(kernels, dtype, users, items, k):
    ranked, rows = random_case(users, items, k)
    counts = kernels.ranking_counts(ranked.astype(dtype), relevant_items(rows, items))
    assert counts.dtype == np.int32
    assert counts.tolist() == prefix_hits(ranked, rows)


@pytest.mark.parametrize("size", range(1, 10))
def test_each_relevant_item_is_found_wherever_it_lies_in_its_row(kernels, size):
    """For rows of every length, so that every way through the search is taken; others are not found."""
    row = list(range(1, 2 * size, 2))
    ranked = np.arange(2 * size + 1, dtype=np.int32)[:, None]
    counts = kernels.ranking_counts(ranked, relevant_items([row] * len(ranked), 2 * size + 1))
    assert counts[:, 0].tolist() == [item % 2 for item in range(2 * size + 1)]


def test_a_repeated_item_counts_once_in_a_row_and_again_in_the_next(kernels):
    ranked = np.array([[5, 5, 2, 5], [2, 5, 5, 2]], dtype=np.int32)
    counts = kernels.ranking_counts(ranked, relevant_items([[2, 5], [2, 5]], 6), 1)
    assert counts.tolist() == [[1, 1, 2, 2], [1, 2, 2, 2]]


def test_ids_that_do_not_fit_32_bits_are_not_confused_with_others(kernels):
    ranked = np.array([[2**32 + 1, -(2**32) + 1, 1]], dtype=np.int64)
    assert kernels.ranking_counts(ranked, relevant_items([[1]], 3)).tolist() == [[0, 0, 1]]


def test_rows_may_be_a_slice_of_the_relevant_items(kernels):
    ranked, rows = random_case(30, 12, 6)
    relevant = relevant_items(rows, 12)
    part = relevant._replace(indptr=relevant.indptr[10:21])
    assert kernels.ranking_counts(ranked[10:20], part).tolist() == prefix_hits(ranked[10:20], rows[10:20])


def test_ranking_counts_are_the_same_for_any_threads_and_memory_order():
    ranked, rows = random_case(20_000, 30, 12)
    relevant = relevant_items(rows, 30)
    expected = cpu_kernels.ranking_counts(ranked, relevant, 1)
    for threads in (0, 2, 3, 8):
        assert np.array_equal(cpu_kernels.ranking_counts(ranked, relevant, threads), expected)
    assert np.array_equal(cpu_kernels.ranking_counts(np.asfortranarray(ranked), relevant), expected)


def test_ranking_counts_leave_their_inputs_alone(kernels):
    ranked, rows = random_case(20, 9, 5)
    relevant = relevant_items(rows, 9)
    before = [a.copy() for a in (ranked, *relevant[:3])]
    kernels.ranking_counts(ranked, relevant)
    assert all(np.array_equal(a, b) for a, b in zip((ranked, *relevant[:3]), before, strict=True))


@pytest.mark.parametrize(("users", "k"), [(0, 3), (3, 0), (3, 2)])
def test_nothing_ranked_or_relevant_gives_no_hits(kernels, users, k):
    counts = kernels.ranking_counts(np.zeros((users, k), np.int32), relevant_items([[]] * users, 4))
    assert counts.shape == (users, k)
    assert not counts.any()


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.uint16, np.float32, np.int64, np.float64, np.complex64, np.longdouble]
)
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_split_entries_are_those_chosen_and_the_others_in_order(kernels, dtype, index):
    _, rows = random_case(40, 25, 1)
    relevant = relevant_items(rows, 25)
    rng = np.random.default_rng(1)
    stored = len(relevant.indices)
    values = rng.integers(0, 100, stored).astype(dtype)
    for chosen in (rng.random(stored) < 0.6, np.ones(stored, bool), np.zeros(stored, bool)):
        parts = kernels.split_entries(relevant.indptr, relevant.indices.astype(index), values, chosen)
        for (indptr, indices, data), own in zip(parts, (chosen, ~chosen), strict=True):
            assert indices.dtype == index
            assert data.dtype == dtype
            assert np.array_equal(indices, relevant.indices[own])
            assert np.array_equal(data, values[own])
            lengths = [np.count_nonzero(own[a:b]) for a, b in zip(relevant.indptr, relevant.indptr[1:], strict=False)]
            assert indptr.tolist() == [0, *np.cumsum(lengths)]


def test_split_entries_of_an_empty_matrix(kernels):
    for rows in (0, 3):
        empty = np.empty(0, np.int32), np.empty(0), np.empty(0, bool)
        for indptr, indices, values in kernels.split_entries(np.zeros(rows + 1, np.int32), *empty):
            assert indptr.tolist() == [0] * (rows + 1)
            assert len(indices) == len(values) == 0
