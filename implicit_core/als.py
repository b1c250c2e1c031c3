"""Alternating least squares for implicit feedback."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, DTypeLike, NDArray

from implicit_core import _arrays
from implicit_core._arrays import Axes
from implicit_core._blas import one_blas_thread
from implicit_core._checkpoint import Checkpoint
from implicit_core._checks import (
    aligned_rows,
    as_dtype,
    as_rows,
    check_callback,
    check_count,
    check_dtype,
    check_ids,
    check_number,
    is_one,
)
from implicit_core._devices import DeviceClass, is_float64, register_device_class
from implicit_core._kernels import Kernels
from implicit_core._least_squares import ADVICE, Objective, half_step, solve
from implicit_core._matrices import all_finite, check_csr, real_matrix, to_counts, to_csr
from implicit_core._memory import aligned
from implicit_core._progress import progress_bar
from implicit_core._typing import Counts, Factors, Matrix
from implicit_core.matrix_factorization import GPUMatrixFactorizationBase, MatrixFactorizationBase
from implicit_core.recommender_base import ModelFitError
from implicit_core.utils import check_random_state

log = logging.getLogger("implicit_core")

LEAST_SCALE = 1e-6  #: of initial factors: conjugate gradient takes rows for solved where they are still smaller


class AlternatingLeastSquares(MatrixFactorizationBase, metaclass=DeviceClass):
    r"""Matrix factorization by weighted alternating least squares.

    Minimises, over user factors x_u and item factors y_i,

    .. math:: \sum_{u,i} c_{ui} (p_{ui} - x_u \cdot y_i)^2 + \lambda \Bigl(\sum_u |x_u|^2 + \sum_i |y_i|^2\Bigr)

    where a stored value r > 0 has preference p = 1 and confidence c = α r, a stored r < 0 has p = 0 and c = α \|r\|, a
    stored zero takes its cell out of the sum, and every cell without an entry has p = 0 and c = 1. Each iteration
    solves for all users with the items fixed, then for all items with the users fixed.

    With a number w as ``unobserved_weight``, it minimises the loss of Rendle et al. (2021) instead:

    .. math:: \sum_{(u,i) \in S} r_{ui} (1 - x_u \cdot y_i)^2 + w \sum_{u,i} (x_u \cdot y_i)^2
        + \lambda \Bigl(\sum_u (n_u + w |I|)^\nu |x_u|^2 + \sum_i (n_i + w |U|)^\nu |y_i|^2\Bigr)

    where S are the stored entries, r ≥ 0 is α times the stored value, n is the number of entries stored for a user or
    item, zeros included, and \|U\| and \|I\| are the numbers of users and items. Without ``unobserved_weight``, the
    exponent ν changes the penalty of the first loss in the same way, with w = 1. Start from ν = 1, w = 0.1 and an
    ``init_scale`` of 0.1, and search for the best w and λ.

    Parameters
    ----------
    factors : int, default 100
        Length of the vectors that stand for users and items.
    regularization : float, default 0.01
        λ above, at least 0.
    alpha : float, default 1.0
        α above: how much more than a missing entry a stored one weighs.
    dtype : float32 or float64, default float32
        Type of the factors. float16 is for the GPU only, which stores it and computes in float32; float64 is for the
        CPU only.
    use_native : bool, default True
        Use the compiled kernels; False runs the array programs that define them, which are much slower.
    use_cg : bool, default True
        Solve by ``cg_steps`` steps of conjugate gradient from the current factors (Takács et al. 2011) rather than
        exactly by Cholesky decomposition (Hu et al. 2008).
    use_gpu : bool, optional
        Default: use a GPU if one works and offers what the other parameters ask for, which float64,
        ``use_cg=False`` and ``use_native=False`` are not.
    iterations : int, default 15
    calculate_training_loss : bool, default False
        After each iteration report the loss, divided by the sum of the weights of all squared errors: Σ c, or
        Σ r + w \|U\| \|I\|.
    num_threads : int, default 0
        0 means all that this process may use; negative counts from the end, −1 = all. The factors have the same bits
        for any number.
    random_state : int, Generator, RandomState, SeedSequence or None
        Seed of the initial factors.
    cg_steps : int, default 3
        More than ten per factor are no use, and not taken.
    unobserved_weight : float, optional
        w above, at least 1.2 · 10⁻³⁸, since without it the same score for every pair would do best. Values must not
        be negative then. Default: the loss of Hu et al. (2008).
    regularization_exponent : float, default 0.0
        ν above, at least 0: how much more users and items with many entries are regularized. 0: all alike; 1: in
        proportion to n + w \|I\| or n + w \|U\|.
    init_scale : float, optional
        Draw initial factors from the normal distribution with this standard deviation divided by √factors; at least
        10⁻⁶. Default: uniform in [0, 0.01).

    Attributes
    ----------
    user_factors : ndarray, shape (users, factors)
    item_factors : ndarray, shape (items, factors)
        May be replaced. ``recalculate_*``, ``partial_fit_*`` and ``explain`` keep what they compute from an array, so
        to change values assign a new array instead of writing into this one. Methods that change a model, ``fit`` and
        ``partial_fit_*``, must not run at the same time as others.
    fit_callback : callable or None
        Used by ``fit`` where no callback is passed.

    Notes
    -----
    Y. Hu, Y. Koren, C. Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008.
    G. Takács, I. Pilászy, D. Tikk, "Applications of the conjugate gradient method for implicit feedback collaborative
    filtering", RecSys 2011.
    S. Rendle, W. Krichene, L. Zhang, Y. Koren, "Revisiting the performance of iALS on item recommendation benchmarks",
    arXiv:2110.14037, 2021.
    """

    _saved = (
        "regularization",
        "factors",
        "num_threads",
        "iterations",
        "use_native",
        "use_cg",
        "cg_steps",
        "calculate_training_loss",
        "dtype",
        "random_state",
        "alpha",
    )
    _beyond = ("unobserved_weight", "regularization_exponent", "init_scale")

    def __init__(
        self,
        factors: int = 100,
        regularization: float = 0.01,
        alpha: float = 1.0,
        dtype: DTypeLike = np.float32,
        use_native: bool = True,
        use_cg: bool = True,
        use_gpu: bool | None = None,
        iterations: int = 15,
        calculate_training_loss: bool = False,
        num_threads: int = 0,
        random_state: Any = None,
        *,
        cg_steps: int = 3,
        unobserved_weight: float | None = None,
        regularization_exponent: float = 0.0,
        init_scale: float | None = None,
    ) -> None:
        super().__init__(num_threads=num_threads)
        self.factors = factors
        self.regularization = regularization
        self.alpha = alpha
        self.dtype = as_dtype(dtype)
        self.use_native = use_native
        self.use_cg = use_cg
        self.iterations = iterations
        self.calculate_training_loss = calculate_training_loss
        self.random_state = random_state
        self.cg_steps = cg_steps
        self.unobserved_weight = unobserved_weight
        self.regularization_exponent = regularization_exponent
        self.init_scale = init_scale
        self.fit_callback: Callable[[int, float, float | None], object] | None = None
        self.device = self._choose_device(use_gpu, vars(self))

    @classmethod
    def _not_on_gpu(cls, parameters: Mapping[str, Any]) -> str:
        if is_float64(parameters):
            return "dtype=float64, since it computes in float32; take float32 or float16"
        if not parameters.get("use_cg", True):
            return "use_cg=False, since it solves by conjugate gradient"
        return "" if parameters.get("use_native", True) else "use_native=False, since all its kernels are native"

    @property
    def _kernels(self) -> Kernels:
        return super()._kernels if self.use_native else _arrays

    @property
    def YtY(self) -> Factors:
        """Gram matrix of the item factors, shape (factors, factors)."""
        return self._gram("item_factors").astype(self.dtype)

    @property
    def XtX(self) -> Factors:
        """Gram matrix of the user factors, shape (factors, factors)."""
        return self._gram("user_factors").astype(self.dtype)

    @property
    def solver(self) -> Callable[..., None]:
        """The half-step of ``fit``: a function ``(Cui, X, Y, regularization, num_threads=0)`` that updates X."""
        return partial(
            half_step,
            self._kernels,
            cg_steps=self.cg_steps if self.use_cg else None,
            unobserved_weight=self.unobserved_weight,
            regularization_exponent=self.regularization_exponent,
        )

    def fit(
        self,
        user_items: Matrix,
        show_progress: bool = True,
        callback: Callable[[int, float, float | None], object] | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1,
    ) -> None:
        """Learn the factors of users and items.

        A model that has factors goes on from them, and changes them in place where their type and layout allow. All
        confidences are computed in float32, whatever ``dtype`` is.

        Parameters
        ----------
        user_items : csr_matrix or csr_array, shape (users, items)
            Strength of each interaction. Other sparse formats are converted, with a ParameterWarning.
        show_progress : bool, default True
            Show a progress bar; without it the loss goes to the logger ``implicit_core``.
        callback : callable, optional
            Called after each iteration with the iteration, its seconds, and the loss (None unless calculated). With
            more than 64 factors, and at least 32 users and items together for each of them, it costs some time, and
            changes the last bits: conjugate gradient on the CPU holds the factors in their principal axes, and must
            turn them back for it, as for a checkpoint.
        checkpoint : str or path, optional
            File that keeps the state of the fit; the suffix ``.npz`` is added to a path without it. If it exists, the
            fit goes on from it, whatever factors the model has, and ends with the same bits as if it had never been
            interrupted. It stays after the last iteration, so that the same call gives the same model again: delete it
            once the model is saved. Beside a fit without it, it changes the last bits where a callback does.
        checkpoint_every : int, default 1
            Iterations from one write of the checkpoint to the next; the last iteration is always written.

        Raises
        ------
        ModelFitError
            A value is NaN or infinite (the first is named), the factors became so, or an exact solution does not
            exist.
        ValueError
            The model has factors of another shape, a parameter is out of range, a value is negative and
            ``unobserved_weight`` is set, or the checkpoint is of another fit, which the message compares with this one.
        OSError
            The checkpoint cannot be written.
        MemoryError
            The GPU has not enough memory, or the machine for the factors; the message says how much is needed.
        """
        self._check_parameters()
        check_callback(callback)
        objective = self._objective()
        matrix = objective.confidences(check_csr(user_items), "user_items")
        counts = to_counts(matrix)
        transposed = to_counts(matrix.T.tocsr())
        for side in (counts, transposed):
            objective.ridge(np.diff(side.indptr), side.shape[1])  # refuses parameters that are too large together
        self._check_room(counts, self.factors, 2)
        saved = Checkpoint(checkpoint, checkpoint_every, self, counts, self.factors)
        random = check_random_state(self.random_state)
        done = saved.begin(random, lambda: self._initialize(random, *matrix.shape))
        Cui, Ciu = self._kernels.to_device(counts), self._kernels.to_device(transposed)
        callback = callback or self.fit_callback
        observed = callback is not None or checkpoint is not None  # by somebody who knows of no axes
        axes = self._kernels.axes(sum(matrix.shape), self.factors)
        loss = total = None
        with progress_bar(self.iterations, show_progress, done) as progress:
            try:
                for iteration in range(done, self.iterations):
                    start = time.time()
                    if objective != self._objective():  # a callback has changed it
                        objective, total = self._objective(), None
                        objective.confidences(matrix, "user_items")
                    self._half_step(Cui, "user_factors", "item_factors", axes)
                    self._half_step(Ciu, "item_factors", "user_factors", axes)
                    if observed:
                        axes.turn_back(self.user_factors, self.item_factors, self.num_threads)
                    if self.calculate_training_loss:
                        total = objective.total_weight(counts) if total is None else total
                        loss = self._loss(objective, Cui, Ciu) / total if total else 0.0
                        progress.set_postfix({"loss": loss})
                        if not show_progress:
                            log.info("loss after iteration %i: %.5f", iteration, loss)
                    progress.update(1)
                    if callback:
                        callback(iteration, time.time() - start, loss)
                    saved.after(iteration + 1)
            finally:
                axes.turn_back(self.user_factors, self.item_factors, self.num_threads)
        if self.calculate_training_loss and loss is not None:
            log.info("Final training loss %.4f", loss)
        self._gram("item_factors")

    def recalculate_user(self, userid: int | ArrayLike, user_items: Matrix) -> Factors:
        """Compute the factors of users from what they liked, with the item factors as they are.

        The solution is exact. The model does not change.

        Parameters
        ----------
        userid : int or array of int
            Need not be known to the model.
        user_items : csr_matrix or csr_array
            One row per userid, or the full matrix: see :meth:`recommend`.

        Returns
        -------
        factors : ndarray, shape (factors,) for one user or (len(userid), factors)
        """
        return self._recalculate(userid, user_items, "user_factors", "item_factors", ("user_items", "userid"))

    def recalculate_item(self, itemid: int | ArrayLike, item_users: Matrix) -> Factors:
        """Compute the factors of items from who liked them, with the user factors as they are.

        Parameters
        ----------
        itemid : int or array of int
            Need not be known to the model.
        item_users : csr_matrix or csr_array
            One row of users per itemid, or the full items × users matrix.

        Returns
        -------
        factors : ndarray, shape (factors,) for one item or (len(itemid), factors)
        """
        return self._recalculate(itemid, item_users, "item_factors", "user_factors", ("item_users", "itemid"))

    def partial_fit_users(self, userids: Sequence[int] | NDArray[np.integer], user_items: Matrix) -> None:
        """Recalculate users, known or new, and keep their factors.

        Parameters
        ----------
        userids : sequence of int
            Ids beyond those known extend the model; ids in between get factors of zero.
        user_items : csr_matrix or csr_array, shape (len(userids), items)
            Everything that each user liked, not only what is new.

        Raises
        ------
        ValueError
            The matrix has not exactly one row per userid.
        """
        self._partial_fit(userids, user_items, "user_factors", "item_factors", ("user_items", "userids"))

    def partial_fit_items(self, itemids: Sequence[int] | NDArray[np.integer], item_users: Matrix) -> None:
        """Recalculate items, known or new, and keep their factors; see :meth:`partial_fit_users`.

        Parameters
        ----------
        itemids : sequence of int
        item_users : csr_matrix or csr_array, shape (len(itemids), users)
        """
        self._partial_fit(itemids, item_users, "item_factors", "user_factors", ("item_users", "itemids"))

    def explain(
        self,
        userid: int,
        user_items: Matrix,
        itemid: int,
        user_weights: tuple[NDArray[np.float64], bool] | None = None,
        N: int = 10,
    ) -> tuple[float, list[tuple[int, float]], tuple[NDArray[np.float64], bool]]:
        """Say which liked items make up the score of an item for a user.

        The score of the recalculated user is a sum over liked items j of c_uj · y_iᵀ A⁻¹ y_j, where A is the matrix
        of the user's linear system (Hu et al. 2008, section 5), and c_uj is r_uj with ``unobserved_weight``.

        Parameters
        ----------
        userid : int
        user_items : csr_matrix or csr_array
            The full users × items matrix, or the one row of the user.
        itemid : int
        user_weights : tuple, optional
            Third value of an earlier call for the same user, which saves time.
        N : int, default 10
            Number of contributions to return.

        Returns
        -------
        total_score : float
            Sum over all liked items.
        contributions : list of (itemid, score)
            The N largest, descending.
        user_weights : tuple
            Cholesky factor of A, to pass to the next call for this user.
        """
        items, objective = self._factors("item_factors"), self._objective()
        (itemid,) = check_ids([itemid], len(items), "itemid").tolist()
        (userid,) = check_ids([userid], np.iinfo(np.int64).max, "userid").tolist()
        matrix = to_csr(as_rows(user_items), "user_items")
        if 1 < matrix.shape[0] >= len(self._factors("user_factors")):
            check_ids([userid], matrix.shape[0], "userid")
        row = self._aligned(matrix, userid, "user_factors", "item_factors", ("user_items", "userid"))
        counts = to_counts(objective.confidences(row, "user_items"))
        with one_blas_thread:
            liked_factors = self._kernels.to_host(self._kernels.take(items, counts.indices))
            if user_weights is None:
                local = counts._replace(indices=np.arange(len(liked_factors), dtype=np.int32))
                gram = objective.weight * self._gram("item_factors")
                (ridge,) = objective.ridge(np.diff(counts.indptr), len(items))
                A, _ = _arrays.linear_system(local, 0, liked_factors, gram, ridge, objective.policy)
                try:
                    user_weights = scipy.linalg.cho_factor(A)[0], False
                except np.linalg.LinAlgError as error:
                    raise ModelFitError.not_positive_definite(userid) from error
            else:
                _check_weights(user_weights, items.shape[1])
            _, rhs = _arrays.entries(counts.values, objective.policy)
            liked, confidence = counts.indices[rhs > 0], rhs[rhs > 0]
            direction = scipy.linalg.cho_solve(user_weights, self._kernels.to_host(items[itemid]).astype(np.float64))
            contribution = confidence * (liked_factors[rhs > 0] @ direction)
        best = np.lexsort((liked, -contribution))[: check_count(N, "N")]
        return (
            float(contribution.sum()),
            list(zip(liked[best].tolist(), contribution[best].tolist(), strict=True)),
            user_weights,
        )

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_count(self.factors, "factors", 1, np.iinfo(np.int32).max)
        check_count(self.iterations, "iterations")
        check_count(self.cg_steps, "cg_steps", 1, np.iinfo(np.int32).max)
        if self.init_scale is not None:
            check_number(self.init_scale, "init_scale", LEAST_SCALE)
        self._objective()
        self.dtype = check_dtype(self.dtype, ("float32", "float64") if self.device == "cpu" else ("float32", "float16"))

    def _initialize(self, random: np.random.Generator, users: int, items: int) -> None:
        """Make the factors that are missing, once it is sure that those which are there will do."""
        sides = {"user_factors": (users, self.factors), "item_factors": (items, self.factors)}
        for side, shape in sides.items():
            self._check_shape(side, shape)
        draw: Callable[..., Factors] = random.random
        scale = 0.01
        if self.init_scale is not None:
            draw, scale = random.standard_normal, float(self.init_scale) / math.sqrt(self.factors)
        drawn = {}
        for side, shape in sides.items():
            if getattr(self, side) is None:
                factors = aligned(shape, np.promote_types(self.dtype, np.float32))
                draw(out=factors, dtype=factors.dtype.type)
                with np.errstate(over="ignore"):
                    factors *= scale
                drawn[side] = self._kernels.writable(factors, self.dtype)
        self._cache.clear()
        for side, factors in drawn.items():  # at the end, so that an interrupt leaves both or neither
            setattr(self, side, factors)

    def _objective(self) -> Objective:
        """What is minimised; raises where a parameter of it is out of range."""
        return Objective.of(self.regularization, self.alpha, self.unobserved_weight, self.regularization_exponent)

    def _gram(self, side: str) -> NDArray[np.float64]:
        """Gram matrix of one side in float64, kept until somebody gets or sets the factors.

        A factor that is NaN, infinite or too large shows on its diagonal, which makes the check of all factors free.
        """
        held = self._held(side)
        if held.gram is None:
            gram = self._kernels.gram(held.factors, self.num_threads)
            kinds = held.factors.dtype, self.dtype
            most = min(np.finfo(np.promote_types(kind, np.float32)).max for kind in kinds)
            if not (gram.diagonal() <= most).all():
                raise ModelFitError(
                    f"{side} became NaN or infinite, or too large; {ADVICE}, and set user_factors and item_factors to "
                    "None to start anew"
                )
            held.gram = gram
        return held.gram

    def _half_step(self, counts: Counts, side: str, other: str, axes: Axes) -> None:
        """Solve for the factors of one side with those of the other fixed."""
        # a callback may have changed parameters, replaced the factors, or written into them
        self._check_parameters()
        X = self._writable(side, (counts.shape[0], self.factors))
        Y = self._writable(other, (counts.shape[1], self.factors))
        gram, cg_steps = self._gram(other), None
        if self.use_cg:
            gram, cg_steps = axes.turn(X, Y, gram, self.num_threads), self.cg_steps
        solve(self._kernels, self._objective(), counts, X, Y, gram, cg_steps, self.num_threads)
        for changed in (side, other):
            self._cache.pop(changed, None)  # the gram matrix, and what a call in another thread has derived meanwhile

    def _loss(self, objective: Objective, Cui: Counts, Ciu: Counts) -> float:
        factors = self.user_factors, self.item_factors
        grams = self._gram("user_factors"), self._gram("item_factors")
        users, items = (objective.ridge(np.diff(counts.indptr), counts.shape[1]) for counts in (Cui, Ciu))
        return objective.loss(self._kernels, Cui, factors, grams, (users, items), self.num_threads)

    def _recalculate(
        self, ids: int | ArrayLike, matrix: Matrix, side: str, other: str, names: tuple[str, str]
    ) -> Factors:
        self._check_parameters()
        rows = self._aligned(
            to_csr(as_rows(matrix) if is_one(ids, names[1]) else matrix, names[0]), ids, side, other, names
        )
        X = self._kernels.zeros(rows.shape[0], self._factors(other).shape[1], self.dtype)
        counts = to_counts(self._objective().confidences(rows, names[0]))
        Y, gram = self._factors(other), self._gram(other)
        solve(self._kernels, self._objective(), counts, X, Y, gram, None, self.num_threads)
        return X[0] if is_one(ids, names[1]) else X

    def _partial_fit(
        self,
        ids: Sequence[int] | NDArray[np.integer],
        matrix: Matrix,
        side: str,
        other: str,
        names: tuple[str, str],
    ) -> None:
        if is_one(ids, names[1]):
            raise TypeError(f"{names[1]} must be a sequence of ids, got {ids!r}")
        ids = check_ids(ids, np.iinfo(np.int32).max, names[1])
        self._check_parameters()
        matrix = to_csr(matrix, names[0])
        if matrix.shape[0] != len(ids):
            raise ValueError(f"{names[0]} must have one row for each of {names[1]} ({len(ids)}), got {matrix.shape[0]}")
        solved = self._recalculate(ids, matrix, side, other, names)
        factors = self._extended(side, int(ids.max(initial=-1)) + 1)
        self._kernels.put(factors, ids, solved)
        setattr(self, side, factors)

    def _extended(self, side: str, rows: int) -> Factors:
        """Factors of at least ``rows`` rows that may be written, new ones zero.

        They lie in a buffer that doubles when it is full, so that adding rows one by one copies each a constant
        number of times. It is used only while the factors are the very view of it that was set here.
        """
        factors = self._kernels.writable(getattr(self, side), self.dtype)
        known, width = factors.shape
        if rows <= known:
            return factors
        buffer, view = self._cache.get(f"{side} buffer", (factors, None))
        if view is not factors or len(buffer) < rows:
            buffer = self._kernels.zeros(max(rows, 2 * known), width, self.dtype)
            buffer[:known] = factors
        grown: Factors = buffer[:rows]
        self._cache[f"{side} buffer"] = buffer, grown
        return grown

    def _aligned(self, matrix: Matrix, ids: Any, side: str, other: str, names: tuple[str, str]) -> Matrix:
        return aligned_rows(matrix, ids, (len(self._factors(side)), len(self._factors(other))), names)


def _check_weights(user_weights: Any, factors: int) -> None:
    """Raise TypeError or ValueError unless this is a Cholesky factor as ``explain`` returns it."""
    lower = user_weights[1] if isinstance(user_weights, tuple) and len(user_weights) == 2 else None
    if isinstance(lower, np.ndarray):  # SciPy 1.18 makes one of it
        lower = lower[()]
    if not isinstance(lower, bool | int | np.bool_ | np.integer):
        raise TypeError(f"user_weights must be what explain returned before, got {type(user_weights).__name__}")
    factor = real_matrix(user_weights[0], "user_weights[0]")
    if factor.shape != (factors, factors) or not (all_finite(factor) and factor.diagonal().all()):
        raise ValueError(
            f"user_weights must be of this model, a finite factor of shape {(factors, factors)}, got shape "
            f"{factor.shape}"
        )


class CPUAlternatingLeastSquares(AlternatingLeastSquares):
    """The model on the CPU, with the order of parameters of ``implicit.cpu.als``."""

    def __init__(
        self,
        factors: int = 100,
        regularization: float = 0.01,
        alpha: float = 1.0,
        dtype: DTypeLike = np.float32,
        use_native: bool = True,
        use_cg: bool = True,
        iterations: int = 15,
        calculate_training_loss: bool = False,
        num_threads: int = 0,
        random_state: Any = None,
        *,
        cg_steps: int = 3,
        unobserved_weight: float | None = None,
        regularization_exponent: float = 0.0,
        init_scale: float | None = None,
    ) -> None:
        super().__init__(
            factors=factors,
            regularization=regularization,
            alpha=alpha,
            dtype=dtype,
            use_native=use_native,
            use_cg=use_cg,
            use_gpu=False,
            iterations=iterations,
            calculate_training_loss=calculate_training_loss,
            num_threads=num_threads,
            random_state=random_state,
            cg_steps=cg_steps,
            unobserved_weight=unobserved_weight,
            regularization_exponent=regularization_exponent,
            init_scale=init_scale,
        )


class GPUAlternatingLeastSquares(AlternatingLeastSquares, GPUMatrixFactorizationBase):
    """The model on the GPU, with the parameters of ``implicit.gpu.als``; note 64 factors."""

    def __init__(
        self,
        factors: int = 64,
        regularization: float = 0.01,
        alpha: float = 1.0,
        dtype: DTypeLike = np.float32,
        iterations: int = 15,
        calculate_training_loss: bool = False,
        random_state: Any = None,
        *,
        use_native: bool = True,
        use_cg: bool = True,
        num_threads: int = 0,
        cg_steps: int = 3,
        unobserved_weight: float | None = None,
        regularization_exponent: float = 0.0,
        init_scale: float | None = None,
    ) -> None:
        super().__init__(
            factors=factors,
            regularization=regularization,
            alpha=alpha,
            dtype=dtype,
            use_native=use_native,
            use_cg=use_cg,
            use_gpu=True,
            iterations=iterations,
            calculate_training_loss=calculate_training_loss,
            num_threads=num_threads,
            random_state=random_state,
            cg_steps=cg_steps,
            unobserved_weight=unobserved_weight,
            regularization_exponent=regularization_exponent,
            init_scale=init_scale,
        )


register_device_class(AlternatingLeastSquares, CPUAlternatingLeastSquares, "cpu", "implicit_core.cpu.als")
register_device_class(AlternatingLeastSquares, GPUAlternatingLeastSquares, "gpu", "implicit_core.gpu.als")
