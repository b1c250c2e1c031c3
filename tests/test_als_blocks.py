"""Alternating least squares by blocks of factors (iALS++)."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu import kernels
from implicit_core.datasets.synthetic import make_implicit
from implicit_core.utils import ParameterWarning

SIDES = ("user_factors", "item_factors")


@pytest.fixture(scope="module")
def matrix():
    return make_implicit(150, 100, 3000, random_state=0)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def fitted(matrix, **parameters):
    defaults = {"factors": 20, "iterations": 3, "random_state": 1, "num_threads": 1, "use_cg": False}
    model = AlternatingLeastSquares(**{**defaults, **parameters})
    model.fit(matrix, show_progress=False)
    return model


def losses_of(matrix, **parameters):
    losses = []
    model = AlternatingLeastSquares(20, use_cg=False, random_state=1, calculate_training_loss=True, **parameters)
    model.fit(matrix, show_progress=False, callback=lambda *report: losses.append(report[2]))
    return losses


@pytest.mark.parametrize("block_size", [20, 21, 2**31 - 1])
def test_a_block_of_all_factors_is_the_exact_solution(matrix, dtype, block_size):
    exact, blocks = (fitted(matrix, dtype=dtype, block_size=size) for size in (None, block_size))
    for side in SIDES:
        np.testing.assert_array_equal(getattr(blocks, side), getattr(exact, side))


@pytest.mark.parametrize("block_size", [1, 6, 16])
@pytest.mark.parametrize("loss", [{}, {"unobserved_weight": 0.1, "regularization_exponent": 1.0, "init_scale": 0.1}])
def test_the_loss_falls_from_iteration_to_iteration_to_that_of_exact_solutions(matrix, block_size, loss):
    losses = losses_of(matrix, block_size=block_size, iterations=60, dtype=np.float64, **loss)
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(losses))
    assert losses[-1] < 1.02 * losses_of(matrix, iterations=60, dtype=np.float64, **loss)[-1]


@pytest.mark.parametrize("loss", [{}, {"unobserved_weight": 0.1, "regularization_exponent": 1.0, "init_scale": 0.1}])
def test_the_array_programs_give_the_factors_of_the_kernels(matrix, dtype, loss):
    native, arrays = (
        fitted(matrix, dtype=dtype, block_size=6, use_native=native, iterations=1, **loss) for native in (True, False)
    )
    for side in SIDES:
        np.testing.assert_allclose(
            getattr(native, side), getattr(arrays, side), rtol=0, atol=2e-4 if dtype == np.float32 else 1e-11
        )


def test_the_work_in_pieces_and_on_threads_gives_the_same_bits(matrix, dtype, monkeypatch):
    whole = fitted(matrix, dtype=dtype, block_size=6)
    monkeypatch.setattr(kernels, "THREAD_WORK", 1)
    monkeypatch.setattr(kernels, "PIECE_FLOP", 1e4)
    for threads in (1, 2, 3):
        model = fitted(matrix, dtype=dtype, block_size=6, num_threads=threads)
        for side in SIDES:
            np.testing.assert_array_equal(getattr(model, side), getattr(whole, side))


def test_the_solver_takes_the_blocks_and_recalculated_rows_are_exact(matrix):
    model = fitted(matrix, block_size=6)
    exact = fitted(matrix, block_size=6)
    exact.block_size = None
    np.testing.assert_array_equal(
        model.recalculate_user(np.arange(150), matrix), exact.recalculate_user(np.arange(150), matrix)
    )
    solved, start = model.user_factors.copy(), fitted(matrix, block_size=6)
    model.solver(matrix, solved, model.item_factors, model.regularization)
    start.iterations, items = 1, start.item_factors.copy()
    start.fit(matrix, show_progress=False)
    np.testing.assert_array_equal(solved, start.user_factors)
    assert not np.array_equal(items, start.item_factors)


@pytest.mark.parametrize("value", [0, -1, 2**31, 1.5, "all", [2], True])
def test_a_size_that_is_none_is_refused(matrix, value):
    with pytest.raises((TypeError, ValueError), match="block_size must be"):
        fitted(matrix, block_size=value)


def test_blocks_are_no_conjugate_gradient(matrix):
    with pytest.raises(ValueError, match="block_size=8 needs use_cg=False, since blocks are solved exactly"):
        fitted(matrix, block_size=8, use_cg=True)
    with pytest.raises(ValueError, match="use_cg=False"):
        AlternatingLeastSquares(use_cg=False, block_size=8, use_gpu=True)


def test_files_keep_the_size(matrix, tmp_path):
    with pytest.warns(ParameterWarning, match="block_size=6"):
        fitted(matrix, block_size=6).save(tmp_path / "model")
    loaded = AlternatingLeastSquares.load(tmp_path / "model")
    assert (loaded.block_size, loaded.use_cg) == (6, False)
    assert "block_size=6" in repr(loaded)


def test_an_empty_matrix_gives_zeros():
    model = fitted(sparse.csr_matrix((4, 3), dtype=np.float32), block_size=6)
    assert not model.user_factors.any()
    assert not model.item_factors.any()
