"""The import paths and helpers of `implicit` that other packages use, at their old places."""

import importlib
import inspect
import warnings

import numpy as np
import pytest
from scipy import sparse

import implicit_core
from implicit_core import gpu, utils
from implicit_core.cpu.matrix_factorization_base import MatrixFactorizationBase, _filter_items_from_sparse_matrix

NO_SCORE = np.finfo(np.float32).min


@pytest.fixture(scope="module")
def implicit():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("implicit", reason="compares with implicit, which is not installed")


@pytest.mark.parametrize(
    "path",
    [
        *("als", "bpr", "nearest_neighbours", "_nearest_neighbours", "recommender_base", "utils", "cpu", "cpu.als"),
        *("cpu.bpr", "cpu.matrix_factorization_base", "cpu.topk", "gpu", "gpu.als", "gpu.bpr"),
        *("gpu.matrix_factorization_base",),
    ],
)
def test_import_of_the_package_loads_what_that_of_implicit_loads(path, run_python):
    script = f"import implicit_core, sys; sys.exit(implicit_core.{path}.__name__ != 'implicit_core.{path}')"
    result = run_python("-c", script)
    assert result.returncode == 0, result.stderr


def test_import_of_the_package_leaves_out_what_few_calls_need_and_takes_long(run_python):
    script = (
        "import numpy, scipy.sparse, sys; known = set(sys.modules); import implicit_core; "
        "sys.exit(bool({'tqdm', 'asyncio', 'scipy.linalg', 'h5py', 'pandas'} & (set(sys.modules) - known)))"
    )
    assert run_python("-c", script).returncode == 0


# The GPU, where there is none


PUBLIC = {"als": "AlternatingLeastSquares", "bpr": "BayesianPersonalizedRanking"}


@pytest.mark.parametrize(("module", "name"), PUBLIC.items())
def test_models_on_the_gpu_say_why_there_is_none(module, name):
    model = getattr(importlib.import_module(f"implicit_core.gpu.{module}"), name)
    with pytest.raises(ValueError, match="use_gpu=True cannot be met") as caught:
        model()
    assert gpu.why_not() in str(caught.value)
    with pytest.raises(ValueError, match="use_gpu=True cannot be met"):
        model.load("no such file")


def test_what_else_needs_a_gpu_says_so():
    class Model(implicit_core.gpu.matrix_factorization_base.MatrixFactorizationBase):
        def fit(self, user_items, show_progress=True, callback=None):
            raise NotImplementedError

    with pytest.raises(ValueError, match="use_gpu=True cannot be met"):
        Model()
    with pytest.raises(ValueError, match="use_gpu=True cannot be met"):
        implicit_core.gpu.als.calculate_loss(sparse.eye(2).tocsr(), np.ones((2, 1)), np.ones((2, 1)), 0.1)


@pytest.mark.parametrize(("module", "name"), PUBLIC.items())
def test_a_model_on_the_cpu_is_of_no_class_of_the_gpu(module, name):
    public, on_cpu, on_gpu = (
        getattr(importlib.import_module(f"implicit_core.{path}{module}"), name) for path in ("", "cpu.", "gpu.")
    )
    model = public()
    assert isinstance(model, on_cpu)
    assert not isinstance(model, on_gpu)
    assert isinstance(model, MatrixFactorizationBase)
    assert issubclass(on_gpu, public)
    assert issubclass(on_gpu, implicit_core.gpu.matrix_factorization_base.MatrixFactorizationBase)
    assert not gpu.HAS_CUDA
    assert not gpu.HAS_RMM


@pytest.mark.parametrize(("module", "name"), PUBLIC.items())
def test_models_on_the_gpu_take_the_same_parameters(module, name, implicit):
    mine, theirs = (
        inspect.signature(getattr(getattr(package.gpu, module), name)).parameters.values()
        for package in (implicit_core, implicit)
    )
    positional = [(p.name, p.default) for p in mine if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [(p.name, p.default) for p in theirs]


# Calls one by one


def by_id(userid, N=10, **others):
    """As many results as the id says."""
    calls.append((userid, N, others))
    return np.arange(userid), np.arange(userid) / 2


calls = []


def assert_same(mine, theirs):
    for ours, other in zip(mine, theirs, strict=True):
        assert ours.dtype == other.dtype
        np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("ids", [[1, 4, 0], np.array([2, 2]), []])
@pytest.mark.parametrize("options", [{"N": 3}, {}, {"N": 0}, {"N": 3, "id_dtype": np.int64, "score_dtype": np.float64}])
def test_batches_are_filled_up_or_cut(ids, options, implicit):
    assert_same(utils._batch_call(by_id, ids, **options), implicit.utils._batch_call(by_id, ids, **options))


def test_each_call_of_a_batch_gets_its_rows():
    matrix = sparse.csr_matrix(np.arange(12.0).reshape(3, 4))
    calls.clear()
    ids, scores = utils._batch_call(by_id, [2, 0, 1], N=2, user_items=matrix, item_users=None, filter_items=[3])
    np.testing.assert_array_equal(ids, [[0, 1], [-1, -1], [0, -1]])
    np.testing.assert_array_equal(scores, np.float32([[0, 0.5], [NO_SCORE, NO_SCORE], [0, NO_SCORE]]))
    assert [(userid, N) for userid, N, _ in calls] == [(2, 2), (0, 2), (1, 2)]
    for row, (_, _, others) in enumerate(calls):
        assert others.keys() == {"user_items", "filter_items"}
        np.testing.assert_array_equal(others["user_items"].toarray(), matrix[[row]].toarray())


# Filters


IDS, SCORES = np.array([[5, 3, 9, 1], [5, 3, 2, 0]], dtype=np.int32), np.float32([[4, 3, 2, 1], [8, 7, 6, 5]])


@pytest.mark.parametrize("filtered", [[3], np.array([3, 9]), [], None, [77]])
@pytest.mark.parametrize("N", [0, 2, 4])
def test_results_are_filtered(filtered, N, implicit):
    mine, theirs = (module._filter_items_from_results for module in (utils, implicit.utils))
    assert_same(mine(0, IDS[0], SCORES[0], filtered, N), theirs(0, IDS[0], SCORES[0], filtered, N))
    if filtered is not None and N <= 2:
        assert_same(mine([7, 8], IDS, SCORES, filtered, N), theirs([7, 8], IDS, SCORES, filtered, N))


def test_rows_of_a_batch_that_lose_more_are_filled_up():
    ids, scores = utils._filter_items_from_results([7, 8], IDS, SCORES, {9}, 4)
    np.testing.assert_array_equal(ids, [[5, 3, 1, -1], [5, 3, 2, 0]])
    np.testing.assert_array_equal(scores, np.float32([[4, 3, 1, NO_SCORE], [8, 7, 6, 5]]))


@pytest.mark.parametrize("items", [[1, 3, 5], [0], [5], [0, 1, 2, 3, 4, 5], [4, 9]])
@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array])
def test_entries_move_to_the_places_of_their_columns(items, container, implicit, unmodified):
    matrix = container(np.array([[1, 0, 2, 0, 0, 3.0], [0, 4, 0, 5, 6, 0], [0, 0, 0, 0, 0, 0]]))
    with unmodified(matrix):
        mine = _filter_items_from_sparse_matrix(items, matrix)
    theirs = implicit.cpu.matrix_factorization_base._filter_items_from_sparse_matrix(np.array(items), matrix.copy())
    assert mine.format == "csr"
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_array_equal(mine.toarray(), theirs.toarray())
    assert mine.nnz == theirs.nnz


def test_entries_of_zero_stay_entries():
    matrix = sparse.csr_matrix((np.zeros(2), np.array([1, 4]), np.array([0, 2])), shape=(1, 6))
    np.testing.assert_array_equal(_filter_items_from_sparse_matrix([2, 4], matrix).indices, [1])


def test_more_items_than_columns_widen_the_matrix():
    matrix = sparse.csr_matrix(np.array([[0, 1.0]]))
    filtered = _filter_items_from_sparse_matrix([0, 0, 0, 1, 7], matrix)
    np.testing.assert_array_equal(filtered.toarray(), [[0, 0, 0, 1, 0]])


@pytest.mark.parametrize("items", [[], [3, 1], [[1, 2]], None, [0.5]])
def test_items_that_do_not_ascend_are_refused(items):
    with pytest.raises(ValueError, match="ascending ids"):
        _filter_items_from_sparse_matrix(items, sparse.csr_matrix((2, 6)))
