"""Collaborative filtering for implicit feedback."""

__version__ = "0.1.0"

from implicit_core import als, approximate_als, bpr, evaluation, nearest_neighbours

__all__ = ["__version__", "als", "approximate_als", "bpr", "evaluation", "nearest_neighbours"]
