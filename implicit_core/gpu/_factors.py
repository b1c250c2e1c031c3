"""Factors on the device: CuPy arrays that are views of arrays whose rows are padded with zeros to whole sectors."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from implicit_core._arrays import ZERO_NORM
from implicit_core._typing import Factors, Ids
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._work import pieces

SECTOR = 32  #: bytes that memory moves at once, of which rows take a whole number
DLPACK_OF_CUDA = (2, 13)  #: kinds of memory: of a device, and managed

_rows: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # padded arrays that were made here


def is_array(array: Any) -> bool:
    """Whether it is an array of the host or of the device."""
    return isinstance(array, (np.ndarray, cp.ndarray))


def shared(array: Any) -> Any:
    """What another library holds on the device as a CuPy array of the same memory; all else as it is."""
    if hasattr(array, "__cuda_array_interface__"):
        return cp.asarray(array)
    if hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] in DLPACK_OF_CUDA:
        return cp.from_dlpack(array)
    return array


def zeros(rows: int, width: int, dtype: DTypeLike) -> Factors:
    """Factors of zero; see :func:`implicit_core._arrays.zeros`."""
    return view(cp.zeros((rows, stride(width, np.dtype(dtype))), dtype=dtype), width)


def as_factors(array: Any) -> Factors:
    """Factors of float32 or float16 in padded rows: the array itself where it is that."""
    array = shared(array)
    if not is_array(array):
        array = np.asarray(array)
    return writable(array, np.float16 if array.dtype == np.float16 else np.float32)


def writable(array: Any, dtype: DTypeLike) -> Factors:
    """Factors of a type in padded rows: the array itself where it is that."""
    if isinstance(array, cp.ndarray) and array.dtype == dtype and is_padded(array):
        held: Factors = array
        return held
    rows, width = array.shape
    if isinstance(array, cp.ndarray):
        copy = zeros(rows, width, dtype)
        copy[...] = array
        return copy
    padded = np.zeros((rows, stride(width, np.dtype(dtype))), dtype=dtype)
    padded[:, :width] = array
    return view(cp.asarray(padded), width)


def take(factors: Factors, ids: Ids) -> Factors:
    """Rows of factors, copied."""
    return view(padded(factors)[cp.asarray(ids)], factors.shape[1])


def put(factors: Factors, ids: Ids, rows: Factors) -> None:
    """Write rows of factors."""
    factors[cp.asarray(ids)] = rows


def to_host(array: Any) -> NDArray[Any]:
    """An array of the device on the host; itself where it is there."""
    if not isinstance(array, cp.ndarray):
        return np.asarray(array)
    if array.ndim == 2 and is_padded(array):  # as one piece, which needs no copy on the device
        return np.ascontiguousarray(padded(array).get()[:, : array.shape[1]])
    host: NDArray[Any] = array.get()
    return host


def stride(width: int, dtype: np.dtype[Any]) -> int:
    """Elements from one row to the next."""
    unit = SECTOR // dtype.itemsize
    return -(-width // unit) * unit


def view(padded: Any, width: int) -> Factors:
    _rows[id(padded)] = padded
    view: Factors = padded[:, :width]
    return view


def _root(array: Any) -> Any:
    """The array that owns the memory of a view."""
    while array.base is not None:
        array = array.base
    return array


def is_padded(array: Any) -> bool:
    """Whether rows are padded with zeros, which is known of arrays made here alone."""
    base = _root(array)
    return (
        array.ndim == 2
        and id(base) in _rows
        and array.dtype == base.dtype
        and array.strides == base.strides
        and stride(array.shape[1], array.dtype) == base.shape[1]
        and _row_of(array, base)[1] == 0
    )


def _row_of(array: Any, base: Any) -> tuple[int, int]:
    """The row of its base that an array begins in, and the bytes before it there; CuPy has strides of 0 for no rows."""
    return divmod(array.data.ptr - base.data.ptr, base.shape[1] * base.itemsize) if base.size else (0, 0)


def padded(factors: Any) -> Any:
    """The rows of padded factors with their padding, as a kernel takes them."""
    base = _root(factors)
    first, _ = _row_of(factors, base)
    return base[first : first + len(factors)]


def options(factors: Any) -> dict[str, int]:
    return {"FACTORS": factors.shape[1], "HALF": int(factors.dtype == np.float16)}


def squared_norms(factors: Factors) -> Any:
    """Squared L2 norms of rows in float64, on the device."""
    norms = cp.empty(len(factors), dtype=np.float64)
    for rows in pieces(len(factors), 16 * factors.shape[1]):
        norms[rows] = _sums_of_squares(factors[rows])
    return norms


def _sums_of_squares(factors: Factors) -> Any:
    wide: Any = factors.astype(np.float64)
    wide *= wide
    return wide.sum(axis=1)


def norms(factors: Factors) -> Any:
    """L2 norms of rows in float32, 1e-10 where all are zero, on the device."""
    found = (squared_norms(factors) ** 0.5).astype(np.float32)
    found[found == 0] = np.float32(ZERO_NORM)
    return found
