"""The names of ``implicit.gpu``: thin layers over CuPy arrays, for programs written for it.

Models do not use them. Whatever they take may be a NumPy or CuPy array, or offer ``__cuda_array_interface__`` or
DLPack; strides count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from implicit_core._checks import check_count, check_ids
from implicit_core._least_squares import Objective
from implicit_core._matrices import check_csr, check_sparse, to_counts
from implicit_core._typing import Counts, Policy, Scores
from implicit_core.gpu import kernels
from implicit_core.gpu._cupy import cp
from implicit_core.gpu._factors import shared

__all__ = [
    "COOMatrix",
    "CSRMatrix",
    "IntVector",
    "KnnQuery",
    "LeastSquaresSolver",
    "Matrix",
    "RandomState",
    "calculate_norms",
    "get_device_count",
]


class Matrix:
    """Rows of float32 or float16 on the GPU.

    Parameters
    ----------
    X : array, optional
        Two-dimensional, of float32 or float16. An array of the GPU is shared, not copied; None makes one of no rows.

    Attributes
    ----------
    array : cupy.ndarray
        The rows, to compute with.
    """

    def __init__(self, X: Any = None) -> None:
        array = cp.empty((0, 0), dtype=np.float32) if X is None else _array(X)
        if array.ndim != 2 or array.dtype not in (np.float32, np.float16):
            raise ValueError(f"X must be a matrix of float32 or float16, got shape {array.shape} of {array.dtype}")
        self.array = array

    @classmethod
    def zeros(cls, rows: int, cols: int) -> Matrix:
        """A matrix of zeros in float32."""
        return cls(kernels.zeros(rows, cols, np.float32))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.array.shape
        return rows, columns

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float16."""
        kind: np.dtype[Any] = self.array.dtype
        return kind

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.array.__cuda_array_interface__

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> Matrix:
        """One row or a slice of them, which are shared, or a sequence of ids, which are copied."""
        if isinstance(rows, slice):
            return Matrix(self.array[rows])
        if np.ndim(rows) == 0:
            (row,) = check_ids([rows], len(self), "rows").tolist()
            return Matrix(self.array[row : row + 1])
        return Matrix(self.array[cp.asarray(check_ids(_host(rows), len(self), "rows"))])

    def assign_rows(self, rowids: Any, other: Any) -> None:
        """Copy the rows of ``other`` to those with these ids."""
        ids = check_ids(_host(rowids), len(self), "rowids")
        rows = _array(other)
        if rows.shape != (len(ids), self.shape[1]):
            raise ValueError(f"other must have shape {(len(ids), self.shape[1])}, got {rows.shape}")
        self.array[cp.asarray(ids)] = rows

    def astype(self, dtype: DTypeLike) -> Matrix:
        """A copy in float32 or float16."""
        if np.dtype(dtype) not in (np.float32, np.float16):
            raise ValueError(f"dtype must be float32 or float16, got {dtype}")
        return Matrix(self.array.astype(dtype))

    def resize(self, rows: int, cols: int) -> None:
        """Append rows of zeros."""
        if rows < len(self) or cols != self.shape[1]:
            raise ValueError(f"a matrix of shape {self.shape} can get more rows only, got shape {(rows, cols)}")
        grown = kernels.zeros(rows, cols, self.dtype)
        grown[: len(self)] = self.array
        self.array = grown

    def to_numpy(self) -> NDArray[Any]:
        """A copy on the host."""
        return kernels.to_host(self.array)

    def __repr__(self) -> str:
        return f"Matrix({self.to_numpy()!r})"


class IntVector:
    """Integers of 32 bits on the GPU; ``array`` is the CuPy array."""

    def __init__(self, data: Any) -> None:
        self.array = cp.asarray(_host(data).astype(np.int32))

    def to_numpy(self) -> NDArray[np.int32]:
        """A copy on the host."""
        host: NDArray[np.int32] = self.array.get()
        return host


class CSRMatrix:
    """A sparse matrix for :class:`LeastSquaresSolver`; ``counts`` has its arrays."""

    def __init__(self, X: Any) -> None:
        matrix = check_csr(X, "X")
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        self.counts = kernels.to_device(to_counts(matrix))


class COOMatrix:
    """Pairs of rows and columns for :class:`KnnQuery`; ``counts`` has them in order."""

    def __init__(self, X: Any) -> None:
        check_sparse(X, "X")
        self.counts = CSRMatrix(X.tocsr()).counts


class KnnQuery:
    """Finds the items of the largest inner products.

    Parameters
    ----------
    max_temp_memory : int
        Not used: work space is bounded by ``implicit_core.gpu.kernels.WORK_BYTES``.
    """

    def __init__(self, max_temp_memory: int = 0) -> None:
        self.max_temp_memory = max_temp_memory

    def topk(
        self,
        items: Any,
        m: Any,
        k: int,
        item_norms: Any = None,
        query_filter: COOMatrix | None = None,
        item_filter: IntVector | None = None,
    ) -> tuple[NDArray[np.int32], Scores]:
        """The k best items per row of ``m``, by descending score and, where that is equal, ascending id.

        Parameters
        ----------
        items : Matrix, shape (items, factors)
        m : Matrix, shape (queries, factors)
        k : int
        item_norms : Matrix, optional
            What to divide scores by.
        query_filter : COOMatrix, optional
            Pairs (query, item) to rank last.
        item_filter : IntVector, optional
            Items to rank last for every query.

        Returns
        -------
        ids : ndarray of int32, shape (queries, k)
            −1 beyond the number of items.
        scores : ndarray of float32, shape (queries, k)
        """
        index = kernels.prepare(kernels.as_factors(_array(items)))
        if item_norms is not None:
            index = index._replace(norms=cp.ascontiguousarray(_array(item_norms).reshape(-1).astype(np.float32)))
        queries = kernels.as_factors(_array(m))
        if queries.shape[1] != index.factors.shape[1]:
            widths = f"{index.factors.shape[1]} and {queries.shape[1]}"
            raise ValueError(f"items and m must have the same width, got {widths}")
        drop = None if item_filter is None else np.unique(item_filter.to_numpy())
        exclude: Counts | None = None if query_filter is None else query_filter.counts
        if exclude is not None and exclude.shape[0] != len(queries):
            raise ValueError(f"query_filter must have a row per query ({len(queries)}), got {exclude.shape[0]}")
        return kernels.topk(queries, index, check_count(k, "k"), exclude=exclude, drop=drop)


class RandomState:
    """Matrices of random numbers.

    Parameters
    ----------
    seed : int, default 42
        As of :func:`numpy.random.default_rng`, which draws them.
    """

    def __init__(self, seed: Any = 42) -> None:
        self._random = np.random.default_rng(seed)

    def uniform(self, rows: int, cols: int, low: float = 0.0, high: float = 1.0) -> Matrix:
        """Numbers from ``low`` to ``high``."""
        return self._scaled(self._random.random((rows, cols), np.float32), high - low, low)

    def randn(self, rows: int, cols: int, mean: float = 0.0, stddev: float = 1.0) -> Matrix:
        """Numbers of a normal distribution."""
        return self._scaled(self._random.standard_normal((rows, cols), np.float32), stddev, mean)

    @staticmethod
    def _scaled(numbers: NDArray[np.float32], scale: float, shift: float) -> Matrix:
        numbers *= np.float32(scale)
        numbers += np.float32(shift)
        return Matrix(kernels.as_factors(numbers))


class LeastSquaresSolver:
    """Half-steps of alternating least squares."""

    def calculate_yty(self, Y: Any, YtY: Any, regularization: float) -> None:
        """Write YᵀY + ``regularization`` I to ``YtY``."""
        gram = kernels.gram(kernels.as_factors(_array(Y)))
        _write(YtY, cp.asarray((gram + regularization * np.eye(len(gram))).astype(np.float32)))

    def least_squares(self, cui: CSRMatrix, X: Any, YtY: Any, Y: Any, cg_steps: int) -> None:
        """Improve the rows of ``X`` in place, with what :meth:`calculate_yty` wrote, by conjugate gradient."""
        counts, x = cui.counts, _array(X)
        held = kernels.as_factors(x)
        fixed = kernels.writable(_array(Y), held.dtype)
        if counts.shape != (len(held), len(fixed)) or held.shape[1] != fixed.shape[1]:
            shapes = f"{counts.shape}, {held.shape} and {fixed.shape}"
            raise ValueError(f"shapes {shapes} of cui, X and Y do not go together")
        gram, diag = _host(YtY), np.zeros(len(held), dtype=np.float32)
        steps = check_count(cg_steps, "cg_steps", 1, 2**31 - 1)
        kernels.least_squares(counts, held, fixed, gram, diag, Policy(), steps, slice(None))
        if held is not x or isinstance(X, np.ndarray):
            _write(X, held)

    def calculate_loss(self, cui: CSRMatrix, X: Any, Y: Any, regularization: float) -> float:
        """The loss of the model, divided by the sum of all confidences."""
        objective, counts = Objective.of(regularization), cui.counts
        x, y = _array(X), _array(Y)
        kind = np.float16 if x.dtype == y.dtype == np.float16 else np.float32
        factors = kernels.writable(x, kind), kernels.writable(y, kind)
        grams = kernels.gram(factors[0]), kernels.gram(factors[1])
        ridges = objective.regularization, objective.regularization
        total = objective.total_weight(counts)
        device: Any = kernels
        return objective.loss(device, counts, factors, grams, ridges, 0) / total if total else 0.0


def calculate_norms(items: Any) -> Matrix:
    """L2 norms of rows as a matrix of one row, 1e-10 where all are zero."""
    return Matrix(kernels.norms(kernels.as_factors(_array(items))).reshape(1, -1))


def get_device_count() -> int:
    """How many GPUs there are."""
    count: int = cp.cuda.runtime.getDeviceCount()
    return count


def _array(X: Any) -> Any:
    """An array of the GPU; it shares its memory with ``X`` where that lies there."""
    return X.array if isinstance(X, (Matrix, IntVector)) else cp.asarray(shared(X))


def _write(X: Any, rows: Any) -> None:
    """Copy rows of the GPU to where ``X`` lies."""
    target = X if isinstance(X, np.ndarray) else _array(X)
    target[...] = kernels.to_host(rows) if isinstance(X, np.ndarray) else rows


def _host(X: Any) -> NDArray[Any]:
    array: ArrayLike = X.array if isinstance(X, (Matrix, IntVector)) else shared(X)
    return kernels.to_host(array)
