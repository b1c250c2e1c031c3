"""What the benchmarks time.

A task is made in a process of its own for each library and answers

- ``run()``: does the work once; a number that it returns is taken in place of the seconds it took;
- ``quality()``: figures that stand beside the time, since faster must not be worse;
- ``result()``: arrays that libraries are compared in, or that are drawn, if there are any.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks import workloads
from implicit_core.cpu import kernels
from implicit_core.cpu.als import calculate_loss
from implicit_core.evaluation import ranking_metrics_at_k, train_test_split

REGULARIZATION, ALPHA = 0.05, 2.0


class Task:
    """A task without figures beside its time."""

    peers: tuple[str, ...] = ("implicit",)  #: libraries that it is made for, beside ours
    blas_threads = 1  #: as implicit's documentation asks; what differs is faster so for implicit

    @classmethod
    def blas(cls, threads: int) -> int:
        """Threads of BLAS where libraries have ``threads``; it never makes more than there are cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cls.blas_threads, threads, cores)

    def quality(self) -> dict[str, float]:
        """What is measured beside the time."""
        return {}

    def result(self) -> dict[str, NDArray[Any]]:
        """``ids`` and ``scores``, in which libraries are compared, or a ``curve`` to draw."""
        return {}


def irspack_loss(counts: sparse.csr_matrix, X: NDArray[Any], Y: NDArray[Any]) -> float:
    """The loss that irspack minimises with α0 = 1, divided by the sum of the weights of all squared errors.

    Σ r (1 − x·y)² over the stored entries + Σ (x·y)² over all cells + λ (|X|² + |Y|²); in implicit's a stored entry has
    no share in the second sum.
    """
    X, Y, entries = X.astype(np.float64), Y.astype(np.float64), counts.tocoo()
    stored = 0.0
    for some in np.array_split(np.arange(counts.nnz), counts.nnz // 2**18 + 1):
        scores = np.einsum("ij,ij->i", X[entries.row[some]], Y[entries.col[some]])
        stored += float(entries.data[some].astype(np.float64) @ (1 - scores) ** 2)
    penalty = REGULARIZATION * float(np.vdot(X, X) + np.vdot(Y, Y))
    weights = float(counts.data.sum(dtype=np.float64)) + counts.shape[0] * counts.shape[1]
    return (stored + float(np.vdot(X.T @ X, Y.T @ Y)) + penalty) / weights


class Fit(Task):
    """One iteration of ALS: both half-steps. Beside it stands the loss after ``iterations``.

    ``objective`` is whose loss ours minimises, implicit's or irspack's, and which one is computed; a peer is always
    fitted to its own, and has no figure for another's.
    """

    peers = ("implicit", "irspack")

    def __init__(
        self,
        library: str,
        threads: int,
        data: str,
        factors: int,
        exact: bool = False,
        iterations: int = 3,
        objective: str = "implicit",
    ) -> None:
        if objective not in ("implicit", "irspack"):
            raise ValueError(f"objective must be implicit or irspack, got {objective!r}")
        self.counts, self.iterations = workloads.load(data), iterations
        if library == "irspack":
            recommender = importlib.import_module("irspack.recommenders").IALSRecommender
            self.counts.data *= np.float32(ALPHA)
            solver = "CHOLESKY" if exact else "CG"
            options = {"reg": REGULARIZATION, "nu": 0.0, "alpha0": 1.0, "solver_type": solver, "n_threads": threads}
            self.model = recommender(self.counts, n_components=factors, init_std=0.1, **options)
            self.model.start_learning()
        else:
            options = {"regularization": REGULARIZATION, "alpha": ALPHA, "use_cg": not exact, "random_state": 0}
            if library == "implicit_core" and objective == "irspack":
                options |= {"unobserved_weight": 1.0, "init_scale": 0.1}
            self.model = importlib.import_module(f"{library}.cpu.als").AlternatingLeastSquares(
                factors, iterations=1, num_threads=threads, **options
            )
        self.library, self.objective, self.done, self.loss = library, objective, 0, float("nan")

    def run(self) -> float | None:
        """Go on from the factors reached."""
        self.done += 1
        seconds: list[float] = []
        if self.library == "irspack":
            start = time.perf_counter()
            self.model.run_epoch()
            seconds.append(time.perf_counter() - start)
        else:
            self.model.fit(self.counts, show_progress=False, callback=lambda *report: seconds.append(report[1]))
        if self.done == self.iterations:
            self.loss = self._loss()
        return seconds[0]

    def _loss(self) -> float:
        if self.library not in ("implicit_core", self.objective):
            return float("nan")
        if self.library == "irspack":  # whose values are weighted already
            trained = self.model.trainer.core_trainer
            return irspack_loss(self.counts, trained.user, trained.item)
        counts = self.counts.copy()
        counts.data *= np.float32(ALPHA)
        X, Y = self.model.user_factors, self.model.item_factors
        if self.objective == "irspack":
            return irspack_loss(counts, X, Y)
        return float(calculate_loss(counts, X, Y, REGULARIZATION))

    def quality(self) -> dict[str, float]:
        """The loss, if it is one that compares."""
        if self.library not in ("implicit_core", self.objective):
            return {}
        if self.done < self.iterations:
            return {f"loss after {self.done}": self._loss()}
        return {f"loss after {self.iterations}": self.loss}


class SparkFit(Fit):
    """The same beside ALS of Spark, whose penalty of a row grows with its entries, so that its loss is another one."""

    peers = ("pyspark",)

    def __init__(self, library: str, threads: int, data: str, factors: int) -> None:
        if library != "pyspark":
            super().__init__(library, threads, data, factors)
            return
        sql = importlib.import_module("pyspark.sql")
        settings = {
            "spark.driver.memory": "12g",
            "spark.driver.host": "localhost",
            "spark.ui.enabled": False,
            "spark.ui.showConsoleProgress": False,
            "spark.sql.shuffle.partitions": threads,
        }
        session = sql.SparkSession.builder.master(f"local[{threads}]").config(map=settings).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        entries = workloads.load(data).tocoo()
        file = workloads.kept(data, "entries.csv")
        if not file.exists():
            np.savetxt(
                file, np.column_stack([entries.row, entries.col, entries.data]), fmt=["%d", "%d", "%.7g"], delimiter=","
            )
        self.entries = session.read.csv(str(file), schema="user INT, item INT, rating FLOAT").cache()
        self.entries.count()
        self.library, self.threads, self.factors = library, threads, factors

    def run(self) -> float | None:
        """An iteration: of Spark, a quarter of what five take longer than one, so that its start does not count."""
        return super().run() if self.library != "pyspark" else (self._seconds(5) - self._seconds(1)) / 4

    def _seconds(self, iterations: int) -> float:
        als = importlib.import_module("pyspark.ml.recommendation").ALS(
            rank=self.factors,
            maxIter=iterations,
            regParam=REGULARIZATION,
            implicitPrefs=True,
            alpha=ALPHA,
            seed=0,
            userCol="user",
            itemCol="item",
            numUserBlocks=self.threads,
            numItemBlocks=self.threads,
        )
        start = time.perf_counter()
        als.fit(self.entries)
        return time.perf_counter() - start

    def quality(self) -> dict[str, float]:
        """Nothing that compares."""
        return {}


class LossOverTime(Fit):
    """ALS from a seed to a loss that 15 iterations of a peer reach; the time for computing it does not count."""

    peers = ("implicit",)

    def __init__(
        self, library: str, threads: int, data: str, factors: int, goal: float, objective: str = "implicit"
    ) -> None:
        super().__init__(library, threads, data, factors, objective=objective)
        self.goal = goal
        self.curve: list[tuple[float, float]] = []

    def run(self) -> float:
        """Seconds until the goal."""
        self._restart()
        self.curve, total = [], 0.0
        while not self.curve or (self.curve[-1][1] > self.goal and len(self.curve) < 30):
            total += super().run() or 0.0
            self.curve.append((total, self._loss()))
        return total

    def _restart(self) -> None:
        if self.library == "irspack":
            self.model.start_learning()
        else:
            self.model.user_factors = self.model.item_factors = None

    def quality(self) -> dict[str, float]:
        """Where it ended."""
        return {"iterations": len(self.curve), "loss": self.curve[-1][1]}

    def result(self) -> dict[str, NDArray[Any]]:
        """The loss against time."""
        return {"curve": np.array(self.curve)}


class FitMemory(Task):
    """Peak memory of an ALS fit above what its input takes, in MB, its factors included."""

    def __init__(self, library: str, threads: int, data: str, factors: int) -> None:
        self.fit = Fit(library, threads, data, factors)
        counts = self.fit.counts
        sides = sum(counts.shape) * factors * 4
        self.allowed = (sides + counts.data.nbytes + counts.indices.nbytes) / 2**20 + 32

    def run(self) -> float:
        """The peak during one iteration."""
        self.fit.model.user_factors = self.fit.model.item_factors = None
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
        before = _status("VmRSS")
        self.fit.model.fit(self.fit.counts, show_progress=False)
        return max(_status("VmHWM") - before, 1 / 256)  # a page

    def quality(self) -> dict[str, float]:
        """Factors + one transpose + 32 MB."""
        return {"allowed": self.allowed}


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


class Recommend(Task):
    """The ten best items that a user has not got, for many users in one call, exactly."""

    def __init__(
        self, library: str, threads: int, data: str, factors: int, users: int | None = None, **load: Any
    ) -> None:
        cls = importlib.import_module(f"{library}.cpu.als").AlternatingLeastSquares
        self.library, self.model = library, cls.load(str(workloads.model_path(data, factors)), **load)
        self.model.num_threads = threads
        self.counts = workloads.load(data)[:users]
        self.users = np.arange(self.counts.shape[0])

    def run(self) -> None:
        """Recommend for all."""
        self.found = self.model.recommend(self.users, self.counts, N=10)

    def quality(self) -> dict[str, float]:
        """Of ours, the share of all pairs of a query and an item that were looked at and scored; others score all."""
        if self.library != "implicit_core":
            return {}
        work = np.zeros(2, dtype=np.int64)
        with mock.patch.object(kernels, "topk", functools.partial(kernels.topk, work=work)):
            self.run()
        looked_at, scored = (work / (len(self.found[0]) * len(self.model.item_factors))).tolist()
        return {"looked at": looked_at, "scored": scored}

    def result(self) -> dict[str, NDArray[Any]]:
        """Ids and scores."""
        return {"ids": self.found[0], "scores": self.found[1]}


class RecommendOne(Recommend):
    """``recommend`` for one user at a time, 1,000 times."""

    blas_threads = 2

    def run(self) -> None:
        """Recommend for the first thousand users, each with its own row."""
        found = [self.model.recommend(user, row, N=10) for user, row in self.rows]
        self.found = tuple(np.array(part) for part in zip(*found, strict=True))

    def __init__(self, library: str, threads: int, data: str, factors: int, **load: Any) -> None:
        super().__init__(library, threads, data, factors, users=1000, **load)
        self.rows = [(user, self.counts[user]) for user in self.users]


class SimilarItems(Recommend):
    """The ten most similar items, for many items in one call."""

    def __init__(self, library: str, threads: int, data: str, factors: int, items: int | None = None) -> None:
        super().__init__(library, threads, data, factors)
        self.items = np.arange(len(self.model.item_factors))[:items]

    def run(self) -> None:
        """Find them for all."""
        self.found = self.model.similar_items(self.items, N=10)


class Epochs(Task):
    """Epochs of BPR or LMF, each run from another seed; beside them the NDCG@10 on a fifth of the entries, held out."""

    def __init__(
        self, library: str, threads: int, data: str, model: str, factors: int, epochs: int, **options: Any
    ) -> None:
        name = {"bpr": "BayesianPersonalizedRanking", "lmf": "LogisticMatrixFactorization"}[model]
        cls = getattr(importlib.import_module(f"{library}.cpu.{model}"), name)
        if library != "implicit_core":
            options.pop("deterministic", None)
        self.make = lambda seed: cls(
            factors=factors, iterations=epochs, num_threads=threads, random_state=seed, **options
        )
        self.train, self.test = train_test_split(workloads.load(data), 0.8, random_state=0)
        self.seeds = itertools.count()
        self.models: deque[Any] = deque(maxlen=4)

    def run(self) -> None:
        """Fit a new model."""
        model = self.make(next(self.seeds))
        model.fit(self.train, show_progress=False)
        self.models.append(model)

    def quality(self) -> dict[str, float]:
        """How well held-out entries rank, in the mean of the last four fits."""
        found = [ranking_metrics_at_k(m, self.train, self.test, show_progress=False)["ndcg"] for m in self.models]
        return {"ndcg@10": statistics.mean(found)}


class Neighbours(Task):
    """BM25 item–item neighbours: their fit, or the recommendations of all users in one call."""

    def __init__(self, library: str, threads: int, data: str, step: str) -> None:
        cls = importlib.import_module(f"{library}.nearest_neighbours").BM25Recommender
        self.model, self.counts, self.step = cls(K=20, num_threads=threads), workloads.load(data), step
        self.users = np.arange(self.counts.shape[0])
        self.model.fit(self.counts, show_progress=False)

    def run(self) -> None:
        """Take the step."""
        if self.step == "fit":
            self.model.fit(self.counts, show_progress=False)
        else:
            self.found = self.model.recommend(self.users, self.counts, N=10)

    def quality(self) -> dict[str, float]:
        """The sum of all similarities, or of all scores."""
        if self.step == "fit":
            return {"similarity": float(self.model.similarity.sum())}
        scores = self.found[1]
        return {"score": float(scores[np.isfinite(scores) & (scores > 0)].sum())}


class Metrics(Task):
    """``ranking_metrics_at_k`` of an ALS model that both libraries know."""

    def __init__(self, library: str, threads: int, data: str, factors: int) -> None:
        self.train, self.test = train_test_split(workloads.load(data), 0.8, random_state=0)
        cls = importlib.import_module(f"{library}.cpu.als").AlternatingLeastSquares
        self.model = cls.load(str(workloads.model_path(data, factors)))
        self.model.num_threads = threads
        self.measure = importlib.import_module(f"{library}.evaluation").ranking_metrics_at_k
        self.threads = threads

    def run(self) -> None:
        """Measure."""
        self.found = self.measure(self.model, self.train, self.test, show_progress=False, num_threads=self.threads)

    def quality(self) -> dict[str, float]:
        """NDCG."""
        return {"ndcg@10": float(self.found["ndcg"])}


class Call(Task):
    """A function of one matrix: a split or a weight."""

    def __init__(self, library: str, threads: int, data: str, path: str, **options: Any) -> None:
        module, _, name = path.rpartition(".")
        self.function, self.options = getattr(importlib.import_module(f"{library}.{module}"), name), options
        self.counts = workloads.load(data)

    def run(self) -> None:
        """Call it."""
        self.found = self.function(self.counts, **self.options)

    def quality(self) -> dict[str, float]:
        """Entries of the result, and the sum of their values."""
        parts = self.found if isinstance(self.found, tuple) else (self.found,)
        return {"entries": sum(part.nnz for part in parts), "sum": float(sum(part.sum() for part in parts))}


class Import(Task):
    """The time of importing the package in a new process, or what it and its models take beyond NumPy and SciPy."""

    def __init__(self, library: str, threads: int, beyond_numpy: bool = False) -> None:
        self.before = "numpy, scipy.sparse, tqdm, time" if beyond_numpy else "time"
        self.modules = f"{library}.als, {library}.nearest_neighbours" if beyond_numpy else library

    def run(self) -> float:
        """Import once."""
        code = (
            f"import {self.before}; start = time.perf_counter(); import {self.modules}; "
            "print(time.perf_counter() - start)"
        )
        time.sleep(0.05)
        # with compiled files, as in an installation
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, "-W", "ignore", "-c", code]
        # and not in the checkout, where the package lies uncompiled unless it is installed in place
        folder = workloads.folder()
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=folder)
        return float(done.stdout)
