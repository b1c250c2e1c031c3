"""Bayesian personalized ranking: draws, schedule, steps and the model."""

import inspect
import signal

import numpy as np
import pytest
from scipy import sparse

import implicit_core.bpr
import implicit_core.cpu.bpr
from implicit_core import _arrays
from implicit_core._matrices import confidences, to_counts
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.cpu import _bpr, kernels
from implicit_core.recommender_base import ModelFitError

KEY = 2**63 + 987654321


def likes(users=60, items=45, density=0.15, seed=0):
    matrix = sparse.random(users, items, density, format="csr", random_state=seed, dtype=np.float32)
    return confidences(matrix, 1.0, "matrix")


def entries_of(matrix):
    counts = to_counts(matrix)
    return counts, np.repeat(np.arange(counts.shape[0], dtype=np.int32), np.diff(counts.indptr))


def checkerboard(size=50):
    """Even users like even items, odd users odd ones; the item of the user's own number is withheld."""
    parity = np.arange(size) % 2
    cells = (parity[:, None] == parity).astype(np.float32)
    np.fill_diagonal(cells, 0)
    return sparse.csr_matrix(cells)


# draws


@pytest.mark.parametrize(
    ("key", "epoch", "n", "expected"),
    [
        (0, 0, 0, (0xE169C58D6627E8D5, 0x9B00DBD8BC57AC4C)),  # the test vector of the authors for all zeros
        (KEY, 3, 2**40 + 5, None),
    ],
)
def test_random_bits_are_philox(key, epoch, n, expected):
    draw = tuple(int(bits[0]) for bits in _arrays.philox(key, epoch, np.array([n], dtype=np.uint64)))
    if expected is None:
        words, keys = [n & 0xFFFFFFFF, n >> 32, epoch, 0], [key & 0xFFFFFFFF, key >> 32]
        for _ in range(10):
            a, b = 0xD2511F53 * words[0], 0xCD9E8D57 * words[2]
            words = [b >> 32 ^ words[1] ^ keys[0], b & 0xFFFFFFFF, a >> 32 ^ words[3] ^ keys[1], a & 0xFFFFFFFF]
            keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
        expected = (words[1] << 32 | words[0], words[3] << 32 | words[2])
    assert draw == expected


@pytest.mark.parametrize("verify", [False, True])
def test_a_triple_is_an_entry_and_an_item_drawn_by_its_number_of_entries(verify):
    matrix = likes()
    counts, users = entries_of(matrix)
    draws = np.arange(40_000, dtype=np.uint64)
    triples, skipped = _arrays.bpr_draws(counts, users, KEY, 0, draws, verify)
    stored = matrix.toarray() != 0
    assert stored[triples[:, 0], triples[:, 1]].all()
    expected = triples[:, 1] == triples[:, 2]
    if verify:
        expected |= stored[triples[:, 0], triples[:, 2]]
    assert np.array_equal(skipped, expected)
    share = np.bincount(triples[:, 2], minlength=45) / len(triples)
    np.testing.assert_allclose(share, stored.sum(axis=0) / stored.sum(), atol=0.006)
    share = np.bincount(triples[:, 0], minlength=60) / len(triples)
    np.testing.assert_allclose(share, stored.sum(axis=1) / stored.sum(), atol=0.006)


# schedule


@pytest.mark.parametrize("epoch", range(3))
def test_tasks_of_a_round_share_no_user_and_no_item(epoch):
    random = np.random.default_rng(0)
    triples = random.integers(0, 5000, (200_000, 3)).astype(np.int32)
    tasks = _arrays.bpr_tasks(triples, _arrays.bpr_multiplier(KEY, epoch, 0))
    blocks = _arrays.BPR_BLOCKS
    assert tasks.min() >= 0
    assert tasks.max() < blocks**3
    order = np.argsort(tasks, kind="stable")
    for round_ in np.split(order, np.flatnonzero(np.diff(tasks[order] // blocks)) + 1):
        for columns in ([0], [1, 2]):
            ids = triples[round_][:, columns]
            owner = np.repeat(tasks[round_], len(columns))
            pairs = np.unique(np.column_stack([ids.ravel(), owner]), axis=0)
            assert len(np.unique(pairs[:, 0])) == len(pairs)


@pytest.mark.parametrize("epoch", range(20))
def test_work_is_spread_over_tasks(epoch):
    random = np.random.default_rng(0)
    triples = random.integers(0, 100_000, (400_000, 3)).astype(np.int32)
    sizes = np.bincount(_arrays.bpr_tasks(triples, _arrays.bpr_multiplier(KEY, epoch, 0)))
    blocks = _arrays.BPR_BLOCKS
    tasks = blocks * blocks + blocks * (blocks - 1) * blocks // 2  # pairs of items of one block, and of two
    assert np.count_nonzero(sizes) == tasks
    assert sizes.max() < 3 * sizes.sum() / tasks


@pytest.mark.parametrize("first", [0, 2**40 + 3])
def test_the_draws_of_the_kernel_and_their_tasks_are_those_of_the_definition(first):
    """Identifiers are large, so that each bit of what blocks are made of counts."""
    random = np.random.default_rng(2)
    n, rows = 3000, 50
    counts, users = entries_of(sparse.csr_matrix(random.random((rows, 40)) < 0.3, dtype=np.float32))
    counts = counts._replace(indices=random.integers(0, 2**31 - 1, len(users)).astype(np.int32))
    for epoch in range(12):
        triples, tasks = np.empty((n, 3), np.int32), np.empty(n, np.uint16)
        sizes = np.zeros((1, _arrays.BPR_BLOCKS**3), np.int64)
        parts = np.array([0, n])
        _bpr.draw(counts.indptr, users, counts.indices, KEY, epoch, first, False, parts, triples, tasks, sizes)
        expected, skipped = _arrays.bpr_draws(
            counts, users, KEY, epoch, np.arange(first, first + n, dtype=np.uint64), False
        )
        useful = n - skipped.sum()
        assert np.array_equal(triples[:useful], expected[~skipped])
        wanted = _arrays.bpr_tasks(expected[~skipped], _arrays.bpr_multiplier(KEY, epoch, first))
        assert np.array_equal(tasks[:useful], wanted)
        assert np.array_equal(sizes[0], np.bincount(wanted, minlength=sizes.size))


def test_blocks_are_others_in_each_epoch_and_each_part_of_it():
    """With the same order of pairs in all epochs the model ranks worse: NDCG@10 0.227 where it could be 0.237."""
    random = np.random.default_rng(0)
    triples = random.integers(0, 5000, (20_000, 3)).astype(np.int32)
    first, *others = (
        _arrays.bpr_tasks(triples, _arrays.bpr_multiplier(key, epoch, start))
        for key, epoch, start in ((KEY, 0, 0), (KEY, 1, 0), (KEY, 0, _arrays.BPR_DRAWS), (KEY + 1, 0, 0))
    )
    for tasks in others:
        assert abs(np.corrcoef(tasks, first)[0, 1]) < 0.1


# steps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("factors", [1, 5, 16, 40])
def test_an_epoch_takes_the_steps_of_the_definition(monkeypatch, dtype, verify, factors):
    counts, users = entries_of(likes())
    for module in (_arrays, kernels):
        monkeypatch.setattr(module, "BPR_DRAWS", 300)  # two batches, the first one of two blocks of draws
    random = np.random.default_rng(1)
    X, Y = (random.normal(size=(n, factors + 1)).astype(dtype) for n in counts.shape)
    X[:, -1] = 1
    expected = X.copy(), Y.copy()
    report = _arrays.bpr_epoch(counts, users, *expected, 0.1, 0.05, KEY, 2, verify)
    assert kernels.bpr_epoch(counts, users, X, Y, 0.1, 0.05, KEY, 2, verify) == report
    assert report[1] > 0
    tolerance = 1e-5 if dtype is np.float32 else 1e-12
    np.testing.assert_allclose(X, expected[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(Y, expected[1], rtol=tolerance, atol=tolerance)
    assert (X[:, -1] == 1).all()


def test_a_step_follows_the_gradient_of_the_documented_objective():
    """One entry per user and distinct items, so that an epoch of one draw is one step."""
    counts, users = entries_of(sparse.csr_matrix(np.eye(2, dtype=np.float32)))
    triples, skipped = _arrays.bpr_draws(counts, users, KEY, 0, np.arange(2, dtype=np.uint64), True)
    assert (~skipped).sum() == 1
    ((u, i, j),) = triples[~skipped]
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(2, 4)), random.normal(size=(2, 4))
    X[:, -1] = 1
    regularization, rate = 0.3, 1e-6

    def objective(X, Y):
        penalty = (X[u, :-1] ** 2).sum() + (Y[i] ** 2).sum() + (Y[j] ** 2).sum()
        return -np.log1p(np.exp(-X[u] @ (Y[i] - Y[j]))) - regularization / 2 * penalty

    before = X.copy(), Y.copy()
    kernels.bpr_epoch(counts, users, X, Y, rate, regularization, KEY, 0, True)
    for side, (old, new) in enumerate(zip(before, (X, Y), strict=True)):
        for place in np.ndindex(old.shape):
            if side == 0 and place[1] == 3:
                continue
            moved = [before[0].copy(), before[1].copy()]
            moved[side][place] += 1e-6
            slope = (objective(*moved) - objective(*before)) / 1e-6
            assert (new - old)[place] / rate == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_have_the_same_bits_for_any_number_of_threads(monkeypatch, dtype):
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    fitted = []
    for threads in (1, 2, 3, 8):
        model = BayesianPersonalizedRanking(7, iterations=4, random_state=5, num_threads=threads, dtype=dtype)
        reports = []
        model.fit(likes(200, 150), show_progress=False, callback=lambda *report, to=reports: to.append(report[2:]))
        fitted.append((model.user_factors, model.item_factors, reports))
    for users, items, reports in fitted[1:]:
        assert np.array_equal(users, fitted[0][0])
        assert np.array_equal(items, fitted[0][1])
        assert reports == fitted[0][2]


# the model


@pytest.mark.parametrize("deterministic", [True, False])
def test_it_learns_what_users_like(deterministic):
    matrix = checkerboard()
    model = BayesianPersonalizedRanking(
        3, learning_rate=0.05, regularization=0.0, iterations=300, random_state=0, deterministic=deterministic
    )
    reports = []
    model.fit(matrix, show_progress=False, callback=lambda *report: reports.append(report))
    assert [report[0] for report in reports] == list(range(300))
    shares = [correct / (matrix.nnz - skipped) for _, _, correct, skipped in reports]
    assert shares[-1] > 0.99 > shares[0]
    ids, _ = model.recommend(np.arange(50), matrix, N=1)
    assert np.array_equal(ids[:, 0], np.arange(50))


def test_values_do_not_matter_and_the_input_stays_as_it_is():
    matrix = likes()
    other = matrix.copy()
    other.data = np.random.default_rng(0).normal(size=matrix.nnz).astype(np.float32)
    other.data[::4] = 0
    kept = other.copy()
    models = [BayesianPersonalizedRanking(4, iterations=2, random_state=1) for _ in range(2)]
    for model, cells in zip(models, (matrix, other), strict=True):
        model.fit(cells, show_progress=False)
    assert np.array_equal(models[0].item_factors, models[1].item_factors)
    assert np.array_equal(other.data, kept.data)
    assert np.array_equal(other.indices, kept.indices)


def test_who_has_no_entry_has_no_factors():
    matrix = likes().tolil()
    matrix[7], matrix[:, 9] = 0, 0
    model = BayesianPersonalizedRanking(4, iterations=3, random_state=1)
    model.fit(matrix.tocsr(), show_progress=False)
    assert np.array_equal(model.user_factors[7], [0, 0, 0, 0, 1])
    assert (model.item_factors[9] == 0).all()
    assert (model.user_factors[:, -1] == 1).all()


@pytest.mark.parametrize("entries", [0, 1])
def test_almost_empty_matrices_fit(entries):
    matrix = sparse.csr_matrix((np.ones(entries), (range(entries), range(entries))), shape=(3, 4))
    model = BayesianPersonalizedRanking(2, iterations=2, random_state=0)
    reports = []
    model.fit(matrix, show_progress=False, callback=lambda *report: reports.append(report[2:]))
    assert reports == [(0, entries)] * 2
    assert model.user_factors.shape == (3, 3)


def test_a_second_fit_goes_on_and_another_shape_is_refused():
    model = BayesianPersonalizedRanking(4, iterations=1, random_state=1)
    model.fit(likes(), show_progress=False)
    before = model.item_factors.copy()
    model.fit(likes(), show_progress=False)
    assert 0 < np.abs(model.item_factors - before).max() < 0.1
    with pytest.raises(ValueError, match=r"item_factors must have shape \(44, 5\), got \(45, 5\)"):
        model.fit(likes(items=44), show_progress=False)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"factors": 0}, ValueError),
        ({"learning_rate": np.nan}, ValueError),
        ({"regularization": -1}, ValueError),
        ({"iterations": -1}, ValueError),
        ({"iterations": 1.5}, TypeError),
        ({"dtype": np.float16}, TypeError),
        ({"num_threads": "2"}, TypeError),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters, error):
    with pytest.raises(error, match=next(iter(parameters))):
        BayesianPersonalizedRanking(**parameters).fit(likes(), show_progress=False)


def test_factors_that_run_away_are_an_error():
    model = BayesianPersonalizedRanking(4, learning_rate=1e30, regularization=1.0, iterations=5, random_state=0)
    with pytest.raises(ModelFitError, match="factors became NaN or infinite"):
        model.fit(likes(), show_progress=False)


def test_the_public_class_stands_for_that_of_the_device():
    model = BayesianPersonalizedRanking(8, 0.02, 0.03, np.float64, 5, None, 2, False, 7)
    assert isinstance(model, implicit_core.cpu.bpr.BayesianPersonalizedRanking)
    assert isinstance(model, BayesianPersonalizedRanking)
    same = implicit_core.cpu.bpr.BayesianPersonalizedRanking(8, 0.02, 0.03, np.float64, 5, 2, False, 7)
    assert model.get_params() == same.get_params()
    with pytest.raises(ValueError, match="use_gpu"):
        BayesianPersonalizedRanking(use_gpu=True)
    with pytest.raises(ValueError, match="to_gpu"):
        model.to_gpu()


def test_implicit_agrees_on_signatures_initial_factors_and_what_a_file_holds(tmp_path):
    theirs = pytest.importorskip("implicit.bpr")
    cpu = pytest.importorskip("implicit.cpu.bpr")
    ours = implicit_core.cpu.bpr.BayesianPersonalizedRanking
    for one, other in ((theirs, implicit_core.bpr), (cpu, implicit_core.cpu.bpr)):
        expected = inspect.signature(one.BayesianPersonalizedRanking).parameters
        found = inspect.signature(other.BayesianPersonalizedRanking).parameters
        assert list(found)[: len(expected)] == list(expected)
        assert all(found[name].default == expected[name].default for name in expected if name != "use_gpu")
    for dtype in (np.float32, np.float64):
        models = [
            kind(5, iterations=0, random_state=3, dtype=dtype) for kind in (ours, cpu.BayesianPersonalizedRanking)
        ]
        for model in models:
            model.fit(likes(), show_progress=False)
        assert np.array_equal(models[0].user_factors, models[1].user_factors)
        assert np.array_equal(models[0].item_factors, models[1].item_factors)
        models[0].save(tmp_path / "ours.npz")
        models[1].save(tmp_path / "theirs.npz")
        loaded = cpu.BayesianPersonalizedRanking.load(str(tmp_path / "ours.npz"))
        assert np.array_equal(loaded.item_factors, models[0].item_factors)
        again = BayesianPersonalizedRanking.load(tmp_path / "theirs.npz")
        assert again.get_params() == models[0].get_params()


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_interrupt_is_heard_within_an_epoch(monkeypatch, deterministic):
    monkeypatch.setattr(kernels, "BPR_PIECE", 1e3)
    name = "learn" if deterministic else "race"
    calls, step = [], getattr(kernels._bpr, name)

    def interrupt(*arguments):
        calls.append(1)
        step(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(kernels._bpr, name, interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            BayesianPersonalizedRanking(4, iterations=2, deterministic=deterministic).fit(likes(), show_progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) == 1


@pytest.mark.parametrize("piece", [1e2, 1e3, 1e4])
def test_pieces_of_an_epoch_change_no_bit(monkeypatch, piece):
    def fitted():
        model = BayesianPersonalizedRanking(8, iterations=3, random_state=1, num_threads=2)
        seen = []
        model.fit(likes(), False, lambda epoch, seconds, correct, skipped: seen.append((correct, skipped)))
        return model.user_factors, model.item_factors, seen

    expected = fitted()
    monkeypatch.setattr(kernels, "BPR_PIECE", piece)
    for mine, wanted in zip(fitted(), expected, strict=True):
        np.testing.assert_array_equal(mine, wanted)
