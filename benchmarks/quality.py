"""Quality of ours and of the installed implicit on held-out pairs: Recall and NDCG at 20, mean of several seeds.

    python benchmarks/quality.py [--data debian|FILE.npz] [--seeds 5]

Of the stored pairs of a matrix of users × items, all taken as 1, a fifth is held out: those where
``numpy.random.default_rng(42).random(nnz) < 0.2``, in the order of its coordinates. Both libraries get the same
parameters, which are defaults but for the number of factors; "ALS, w0" has those of `docs/api/als.md`. Recall is the
share of a user's held-out items that are among the first 20; NDCG divides their discounted gain, 1 / log2(1 + rank),
by the largest that is possible.
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from implicit_core.datasets.debian import get_debian

K = 20
#: The objective of Rendle et al. (2021), which implicit has not.
RENDLE: dict[str, Any] = {
    "factors": 64,
    "regularization": 0.01,
    "unobserved_weight": 0.1,
    "regularization_exponent": 1.0,
    "init_scale": 0.1,
    "iterations": 10,
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ALS": ("cpu.als", "AlternatingLeastSquares", {"factors": 64}),
    "ALS, w0": ("cpu.als", "AlternatingLeastSquares", RENDLE),
    "BPR": ("cpu.bpr", "BayesianPersonalizedRanking", {"factors": 64}),
    "LMF": ("cpu.lmf", "LogisticMatrixFactorization", {"factors": 30}),
    "cosine": ("nearest_neighbours", "CosineRecommender", {}),
    "TF-IDF": ("nearest_neighbours", "TFIDFRecommender", {}),
    "BM25": ("nearest_neighbours", "BM25Recommender", {}),
}


def held_out(path: str) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Pairs to learn from and pairs to find."""
    matrix = (get_debian()[2].T if path == "debian" else sparse.load_npz(path)).tocoo()
    test = np.random.default_rng(42).random(matrix.nnz) < 0.2
    ones = np.ones(matrix.nnz, dtype=np.float32)
    return tuple(
        sparse.csr_matrix((ones[part], (matrix.row[part], matrix.col[part])), shape=matrix.shape)
        for part in (~test, test)
    )


def recall_and_ndcg(ids: NDArray[Any], test: sparse.csr_matrix) -> NDArray[np.float64]:
    """Mean over the users that have held-out items; ``ids`` are their first items, −1 for none."""
    users = np.flatnonzero(np.diff(test.indptr))
    hits = np.zeros((len(users), K))
    for row, user in enumerate(users):
        hits[row] = np.isin(ids[row], test.indices[test.indptr[user] : test.indptr[user + 1]])
    wanted = np.diff(test.indptr)[users]
    gain = 1 / np.log2(np.arange(K) + 2)
    ideal = np.cumsum(gain)[np.minimum(wanted, K) - 1]
    return np.array([(hits.sum(axis=1) / wanted).mean(), (hits @ gain / ideal).mean()])


def popular(train: sparse.csr_matrix, users: NDArray[Any]) -> NDArray[Any]:
    """The most popular items that each user has not got."""
    scores = np.tile(np.bincount(train.indices, minlength=train.shape[1]).astype(float), (len(users), 1))
    scores[train[users].nonzero()] = -1
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


def first_items(model: Any, train: sparse.csr_matrix, users: NDArray[Any]) -> NDArray[Any]:
    """What a model recommends; implicit's nearest-neighbour models give fewer items in a call for one user only."""
    ids, scores = model.recommend(users, train[users], N=K)
    return np.where(scores > np.finfo(np.float32).min, ids, -1)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="debian", help="debian, or a scipy.sparse .npz file of users × items")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {args.seeds}")
    warnings.simplefilter("ignore")
    train, test = held_out(args.data)
    users = np.flatnonzero(np.diff(test.indptr))
    chunks = np.array_split(users, len(users) // 2000 + 1)
    print(f"{args.data}: {train.shape[0]} × {train.shape[1]}, {train.nnz} pairs to learn, {test.nnz} held out")
    print(f"{'model':12}{'library':16}{'Recall@20':>20}{'NDCG@20':>20}")
    best = np.vstack([popular(train, chunk) for chunk in chunks])
    print("{:12}{:16}{:>20.4f}{:>20.4f}".format("popularity", "", *recall_and_ndcg(best, test)))
    for name, (module, kind, parameters) in MODELS.items():
        seeds = [{"random_state": seed} for seed in range(args.seeds)] if "factors" in parameters else [{}]
        for library in ("implicit_core",) if parameters is RENDLE else ("implicit_core", "implicit"):
            make = getattr(importlib.import_module(f"{library}.{module}"), kind)
            found = []
            for seed in seeds:
                model = make(**parameters, **seed)
                model.fit(train, show_progress=False)
                found.append(recall_and_ndcg(first_items(model, train, users), test))
            mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=len(seeds) > 1) / np.sqrt(len(seeds))
            cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(mean, error, strict=True)]
            print(f"{name:12}{library:16}{cells[0]:>20}{cells[1]:>20}", flush=True)


if __name__ == "__main__":
    main()
