"""Checks of matrices, sparse and dense, and the forms that the kernels take them in."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import coo_matrix

from implicit_core._errors import ModelFitError, ParameterWarning, stacklevel_of_caller
from implicit_core._typing import Counts, Matrix

SHORT = 50  #: numbers that Python looks through faster than NumPy starts to


def check_csr(user_items: Any, name: str = "user_items") -> Matrix:
    """Give ``user_items`` as CSR whose structure a kernel can trust; other sparse formats convert with a warning.

    Raises
    ------
    TypeError
        Not a sparse matrix.
    ValueError
        Not two-dimensional, or index arrays that contradict each other.
    """
    return checked(to_csr(user_items, name), name)


def as_csr(matrix: Any, name: str) -> Matrix:
    """The same without a warning, and with half precision, which SciPy does not support, made single."""
    check_sparse(matrix, name)
    check_real(matrix, name)
    return single(checked(matrix if matrix.format == "csr" else _valid(matrix, name).tocsr(), name))


def to_csr(user_items: Any, name: str) -> Matrix:
    """Give a sparse matrix as CSR, with a warning where that took a conversion."""
    check_sparse(user_items, name)
    if user_items.format != "csr":
        start, kind = time.time(), type(user_items).__name__
        user_items = _valid(user_items, name).tocsr()
        warnings.warn(
            f"Method expects CSR input, and was passed {kind} instead. "
            f"Converting to CSR took {time.time() - start:.3g} seconds",
            ParameterWarning,
            stacklevel=stacklevel_of_caller(),
        )
    return user_items


def check_coo(matrix: Any, name: str) -> coo_matrix:
    """A sparse matrix as new COO whose structure has been checked, with its entries in the order of the matrix.

    Raises
    ------
    TypeError, ValueError
        It is not sparse, not two-dimensional, or its arrays contradict each other.
    """
    check_sparse(matrix, name)
    check_real(matrix, name)
    if matrix.format != "csr":
        return coo_matrix(_valid(matrix, name).tocoo())
    entries = as_csr(matrix, name).tocoo()
    return entries if sparse.isspmatrix(entries) else coo_matrix(entries)  # which checks it once more


def checked(matrix: Matrix, name: str) -> Matrix:
    """A CSR matrix whose structure a kernel can trust, without what its arrays hold beyond their end.

    Indices are of one type and values in the byte order of the machine, which SciPy takes for granted.
    """
    check_structure(matrix, name)
    stored, data, indices, indptr = matrix.indptr[-1], matrix.data, matrix.indices, matrix.indptr
    usual = has_usual_types(matrix)
    if not usual:
        data = data.astype(data.dtype.newbyteorder("="), copy=False)
        indices, indptr = indices.astype(np.int64), indptr.astype(np.int64)
    if not usual or len(indices) > stored or len(data) > stored:
        matrix = type(matrix)((data[:stored], indices[:stored], indptr), shape=matrix.shape)
    return matrix


def single(matrix: Matrix) -> Matrix:
    """A CSR matrix in single precision if it is in half, which SciPy can neither index nor sort."""
    if matrix.dtype == np.float16:
        matrix = type(matrix)((matrix.data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)
    return matrix


def has_usual_types(matrix: Matrix) -> bool:
    """Whether the arrays of a CSR matrix have types that SciPy can index, sort and convert, but for half precision."""
    kind = matrix.indices.dtype
    return bool(kind == matrix.indptr.dtype and kind in (np.int32, np.int64) and matrix.dtype.isnative)


def _valid(matrix: Any, name: str) -> Any:
    """A sparse matrix of another format than CSR after a check of what SciPy trusts when it converts one.

    Raises
    ------
    ValueError
        Its arrays contradict each other or its shape.
    """
    if matrix.dtype == np.float16:
        matrix = matrix.astype(np.float32)
    try:
        if hasattr(matrix, "check_format"):
            copy.copy(matrix).check_format(full_check=True)  # of a copy, since it may replace the index arrays
        elif matrix.format == "coo":
            return type(matrix)((matrix.data, (matrix.row, matrix.col)), shape=matrix.shape)
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{name} is not a valid {type(matrix).__name__}: {error}") from error
    return matrix


def check_sparse(matrix: Any, name: str) -> None:
    """Raise TypeError unless ``matrix`` is sparse, ValueError unless it has two dimensions."""
    if not sparse.issparse(matrix):
        raise TypeError(
            f"{name} must be a scipy.sparse matrix, got {type(matrix).__name__}; "
            "scipy.sparse.csr_matrix(...) makes one of an array"
        )
    if matrix.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, got shape {matrix.shape}")


def check_structure(matrix: Matrix, name: str) -> None:
    """Raise ValueError where the arrays of a CSR matrix contradict each other or its shape."""
    check_arrays(matrix, name)
    indptr, indices, (rows, columns) = matrix.indptr, matrix.indices, matrix.shape
    if len(indptr) != rows + 1 or indptr[0] != 0 or (indptr[1] < 0 if rows == 1 else (indptr[1:] < indptr[:-1]).any()):
        raise ValueError(f"{name} is not a valid CSR matrix: indptr must rise from 0 over {rows + 1} positions")
    if indptr[-1] > min(len(indices), len(matrix.data)):
        raise ValueError(
            f"{name} is not a valid CSR matrix: indptr ends at {indptr[-1]}, but there are {len(indices)} indices "
            f"and {len(matrix.data)} values"
        )
    check_columns(indices[: indptr[-1]], columns, name)


def check_arrays(matrix: Matrix, name: str) -> None:
    """Raise ValueError unless the arrays of a CSR matrix have one dimension, and its indices are integers."""
    for part in ("indptr", "indices", "data"):
        array = getattr(matrix, part)
        if array.ndim != 1 or (part != "data" and array.dtype.kind not in "iu"):
            raise ValueError(
                f"{name} is not a valid CSR matrix: {part} must be one-dimensional"
                f"{'' if part == 'data' else ' and of integers'}, got {array.dtype} of shape {array.shape}"
            )


def check_columns(indices: NDArray[np.integer], columns: int, name: str) -> None:
    """Raise ValueError unless all column indices lie in [0, columns)."""
    lowest, highest = bounds(indices)
    if lowest < 0 or highest >= columns:
        bad = indices[(indices < 0) | (indices >= columns)][0]
        raise ValueError(f"{name} must have column indices from 0 to {columns - 1}, got {bad}")


def bounds(ids: NDArray[Any]) -> tuple[Any, Any]:
    """The lowest and the highest of an array of numbers; (0, −1) of none."""
    if len(ids) <= SHORT:
        numbers = ids.tolist()
        return min(numbers, default=0), max(numbers, default=-1)
    return ids.min(), ids.max()


def confidences(matrix: Matrix, alpha: float, name: str) -> Matrix:
    """A checked CSR matrix as canonical CSR of floats that stay finite as float32 when multiplied by ``alpha``.

    Entries of the same cell are added up. The matrix given is not changed, and returned itself where it will do.

    Raises
    ------
    TypeError
        The values are not real numbers.
    ModelFitError
        A value is NaN, infinite or too large.
    """
    return _canonical(matrix, (np.float32, np.float64), name, float(np.finfo(np.float32).max) / max(abs(alpha), 1))


def finite_float64(matrix: Matrix, name: str) -> Matrix:
    """A checked CSR matrix as canonical CSR of finite float64; entries of the same cell are added up.

    The matrix given is not changed, and returned itself where it will do.

    Raises
    ------
    TypeError
        The values are not real numbers.
    ModelFitError
        A value is NaN or infinite.
    """
    check_width(matrix)
    return _canonical(matrix, (np.float64,), name, float(np.finfo(np.float64).max))


def _canonical(matrix: Matrix, dtypes: Sequence[type[np.floating]], name: str, limit: float) -> Matrix:
    """A checked CSR matrix as canonical CSR within ±limit, of the first type unless it is of another of them."""
    check_real(matrix.data, name)
    if matrix.dtype not in dtypes:
        with np.errstate(over="ignore"):
            data = matrix.data.astype(dtypes[0])
        matrix = type(matrix)((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    check_finite(matrix, name, limit)
    return matrix


def check_real(values: NDArray[Any] | Matrix, name: str) -> None:
    """Raise TypeError unless the values are real numbers."""
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got {values.dtype} values")


def check_finite(matrix: Matrix, name: str, limit: float) -> None:
    """Raise ModelFitError that names the first value which is NaN or beyond ±limit."""
    data = matrix.data[: matrix.indptr[-1]]
    if len(data) and not (data.min() >= -limit and data.max() <= limit):
        position = int(np.flatnonzero(~(np.abs(data) <= limit))[0])
        raise ModelFitError(
            f"{name} must hold finite values, but {entry_at(matrix, position)}"
            + (" (too large for float32)" if np.isfinite(data[position]) else "")
        )


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no value of an array is NaN or infinite; takes no space."""
    return bool(np.isfinite([array.min(initial=0), array.max(initial=0)]).all())


def entry_at(matrix: Matrix, position: int) -> str:
    """Say which entry of a CSR matrix is stored at a position, for errors."""
    row = int(np.searchsorted(matrix.indptr, position, side="right")) - 1
    return f"entry ({row}, {matrix.indices[position]}) is {matrix.data[position]}"


def check_width(matrix: Matrix) -> None:
    """Raise ValueError where a matrix has more columns than the kernels can number."""
    most = np.iinfo(np.int32).max
    if matrix.shape[1] > most:
        raise ValueError(f"a matrix must have at most {most} columns, got {matrix.shape[1]}; number them without gaps")


def to_counts(matrix: Matrix) -> Counts:
    """A checked CSR matrix as the kernels take it; shares memory where the types allow it.

    Raises
    ------
    ValueError
        It has more columns than the kernels can number.
    """
    check_width(matrix)
    stored = matrix.indptr[-1]
    return Counts(
        np.ascontiguousarray(matrix.indptr, dtype=np.int64),
        np.ascontiguousarray(matrix.indices[:stored], dtype=np.int32),
        np.ascontiguousarray(matrix.data[:stored]),
        matrix.shape,
    )


def real_array(values: Any, name: str) -> NDArray[Any]:
    """An array of real numbers.

    Raises
    ------
    TypeError
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers, got {type(values).__name__}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got {type(values).__name__} of {array.dtype}")
    return array


def real_matrix(values: Any, name: str) -> NDArray[Any]:
    """An array of real numbers with two dimensions.

    Raises
    ------
    TypeError, ValueError
    """
    array = real_array(values, name)
    if array.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, got shape {array.shape}")
    return array
