"""Seeded synthetic data of any size, with planted taste groups and popular items."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

# Users are drawn in blocks of about this many entries: large enough for NumPy, small beside the result.
_BLOCK_ENTRIES = 1 << 20
# Rounds of plain drawing before the users that still lack items are finished by a pass over the whole catalogue.
_ROUNDS = 12

Seed = int | np.random.Generator | None


def make_implicit(
    users: int = 1000,
    items: int = 500,
    entries: int = 20_000,
    *,
    groups: int = 10,
    affinity: float = 0.8,
    popularity_exponent: float = 1.0,
    popularity_offset: float = 10.0,
    activity_sigma: float = 0.5,
    count_median: float = 3.0,
    count_sigma: float = 1.0,
    random_state: Seed = None,
    return_groups: bool = False,
) -> csr_matrix | tuple[csr_matrix, NDArray[np.int32], NDArray[np.int32]]:
    r"""Make implicit feedback of users with planted tastes.

    Every user and every item belongs to one of `groups` taste groups, all about equally large. A user's items are drawn
    one after the other, without repetition, from

    .. math:: P(i \mid u) = a \, \frac{w_i [g_i = g_u]}{\sum_{j: g_j = g_u} w_j} + (1 - a) \frac{w_i}{\sum_j w_j},
              \qquad w_i = (\mathrm{rank}_i + \mathrm{offset})^{-\mathrm{exponent}}

    with the affinity :math:`a`. Popularity ranks and groups are independent of the ids.

    Parameters
    ----------
    users, items : int, default 1000 and 500
        Shape of the matrix.
    entries : int, default 20000
        Number of stored entries, exactly; at most ``users * items``. If it is at least `users`, nobody is without any.
    groups : int, default 10
        Number of taste groups, 1 to `items`.
    affinity : float, default 0.8
        Chance, 0 to 1, that an item is drawn from the user's own group; otherwise it is drawn from all items. With 1,
        a user takes others only after all of the own group.
    popularity_exponent, popularity_offset : float, default 1 and 10
        The Zipf–Mandelbrot law of popularity, both at least 0; the rank begins at 1. Exponent 0 makes all items alike.
    activity_sigma : float, default 0.5
        Standard deviation of the logarithm of the entries per user, at least 0. With 0 they differ by at most 1.
    count_median, count_sigma : float, default 3 and 1
        Median, above 0, and standard deviation of the logarithm, at least 0, of the log-normal counts, which are
        rounded to whole numbers of at least 1.
    random_state : int, numpy.random.Generator or None, default None
        Seed. The same int gives the same bits, on one version of NumPy.
    return_groups : bool, default False
        Whether to return the planted groups, too.

    Returns
    -------
    user_items : csr_matrix of float32, shape (users, items)
        Counts, ready for ``fit``: users are the rows, whereas the loaders of real data sets return items × users.
        Column indices are sorted.
    user_groups : ndarray of int32, shape (users,)
        Group of each user. Only if `return_groups` is true.
    item_groups : ndarray of int32, shape (items,)
        Group of each item. Only if `return_groups` is true.

    Raises
    ------
    TypeError, ValueError
        A parameter is of the wrong kind or out of its range.

    Notes
    -----
    The result takes 8 bytes an entry; 100 to 200 MB come on top while it is made, whatever the number of entries.
    """
    counts: dict[str, Any] = {"users": users, "items": items, "entries": entries, "groups": groups}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, numbers.Integral):
            raise TypeError(f"{name} must be an integer, got {count!r}")
    _check_shape(users, items, entries, groups)
    reals: dict[str, Any] = {
        "affinity": affinity,
        "popularity_exponent": popularity_exponent,
        "popularity_offset": popularity_offset,
        "activity_sigma": activity_sigma,
        "count_median": count_median,
        "count_sigma": count_sigma,
    }
    for name, real in reals.items():
        if not isinstance(real, numbers.Real):
            raise TypeError(f"{name} must be a number, got {real!r}")
    if not 0 <= affinity <= 1:
        raise ValueError(f"affinity must lie in 0..1, got {affinity}")
    if not 0 < count_median < np.inf:
        raise ValueError(f"count_median must be positive and finite, got {count_median}")
    for name, value in (
        ("popularity_exponent", popularity_exponent),
        ("popularity_offset", popularity_offset),
        ("activity_sigma", activity_sigma),
        ("count_sigma", count_sigma),
    ):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value}")

    try:
        rng = np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        text = f"random_state must be None, an integer of at least 0 or a Generator, got {random_state!r}"
        raise type(error)(text) from error
    ranks = np.arange(1, items + 1)
    popularity = ((ranks + popularity_offset) / (1 + popularity_offset)) ** -popularity_exponent
    # A steep law underflows, and an item of weight 0 could never be drawn, even by a user who has all others.
    popularity = np.maximum(popularity, 1e-200)
    catalogue = _Catalogue(rng.permutation(popularity), rng.permutation(items) % groups, affinity)
    user_groups = rng.permutation(users) % groups

    indptr = np.zeros(users + 1, dtype=np.int64)
    np.cumsum(_row_lengths(rng, users, items, entries, activity_sigma), out=indptr[1:])
    indices = np.empty(entries, dtype=np.int32)
    data = np.empty(entries, dtype=np.float32)
    for first, last in _blocks(indptr):
        span = slice(indptr[first], indptr[last])
        indices[span] = catalogue.draw(rng, user_groups[first:last], np.diff(indptr[first : last + 1]))
        _draw_counts(rng, count_median, count_sigma, out=data[span])
    # SciPy wants one type for both index arrays; casting the short one here saves it a copy of the long one.
    if entries <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)
    user_items = csr_matrix((data, indices, indptr), shape=(users, items))
    if return_groups:
        return user_items, user_groups.astype(np.int32), catalogue.groups.astype(np.int32)
    return user_items


def lastfm_shaped(*, random_state: Seed = 0) -> csr_matrix:
    """Make the benchmarks' reference workload: the shape of Last.fm 360K without its structure.

    358,868 users × 292,385 items and 17.56 million entries, about 49 a user; popularity of an item ∝ 1 / (rank + 30),
    log-normal counts, ids shuffled, entries independent (no taste groups).

    Parameters
    ----------
    random_state : int, numpy.random.Generator or None, default 0
        Seed; with the default, everybody who uses the same version of NumPy gets the same matrix.

    Returns
    -------
    user_items : csr_matrix of float32, shape (358868, 292385)
        Raw counts. The benchmarks weight them as the Last.fm tutorial does:
        ``bm25_weight(user_items.T, K1=100, B=0.8).T.tocsr()``, and fit with ``alpha=2``.
    """
    return make_implicit(
        358_868,
        292_385,
        17_560_000,
        groups=1,
        popularity_offset=30,
        activity_sigma=0.03,
        count_median=90,
        count_sigma=1.2,
        random_state=random_state,
    )


def _check_shape(users: int, items: int, entries: int, groups: int) -> None:
    if not (1 <= users <= np.iinfo(np.int32).max and 1 <= items <= np.iinfo(np.int32).max):
        raise ValueError(f"users and items must be at least 1 and at most 2**31 - 1, got {users} and {items}")
    if not 0 <= entries <= users * items:
        raise ValueError(f"entries must lie in 0..users * items ({users * items}), got {entries}")
    if not 1 <= groups <= items:
        raise ValueError(f"groups must lie in 1..items ({items}), got {groups}")


def _row_lengths(rng: np.random.Generator, users: int, items: int, entries: int, sigma: float) -> NDArray[np.int64]:
    """Share `entries` among the users by log-normal activity, at most `items` each."""
    normal = rng.standard_normal(users)
    # Log-normal up to a factor; neither overflow nor a sum of 0, whatever sigma is.
    activity = np.exp(sigma * (normal - normal.max())) + 1e-300
    lengths = np.full(users, 1 if entries >= users else 0, dtype=np.int64)
    while (left := entries - int(lengths.sum())) > 0:
        # What a full row cannot take is shared among the others in the next turn.
        activity[lengths >= items] = 0.0
        shares = np.cumsum(activity)
        steps = np.diff(np.rint(left * (shares / shares[-1])), prepend=0.0)
        lengths = np.minimum(lengths + steps.astype(np.int64), items)
    return lengths


def _blocks(indptr: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of whole rows with about `_BLOCK_ENTRIES` entries each."""
    first, users = 0, len(indptr) - 1
    while first < users:
        end = np.searchsorted(indptr, indptr[first] + _BLOCK_ENTRIES, side="right") - 1
        last = min(max(int(end), first + 1), users)
        yield first, last
        first = last


def _draw_counts(rng: np.random.Generator, median: float, sigma: float, out: NDArray[np.float32]) -> None:
    rng.standard_normal(out=out, dtype=np.float32)
    out *= sigma
    out += np.log(median)
    np.exp(out, out=out)
    np.rint(out, out=out)
    np.maximum(out, 1.0, out=out)


class _Catalogue:
    """The items, and how users of each group draw from them."""

    def __init__(self, weights: NDArray[np.float64], groups: NDArray[np.int64], affinity: float) -> None:
        self.groups = groups
        self.affinity = affinity
        self.weights = weights / weights.sum()
        # In order of group, the items of one group are one interval of the cumulative weights.
        self._order = np.argsort(groups, kind="stable")
        self._cumulative = np.concatenate([[0.0], np.cumsum(self.weights[self._order])])
        self._bounds = np.searchsorted(groups[self._order], np.arange(groups.max() + 2))

    def draw(
        self, rng: np.random.Generator, user_groups: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Draw `lengths[u]` different items for each user; return them row after row, sorted in each.

        Drawing with replacement until there are enough different items is drawing without it, one after the other.
        """
        items = len(self.weights)
        # An item of a user is one number, so that one sort finds the repetitions of all users.
        keys = np.empty(0, dtype=np.int64)
        lacking = lengths
        for _ in range(_ROUNDS):
            rows = np.repeat(np.arange(len(lengths)), lacking)
            drawn = np.sort(rows * items + self._draw_any(rng, user_groups[rows]))
            # The stable sort finds the two sorted runs and only merges them.
            keys = np.sort(np.concatenate([keys, drawn]), kind="stable")
            # Not np.unique: NumPy 2.3 and later hash there, ten times slower than this sort.
            keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]]
            lacking = lengths - np.bincount(keys // items, minlength=len(lengths))
            if not lacking.any():
                break
        else:
            keys = np.sort(np.concatenate([keys, *self._complete(rng, user_groups, keys, lacking)]))
        return keys % items

    def _draw_any(self, rng: np.random.Generator, user_groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw one item for each entry of `user_groups`, repetitions allowed."""
        own = rng.random(len(user_groups)) < self.affinity
        begin = np.where(own, self._bounds[user_groups], 0)
        end = np.where(own, self._bounds[user_groups + 1], len(self.weights))
        low, high = self._cumulative[begin], self._cumulative[end]
        places = np.searchsorted(self._cumulative, low + rng.random(len(own)) * (high - low), side="right") - 1
        # Rounding may carry a draw over the end of the interval.
        ids: NDArray[np.int64] = self._order[np.clip(places, begin, end - 1)]
        return ids

    def _complete(
        self,
        rng: np.random.Generator,
        user_groups: NDArray[np.int64],
        keys: NDArray[np.int64],
        lacking: NDArray[np.int64],
    ) -> Iterator[NDArray[np.int64]]:
        """Yield the keys that users with nearly everything likely still lack.

        The k smallest of exponential times with the weights as rates are k draws without replacement.
        """
        items = len(self.weights)
        group_weights = np.bincount(self.groups, self.weights)
        for row in np.flatnonzero(lacking):
            own = self.groups == user_groups[row]
            # Not quite 0 outside, so that a user who has the whole group goes on with the most popular others.
            rates = self.weights * np.where(own, self.affinity / group_weights[user_groups[row]], 0.0)
            rates += self.weights * max(1.0 - self.affinity, 1e-12)
            times = rng.standard_exponential(items) / rates
            begin, end = np.searchsorted(keys, [row * items, (row + 1) * items])
            times[keys[begin:end] - row * items] = np.inf
            yield row * items + np.argpartition(times, lacking[row] - 1)[: lacking[row]]
