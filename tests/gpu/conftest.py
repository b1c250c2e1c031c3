"""The device that the tests in this folder run on: a GPU, or a stand-in for CuPy over an emulator of CUDA kernels.

With CuPy and a GPU they run there, unless ``IMPLICIT_CORE_FAKE_GPU=1`` asks for the stand-in.
"""

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from emulator import nvrtc

from implicit_core import gpu

ON_DEVICE = os.environ.get("IMPLICIT_CORE_FAKE_GPU") != "1" and gpu.HAS_CUDA


def pytest_report_header():
    return "tests of the GPU run on " + ("a GPU" if ON_DEVICE else "the CPU, by a stand-in for CuPy")


def missing():
    """What the stand-in needs and this machine lacks."""
    if nvrtc.library() is None:
        return "NVRTC is missing; pip install nvidia-cuda-nvrtc-cu12==12.9.86"
    return "" if shutil.which("g++") else "g++ is missing"


@pytest.fixture(scope="module")
def cupy():
    """CuPy, or the stand-in in its place, until the tests of the module are over."""
    if ON_DEVICE:
        yield importlib.import_module("cupy")
        return
    if reason := missing():
        pytest.skip(reason)
    fake = importlib.import_module("fakecupy")
    real = sys.modules.get("cupy")
    sys.modules["cupy"] = fake
    gpu._problem.cache_clear()
    yield fake
    del sys.modules["cupy"]
    if real is not None:
        sys.modules["cupy"] = real
    gpu._problem.cache_clear()


@pytest.fixture
def fake(cupy):
    """The stand-in, where tests look at it or change it; settings are put back."""
    if ON_DEVICE:
        pytest.skip("of the stand-in alone")
    before = dict(vars(cupy.settings))
    cupy.launches.clear()
    yield cupy
    vars(cupy.settings).update(before)
