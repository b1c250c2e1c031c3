"""Array programs: the definition of every kernel, the ``use_native=False`` path and the oracle of the tests.

They satisfy :class:`implicit_core._kernels.Kernels` and favour clarity over speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from implicit_core._blas import one_blas_thread
from implicit_core._checks import check_memory
from implicit_core._errors import ModelFitError
from implicit_core._memory import aligned
from implicit_core._typing import Counts, CsrArrays, Factors, Ids, Index, Negatives, Policy, Scores

TINY = 1e-20  #: conjugate gradient stops at this squared residual
BPR_DRAWS = 2**20  #: steps that are drawn and put in order together
BPR_BLOCKS = 16  #: of users and of items, between which steps are shared out; a power of two
LMF_GROUP = 16  #: rows that draw from the same place of the pool, so that what they draw is in cache
ADAGRAD_START = 1e-6  #: sum of squared gradients before the first step
ZERO_NORM = 1e-10  #: stands for the norm of an all-zero vector
NO_SCORE = float(np.finfo(np.float32).min)  #: score of a position without an item, in results of nearest neighbours


def entries(values: NDArray[np.floating], policy: Policy) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and right-hand sides of stored values."""
    c = (np.float32(policy.alpha) * values.astype(np.float32)).astype(np.float64)
    return (c, c) if policy.observed else (np.abs(c) - 1, np.maximum(c, 0))


def is_array(array: Any) -> bool:
    """Whether it is an array that the device takes."""
    return isinstance(array, np.ndarray)


def check_room(counts: Counts, width: int, dtype: DTypeLike, sides: int, orders: int) -> None:
    """Raise MemoryError where new factors, or their gram matrix, are larger than the memory of the machine."""
    size = sum(counts.shape) * width * np.dtype(dtype).itemsize if sides else 0
    gram = 8 * width**2 if orders == 2 else 0
    users, items = counts.shape
    check_memory(max(size, gram), f"{width} factors of {users} users and {items} items", "take fewer factors")


def to_device(counts: Counts) -> Counts:
    """A matrix in the memory of the device; ``indptr`` is on the host always."""
    return counts


def to_host(array: Any) -> NDArray[Any]:
    """An array of the device on the host; itself where it is there."""
    return np.asarray(array)


def as_factors(array: Any) -> Factors:
    """Factors as an array that a kernel reads: itself where its type and layout allow."""
    factors = np.asarray(array)
    return factors if factors.dtype in (np.float32, np.float64) else factors.astype(np.float32)


def writable(array: Any, dtype: DTypeLike) -> Factors:
    """Factors of a type as an array that a kernel may write: itself where that will do."""
    with np.errstate(over="ignore"):
        return np.require(array, dtype, ["C", "A", "W"])


def zeros(rows: int, width: int, dtype: DTypeLike) -> Factors:
    """Factors of zero."""
    factors = aligned((rows, width), dtype)
    factors.fill(0)
    return factors


def take(factors: Factors, ids: Ids) -> Factors:
    """Rows of factors, copied."""
    rows: Factors = factors.take(ids, axis=0)
    return rows


def put(factors: Factors, ids: Ids, rows: Factors) -> None:
    """Write rows of factors."""
    factors[ids] = rows


def squared_norms(factors: Factors) -> NDArray[np.float64]:
    """Squared L2 norms of rows in float64, where the factors are."""
    norms: NDArray[np.float64] = np.einsum("ij,ij->i", factors, factors, dtype=np.float64)
    return norms


def gram(Y: Factors, num_threads: int = 0) -> NDArray[np.float64]:
    """YᵀY in float64, on the host."""
    with one_blas_thread, np.errstate(over="ignore", invalid="ignore"):
        wide = Y.astype(np.float64)
        return wide.T @ wide


class Axes:
    """The basis in which a fit by conjugate gradient holds the factors of both sides: the one in which they came."""

    def turn(self, X: Factors, Y: Factors, gram: NDArray[np.float64], num_threads: int = 0) -> NDArray[np.float64]:
        """Turn ``X`` and ``Y`` for a half-step with ``Y`` fixed; give its gram matrix then, or the diagonal alone."""
        return gram

    def turn_back(self, X: Factors, Y: Factors, num_threads: int = 0) -> None:
        """Turn them to the basis in which they came."""


def axes(rows: int, factors: int) -> Axes:
    """How to hold ``rows`` rows of both sides together."""
    return Axes()


def least_squares(
    counts: Counts,
    X: Factors,
    Y: Factors,
    gram: NDArray[np.floating],
    diag: NDArray[np.floating],
    policy: Policy,
    cg_steps: int | None,
    rows: slice,
    num_threads: int = 0,
) -> None:
    """Solve (gram + diag_u I + Σ w y yᵀ) x_u = Σ b y for the rows u of ``X``, in place; empty rows become zero.

    By ``cg_steps`` steps of conjugate gradient from the current factors, or exactly where that is None. ``gram`` may be
    the diagonal alone of a matrix that has nothing else, with ``cg_steps``.
    """
    start, stop, _ = rows.indices(X.shape[0])
    gram = (np.diag(gram) if gram.ndim == 1 else gram).astype(X.dtype)
    with one_blas_thread, np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for u in range(start, stop):
            if counts.indptr[u] == counts.indptr[u + 1]:
                X[u] = 0
            elif cg_steps is None:
                X[u] = _exact(*linear_system(counts, u, Y, gram, diag[u], policy), u)
            else:
                X[u] = _conjugate_gradient(_row(counts, u, Y, policy, gram.dtype), gram, diag[u], X[u], cg_steps)


def _row(counts: Counts, u: int, Y: Factors, policy: Policy, dtype: DTypeLike) -> tuple[Factors, Factors, Factors]:
    """Fixed factors, weights and right-hand sides of the stored entries of row u."""
    stored = slice(counts.indptr[u], counts.indptr[u + 1])
    weight, rhs = entries(counts.values[stored], policy)
    return Y[counts.indices[stored]].astype(dtype), weight.astype(dtype), rhs.astype(dtype)


def linear_system(
    counts: Counts, u: int, Y: Factors, gram: NDArray[np.floating], ridge: float, policy: Policy
) -> tuple[Factors, Factors]:
    """A and b of the linear system A x = b of row u, in the type of ``gram``."""
    y, weight, rhs = _row(counts, u, Y, policy, gram.dtype)
    return gram + ridge * np.eye(len(gram), dtype=gram.dtype) + y.T @ (weight[:, None] * y), y.T @ rhs


def _exact(A: Factors, b: Factors, u: int) -> Factors:
    try:
        np.linalg.cholesky(A)
        return np.linalg.solve(A, b)
    except np.linalg.LinAlgError as error:
        raise ModelFitError.not_positive_definite(u) from error


def _conjugate_gradient(
    row: tuple[Factors, Factors, Factors], gram: Factors, ridge: float, x: Factors, steps: int
) -> Factors:
    y, weight, rhs = row

    def product(v: Factors) -> Factors:
        Av: Factors = gram @ v + ridge * v + y.T @ (weight * (y @ v))
        return Av

    r = y.T @ rhs - product(x)
    p, rsold = r, r @ r
    for _ in range(steps):
        if rsold < TINY:
            break
        Ap = product(p)
        curvature = p @ Ap
        length = rsold / curvature if np.isfinite(curvature) else np.nan  # a step of 0 would leave the row as it was
        x = x + length * p
        r = r - length * Ap
        rsnew = r @ r
        p, rsold = r + (rsnew / rsold) * p, rsnew
    return x


def stored_error(counts: Counts, X: Factors, Y: Factors, policy: Policy, num_threads: int = 0) -> float:
    """Σ over stored entries of w s² − 2 b s + b, s = x_u · y_i: what they add to the squared error of all cells."""
    total = 0.0
    for u in range(X.shape[0]):
        y, weight, rhs = _row(counts, u, Y, policy, np.float64)
        s = y @ X[u]
        total += float(np.sum(weight * s * s - 2 * rhs * s + rhs))
    return total


def prepare(
    items: Factors, ids: Ids | None = None, *, cosine: bool = False, queries: int = 0, num_threads: int = 0
) -> Index:
    """Candidates ``ids`` (default: all rows) of ``items`` for ``topk``."""
    if ids is None:
        ids = np.arange(items.shape[0], dtype=np.int32)
    return Index(items, ids.astype(np.int32, copy=False), cosine)


def topk(
    queries: Factors,
    index: Index,
    k: int,
    *,
    exclude: Counts | None = None,
    drop: NDArray[np.int32] | None = None,
    num_threads: int = 0,
) -> tuple[NDArray[np.int32], Scores]:
    """The k best candidates per query by inner product, descending, equal scores by ascending id.

    Excluded pairs, dropped ids and scores that are no number rank last with score −finfo.max. Positions beyond the
    number of candidates hold id −1 and that same score.
    """
    lowest = np.finfo(queries.dtype).min
    ids = np.full((len(queries), k), -1, dtype=np.int32)
    scores = np.full((len(queries), k), lowest, dtype=queries.dtype)
    candidates = index.factors[index.ids]
    norms = np.sqrt(np.sum(candidates.astype(np.float64) ** 2, axis=1)) if index.cosine else np.ones(len(index.ids))
    norms = np.where(norms == 0, ZERO_NORM, norms).astype(queries.dtype)
    with one_blas_thread, np.errstate(over="ignore", invalid="ignore"):
        for q, query in enumerate(queries):
            score = (candidates * query).sum(axis=1) / norms  # one by one, so that a score depends on its item alone
            score[~(score >= lowest)] = lowest
            if drop is not None:
                score[np.isin(index.ids, drop)] = lowest
            if exclude is not None:
                stored = exclude.indices[exclude.indptr[q] : exclude.indptr[q + 1]]
                score[np.isin(index.ids, stored)] = lowest
            best = np.lexsort((index.ids, -score))[:k]
            ids[q, : len(best)], scores[q, : len(best)] = index.ids[best], score[best]
    return ids, scores


def philox(
    key: int, epoch: int, n: NDArray[np.uint64], stream: int = 0
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Two numbers of 64 random bits for each draw n of a stream: Philox4x32-10 (Salmon et al. 2011)."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = n & mask, n >> half, np.full_like(n, epoch), np.full_like(n, stream)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> half) ^ c1 ^ np.uint64(k0),
            product1 & mask,
            (product0 >> half) ^ c3 ^ np.uint64(k1),
            product0 & mask,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c1 << half | c0, c3 << half | c2


def bpr_draws(
    counts: Counts, users: NDArray[np.int32], key: int, epoch: int, draws: NDArray[np.uint64], verify: bool
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Triples (user, liked, disliked) of the draws of an epoch, and which of them are skipped.

    The user and the liked item are those of a stored entry, the disliked item is that of another, each drawn by
    ⌊bits · entries / 2⁶⁴⌋. Skipped are triples of one item, and with ``verify`` those whose user has both.
    """
    entries = len(counts.indices)
    first, second = ([int(bits) * entries >> 64 for bits in stream] for stream in philox(key, epoch, draws))
    triples = np.column_stack([users[first], counts.indices[first], counts.indices[second]])
    stored = set(zip(users.tolist(), counts.indices.tolist(), strict=True))
    skipped = [i == j or (verify and (u, j) in stored) for u, i, j in triples.tolist()]
    return triples, np.array(skipped, dtype=bool)


def bpr_epoch(
    counts: Counts,
    users: NDArray[np.int32],
    X: Factors,
    Y: Factors,
    learning_rate: float,
    regularization: float,
    key: int,
    epoch: int,
    verify: bool,
    deterministic: bool = True,
    num_threads: int = 0,
) -> tuple[int, int]:
    """An epoch of Bayesian personalized ranking in place: as many steps as there are entries, in a fixed order.

    Returns how many triples were in the right order before their step, and how many draws were skipped.
    """
    correct = skipped = 0
    for start in range(0, len(users), BPR_DRAWS):
        draws = np.arange(start, min(start + BPR_DRAWS, len(users)), dtype=np.uint64)
        triples, skip = bpr_draws(counts, users, key, epoch, draws, verify)
        skipped += int(skip.sum())
        triples = triples[~skip]
        tasks = bpr_tasks(triples, bpr_multiplier(key, epoch, start))
        for user, i, j in triples[np.argsort(tasks, kind="stable")]:
            x, liked, disliked = X[user].copy(), Y[i].copy(), Y[j].copy()
            z = 1 / (1 + np.exp(x @ (liked - disliked)))
            correct += int(z < 0.5)
            X[user, :-1] += learning_rate * (z * (liked - disliked) - regularization * x)[:-1]
            Y[i] += learning_rate * (z * x - regularization * liked)
            Y[j] += learning_rate * (-z * x - regularization * disliked)
    return correct, skipped


def bpr_multiplier(key: int, epoch: int, start: int) -> int:
    """The odd number that tells the blocks of the draws from ``start`` on."""
    bits, _ = philox(key, epoch, np.array([start], dtype=np.uint64), 1)
    return int(bits[0]) & 0xFFFFFFFF | 1


def bpr_tasks(triples: NDArray[np.int32], multiplier: int) -> NDArray[np.int64]:
    """The task of each triple: all those of a task, in order, come before the tasks of a higher number.

    Users and items fall into BPR_BLOCKS blocks, by the first bits of their id times the multiplier, modulo 2³². As many
    tasks make up a round, in which no two share a block, so that they can run side by side: in the first rounds both
    items are of one block, in the others the two blocks of items meet as in a round-robin tournament.
    """
    blocks = BPR_BLOCKS
    hashes = triples.astype(np.uint32) * np.uint32(multiplier)
    user, a, b = (hashes // np.uint32(2**32 // blocks)).T.astype(np.int64)
    last = blocks - 1
    fixed = (a == last) | (b == last)  # this block stays in its seat while the others go round
    meeting = np.where(fixed, np.minimum(a, b), (a + b) * (blocks // 2) % last)
    slot = np.where(fixed, 0, np.minimum((a - meeting) % last, (b - meeting) % last))
    apart = (blocks + meeting * blocks + (user - slot) % blocks) * blocks + slot
    tasks: NDArray[np.int64] = np.where(a == b, (user - a) % blocks * blocks + a, apart)
    return tasks


def lmf_draws(negatives: Negatives, u: int, epoch: int, side: int) -> NDArray[np.int32]:
    """The columns that row u draws in an epoch: those of the pool from a place that its group of rows shares.

    The place is ⌊bits · size of the pool / 2⁶⁴⌋; the beginning of the pool follows its end.
    """
    draws, size = int(negatives.indptr[u + 1] - negatives.indptr[u]), len(negatives.pool)
    bits, _ = philox(negatives.key, epoch, np.array([u // LMF_GROUP], dtype=np.uint64), side)
    drawn: NDArray[np.int32] = negatives.pool[((int(bits[0]) * size >> 64) + np.arange(draws)) % size]
    return drawn


def lmf_step(
    counts: Counts,
    X: Factors,
    squares: Factors,
    Y: Factors,
    learning_rate: float,
    regularization: float,
    negatives: Negatives,
    epoch: int,
    side: int,
    rows: slice,
    num_threads: int = 0,
) -> None:
    """A step of AdaGrad for the rows u of ``X`` in place, with ``Y`` fixed; rows without entries stay as they are.

    The gradient is that of Σ over stored entries of c ln σ(x_u · y_i), or |c| ln σ(−x_u · y_i) where the value c is
    negative, plus Σ over drawn columns that are not stored of ln σ(−x_u · y_j), less λ/2 |x_u|². ``squares`` sums the
    squared gradients of all steps. ``side`` is 0 for users and 1 for items: column factors + side of ``X`` is constant.
    """
    start, stop, _ = rows.indices(X.shape[0])
    for u in range(start, stop):
        stored = slice(counts.indptr[u], counts.indptr[u + 1])
        liked, values = counts.indices[stored], counts.values[stored]
        if len(liked) == 0:
            continue
        drawn = lmf_draws(negatives, u, epoch, side)
        drawn = drawn[~np.isin(drawn, liked)]
        values = np.append(values, np.full(len(drawn), -1)).astype(X.dtype)
        y = Y[np.append(liked, drawn)]
        with np.errstate(over="ignore"):
            weight = values / (1 + np.exp(np.where(values > 0, 1, -1) * (y @ X[u])))
        gradient = y.T @ weight - regularization * X[u]
        squares[u] += gradient**2
        step = learning_rate * gradient / np.sqrt(ADAGRAD_START + squares[u])
        step[X.shape[1] - 2 + side] = 0
        X[u] += step


def ranking_counts(ranked: Ids, relevant: Counts, num_threads: int = 0) -> NDArray[np.int32]:
    """How many distinct relevant items are among the first 1, 2, … k ranked ones of each row.

    Row u of ``relevant`` holds the relevant items of row u of ``ranked``, rising. An id that came before in the row, or
    that is no item, counts for nothing.
    """
    counts = np.zeros(ranked.shape, dtype=np.int32)
    for u, row in enumerate(ranked):
        stored = relevant.indices[relevant.indptr[u] : relevant.indptr[u + 1]]
        _, first = np.unique(row, return_index=True)
        new = np.isin(np.arange(len(row)), first)
        counts[u] = np.cumsum(new & np.isin(row, stored))
    return counts


def split_entries(
    indptr: Ids, indices: Ids, values: NDArray[Any], chosen: NDArray[np.bool_]
) -> tuple[CsrArrays, CsrArrays]:
    """The chosen entries of a CSR matrix, and the others: each as (indptr, indices, values)."""
    before = np.concatenate([[0], np.cumsum(chosen)])[indptr]
    return (before, indices[chosen], values[chosen]), (indptr - before, indices[~chosen], values[~chosen])


def all_pairs_knn(items: Counts, users: Counts, k: int, num_threads: int = 0) -> Counts:
    """The k largest entries of each row of items · users, descending, equal ones by ascending column.

    Only columns that the row reaches take part: those of items that share a user, whatever their product. Products that
    are no number rank last, as the lowest finite one.
    """
    return found_only(*knn_recommend(items, users, k, num_threads=num_threads), users.shape[1])


def found_only(ids: NDArray[np.int32], scores: Scores, columns: int) -> Counts:
    """Results as a sparse matrix, without padding."""
    found = ids >= 0
    indptr = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum(np.count_nonzero(found, axis=1), out=indptr[1:])
    return Counts(indptr, ids[found], scores[found], (len(ids), columns))


def knn_recommend(
    liked: Counts,
    similarity: Counts,
    k: int,
    *,
    exclude_liked: bool = False,
    only: NDArray[np.int32] | None = None,
    drop: NDArray[np.int32] | None = None,
    num_threads: int = 0,
) -> tuple[NDArray[np.int32], Scores]:
    """The k best columns per row of liked · similarity, descending, equal scores by ascending id.

    Only columns that a row reaches take part, less those in ``drop`` and, with ``exclude_liked``, those stored in the
    row of ``liked``. With ``only`` exactly these ids take part, and what would not have had the score −finfo.max, as
    have scores that are no number. What is left over holds id −1 and the score ``NO_SCORE``.
    """
    lowest = np.finfo(np.float64).min
    rows = len(liked.indptr) - 1
    ids = np.full((rows, k), -1, dtype=np.int32)
    scores = np.full((rows, k), NO_SCORE)
    for r in range(rows):
        score, reached = _product_row(liked, similarity, r)
        if exclude_liked:
            reached[liked.indices[liked.indptr[r] : liked.indptr[r + 1]]] = False
        if drop is not None:
            reached[drop] = False
        score[~(reached & (score >= lowest))] = lowest
        candidates = np.flatnonzero(reached) if only is None else only
        best = candidates[np.lexsort((candidates, -score[candidates]))][:k]
        ids[r, : len(best)], scores[r, : len(best)] = best, score[best]
    return ids, scores


def _product_row(left: Counts, right: Counts, r: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Row r of left · right, summed in the order of its entries, and which columns it reaches."""
    sums, reached = np.zeros(right.shape[1]), np.zeros(right.shape[1], dtype=np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        for position in range(left.indptr[r], left.indptr[r + 1]):
            row = left.indices[position]
            stored = slice(right.indptr[row], right.indptr[row + 1])
            np.add.at(sums, right.indices[stored], left.values[position] * right.values[stored])
            reached[right.indices[stored]] = True
    return sums, reached
