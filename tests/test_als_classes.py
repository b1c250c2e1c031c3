"""The classes of alternating least squares, public and of a device, and the functions of implicit_core.cpu.als."""

import inspect

import numpy as np
import pytest
from als_cases import FACTORS, assert_same_factors, confidence_and_preference, fitted, model_of, starting_factors
from als_cases import cells as cells
from als_cases import dtype as dtype
from als_cases import matrix as matrix

import implicit_core.cpu.als
from implicit_core.als import AlternatingLeastSquares
from implicit_core.cpu.als import least_squares, least_squares_cg
from implicit_core.recommender_base import NotFittedError

# The public class and those of the devices


ORDER = {
    "facade": [
        ("factors", 100),
        ("regularization", 0.01),
        ("alpha", 1.0),
        ("dtype", np.float32),
        ("use_native", True),
        ("use_cg", True),
        ("use_gpu", None),
        ("iterations", 15),
        ("calculate_training_loss", False),
        ("num_threads", 0),
        ("random_state", None),
    ],
}
ORDER["cpu"] = [pair for pair in ORDER["facade"] if pair[0] != "use_gpu"]
BEYOND = [
    ("cg_steps", 3),
    ("unobserved_weight", None),
    ("regularization_exponent", 0.0),
    ("init_scale", None),
]
CLASSES = {"facade": AlternatingLeastSquares, "cpu": implicit_core.cpu.als.AlternatingLeastSquares}


@pytest.mark.parametrize("place", CLASSES)
def test_the_signature_lists_the_parameters_in_the_order_of_the_place(place):
    for callable_ in (CLASSES[place], CLASSES[place].__init__):
        parameters = [p for p in inspect.signature(callable_).parameters.values() if p.name != "self"]
        assert [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ORDER[place]
        assert [(p.name, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY] == BEYOND


@pytest.mark.parametrize("place", CLASSES)
def test_positional_arguments_follow_that_order(place):
    values = {
        "factors": 11,
        "regularization": 0.5,
        "alpha": 2.5,
        "dtype": np.dtype(np.float64),
        "use_native": False,
        "use_cg": False,
        "use_gpu": False,
        "iterations": 7,
        "calculate_training_loss": True,
        "num_threads": 3,
        "random_state": 17,
    }
    model = CLASSES[place](*[values[name] for name, _ in ORDER[place]], cg_steps=5)
    assert {name: getattr(model, name) for name in values} == values
    assert model.cg_steps == 5
    assert CLASSES[place]().dtype == np.float32
    with pytest.raises(TypeError):
        CLASSES[place](*range(12))
    with pytest.raises(TypeError, match="nonsense"):
        CLASSES[place](nonsense=1)


@pytest.mark.parametrize("place", CLASSES)
def test_every_model_is_an_instance_of_both_classes(place):
    model = CLASSES[place](factors=3)
    assert isinstance(model, AlternatingLeastSquares)
    assert isinstance(model, implicit_core.cpu.als.AlternatingLeastSquares)
    assert issubclass(implicit_core.cpu.als.AlternatingLeastSquares, AlternatingLeastSquares)
    assert type(model).__module__ == "implicit_core.cpu.als"
    assert type(model).__qualname__ == "AlternatingLeastSquares"


class Loud(AlternatingLeastSquares):
    """A user's model with a parameter of its own."""

    def __init__(self, factors=4, volume=11, **rest):
        super().__init__(factors=factors, **rest)
        self.volume = volume

    def recommend(self, *args, **kwargs):
        ids, scores = super().recommend(*args, **kwargs)
        return ids, scores * self.volume


class CPULoud(implicit_core.cpu.als.AlternatingLeastSquares):
    """A user's subclass of the CPU class that adds nothing."""


def test_users_can_subclass_the_public_class(matrix):
    model = Loud(5, volume=2, random_state=1, iterations=3)
    assert type(model) is Loud
    model.fit(matrix, show_progress=False)
    plain = fitted(matrix, factors=5)
    assert_same_factors(model, plain)
    ids, scores = model.recommend(1, matrix[1])
    np.testing.assert_array_equal(ids, plain.recommend(1, matrix[1])[0])
    np.testing.assert_array_equal(scores, plain.recommend(1, matrix[1])[1] * 2)
    assert model.volume == 2
    assert model.get_params()["volume"] == 2
    assert repr(model) == "Loud(factors=5, volume=2)"


def test_users_can_subclass_the_cpu_class(matrix):
    model = CPULoud(FACTORS, 0.01, 1.0, np.float32, True, True, 3, random_state=1)
    model.fit(matrix, show_progress=False)
    assert type(model) is CPULoud
    assert_same_factors(model, fitted(matrix))


def test_a_gpu_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"use_gpu=True cannot be met: .*GPU.*use_gpu"):
        AlternatingLeastSquares(use_gpu=True)
    with pytest.raises(ValueError, match=r"to_gpu cannot be met: .*GPU"):
        AlternatingLeastSquares().to_gpu()
    assert AlternatingLeastSquares().use_gpu is False


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "AlternatingLeastSquares()"),
        ({"factors": 3, "alpha": 2.0}, "AlternatingLeastSquares(factors=3, alpha=2.0)"),
        ({"dtype": np.float64}, "AlternatingLeastSquares(dtype=dtype('float64'))"),
        ({"random_state": 5, "cg_steps": 4}, "AlternatingLeastSquares(random_state=5, cg_steps=4)"),
    ],
)
def test_repr_shows_what_differs_from_the_defaults(parameters, text):
    assert repr(AlternatingLeastSquares(**parameters)) == text
    again = eval(text, {"AlternatingLeastSquares": AlternatingLeastSquares, "dtype": np.dtype})
    assert again.get_params() == AlternatingLeastSquares(**parameters).get_params()


def test_get_params_and_set_params_are_the_constructor_s(matrix):
    model = implicit_core.cpu.als.AlternatingLeastSquares(factors=3, random_state=5)
    names = [name for name, _ in ORDER["cpu"] + BEYOND]
    assert list(model.get_params()) == names
    clone = type(model)(**model.get_params())
    assert clone.get_params() == model.get_params()
    assert clone.set_params(factors=FACTORS, random_state=1, iterations=3) is clone
    clone.fit(matrix, show_progress=False)
    assert_same_factors(clone, fitted(matrix))
    with pytest.raises(ValueError, match="nonsense"):
        clone.set_params(nonsense=1)
    assert not hasattr(clone, "nonsense")


@pytest.mark.parametrize(
    "call",
    [
        lambda model, rows: model.recalculate_user(0, rows),
        lambda model, rows: model.recalculate_item(0, rows),
        lambda model, rows: model.partial_fit_users([0], rows),
        lambda model, rows: model.partial_fit_items([0], rows),
        lambda model, rows: model.explain(0, rows, 0),
        lambda model, rows: model.recommend(0, rows, recalculate_user=True),
        lambda model, rows: model.YtY,
        lambda model, rows: model.XtX,
    ],
)
def test_an_unfitted_model_says_so(matrix, call):
    with pytest.raises(NotFittedError, match="not fitted"):
        call(model_of(), matrix[0])


# The functions of implicit_core.cpu.als


@pytest.mark.parametrize("bad", ["read-only", "Fortran", "width", "rows", "columns", "float16"])
def test_a_half_step_that_cannot_be_done_in_place_is_refused(matrix, bad):
    X, Y = starting_factors(np.float32)
    if bad == "read-only":
        X.flags.writeable = False
    X = {"Fortran": np.asfortranarray(X), "width": X[:, :-1].copy()}.get(bad, X)
    X = X[:-1] if bad == "rows" else X
    Y = Y[:-1] if bad == "columns" else Y
    if bad == "float16":
        X, Y = X.astype(np.float16), Y.astype(np.float16)
    before = X.copy()
    for solve in (least_squares, least_squares_cg):
        with pytest.raises(ValueError, match="must"):
            solve(matrix, X, Y, 0.1)
    np.testing.assert_array_equal(X, before)


def test_the_linear_system_of_a_user_is_the_definition(cells, matrix):
    _, Y = starting_factors(np.float64)
    confidence, preference = confidence_and_preference(cells)
    for user in (0, 6):
        A, b = implicit_core.cpu.als.user_linear_equation(Y, Y.T @ Y, matrix, user, 0.3, FACTORS)
        np.testing.assert_allclose(A, Y.T @ (confidence[user][:, None] * Y) + 0.3 * np.eye(FACTORS), atol=1e-10)
        np.testing.assert_allclose(b, Y.T @ (confidence[user] * preference[user]), atol=1e-10)
        x = implicit_core.cpu.als.user_factor(Y, Y.T @ Y, matrix, user, 0.3, FACTORS)
        np.testing.assert_allclose(A @ x, b, atol=1e-10)
        np.testing.assert_array_equal(implicit_core.cpu.als.item_factor(Y, Y.T @ Y, matrix, user, 0.3, FACTORS), x)
    with pytest.raises(ValueError, match="n_factors"):
        implicit_core.cpu.als.user_linear_equation(Y, Y.T @ Y, matrix, 0, 0.3, FACTORS + 1)


def test_factors_begin_at_a_cache_line(matrix, dtype, tmp_path):
    """A kernel then reads no line twice for a row; NumPy's own arrays begin anywhere."""
    scaled = AlternatingLeastSquares(factors=16, iterations=1, dtype=dtype, init_scale=0.1, use_gpu=False)
    model = AlternatingLeastSquares(factors=16, iterations=1, dtype=dtype, use_gpu=False)
    for each in (model, scaled):
        each.fit(matrix, show_progress=False)
    model.save(tmp_path / "model.npz")
    loaded = AlternatingLeastSquares.load(tmp_path / "model.npz")
    model.partial_fit_users([matrix.shape[0] + 3], matrix[:1])
    for each in (model, scaled, loaded):
        assert each.user_factors.ctypes.data % 64 == each.item_factors.ctypes.data % 64 == 0
