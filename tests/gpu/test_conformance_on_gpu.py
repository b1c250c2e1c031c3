"""What every model promises, of models on the GPU: the tests of ``test_conformance_*.py`` with models of their own."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import implicit_core.gpu.als
import implicit_core.gpu.bpr
from implicit_core import gpu

ON_DEVICE = os.environ.get("IMPLICIT_CORE_FAKE_GPU") != "1" and gpu.HAS_CUDA
EVERYTHING = os.environ.get("IMPLICIT_CORE_GPU_TESTS") == "all"
GIVEN = {"factors": 8, "iterations": 3, "random_state": 3}
MODELS = {
    "als-float32": lambda **p: implicit_core.gpu.als.AlternatingLeastSquares(**{**GIVEN, **p}),
    "als-float16": lambda **p: implicit_core.gpu.als.AlternatingLeastSquares(**{**GIVEN, "dtype": np.float16, **p}),
    "bpr": lambda **p: implicit_core.gpu.bpr.BayesianPersonalizedRanking(**{**GIVEN, "learning_rate": 0.1, **p}),
}

#: what cannot hold on a GPU, with the reason
OF_THE_CPU = {
    "test_the_number_of_threads_changes_no_bit": "num_threads is taken, but threads are of the CPU",
    "test_a_large_catalogue_on_several_threads_is_ranked_by_definition": "one query is shared out among threads of the "
    "CPU; how it is among blocks of a GPU, test_many_results_are_sorted_and_few_queries_are_shared_out shows",
}

for _path in sorted(Path(__file__).parent.parent.glob("test_conformance_*.py")):
    _spec = importlib.util.spec_from_file_location(f"{_path.stem}_of_models", _path)
    _suite = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_suite)
    for _name, _value in vars(_suite).items():
        if not _name.startswith("_"):
            _value = pytest.mark.skip(OF_THE_CPU[_name])(_value) if _name in OF_THE_CPU else _value
            globals().setdefault(_name, _value)


@pytest.fixture(scope="module", params=[m for m in MODELS if ON_DEVICE or EVERYTHING or m != "als-float16"])
def name(request, cupy):
    return request.param


@pytest.fixture(scope="module")
def make(name):
    """Return a function that makes an unfitted model."""
    return MODELS[name]


@pytest.fixture(scope="module")
def for_board(name):
    """Parameters that are enough to converge on the checkerboard, in fewer launches than on the CPU."""
    more = {"regularization": 0.0, "iterations": 40, "learning_rate": 0.4} if name == "bpr" else {"iterations": 15}
    return {"factors": 3, "regularization": 1.0, **more}
