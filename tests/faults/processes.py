"""Use models in child processes: python tests/faults/processes.py HOW TRIALS SEED; prints how many children were right.

HOW is fork, forkserver, spawn, loky, or preload: children forked while other threads of the process are in the midst of
everything, which then compute in threads of their own, as under a server that loads before it forks.
"""

import faulthandler
import json
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

import numpy as np
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.ann.faiss import FaissModel
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import BM25Recommender

PARAMETERS = {"factors": 16, "iterations": 2, "random_state": 3, "num_threads": 2}
USERS = np.arange(600)
MATRIX = sparse.random(600, 400, 0.1, format="csr", random_state=1, dtype=np.float32)


def models():
    made = [kind(**PARAMETERS) for kind in (AlternatingLeastSquares, BayesianPersonalizedRanking)]
    made += [LogisticMatrixFactorization(**PARAMETERS, neg_prop=5), BM25Recommender(10, num_threads=2)]
    for model in made:
        model.fit(MATRIX, show_progress=False)
    with suppress(ImportError):
        index = FaissModel(made[0])
        index.build_index()
        made.append(index)
    return made


def work(model):
    """Everything that uses threads, BLAS or a lock."""
    results = [*model.recommend(USERS, MATRIX, N=5), *model.similar_items(np.arange(400), N=5), *model.similar_users(3)]
    if isinstance(model, AlternatingLeastSquares):
        results += [*model.recommend(USERS, MATRIX, recalculate_user=True), model.explain(3, MATRIX, 5)[0]]
    if not isinstance(model, FaissModel):
        again = type(model)(**model.get_params())
        again.fit(MATRIX, show_progress=False)
        results += again.recommend(USERS, MATRIX)
    return results


def same(results, expected):
    return all(np.array_equal(mine, wanted) for mine, wanted in zip(results, expected, strict=True))


def with_pool(pool, made, expected, trials):
    return Counter(
        "right" if same(results, wanted) else "wrong"
        for _ in range(trials)
        for results, wanted in zip(pool(work, made), expected, strict=True)
    )


def in_threads(made, expected, results):
    """Whether all models work at once, each in a thread of its own; one of them builds its index anew."""

    def run(model, wanted):
        if isinstance(model, FaissModel):
            model._built.clear()
        results.append(same(work(model), wanted))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(made, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def preloaded(made, expected, trials, seed):
    results, random, done = Counter(), np.random.default_rng(seed), threading.Event()

    def busy(model):
        while not done.is_set():
            if isinstance(model, FaissModel):
                model._built.clear()
            work(model)

    threads = [threading.Thread(target=busy, args=(model,)) for model in made]
    for thread in threads:
        thread.start()
    try:
        for _ in range(trials):
            time.sleep(random.uniform(0, 0.1))
            child = os.fork()
            if child == 0:
                found = []
                faulthandler.dump_traceback_later(60, exit=True)  # says where it hangs
                in_threads(made, expected, found)
                os._exit(0 if found == [True] * len(made) else 1)
            results["right" if os.waitpid(child, 0)[1] == 0 else "wrong"] += 1
    finally:
        done.set()
        for thread in threads:
            thread.join()
    found = []
    in_threads(made, expected, found)  # the parent still does what it did
    results["parent"] = sum(found)
    return results


def main(how, trials, seed):
    made = models()
    expected = [work(model) for model in made]
    if how == "preload":
        results = preloaded(made, expected, trials, seed)
    elif how == "loky":
        import joblib

        with joblib.Parallel(n_jobs=2) as parallel:
            results = with_pool(
                lambda function, of: parallel(joblib.delayed(function)(one) for one in of), made, expected, trials
            )
    else:
        with multiprocessing.get_context(how).Pool(2) as pool:
            results = with_pool(pool.map, made, expected, trials)
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
