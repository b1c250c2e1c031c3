"""Similar movies, from who rated them well on MovieLens.

    python examples/movielens.py [--variant 100k] [--model tfidf] [--min_rating 4] [--param K=50] [--output movies.tsv]
    python examples/movielens.py --dataset debian

The data set is downloaded once; that of Debian, packages and what they depend on, comes with the package.
"""

from __future__ import annotations

import argparse

from _models import add_arguments, fit, make_model, write_similar_items

from implicit_core.datasets.debian import get_debian
from implicit_core.datasets.movielens import get_movielens
from implicit_core.nearest_neighbours import bm25_weight


def main() -> None:
    """Fit a model and write what it finds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = ["als", "bpr", "lmf", "tfidf", "cosine", "bm25"]
    add_arguments(parser, dataset="movielens", output="similar-movies.tsv", models=models)
    parser.add_argument("--variant", default="20m", choices=["20m", "10m", "1m", "100k"], help="size (%(default)s)")
    parser.add_argument("--min_rating", default=4.0, type=float, help="a lower one is no liking (%(default)s)")
    args = parser.parse_args()
    model = make_model(args.model, args.param)

    if args.dataset == "movielens":
        titles, ratings = get_movielens(args.variant)
        ratings.data[:] = ratings.data >= args.min_rating
        ratings.eliminate_zeros()
    else:
        titles, _, ratings = get_debian()  # relations, which have no rating
    if args.model == "als":
        ratings = bm25_weight(ratings, K1=100, B=0.9) * 5  # weigh down popular movies and busy users
    user_ratings = ratings.T.tocsr()
    fit(model, user_ratings)
    write_similar_items(args.output, model, titles, user_ratings)


if __name__ == "__main__":
    main()
