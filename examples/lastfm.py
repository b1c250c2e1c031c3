"""Similar artists, or artists to recommend, from what 358,868 users of Last.fm played.

    python examples/lastfm.py [--model bm25] [--recommend] [--param K=50] [--output artists.tsv]
    python examples/lastfm.py --dataset debian

The data set is downloaded once; that of Debian, packages and what they depend on, comes with the package.
"""

from __future__ import annotations

import argparse

from _models import MODELS, add_arguments, fit, make_model, write_recommendations, write_similar_items

from implicit_core.datasets.debian import get_debian
from implicit_core.datasets.lastfm import get_lastfm
from implicit_core.nearest_neighbours import bm25_weight


def main() -> None:
    """Fit a model and write what it finds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, dataset="lastfm", output="similar-artists.tsv", models=list(MODELS))
    parser.add_argument("--recommend", action="store_true", help="recommend to each user, not find similar artists")
    args = parser.parse_args()
    model = make_model(args.model, args.param)

    artists, users, plays = get_lastfm() if args.dataset == "lastfm" else get_debian()
    if args.model.endswith("als"):
        plays = bm25_weight(plays, K1=100, B=0.8)  # weigh down who plays everything, and what everybody plays
    user_plays = plays.T.tocsr()
    fit(model, user_plays)
    if args.recommend:
        write_recommendations(args.output, model, artists, users, user_plays)
    else:
        write_similar_items(args.output, model, artists, user_plays)


if __name__ == "__main__":
    main()
