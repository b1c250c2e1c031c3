"""Fixtures that several test files share."""

from contextlib import contextmanager

import numpy as np
import pytest


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


def _contents(value):
    """Copies of the arrays that make up a value."""
    parts = [getattr(value, name, None) for name in ("data", "indices", "indptr", "row", "col")]
    parts = [part for part in parts if isinstance(part, np.ndarray)]
    return [part.copy() for part in parts or [np.asarray(value)]]
