"""Logistic matrix factorization: draws, steps and the model."""

import inspect
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import implicit_core.cpu.lmf
import implicit_core.lmf
from implicit_core import _arrays
from implicit_core._matrices import confidences, to_counts
from implicit_core._typing import Negatives
from implicit_core.cpu import kernels
from implicit_core.datasets.debian import get_debian
from implicit_core.evaluation import train_test_split
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.recommender_base import ModelFitError, NotFittedError

KEY = 2**63 + 987654321
RETAIL = Path(__file__).parents[2] / "shared" / "data" / "online-retail" / "orders_csr.npz"


def likes(users=60, items=45, density=0.15, seed=0):
    """Confidences, some negative or zero; user 3 and item 4 have none."""
    matrix = sparse.random(users, items, density, format="lil", random_state=seed, dtype=np.float64) * 4
    matrix[3], matrix[:, 4] = 0, 0
    matrix = matrix.tocsr()
    matrix.eliminate_zeros()
    matrix.data[::7] *= -1
    matrix.data[::11] = 0
    return confidences(matrix, 1.0, "matrix")


def negatives_of(matrix, per_row=50, seed=0):
    random = np.random.default_rng(seed)
    indptr = np.append(0, np.cumsum(random.integers(0, per_row, matrix.shape[0])))
    return Negatives(indptr, random.integers(0, matrix.shape[1], 200).astype(np.int32), KEY)


def random_factors(shape, width, dtype, seed=1):
    random = np.random.default_rng(seed)
    return [random.normal(size=(n, width)).astype(dtype) for n in shape]


# draws


@pytest.mark.parametrize("side", [0, 1])
def test_rows_draw_a_stretch_of_the_pool_that_begins_anywhere_and_is_shared_by_few(side):
    pool = np.arange(100, 164, dtype=np.int32)
    groups, group = 4000, _arrays.LMF_GROUP
    negatives = Negatives(np.arange(groups * group + 1) * 70, pool, KEY)
    drawn = np.array([_arrays.lmf_draws(negatives, u, 2, side) for u in range(0, groups * group, group)])
    assert drawn.shape == (groups, 70)
    assert np.isin(np.diff(drawn, axis=1), [1, -63]).all()
    share = np.bincount(drawn[:, 0] - 100, minlength=64) / groups
    np.testing.assert_allclose(share, 1 / 64, atol=0.007)
    assert np.array_equal(drawn[0], _arrays.lmf_draws(negatives, group - 1, 2, side))
    assert not np.array_equal(drawn[0], _arrays.lmf_draws(negatives, 0, 3, side))
    assert not np.array_equal(drawn[0], _arrays.lmf_draws(negatives, 0, 2, 1 - side))


# steps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factors", [1, 5, 14, 40])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("density", [0.15, 0.9])
def test_a_half_step_is_that_of_the_definition(dtype, factors, side, density):
    matrix = likes(density=density)
    counts, negatives = to_counts(matrix), negatives_of(matrix, per_row=150)
    X, Y = random_factors(matrix.shape, factors + 2, dtype)
    squares = np.abs(random_factors(matrix.shape, factors + 2, dtype, 2)[0])
    before = X.copy()
    expected = X.copy(), squares.copy()
    for epoch, rows in ((0, slice(None)), (1, slice(10, 40))):
        _arrays.lmf_step(counts, *expected, Y, 0.4, 0.3, negatives, epoch, side, rows)
        kernels.lmf_step(counts, X, squares, Y, 0.4, 0.3, negatives, epoch, side, rows)
    tolerance = 1e-4 if dtype is np.float32 else 1e-12
    np.testing.assert_allclose(X, expected[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(squares, expected[1], rtol=tolerance, atol=tolerance)
    constant = factors + side
    assert np.array_equal(X[:, constant], before[:, constant])
    assert np.array_equal(X[3], before[3])
    changed = np.delete(before != X, constant, axis=1)
    assert changed[np.diff(counts.indptr) > 0].all()


@pytest.mark.parametrize("side", [0, 1])
def test_a_step_follows_the_gradient_of_the_documented_objective(side):
    """Where the sum of squares is huge, a step is along the gradient."""
    matrix = likes()
    counts, negatives = to_counts(matrix), negatives_of(matrix)
    X, Y = random_factors(matrix.shape, 5, np.float64)
    before, huge, regularization = X.copy(), 1e12, 0.7
    kernels.lmf_step(counts, X, np.full_like(X, huge), Y, 1.0, regularization, negatives, 0, side, slice(None))
    cells = {(u, i): value for u, i, value in zip(*matrix.nonzero(), matrix.data[matrix.data != 0], strict=True)}

    def log_sigma(score):
        return -np.log1p(np.exp(-score))

    def objective(u, x):
        stored = matrix.indices[matrix.indptr[u] : matrix.indptr[u + 1]]
        total = -regularization / 2 * x @ x
        for i in stored:
            c = cells.get((u, i), 0)
            total += abs(c) * log_sigma(np.sign(c) * (x @ Y[i]))
        return total + sum(log_sigma(-(x @ Y[j])) for j in _arrays.lmf_draws(negatives, u, 0, side) if j not in stored)

    for u in (0, 7, 59):
        for column in set(range(5)) - {3 + side}:
            moved = [before[u].copy() for _ in range(2)]
            moved[0][column] += 1e-5
            moved[1][column] -= 1e-5
            slope = (objective(u, moved[0]) - objective(u, moved[1])) / 2e-5
            assert (X - before)[u, column] * np.sqrt(huge) == pytest.approx(slope, rel=1e-4, abs=1e-3)


def test_extreme_scores_are_no_error():
    matrix = likes()
    counts, negatives = to_counts(matrix), negatives_of(matrix)
    for dtype in (np.float32, np.float64):
        X, Y = (1e3 * side for side in random_factors(matrix.shape, 6, dtype))
        expected = X.copy()
        _arrays.lmf_step(counts, expected, np.zeros_like(X), Y, 1.0, 0.1, negatives, 0, 0, slice(None))
        kernels.lmf_step(counts, X, np.zeros_like(X), Y, 1.0, 0.1, negatives, 0, 0, slice(None))
        np.testing.assert_allclose(X, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_have_the_same_bits_for_any_number_of_threads(monkeypatch, dtype):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    fitted = []
    for threads in (1, 2, 3, 8):
        model = LogisticMatrixFactorization(7, iterations=3, random_state=5, num_threads=threads, dtype=dtype)
        model.fit(likes(200, 150), show_progress=False)
        fitted.append((model.user_factors, model.item_factors))
    for users, items in fitted[1:]:
        assert np.array_equal(users, fitted[0][0])
        assert np.array_equal(items, fitted[0][1])


def test_pieces_of_a_half_step_change_no_bit(monkeypatch):
    fitted = []
    for work in (3e8, 1e4):
        monkeypatch.setattr(implicit_core.lmf, "PIECE_WORK", work)
        model = LogisticMatrixFactorization(7, iterations=2, random_state=5)
        model.fit(likes(), show_progress=False)
        fitted.append(model.item_factors)
    assert np.array_equal(*fitted)


# the model


class Kernel:
    """The CPU's kernels, with a record of what half-steps are given."""

    def __init__(self, monkeypatch):
        self.calls = {}
        step = kernels.lmf_step

        def record(counts, X, squares, Y, rate, regularization, negatives, epoch, side, *rest):
            self.calls[side] = negatives
            step(counts, X, squares, Y, rate, regularization, negatives, epoch, side, *rest)

        monkeypatch.setattr(kernels, "lmf_step", record)


@pytest.mark.parametrize("neg_prop", [0, 1, 3, 1000])
def test_users_draw_neg_prop_items_per_entry_at_most_all_and_items_as_many_in_all(monkeypatch, neg_prop):
    kernel, matrix = Kernel(monkeypatch), likes()
    LogisticMatrixFactorization(2, iterations=1, neg_prop=neg_prop, random_state=0).fit(matrix, show_progress=False)
    of_users, of_items = (np.diff(kernel.calls[side].indptr) for side in (0, 1))
    assert np.array_equal(of_users, np.minimum(neg_prop * np.diff(matrix.indptr), 45))
    assert len(of_items) == 45
    assert (of_items == min(np.ceil(of_users.sum() / 45), 60)).all()
    users_pool, items_pool = (kernel.calls[side].pool for side in (0, 1))
    assert np.array_equal(np.sort(users_pool), np.arange(45))
    assert np.array_equal(np.bincount(items_pool, minlength=60), np.diff(matrix.indptr))


def popularity(train, rows, N):
    counts = np.asarray((train != 0).sum(axis=0)).ravel().astype(np.float64)
    ids = np.empty((len(rows), N), dtype=np.int64)
    for place, row in enumerate(rows):
        scores = counts.copy()
        scores[train.indices[train.indptr[row] : train.indptr[row + 1]]] = -1
        ids[place] = np.argsort(-scores, kind="stable")[:N]
    return ids


def recall(ids, test, rows):
    stored = (test.indices[test.indptr[u] : test.indptr[u + 1]] for u in rows)
    return sum(np.isin(found, held).sum() for found, held in zip(ids, stored, strict=True)) / test[rows].nnz


def gain_over_popularity(matrix, **parameters):
    """Recall@20 of 20 % of the pairs, divided by that of the most popular items."""
    cells = matrix.copy()
    cells.data[:] = 1
    train, test = train_test_split(cells, 0.8, random_state=0)
    rows = np.flatnonzero(np.diff(test.indptr))[::3]
    model = LogisticMatrixFactorization(random_state=0, **parameters)
    model.fit(train, show_progress=False)
    ids, _ = model.recommend(rows, train[rows], N=20)
    unseen = np.flatnonzero(np.bincount(train.indices, minlength=train.shape[1]) == 0)
    assert np.isin(ids, unseen).mean() < 0.01
    return recall(ids, test, rows) / recall(popularity(train, rows, 20), test, rows)


@pytest.mark.parametrize("parameters", [{}, {"neg_prop": 1}])
def test_it_learns_dependencies_of_packages(parameters):
    assert gain_over_popularity(get_debian()[2].T.tocsr(), **parameters) > 1.7


@pytest.mark.skipif(not RETAIL.exists(), reason="the data set is not there")
def test_it_learns_purchases():
    with np.load(RETAIL) as stored:
        matrix = sparse.csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=stored["shape"])
    assert gain_over_popularity(matrix) > 1.9


def test_a_negative_value_is_dislike_and_a_zero_is_nothing():
    """Everybody likes 0 to 9 and dislikes 10 to 19, and has an entry of zero for 20 to 29."""
    matrix = sparse.csr_matrix(np.tile(np.repeat([1.0, -1.0, 5.0], 10), (30, 1)))
    matrix.data[matrix.data == 5] = 0
    matrix.data *= 3
    model = LogisticMatrixFactorization(4, random_state=0)
    model.fit(matrix, show_progress=False)
    scores = model.user_factors @ model.item_factors.T
    assert scores[:, :10].min() > 1
    assert scores[:, 10:20].max() < -1
    assert np.abs(scores[:, 20:]).max() < scores[:, :10].min()


def test_values_weigh():
    matrix = likes()
    matrix.data[:] = 1
    heavy = matrix.copy()
    heavy.data[:] = 50
    bias = []
    for given in (matrix, heavy):
        model = LogisticMatrixFactorization(4, random_state=0)
        model.fit(given, show_progress=False)
        bias.append((model.user_factors @ model.item_factors.T)[given.nonzero()].mean())
    assert bias[1] > bias[0] + 1


def test_the_input_stays_as_it_is(unmodified):
    matrix = likes()
    with unmodified(matrix):
        LogisticMatrixFactorization(4, iterations=2, random_state=1).fit(matrix, show_progress=False)


def test_who_has_no_entry_has_no_factors_and_such_items_have_the_lowest_bias():
    matrix = likes()
    model = LogisticMatrixFactorization(4, iterations=3, random_state=1)
    model.fit(matrix, show_progress=False)
    assert np.array_equal(model.user_factors[3], [0, 0, 0, 0, 1, 0])
    rest = np.delete(model.item_factors, 4, axis=0)
    assert np.array_equal(model.item_factors[4], [0, 0, 0, 0, rest[:, -2].min(), 1])
    assert (model.user_factors[:, -2] == 1).all()
    assert (model.item_factors[:, -1] == 1).all()
    assert len(np.unique(rest[:, -2])) == len(rest)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0), (0, 0)])
@pytest.mark.parametrize("entries", [0, 1])
def test_almost_empty_matrices_fit(shape, entries):
    if 0 in shape and entries:
        entries = 0
    matrix = sparse.csr_matrix((np.ones(entries), (range(entries), range(entries))), shape=shape)
    model = LogisticMatrixFactorization(2, iterations=2, random_state=0)
    epochs = []
    model.fit(matrix, show_progress=False, callback=lambda epoch, seconds: epochs.append(epoch))
    assert epochs == [0, 1]
    assert model.user_factors.shape == (shape[0], 4)
    assert model.item_factors.shape == (shape[1], 4)
    assert np.isfinite(model.user_factors).all()


def test_a_single_user_and_item_with_everything_stored_fit():
    model = LogisticMatrixFactorization(2, random_state=0)
    model.fit(sparse.csr_matrix(np.ones((1, 1))), show_progress=False)
    assert (model.user_factors @ model.item_factors.T).item() > 0


def test_a_second_fit_goes_on_and_another_shape_is_refused():
    model = LogisticMatrixFactorization(4, learning_rate=0.01, iterations=1, random_state=1)
    model.fit(likes(), show_progress=False)
    before = model.item_factors.copy()
    model.fit(likes(), show_progress=False)
    assert 0 < np.abs(model.item_factors - before).max() < 0.011
    kept = model.item_factors.copy()
    with pytest.raises(ValueError, match=r"item_factors must have shape \(44, 6\), got \(45, 6\)"):
        model.fit(likes(items=44), show_progress=False)
    assert np.array_equal(model.item_factors, kept)


def test_what_a_callback_does_to_the_factors_counts():
    def spoil(epoch, seconds):
        model.item_factors = model.item_factors[:-1]

    model = LogisticMatrixFactorization(4, iterations=2, random_state=1)
    with pytest.raises(ValueError, match="item_factors must have shape"):
        model.fit(likes(), show_progress=False, callback=spoil)

    def replace(epoch, seconds):
        if epoch == 0:
            model.user_factors = np.asfortranarray(model.user_factors * 0 + 0.5)

    model = LogisticMatrixFactorization(4, learning_rate=0.0, iterations=2, random_state=1)
    model.fit(likes(), show_progress=False, callback=replace)
    assert (model.user_factors == 0.5).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_a_value_that_is_not_finite_is_named(bad):
    matrix = likes()
    matrix.data[5] = bad
    row = np.searchsorted(matrix.indptr, 5, side="right") - 1
    model = LogisticMatrixFactorization(4)
    with pytest.raises(ModelFitError, match=rf"entry \({row}, {matrix.indices[5]}\)"):
        model.fit(matrix, show_progress=False)
    assert model.user_factors is None


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"factors": 0}, ValueError),
        ({"learning_rate": np.nan}, ValueError),
        ({"regularization": -1}, ValueError),
        ({"iterations": -1}, ValueError),
        ({"iterations": 1.5}, TypeError),
        ({"neg_prop": -1}, ValueError),
        ({"neg_prop": 2.5}, TypeError),
        ({"dtype": np.float16}, TypeError),
        ({"num_threads": "2"}, TypeError),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters, error):
    with pytest.raises(error, match=next(iter(parameters))):
        LogisticMatrixFactorization(**parameters).fit(likes(), show_progress=False)


def test_factors_that_run_away_are_an_error():
    model = LogisticMatrixFactorization(4, learning_rate=1e30, regularization=1.0, iterations=5, random_state=0)
    with pytest.raises(ModelFitError, match="factors became NaN or infinite"):
        model.fit(likes(), show_progress=False)


def test_the_progress_bar_counts_epochs(capsys):
    LogisticMatrixFactorization(2, iterations=3).fit(likes())
    assert "3/3" in capsys.readouterr().err
    LogisticMatrixFactorization(2, iterations=3).fit(likes(), show_progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_an_interrupt_is_heard_within_a_half_step(monkeypatch):
    monkeypatch.setattr(implicit_core.lmf, "PIECE_WORK", 1e4)
    calls, step = [], kernels.lmf_step

    def interrupt(*arguments):
        calls.append(1)
        step(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(kernels, "lmf_step", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            LogisticMatrixFactorization(4, iterations=2).fit(likes(), show_progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) == 1


def test_the_public_class_stands_for_that_of_the_device():
    model = LogisticMatrixFactorization(8, 0.5, 0.3, np.float64, 5, 7, False, 2, 11)
    assert isinstance(model, implicit_core.cpu.lmf.LogisticMatrixFactorization)
    assert isinstance(model, LogisticMatrixFactorization)
    same = implicit_core.cpu.lmf.LogisticMatrixFactorization(8, 0.5, 0.3, np.float64, 5, 7, 2, 11)
    assert model.get_params() == same.get_params()
    assert repr(LogisticMatrixFactorization(neg_prop=4)) == "LogisticMatrixFactorization(neg_prop=4)"


def test_there_is_no_gpu_version():
    for make in (
        lambda: LogisticMatrixFactorization(use_gpu=True),
        lambda: type("Mine", (LogisticMatrixFactorization,), {})(use_gpu=True),
        lambda: LogisticMatrixFactorization().__setattr__("use_gpu", True),
    ):
        with pytest.raises(NotImplementedError, match="use_gpu"):
            make()
    assert LogisticMatrixFactorization(use_gpu=None).use_gpu is False
    with pytest.raises(ValueError, match="to_gpu"):
        LogisticMatrixFactorization().to_gpu()


def test_what_it_cannot_recalculate_it_refuses():
    model = LogisticMatrixFactorization(4, iterations=1)
    matrix = likes()
    with pytest.raises(NotFittedError):
        model.recommend(0, matrix[0])
    model.fit(matrix, show_progress=False)
    for call in (
        lambda: model.recommend(0, matrix[0], recalculate_user=True),
        lambda: model.similar_items(0, recalculate_item=True, item_users=matrix.T.tocsr()[0]),
    ):
        with pytest.raises(NotImplementedError, match="LogisticMatrixFactorization"):
            call()


def test_implicit_agrees_on_signatures_and_what_a_file_holds(tmp_path):
    theirs = pytest.importorskip("implicit.lmf")
    cpu = pytest.importorskip("implicit.cpu.lmf")
    ours = implicit_core.cpu.lmf.LogisticMatrixFactorization
    for one, other in ((theirs, implicit_core.lmf), (cpu, implicit_core.cpu.lmf)):
        expected = inspect.signature(one.LogisticMatrixFactorization).parameters
        found = inspect.signature(other.LogisticMatrixFactorization).parameters
        assert list(found) == list(expected)
        assert all(found[name].default == expected[name].default for name in expected)
    models = [kind(5, iterations=1, random_state=3) for kind in (ours, cpu.LogisticMatrixFactorization)]
    for model in models:
        model.fit(likes().astype(np.float32), show_progress=False)
    assert models[0].user_factors.shape == models[1].user_factors.shape
    for side, constant in (("user_factors", -2), ("item_factors", -1)):
        assert (getattr(models[1], side)[:, constant] == getattr(models[0], side)[:, constant]).all()
    models[0].save(tmp_path / "ours.npz")
    models[1].save(tmp_path / "theirs.npz")
    files = [np.load(tmp_path / name) for name in ("ours.npz", "theirs.npz")]
    assert set(files[0].files) == {*files[1].files, "format_version"}
    loaded = cpu.LogisticMatrixFactorization.load(str(tmp_path / "ours.npz"))
    assert np.array_equal(loaded.item_factors, models[0].item_factors)
    again = LogisticMatrixFactorization.load(tmp_path / "theirs.npz")
    assert again.get_params() == models[0].get_params()
    again.fit(likes(), show_progress=False)


def test_initial_factors_are_a_tenth_of_those_of_implicit_and_biases_give_the_mean_log_odds():
    cpu = pytest.importorskip("implicit.cpu.lmf")
    matrix = likes()
    matrix.data = np.abs(matrix.data)
    ours = LogisticMatrixFactorization(5, iterations=0, random_state=3, neg_prop=2)
    theirs = cpu.LogisticMatrixFactorization(5, iterations=0, random_state=3, num_threads=1)
    for model in (ours, theirs):
        model.fit(matrix.astype(np.float32), show_progress=False)
    for side in ("user_factors", "item_factors"):
        np.testing.assert_allclose(getattr(ours, side)[:, :-2], getattr(theirs, side)[:, :-2] / 10, rtol=1e-6)
    draws = np.minimum(2 * np.diff(matrix.indptr), 45).sum()
    score = ours.user_factors[0, -1] + ours.item_factors[0, -2]
    assert score == pytest.approx(np.log(matrix.data.sum() / draws), rel=1e-5)


def test_a_mapped_model_is_fitted_in_no_iterations_too(tmp_path):
    matrix = likes()
    model = LogisticMatrixFactorization(5, iterations=1, random_state=3)
    model.fit(matrix, show_progress=False)
    model.save(tmp_path / "model.npz")
    mapped = LogisticMatrixFactorization.load(tmp_path / "model.npz", mmap=True)
    mapped.iterations = 0
    mapped.fit(matrix, show_progress=False)
    assert np.array_equal(mapped.user_factors, model.user_factors)
