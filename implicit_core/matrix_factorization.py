"""Recommendations and similarities from two matrices of factors, whatever model learnt them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from implicit_core._arrays import ZERO_NORM
from implicit_core._checks import (
    aligned_rows,
    as_ids,
    as_rows,
    check_count,
    check_one_or_many,
    check_results,
    check_selection,
    check_size,
    check_threads,
    is_one,
    pairs,
)
from implicit_core._devices import choose_device, class_for, kernels_of, refusal
from implicit_core._files import (
    check_finite_entry,
    check_single_entries,
    decode_random_state,
    encode_random_state,
    memory_of,
    set_state,
    write_npz,
)
from implicit_core._held import FactorsAttribute, Held
from implicit_core._kernels import Kernels, Search
from implicit_core._matrices import all_finite, real_array, real_matrix, to_csr
from implicit_core._typing import Counts, Factors, Ids, Matrix, Scores
from implicit_core.recommender_base import ModelFitError, ModelLoadError, NotFittedError, RecommenderBase

if TYPE_CHECKING:
    from typing_extensions import Self

BATCH_FLOP = 2e10  #: work between two chances to interrupt a batch
BATCH_RESULTS = 2**24  #: bound on the results of a batch, which are copied to where they belong


class MatrixFactorizationBase(RecommenderBase):
    """Base class of models that score a user and an item by the inner product of their factors.

    Attributes
    ----------
    user_factors : ndarray, shape (users, factors)
    item_factors : ndarray, shape (items, factors)
        None before ``fit``; arrays of CuPy where the model computes on a GPU.
    num_threads : int
        Threads to use; 0 means all that this process may, negative counts from the end (−1 = all).

    Notes
    -----
    Factors may be written into, which counts at the next call. While nobody can have done so, since no reference to the
    array exists but that of the model, an index of them that takes as much memory is kept from the 16th search on. It
    makes searches for one user several times as fast. Getting ``user_factors`` or ``item_factors`` drops it, unless
    they were loaded with ``mmap=True``. What is written through a bare address, without a reference to the array, is
    not noticed.
    """

    device = "cpu"
    dtype: Any  #: of the factors
    user_factors = FactorsAttribute()
    item_factors = FactorsAttribute()
    _saved: ClassVar[tuple[str, ...]] = ()  #: names of the attributes that a file holds beside the factors

    def __init__(self, num_threads: int = 0) -> None:
        self._cache: dict[str, Any] = {}  # derived from the factors; neither saved nor pickled
        self.user_factors = self.item_factors = None
        self.num_threads = num_threads

    @property
    def use_gpu(self) -> bool:
        """Whether the model computes on a GPU."""
        return self.device == "gpu"

    @use_gpu.setter
    def use_gpu(self, use_gpu: bool | None) -> None:
        device = self._choose_device(use_gpu, vars(self))
        if device != self.device:
            self.user_factors, self.item_factors = self._host_factors()
            self.device = device
            self._cache.clear()

    @classmethod
    def _choose_device(cls, use_gpu: bool | None, parameters: Mapping[str, Any]) -> str:
        return choose_device(use_gpu, cls._not_on_gpu(parameters))

    @classmethod
    def _not_on_gpu(cls, parameters: Mapping[str, Any]) -> str:
        """Which of the parameters the GPU does not offer, for an error; empty where it offers all."""
        return ""

    @classmethod
    def _suited(cls, model: Self, state: Mapping[str, Any]) -> Self:
        """On the CPU, where the public class of a model on the GPU loads what the GPU does not offer."""
        suits = model.device == "cpu" or "_device_classes" not in vars(cls) or not cls._not_on_gpu(state)
        return model if suits else class_for(type(model), "cpu")()

    @property
    def _kernels(self) -> Kernels:
        return kernels_of(self.device)

    @property
    def user_norms(self) -> Factors:
        """L2 norms of the user factors, 1e-10 where all are zero."""
        return norms_of(self._kernels, self._factors("user_factors"))

    @property
    def item_norms(self) -> Factors:
        """L2 norms of the item factors, 1e-10 where all are zero."""
        return norms_of(self._kernels, self._factors("item_factors"))

    def recommend(  # noqa: D102
        self,
        userid: int | ArrayLike,
        user_items: Matrix | None,
        N: int = 10,
        filter_already_liked_items: bool = True,
        filter_items: ArrayLike | None = None,
        recalculate_user: bool = False,
        items: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        return self._recommend(
            self._kernels, userid, user_items, N, filter_already_liked_items, filter_items, recalculate_user, items
        )

    def _recommend(
        self,
        search: Search,
        userid: int | ArrayLike,
        user_items: Matrix | None,
        N: int,
        filter_already_liked_items: bool,
        filter_items: ArrayLike | None,
        recalculate_user: bool,
        items: ArrayLike | None,
    ) -> tuple[Ids, Scores]:
        users, items_held = self._factors("user_factors"), self._held("item_factors")
        n_items = len(items_held.factors)
        N = check_size(N, "N")
        scalar = is_one(userid, "userid")
        userids = as_ids(userid, "userid") if recalculate_user else check_one_or_many(userid, len(users), "userid")
        liked: Any = None
        if filter_already_liked_items or recalculate_user:
            liked = as_rows(user_items) if scalar else user_items
            if getattr(liked, "format", None) != "csr" or liked.ndim != 2:
                raise ValueError(
                    "user_items must be a csr_matrix or csr_array with a row for each userid, got "
                    f"{type(user_items).__name__}; it may be None only if filter_already_liked_items and "
                    "recalculate_user are both False"
                )
            liked = aligned_rows(liked, userids, (len(users), n_items), ("user_items", "userid"))
        only, drop = check_selection(items, filter_items, n_items, ("items", "filter_items"))
        if only is not None:
            N = min(N, len(only))

        def queries(rows: slice) -> Factors:
            if recalculate_user:
                return self.recalculate_user(userids[rows], liked[rows])
            return self._kernels.take(users, userids[rows])

        exclude = pairs(liked) if filter_already_liked_items else None
        return self._topk(search, queries, len(userids), scalar, items_held, N, only, drop, exclude)

    def recommend_all(
        self,
        user_items: Matrix,
        N: int = 10,
        recalculate_user: bool = False,
        filter_already_liked_items: bool = True,
        filter_items: ArrayLike | None = None,
        users_items_offset: int = 0,
    ) -> Ids:
        """Recommend to the users of all rows of ``user_items``; deprecated, call :meth:`recommend` with their ids.

        Returns
        -------
        ids : ndarray of int32, shape (rows, N)
            Row r is for user ``r + users_items_offset``.
        """
        warnings.warn("recommend_all is deprecated; call recommend with ids", DeprecationWarning, stacklevel=2)
        rows = to_csr(user_items, "user_items").shape[0]
        return self.recommend(
            np.arange(rows) + check_count(users_items_offset, "users_items_offset"),
            user_items,
            N=N,
            recalculate_user=recalculate_user,
            filter_already_liked_items=filter_already_liked_items,
            filter_items=filter_items,
        )[0]

    def similar_users(  # noqa: D102
        self,
        userid: int | ArrayLike,
        N: int = 10,
        filter_users: ArrayLike | None = None,
        users: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        held = self._held("user_factors")
        factors = held.factors
        ids = check_one_or_many(userid, len(factors), "userid")
        only, drop = check_selection(users, filter_users, len(factors), ("users", "filter_users"))
        scalar = is_one(userid, "userid")

        def queries(rows: slice) -> Factors:
            return self._kernels.take(factors, ids[rows])

        return self._similar(self._kernels, queries, len(ids), scalar, held, N, only, drop)

    def similar_items(  # noqa: D102
        self,
        itemid: int | ArrayLike,
        N: int = 10,
        recalculate_item: bool = False,
        item_users: Matrix | None = None,
        filter_items: ArrayLike | None = None,
        items: ArrayLike | None = None,
    ) -> tuple[Ids, Scores]:
        return self._similar_items(self._kernels, itemid, N, recalculate_item, item_users, filter_items, items)

    def _similar_items(
        self,
        search: Search,
        itemid: int | ArrayLike,
        N: int,
        recalculate_item: bool,
        item_users: Matrix | None,
        filter_items: ArrayLike | None,
        items: ArrayLike | None,
    ) -> tuple[Ids, Scores]:
        held = self._held("item_factors")
        factors = held.factors
        scalar = is_one(itemid, "itemid")
        if recalculate_item:
            if item_users is None:
                raise ValueError("recalculate_item needs item_users, a row of users for each itemid; got None")
            recalculated = self.recalculate_item(itemid, item_users)
            recalculated = recalculated.reshape(-1, recalculated.shape[-1])
            n = len(recalculated)
        else:
            ids = check_one_or_many(itemid, len(factors), "itemid")
            n = len(ids)
        only, drop = check_selection(items, filter_items, len(factors), ("items", "filter_items"))

        def queries(rows: slice) -> Factors:
            return recalculated[rows] if recalculate_item else self._kernels.take(factors, ids[rows])

        return self._similar(search, queries, n, scalar, held, N, only, drop)

    # Names under which subclasses written for implicit find what they build on.

    def _user_factor(self, userid: Any, user_items: Any, recalculate_user: bool = False) -> Factors:
        return self.recalculate_user(userid, user_items) if recalculate_user else self._rows_of("user", userid)

    def _item_factor(self, itemid: Any, item_users: Any, recalculate_item: bool = False) -> Factors:
        return self.recalculate_item(itemid, item_users) if recalculate_item else self._rows_of("item", itemid)

    def _rows_of(self, side: str, ids: Any) -> Factors:
        factors = self._factors(f"{side}_factors")
        rows = self._kernels.take(factors, check_one_or_many(ids, len(factors), f"{side}id"))
        return rows[0] if is_one(ids, f"{side}id") else rows

    def _get_similarity_score(
        self, factor: Factors, norm: Any, factors: Factors, norms: Any, N: int, filter_items: ArrayLike | None = None
    ) -> tuple[Ids, Scores]:
        _, drop = check_selection(None, filter_items, len(factors), ("items", "filter_items"))
        scalar = factor.ndim == 1
        vectors = factor.reshape(-1, factor.shape[-1])
        held = Held(factors, self._kernels.as_factors(factors))
        return self._similar(self._kernels, lambda rows: vectors[rows], len(vectors), scalar, held, N, None, drop)

    def _check_fit_errors(self) -> None:
        for side in ("user_factors", "item_factors"):
            if not abs(self._factors(side).sum(dtype="float64")) < float("inf"):
                raise ModelFitError(f"NaN encountered in factors: {side} must be finite")

    def recalculate_user(self, userid: int | ArrayLike, user_items: Matrix) -> Factors:
        """Compute the factors of users from what they liked; not every model can.

        Raises
        ------
        NotImplementedError
        """
        raise NotImplementedError(f"{type(self).__name__} cannot recalculate users")

    def recalculate_item(self, itemid: int | ArrayLike, item_users: Matrix) -> Factors:
        """Compute the factors of items from who liked them; not every model can.

        Raises
        ------
        NotImplementedError
        """
        raise NotImplementedError(f"{type(self).__name__} cannot recalculate items")

    def to_gpu(self) -> Self:
        """Give this model on the GPU: a copy with the same parameters and factors, or itself if it is there.

        Raises
        ------
        ValueError
            There is no GPU to use, or it does not offer what the model is set to; the message says what is missing.
        """
        if reason := refusal(self._not_on_gpu(vars(self))):
            raise ValueError(f"to_gpu cannot be met: {reason}")
        return self._on("gpu")

    def to_cpu(self) -> Self:
        """Give this model on the CPU: a copy with the same parameters and factors, or itself if it is there.

        Factors of float16 become float32.
        """
        return self._on("cpu")

    def _on(self, device: str) -> Self:
        if self.device == device:
            return self
        kind: type[Self] = class_for(type(self), device)
        model = kind.__new__(kind)
        vars(model).update(self.__getstate__(), device=device)
        model._widen()
        for side in ("user_factors", "item_factors"):
            if getattr(model, side) is not None:
                setattr(model, side, model._factors(side))
        return model

    def _widen(self) -> None:
        """Turn float16, which is for the GPU, into float32 on the CPU."""
        if self.device == "cpu" and getattr(self, "dtype", None) == np.float16:
            self.dtype = np.dtype(np.float32)

    def save(self, fileobj_or_path: Any) -> None:  # noqa: D102
        state = self._state()
        self._warn_of_what_implicit_lacks()
        write_npz(fileobj_or_path, state)

    def _state(self) -> dict[str, Any]:
        """What a file holds.

        Raises
        ------
        ModelFitError
            The factors are not finite, so that the file could not be loaded.
        TypeError, ValueError
            A parameter is of the wrong kind or out of range.
        """
        self._check_parameters()
        state = {name: getattr(self, name) for name in (*self._saved, *self._beyond)}
        state["user_factors"], state["item_factors"] = self._host_factors()
        for side in ("user_factors", "item_factors"):
            if state[side] is not None and not all_finite(state[side]):
                raise ModelFitError(
                    f"{side} must be finite to be saved, but hold NaN or infinite values; set user_factors and "
                    "item_factors to None and fit with more regularization, or a lower learning rate where there is one"
                )
        if "dtype" in state:
            state["dtype"] = np.dtype(state["dtype"]).name
        if "random_state" in state:
            state["random_state"] = encode_random_state(state["random_state"])
        return {name: value for name, value in state.items() if value is not None}

    def _restore(self, state: dict[str, Any]) -> None:
        required = "factors" if "factors" in self._saved else "item_factors"
        if required not in state:
            raise ModelLoadError(f"the file holds no {type(self).__name__}: it has no entry {required!r}")
        check_single_entries(state, (*self._saved, *self._beyond))
        for name in (*self._saved, *self._beyond):
            if name in state:
                setattr(self, name, state[name])
        if "dtype" in state:
            if not isinstance(state["dtype"], str) or state["dtype"] not in ("float16", "float32", "float64"):
                raise ModelLoadError(f"dtype of the file must name a type of float, got {state['dtype']!r}")
            self.dtype = np.dtype(state["dtype"])
        if "random_state" in state:
            self.random_state = decode_random_state(state["random_state"])
        users: Any = state.get("user_factors")
        items: Any = state.get("item_factors")
        for name, factors in (("user_factors", users), ("item_factors", items)):
            if factors is not None and (np.ndim(factors) != 2 or factors.dtype.kind != "f"):
                raise ModelLoadError(f"{name} of the file must be a matrix of floats")
            if factors is not None:
                check_finite_entry(state, name)
        if (users is None) != (items is None) or (users is not None and users.shape[1] != items.shape[1]):
            raise ModelLoadError("the file must hold user_factors and item_factors of the same width, or neither")
        self.user_factors, self.item_factors = users, items
        self._widen()
        try:
            self._check_parameters()
        except (TypeError, ValueError) as error:
            raise ModelLoadError(f"the file holds a parameter that cannot be: {error}") from error

    def _check_parameters(self) -> None:
        """Raise TypeError or ValueError for a parameter of the wrong kind or out of range."""
        check_threads(self.num_threads)
        if self.device == "gpu" and (lacking := self._not_on_gpu(vars(self))):
            raise ValueError(f"this model is on the GPU, which does not offer {lacking}; to_cpu() gives it on the CPU")

    def _host_factors(self) -> tuple[Any, Any]:
        """The factors of users and items, as pickles and files hold them."""
        factors = self.user_factors, self.item_factors
        if self.device == "cpu":
            return factors
        users, items = (f if f is None or isinstance(f, np.ndarray) else self._kernels.to_host(f) for f in factors)
        return users, items

    def __getstate__(self) -> dict[str, Any]:
        users, items = self._host_factors()
        return {**self.__dict__, "user_factors": users, "item_factors": items, "_cache": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        set_state(self, state)
        for side in ("user_factors", "item_factors"):
            if isinstance(memory_of(vars(self)[side]), (bytes, bytearray)):  # those of the pickle
                setattr(self, side, vars(self)[side].copy())

    def _factors(self, side: str) -> Factors:
        """``user_factors`` or ``item_factors``, as an array that a kernel reads."""
        return self._held(side).factors

    def _held(self, side: str) -> Held:
        """The same with what is kept of them."""
        attribute = getattr(type(self), side)
        own = isinstance(attribute, FactorsAttribute)  # a subclass may have another
        factors = attribute.read(self) if own else getattr(self, side)
        held: Held | None = self._cache.get(side)
        if held is not None and held.array is factors:
            return held
        if factors is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit or load first")
        on_device = self.device == "gpu" and hasattr(factors, "__cuda_array_interface__")
        if on_device and np.ndim(factors) != 2:
            raise ValueError(f"{side} must have two dimensions, got shape {np.shape(factors)}")
        array = self._kernels.as_factors(factors if on_device else real_matrix(factors, side))
        if self.device == "gpu" and array is not factors:
            setattr(self, side, array)  # so that they are moved to the device once
            factors = array
        held = Held(factors, array)
        if own and (array is factors or array.base is not None):  # else it is a copy
            self._cache[side] = held
        return held

    def _check_shape(self, side: str, shape: tuple[int, int]) -> None:
        """Raise ValueError if there are factors of another shape than the data asks for."""
        factors = getattr(self, side)
        if factors is not None and np.shape(factors) != shape:
            raise ValueError(
                f"fit goes on from the factors of the model, so {side} must have shape {shape}, got "
                f"{np.shape(factors)}; to start anew with other data, set user_factors and item_factors to None"
            )

    def _check_room(self, counts: Counts, width: int, orders: int) -> None:
        """Raise MemoryError if training needs more memory than the device has; see the function of the kernels."""
        sides = sum(getattr(self, side) is None for side in ("user_factors", "item_factors"))
        self._kernels.check_room(counts, width, self.dtype, sides, orders)

    def _writable(self, side: str, shape: tuple[int, int]) -> Factors:
        """Factors to go on from in a fit, as an array that a kernel may write: the model's own where that will do."""
        held = getattr(self, side)
        if held is None:
            raise ValueError(f"{side} must not be taken away during fit, got None")
        self._check_shape(side, shape)
        if not self._kernels.is_array(held):
            held = real_array(held, side)
        elif held.dtype.kind not in "biuf":
            raise TypeError(f"{side} must be an array of real numbers, got {held.dtype}")
        factors = self._kernels.writable(held, self.dtype)
        setattr(self, side, factors)
        return factors

    def _similar(
        self,
        search: Search,
        queries: Callable[[slice], Factors],
        n: int,
        scalar: bool,
        held: Held,
        N: int,
        only: NDArray[np.int64] | None,
        drop: NDArray[np.int32] | None,
    ) -> tuple[Ids, Scores]:
        def directions(rows: slice) -> Factors:
            vectors = queries(rows)
            with np.errstate(invalid="ignore"):  # infinite factors
                directions: Factors = vectors / norms_of(self._kernels, vectors)[:, None]
                return directions

        N = check_size(N, "N")
        return self._topk(search, directions, n, scalar, held, N, only, drop, cosine=True)

    def _topk(
        self,
        search: Search,
        queries: Callable[[slice], Factors],
        n: int,
        scalar: bool,
        held: Held,
        N: int,
        only: NDArray[np.int64] | None,
        drop: NDArray[np.int32] | None,
        exclude: Counts | None = None,
        cosine: bool = False,
    ) -> tuple[Ids, Scores]:
        """Best N rows of factors for n queries, which are asked for in batches to bound memory and delay."""
        factors = held.factors
        dtype = np.promote_types(factors.dtype, np.float32)
        check_results(N, n, 4 + dtype.itemsize)
        if only is None and self.device == "cpu" and search is self._kernels:
            index = held.index(search, cosine, n, self.num_threads)
        else:
            index = search.prepare(factors, only, cosine=cosine, queries=n, num_threads=self.num_threads)
        batch = max(1, int(min(max(512, BATCH_FLOP / max(2 * factors.size, 1)), BATCH_RESULTS / max(N, 1))))

        def best(start: int, stop: int) -> tuple[Ids, Scores]:
            vectors = queries(slice(start, stop))
            if vectors.shape[1] != factors.shape[1]:
                raise ValueError(
                    f"user_factors and item_factors must have the same width, got {vectors.shape[1]} and "
                    f"{factors.shape[1]}"
                )
            liked = exclude
            if exclude is not None and n > batch:
                liked = exclude._replace(indptr=exclude.indptr[start : stop + 1])
            return search.topk(
                vectors.astype(dtype, copy=False),
                index,
                N,
                exclude=liked,
                drop=drop,
                num_threads=self.num_threads,
            )

        if n <= batch:
            ids, scores = best(0, n)
        else:
            ids, scores = np.empty((n, N), dtype=np.int32), np.empty((n, N), dtype=dtype)
            for start in range(0, n, batch):
                rows = slice(start, min(start + batch, n))
                ids[rows], scores[rows] = best(start, rows.stop)
        if only is not None:
            ids = ids.astype(np.int64)
        return (ids[0], scores[0]) if scalar else (ids, scores)


class GPUMatrixFactorizationBase(MatrixFactorizationBase):
    """Base class of models of factors that compute on a GPU, under the name of ``implicit.gpu``.

    Raises
    ------
    ValueError
        There is no GPU to use; the message says what is missing.
    """

    def __init__(self, num_threads: int = 0) -> None:
        super().__init__(num_threads)
        self.device = choose_device(True)


def norms_of(kernels: Kernels, factors: Factors) -> Factors:
    """L2 norms of rows, 1e-10 where all are zero."""
    with np.errstate(over="ignore"):
        dtype = np.promote_types(factors.dtype, np.float32)
        norms: Factors = (kernels.squared_norms(factors) ** 0.5).astype(dtype)
    norms[norms == 0] = ZERO_NORM
    return norms
