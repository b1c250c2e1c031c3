"""Approximate models with drawn arguments: exact scores in descending order, whatever the index finds."""

import inspect
import warnings

import numpy as np
from arguments import NO_COUNT
from judging import MODELS, POSITIVE, factored, prop, quietly, require, same, selection

from implicit_core import approximate_als
from implicit_core.als import AlternatingLeastSquares
from implicit_core.nearest_neighbours import (
    CosineRecommender,
)


def _approximate():
    found = []
    for name, kind in (
        ("nmslib", "NMSLibModel"),  # which cannot read numbers where the wheel of usearch was imported before it
        ("usearch", "UsearchModel"),
        ("faiss", "FaissModel"),
        ("annoy", "AnnoyModel"),
    ):
        module = __import__(f"implicit_core.ann.{name}", fromlist=[kind])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                getattr(module, kind)(AlternatingLeastSquares())
        except ImportError:
            continue
        found.append(getattr(module, kind))
    return found


APPROXIMATE = _approximate()
INDEX_PARAMETERS = {
    "connectivity": ([2, 16], [(1, ValueError), *NO_COUNT]),
    "expansion_add": ([1, 128], POSITIVE),
    "expansion_search": ([1, 64], POSITIVE),
    "dtype": (
        ["f32", "f16", "i8", "f64"],
        [("f8", ValueError), (None, ValueError, TypeError), (3, ValueError, TypeError), ([], ValueError, TypeError)],
    ),
    "nlist": ([1, 400], POSITIVE),
    "nprobe": ([1, 20], POSITIVE),
    "n_trees": ([1, 10], POSITIVE),
    "search_k": ([-1, 50], [(-2, ValueError), (1.5, TypeError)]),
    "index_params": ([None], [(3, TypeError), ("a", TypeError)]),
    "query_params": ([None], [(3, TypeError), ("a", TypeError)]),
}


def index_parameters(case):
    """A class and some of its parameters."""
    kind = case.one(APPROXIMATE)
    names = [name for name in inspect.signature(kind).parameters if name in INDEX_PARAMETERS and case.byte(2)]
    return kind, {name: case.pick(name, *INDEX_PARAMETERS[name]) for name in names}


@prop
def approximate(case):
    if not APPROXIMATE:
        return
    kind, parameters = index_parameters(case)
    users, items = 1 + case.byte(4), case.one([0, 1, 30, 400])
    inner = factored(case, (users, items), kinds=MODELS)
    inner.num_threads = case.one([1, 2])
    which = case.byte(4)

    def make():
        return kind(inner, **parameters)

    N = case.pick("N", [1, 3, 10], NO_COUNT)
    if which == 3:
        case.refusals = [refusal for refusal in case.refusals if refusal[0] == "N"]
        given, ids = case.ids("userid", users)
        result = case.call(lambda *a, **k: kind(inner).similar_users(*a, **k), given, N=N)
        if result is not None:
            expected = quietly(inner.similar_users, given, N=N)
            same(result[0], expected[0])
        return
    if which == 0:
        given, ids = case.ids("userid", users)
        options, _, _ = selection(case, items, "items", "filter_items")
        result = case.call(
            lambda *a, **k: make().recommend(*a, **k), given, None, N=N, filter_already_liked_items=False, **options
        )
        exact = inner.user_factors.astype(np.float64) @ inner.item_factors.T.astype(np.float64)
    else:
        given, ids = case.ids("itemid", items)
        options, _, _ = selection(case, items, "items", "filter_items")
        result = case.call(lambda *a, **k: make().similar_items(*a, **k), given, N=N, **options)
        exact = None
    if result is None or options:
        return
    for row, one in enumerate([ids] if isinstance(ids, int) else ids):
        got, scores = result if isinstance(ids, int) else (result[0][row], result[1][row])
        found = got[got >= 0]
        require(len(got) == N and len(found) == min(N, items), "number of results", got)
        require(len(set(found.tolist())) == len(found), "repeated", found)
        require((scores[:-1] >= scores[1:]).all(), "scores rise")
        if exact is not None:
            same(scores[: len(found)], exact[one][found].astype(scores.dtype), "scores are not exact")


@prop
def approximate_fit(case):
    """Models made by the functions of ``approximate_als``, too."""
    if not APPROXIMATE:
        return
    kind, parameters = index_parameters(case)
    users, items = 1 + case.byte(4), case.one([0, 1, 30, 400])
    matrix, _, _ = case.matrix("user_items", users, items)
    by_function = bool(case.byte(2)) and "dtype" not in parameters

    def fit(matrix):
        if by_function:
            name = kind.__name__.replace("Model", "AlternatingLeastSquares")
            model = getattr(approximate_als, name)(factors=3, iterations=1, **parameters)
        else:
            model = kind(AlternatingLeastSquares(factors=3, iterations=1), **parameters)
        model.fit(matrix, show_progress=False)
        return model

    model = case.call(fit, matrix)
    if model is not None:
        ids, _ = quietly(model.recommend, list(range(users)), None, N=2, filter_already_liked_items=False)
        require(ids.shape == (users, 2) and (ids < items).all(), "ids", ids)


@prop
def approximate_of_anything(case):
    """What is wrapped must be a model of factors."""
    if not APPROXIMATE:
        return
    case.refuse("model", TypeError)
    case.call(
        case.one(APPROXIMATE), case.one([None, 3, "als", AlternatingLeastSquares, CosineRecommender(), np.ones(3), []])
    )
