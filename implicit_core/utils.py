"""Helpers under the names that they have in ``implicit.utils``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from implicit_core._errors import ParameterWarning
from implicit_core._matrices import check_csr, real_matrix
from implicit_core._typing import Factors, Ids, Matrix, Scores

__all__ = [
    "ParameterWarning",
    "augment_inner_product_matrix",
    "check_blas_config",
    "check_csr",
    "check_random_state",
    "nonzeros",
]

_checked_blas_config = True  # kept since callers of ``implicit`` set it


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

    Raises
    ------
    TypeError, ValueError
        It is none of these, or a negative number.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(np.iinfo(np.int32).max))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise type(error)(
            "random_state must be None, an integer of at least 0, or a Generator, RandomState, BitGenerator or "
            f"SeedSequence of NumPy, got {random_state!r}"
        ) from error


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

    Raises
    ------
    TypeError, ValueError
        ``factors`` are not real numbers, or not two-dimensional.
    """
    factors = real_matrix(factors, "factors")
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(factors, axis=1)
        max_norm = norms.max(initial=0)
        extra = np.sqrt(np.maximum(max_norm**2 - norms**2, 0)).astype(factors.dtype)
    if not np.isfinite(max_norm**2):
        raise ValueError("factors must be finite, and the squares of their norms, too; scale them down")
    return max_norm, np.column_stack([factors, extra])


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
