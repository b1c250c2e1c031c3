"""Use all that is compiled, for LeakSanitizer to look at what is left: python tests/faults/leaks.py CYCLES.

``.ci/long`` runs it on a build with AddressSanitizer, of whose report a leak with a frame of ours fails. Prints the
number of cycles, so that an end before the last one is seen.
"""

import io
import sys
import warnings

import numpy as np

from implicit_core import evaluation
from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.cpu import kernels
from implicit_core.cpu.als import calculate_loss
from implicit_core.cpu.topk import topk
from implicit_core.datasets.synthetic import make_implicit
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import BM25Recommender

COMMON = {"factors": 9, "iterations": 1, "num_threads": 2}
MODELS = (
    lambda: AlternatingLeastSquares(**COMMON, calculate_training_loss=True),
    lambda: AlternatingLeastSquares(**COMMON, use_cg=False, dtype=np.float64),
    lambda: AlternatingLeastSquares(**COMMON, unobserved_weight=0.1),
    lambda: BayesianPersonalizedRanking(**COMMON),
    lambda: BayesianPersonalizedRanking(**COMMON, deterministic=False, dtype=np.float64),
    lambda: LogisticMatrixFactorization(**COMMON, neg_prop=3),
    lambda: BM25Recommender(num_threads=2),
)


def cycle(model, matrix):
    """Fits, recommendations, files and errors."""
    users, items = matrix.shape
    model.fit(matrix, show_progress=False)
    everyone = np.tile(np.arange(users), 5)  # enough for an index
    model.recommend(everyone, matrix[everyone], N=7, filter_items=[3])
    model.recommend(3, matrix[[3]], items=[1, 2])
    model.similar_items(np.arange(items))
    model.similar_users(4)
    evaluation.ranking_metrics_at_k(model, *evaluation.train_test_split(matrix, random_state=0), show_progress=False)
    evaluation.leave_k_out_split(matrix, random_state=0)
    if isinstance(model, AlternatingLeastSquares):
        model.partial_fit_users([users + 1], matrix[[3]])
        model.explain(3, matrix[[3]], 4)
        calculate_loss(matrix, model.user_factors[:users], model.item_factors, 0.1)
        topk(model.item_factors, model.user_factors[:300], 5)
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    type(model).load(file).recommend(3, matrix[[3]])
    for call in (
        lambda: model.fit(matrix[:, :-1] * np.nan, show_progress=False),
        lambda: model.recommend(-1, matrix[[0]]),
        lambda: type(model).load(io.BytesIO(file.getvalue()[:-100])),
        lambda: AlternatingLeastSquares(9, 0.0, use_cg=False).fit(matrix[:4], show_progress=False),
    ):
        try:
            call()
        except (IndexError, ValueError):
            continue
        raise AssertionError("what is wrong was taken")


def main(cycles):
    kernels.THREAD_WORK = 1000  # so that small work is shared out, too
    matrix = make_implicit(80, 60, 900, random_state=0)
    warnings.simplefilter("ignore")
    for number in range(cycles):
        cycle(MODELS[number % len(MODELS)](), matrix)
    print(cycles)


if __name__ == "__main__":
    main(int(sys.argv[1]))
