"""Errors and warnings that several modules raise."""

from __future__ import annotations

import sys


class ParameterWarning(Warning):
    """An argument was accepted, but not in the form that a method works best with, or not one that implicit has."""


class ModelFitError(ValueError):
    """Training failed: the input holds values that are not finite, or the factors became so."""

    @classmethod
    def not_positive_definite(cls, row: int) -> ModelFitError:
        """The error of an exact solver whose system has no unique solution."""
        return cls(
            f"the linear system of row {row} is not positive definite, so that it cannot be solved by Cholesky "
            "decomposition; raise regularization, or have fewer factors"
        )

    @classmethod
    def not_solved(cls, row: int, dtype: str) -> ModelFitError:
        """The error of a solver by conjugate gradient that does not come to the solution."""
        return cls(
            f"the linear system of row {row} cannot be solved in {dtype}; raise regularization, or use factors and "
            "values that are neither so large nor so small"
        )


class ModelLoadError(ValueError):
    """A file does not hold a model of this class."""


class NotFittedError(ValueError, TypeError):
    """A model was used before ``fit`` or ``load``."""


def stacklevel_of_caller() -> int:
    """The level of the first frame outside this package, for a warning by the calling function."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("implicit_core."):
        level, frame = level + 1, frame.f_back
    return level
