"""What the arguments of a call mean: ids, candidates, and which row of a matrix belongs to whom."""

from __future__ import annotations

import numbers
import operator
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from implicit_core._matrices import (
    bounds,
    check_arrays,
    check_columns,
    check_real,
    check_structure,
    checked,
    has_usual_types,
    single,
)
from implicit_core._typing import Counts, Matrix

MOST_IDS = np.iinfo(np.int32).max  #: as many as int32 can number
LARGEST = float(np.finfo(np.float32).max)  #: of the numbers that kernels take


def check_count(value: Any, name: str, minimum: int = 0, maximum: int = np.iinfo(np.int64).max) -> int:
    """An integer from ``minimum`` to ``maximum``.

    Raises
    ------
    TypeError, ValueError
    """
    try:
        count = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an integer, got {value!r}") from error
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if count < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {count}")
    if count > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {count}")
    return count


def check_number(value: Any, name: str, minimum: float = -LARGEST) -> float:
    """A real number from ``minimum`` to the largest of float32.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    exact: Any = value  # an int may be too large for a float
    if not minimum <= exact <= LARGEST:
        raise ValueError(f"{name} must be a number from {minimum:g} to {LARGEST:g}, got {value}")
    return float(value)


def check_size(N: Any, name: str) -> int:
    """How many results to give: at most as many as there can be ids.

    Raises
    ------
    TypeError, ValueError
    """
    return check_count(N, name, maximum=MOST_IDS)


def check_memory(size: int, what: str, advice: str) -> None:
    """Raise MemoryError where something of ``size`` bytes would not fit into the memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    if 0 < memory < size:
        raise MemoryError(f"{what} take {size / 1e9:.3g} GB, and this machine has {memory / 1e9:.3g} GB; {advice}")


def check_results(N: int, ids: int, width: int) -> None:
    """Raise MemoryError where N results of ``width`` bytes for each of some ids would not fit into memory."""
    check_memory(N * ids * width, f"N={N} results for {ids} ids", "ask for fewer results, or for fewer ids at a time")


def check_callback(callback: Any) -> None:
    """Raise TypeError unless it can be called, or is None."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function or None, got {callback!r}")


def check_threads(num_threads: Any) -> None:
    """Raise TypeError or ValueError unless this is a number of threads."""
    check_count(num_threads, "num_threads", -sys.maxsize)


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """A type of NumPy.

    Raises
    ------
    TypeError
    """
    try:
        found: np.dtype[Any] = np.dtype(dtype)
        return found
    except (TypeError, ValueError) as error:
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}") from error


def check_dtype(dtype: Any, kinds: tuple[str, ...] = ("float32", "float64")) -> np.dtype[Any]:
    """The type of factors that a model can learn.

    Raises
    ------
    TypeError
    """
    found = as_dtype(dtype)
    if found.name not in kinds:
        raise TypeError(f"dtype must be {' or '.join(kinds)}, got {found}")
    return found


def _as_array(ids: Any, name: str) -> NDArray[Any]:
    """What NumPy makes of ids.

    Raises
    ------
    IndexError
        It can make nothing of them, as of a list of lists of different lengths.
    """
    try:
        return np.asarray(ids)
    except (TypeError, ValueError) as error:
        raise IndexError(f"{name} must be one id or a one-dimensional sequence of ids, got {ids!r}") from error


def is_one(ids: Any, name: str) -> bool:
    """Whether this stands for one id rather than for a sequence of them.

    Raises
    ------
    IndexError
        It is a single truth value, which selects nothing.
    """
    if isinstance(ids, (int, np.integer)) and not isinstance(ids, bool):
        return True
    array = _as_array(ids, name)
    if array.ndim == 0 and array.dtype == np.bool_:
        raise IndexError(f"{name} must be an integer id or a sequence of them, got {ids!r}")
    return array.ndim == 0


def check_ids(ids: Any, size: int, name: str) -> NDArray[np.int64]:
    """Ids as an array; a boolean mask over all ``size`` ids selects.

    Raises
    ------
    IndexError
        Not a one-dimensional sequence of integers, or an id outside [0, size).
    """
    array = _as_array(list(ids) if isinstance(ids, (set, frozenset)) else ids, name)
    if array.ndim != 1:
        raise IndexError(f"{name} must be a one-dimensional sequence of ids, got {type(ids).__name__}")
    if array.dtype == np.bool_ and len(array) == size:
        return np.flatnonzero(array)
    if array.size and array.dtype.kind not in "iu":
        raise IndexError(f"{name} must hold integer ids, got {array.dtype} values")
    if array.size and (array.min() < 0 or array.max() >= size):
        bad = array[(array < 0) | (array >= size)][0]
        raise IndexError(f"{name} must hold ids from 0 to {size - 1}, got {bad}")
    return array.astype(np.int64, copy=False)


def check_one_or_many(ids: Any, size: int, name: str) -> NDArray[np.int64]:
    """One id or a sequence of them, as :func:`check_ids` takes it, as an array.

    Raises
    ------
    IndexError
    """
    if isinstance(ids, (int, np.integer)) and not isinstance(ids, bool) and 0 <= ids < size:
        return np.array([ids], dtype=np.int64)
    return check_ids(np.atleast_1d(_as_array(ids, name)), size, name)


def check_selection(
    candidates: Any, filtered: Any, size: int, names: tuple[str, str]
) -> tuple[NDArray[np.int64] | None, NDArray[np.int32] | None]:
    """Sorted ids of the only candidates and of those to rank last, each None where not given."""
    drop = None
    if filtered is not None:
        if not isinstance(filtered, (set, frozenset)) and is_one(filtered, names[1]):
            filtered = [filtered]
        ids = check_ids(filtered, size, names[1])
        if len(ids):
            if candidates is not None:
                raise ValueError(f"give either {names[0]} or {names[1]}, not both")
            drop = np.unique(ids).astype(np.int32)
    if candidates is None:
        return None, drop
    only = np.sort(check_ids(candidates, size, names[0]))
    if len(only) == 0:
        raise IndexError(f"{names[0]} must hold at least one id, got none")
    return only, drop


def as_ids(ids: Any, name: str) -> NDArray[Any]:
    """One id or a sequence of them as a one-dimensional array; a boolean mask gives the ids that it selects."""
    array = np.atleast_1d(_as_array(ids, name))
    if array.ndim != 1:
        raise IndexError(f"{name} must be one id or a one-dimensional sequence of ids, got shape {array.shape}")
    if array.dtype == np.bool_ and not is_one(ids, name):
        return np.flatnonzero(array)
    return array if array.size else array.astype(np.int64)


def as_rows(matrix: Any) -> Any:
    """The one-row CSR matrix of a one-dimensional sparse array, which is what ``csr_array[i]`` gives."""
    one = sparse.issparse(matrix) and matrix.ndim == 1 and matrix.format in ("csr", "coo")
    return matrix.reshape(1, -1).tocsr() if one else matrix


def aligned_rows(matrix: Matrix, ids: Any, known: tuple[int, int], names: tuple[str, str]) -> Matrix:
    """The rows of ``matrix`` that belong to ``ids``, in their order.

    With one row per id, rows are taken by position. With more rows than that, at least as many as are known and one
    for each id, the matrix is the full one and is indexed by id.

    Parameters
    ----------
    matrix : csr_matrix or csr_array
    ids : int or array of int
    known : (int, int)
        How many rows and columns the model knows.
    names : (str, str)
        What the caller calls the matrix and the ids, for errors.

    Raises
    ------
    ValueError
        The number of rows fits neither case, the matrix looks transposed, or a column is unknown.
    IndexError
        The ids are not one-dimensional, or negative.
    """
    name, id_name = names
    ids = as_ids(ids, id_name)
    if ids.dtype.kind in "iu" and bounds(ids)[0] < 0:
        raise IndexError(f"{id_name} must not be negative, got {ids.min()}")
    check_real(matrix.data, name)
    check_arrays(matrix, name)
    if matrix.dtype == np.float16 or not has_usual_types(matrix):
        matrix = single(checked(matrix, name))
    rows, columns = matrix.shape
    if columns == known[0] != known[1]:
        raise ValueError(
            f"{name} must have {known[1]} columns, got {columns}, the number of rows that the model knows; "
            "is it transposed?"
        )
    if rows == len(ids):
        check_structure(matrix, name)
        if columns <= known[1]:
            return matrix
    elif len(ids) < rows >= known[0] and ids.dtype.kind in "iu" and rows > bounds(ids)[1]:
        ids = ids.astype(np.int64, copy=False)  # in which ids + 1 fits
        if len(matrix.indptr) != rows + 1:
            raise ValueError(f"{name} is not a valid CSR matrix: it has {rows} rows, but indptr {len(matrix.indptr)}")
        starts, stops = matrix.indptr[ids], matrix.indptr[ids + 1]
        if (starts < 0).any() or (stops < starts).any() or (stops > min(len(matrix.indices), len(matrix.data))).any():
            raise ValueError(f"{name} is not a valid CSR matrix: indptr does not rise, or ends beyond its indices")
        matrix = matrix[ids]
    else:
        raise ValueError(
            f"{name} must have one row per {id_name} ({len(ids)}), got {rows} rows; pass {name}[{id_name}]"
        )
    check_columns(matrix.indices[: matrix.indptr[-1]], known[1], name)
    return matrix


def pairs(matrix: Matrix) -> Counts:
    """Where a matrix has entries, in order of columns within a row: what ``topk`` takes to exclude."""
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    indptr = np.ascontiguousarray(matrix.indptr, dtype=np.int64)
    return Counts(indptr, np.ascontiguousarray(matrix.indices, dtype=np.int32), matrix.data, matrix.shape)
