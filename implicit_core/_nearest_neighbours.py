"""Item–item similarities and the recommendations that follow from them, under the names of ``implicit``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix

from implicit_core._checks import check_count, check_results, check_size, check_threads
from implicit_core._kernels import effective_threads, product_work, split_rows
from implicit_core._matrices import check_columns, check_csr, check_real, finite_float64, real_array, to_counts
from implicit_core._progress import progress_bar
from implicit_core._typing import Counts, Ids, Matrix, Scores
from implicit_core.cpu import kernels

PIECE_WORK = 2e8  #: multiplications per thread between two chances to interrupt
PIECE_RESULTS = 2**22  #: bound on the results of a piece, which are copied to where they belong


def all_pairs_knn(users: Matrix, K: int = 100, num_threads: int = 0, show_progress: bool = True) -> coo_matrix:
    r"""Find the items most similar to each item.

    .. math:: s_{ij} = \sum_u x_{ui} x_{uj}

    Only items that have a user in common with an item count as its neighbours; the item itself is one of them.

    Parameters
    ----------
    users : csr_matrix or csr_array, shape (users, items)
        Weights x. Other sparse formats are converted, with a ParameterWarning.
    K : int, default 100
        Most neighbours of an item, at least 1.
    num_threads : int, default 0
        0 means all that this process may use; negative counts from the end, −1 = all. The result has the same bits
        for any number.
    show_progress : bool, default True
        Show a progress bar.

    Returns
    -------
    similarity : coo_matrix of float64, shape (items, items)
        Up to K entries in each row: those of the largest s, in descending order, equal ones by ascending id.

    Raises
    ------
    ModelFitError
        A value is NaN or infinite.
    ValueError
        K is less than 1.
    """
    found = neighbours(users, K, num_threads, show_progress)
    row = np.repeat(np.arange(found.shape[0], dtype=np.int32), np.diff(found.indptr))
    return coo_matrix((found.values, (row, found.indices)), shape=found.shape)


def neighbours(users: Matrix, K: int, num_threads: int, show_progress: bool) -> Counts:
    """What :func:`all_pairs_knn` finds, by rows."""
    K = check_count(K, "K", 1)
    check_threads(num_threads)
    matrix = finite_float64(check_csr(users, "users"), "users")
    n = matrix.shape[1]
    by_user, by_item = to_counts(matrix), to_counts(matrix.T.tocsr())
    k = min(K, n)
    parts = []
    with progress_bar(n, show_progress) as progress:
        for rows, piece in _pieces(by_item, by_user, k, num_threads):
            parts.append(kernels.all_pairs_knn(piece, by_user, k, num_threads))
            progress.update(rows.stop - rows.start)
    lengths = [np.zeros(1, dtype=np.int64), *(np.diff(part.indptr) for part in parts)]
    indices = _joined([part.indices for part in parts], np.int32)
    values = _joined([part.values for part in parts], np.float64)
    return Counts(np.cumsum(np.concatenate(lengths)), indices, values, (n, n))


def _pieces(left: Counts, right: Counts, k: int, num_threads: int) -> Iterator[tuple[slice, Counts]]:
    """Runs of rows of ``left`` that a kernel multiplies with ``right`` in a short time and little space."""
    rows, entries = len(left.indptr) - 1, left.indices[left.indptr[0] : left.indptr[-1]]
    uses = np.bincount(entries, minlength=len(right.indptr) - 1)  # of rows of `right`
    work = float(uses @ np.diff(right.indptr)) + kernels.ROW_WORK * rows
    pieces = int(np.ceil(max(work / (PIECE_WORK * effective_threads(num_threads)), rows * k / PIECE_RESULTS)))
    before = product_work(left, right) if pieces > 1 else left.indptr
    for start, stop in pairwise(split_rows(before, slice(None), kernels.ROW_WORK, pieces).tolist()):
        yield slice(start, stop), left._replace(indptr=left.indptr[start : stop + 1])


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


class NearestNeighboursScorer:
    """Recommends the items most similar to those that a user likes.

    Parameters
    ----------
    similarity : csr_matrix or csr_array, shape (items, items)

    Attributes
    ----------
    similarity : csr_matrix or csr_array

    Notes
    -----
    Calls from several threads run at once.
    """

    def __init__(self, similarity: Matrix) -> None:
        matrix = check_csr(similarity, "similarity")
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"similarity must be square, got shape {matrix.shape}")
        self.similarity = matrix
        self._counts = float64_counts(to_counts(matrix), "similarity")

    def recommend(
        self,
        user_indptr: ArrayLike,
        user_indices: ArrayLike,
        user_data: ArrayLike,
        K: int = 10,
        remove_own_likes: bool = True,
    ) -> tuple[Ids, Scores]:
        """Recommend items to the user in the first row of a CSR matrix.

        Parameters
        ----------
        user_indptr, user_indices, user_data : array of int, int and float
            The arrays of the matrix.
        K : int, default 10
            Most results.
        remove_own_likes : bool, default True
            Leave out the items stored in the row.

        Returns
        -------
        ids : ndarray of int32
        scores : ndarray of float64, of the same shape
            Descending; equal scores by ascending id. There are fewer than K where fewer items can be reached.

        Raises
        ------
        TypeError, ValueError
            The arrays contradict each other, or hold an unknown item.
        """
        indptr, indices, values = (
            _vector(array, name, kinds)
            for array, name, kinds in (
                (user_indptr, "user_indptr", "iu"),
                (user_indices, "user_indices", "iu"),
                (user_data, "user_data", "biuf"),
            )
        )
        if len(indptr) < 2:
            raise ValueError(f"user_indptr must hold the start and the end of the first row, got {indptr}")
        start, stop = indptr[:2].tolist()
        if not 0 <= start <= stop <= min(len(indices), len(values)):
            raise ValueError(
                f"user_indptr must rise within the {len(indices)} indices and {len(values)} values, got {start}, {stop}"
            )
        indices = indices[start:stop]
        check_columns(indices, self._counts.shape[1], "user_indices")
        row = Counts(
            np.array([0, stop - start]), indices.astype(np.int32), values[start:stop], (1, self._counts.shape[1])
        )
        ids, scores = self.rank(row, check_size(K, "K"), exclude_liked=remove_own_likes)
        return ids[0, ids[0] >= 0], scores[0, ids[0] >= 0]

    def rank(self, liked: Counts, k: int, **options: Any) -> tuple[Ids, Scores]:
        """The best k items for each row of ``liked``; see :func:`rank`."""
        return rank(float64_counts(liked, "user_items"), self._counts, k, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.similarity,)


def _vector(values: ArrayLike, name: str, kinds: str) -> NDArray[Any]:
    """An array with one dimension and a type of one of these kinds, which an empty one need not have."""
    array = real_array(values, name)
    if array.ndim != 1 or (array.size and array.dtype.kind not in kinds):
        raise ValueError(f"{name} must be one-dimensional, got {array.dtype} values of shape {array.shape}")
    return array if array.size else array.astype(np.int64)


def rank(
    liked: Counts,
    similarity: Counts,
    k: int,
    *,
    exclude_liked: bool = False,
    only: NDArray[np.int32] | None = None,
    drop: NDArray[np.int32] | None = None,
    num_threads: int = 0,
) -> tuple[Ids, Scores]:
    """The best k columns for each row of liked · similarity; see :func:`implicit_core._arrays.knn_recommend`."""
    check_results(k, len(liked.indptr) - 1, 12)
    if len(liked.indptr) == 2:
        return kernels.knn_recommend(
            liked, similarity, k, exclude_liked=exclude_liked, only=only, drop=drop, num_threads=num_threads
        )
    ids, scores = np.empty((len(liked.indptr) - 1, k), dtype=np.int32), np.empty((len(liked.indptr) - 1, k))
    for rows, piece in _pieces(liked, similarity, k, num_threads):
        ids[rows], scores[rows] = kernels.knn_recommend(
            piece, similarity, k, exclude_liked=exclude_liked, only=only, drop=drop, num_threads=num_threads
        )
    return ids, scores


def float64_counts(counts: Counts, name: str) -> Counts:
    """The same with values of float64.

    Raises
    ------
    TypeError
        The values are not real numbers.
    """
    check_real(counts.values, name)
    return counts._replace(values=np.ascontiguousarray(counts.values, dtype=np.float64))
