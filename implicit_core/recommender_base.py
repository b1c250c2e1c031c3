"""The interface that every model offers, and the one home of its documentation."""

from __future__ import annotations

import inspect
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from implicit_core._errors import ModelFitError, ModelLoadError, NotFittedError, ParameterWarning, stacklevel_of_caller
from implicit_core._files import read_npz
from implicit_core._typing import Factors, Ids, Matrix, Scores

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ModelFitError", "ModelLoadError", "NotFittedError", "RecommenderBase"]


class RecommenderBase(metaclass=ABCMeta):
    """Base class of all models."""

    _beyond: ClassVar[tuple[str, ...]] = ()  #: names of parameters that a file holds and ``implicit`` lacks

    @abstractmethod
    def fit(
        self, user_items: Matrix, show_progress: bool = True, callback: Callable[..., object] | None = None
    ) -> None:
        """Train the model.

        Parameters
        ----------
        user_items : csr_matrix or csr_array, shape (users, items)
            What each user did with each item. Other sparse formats are converted, with a ParameterWarning.
        show_progress : bool, default True
            Show a progress bar.
        callback : callable, optional
            Called after each iteration.

        Raises
        ------
        ModelFitError
            A value is NaN or infinite, or training did not stay finite.
        """

    @abstractmethod
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
        """Recommend items to one user or to many.

        Parameters
        ----------
        userid : int or array of int
            A user, or a batch of users.
        user_items : csr_matrix or csr_array
            What the users liked: **one row per userid**, in the order of ``userid``: ``user_items[userid]``. The full
            users × items matrix will do as well: with more rows than the batch has ids, at least as many as the model
            knows users, and a row for each id, it is indexed by ``userid``. Beware of one case that cannot be told
            apart: for a batch of *all* users in another order, such as ``recommend(permutation, user_items)``, the
            matrix has one row per id and is taken by position; pass ``user_items[permutation]``. May be None where
            neither ``filter_already_liked_items`` nor ``recalculate_user`` is set.
        N : int, default 10
            Number of results for each user.
        filter_already_liked_items : bool, default True
            Rank the items stored in the row of the user last.
        filter_items : array of int, optional
            Items to rank last for every user.
        recalculate_user : bool, default False
            Compute the user's factors from ``user_items`` instead of using those learnt, so that users whom the
            model has not seen get recommendations too.
        items : array of int, optional
            Rank only these candidates; N is then at most their number. Not together with ``filter_items``.

        Returns
        -------
        ids : ndarray of int32 (int64 with ``items``), shape (N,) for one user or (len(userid), N)
        scores : ndarray, of the same shape
            Descending; equal scores by ascending id. Filtered items come last, with the lowest finite score; positions
            beyond the number of items hold id −1 and that same score.

        Raises
        ------
        IndexError
            An id that the model does not know.
        ValueError
            ``user_items`` is no CSR matrix or its shape does not fit, N is negative, or both ``items`` and
            ``filter_items`` are given.
        """

    @abstractmethod
    def similar_users(
        self,
        userid: int | ArrayLike,
        N: int = 10,
        filter_users: ArrayLike | None = None,
        users: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        """Find the users most similar to one user or to each of many.

        Parameters
        ----------
        userid : int or array of int
        N : int, default 10
            Number of results for each user, the user itself included.
        filter_users : array of int, optional
            Users to rank last.
        users : array of int, optional
            Rank only these candidates. Not together with ``filter_users``.

        Returns
        -------
        ids, scores : ndarray
            As in :meth:`recommend`.
        """

    @abstractmethod
    def similar_items(
        self,
        itemid: int | ArrayLike,
        N: int = 10,
        recalculate_item: bool = False,
        item_users: Matrix | None = None,
        filter_items: ArrayLike | None = None,
        items: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        """Find the items most similar to one item or to each of many.

        Parameters
        ----------
        itemid : int or array of int
        N : int, default 10
            Number of results for each item, the item itself included.
        recalculate_item : bool, default False
            Compute the item's factors from ``item_users`` instead of using those learnt.
        item_users : csr_matrix or csr_array, optional
            Needed by ``recalculate_item``: a row of users for each itemid, as ``user_items`` in :meth:`recommend`.
        filter_items : array of int, optional
            Items to rank last.
        items : array of int, optional
            Rank only these candidates. Not together with ``filter_items``.

        Returns
        -------
        ids, scores : ndarray
            As in :meth:`recommend`.
        """

    @abstractmethod
    def save(self, file: Any) -> None:
        """Write the model to an ``.npz`` file.

        Parameters
        ----------
        file : str, path or binary file object
            The suffix ``.npz`` is added to a path without it. An existing file is replaced only once the new one is
            complete and on the disk.

        Raises
        ------
        ModelFitError
            Factors are NaN or infinite.
        TypeError, ValueError
            A parameter is of the wrong kind or out of range: the file could not be loaded. Or ``file`` is no file.

        Warns
        -----
        ParameterWarning
            A parameter that ``implicit`` lacks has another value than its default: ``implicit`` can load the file, but
            ignores the parameter.
        """

    @classmethod
    def load(cls, fileobj_or_path: str | Any | IO[bytes], *, mmap: bool = False) -> Self:
        """Read a model that :meth:`save` wrote, here or in ``implicit``.

        Parameters
        ----------
        fileobj_or_path : str, path or binary file object
        mmap : bool, default False
            Map the arrays of the model read-only from the file, which must be a path, instead of reading them: loading
            takes no time, what is used is read when it is used, and all processes that map a file share its memory.
            Training a mapped model further copies its factors. Since mapped factors cannot change, the first search
            copies them in an order in which most need not be looked at, and the model keeps that copy: single calls of
            ``recommend`` are then several times as fast.

        Raises
        ------
        ModelLoadError
            The file holds no model of this class, is damaged or of a newer release, holds values that are not finite
            (not looked for with ``mmap``), or ``mmap`` is set and it is compressed or not aligned, as files of
            ``implicit`` are: load it without ``mmap`` and save it first.
        TypeError
            ``mmap`` is set and a file object is given.
        """
        model = cls()
        state = read_npz(fileobj_or_path, mmap)
        model = cls._suited(model, state)
        model._restore(state)
        return model

    @classmethod
    def _suited(cls, model: Self, state: Mapping[str, Any]) -> Self:
        """``model``, or a new one in its place where it cannot take over what :meth:`save` wrote."""
        return model

    def _restore(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`save` wrote: here, an attribute per entry, but none in place of a method."""
        vars(self).update((name, value) for name, value in state.items() if not hasattr(type(self), name))

    def _warn_of_what_implicit_lacks(self) -> None:
        """Warn where a file will hold a parameter that ``implicit`` ignores, and that makes a difference."""
        constructors = (vars(cls).get("__init__") for cls in type(self).__mro__)
        parameters = (inspect.signature(own).parameters.items() for own in constructors if inspect.isfunction(own))
        defaults = {name: parameter.default for own in parameters for name, parameter in own}
        values = {name: getattr(self, name) for name in self._beyond}
        ignored = [f"{name}={value!r}" for name, value in values.items() if not _same(value, defaults[name])]
        if ignored:
            warnings.warn(
                f"implicit has no parameter for {', '.join(ignored)} and will ignore it where it loads this file; "
                "implicit_core will not",
                ParameterWarning,
                stacklevel=stacklevel_of_caller(),
            )

    def rank_items(
        self, userid: int | ArrayLike, user_items: Matrix, selected_items: ArrayLike, recalculate_user: bool = False
    ) -> tuple[Ids, Scores]:
        """Rank the 10 best of ``selected_items``; deprecated, call :meth:`recommend` with ``items``."""
        warnings.warn("rank_items is deprecated; call recommend with items", DeprecationWarning, stacklevel=2)
        return self.recommend(
            userid,
            user_items,
            recalculate_user=recalculate_user,
            items=selected_items,
            filter_already_liked_items=False,
        )

    @staticmethod
    def _check_factors(user_factors: Factors, item_factors: Factors) -> None:
        """Raise ModelFitError where factors are NaN or infinite: their sum then is too."""
        for name, factors in (("user", user_factors), ("item", item_factors)):
            with np.errstate(invalid="ignore"):
                total = abs(factors.sum(dtype=np.float64))
            if not total < np.inf:
                raise ModelFitError(
                    f"the {name} factors became NaN or infinite; raise regularization or lower the learning rate, and "
                    "set user_factors and item_factors to None to start anew"
                )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor parameters and their values, as scikit-learn's ``clone`` and searches ask for them."""
        parameters = inspect.signature(type(self).__init__).parameters.values()
        named = (p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        return {name: getattr(self, name) for name in named}

    def set_params(self, **params: Any) -> Self:
        """Set constructor parameters by name.

        Raises
        ------
        ValueError
            A name is not a parameter of the model.
        """
        known = self.get_params()
        for name in params:
            if name not in known:
                raise ValueError(f"{name!r} is no parameter of {type(self).__name__}; it has {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = (
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if not (name in defaults and _same(value, defaults[name].default))
        )
        return f"{type(self).__name__}({', '.join(changed)})"


def _same(value: Any, default: Any) -> bool:
    try:
        return bool(value == default)
    except (TypeError, ValueError):
        return value is default
