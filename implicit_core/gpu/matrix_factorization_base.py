"""The names of ``implicit.gpu.matrix_factorization_base``; ``check_random_state`` gives a NumPy Generator here too."""

from implicit_core.cpu.matrix_factorization_base import _filter_items_from_sparse_matrix
from implicit_core.matrix_factorization import GPUMatrixFactorizationBase as MatrixFactorizationBase
from implicit_core.utils import check_random_state

__all__ = ["MatrixFactorizationBase", "_filter_items_from_sparse_matrix", "check_random_state"]
