"""Bayesian personalized ranking."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from implicit_core._checkpoint import Checkpoint
from implicit_core._checks import as_dtype, check_callback, check_count, check_dtype, check_number
from implicit_core._devices import DeviceClass, is_float64, register_device_class
from implicit_core._matrices import check_csr, confidences, to_counts
from implicit_core._progress import progress_bar
from implicit_core._typing import Counts, Matrix
from implicit_core.matrix_factorization import GPUMatrixFactorizationBase, MatrixFactorizationBase
from implicit_core.utils import check_random_state


class BayesianPersonalizedRanking(MatrixFactorizationBase, metaclass=DeviceClass):
    r"""Matrix factorization that ranks what users liked before what they did not.

    Maximises, by stochastic gradient ascent over triples of a user u, a liked item i and another item j,

    .. math:: \sum_{u,i,j} \ln \sigma(x_u \cdot y_i + b_i - x_u \cdot y_j - b_j)
              - \frac{\lambda}{2} (|x_u|^2 + |y_i|^2 + |y_j|^2 + b_i^2 + b_j^2)

    An epoch is as many steps as there are entries. Each draws an entry (u, i), and the item j of another, so that
    popular items are drawn more often as the worse one too. Values of entries are ignored: each is something liked.

    Parameters
    ----------
    factors : int, default 100
        Length of the vectors that stand for users and items, biases not counted.
    learning_rate : float, default 0.01
    regularization : float, default 0.01
        λ above, at least 0.
    dtype : float32 or float64, default float32
        Type of the factors.
    iterations : int, default 100
        Number of epochs.
    use_gpu : bool, optional
        Default: use a GPU if one works.
    num_threads : int, default 0
        0 means all that this process may use; negative counts from the end, −1 = all.
    verify_negative_samples : bool, default True
        Skip a draw if the user liked both items.
    random_state : int, Generator, RandomState, SeedSequence or None
        Seed of the initial factors and of the draws.
    deterministic : bool, default True
        Take steps in an order that gives the same bits for any number of threads; on a GPU, in runs of at most 2,048
        steps that start from the same factors, whose changes are added up exactly. False lets threads race, which is
        hardly faster and gives another result each time.

    Attributes
    ----------
    user_factors : ndarray, shape (users, factors + 1)
        The last column is 1.
    item_factors : ndarray, shape (items, factors + 1)
        The last column is the bias.

    Notes
    -----
    S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit
    feedback", UAI 2009.
    """

    _saved = (
        "regularization",
        "factors",
        "learning_rate",
        "verify_negative_samples",
        "num_threads",
        "iterations",
        "dtype",
        "random_state",
    )
    _beyond = ("deterministic",)

    def __init__(
        self,
        factors: int = 100,
        learning_rate: float = 0.01,
        regularization: float = 0.01,
        dtype: DTypeLike = np.float32,
        iterations: int = 100,
        use_gpu: bool | None = None,
        num_threads: int = 0,
        verify_negative_samples: bool = True,
        random_state: Any = None,
        *,
        deterministic: bool = True,
    ) -> None:
        super().__init__(num_threads=num_threads)
        self.factors = factors
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.dtype = as_dtype(dtype)
        self.iterations = iterations
        self.verify_negative_samples = verify_negative_samples
        self.random_state = random_state
        self.deterministic = deterministic
        self.device = self._choose_device(use_gpu, vars(self))

    @classmethod
    def _not_on_gpu(cls, parameters: Mapping[str, Any]) -> str:
        return "dtype=float64, since it computes in float32" if is_float64(parameters) else ""

    def fit(
        self,
        user_items: Matrix,
        show_progress: bool = True,
        callback: Callable[[int, float, int, int], object] | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1,
    ) -> None:
        """Learn the factors of users and items.

        A model that has factors goes on from them.

        Parameters
        ----------
        user_items : csr_matrix or csr_array, shape (users, items)
            Entries are what users liked, whatever their values. Other sparse formats are converted, with a
            ParameterWarning.
        show_progress : bool, default True
            Show a progress bar, with the share of triples in the right order (``train_auc``) and that of skipped
            draws.
        callback : callable, optional
            Called after each epoch with the epoch, its seconds, the number of triples in the right order before
            their step, and the number of skipped draws.
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
            A value is NaN or infinite, or the factors became so.
        ValueError
            The model has factors of another shape, a parameter is out of range, or the checkpoint is of another fit,
            which the message compares with this one.
        OSError
            The checkpoint cannot be written.
        MemoryError
            The GPU has not enough memory, or the machine for the factors; the message says how much is needed.
        """
        self._check_parameters()
        check_callback(callback)
        counts = to_counts(confidences(check_csr(user_items), 1.0, "user_items"))
        self._check_room(counts, self.factors + 1, 1)
        random = check_random_state(self.random_state)
        saved = Checkpoint(checkpoint, checkpoint_every, self, counts, self.factors + 1)
        done = saved.begin(random, lambda: self._initialize(random, counts))
        key = int(random.integers(2**64, dtype=np.uint64))
        users = np.repeat(np.arange(counts.shape[0], dtype=np.int32), np.diff(counts.indptr))
        counts = self._kernels.to_device(counts)
        with progress_bar(self.iterations, show_progress, done) as progress:
            for epoch in range(done, self.iterations):
                start = time.time()
                self._check_parameters()  # which a callback may have changed
                correct, skipped = self._kernels.bpr_epoch(
                    counts,
                    users,
                    self._writable("user_factors", (counts.shape[0], self.factors + 1)),
                    self._writable("item_factors", (counts.shape[1], self.factors + 1)),
                    self.learning_rate,
                    self.regularization,
                    key,
                    epoch,
                    self.verify_negative_samples,
                    self.deterministic,
                    self.num_threads,
                )
                progress.update(1)
                draws = len(users)
                if draws > skipped:
                    progress.set_postfix(
                        {
                            "train_auc": f"{100 * correct / (draws - skipped):.2f}%",
                            "skipped": f"{100 * skipped / draws:.2f}%",
                        }
                    )
                if callback:
                    callback(epoch, time.time() - start, correct, skipped)
                saved.after(epoch + 1)
        self._check_factors(self.user_factors, self.item_factors)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_count(self.factors, "factors", 1, np.iinfo(np.int32).max)
        check_count(self.iterations, "iterations")
        check_number(self.learning_rate, "learning_rate")
        check_number(self.regularization, "regularization", 0)
        self.dtype = check_dtype(self.dtype, ("float32", "float64") if self.device == "cpu" else ("float32",))

    def _initialize(self, random: np.random.Generator, counts: Counts) -> None:
        """Make the factors that are missing: zero for who has no entry, and the column of ones of the users."""
        sides = {"item_factors": counts.shape[1], "user_factors": counts.shape[0]}
        for side, size in sides.items():
            self._check_shape(side, (size, self.factors + 1))
        drawn = {}
        for side, size in sides.items():
            if getattr(self, side) is None:
                drawn[side] = factors = random.random((size, self.factors + 1), dtype=self.dtype.type)
                factors -= 0.5
                factors /= self.factors
                stored = (
                    np.diff(counts.indptr) if side == "user_factors" else np.bincount(counts.indices, minlength=size)
                )
                factors[stored == 0] = 0
                if side == "user_factors":
                    factors[:, -1] = 1
        for side, factors in drawn.items():  # at the end, so that an interrupt leaves both or neither
            setattr(self, side, self._kernels.writable(factors, self.dtype))


class CPUBayesianPersonalizedRanking(BayesianPersonalizedRanking):
    """The model on the CPU, with the order of parameters of ``implicit.cpu.bpr``."""

    def __init__(
        self,
        factors: int = 100,
        learning_rate: float = 0.01,
        regularization: float = 0.01,
        dtype: DTypeLike = np.float32,
        iterations: int = 100,
        num_threads: int = 0,
        verify_negative_samples: bool = True,
        random_state: Any = None,
        *,
        deterministic: bool = True,
    ) -> None:
        super().__init__(
            factors=factors,
            learning_rate=learning_rate,
            regularization=regularization,
            dtype=dtype,
            iterations=iterations,
            use_gpu=False,
            num_threads=num_threads,
            verify_negative_samples=verify_negative_samples,
            random_state=random_state,
            deterministic=deterministic,
        )


class GPUBayesianPersonalizedRanking(BayesianPersonalizedRanking, GPUMatrixFactorizationBase):
    """The model on the GPU, with the parameters of ``implicit.gpu.bpr``."""

    def __init__(
        self,
        factors: int = 100,
        learning_rate: float = 0.01,
        regularization: float = 0.01,
        dtype: DTypeLike = np.float32,
        iterations: int = 100,
        verify_negative_samples: bool = True,
        random_state: Any = None,
        *,
        num_threads: int = 0,
        deterministic: bool = True,
    ) -> None:
        super().__init__(
            factors=factors,
            learning_rate=learning_rate,
            regularization=regularization,
            dtype=dtype,
            iterations=iterations,
            use_gpu=True,
            num_threads=num_threads,
            verify_negative_samples=verify_negative_samples,
            random_state=random_state,
            deterministic=deterministic,
        )


register_device_class(BayesianPersonalizedRanking, CPUBayesianPersonalizedRanking, "cpu", "implicit_core.cpu.bpr")
register_device_class(BayesianPersonalizedRanking, GPUBayesianPersonalizedRanking, "gpu", "implicit_core.gpu.bpr")
