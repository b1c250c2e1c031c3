"""The factors that a model holds, and what is kept of them as long as nobody can have written into them."""

from __future__ import annotations

import mmap
import sys
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._files import memory_of
from implicit_core._kernels import Search
from implicit_core._memory import aligned
from implicit_core._typing import Factors, Index
from implicit_core.gpu._factors import shared

KEEP_FROM = 16  #: searches from which on an index of factors that stay as they are is made and kept
MANY = 2**20  #: queries that any index is worth


class FactorsAttribute:
    """Factors in the ``__dict__`` of a model, which forgets what it has derived from them when they are got or set.

    Whoever gets them may write into them. Methods of a model that only read take them from :meth:`read`.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, model: Any, owner: type) -> Any:
        if model is None:
            return self
        held = model._cache.get(self._name)
        if held is not None and not held.fixed:
            model._cache.pop(self._name, None)
        return self.read(model)

    def __set__(self, model: Any, factors: Any) -> None:
        vars(model)[self._name] = shared(factors) if model.device == "gpu" else factors
        model._cache.pop(self._name, None)

    def read(self, model: Any) -> Any:
        """The factors, which the caller neither writes into nor hands out."""
        return vars(model)[self._name]


class Held:
    """Factors as the methods of a model read them, and what was derived from them.

    A search index is kept while nobody can have written into the factors. It is made when no reference to the array
    exists but those of the model, so that nobody has the array, a view of it or its buffer; and it is gone with this
    object as soon as somebody gets the array. A file that is mapped read-only cannot change at all.

    Parameters
    ----------
    array : object
        What the model holds.
    factors : ndarray
        The same as an array that a kernel takes.
    """

    def __init__(self, array: Any, factors: Factors) -> None:
        self.array = array
        self.factors = factors
        if factors is array and isinstance(array, np.ndarray):
            self.factors = array.view()  # so that references to it, which calls in other threads hold, do not count
            self.factors.flags.writeable = False
        memory = memory_of(factors)
        self.fixed = isinstance(memory, mmap.mmap) and memoryview(memory).readonly
        self.gram: NDArray[np.float64] | None = None
        self._indexes: dict[tuple[Search, bool], Index] = {}
        self._searches = 0

    def index(self, search: Search, cosine: bool, queries: int, num_threads: int) -> Index:
        """All rows as candidates of a search on the CPU; see :func:`implicit_core._arrays.prepare`."""
        index = self._indexes.get((search, cosine))
        if index is None:
            self._searches += 1
            keep = self._searches >= KEEP_FROM and (self.fixed or self._is_private())
            index = search.prepare(
                self.factors, cosine=cosine, queries=MANY if keep else queries, num_threads=num_threads
            )
            if keep:
                self._indexes[search, cosine] = index
        return index

    def _is_private(self) -> bool:
        """Whether nobody but the model and this object can reach the array, or the memory that it is a view of."""
        return (
            all(type(array) is np.ndarray and weakref.getweakrefcount(array) == 0 for array in self._owners())
            and all(array.base is None for array in self._owners()[1:])
            and self._references() == _PRIVATE[len(self._owners())]
            and bool(getattr(sys, "_is_gil_enabled", lambda: True)())  # else a count may be out of date
        )

    def _owners(self) -> list[Any]:
        base = getattr(self.array, "base", None)
        return [self.array] if base is None else [self.array, base]

    def _references(self) -> list[int]:
        return [sys.getrefcount(array) for array in self._owners()]


_own, _aligned = [np.zeros(0)], [aligned((1, 1), np.float32)]
_PRIVATE = {1: Held(_own[0], _own[0])._references(), 2: Held(_aligned[0], _aligned[0])._references()}
