"""Models on the GPU do what models on the CPU do."""

import copy
import functools
import importlib
import io
import pickle
import types

import numpy as np
import pytest
from scipy import sparse

import implicit_core.gpu.als
import implicit_core.gpu.bpr
from implicit_core import gpu
from implicit_core._typing import Counts
from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.datasets.debian import get_debian
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.recommender_base import ModelFitError, ModelLoadError

pytestmark = pytest.mark.usefixtures("cupy")

USERS, ITEMS = 70, 50
EMPTY_USER, EMPTY_ITEM = 9, 7


@pytest.fixture(scope="module")
def matrix():
    random = np.random.default_rng(0)
    values = random.integers(1, 6, size=(USERS, ITEMS)) * (random.random((USERS, ITEMS)) < 0.2)
    values[EMPTY_USER], values[:, EMPTY_ITEM] = 0, 0
    values[3] = -values[3]
    return sparse.csr_matrix(values.astype(np.float32))


def als(use_gpu, **parameters):
    return AlternatingLeastSquares(
        **{"factors": 12, "iterations": 3, "random_state": 1, "use_gpu": use_gpu, **parameters}
    )


def bpr(use_gpu, **parameters):
    given = {"factors": 7, "iterations": 3, "random_state": 1, "use_gpu": use_gpu, **parameters}
    return BayesianPersonalizedRanking(**given)


def fitted(make, matrix, use_gpu, **parameters):
    model = make(use_gpu, **parameters)
    model.fit(matrix, show_progress=False)
    return model


@pytest.fixture(scope="module")
def pair(cupy, matrix):
    """A model on the CPU and on the GPU, with the same factors; tests must not change it."""
    model = fitted(als, matrix, True)
    return model.to_cpu(), model


def exactly(matrix, **parameters):
    """A model in float64 from the starting point of those in float32."""
    model = als(False, **parameters, dtype=np.float64)
    start = fitted(als, matrix, False, **{**parameters, "iterations": 0})
    model.user_factors, model.item_factors = start.user_factors.astype(float), start.item_factors.astype(float)
    model.fit(matrix, show_progress=False)
    return model


def scores_of(model):
    users, items = model.to_cpu().user_factors, model.to_cpu().item_factors
    return users.astype(float) @ items.T


def assert_as_exact(on_gpu, on_cpu, exact):
    """As near to float64 as the CPU gets: conjugate gradient amplifies rounding, which differs between devices."""
    error, usual = (abs(scores_of(model) - scores_of(exact)).max() for model in (on_gpu, on_cpu))
    assert error <= 4 * usual + 1e-5 * abs(scores_of(exact)).max()


def assert_close(found, expected, tolerance=1e-5):
    """Equal but for a share of the largest element."""
    found, expected = (np.asarray(side.get() if hasattr(side, "get") else side) for side in (found, expected))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * abs(expected).max(initial=1e-30))


def assert_same_ranking(found, expected, tolerance=1e-5):
    """The same scores, and the same ids but where scores are equal up to rounding."""
    assert_close(found[1], expected[1], tolerance)
    step = 2 * tolerance * abs(expected[1]).max()
    for ids, wanted, scores in zip(*map(np.atleast_2d, (found[0], expected[0], expected[1])), strict=True):
        apart = np.abs(scores[:, None] - scores) > step
        for place in np.flatnonzero(ids != wanted):
            near = np.flatnonzero(~apart[place])
            assert ids[place] in wanted[near] or near[-1] == len(ids) - 1


# Alternating least squares


def test_a_fit_and_recommendations_for_all_equal_those_of_the_cpu_on_real_data(fake):
    _, _, dependencies = get_debian()
    packages = dependencies.T.tocsr()
    columns = np.argsort(-np.bincount(packages.indices, minlength=packages.shape[1]), kind="stable")[:400]
    reduced = packages[:, columns]
    reduced = reduced[np.diff(reduced.indptr) >= 4][:2000].tocsr()
    parameters = {"factors": 16, "init_scale": 0.1, "calculate_training_loss": True}
    losses = {False: [], True: []}
    models = {on_gpu: als(on_gpu, **parameters) for on_gpu in losses}
    for on_gpu, model in models.items():
        model.fit(reduced, show_progress=False, callback=lambda *given, on_gpu=on_gpu: losses[on_gpu].append(given[2]))
    on_cpu, on_gpu = models[False], models[True]
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-5)
    assert_close(on_gpu.user_factors.get() @ on_gpu.item_factors.get().T, on_cpu.user_factors @ on_cpu.item_factors.T)
    users = np.arange(reduced.shape[0])
    assert_same_ranking(on_gpu.recommend(users, reduced, N=20), on_cpu.recommend(users, reduced, N=20))
    assert {"als_cg", "gram", "stored_error", "product", "topk_select", "topk_merge"} <= set(fake.launches)


@pytest.mark.parametrize(
    "parameters",
    [
        {"factors": 1},
        {"factors": 37, "alpha": 3.0, "regularization": 0.5},
        {"unobserved_weight": 0.2, "regularization_exponent": 1.0, "init_scale": 0.1},
        {"cg_steps": 1},
    ],
    ids=str,
)
def test_fits_equal_those_of_the_cpu(matrix, parameters):
    if "unobserved_weight" in parameters:
        matrix = abs(matrix)
    on_cpu, on_gpu = (fitted(als, matrix, use_gpu, **parameters) for use_gpu in (False, True))
    assert_as_exact(on_gpu, on_cpu, exactly(matrix, **parameters))
    assert not on_gpu.user_factors[EMPTY_USER].any()
    assert on_gpu.YtY.dtype == np.float32
    assert_close(on_gpu.YtY, on_gpu.to_cpu().YtY)
    assert_close(on_gpu.item_norms, on_gpu.to_cpu().item_norms)


def test_rows_of_any_length_and_any_number_of_factors_are_solved_for(matrix, fake, monkeypatch):
    monkeypatch.setattr("implicit_core.gpu._als.LONG_ROW", 8)
    monkeypatch.setattr("implicit_core.gpu._entries.CHUNK", 4)
    monkeypatch.setattr("implicit_core.gpu._work.WORK_BYTES", 2**12)
    split = fitted(als, matrix, True, calculate_training_loss=True)
    assert {"als_cg", "als_chunks", "als_step"} <= set(fake.launches)
    assert_as_exact(split, fitted(als, matrix, False), exactly(matrix))
    monkeypatch.undo()
    fake.launches.clear()
    wide = fitted(als, matrix, True, factors=300, iterations=1)
    assert "als_chunks" in fake.launches
    assert "als_cg" not in fake.launches
    assert not wide.user_factors[EMPTY_USER].any()
    parameters = {"factors": 300, "iterations": 1}
    assert_as_exact(wide, fitted(als, matrix, False, **parameters), exactly(matrix, **parameters))


@pytest.mark.parametrize("factors", [12, 124])
def test_results_do_not_depend_on_the_gpu(fake, matrix, monkeypatch, factors):
    modules = importlib.import_module("implicit_core.gpu._modules")
    found = []
    for fake.settings.arch, fake.settings.processors in ((75, 4), (90, 9)):
        for kept in (modules._limits, modules._module, modules._function):
            monkeypatch.setattr(modules, kept.__name__, functools.cache(kept.__wrapped__))
        fake.launches.clear()
        found.append(fitted(als, matrix, True, factors=factors, iterations=1))
        assert "als_cg" in fake.launches
    np.testing.assert_array_equal(*(model.user_factors.get() for model in found))


def test_factors_are_stored_in_float16_if_asked_for(matrix, pair):
    half = fitted(als, matrix, True, dtype=np.float16)
    assert half.user_factors.dtype == half.item_factors.dtype == np.float16
    _, scores = half.recommend(np.arange(USERS), matrix, N=ITEMS)
    assert scores.dtype == np.float32
    assert_close(scores, pair[0].recommend(np.arange(USERS), matrix, N=ITEMS)[1], 1e-2)
    assert half.similar_items(np.arange(5))[1].dtype == np.float32
    on_cpu = half.to_cpu()
    assert on_cpu.dtype == on_cpu.user_factors.dtype == np.float32
    assert_same_ranking(on_cpu.recommend(np.arange(USERS), matrix), half.recommend(np.arange(USERS), matrix), 1e-3)
    assert on_cpu.to_gpu().dtype == np.float32
    with pytest.raises(TypeError, match="float32 or float64, got float16"):
        als(False, dtype=np.float16).fit(matrix, show_progress=False)


def test_factors_are_arrays_to_compute_with(cupy, pair):
    on_cpu, on_gpu = pair
    for side in ("user_factors", "item_factors", "user_norms", "item_norms"):
        assert isinstance(getattr(on_gpu, side), cupy.ndarray)
    scores = (on_gpu.user_factors[2] * on_gpu.item_factors).sum(axis=1)
    assert_close(scores, on_cpu.user_factors[2] @ on_cpu.item_factors.T)


def test_values_that_do_not_stay_finite_are_errors(matrix):
    bad = matrix.copy()
    bad.data[5] = np.nan
    with pytest.raises(ModelFitError, match="finite"):
        als(True).fit(bad, show_progress=False)
    model = als(True)
    model.user_factors, model.item_factors = np.full((USERS, 12), np.inf), np.ones((ITEMS, 12))
    with pytest.raises(ModelFitError, match="NaN or infinite"):
        model.fit(matrix, show_progress=False)


def test_recalculated_rows_equal_those_of_the_cpu(matrix, pair):
    on_cpu, on_gpu = pair
    users, items = [0, 3, EMPTY_USER, 500], [1, EMPTY_ITEM]
    rows = sparse.vstack([matrix[[0, 3, EMPTY_USER]], matrix[[4]]]).tocsr()
    for recalculate in (lambda m: m.recalculate_user(users, rows), lambda m: m.recalculate_user(3, matrix)):
        assert_close(recalculate(on_gpu), recalculate(on_cpu), 1e-3)
    item_users = matrix.T.tocsr()[items]
    assert_close(on_gpu.recalculate_item(items, item_users), on_cpu.recalculate_item(items, item_users), 1e-3)
    found, expected = (m.recommend(users, rows, recalculate_user=True) for m in (on_gpu, on_cpu))
    assert_same_ranking(found, expected, 1e-3)
    found, expected = (m.similar_items(items, recalculate_item=True, item_users=item_users) for m in (on_gpu, on_cpu))
    assert_same_ranking(found, expected, 1e-3)


@pytest.mark.parametrize("long_row", [4096, 4])
def test_who_liked_nothing_gets_factors_of_zero(matrix, pair, long_row, monkeypatch):
    """Where nothing is to be solved, no step must be taken: it would be of length 0 / 0."""
    monkeypatch.setattr("implicit_core.gpu._als.LONG_ROW", long_row)
    for model in pair:
        found = model.recalculate_user([0, 1], -abs(matrix[:2]))
        assert not (found.get() if hasattr(found, "get") else found).any()


def recalculable(items, regularization, use_gpu):
    """A model with these item factors."""
    model = als(use_gpu, regularization=regularization)
    model.user_factors, model.item_factors = np.zeros((USERS, 12), np.float32), items.astype(np.float32)
    return model


@pytest.mark.parametrize("long_row", [4096, 4])
def test_a_system_without_a_unique_solution_gets_its_shortest(matrix, long_row, monkeypatch):
    """On the CPU, which solves by Cholesky decomposition, that is an error."""
    monkeypatch.setattr("implicit_core.gpu._als.LONG_ROW", long_row)
    random = np.random.default_rng(0)
    items = random.standard_normal((ITEMS, 3)) @ random.standard_normal((3, 12))
    items[:, 5:] = 0
    for given in (items, 0 * items):
        with pytest.raises(ModelFitError, match="positive definite"):
            recalculable(given, 0.0, False).recalculate_user(np.arange(USERS), matrix)
    found = recalculable(items, 0.0, True).recalculate_user(np.arange(USERS), matrix).get()
    for user in range(USERS):
        row = matrix[user].toarray()[0]
        weight = np.where(row == 0, 1, abs(row))
        gram, rhs = (items.T * weight) @ items, items.T @ np.maximum(row, 0)
        np.testing.assert_allclose(found[user], np.linalg.pinv(gram, rcond=1e-9) @ rhs, atol=2e-3)
    assert not recalculable(0 * items, 0.0, True).recalculate_user(np.arange(USERS), matrix).get().any()


@pytest.mark.parametrize("long_row", [4096, 4])
@pytest.mark.parametrize("scale", [1e12, 1e-18])
def test_what_float32_cannot_solve_is_an_error(matrix, scale, long_row, monkeypatch):
    monkeypatch.setattr("implicit_core.gpu._als.LONG_ROW", long_row)
    model = recalculable(scale * np.random.default_rng(0).standard_normal((ITEMS, 12)), 0.0, True)
    with pytest.raises(ModelFitError, match=r"row 0 cannot be solved in float32; raise regularization"):
        model.recalculate_user(np.arange(USERS), matrix)
    with pytest.raises(ModelFitError, match="cannot be solved"):
        model.partial_fit_users([0], matrix[[0]])
    assert not model.user_factors.get().any()


@pytest.mark.parametrize("long_row", [4096, 4])
@pytest.mark.parametrize("huge", [{"regularization": 1e15}, {"alpha": 1e16}, {"regularization": 1e30}], ids=str)
def test_a_fit_that_overflows_is_an_error_not_an_untrained_model(matrix, huge, long_row, monkeypatch):
    monkeypatch.setattr("implicit_core.gpu._als.LONG_ROW", long_row)
    with pytest.raises(ModelFitError, match="lower what is huge"):
        als(True, init_scale=0.1, **huge).fit(matrix, show_progress=False)


def test_a_solution_too_large_for_float16_is_an_error(matrix):
    model = als(True, dtype=np.float16, regularization=0.0)
    model.user_factors = np.zeros((USERS, 12), np.float16)
    model.item_factors = (5e-6 * np.random.default_rng(0).standard_normal((ITEMS, 12))).astype(np.float16)
    with pytest.raises(ModelFitError, match=r"cannot be solved in float16"):
        model.recalculate_user(np.arange(USERS), matrix)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_users_and_items_are_added(matrix, dtype):
    on_gpu = fitted(als, matrix, True, dtype=dtype)
    on_cpu = on_gpu.to_cpu()
    for model in (on_cpu, on_gpu):
        model.partial_fit_users([2, USERS + 1], matrix[[2, 5]])
        model.partial_fit_users([USERS], matrix[[6]])
        model.partial_fit_items([ITEMS], sparse.csr_matrix(matrix.T.tocsr()[[2]], shape=(1, USERS + 2)))
    assert on_gpu.user_factors.shape == (USERS + 2, 12)
    assert on_gpu.user_factors.dtype == dtype
    tolerance = 1e-3 if dtype == np.float32 else 1e-2
    assert_close(on_gpu.user_factors, on_cpu.user_factors, tolerance)
    assert_close(on_gpu.item_factors, on_cpu.item_factors, tolerance)


def test_explanations_equal_those_of_the_cpu(matrix, pair):
    (found, parts, weights), (expected, wanted, _) = (m.explain(2, matrix, 4) for m in reversed(pair))
    assert found == pytest.approx(expected, rel=1e-3)
    assert [item for item, _ in parts] == [item for item, _ in wanted]
    assert pair[1].explain(2, matrix, 5, user_weights=weights)[0] == pytest.approx(
        pair[0].explain(2, matrix, 5)[0], rel=1e-3
    )


def test_the_solver_and_the_loss_take_arrays_of_host_and_device(cupy, matrix, pair):
    on_cpu, on_gpu = pair
    expected = on_cpu.user_factors.copy()
    on_cpu.solver(matrix, expected, on_cpu.item_factors, 0.01)
    x = cupy.ascontiguousarray(on_gpu.user_factors)
    on_gpu.solver(matrix, x, on_gpu.item_factors, 0.01)
    assert_close(x, expected, 1e-4)
    host = on_cpu.user_factors.copy()
    on_gpu.solver(matrix, host, on_cpu.item_factors, 0.01)
    assert_close(host, x, 1e-6)
    loss = implicit_core.cpu.als.calculate_loss(matrix, on_cpu.user_factors, on_cpu.item_factors, 0.1)
    for factors in ((on_cpu.user_factors, on_cpu.item_factors), (on_gpu.user_factors, on_gpu.item_factors)):
        assert implicit_core.gpu.als.calculate_loss(matrix, *factors, 0.1) == pytest.approx(loss, rel=1e-4)
    weights = {"unobserved_weight": 0.3, "regularization_exponent": 0.5}
    given = abs(matrix), on_cpu.user_factors, on_cpu.item_factors, 0.1
    expected = implicit_core.cpu.als.calculate_loss(*given, **weights)
    assert implicit_core.gpu.als.calculate_loss(*given, **weights) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(TypeError, match="ndarray"):
        implicit_core.gpu.als.calculate_loss(matrix, [[1.0]], on_cpu.item_factors, 0.1)


# Bayesian personalized ranking


def test_an_epoch_takes_the_steps_of_the_cpu(matrix):
    """To first order, what steps add up to does not depend on their order."""
    seen = {}
    models = {}
    for use_gpu in (False, True):
        model = models[use_gpu] = bpr(use_gpu, learning_rate=1e-4, iterations=2)
        model.fit(
            matrix, show_progress=False, callback=lambda *given, of=use_gpu: seen.setdefault(of, []).append(given[2:])
        )
    start = bpr(False, iterations=0)
    start.fit(matrix, show_progress=False)
    assert [skipped for _, skipped in seen[True]] == [skipped for _, skipped in seen[False]]
    assert abs(seen[True][0][0] - seen[False][0][0]) <= 3
    for side in ("user_factors", "item_factors"):
        first = getattr(start, side)
        assert_close(getattr(models[True], side).get() - first, getattr(models[False], side) - first, 5e-3)
    assert (models[True].user_factors[:, -1] == 1).all()


def test_the_same_seed_gives_the_same_bits_unless_steps_may_race(fake, matrix, monkeypatch):
    first = fitted(bpr, matrix, True)
    monkeypatch.setattr(fake.emulator, "default", fake.emulator.Checks(order="random", seed=5))
    second = fitted(bpr, matrix, True)
    fake.launches.clear()
    racing = fitted(bpr, matrix, True, deterministic=False)
    assert set(fake.launches) == {"bpr"}
    for side in ("user_factors", "item_factors"):
        np.testing.assert_array_equal(getattr(first, side).get(), getattr(second, side).get())
        assert not np.array_equal(getattr(first, side).get(), getattr(racing, side).get())


def test_ranking_is_learnt(matrix):
    auc = []
    model = bpr(True, iterations=40, learning_rate=0.1)
    model.fit(
        matrix,
        show_progress=False,
        callback=lambda _, __, correct, skipped: auc.append(correct / (matrix.nnz - skipped)),
    )
    assert auc[-1] > 0.8 > 0.6 > auc[0]
    assert_same_ranking(
        model.recommend(np.arange(USERS), matrix), model.to_cpu().recommend(np.arange(USERS), matrix), 1e-5
    )
    with pytest.raises(ModelFitError):
        bpr(True, learning_rate=1e30).fit(matrix, show_progress=False)


# Where factors come from and go to


def copies(model, how, tmp_path):
    if how == "pickle":
        return pickle.loads(pickle.dumps(model))
    if how == "deepcopy":
        return copy.deepcopy(model)
    if how == "to_cpu":
        return model.to_cpu()
    if how == "to_cpu.to_gpu":
        return model.to_cpu().to_gpu()
    model.save(tmp_path / "model.npz")
    kind = type(model) if how == "load" else type(model).__mro__[1]
    return kind.load(tmp_path / "model.npz")


@pytest.fixture(scope="module")
def trained(pair, matrix):
    """A model of each kind on the GPU; tests must not change it."""
    return {als: pair[1], bpr: fitted(bpr, matrix, True)}


@pytest.mark.parametrize("make", [als, bpr])
@pytest.mark.parametrize("how", ["pickle", "deepcopy", "to_cpu", "to_cpu.to_gpu", "load", "load by the public class"])
def test_a_copy_gives_the_same_results_and_can_go_on(trained, make, matrix, how, tmp_path):
    model = trained[make]
    before = model.recommend(np.arange(USERS), matrix, N=5)
    other = copies(model, how, tmp_path)
    assert other.use_gpu == (how != "to_cpu")
    assert type(other).__module__ == f"implicit_core.{'cpu' if how == 'to_cpu' else 'gpu'}.{make.__name__}"
    assert_same_ranking(other.recommend(np.arange(USERS), matrix, N=5), before)
    assert {**other.get_params(), "use_gpu": True} == {**model.get_params(), "use_gpu": True} or how == "to_cpu"
    other.iterations = 1
    other.fit(matrix, show_progress=False)
    for one, two in zip(model.recommend(np.arange(USERS), matrix, N=5), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_float16_survives_a_file_and_becomes_float32_on_the_cpu(matrix, tmp_path):
    half = fitted(als, matrix, True, dtype=np.float16)
    file = io.BytesIO()
    half.save(file)
    file.seek(0)
    loaded = AlternatingLeastSquares.load(file)
    assert loaded.use_gpu
    assert loaded.dtype == loaded.user_factors.dtype == np.float16
    file.seek(0)
    on_cpu = implicit_core.cpu.als.AlternatingLeastSquares.load(file)
    assert on_cpu.dtype == np.float32
    assert_same_ranking(on_cpu.recommend(np.arange(USERS), matrix), half.recommend(np.arange(USERS), matrix), 1e-3)


def test_the_public_class_loads_on_the_cpu_what_the_gpu_lacks(matrix):
    file = io.BytesIO()
    fitted(als, matrix, False, dtype=np.float64).save(file)
    file.seek(0)
    assert not AlternatingLeastSquares.load(file).use_gpu
    file.seek(0)
    with pytest.raises(ModelLoadError, match="float64"):
        implicit_core.gpu.als.AlternatingLeastSquares.load(file)


@pytest.mark.parametrize(
    "layout",
    ["numpy", "float64", "Fortran", "strided", "contiguous", "padded by others", "interface", "Matrix", "DLPack"],
)
def test_factors_of_any_layout_can_be_set(cupy, matrix, pair, layout):
    on_cpu = pair[0]
    model = als(True)
    for side in ("user_factors", "item_factors"):
        host = getattr(on_cpu, side)
        device = cupy.asarray(host)
        spaced = cupy.asarray(np.full((len(host), 16), 7, np.float32))
        spaced[:, :12] = device
        interface = type("Of another library", (), {"__cuda_array_interface__": device.__cuda_array_interface__})()
        interface.kept = device
        dlpack = types.SimpleNamespace(__dlpack__=device.__dlpack__, __dlpack_device__=device.__dlpack_device__)
        given = {
            "numpy": host,
            "float64": host.astype(np.float64),
            "Fortran": cupy.asarray(np.ascontiguousarray(host.T)).T,
            "strided": cupy.asarray(np.repeat(host, 2, axis=1))[:, ::2],
            "contiguous": device,
            "padded by others": spaced[:, :12],
            "interface": interface,
            "Matrix": gpu.Matrix(device),
            "DLPack": dlpack,
        }
        setattr(model, side, given[layout])
    users = np.arange(USERS)
    for other in (copy.copy(model), model.to_cpu(), pickle.loads(pickle.dumps(model)), model):
        assert_same_ranking(other.recommend(users, matrix), on_cpu.recommend(users, matrix))
    assert isinstance(model.item_factors, cupy.ndarray)


def test_fits_go_on_from_what_other_libraries_hold(matrix, pair):
    models = [als(True, iterations=1), als(True, iterations=1)]
    for model, kind in zip(models, (np.asarray, gpu.Matrix), strict=True):
        for side in ("user_factors", "item_factors"):
            setattr(model, side, kind(getattr(pair[0], side)))
        model.fit(matrix, show_progress=False)
    np.testing.assert_array_equal(models[0].user_factors.get(), models[1].user_factors.get())


def test_a_kernel_may_take_as_much_shared_memory_in_one_thread_as_in_another(fake, monkeypatch):
    """What a launch allows must not forbid another that is about to start."""
    modules = importlib.import_module("implicit_core.gpu._modules")
    allowed = []

    class Kernel:
        shared_size_bytes = 16
        max_dynamic_shared_size_bytes = property(None, lambda self, size: allowed.append(size))

        def __call__(self, *args, **options): ...

    monkeypatch.setattr(modules, "_function", lambda *given: Kernel())
    for shared in (40_000, 60_000, 50_000):
        modules.launch("file", "kernel", {}, (1,), 32, (), shared)
    assert allowed == [modules.limits().shared_per_block - 16] * 2


@pytest.mark.parametrize("k", [1, ITEMS + 5])
def test_padding_candidates_and_filters_are_those_of_the_cpu(matrix, pair, k):
    users = np.arange(USERS)
    for options in (
        {"filter_items": [3, 1]},
        {"items": [5, 2, 40], "filter_already_liked_items": False},
        {"items": np.arange(20)},
    ):
        found, expected = (model.recommend(users, matrix, N=k, **options) for model in reversed(pair))
        assert_same_ranking(found, expected)
        assert found[0].dtype == expected[0].dtype
        np.testing.assert_array_equal(found[0] < 0, expected[0] < 0)
    found, expected = (model.similar_users(users, N=k, filter_users=[4]) for model in reversed(pair))
    assert_same_ranking(found, expected)
    one = pair[1].similar_items(4, N=k, items=[1, 2, 3])
    assert_same_ranking(one, pair[0].similar_items(4, N=k, items=[1, 2, 3]))


def test_subclasses_may_search_in_arrays_of_their_own(pair):
    model, factors = pair[1], pair[1].item_factors.copy()
    found = model._get_similarity_score(factors[[3, 5]], None, factors, None, 6)
    assert_same_ranking(found, model.similar_items([3, 5], 6))


def test_many_results_are_sorted_and_few_queries_are_shared_out(fake, monkeypatch):
    kernels = importlib.import_module("implicit_core.gpu.kernels")
    random = np.random.default_rng(0)
    items, queries = random.standard_normal((9000, 8), np.float32), random.standard_normal((3, 8), np.float32)
    exact = queries @ items.T
    exclude = Counts(np.array([0, 2, 2, 3]), np.array([5, 8, 1], np.int32), np.ones(3, np.float32), (3, 9000))
    exact[0, [5, 8]] = exact[2, 1] = np.finfo(np.float32).min
    index = kernels.prepare(kernels.as_factors(items))
    for k in (5, 4000, 9000):
        fake.launches.clear()
        ids, scores = kernels.topk(kernels.as_factors(queries), index, k, exclude=exclude)
        assert ("topk_keys" in fake.launches) == (k > 3000)
        expected = np.sort(exact, axis=1)[:, ::-1][:, :k]
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            np.take_along_axis(exact, ids.astype(np.int64), axis=1), scores, rtol=1e-5, atol=1e-5
        )


# Which device


LACKING = [
    (AlternatingLeastSquares, {"dtype": np.float64}),
    (AlternatingLeastSquares, {"dtype": "float64"}),
    (AlternatingLeastSquares, {"use_cg": False}),
    (AlternatingLeastSquares, {"use_native": False}),
    (BayesianPersonalizedRanking, {"dtype": np.float64}),
]


@pytest.mark.parametrize(("kind", "parameters"), LACKING, ids=str)
def test_what_the_gpu_lacks_stays_on_the_cpu_unless_it_is_asked_for(kind, parameters, matrix):
    (name,) = parameters
    assert not kind(**parameters).use_gpu
    with pytest.raises(ValueError, match=f"use_gpu=True cannot be met: the GPU does not offer {name}"):
        kind(use_gpu=True, **parameters)
    with pytest.raises(ValueError, match=f"to_gpu cannot be met: the GPU does not offer {name}"):
        kind(use_gpu=False, **parameters).to_gpu()
    model = kind()
    assert model.use_gpu
    model.set_params(**parameters) if name in model.get_params() else setattr(model, name, parameters[name])
    with pytest.raises(ValueError, match=name):
        model.fit(matrix, show_progress=False)


def test_models_without_a_gpu_version_stay_on_the_cpu(matrix):
    model = LogisticMatrixFactorization(factors=3, iterations=1)
    assert not model.use_gpu
    model.fit(matrix, show_progress=False)
    with pytest.raises(ValueError, match="logistic"):
        model.to_gpu()
    with pytest.raises(NotImplementedError):
        LogisticMatrixFactorization(use_gpu=True)


def test_a_subclass_moves_with_its_parameter(matrix):
    class Own(AlternatingLeastSquares):
        pass

    model = Own(factors=12, iterations=1, random_state=1)
    assert model.use_gpu
    model.fit(matrix, show_progress=False)
    model.set_params(use_gpu=False)
    assert isinstance(model.user_factors, np.ndarray)
    before = model.recommend(0, matrix[0])
    moved = model.to_gpu()
    assert type(moved) is Own
    assert moved.use_gpu
    assert moved.to_gpu() is moved
    assert_same_ranking(moved.recommend(0, matrix[0]), before)
    assert isinstance(moved.user_factors, np.ndarray) is False


def test_models_over_an_index_take_models_on_the_gpu(matrix):
    from implicit_core.ann._base import ApproximateModel

    class Exhaustive(ApproximateModel):
        def _build(self, vectors, cosine):
            return vectors

        def _nearest(self, index, queries, k, threads):
            return np.argsort(-(queries @ index.T), axis=1)[:, :k]

        def _check_parameters(self): ...

        def _index_parameters(self):
            return {}

    wide = sparse.hstack([matrix] * 40).tocsr()
    model = fitted(als, wide, True, iterations=1)
    over = Exhaustive(model)
    users = np.arange(USERS)
    assert_same_ranking(over.recommend(users, wide, N=2), model.recommend(users, wide, N=2))
    assert_same_ranking(over.similar_items([1, 4], N=2), model.similar_items([1, 4], N=2))


# Memory


def measured(fake, call):
    """Bytes that a call takes at its peak beyond what was in use."""
    before = fake.allocator.peak = fake.allocator.used
    call()
    return fake.allocator.peak - before


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_training_stays_within_the_stated_memory(fake, matrix, dtype):
    kernels = importlib.import_module("implicit_core.gpu.kernels")
    model = als(True, dtype=dtype, calculate_training_loss=True)
    bound = sum(kernels.training_bytes(matrix.shape, matrix.nnz, 12, dtype))
    assert 0.2 * bound < measured(fake, lambda: model.fit(matrix, show_progress=False)) <= bound
    ranking = bpr(True)
    bound = sum(kernels.training_bytes(matrix.shape, matrix.nnz, 8, np.float32, orders=1))
    assert measured(fake, lambda: ranking.fit(matrix, show_progress=False)) <= bound


def test_results_take_no_more_work_space_than_the_bound(fake, monkeypatch):
    random = np.random.default_rng(0)
    model = als(True)
    model.user_factors = random.random((100, 8), np.float32)
    model.item_factors = random.random((300, 8), np.float32)
    users = np.arange(100)
    whole = model.recommend(users, None, filter_already_liked_items=False)
    for space in (2**14, 2**16):
        monkeypatch.setattr("implicit_core.gpu._work.WORK_BYTES", space)
        for call in (
            lambda: model.recommend(users, None, filter_already_liked_items=False),
            lambda: model.similar_items(np.arange(100)),
            lambda: model.item_norms,
        ):
            queries = 2 * 100 * 8 * 4
            assert measured(fake, call) <= space + 24 * 300 + queries + 20 * fake.ALIGNMENT
    parts = model.recommend(users, None, filter_already_liked_items=False)
    for one, two in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_model_that_is_too_large_says_how_much_it_needs(fake, matrix):
    fake.settings.memory = fake.allocator.used + 2**14
    for make in (als, bpr):
        model = make(True, factors=1000)
        with pytest.raises(MemoryError, match=r"training needs .* GB .* are free; take fewer factors"):
            model.fit(matrix, show_progress=False)
        assert model.user_factors is None


# Names


def test_what_lies_on_the_gpu_has_its_names():
    assert gpu.HAS_CUDA is True
    assert gpu.why_not() == ""
    assert isinstance(AlternatingLeastSquares(), implicit_core.gpu.als.AlternatingLeastSquares)
    assert isinstance(BayesianPersonalizedRanking(), implicit_core.gpu.bpr.BayesianPersonalizedRanking)
    assert implicit_core.gpu.als.AlternatingLeastSquares().factors == 64
    assert not isinstance(AlternatingLeastSquares(use_gpu=False), implicit_core.gpu.als.AlternatingLeastSquares)
