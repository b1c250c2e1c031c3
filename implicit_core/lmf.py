"""Logistic matrix factorization."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from implicit_core._checkpoint import Checkpoint
from implicit_core._checks import as_dtype, check_callback, check_count, check_dtype, check_number
from implicit_core._devices import DeviceClass, register_device_class
from implicit_core._kernels import split_rows
from implicit_core._matrices import check_csr, confidences, to_counts
from implicit_core._progress import progress_bar
from implicit_core._typing import Counts, Factors, Matrix, Negatives
from implicit_core.matrix_factorization import MatrixFactorizationBase
from implicit_core.utils import check_random_state

PIECE_WORK = 3e8  #: samples · columns of a call of the kernel, so that Ctrl-C and progress get their turn
START = 0.1  #: standard deviation of the initial factors


class LogisticMatrixFactorization(MatrixFactorizationBase, metaclass=DeviceClass):
    r"""Matrix factorization in which an inner product is the log-odds that a user likes an item.

    With the score :math:`s_{ui} = x_u \cdot y_i + b_u + b_i`, maximises

    .. math:: \sum_{u,i \in S} c_{ui} \ln \sigma(s_{ui})
              + \sum_{u,j \notin S} \frac{n_u}{\mathrm{items}} \ln \sigma(-s_{uj})
              - \frac{\lambda}{2} \Big( \sum_u (|x_u|^2 + b_u^2) + \sum_i (|y_i|^2 + b_i^2) \Big),
              \qquad n_u = \min(\mathrm{neg\_prop} \cdot |S_u|, \mathrm{items})

    where S are the stored entries. A negative value c means dislike: :math:`|c_{ui}| \ln \sigma(-s_{ui})`. An entry of
    zero counts for nothing, and is not among what was not stored.

    An epoch takes a step of AdaGrad for each user, then for each item. The sum over what is not stored is estimated
    anew in each step: a user draws :math:`n_u` items, all equally likely, and an item the mean of :math:`n_u` users,
    likely by their number of entries: the same objective as long as no :math:`n_u` reaches the number of items. What
    is drawn are neighbours in a random order, in each epoch from another place, which 16 rows next to each other share:
    then it is in cache. Draws that turn out to be stored are left out.

    Parameters
    ----------
    factors : int, default 30
        Length of the vectors that stand for users and items, biases not counted.
    learning_rate : float, default 1.0
        A step is ``learning_rate * gradient / sqrt(1e-6 + sum of squared gradients)`` for each number. The sums
        start at every ``fit``. Lower rates need more iterations.
    regularization : float, default 0.6
        λ above, at least 0; for each step of a row, whatever its number of entries.
    dtype : float32 or float64, default float32
        Type of the factors.
    iterations : int, default 30
        Number of epochs.
    neg_prop : int, default 30
        Items that a user draws for each stored entry, at least 0. The time of an epoch grows with it.
    use_gpu : bool, default False
        This model computes on the CPU only.
    num_threads : int, default 0
        0 means all that this process may use; negative counts from the end, −1 = all. The model has the same bits
        for any number.
    random_state : int, Generator, RandomState, SeedSequence or None
        Seed of the initial factors and of the draws.

    Attributes
    ----------
    user_factors : ndarray, shape (users, factors + 2)
        The last two columns are 1 and the bias.
    item_factors : ndarray, shape (items, factors + 2)
        The last two columns are the bias and 1. Items without entries have the lowest bias and factors of 0.

    Raises
    ------
    NotImplementedError
        ``use_gpu`` is true.

    Notes
    -----
    C. C. Johnson, "Logistic matrix factorization for implicit feedback data", NIPS 2014 workshop on distributed machine
    learning and matrix computations.
    """

    _saved = (
        "regularization",
        "factors",
        "learning_rate",
        "neg_prop",
        "num_threads",
        "iterations",
        "dtype",
        "random_state",
    )

    def __init__(
        self,
        factors: int = 30,
        learning_rate: float = 1.0,
        regularization: float = 0.6,
        dtype: DTypeLike = np.float32,
        iterations: int = 30,
        neg_prop: int = 30,
        use_gpu: bool = False,
        num_threads: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(num_threads=num_threads)
        self.device = self._choose_device(use_gpu, {})
        self.factors = factors
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.dtype = as_dtype(dtype)
        self.iterations = iterations
        self.neg_prop = neg_prop
        self.random_state = random_state

    @classmethod
    def _choose_device(cls, use_gpu: bool | None, parameters: Mapping[str, Any]) -> str:
        if use_gpu:
            raise NotImplementedError("LogisticMatrixFactorization computes on the CPU only; leave use_gpu False")
        return "cpu"

    @classmethod
    def _not_on_gpu(cls, parameters: Mapping[str, Any]) -> str:
        return "logistic matrix factorization"

    def fit(
        self,
        user_items: Matrix,
        show_progress: bool = True,
        callback: Callable[[int, float], object] | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1,
    ) -> None:
        """Learn the factors of users and items.

        A model that has factors goes on from them.

        Parameters
        ----------
        user_items : csr_matrix or csr_array, shape (users, items)
            Values are confidences c. Other sparse formats are converted, with a ParameterWarning.
        show_progress : bool, default True
            Show a progress bar.
        callback : callable, optional
            Called after each epoch with the epoch and its seconds.
        checkpoint : str or path, optional
            File that keeps the state of the fit; the suffix ``.npz`` is added to a path without it. If it exists, the
            fit goes on from it, whatever factors the model has, and ends with the same bits as if it had never been
            interrupted. It stays after the last iteration, so that the same call gives the same model again: delete it
            once the model is saved.
        checkpoint_every : int, default 1
            Iterations from one write of the checkpoint to the next; the last iteration is always written.

        Raises
        ------
        ModelFitError
            A value is NaN or infinite (the first is named), or the factors became so.
        ValueError
            The model has factors of another shape, a parameter is out of range, or the checkpoint is of another fit,
            which the message compares with this one.
        OSError
            The checkpoint cannot be written.
        MemoryError
            The factors are larger than the memory of the machine.
        """
        self._check_parameters()
        check_callback(callback)
        matrix = confidences(check_csr(user_items), 1.0, "user_items")
        values = matrix.data.astype(self.dtype, copy=False)
        matrix = type(matrix)((values, matrix.indices, matrix.indptr), shape=matrix.shape)
        counts = to_counts(matrix), to_counts(matrix.T.tocsr())
        self._check_room(counts[0], self.factors + 2, 1)
        random = check_random_state(self.random_state)
        draws = self._draws_per_row(counts[0])
        squares = [np.zeros((n, self.factors + 2), dtype=self.dtype) for n in matrix.shape]
        sums = {"user_squares": squares[0], "item_squares": squares[1]}
        saved = Checkpoint(checkpoint, checkpoint_every, self, counts[0], self.factors + 2, sums)
        done = saved.begin(random, lambda: self._initialize(random, counts, int(draws[0].sum())))
        key = int(random.integers(2**64, dtype=np.uint64))
        # each column of a user as likely, of an item as often as it is stored
        pools = random.permutation(matrix.shape[1]), random.permutation(counts[1].indices)
        negatives = [
            Negatives(np.append(0, np.cumsum(n)), pool.astype(np.int32, copy=False), key)
            for n, pool in zip(draws, pools, strict=True)
        ]
        with progress_bar(self.iterations, show_progress, done) as progress:
            for epoch in range(done, self.iterations):
                start = time.time()
                for side in (0, 1):
                    self._half_step(counts[side], squares[side], negatives[side], epoch, side)
                progress.update(1)
                if callback:
                    callback(epoch, time.time() - start)
                saved.after(epoch + 1)
        self._check_factors(self.user_factors, self.item_factors)
        rated = np.diff(counts[1].indptr) > 0
        if rated.any() and not rated.all():
            item_factors = self._writable("item_factors", (matrix.shape[1], self.factors + 2))
            item_factors[~rated, -2] = item_factors[rated, -2].min()

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_count(self.factors, "factors", 1, np.iinfo(np.int32).max)
        check_count(self.iterations, "iterations")
        check_count(self.neg_prop, "neg_prop", 0, np.iinfo(np.int32).max)
        check_number(self.learning_rate, "learning_rate")
        check_number(self.regularization, "regularization", 0)
        self.dtype = check_dtype(self.dtype)

    def _draws_per_row(self, counts: Counts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many items each user draws, and users each item: in all about the same."""
        users, items = counts.shape
        of_users = np.minimum(np.diff(counts.indptr) * self.neg_prop, items)
        of_items = np.full(items, min(-(-int(of_users.sum()) // max(items, 1)), users))
        return of_users, of_items

    def _initialize(self, random: np.random.Generator, counts: tuple[Counts, ...], draws: int) -> None:
        """Make the factors that are missing: random, biases that give the mean log-odds, zero for who has no entry."""
        sides = {"item_factors": counts[1], "user_factors": counts[0]}
        for side, stored in sides.items():
            self._check_shape(side, (stored.shape[0], self.factors + 2))
        liked = float(np.maximum(counts[0].values, 0).sum(dtype=np.float64))
        log_odds = np.log(liked / draws) if liked and draws else 0.0
        drawn = {}
        for side, stored in sides.items():
            if getattr(self, side) is None:
                shape = stored.shape[0], self.factors + 2
                drawn[side] = factors = random.standard_normal(shape, dtype=self.dtype.type)
                factors *= START
                factors[:, -2:] = log_odds / 2
                factors[np.diff(stored.indptr) == 0] = 0
                factors[:, -2 if side == "user_factors" else -1] = 1
        for side, factors in drawn.items():  # at the end, so that an interrupt leaves both or neither
            setattr(self, side, factors)

    def _half_step(self, counts: Counts, squares: Factors, negatives: Negatives, epoch: int, side: int) -> None:
        """Take a step for users (side 0) or items (side 1), in pieces between which signals are acted on."""
        self._check_parameters()  # which a callback may have changed
        width = squares.shape[1]
        if self.dtype != squares.dtype or self.factors != width - 2:
            raise ValueError(
                f"factors and dtype must stay the same during fit, {width - 2} and {squares.dtype}, got {self.factors} "
                f"and {self.dtype}"
            )
        names = ("user_factors", "item_factors") if side == 0 else ("item_factors", "user_factors")
        X, Y = (self._writable(name, (n, width)) for name, n in zip(names, counts.shape, strict=True))
        samples = counts.indptr + negatives.indptr
        pieces = split_rows(samples, slice(None), 1, int(samples[-1] * width / PIECE_WORK) + 1)
        for start, stop in zip(pieces[:-1].tolist(), pieces[1:].tolist(), strict=True):
            self._kernels.lmf_step(
                counts,
                X,
                squares,
                Y,
                self.learning_rate,
                self.regularization,
                negatives,
                epoch,
                side,
                slice(start, stop),
                self.num_threads,
            )


class CPULogisticMatrixFactorization(LogisticMatrixFactorization):
    """The model on the CPU, with the order of parameters of ``implicit.cpu.lmf``."""

    def __init__(
        self,
        factors: int = 30,
        learning_rate: float = 1.0,
        regularization: float = 0.6,
        dtype: DTypeLike = np.float32,
        iterations: int = 30,
        neg_prop: int = 30,
        num_threads: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            factors=factors,
            learning_rate=learning_rate,
            regularization=regularization,
            dtype=dtype,
            iterations=iterations,
            neg_prop=neg_prop,
            use_gpu=False,
            num_threads=num_threads,
            random_state=random_state,
        )


register_device_class(LogisticMatrixFactorization, CPULogisticMatrixFactorization, "cpu", "implicit_core.cpu.lmf")
