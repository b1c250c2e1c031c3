"""Upstream's path of :class:`~implicit_core.matrix_factorization.MatrixFactorizationBase`."""

from implicit_core.matrix_factorization import MatrixFactorizationBase

__all__ = ["MatrixFactorizationBase"]
