"""The work of ``tasks.py`` with implicit_core alone, in the form that `asv` tracks over commits (``asv run``)."""

from __future__ import annotations

from typing import Any

from benchmarks import tasks


class _Tracked:
    """Times ``run`` of a task; ``setup`` is not timed."""

    task = ""
    options: dict[str, Any] = {}  # noqa: RUF012
    params: Any = (1, 2)
    param_names = ("threads",)
    timeout = 600.0

    def setup(self, threads: int) -> None:
        self.work = getattr(tasks, self.task)("implicit_core", threads, **self.options)
        self.work.run()

    def time_run(self, threads: int) -> None:
        self.work.run()


class Fit(_Tracked):
    """A call of ALS's fit for one iteration, checks and the transposed matrix included."""

    task, options = "Fit", {"data": "planted", "factors": 64}

    def setup(self, threads: int) -> None:
        super().setup(threads)
        while self.work.done < self.work.iterations:  # after which the loss is computed, once
            self.work.run()

    def track_loss(self, threads: int) -> float:
        return float(self.work.loss)

    def peakmem_run(self, threads: int) -> None:
        self.work.run()


class FitExact(_Tracked):
    """An iteration of ALS by Cholesky."""

    task, options = "Fit", {"data": "planted", "factors": 64, "exact": True}


class Recommend(_Tracked):
    """All users of a fitted model."""

    task, options = "Recommend", {"data": "planted", "factors": 64}


class RecommendOne(_Tracked):
    """A thousand calls for one user."""

    task, options = "RecommendOne", {"data": "planted", "factors": 64}


class SimilarItems(_Tracked):
    """All items of a fitted model."""

    task, options = "SimilarItems", {"data": "planted", "factors": 64}


class BPR(_Tracked):
    """Three epochs."""

    task, options = "Epochs", {"data": "planted", "model": "bpr", "factors": 64, "epochs": 3}

    def track_ndcg(self, threads: int) -> float:
        return self.work.quality()["ndcg@10"]


class LMF(_Tracked):
    """Three epochs."""

    task, options = "Epochs", {"data": "planted", "model": "lmf", "factors": 30, "epochs": 3}

    def track_ndcg(self, threads: int) -> float:
        return self.work.quality()["ndcg@10"]


class Neighbours(_Tracked):
    """The fit of BM25 neighbours."""

    task, options = "Neighbours", {"data": "planted", "step": "fit"}


class NeighboursRecommend(_Tracked):
    """Recommendations of BM25 neighbours for all users."""

    task, options = "Neighbours", {"data": "planted", "step": "recommend"}


class Metrics(_Tracked):
    """Ranking metrics of a fitted model."""

    task, options = "Metrics", {"data": "planted", "factors": 64}


class LeaveKOutSplit(_Tracked):
    """A split that leaves out an entry of each user."""

    task, options = "Call", {"data": "planted", "path": "evaluation.leave_k_out_split"}


class TrainTestSplit(_Tracked):
    """A split of entries at random."""

    task, options = "Call", {"data": "planted", "path": "evaluation.train_test_split"}


class BM25Weight(_Tracked):
    """Weights of all entries."""

    task, options = "Call", {"data": "planted", "path": "nearest_neighbours.bm25_weight"}
