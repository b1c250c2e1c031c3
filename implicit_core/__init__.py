"""Collaborative filtering for implicit feedback."""

__version__ = "0.1.0"

from implicit_core import als, bpr, evaluation, lmf, nearest_neighbours

__all__ = ["__version__", "als", "bpr", "evaluation", "lmf", "nearest_neighbours"]
