"""The names of implicit.gpu, over CuPy arrays."""

import types

import numpy as np
import pytest
from scipy import sparse

import implicit_core.cpu.als
import implicit_core.gpu.als
from implicit_core import gpu

pytestmark = pytest.mark.usefixtures("cupy")


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_a_matrix_holds_rows(cupy):
    x = normal(5, 3)
    matrix = gpu.Matrix(x)
    assert matrix.shape == (5, 3)
    assert len(matrix) == 5
    np.testing.assert_array_equal(matrix.to_numpy(), x)
    np.testing.assert_array_equal(matrix[2].to_numpy(), x[2:3])
    np.testing.assert_array_equal(matrix[1:3].to_numpy(), x[1:3])
    np.testing.assert_array_equal(matrix[[4, 0]].to_numpy(), x[[4, 0]])
    np.testing.assert_array_equal(matrix[cupy.asarray([4, 0])].to_numpy(), x[[4, 0]])
    matrix.assign_rows([1, 3], x[:2])
    np.testing.assert_array_equal(matrix.to_numpy()[[1, 3]], x[:2])
    assert matrix.astype(np.float16).dtype == np.float16
    matrix.resize(7, 3)
    assert matrix.shape == (7, 3)
    assert not matrix.to_numpy()[5:].any()
    assert repr(gpu.Matrix(x)) == f"Matrix({x!r})"
    assert gpu.Matrix(None).shape == (0, 0)
    assert not gpu.Matrix.zeros(2, 3).to_numpy().any()


@pytest.mark.parametrize("rows", [5, -1, [0, 5]])
def test_unknown_rows_are_index_errors(rows):
    with pytest.raises(IndexError):
        gpu.Matrix(normal(5, 3))[rows]


def test_what_cannot_be_is_refused():
    for bad in (np.ones((2, 2)), np.ones(3, np.float32), np.ones((2, 2), int)):
        with pytest.raises(ValueError, match="float32 or float16"):
            gpu.Matrix(bad)
    matrix = gpu.Matrix(normal(5, 3))
    for call in (
        lambda: matrix.astype(np.float64),
        lambda: matrix.resize(4, 3),
        lambda: matrix.resize(6, 4),
        lambda: matrix.assign_rows([0], normal(2, 3)),
        lambda: gpu.KnnQuery().topk(matrix, gpu.Matrix(normal(2, 4)), 2),
        lambda: gpu.KnnQuery().topk(matrix, matrix, 2, query_filter=gpu.COOMatrix(sparse.coo_matrix((4, 5)))),
        lambda: gpu.LeastSquaresSolver().least_squares(gpu.CSRMatrix(sparse.eye(4).tocsr()), matrix, matrix, matrix, 3),
    ):
        with pytest.raises(ValueError, match=r"must|can get|do not go together"):
            call()


def test_arrays_of_the_gpu_are_shared_whatever_their_strides(cupy):
    wide = cupy.asarray(normal(6, 8))
    matrix = gpu.Matrix(wide[::2, 1:4])
    np.testing.assert_array_equal(matrix.to_numpy(), normal(6, 8)[::2, 1:4])
    matrix.assign_rows([0], np.zeros((1, 3), np.float32))
    assert not wide.get()[0, 1:4].any()
    interface = matrix.__cuda_array_interface__
    assert interface["shape"] == (3, 3)
    assert interface["strides"] == (64, 4)
    np.testing.assert_array_equal(
        gpu.Matrix(type("Other", (), {"__cuda_array_interface__": interface, "kept": wide})()).to_numpy(),
        matrix.to_numpy(),
    )
    assert matrix.__dlpack_device__()[0] == 2
    dlpack = types.SimpleNamespace(__dlpack__=matrix.__dlpack__, __dlpack_device__=matrix.__dlpack_device__)
    np.testing.assert_array_equal(gpu.Matrix(dlpack).to_numpy(), matrix.to_numpy())


@pytest.mark.parametrize("k", [1, 10, 60])
def test_the_best_items_are_those_of_a_sort(k):
    items, queries = normal(50, 9), normal(20, 9)[:, ::-1]
    norms = gpu.calculate_norms(gpu.Matrix(items))
    np.testing.assert_allclose(norms.to_numpy(), np.linalg.norm(items, axis=1)[None], rtol=1e-6)
    pairs = sparse.random(20, 50, 0.1, random_state=0, format="coo")
    for divided in (None, norms):
        scores = queries @ items.T / (1 if divided is None else divided.to_numpy())
        scores[pairs.row, pairs.col] = scores[:, [4, 7]] = np.finfo(np.float32).min
        ids, found = gpu.KnnQuery().topk(
            gpu.Matrix(items),
            gpu.Matrix(np.ascontiguousarray(queries)),
            k,
            divided,
            gpu.COOMatrix(pairs),
            gpu.IntVector([7, 4]),
        )
        expected = -np.sort(-scores, axis=1)[:, :k]
        np.testing.assert_allclose(found[:, :50], expected, rtol=1e-5, atol=1e-5)
        assert ids.dtype == np.int32
        assert (ids[:, 50:] == -1).all()


def test_random_numbers_are_those_of_the_seed():
    for draw in (lambda r: r.uniform(200, 30, -1.0, 3.0), lambda r: r.randn(200, 30, 2.0, 0.5)):
        one, two, other = (draw(gpu.RandomState(seed)).to_numpy() for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, two)
        assert (one != other).any()
    uniform = gpu.RandomState().uniform(200, 30, -1.0, 3.0).to_numpy()
    assert uniform.min() >= -1
    assert uniform.max() < 3
    assert abs(uniform.mean() - 1) < 0.1


def test_the_solver_takes_the_steps_of_the_cpu():
    confidences = sparse.random(40, 30, 0.2, random_state=0, format="csr", dtype=np.float32)
    confidences.data += 1
    X, Y = normal(40, 6), normal(30, 6)
    solver, x, y, yty = gpu.LeastSquaresSolver(), gpu.Matrix(X), gpu.Matrix(Y), gpu.Matrix.zeros(6, 6)
    solver.calculate_yty(y, yty, 0.5)
    np.testing.assert_allclose(yty.to_numpy(), Y.T @ Y + 0.5 * np.eye(6), rtol=1e-5, atol=1e-5)
    solver.least_squares(gpu.CSRMatrix(confidences), x, yty, y, 3)
    expected = X.copy()
    implicit_core.cpu.als.least_squares_cg(confidences, expected, Y, 0.5)
    np.testing.assert_allclose(x.to_numpy(), expected, rtol=0, atol=1e-4)
    loss = solver.calculate_loss(gpu.CSRMatrix(confidences), x, y, 0.5)
    assert loss == pytest.approx(implicit_core.cpu.als.calculate_loss(confidences, x.to_numpy(), Y, 0.5), rel=1e-5)


def test_the_solver_writes_to_arrays_of_the_host():
    confidences = sparse.random(40, 30, 0.2, random_state=0, format="csr", dtype=np.float32)
    solver, x, y, yty = gpu.LeastSquaresSolver(), normal(40, 6), normal(30, 6), np.zeros((6, 6), np.float32)
    on_gpu, gram = gpu.Matrix(x), gpu.Matrix.zeros(6, 6)
    for given, rows in ((yty, x), (gram, on_gpu)):
        solver.calculate_yty(y, given, 0.5)
        solver.least_squares(gpu.CSRMatrix(confidences), rows, given, y, 3)
    np.testing.assert_array_equal(yty, gram.to_numpy())
    np.testing.assert_array_equal(x, on_gpu.to_numpy())
    assert (x != normal(40, 6)).any()


@pytest.mark.parametrize("halved", ["X", "Y"])
def test_the_loss_takes_matrices_of_different_types(cupy, halved):
    confidences = sparse.random(40, 30, 0.2, random_state=0, format="csr", dtype=np.float32)
    given = {"X": normal(40, 5), "Y": normal(30, 5)}
    given[halved] = given[halved].astype(np.float16)
    expected = implicit_core.cpu.als.calculate_loss(confidences, *(f.astype(np.float32) for f in given.values()), 0.5)
    matrices = map(gpu.Matrix, given.values())
    found = gpu.LeastSquaresSolver().calculate_loss(gpu.CSRMatrix(confidences), *matrices, 0.5)
    arrays = map(cupy.asarray, given.values())
    assert found == implicit_core.gpu.als.calculate_loss(confidences, *arrays, 0.5) == pytest.approx(expected, rel=1e-5)


def test_there_is_a_device():
    assert gpu.get_device_count() >= 1
    with pytest.raises(AttributeError, match="nothing"):
        gpu.nothing  # noqa: B018  # the access is what is tested
