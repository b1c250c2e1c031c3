"""What a user, a callback or a file may do to a model, and what must come of it."""

import json

import numpy as np
import pytest
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu.als import calculate_loss, least_squares, least_squares_cg, user_linear_equation
from implicit_core.recommender_base import ModelFitError, ModelLoadError


@pytest.fixture
def matrix():
    return sparse.random(40, 25, 0.2, format="csr", random_state=1, dtype=np.float32)


@pytest.fixture
def model(matrix):
    fitted = AlternatingLeastSquares(factors=8, iterations=3, random_state=0)
    fitted.fit(matrix, show_progress=False)
    return fitted


@pytest.mark.parametrize("steps", [-1, 0, 2**40])
def test_steps_out_of_range_reach_no_kernel(model, matrix, steps):
    X, Y = np.ones((40, 8)), np.ones((25, 8))
    with pytest.raises(ValueError, match="cg_steps must be at"):
        least_squares_cg(matrix, X, Y, 0.1, 0, steps)
    model.cg_steps = steps
    with pytest.raises(ValueError, match="cg_steps must be at"):
        model.solver(matrix, X, Y, 0.1)
    with pytest.raises(ValueError, match="cg_steps must be at"):
        model.fit(matrix, show_progress=False)
    assert (X == 1).all()


@pytest.mark.parametrize("regularization", [None, np.nan, -1, "0.1", 1e39])
def test_regularization_of_a_half_step_is_checked(matrix, regularization):
    with pytest.raises((TypeError, ValueError), match="regularization must be"):
        least_squares(matrix, np.ones((40, 8)), np.ones((25, 8)), regularization)


@pytest.mark.parametrize("side", ["user_factors", "item_factors"])
@pytest.mark.parametrize("part", [np.s_[:1], np.s_[:, :3]], ids=["rows", "columns"])
def test_a_callback_that_puts_factors_of_another_shape_is_refused(matrix, side, part):
    model = AlternatingLeastSquares(factors=8, iterations=3, random_state=0)
    with pytest.raises(ValueError, match=f"{side} must have shape"):
        model.fit(
            matrix, show_progress=False, callback=lambda *_: setattr(model, side, getattr(model, side)[part].copy())
        )


def test_a_callback_may_write_into_the_factors(matrix):
    def fit(change):
        model = AlternatingLeastSquares(factors=4, iterations=3, random_state=0, use_cg=False)
        model.fit(matrix, show_progress=False, callback=lambda *_: change(model))
        return model.user_factors

    def in_place(model):
        model.item_factors *= 2

    def anew(model):
        model.item_factors = model.item_factors * 2

    assert np.array_equal(fit(in_place), fit(anew))


@pytest.mark.parametrize("seed", [2**63, 2**100, 0, 7])
def test_a_seed_of_any_size_saves(tmp_path, matrix, seed):
    model = AlternatingLeastSquares(factors=2, random_state=seed)
    model.fit(matrix, show_progress=False)
    model.save(tmp_path / "model.npz")
    assert AlternatingLeastSquares.load(tmp_path / "model.npz").random_state == seed


def test_a_generator_that_could_not_be_read_back_is_refused_on_save(tmp_path):
    class Own(np.random.PCG64):
        pass

    model = AlternatingLeastSquares(random_state=np.random.Generator(Own(3)))
    with pytest.raises(ValueError, match="Own cannot be stored"):
        model.save(tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, bool, np.int64, np.float16])
def test_duplicate_entries_add_up_as_floats(dtype):
    values = np.array([100, 100]).astype(dtype)
    doubled = sparse.csr_matrix((values, [0, 0], [0, 2, 2]), shape=(2, 3))
    plain = sparse.csr_matrix(([2 * float(values[0])], [0], [0, 1, 1]), shape=(2, 3))
    factors = []
    for cells in (doubled, plain):
        model = AlternatingLeastSquares(factors=3, iterations=2, random_state=0)
        model.fit(cells, show_progress=False)
        factors.append(model.user_factors)
    assert np.array_equal(*factors)


def test_parameters_can_be_set_as_they_can_be_given(matrix):
    model = AlternatingLeastSquares(factors=4, iterations=1).set_params(dtype="float64", use_native=False)
    model.fit(matrix, show_progress=False)
    assert model.item_factors.dtype == np.float64

    class Own(AlternatingLeastSquares):
        pass

    assert Own().set_params(**Own(factors=3).get_params()).factors == 3
    with pytest.raises(ValueError, match="use_gpu"):
        Own().set_params(use_gpu=True)
    before = model.get_params()
    with pytest.raises(ValueError, match="no_such"):
        model.set_params(factors=99, no_such=1)
    assert model.get_params() == before


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_the_loss_of_no_cells_is_zero(shape):
    losses = []
    model = AlternatingLeastSquares(factors=3, iterations=2, calculate_training_loss=True)
    empty = sparse.csr_matrix(shape, dtype=np.float32)
    model.fit(empty, show_progress=False, callback=lambda *report: losses.append(report[2]))
    assert losses == [0, 0]
    assert calculate_loss(empty, np.ones((shape[0], 2)), np.ones((shape[1], 2)), 0.0) == 0


def test_a_refused_fit_leaves_the_model_as_it_was(matrix):
    model = AlternatingLeastSquares(factors=3)
    model.item_factors = np.ones((7, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="item_factors must have shape"):
        model.fit(matrix, show_progress=False)
    assert model.user_factors is None


def test_factors_that_ran_away_say_how_to_start_anew(matrix):
    model = AlternatingLeastSquares(factors=3, random_state=0)
    model.fit(matrix, show_progress=False)
    model.item_factors[0] = np.nan
    with pytest.raises(ModelFitError, match="set user_factors and item_factors to None"):
        model.fit(matrix, show_progress=False)
    model.user_factors = model.item_factors = None
    model.fit(matrix, show_progress=False)
    assert np.isfinite(model.item_factors).all()


def test_arrays_longer_than_a_matrix_needs_do_no_harm(model, matrix):
    longer = matrix.copy()
    longer.indices = np.append(longer.indices, np.int32(99))
    longer.data = np.append(longer.data, np.float32(1))
    everyone = np.arange(40)
    assert np.array_equal(model.recommend(everyone, longer)[0], model.recommend(everyone, matrix)[0])
    assert np.array_equal(model.recalculate_user(everyone, longer), model.recalculate_user(everyone, matrix))


@pytest.mark.parametrize("call", ["recommend", "recalculate_user", "explain"])
@pytest.mark.parametrize("length", [0, 5])
def test_a_short_indptr_is_named(model, matrix, call, length):
    matrix.indptr = matrix.indptr[:length]
    arguments = {"explain": (3, matrix, 1)}.get(call, ([1, 2, 39], matrix))
    with pytest.raises(ValueError, match="not a valid CSR matrix"):
        getattr(model, call)(*arguments)


def test_a_solver_takes_the_steps_given_to_it(model, matrix):
    Y = np.random.default_rng(0).normal(size=(25, 8))
    X, expected = np.zeros((40, 8)), np.zeros((40, 8))
    model.solver(matrix, X, Y, 0.1, num_threads=1, cg_steps=2)
    least_squares_cg(matrix, expected, Y, 0.1, cg_steps=2)
    assert np.array_equal(X, expected)


def test_one_id_and_sets_of_ids_filter(model, matrix):
    expected = model.recommend(3, matrix[3], filter_items=[4])
    for given in (4, {4}, np.int64(4)):
        assert np.array_equal(model.recommend(3, matrix[3], filter_items=given)[0], expected[0])
    assert np.array_equal(model.recommend(3, matrix[3], filter_items=set())[0], model.recommend(3, matrix[3])[0])


def test_no_ids_and_masks_of_users_to_recalculate(model, matrix):
    assert model.recalculate_user([], matrix).shape == (0, 8)
    assert model.recommend([], matrix, recalculate_user=True)[0].shape == (0, 10)
    mask = np.zeros(40, dtype=bool)
    mask[[3, 30]] = True
    assert np.array_equal(model.recalculate_user(mask, matrix), model.recalculate_user([3, 30], matrix))
    assert model.recommend(mask, matrix, recalculate_user=True)[0].shape == (2, 10)


def test_a_one_dimensional_row_is_for_one_user(model, matrix):
    row = sparse.coo_array(matrix[[3]].toarray()[0])
    if row.ndim != 1:
        pytest.skip("this scipy has no one-dimensional sparse arrays")
    assert np.array_equal(model.recommend(3, row)[0], model.recommend(3, matrix[3])[0])
    with pytest.raises(ValueError, match="row for each userid"):
        model.recommend([3], row)


@pytest.mark.parametrize("u", [-1, 40, 1.5])
def test_the_linear_system_of_an_unknown_user_is_an_error(matrix, u):
    with pytest.raises(IndexError, match="u must hold"):
        user_linear_equation(np.ones((25, 2)), np.eye(2), matrix, u, 0.1, 2)


def test_half_precision_counts_work_like_single(model, matrix):
    half = matrix.copy()
    half.data = np.ones_like(half.data, dtype=np.float16)
    ones = matrix.copy()
    ones.data = np.ones_like(ones.data)
    assert np.array_equal(model.recalculate_user(1, half), model.recalculate_user(1, ones))
    assert model.explain(1, half, 1)[0] == model.explain(1, ones, 1)[0]


@pytest.mark.parametrize("parameters", [{"regularization": 1e39}, {"alpha": 1e39}, {"alpha": np.inf}])
def test_huge_parameters_are_errors_not_warnings(matrix, parameters):
    with pytest.raises(ValueError, match=f"{next(iter(parameters))} must be a number from"):
        AlternatingLeastSquares(**parameters).fit(matrix, show_progress=False)


def test_norms_of_huge_factors_do_not_overflow(model):
    model.item_factors[3] = 1e30
    assert model.item_norms[3] == pytest.approx(np.sqrt(8) * 1e30)
    assert model.similar_items(3)[1][0] == pytest.approx(1)


def test_explaining_without_a_unique_solution_says_what_to_do(matrix):
    model = AlternatingLeastSquares(factors=30, regularization=0.0, iterations=1, random_state=0)
    model.fit(matrix, show_progress=False)
    model.item_factors[:, 3] = 0
    with pytest.raises(ModelFitError, match="raise regularization"):
        AlternatingLeastSquares.explain(_reset(model), 0, matrix, 1)


def _reset(model):
    """The model without what it keeps of its factors."""
    model.item_factors = model.item_factors.copy()
    return model


@pytest.mark.parametrize("change", [{"factors": "abc"}, {"alpha": "x"}, {"num_threads": "q"}, {"dtype": np.zeros(3)}])
def test_a_file_with_an_impossible_parameter_is_refused(tmp_path, model, change):
    model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as members:
        state = dict(members)
    np.savez(tmp_path / "bad.npz", **{**state, **change})
    with pytest.raises(ModelLoadError):
        AlternatingLeastSquares.load(tmp_path / "bad.npz")


def test_random_state_of_a_file_is_json_text(tmp_path):
    AlternatingLeastSquares(random_state=np.random.default_rng(5)).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as members:
        assert json.loads(str(members["random_state"]))["generator"]["bit_generator"] == "PCG64"


def test_a_warning_points_at_the_caller(model, matrix):
    for call in (
        lambda: model.similar_items(3, recalculate_item=True, item_users=matrix.T.tocsr()[[3]].tocoo()),
        lambda: calculate_loss(matrix.tocoo(), np.ones((40, 2)), np.ones((25, 2)), 0.1),
        lambda: model.explain(3, matrix.tocoo(), 1),
    ):
        with pytest.warns(match="Method expects CSR input") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]
