"""Collaborative filtering for implicit feedback."""

__version__ = "0.1.0"

from implicit_core import als, nearest_neighbours

__all__ = ["__version__", "als", "nearest_neighbours"]
