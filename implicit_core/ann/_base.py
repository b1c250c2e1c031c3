"""What the models over an approximate index have in common: which candidates to ask for, and their exact scores."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from implicit_core import _arrays
from implicit_core._devices import kernels_of, public_class
from implicit_core._files import read_npz, write_npz
from implicit_core._fork import no_fork
from implicit_core._kernels import Kernels, effective_threads
from implicit_core._typing import Counts, Factors, Ids, Index, Matrix, Scores
from implicit_core.matrix_factorization import MatrixFactorizationBase, norms_of
from implicit_core.recommender_base import ModelLoadError, RecommenderBase
from implicit_core.utils import augment_inner_product_matrix

if TYPE_CHECKING:
    from typing_extensions import Self

EXACT_WORK = 32  #: a candidate costs an index about as much as scoring so many items costs an exact search
QUERIES_PER_THREAD = 8  #: worth starting a thread

_building = threading.Lock()  # so that callers who come at the same time build one index


def _after_fork() -> None:
    """Start anew in a child that was forked while another thread was building for longer than a fork waits."""
    global _building
    _building = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def import_backend(module: str, requirement: str) -> Any:
    """Import the library of an index.

    Raises
    ------
    ImportError
        It is not there; the message says how to install it.
    """
    if sys.modules.get(module):
        return sys.modules[module]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of generated bindings
            return importlib.import_module(module)
    except ImportError as error:
        raise type(error)(
            f"implicit_core.ann.{module.partition('.')[0]} needs {requirement}, which cannot be imported ({error}); "
            f"install it: pip install {requirement}",
            name=error.name,
        ) from error


class _Built(NamedTuple):
    """An index, and what it was built from."""

    factors: Any  #: the ``item_factors`` of the model at that time
    items: NDArray[np.int32]  #: which item each vector of the index is
    indexes: list[Any]  #: of the vectors of these items; of them without their last factor, too, if ``_inner_product``


class ApproximateModel(RecommenderBase):
    """Base class of models that find the items of another model's results with an approximate index.

    The index gives more candidates than are asked for: those that are filtered or already liked do not count. The
    wrapped model then scores the candidates, so that scores are exact, and ranks them as it ranks all items.

    Queries that an index would not serve well go to the wrapped model, which answers them exactly: candidates given by
    ``items``, vectors of zeros, numbers of candidates for which the index takes longer, and those for which it finds
    fewer than N that are not filtered.

    Parameters
    ----------
    model : MatrixFactorizationBase
        The model to find items for, fitted or not.
    approximate_similar_items : bool, default True
        Whether ``similar_items`` uses an index; without it the call goes to ``model``.
    approximate_recommend : bool, default True
        Whether ``recommend`` uses an index.

    Attributes
    ----------
    similar_items_index, recommend_index : object
        What the library made. None before the first use, which builds them from what ``model`` has learnt. They are
        built anew where ``model.item_factors`` is another array than it was then; after a change of its values in
        place, call :meth:`build_index`.
    """

    _backend: ClassVar[tuple[str, str] | None] = None  #: the module that makes the index, and what to install for it
    _overfetch: ClassVar[int] = 1  #: how many candidates to ask for per result
    _inner_product: ClassVar[bool] = False  #: whether to index items for ``recommend`` as they are, too

    def __init__(
        self,
        model: MatrixFactorizationBase,
        approximate_similar_items: bool = True,
        approximate_recommend: bool = True,
    ) -> None:
        given: Any = model
        if not isinstance(given, MatrixFactorizationBase):
            kind = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
            raise TypeError(f"model must be a matrix factorization model of implicit_core, got {kind}")
        self._import()
        self.model = model
        self.approximate_similar_items = approximate_similar_items
        self.approximate_recommend = approximate_recommend
        self._built: dict[str, _Built] = {}
        self._items: tuple[Any, Factors] | None = None

    @classmethod
    def _import(cls) -> Any:
        """The module that makes the index."""
        return import_backend(*cls._backend) if cls._backend else None

    @property
    def similar_items_index(self) -> Any:
        """The index of the directions of items; None before its first use."""
        built = self._built.get("similar_items")
        return built.indexes[0] if built and built.indexes else None

    @property
    def recommend_index(self) -> Any:
        """The index of items that were made equally long; None before its first use."""
        built = self._built.get("recommend")
        return built.indexes[0] if built and built.indexes else None

    def fit(
        self,
        user_items: Matrix | None = None,
        show_progress: bool = True,
        callback: Callable[..., object] | None = None,
        *,
        Cui: Matrix | None = None,
    ) -> None:
        """Fit the wrapped model and index its items.

        Parameters
        ----------
        user_items : csr_matrix or csr_array, shape (users, items)
            As in the ``fit`` of the wrapped model.
        show_progress : bool, default True
            Show the progress of the wrapped model.
        callback : callable, optional
            Passed to the wrapped model.
        Cui : csr_matrix or csr_array
            Another name of ``user_items``, which ``implicit`` uses.

        Raises
        ------
        ModelFitError, ValueError, TypeError
            As the wrapped model; or a parameter of the index is out of range.
        """
        if (user_items is None) == (Cui is None):
            raise TypeError("fit needs user_items, once")
        self._check_parameters()
        matrix: Any = Cui if user_items is None else user_items
        self.model.fit(matrix, show_progress=show_progress, callback=callback)
        self.build_index()

    def build_index(self) -> None:
        """Index what the wrapped model has learnt, as ``fit`` and the first call after loading do by themselves.

        Raises
        ------
        NotFittedError
            The wrapped model has learnt nothing yet.
        ModelFitError
            Its factors are NaN or infinite.
        """
        self._check_parameters()
        if self.approximate_similar_items:
            self._built["similar_items"] = self._index(cosine=True)
        if self.approximate_recommend:
            self._built["recommend"] = self._index(cosine=False)

    def recommend(
        self,
        userid: int | ArrayLike,
        user_items: Matrix | None,
        N: int = 10,
        filter_already_liked_items: bool = True,
        filter_items: ArrayLike | None = None,
        recalculate_user: bool = False,
        items: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        search = self._search_with("recommend", self.approximate_recommend and items is None)
        return self.model._recommend(
            search, userid, user_items, N, filter_already_liked_items, filter_items, recalculate_user, items
        )

    def similar_items(
        self,
        itemid: int | ArrayLike,
        N: int = 10,
        recalculate_item: bool = False,
        item_users: Matrix | None = None,
        filter_items: ArrayLike | None = None,
        items: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        search = self._search_with("similar_items", self.approximate_similar_items and items is None)
        return self.model._similar_items(search, itemid, N, recalculate_item, item_users, filter_items, items)

    def similar_users(
        self,
        userid: int | ArrayLike,
        N: int = 10,
        filter_users: ArrayLike | None = None,
        users: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        """Find similar users with the wrapped model, exactly; parameters and results are those of its method."""
        return self.model.similar_users(userid, N, filter_users, users)

    def save(self, fileobj_or_path: Any) -> None:
        """Write the wrapped model and the parameters of the index to an ``.npz`` file.

        The class of the wrapped model can load the file too. The index itself is not in it.

        Parameters
        ----------
        fileobj_or_path : str, path or binary file object
            As in the ``save`` of the wrapped model.
        """
        about = {
            "class": type(self).__name__,
            "model": _full_name(public_class(type(self.model))),
            "parameters": self._index_parameters(),
        }
        write_npz(fileobj_or_path, {**self.model._state(), "ann": json.dumps(about, default=np.generic.item)})

    @classmethod
    def load(cls, fileobj_or_path: Any, *, mmap: bool = False) -> Self:
        """Read a model that :meth:`save` wrote; its first use, or :meth:`build_index`, builds the index.

        Parameters
        ----------
        fileobj_or_path : str, path or binary file object
        mmap : bool, default False
            Map the factors from the file, as the models themselves can.

        Raises
        ------
        ModelLoadError
            The file holds no model of this class, or the class of the wrapped model is not imported.
        """
        state = read_npz(fileobj_or_path, mmap)
        try:
            about = json.loads(state["ann"])
            name, wrapped, parameters = about["class"], about["model"], dict(about["parameters"])
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise ModelLoadError(
                f"the file holds no {cls.__name__}; to index a model saved by itself, load it with its own class and "
                f"pass it to {cls.__name__}"
            ) from error
        if name != cls.__name__:
            raise ModelLoadError(f"the file holds a {name}, not a {cls.__name__}")
        kind = next((c for c in _subclasses(MatrixFactorizationBase) if _full_name(c) == wrapped), None)
        if kind is None:
            raise ModelLoadError(f"the file holds a {wrapped}; import that class first")
        try:
            model = cls(kind(), **parameters)
            model._check_parameters()
        except (TypeError, ValueError) as error:
            raise ModelLoadError(f"the file holds parameters that cannot be: {error}") from error
        model._restore(state)
        return model

    def _restore(self, state: dict[str, Any]) -> None:
        self.model._restore(state)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_built": {}, "_items": None}

    def _index_parameters(self) -> dict[str, Any]:
        return {name: value for name, value in self.get_params().items() if name != "model"}

    @abstractmethod
    def _check_parameters(self) -> None:
        """Raise TypeError or ValueError for a parameter of the index of the wrong kind or out of range."""

    @abstractmethod
    def _build(self, vectors: NDArray[np.float32], cosine: bool) -> Any:
        """Index vectors to be found by their inner products: of length 1 if ``cosine``, else not longer."""

    @abstractmethod
    def _nearest(self, index: Any, queries: NDArray[np.float32], k: int, threads: int) -> Ids:
        """Positions of the k nearest vectors for queries of length 1; −1 where there are none."""

    def _search_with(self, kind: str, approximate: bool) -> Any:
        self._check_parameters()
        kernels = self.model._kernels
        if not approximate:
            return kernels
        exact = kernels if self.model.device == "cpu" else kernels_of("cpu")  # an index finds items on the host
        return _ApproximateSearch(exact, partial(self._candidates, kind), self._overfetch, self._on_host)

    def _on_host(self, factors: Any) -> Factors:
        """Factors on the host; those of the items of a model on a GPU are kept while they are the same array."""
        if isinstance(factors, np.ndarray):
            return factors
        if self._items is None or self._items[0] is not factors:
            on_host = _arrays.as_factors(self.model._kernels.to_host(factors))
            if factors is not self.model.item_factors:
                return on_host
            self._items = factors, on_host
        return self._items[1]

    def _current(self, kind: str) -> _Built:
        """The index of the factors that the model has now."""
        built = self._built.get(kind)
        if built is not None and built.factors is self.model.item_factors:
            return built
        with no_fork, _building:
            built = self._built.get(kind)
            if built is None or built.factors is not self.model.item_factors:
                self._check_parameters()
                built = self._built[kind] = self._index(cosine=kind == "similar_items")
            return built

    def _index(self, cosine: bool) -> _Built:
        factors = self.model._factors("item_factors")
        self._check_factors(self.model._factors("user_factors"), factors)
        factors = self._on_host(factors)
        norms = norms_of(_arrays, factors)
        filled = factors.any(axis=1)
        if cosine:
            items, vectors = np.flatnonzero(filled), (factors / norms[:, None])[filled]
        else:
            items = np.arange(len(factors) if filled.any() else 0)
            _, vectors = augment_inner_product_matrix(factors / norms.max(initial=0))
        indexes = []
        if len(items):
            indexes.append(self._build(np.ascontiguousarray(vectors, dtype=np.float32), cosine))
            if self._inner_product and not cosine:
                indexes.append(self._build(np.ascontiguousarray(vectors[:, :-1], dtype=np.float32), cosine))
        return _Built(self.model.item_factors, items.astype(np.int32), indexes)

    def _candidates(self, kind: str, queries: Factors, k: int) -> Ids:
        """Items that are probably among the k best, in any order, and −1 in places left over."""
        built = self._current(kind)
        threads = min(effective_threads(self.model.num_threads), -(-len(queries) // QUERIES_PER_THREAD))
        directions = np.ascontiguousarray(queries / norms_of(_arrays, queries)[:, None], dtype=np.float32)
        found = [np.full((len(queries), 1), -1)]
        for position, index in enumerate(built.indexes):
            augmented = kind == "recommend" and position == 0
            vectors = np.pad(directions, ((0, 0), (0, 1))) if augmented else directions
            with no_fork:
                found.append(self._nearest(index, vectors, min(k, len(built.items)), threads))
        positions = np.hstack(found)
        return np.where(positions < 0, -1, np.append(built.items, -1)[positions])


class _ApproximateSearch:
    """A :class:`~implicit_core._kernels.Search` among what an index finds."""

    def __init__(
        self,
        exact: Kernels,
        candidates: Callable[[Factors, int], Ids],
        overfetch: int,
        on_host: Callable[[Any], Factors],
    ) -> None:
        self._exact = exact
        self._candidates = candidates
        self._overfetch = overfetch
        self._on_host = on_host

    def prepare(
        self, items: Factors, ids: Ids | None = None, *, cosine: bool = False, queries: int = 0, num_threads: int = 0
    ) -> Index:
        """All rows of ``items``; there are no ``ids``."""
        return Index(np.ascontiguousarray(self._on_host(items)), np.empty(0, dtype=np.int32), cosine)

    def topk(
        self,
        queries: Factors,
        index: Index,
        k: int,
        *,
        exclude: Counts | None = None,
        drop: NDArray[np.int32] | None = None,
        num_threads: int = 0,
    ) -> tuple[NDArray[np.int32], Scores]:
        """The best k of the candidates, exactly scored; exact results for queries with too few of them."""
        queries, items, cosine = self._on_host(queries), index.factors, index.cosine
        ids = np.empty((len(queries), k), dtype=np.int32)
        scores = np.empty((len(queries), k), dtype=items.dtype)
        if k == 0:
            return ids, scores
        wanted = np.full(len(queries), k + (0 if drop is None else len(drop)))
        if exclude is not None:
            wanted += np.diff(exclude.indptr)
        # Powers of two, so that there are few searches and none depends on the other queries of a batch.
        wanted = self._overfetch * 2 ** np.ceil(np.log2(np.maximum(wanted, 1))).astype(np.int64)
        by_index = (EXACT_WORK * wanted < len(items)) & np.isfinite(queries).all(axis=1) & queries.any(axis=1)
        left = np.ones(len(queries), dtype=np.bool_)
        for size in np.unique(wanted[by_index]):
            chosen = np.flatnonzero(by_index & (wanted == size))
            for row, found in zip(chosen, self._candidates(queries[chosen], int(size)), strict=True):
                of_row = None if exclude is None else exclude._replace(indptr=exclude.indptr[row : row + 2])
                among = self._exact.prepare(items, np.unique(found[found >= 0]), cosine=cosine)
                query = queries[row : row + 1]
                best = self._exact.topk(query, among, k, exclude=of_row, drop=drop, num_threads=1)
                ids[row], scores[row] = best[0][0], best[1][0]
                left[row] = bool(scores[row, -1] == np.finfo(scores.dtype).min)
        rest = np.flatnonzero(left)
        if len(rest):
            every = self._exact.prepare(items, cosine=cosine, queries=len(rest), num_threads=num_threads)
            of_rest = None if exclude is None else _rows(exclude, rest)
            best = self._exact.topk(queries[rest], every, k, exclude=of_rest, drop=drop, num_threads=num_threads)
            ids[rest], scores[rest] = best
        return ids, scores


def build_threads(model: MatrixFactorizationBase, deterministic: bool) -> int:
    """How many threads insert into an index whose neighbours depend on the order of insertion."""
    return 1 if deterministic else effective_threads(model.num_threads)


def _rows(counts: Counts, rows: NDArray[np.int64]) -> Counts:
    """Where some rows have entries, without values."""
    parts = [counts.indices[counts.indptr[row] : counts.indptr[row + 1]] for row in rows]
    indptr = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return Counts(indptr, np.concatenate(parts), counts.values[:0], (len(rows), counts.shape[1]))


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _subclasses(kind: Any) -> Iterator[Any]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
