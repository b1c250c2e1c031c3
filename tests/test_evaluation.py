"""Splits and ranking metrics against their definitions as plain loops."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from implicit_core import evaluation
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu.als import AlternatingLeastSquares as CPUAlternatingLeastSquares
from implicit_core.evaluation import (
    AUC_at_k,
    leave_k_out_split,
    mean_average_precision_at_k,
    ndcg_at_k,
    precision_at_k,
    ranking_metrics_at_k,
    train_test_split,
)

FORMATS = ["csr_matrix", "csr_array", "csc_matrix", "coo_matrix", "coo_array", "lil_matrix", "dok_matrix", "bsr_array"]
ZEROS = {"precision": 0.0, "map": 0.0, "ndcg": 0.0, "auc": 0.0}


class Lists:
    """A model that knows its answers."""

    def __init__(self, ranked: Any) -> None:
        self.ranked = ranked
        self.calls: list[tuple[Any, Any, int]] = []

    def recommend(self, userids: Any, user_items: Any, N: int) -> tuple[Any, Any]:
        self.calls.append((userids, user_items, N))
        return self.ranked[userids], None


class Wrapped:
    """A model that is no model of this package."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.sizes: list[int] = []

    def recommend(self, userids: Any, user_items: Any, N: int) -> tuple[Any, Any]:
        self.sizes.append(len(userids))
        return self.model.recommend(userids, user_items, N=N)


def matrix_of(rows: Sequence[Sequence[int]], items: int, dtype: type = np.int32) -> sparse.csr_matrix:
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.array([item for row in rows for item in row])
    matrix = sparse.csr_matrix((np.ones(len(indices)), indices, indptr), shape=(len(rows), items))
    matrix.indices, matrix.indptr = matrix.indices.astype(dtype), matrix.indptr.astype(dtype)
    return matrix


def definition(ranked: Sequence[Sequence[int]], tests: Sequence[set[int]], items: int, K: int) -> dict[str, float]:
    """The formulas of the module, a term at a time."""
    hits_of_all = possible_of_all = 0
    precisions, gains, areas = [], [], []
    for row, test in zip(ranked, tests, strict=True):
        if not test:
            continue
        hits, misses, ap, gain, area, before = 0, 0, 0.0, 0.0, 0.0, set()
        negatives = items - len(test)
        for rank, item in enumerate(row[:K], start=1):
            if item in test and item not in before:
                hits += 1
                ap += hits / rank
                gain += 1 / math.log2(rank + 1)
            elif misses < negatives:
                misses += 1
                area += hits
            before.add(item)
        possible = min(K, len(test))
        hits_of_all += hits
        possible_of_all += possible
        precisions.append(ap / possible)
        gains.append(gain / sum(1 / math.log2(rank + 1) for rank in range(1, possible + 1)))
        if negatives:
            areas.append((area + (hits + len(test)) / 2 * (negatives - misses)) / (len(test) * negatives))
    return {
        "precision": hits_of_all / possible_of_all if possible_of_all else 0.0,
        "map": sum(precisions) / len(precisions) if precisions else 0.0,
        "ndcg": sum(gains) / len(gains) if gains else 0.0,
        "auc": sum(areas) / len(areas) if areas else 0.0,
    }


def metrics(model: Any, test: Any, K: int = 10, train: Any = None, **options: Any) -> dict[str, float]:
    train = sparse.csr_matrix(test.shape) if train is None else train
    return ranking_metrics_at_k(model, train, test, K=K, show_progress=False, **options)


def random_case(seed: int = 0, users: int = 40, items: int = 15, width: int = 8) -> tuple[np.ndarray, list[list[int]]]:
    rng = np.random.default_rng(seed)
    ranked = np.stack([rng.permutation(items)[:width] for _ in range(users)]).astype(np.int32)
    return ranked, [sorted(rng.permutation(items)[: rng.integers(0, items)].tolist()) for _ in range(users)]


def fitted(users: int = 60, items: int = 30, **options: Any) -> tuple[AlternatingLeastSquares, Any, Any]:
    matrix = sparse.random(users, items, 0.3, format="csr", random_state=1)
    train, test = train_test_split(matrix, random_state=2)
    model = AlternatingLeastSquares(factors=6, iterations=2, random_state=3, **options)
    model.fit(train, show_progress=False)
    return model, train, test


# metrics


@settings(deadline=None)
@given(st.data())
def test_metrics_are_their_definitions(data):
    items = data.draw(st.integers(1, 8))
    K = data.draw(st.integers(1, 10))
    width = data.draw(st.integers(0, 12))
    users = data.draw(st.integers(1, 5))
    ids = st.integers(-1, items)
    ranked = data.draw(st.lists(st.lists(ids, min_size=width, max_size=width), min_size=users, max_size=users))
    tests = data.draw(st.lists(st.sets(st.integers(0, items - 1)), min_size=users, max_size=users))
    found = metrics(Lists(np.array(ranked, np.int32).reshape(users, width)), matrix_of([*map(sorted, tests)], items), K)
    assert found == pytest.approx(definition(ranked, tests, items, K), rel=1e-12, abs=1e-15)
    assert all(type(value) is float and 0 <= value <= 1 for value in found.values())


def test_metrics_of_a_list_computed_by_hand():
    """Two test items among five; the second and the third place are hits."""
    found = metrics(Lists(np.array([[4, 0, 1]])), matrix_of([[0, 1]], 5), K=3)
    gain = (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3))
    assert found == pytest.approx({"precision": 1, "map": (1 / 2 + 2 / 3) / 2, "ndcg": gain, "auc": 4 / 6})


def test_the_best_list_scores_one_and_the_worst_zero():
    test = matrix_of([[0, 1], [2]], 4)
    assert metrics(Lists(np.array([[1, 0, 3, 2], [2, 0, 1, 3]])), test, K=4) == dict.fromkeys(ZEROS, 1.0)
    worst = metrics(Lists(np.array([[2, 3], [0, 1]])), test, K=2)
    assert worst == {**ZEROS, "auc": pytest.approx((0 + 1 / 6) / 2)}


@pytest.mark.parametrize(
    ("metric", "key"),
    [(precision_at_k, "precision"), (mean_average_precision_at_k, "map"), (ndcg_at_k, "ndcg"), (AUC_at_k, "auc")],
)
def test_each_metric_is_its_value_among_all(metric, key):
    ranked, rows = random_case()
    test = matrix_of(rows, 15)
    train = sparse.csr_matrix(test.shape)
    everything = metrics(Lists(ranked), test, K=3)
    assert len(set(everything.values())) == 4
    assert metric(Lists(ranked), train, test, 3, False, 2) == everything[key]
    assert metric(Lists(ranked), train, test, show_progress=False) == metrics(Lists(ranked), test, K=10)[key]


@pytest.mark.parametrize("padding", [[-1, -1, -1], [0, 0, 0], [2, 1, 0], [99, -7, 2**31 - 1]])
def test_places_beyond_the_items_change_nothing(padding):
    rng = np.random.default_rng(0)
    complete = np.stack([rng.permutation(3) for _ in range(20)])
    test = matrix_of([sorted(rng.permutation(3)[:n]) for n in rng.integers(0, 4, 20)], 3)
    longer = np.hstack([complete, np.tile(padding, (20, 1))])
    assert metrics(Lists(longer), test, K=6) == metrics(Lists(complete), test, K=6)


def test_k_above_the_item_count_scores_the_full_ranking():
    model, train, test = fitted()
    full = metrics(model, test, 30, train)
    assert full["precision"] == 1.0
    longer = metrics(model, test, 45, train)
    assert longer == full


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_the_form_of_the_matrices_does_not_matter(form, index):
    model, train, test = fitted()
    expected = metrics(model, test, 5, train)
    assert expected["precision"] > 0
    convert = getattr(sparse, form)
    converted = [convert(matrix) for matrix in (train, test)]
    for matrix in converted:
        if hasattr(matrix, "indptr"):
            matrix.indices, matrix.indptr = matrix.indices.astype(index), matrix.indptr.astype(index)
    assert metrics(model, converted[1], 5, converted[0]) == expected


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.int16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_form_of_the_returned_ids_does_not_matter(dtype, order):
    ranked, rows = random_case()
    test = matrix_of(rows, 15)
    expected = definition(ranked.tolist(), [set(row) for row in rows], 15, 10)
    assert metrics(Lists(ranked.astype(dtype, order=order)), test) == pytest.approx(expected, rel=1e-12)


def test_returned_ids_may_be_lists():
    class Model:
        def recommend(self, users: Any, rows: Any, N: int) -> tuple[list[list[int]], None]:
            return [[0, 1]] * len(users), None

    assert metrics(Model(), matrix_of([[1], []], 3), K=2)["map"] == 0.5


def test_ids_beyond_32_bits_are_misses():
    test = matrix_of([[0, 1]], 4)
    assert metrics(Lists(np.array([[2**32, 2**32 + 1]])), test, K=2)["precision"] == 0


def test_unsorted_and_repeated_entries_are_one_test_item_each():
    ranked, rows = random_case()
    expected = metrics(Lists(ranked), matrix_of(rows, 15))
    messy = matrix_of([row[::-1] + row[:2] for row in rows], 15)
    before = messy.indices.copy()
    assert metrics(Lists(ranked), messy) == expected
    assert np.array_equal(messy.indices, before)


def test_stored_zeros_and_negative_values_are_test_items():
    ranked, rows = random_case()
    test = matrix_of(rows, 15)
    expected = metrics(Lists(ranked), test)
    test.data[::2], test.data[1::3] = 0, -1
    assert metrics(Lists(ranked), test) == expected


def test_without_a_user_to_evaluate_all_metrics_are_zero_and_the_model_is_not_asked():
    for shape in [(3, 4), (0, 4), (3, 0), (0, 0)]:
        model = Lists(np.zeros((3, 2), np.int32))
        assert metrics(model, sparse.csr_matrix(shape)) == ZEROS
        assert not model.calls


def test_a_user_with_every_item_in_the_test_does_not_count_for_the_auc():
    ranked = np.array([[0, 1], [2, 0]])
    assert metrics(Lists(ranked[:1]), matrix_of([[0, 1, 2]], 3), K=2) == {**dict.fromkeys(ZEROS, 1.0), "auc": 0.0}
    both = metrics(Lists(ranked), matrix_of([[0, 1, 2], [2]], 3), K=2)
    assert both == dict.fromkeys(ZEROS, 1.0)


def test_only_the_first_k_returned_ids_count():
    ranked, rows = random_case()
    test = matrix_of(rows, 15)
    assert metrics(Lists(ranked), test, K=3) == metrics(Lists(ranked[:, :3]), test, K=3)
    assert metrics(Lists(ranked), test, K=3) != metrics(Lists(ranked), test, K=4)


def test_a_model_gets_an_array_of_the_users_with_test_items_and_their_training_rows():
    model = Lists(np.zeros((5, 2), np.int64))
    train = sparse.random(5, 4, 0.5, format="csr", random_state=0)
    metrics(model, matrix_of([[], [1], [], [0, 2], [3]], 4), 2, sparse.csr_array(train))
    ((users, rows, N),) = model.calls
    assert isinstance(users, np.ndarray)
    assert users.dtype == np.int32
    assert users.tolist() == [1, 3, 4]
    assert isinstance(rows, sparse.csr_matrix)
    assert np.array_equal(rows.toarray(), train.toarray()[[1, 3, 4]])
    assert N == 2


def test_values_have_the_same_bits_for_any_batches_and_threads():
    model, train, test = fitted(users=2500, items=40)
    evaluated = np.count_nonzero(np.diff(test.indptr))
    expected = metrics(model, test, 4, train)
    foreign = Wrapped(model)
    for threads in (0, 1, 2, 3, 8, -1):
        assert metrics(model, test, 4, train, num_threads=threads) == expected
        assert metrics(foreign, test, 4, train, num_threads=threads) == expected
    assert foreign.sizes[:3] == [1000, 1000, evaluated - 2000]


def test_a_model_of_this_package_is_asked_for_many_users_at_once():
    sizes = []

    class Model(CPUAlternatingLeastSquares):
        def recommend(self, userid: Any, *arguments: Any, **options: Any) -> Any:
            sizes.append(len(userid))
            return super().recommend(userid, *arguments, **options)

    model, users = Model(), 20_000
    model.user_factors, model.item_factors = np.ones((users, 1), np.float32), np.ones((2, 1), np.float32)
    metrics(model, matrix_of([[0]] * users, 2), K=1)
    assert sizes == [2**14, users - 2**14]


def test_long_lists_come_in_small_batches():
    class Model:
        sizes: list[int] = []  # noqa: RUF012

        def recommend(self, users: Any, rows: Any, N: int) -> tuple[np.ndarray, None]:
            self.sizes.append(len(users))
            return np.zeros((len(users), 1), np.int32), None

    assert metrics(Model(), matrix_of([[0]] * 5, 2), K=2**19)["map"] == 1
    assert Model.sizes == [2, 2, 1]
    assert metrics(Model(), matrix_of([[0]] * 2, 2), K=2**21)["map"] == 1
    assert Model.sizes == [2, 2, 1, 1, 1]


def test_training_items_are_filtered():
    users = np.arange(50)
    board = ((users[:, None] + users) % 2 == 0) & ~np.eye(50, dtype=bool)
    train, test = sparse.csr_matrix(board.astype(np.float32)), sparse.eye(50, format="csr")
    model = AlternatingLeastSquares(factors=8, regularization=0, random_state=0)
    model.fit(train, show_progress=False)
    assert precision_at_k(model, train, test, K=1, show_progress=False) == 1


def test_the_training_matrix_may_have_more_rows_and_other_columns():
    ranked, rows = random_case()
    test = matrix_of(rows, 15)
    expected = metrics(Lists(ranked), test)
    assert metrics(Lists(ranked), test, train=sparse.csr_matrix((45, 20))) == expected


def test_the_progress_bar_counts_users(capsys):
    ranked, rows = random_case()
    test = matrix_of(rows, 15)
    users = sum(bool(row) for row in rows)
    ranking_metrics_at_k(Lists(ranked), sparse.csr_matrix(test.shape), test)
    assert f"{users}/{users}" in capsys.readouterr().err
    metrics(Lists(ranked), test)
    assert capsys.readouterr().err == ""


def test_wrong_arguments_of_metrics_are_errors_that_name_them():
    ranked, rows = random_case(users=4)
    test = matrix_of([*rows[:3], [1]], 15)
    for K, error in [(0, ValueError), (-1, ValueError), (1.5, TypeError), (None, TypeError)]:
        with pytest.raises(error, match="K must"):
            metrics(Lists(ranked), test, K=K)
    with pytest.raises(ValueError, match=r"train_user_items must have a row for each user.*\(4\), got 3"):
        metrics(Lists(ranked), test, train=sparse.csr_matrix((3, 15)))
    with pytest.raises(TypeError, match=r"test_user_items must be a scipy\.sparse matrix, got ndarray"):
        ranking_metrics_at_k(Lists(ranked), test, test.toarray())
    with pytest.raises(TypeError, match=r"train_user_items must be a scipy\.sparse matrix, got ndarray"):
        ranking_metrics_at_k(Lists(ranked), test.toarray(), test)
    broken = test.copy()
    broken.indices[0] = 15
    with pytest.raises(ValueError, match="test_user_items must have column indices from 0 to 14, got 15"):
        metrics(Lists(ranked), broken)
    with pytest.raises(ValueError, match="at most 2147483647 columns, got 2147483648"):
        metrics(Lists(ranked), sparse.csr_matrix((np.ones(1), [2**31 - 1], [0, 1]), shape=(1, 2**31)))
    with pytest.raises(TypeError, match="num_threads"):
        metrics(Lists(ranked), test, num_threads=1.5)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(np.zeros(4, int), ValueError), (np.zeros((3, 2), int), ValueError), (np.ones((4, 2)), TypeError)],
)
def test_a_wrong_answer_of_the_model_is_an_error_that_says_so(answer, error):
    class Model:
        def recommend(self, users: Any, rows: Any, N: int) -> tuple[np.ndarray, None]:
            return answer, None

    with pytest.raises(error, match="recommend must return"):
        metrics(Model(), matrix_of([[1]] * 4, 2))


# train_test_split


def mixed(seed: int = 0, dtype: type = np.float64) -> sparse.csr_matrix:
    """Positive, negative and zero entries."""
    matrix = sparse.random(30, 20, 0.4, format="csr", random_state=seed)
    matrix.data = np.random.default_rng(seed).integers(-3, 4, matrix.nnz).astype(dtype)
    return matrix


def same(a: sparse.csr_matrix, b: sparse.csr_matrix) -> bool:
    arrays = ((getattr(m, name) for name in ("indptr", "indices", "data")) for m in (a, b))
    return a.shape == b.shape and a.dtype == b.dtype and all(map(np.array_equal, *arrays))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_n_th_entry_is_in_training_where_the_n_th_draw_is_below_the_share(share):
    matrix = sparse.random(300, 400, 0.6, format="csr", random_state=0)  # more entries than draws at a time
    chosen = np.random.default_rng(7).random(matrix.nnz) < share
    entries = matrix.tocoo()
    for part, own in zip(train_test_split(matrix, share, 7), (chosen, ~chosen), strict=True):
        expected = sparse.csr_matrix((entries.data[own], (entries.row[own], entries.col[own])), shape=matrix.shape)
        assert same(part, expected)
        assert part.has_canonical_format


def test_test_keeps_positive_entries_and_train_all_of_its_own():
    matrix = mixed()
    train, test = train_test_split(matrix, 0.5, 0)
    assert set(train.data) == set(range(-3, 4))
    assert set(test.data) == {1, 2, 3}
    positive = np.maximum(matrix.toarray(), 0)
    assert np.array_equal(np.maximum(train.toarray(), 0) + test.toarray(), positive)
    dropped = matrix.nnz - train.nnz - test.nnz
    assert dropped == np.count_nonzero(matrix.data <= 0) - np.count_nonzero(train.data <= 0)


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.uint8, np.int16, np.int64, np.uint64, np.float32, np.float64, np.longdouble]
)
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_splits_keep_type_and_shape(dtype, index):
    matrix = mixed().astype(dtype)
    matrix.indices, matrix.indptr = matrix.indices.astype(index), matrix.indptr.astype(index)
    before = matrix.copy()
    reference = train_test_split(mixed().astype(dtype).astype(np.float64), random_state=1)
    for parts in (train_test_split(matrix, random_state=1), leave_k_out_split(matrix, 2, random_state=1)):
        assert all(isinstance(part, sparse.csr_matrix) and part.shape == (30, 20) for part in parts)
        assert all(part.dtype == dtype for part in parts)
    parts = train_test_split(matrix, random_state=1)
    assert all(np.array_equal(part.toarray(), own.toarray()) for part, own in zip(parts, reference, strict=True))
    assert same(matrix, before)


@pytest.mark.parametrize("form", FORMATS)
def test_splits_take_any_sparse_format(form):
    matrix = sparse.random(30, 20, 0.4, format="csr", random_state=0)
    converted = getattr(sparse, form)(matrix)
    for parts in (train_test_split(converted, 0.5, 1), leave_k_out_split(converted, 2, random_state=1)):
        assert all(isinstance(part, sparse.csr_matrix) and part.nnz for part in parts)
        assert np.array_equal(parts[0].toarray() + parts[1].toarray(), matrix.toarray())
    entries = converted.tocoo()
    chosen = np.random.default_rng(1).random(len(entries.data)) < 0.5
    expected = sparse.coo_matrix((entries.data[chosen], (entries.row[chosen], entries.col[chosen])), matrix.shape)
    assert np.array_equal(train_test_split(converted, 0.5, 1)[0].toarray(), expected.toarray())


@pytest.mark.parametrize("form", ["csr_matrix", "coo_matrix"])
def test_entries_of_the_same_cell_are_split_one_by_one_and_added_up_within_a_part(form):
    matrix = sparse.csr_matrix((2.0 ** np.arange(40), np.zeros(40, int), [0, 40, 40]), shape=(2, 1))
    train, test = train_test_split(getattr(sparse, form)(matrix), 0.5, 3)
    assert train.nnz == test.nnz == 1
    assert train[0, 0] + test[0, 0] == 2.0**40 - 1
    chosen = np.random.default_rng(3).random(40) < 0.5
    assert train[0, 0] == (2.0 ** np.arange(40))[chosen].sum()


def test_unsorted_entries_are_drawn_in_the_order_in_which_they_are_stored():
    matrix = sparse.csr_matrix((np.arange(1.0, 41), np.arange(40)[::-1], [0, 40]), shape=(1, 40))
    train, test = train_test_split(matrix, 0.5, 3)
    chosen = np.random.default_rng(3).random(40) < 0.5
    assert sorted(train.data) == sorted(matrix.data[chosen])
    assert train.has_sorted_indices
    assert test.has_sorted_indices
    assert (np.diff(train.indices) > 0).all()


@pytest.mark.parametrize("split", [train_test_split, leave_k_out_split])
def test_a_seed_fixes_the_split_and_a_generator_moves_on(split):
    matrix = sparse.random(50, 40, 0.4, format="csr", random_state=0)
    assert same(split(matrix, random_state=4)[1], split(matrix, random_state=4)[1])
    assert same(split(matrix, random_state=np.random.default_rng(4))[1], split(matrix, random_state=4)[1])
    seeded = [split(matrix, random_state=np.random.RandomState(4))[1] for _ in range(2)]
    assert same(*seeded)
    generator = np.random.default_rng(4)
    others = [split(matrix, random_state=5), split(matrix), (split(matrix, random_state=generator), generator)[0]]
    others.append(split(matrix, random_state=generator))
    assert len({other[1].indices.tobytes() for other in others}) == 4


@pytest.mark.parametrize("split", [train_test_split, leave_k_out_split])
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (3, 4)])
def test_an_empty_matrix_splits_into_two(split, shape):
    for part in split(sparse.csr_matrix(shape), random_state=0):
        assert part.shape == shape
        assert part.nnz == 0


@pytest.mark.parametrize("split", [train_test_split, leave_k_out_split])
def test_a_split_takes_sparse_matrices_only_and_checks_them(split):
    with pytest.raises(TypeError, match=r"ratings must be a scipy\.sparse matrix, got ndarray"):
        split(np.eye(3))
    broken = sparse.eye(30, format="csr")
    broken.indices[0] = 30
    with pytest.raises(ValueError, match="ratings must have column indices"):
        split(broken)
    broken = sparse.eye(30, format="csr")
    broken.indptr[1] = 40
    with pytest.raises(ValueError, match="ratings is not a valid CSR matrix"):
        split(broken)


@pytest.mark.parametrize("share", [-0.1, 1.1, 80, float("nan")])
def test_a_share_of_training_must_be_a_probability(share):
    with pytest.raises(ValueError, match="train_percentage must be a"):
        train_test_split(mixed(), share)


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
def test_stored_arrays_may_be_longer_than_what_indptr_ends_at(dtype):
    matrix = sparse.random(20, 30, 0.5, format="csr", random_state=0).astype(dtype)
    longer = matrix.copy()
    longer.data, longer.indices = np.append(longer.data, dtype(9)), np.append(longer.indices, np.int32(0))
    for split in (train_test_split, leave_k_out_split):
        assert all(map(same, split(longer, random_state=1), split(matrix, random_state=1)))


# leave_k_out_split


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.001, 0.3, 0.5, 0.99]),
    st.integers(0, 2**32),
)
def test_k_entries_of_each_eligible_user_move_to_the_test_and_none_is_lost(lengths, K, train_only, seed):
    rng = np.random.default_rng(seed)
    rows = [sorted(rng.permutation(9)[:n].tolist()) for n in lengths]
    matrix = matrix_of(rows, 9)
    matrix.data = rng.integers(-2, 3, matrix.nnz).astype(float)
    train, test = leave_k_out_split(matrix, K, train_only, seed)
    eligible = [len(row) >= K + 2 for row in rows]
    in_test = np.diff(test.indptr)
    assert set(in_test) <= {0, K}
    assert all(e or not n for e, n in zip(eligible, in_test, strict=True))
    reserved = min(sum(eligible), max(1, int(sum(eligible) * train_only))) if train_only else 0
    assert np.count_nonzero(in_test) == sum(eligible) - reserved
    assert np.array_equal((train + test).toarray(), matrix.toarray())
    assert train.nnz + test.nnz == matrix.nnz
    assert train.has_canonical_format
    assert test.has_canonical_format
    cells = matrix.copy()
    cells.data = np.arange(1.0, matrix.nnz + 1)
    numbered = leave_k_out_split(cells, K, train_only, seed)
    assert sorted([*numbered[0].data, *numbered[1].data]) == cells.data.tolist()


def test_four_fifths_of_the_users_can_stay_in_training():
    matrix = sparse.random(100, 100, 0.5, format="csr", random_state=0)
    train, test = leave_k_out_split(matrix, K=1, train_only_size=0.8, random_state=0)
    assert np.count_nonzero(np.diff(test.indptr) == 0) == 80
    assert (np.diff(train.indptr) > 0).all()


@pytest.mark.parametrize("K", [1, 3, 4])
def test_every_entry_is_as_likely_to_be_left_out(K):
    users, each = 6000, 6
    matrix = matrix_of([range(each)] * users, each)
    _, test = leave_k_out_split(matrix, K, random_state=0)
    share = K / each
    deviations = (test.sum(axis=0) - users * share) / np.sqrt(users * share * (1 - share))
    assert np.abs(deviations).max() < 4
    pairs = (test.T @ test).toarray()[~np.eye(each, dtype=bool)]
    together = share * (K - 1) / (each - 1)
    assert np.abs(pairs - users * together).max() <= 4 * np.sqrt(users * together * (1 - together))


def test_every_user_is_as_likely_to_stay_in_training():
    matrix = matrix_of([range(4)] * 20, 4)
    tested = np.zeros(20)
    for seed in range(600):
        tested += np.diff(leave_k_out_split(matrix, 1, 0.5, seed)[1].indptr) > 0
    assert np.abs(tested - 300).max() < 4.5 * np.sqrt(150)


def test_entries_of_the_same_cell_count_once_and_are_added_up():
    matrix = sparse.csr_matrix((np.ones(8), [3, 1, 1, 0, 2, 2, 0, 0], [0, 5, 8]), shape=(2, 4))
    before = matrix.copy()
    train, test = leave_k_out_split(matrix, 1, random_state=0)
    assert np.diff(test.indptr).tolist() == [1, 0]
    assert np.array_equal((train + test).toarray(), matrix.toarray())
    assert train.nnz == 5
    assert same(matrix, before)


def test_parameters_of_leave_k_out_are_checked_before_the_ratings_are_touched():
    for K, error in [(0, ValueError), (-1, ValueError), (1.5, TypeError)]:
        with pytest.raises(error, match="K must"):
            leave_k_out_split(None, K=K)
    for size in (-1.0, -0.1, 1.0, 1.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="train_only_size must"):
            leave_k_out_split(None, K=1, train_only_size=size)


def test_every_public_name_is_documented():
    for name in evaluation.__all__:
        assert getattr(evaluation, name).__doc__
