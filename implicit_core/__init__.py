"""Collaborative filtering for implicit feedback."""

__version__ = "0.1.0"

import implicit_core.cpu.als
import implicit_core.cpu.bpr
import implicit_core.cpu.lmf
import implicit_core.cpu.matrix_factorization_base
import implicit_core.cpu.topk
import implicit_core.gpu.als
import implicit_core.gpu.bpr
import implicit_core.gpu.matrix_factorization_base  # noqa: F401  # as in implicit, these are there without being imported by name
from implicit_core import als, approximate_als, bpr, evaluation, lmf, nearest_neighbours

__all__ = ["__version__", "als", "approximate_als", "bpr", "evaluation", "lmf", "nearest_neighbours"]
