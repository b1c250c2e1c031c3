"""Why no GPU is used, and what mends it: each cause by a CuPy that behaves as CuPy does there."""

import pickle
import sys
import types

import numpy as np
import pytest

from implicit_core import gpu
from implicit_core.als import AlternatingLeastSquares


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        super().__init__(f"cudaError {status}")
        self.status = status


def failing(error):
    def call(*_):
        raise error

    return call


def machine(version="14.2.0", devices=1, driver=12090, nvrtc=(12, 9), capability="80"):
    """CuPy on a machine; an exception stands for a call that raises it."""

    def returning(value):
        return failing(value) if isinstance(value, Exception) else lambda *_: value

    runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=returning(devices),
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 12090,
    )
    kind = type("Device", (), {"compute_capability": property(returning(capability))})
    cuda = types.SimpleNamespace(runtime=runtime, nvrtc=types.SimpleNamespace(getVersion=returning(nvrtc)), Device=kind)
    return types.SimpleNamespace(__version__=version, cuda=cuda)


INSTALL = r'pip install "implicit-core\[gpu\]"'
CAUSES = {
    "no CuPy": (None, rf"CuPy cannot be imported .*{INSTALL}"),
    "old CuPy": (machine(version="12.3.0"), rf"version 13\.0 or later, got 12\.3\.0; {INSTALL}"),
    "no driver": (machine(devices=CUDARuntimeError(35), driver=0), r"no NVIDIA driver is installed.*install one"),
    "old driver": (
        machine(devices=CUDARuntimeError(35), driver=11040),
        rf"driver offers CUDA 11\.4, and this CuPy needs 12\.9; update the driver.*{INSTALL}",
    ),
    "no device": (
        machine(devices=CUDARuntimeError(100)),
        r"sees no GPU; look at nvidia-smi and at CUDA_VISIBLE_DEVICES",
    ),
    "hidden devices": (machine(devices=0), r"sees no GPU.*CUDA_VISIBLE_DEVICES"),
    "broken driver": (machine(devices=CUDARuntimeError(999)), r"CUDA does not start \(cudaError 999\)"),
    "no NVRTC": (machine(nvrtc=RuntimeError("libnvrtc not found")), rf"NVRTC.*libnvrtc not found.*{INSTALL}"),
    "NVRTC that does not load": (machine(nvrtc=ImportError("no file")), rf"NVRTC.*no file.*{INSTALL}"),
    "old device": (machine(capability="61"), r"too old: .* 7\.0 or later for NVRTC 12\.9, got 6\.1"),
    "too old for NVRTC 13": (
        machine(nvrtc=(13, 0), capability="70"),
        rf"7\.5 or later for NVRTC 13\.0, got 7\.0; {INSTALL}",
    ),
    "busy device": (machine(capability=CUDARuntimeError(46)), r"cannot be used \(cudaError 46\)"),
}


@pytest.fixture
def on_machine(monkeypatch):
    """Return a function that puts a CuPy, or None for none, in the place of the one that is there."""

    def put(cupy):
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        gpu._problem.cache_clear()

    yield put
    monkeypatch.undo()
    gpu._problem.cache_clear()


@pytest.mark.parametrize("cause", CAUSES)
def test_the_cause_is_named_with_what_mends_it(on_machine, cause):
    cupy, text = CAUSES[cause]
    on_machine(cupy)
    assert gpu.HAS_CUDA is False
    with pytest.raises(ValueError, match=rf"use_gpu=True cannot be met: no GPU can be used: .*{text}") as caught:
        AlternatingLeastSquares(use_gpu=True)
    assert gpu.why_not() in str(caught.value)
    assert gpu.why_not().endswith("leave use_gpu out, or set it to False, to train on the CPU with all cores")
    with pytest.raises(ValueError, match="to_gpu cannot be met"):
        AlternatingLeastSquares().to_gpu()
    assert not AlternatingLeastSquares().use_gpu
    assert not hasattr(gpu, "Matrix")


@pytest.mark.parametrize("capability", ["70", "75", "90", "120"])
def test_a_working_gpu_is_used_unless_it_is_refused(on_machine, capability):
    on_machine(machine(capability=capability))
    assert gpu.HAS_CUDA is True
    assert gpu.why_not() == ""
    assert AlternatingLeastSquares().use_gpu
    assert AlternatingLeastSquares(use_gpu=True).use_gpu
    assert not AlternatingLeastSquares(use_gpu=False).use_gpu


def test_the_answer_is_found_once(on_machine):
    asked = []
    cupy = machine()
    cupy.cuda.runtime.getDeviceCount = lambda: asked.append(1) or 1
    on_machine(cupy)
    assert [gpu.HAS_CUDA, AlternatingLeastSquares().use_gpu, gpu.why_not()] == [True, True, ""]
    assert len(asked) == 1


def test_the_import_of_the_package_does_not_import_cupy(run_python):
    script = (
        "import sys; import implicit_core; import implicit_core.evaluation; "
        "implicit_core.als.AlternatingLeastSquares(use_gpu=False); implicit_core.lmf.LogisticMatrixFactorization(); "
        "implicit_core.cpu.bpr.BayesianPersonalizedRanking(); sys.exit('cupy' in sys.modules)"
    )
    result = run_python("-c", script)
    assert result.returncode == 0, result.stderr


def test_a_pickle_from_a_gpu_can_be_read_and_moved_to_the_cpu_without_one(on_machine, cupy_pickle):
    on_machine(None)
    model = pickle.loads(cupy_pickle)
    with pytest.raises(ValueError, match="no GPU can be used"):
        model.similar_items(0)
    assert len(model.to_cpu().similar_items(0, N=5)[0]) == 5


@pytest.fixture
def cupy_pickle(on_machine):
    """A model as a machine with a GPU pickles it: its factors are then on the host."""
    on_machine(machine())
    model = AlternatingLeastSquares(factors=3)
    model.user_factors, model.item_factors = np.ones((4, 3), np.float32), np.ones((5, 3), np.float32)
    return pickle.dumps(model)
