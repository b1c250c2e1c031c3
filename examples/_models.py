"""Models by name, and tables of what they find: what lastfm.py and movielens.py share."""

from __future__ import annotations

import argparse
import ast
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

BATCH = 1000  #: ids that a model is asked for at once
FOUND = -1e38  #: what is filtered or not there has a lower score

ALS = {"factors": 64, "regularization": 0.05}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "als": ("als", "AlternatingLeastSquares", {**ALS, "alpha": 2.0}),
    "usearch_als": ("approximate_als", "UsearchAlternatingLeastSquares", ALS),
    "nmslib_als": ("approximate_als", "NMSLibAlternatingLeastSquares", ALS),
    "annoy_als": ("approximate_als", "AnnoyAlternatingLeastSquares", ALS),
    "faiss_als": ("approximate_als", "FaissAlternatingLeastSquares", ALS),
    "bpr": ("bpr", "BayesianPersonalizedRanking", {"factors": 63}),
    "lmf": ("lmf", "LogisticMatrixFactorization", {"factors": 30, "iterations": 40, "regularization": 1.5}),
    "tfidf": ("nearest_neighbours", "TFIDFRecommender", {}),
    "cosine": ("nearest_neighbours", "CosineRecommender", {}),
    "bm25": ("nearest_neighbours", "BM25Recommender", {"K1": 100, "B": 0.5}),
}


def add_arguments(parser: argparse.ArgumentParser, dataset: str, output: str, models: list[str]) -> None:
    """Add the options that the examples share."""
    parser.add_argument("--output", default=output, help="file of tab-separated values to write (%(default)s)")
    parser.add_argument("--model", default="als", choices=models, metavar="NAME", help=", ".join(models))
    parser.add_argument(
        "--dataset", default=dataset, choices=[dataset, "debian"], help="debian comes with the package (%(default)s)"
    )
    parser.add_argument(
        "--param", action="append", default=[], type=parameter, metavar="KEY=VALUE", help="a parameter of the model"
    )


def parameter(text: str) -> tuple[str, Any]:
    """The name and value in ``name=value``; what is no Python literal is text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def make_model(name: str, parameters: list[tuple[str, Any]]) -> Any:
    """An unfitted model; only its module is imported."""
    module, factory, defaults = MODELS[name]
    try:
        make = getattr(importlib.import_module(f"implicit_core.{module}"), factory)
        return make(**{**defaults, **dict(parameters)})
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"the model {name} cannot be used: {error}") from error
    except (TypeError, ValueError) as error:
        raise SystemExit(f"the model {name} does not take these parameters: {error}") from error


def fit(model: Any, user_items: csr_matrix) -> None:
    """Train a model, and say how long that took."""
    start = time.perf_counter()
    model.fit(user_items)
    print(f"fitted {type(model).__name__} in {time.perf_counter() - start:.1f} s")


def write_similar_items(output: str, model: Any, labels: np.ndarray, user_items: csr_matrix) -> None:
    """Write the 10 items most similar to each, popular items first: item, similar item, score."""
    users = np.bincount(user_items.indices, minlength=user_items.shape[1])
    by_popularity = np.argsort(-users, kind="stable")[: np.count_nonzero(users)]
    _write(output, by_popularity, labels, labels, lambda items: model.similar_items(items, N=11), own=False)


def write_recommendations(
    output: str, model: Any, items: np.ndarray, users: np.ndarray, user_items: csr_matrix
) -> None:
    """Write 10 recommendations for each user: user, item, score."""
    _write(output, np.arange(len(users)), users, items, lambda ids: model.recommend(ids, user_items[ids]), own=True)


def _write(
    output: str, ids: np.ndarray, names: np.ndarray, found_names: np.ndarray, find: Callable[..., Any], own: bool
) -> None:
    """Write a line per result; with ``own`` false, none of an id for itself."""
    with Path(output).open("w", encoding="utf-8") as file, tqdm(total=len(ids)) as progress:
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            for one, found, scores in zip(batch, *find(batch), strict=True):
                wanted = (found >= 0) & (scores > FOUND) & (own | (found != one))
                for other, score in zip(found[wanted], scores[wanted], strict=True):
                    file.write(f"{names[one]}\t{found_names[other]}\t{score:.6g}\n")
            progress.update(len(batch))
    print(f"wrote {output}")
