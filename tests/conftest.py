"""Fixtures that several test files share."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from implicit_core import gpu

# als_cases.py and conformance.py serve several test files each. These import a fixture as itself, so that Ruff takes it
# for used, and an argument of its name for no redefinition: from conformance import model as model
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("als_cases", "conformance")


@pytest.fixture(scope="module", autouse=True)
def without_gpu(request):
    """Models compute on the CPU, whatever the machine has, but for the tests in the folder ``gpu``."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "gpu":
            patch.setattr(gpu, "_problem", lambda: "there is none for these tests")
        yield


@pytest.fixture(scope="session")
def run_python():
    """Return a function that runs Python with these arguments and environment variables, and returns what came.

    The process imports what this one imports, whatever the folder that the tests were started in.
    """

    def run(*arguments, timeout=300, **variables):
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "CUDA_VISIBLE_DEVICES": ""}
        environment |= variables
        command = [sys.executable, *arguments]
        folder = Path(__file__).parent
        return subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=timeout
        )

    return run


@pytest.fixture
def unmodified():
    """Return a context manager that fails if a call changes the matrices, arrays or lists given to it."""

    @contextmanager
    def check(*values):
        before = [_contents(value) for value in values]
        yield
        for old, new in zip(before, map(_contents, values), strict=True):
            for old_part, new_part in zip(old, new, strict=True):
                assert old_part.dtype == new_part.dtype
                np.testing.assert_array_equal(old_part, new_part)

    return check


@pytest.fixture
def row_of():
    """Return a function that takes a row of a sparse matrix as an integer index gives it: of a csr_array, 1-D.

    SciPy before 1.13 has no 1-D sparse arrays and refuses the index; there the row is 2-D.
    """

    def row(matrix, index):
        try:
            return matrix[index]
        except NotImplementedError:
            return matrix[[index]]

    return row


def _contents(value):
    """Copies of the arrays that make up a value."""
    parts = [getattr(value, name, None) for name in ("data", "indices", "indptr", "row", "col")]
    parts = [part for part in parts if isinstance(part, np.ndarray)]
    return [part.copy() for part in parts or [np.asarray(value)]]


@pytest.fixture
def with_spare_room():
    """Return a function that gives a CSR matrix arrays that go on after its last entry, with wild columns there."""

    def copy(matrix):
        roomy = type(matrix)(matrix.shape, dtype=matrix.dtype)
        roomy.indptr = matrix.indptr.copy()
        roomy.indices = np.concatenate([matrix.indices, np.full(500, 2**30, dtype=matrix.indices.dtype)])
        roomy.data = np.concatenate([matrix.data, np.full(500, np.nan, dtype=matrix.dtype)])
        return roomy

    return copy
