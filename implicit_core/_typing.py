"""Types that cross module borders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Factors: TypeAlias = NDArray[Any]  #: float32 or float64, a row per user or item
Ids: TypeAlias = NDArray[Any]  #: int32 or int64
Scores: TypeAlias = NDArray[Any]  #: float32 or float64
CsrArrays: TypeAlias = tuple[NDArray[np.int64], Ids, NDArray[Any]]  #: indptr, indices, values
Matrix: TypeAlias = "sparse.csr_matrix | sparse.csr_array"


class Counts(NamedTuple):
    """A CSR matrix as the kernels take it."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[Any]  #: float32 or float64
    shape: tuple[int, int]


class Policy(NamedTuple):
    """How a stored value v becomes a (weight, right-hand side) pair of least squares; c = alpha · v in float32.

    ``observed=False``: (|c| − 1, max(c, 0)), where a cell without entry weighs 1 (Hu, Koren & Volinsky 2008).
    ``observed=True``: (c, c), where only stored cells weigh (Rendle et al. 2021).
    """

    alpha: float = 1.0
    observed: bool = False


class Negatives(NamedTuple):
    """What a half-step of logistic matrix factorization draws for its rows."""

    indptr: NDArray[np.int64]  #: draws indptr[u] … indptr[u + 1] − 1 are those of row u
    pool: NDArray[np.int32]  #: columns in random order, as often as they are likely
    key: int  #: of the random numbers, 64 bits


class Index(NamedTuple):
    """Items made ready for ``topk``: the rows of ``factors`` in ``ids`` are the candidates."""

    factors: Factors
    ids: NDArray[np.int32]
    cosine: bool  #: divide each score by the norm of the item
    packed: NDArray[Any] | None = None  #: the candidates in the order of ``ids``, in panels that the kernel reads
    norms: NDArray[Any] | None = None  #: where packed: the norms of the candidates, not increasing unless cosine
    codes: NDArray[Any] | None = None  #: the panels in 16-bit integers, for a first look, where that is safe
