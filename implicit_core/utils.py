"""Checks and small helpers shared by every model."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from implicit_core._typing import Counts, Factors, Ids, Matrix, Scores

SHORT = 50  #: numbers that Python looks through faster than NumPy starts to


class ParameterWarning(Warning):
    """An argument was accepted, but not in the form that a method works best with, or not one that implicit has."""


class ModelFitError(ValueError):
    """Training failed: the input holds values that are not finite, or the factors became so."""

    @classmethod
    def not_positive_definite(cls, row: int) -> ModelFitError:
        """The error of an exact solver whose system has no unique solution."""
        return cls(
            f"the linear system of row {row} is not positive definite, so that it cannot be solved by Cholesky "
            "decomposition; raise regularization, or lower the weight of entries below 1"
        )


class ModelLoadError(ValueError):
    """A file does not hold a model of this class."""


class NotFittedError(ValueError, TypeError):
    """A model was used before ``fit`` or ``load``."""


def nonzeros(m: Matrix, row: int) -> Iterator[tuple[int, float]]:
    """Yield (column, value) of the stored entries of a row of a CSR matrix."""
    for position in range(m.indptr[row], m.indptr[row + 1]):
        yield m.indices[position], m.data[position]


def check_blas_config() -> None:
    """Do nothing: BLAS threads are limited where it matters; kept since callers of ``implicit`` import it."""


def check_random_state(random_state: Any) -> np.random.Generator:
    """Turn a seed into a :class:`numpy.random.Generator`.

    Parameters
    ----------
    random_state : None, int, SeedSequence, BitGenerator, Generator or RandomState
        A Generator is returned as it is; a RandomState gives a Generator seeded by its next draw.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(np.iinfo(np.int32).max))
    return np.random.default_rng(random_state)


def augment_inner_product_matrix(factors: Factors) -> tuple[np.floating, Factors]:
    """Append a column that makes every row as long as the longest.

    Nearest neighbours by angle among the results are those by inner product among ``factors``, for a query with 0
    appended (Bachrach et al. 2014, "Speeding up the Xbox recommender system using a Euclidean transformation for
    inner-product spaces").

    Parameters
    ----------
    factors : ndarray, shape (items, factors)

    Returns
    -------
    max_norm : float
        The largest L2 norm of a row.
    augmented : ndarray, shape (items, factors + 1)
        The last column is sqrt(max_norm² − norm²).
    """
    norms = np.linalg.norm(factors, axis=1)
    max_norm = norms.max(initial=0)
    extra = np.sqrt(np.maximum(max_norm**2 - norms**2, 0)).astype(factors.dtype)
    return max_norm, np.column_stack([factors, extra])


def check_csr(user_items: Any, name: str = "user_items") -> Matrix:
    """Give ``user_items`` as CSR whose structure a kernel can trust; other sparse formats convert with a warning.

    Raises
    ------
    TypeError
        Not a sparse matrix.
    ValueError
        Not two-dimensional, or index arrays that contradict each other.
    """
    matrix = to_csr(user_items, name)
    check_structure(matrix, name)
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


def to_csr(user_items: Any, name: str) -> Matrix:
    """Give a sparse matrix as CSR, with a warning where that took a conversion."""
    check_sparse(user_items, name)
    if user_items.format != "csr":
        start, kind = time.time(), type(user_items).__name__
        user_items = user_items.tocsr()
        warnings.warn(
            f"Method expects CSR input, and was passed {kind} instead. "
            f"Converting to CSR took {time.time() - start:.3g} seconds",
            ParameterWarning,
            stacklevel=stacklevel_of_caller(),
        )
    return user_items


def stacklevel_of_caller() -> int:
    """The level of the first frame outside this package, for a warning by the calling function."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("implicit_core."):
        level, frame = level + 1, frame.f_back
    return level


def check_structure(matrix: Matrix, name: str) -> None:
    """Raise ValueError where the arrays of a CSR matrix contradict each other or its shape."""
    indptr, indices, (rows, columns) = matrix.indptr, matrix.indices, matrix.shape
    if len(indptr) != rows + 1 or indptr[0] != 0 or (indptr[1] < 0 if rows == 1 else (indptr[1:] < indptr[:-1]).any()):
        raise ValueError(f"{name} is not a valid CSR matrix: indptr must rise from 0 over {rows + 1} positions")
    if indptr[-1] > min(len(indices), len(matrix.data)):
        raise ValueError(
            f"{name} is not a valid CSR matrix: indptr ends at {indptr[-1]}, but there are {len(indices)} indices "
            f"and {len(matrix.data)} values"
        )
    check_columns(indices[: indptr[-1]], columns, name)


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
    check_real(matrix.data, name)
    if matrix.dtype not in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            data = matrix.data.astype(np.float32)
        matrix = type(matrix)((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    check_finite(matrix, name, float(np.finfo(np.float32).max) / max(abs(alpha), 1))
    return matrix


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
    check_real(matrix.data, name)
    if matrix.dtype != np.float64:
        matrix = type(matrix)((matrix.data.astype(np.float64), matrix.indices, matrix.indptr), shape=matrix.shape)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    check_finite(matrix, name, float(np.finfo(np.float64).max))
    return matrix


def check_real(values: NDArray[Any], name: str) -> None:
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


def to_counts(matrix: Matrix) -> Counts:
    """A checked CSR matrix as the kernels take it; shares memory where the types allow it.

    Raises
    ------
    ValueError
        It has more columns than the kernels can number.
    """
    most = np.iinfo(np.int32).max
    if matrix.shape[1] > most:
        raise ValueError(f"a matrix must have at most {most} columns, got {matrix.shape[1]}; number them without gaps")
    stored = matrix.indptr[-1]
    return Counts(
        matrix.indptr.astype(np.int64, copy=False),
        matrix.indices[:stored].astype(np.int32, copy=False),
        matrix.data[:stored],
        matrix.shape,
    )


_checked_blas_config = True  # kept since callers of ``implicit`` set it


def _batch_call(
    func: Callable[..., tuple[Ids, Scores]],
    ids: Sequence[int] | Ids,
    *args: Any,
    N: int = 10,
    id_dtype: DTypeLike = np.int32,
    score_dtype: DTypeLike = np.float32,
    **kwargs: Any,
) -> tuple[Ids, Scores]:
    """Call ``func`` for each of ``ids`` and stack its results, filled up to N with id −1 and score −3.4e38.

    Other arguments are passed on; of the matrices ``user_items`` and ``item_users`` each call gets its own row.
    """
    matrices = {name: kwargs.pop(name, None) for name in ("user_items", "item_users")}
    found = np.full((len(ids), N), -1, dtype=id_dtype)
    scores = np.full((len(ids), N), np.finfo(np.float32).min, dtype=score_dtype)
    for i, one in enumerate(ids):
        rows = {name: matrix[[i]] for name, matrix in matrices.items() if matrix is not None}
        its_ids, its_scores = func(one, *args, N=N, **rows, **kwargs)
        length = min(N, len(its_ids))
        found[i, :length], scores[i, :length] = its_ids[:N], its_scores[:N]
    return found, scores


def _filter_items_from_results(
    queryid: Any, ids: Ids, scores: Scores, filter_items: ArrayLike | None, N: int
) -> tuple[Ids, Scores]:
    """The first N results whose ids are not in ``filter_items``.

    ``queryid`` says whether they are of one query or of many; those of many are filled up with id −1 and score −3.4e38.
    """
    given = () if filter_items is None else filter_items
    unwanted = np.asarray(list(given) if isinstance(given, (set, frozenset)) else given)
    if np.ndim(queryid) == 0:
        wanted = np.isin(ids, unwanted, invert=True)
        return ids[wanted][:N], scores[wanted][:N]
    return _batch_call(
        lambda row, N: _filter_items_from_results(0, ids[row], scores[row], unwanted, N),
        range(len(ids)),
        N=N,
        id_dtype=ids.dtype,
        score_dtype=scores.dtype,
    )


class _OneBlasThread:
    """A context in which BLAS runs on one thread, for products too small or too exact to be shared out.

    The limit is global to the process, so entries are counted: the last one to leave restores what was.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew; also in a child that was forked while another thread was inside."""
        self._lock = threading.Lock()
        self._entered = 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._entered == 0:
                self._limits = threadpool_limits(1, "blas")
            self._entered += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if self._entered == 0 and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


one_blas_thread = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.forget)
    # another thread may hold the lock of the progress bars, which even those take that are not shown
    os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))
