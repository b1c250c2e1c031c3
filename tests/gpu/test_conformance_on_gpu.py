"""What every model promises, of models on the GPU: the tests of ``test_conformance.py`` with models of their own."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import implicit_core.gpu.als
import implicit_core.gpu.bpr

_path = Path(__file__).parent.parent / "test_conformance.py"
_spec = importlib.util.spec_from_file_location("conformance_of_models", _path)
_suite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_suite)

GIVEN = {"factors": 8, "iterations": 5, "random_state": 3}
MODELS = {
    "als-float32": lambda **p: implicit_core.gpu.als.AlternatingLeastSquares(**{**GIVEN, **p}),
    "als-float16": lambda **p: implicit_core.gpu.als.AlternatingLeastSquares(**{**GIVEN, "dtype": np.float16, **p}),
    "bpr": lambda **p: implicit_core.gpu.bpr.BayesianPersonalizedRanking(**{**GIVEN, "learning_rate": 0.1, **p}),
}

for _name, _value in vars(_suite).items():
    if not _name.startswith("_"):
        globals().setdefault(_name, _value)


@pytest.fixture(scope="module", params=MODELS)
def name(request, cupy):
    return request.param


@pytest.fixture(scope="module")
def make(name):
    """Return a function that makes an unfitted model."""
    return MODELS[name]
