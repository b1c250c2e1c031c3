"""The GPU's :class:`~implicit_core._kernels.Kernels`: what launches the CUDA kernels, by the files that these are in.

Factors are CuPy arrays of float32 or float16, computed with in float32. They are views of arrays whose rows are padded
with zeros to whole sectors of 32 bytes. Beside the factors and the entries of the training matrix, a function takes
at most ``WORK_BYTES`` of device memory, unless one row needs more.
"""

from implicit_core._arrays import axes
from implicit_core.gpu._als import least_squares, stored_error
from implicit_core.gpu._bpr import bpr_epoch
from implicit_core.gpu._entries import check_room, to_device, training_bytes
from implicit_core.gpu._factors import as_factors, is_array, norms, put, squared_norms, take, to_host, writable, zeros
from implicit_core.gpu._matrix import gram
from implicit_core.gpu._topk import prepare, topk
from implicit_core.gpu._work import WORK_BYTES

__all__ = [
    "WORK_BYTES",
    "as_factors",
    "axes",
    "bpr_epoch",
    "check_room",
    "gram",
    "is_array",
    "least_squares",
    "norms",
    "prepare",
    "put",
    "squared_norms",
    "stored_error",
    "take",
    "to_device",
    "to_host",
    "topk",
    "training_bytes",
    "writable",
    "zeros",
]
