"""Interrupt fits as Ctrl-C does: python tests/faults/interrupt.py TRIALS SEED [USERS ITEMS ENTRIES FACTORS].

A thread sends SIGINT at a random moment of each fit, which must end with KeyboardInterrupt and leave finite factors
of full shape, or none where it had not come to them; a further fit must go on. Prints the seconds from the signal to
the end of the fit, the longest for each model.
"""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
import tqdm.auto  # noqa: F401 - or else by the first fit, where a signal can end in any error of an import
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import CosineRecommender


def matrix_of(users, items, entries):
    random = np.random.default_rng(0)
    popular = (items * random.random(entries) ** 2).astype(np.int32)
    matrix = sparse.csr_matrix((np.ones(entries, "f"), (random.integers(0, users, entries), popular)), (users, items))
    matrix.sum_duplicates()
    return matrix


def interrupted(fit, delay):
    """Seconds from a signal, sent after a delay, to the end of the fit; None if the fit was done before."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, send)
    try:
        timer.start()
        fit()
        timer.cancel()
        timer.join()
    except KeyboardInterrupt:
        return time.perf_counter() - sent[0]
    return None


def main(trials, seed, users=3000, items=2000, entries=100_000, factors=32):
    random, matrix, longest = np.random.default_rng(seed), matrix_of(users, items, entries), {}
    made = {
        "als": AlternatingLeastSquares(factors, iterations=10**6),
        "als in principal axes": AlternatingLeastSquares(max(factors, 70), iterations=10**6),
        "als exact": AlternatingLeastSquares(factors, iterations=10**6, use_cg=False),
        "bpr": BayesianPersonalizedRanking(factors, iterations=10**6),
        "bpr racing": BayesianPersonalizedRanking(factors, iterations=10**6, deterministic=False),
        "lmf": LogisticMatrixFactorization(factors, iterations=10**6),
    }
    for name, model in made.items():
        for _ in range(trials):
            seconds = interrupted(lambda model=model: model.fit(matrix, show_progress=False), random.uniform(0, 0.3))
            assert seconds is not None
            longest[name] = max(longest.get(name, 0), seconds)
            width = model.factors + {"als": 0, "bpr": 1, "lmf": 2}[name.split()[0]]
            if model.user_factors is None:
                assert model.item_factors is None
            else:
                assert model.user_factors.shape == (users, width)
                assert model.item_factors.shape == (items, width)
                assert np.isfinite(model.user_factors).all()
                assert np.isfinite(model.item_factors).all()
        model.iterations = 1
        model.fit(matrix, show_progress=False)
        model.recommend(np.arange(10), matrix)
    neighbours = CosineRecommender()
    for _ in range(trials):
        seconds = interrupted(lambda: neighbours.fit(matrix, show_progress=False), random.uniform(0, 0.3))
        longest["cosine"] = max(longest.get("cosine", 0), seconds or 0)
        assert seconds is None or neighbours.similarity is None or neighbours.similarity.shape == (items, items)
    neighbours.fit(matrix, show_progress=False)
    print(json.dumps({name: round(seconds, 3) for name, seconds in longest.items()}))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
    main(*map(int, sys.argv[1:]))
