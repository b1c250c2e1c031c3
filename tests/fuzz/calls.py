"""Every public call with drawn arguments, and what its result must be by definition."""

import inspect
import warnings

import numpy as np
from arguments import HUGE, NO_COUNT, NO_DTYPE, NO_NUMBER, NO_SEED, NO_THREADS, THREADS, Broken
from scipy import sparse

import implicit_core.cpu.als
from implicit_core import approximate_als, evaluation, utils
from implicit_core._nearest_neighbours import NearestNeighboursScorer
from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.cpu.topk import topk
from implicit_core.datasets.synthetic import make_implicit
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import (
    BM25Recommender,
    CosineRecommender,
    ItemItemRecommender,
    TFIDFRecommender,
    all_pairs_knn,
    bm25_weight,
    normalize,
    tfidf_weight,
)
from implicit_core.utils import ModelFitError, NotFittedError

PROPERTIES = {}
POSITIVE = [*NO_COUNT, (0, ValueError)]
NOT_NEGATIVE = [*NO_NUMBER, (-1e-9, ValueError)]
ABOVE_ZERO = [
    *((value, *error) for value, *error in NO_NUMBER if value is not None),
    (0, ValueError),
    (-1.0, ValueError),
]
SHARES = [*NO_NUMBER, (-0.1, ValueError), (1.1, ValueError)]
SEEDS = [None, 0, 7, 2**63, np.int64(3)]


def prop(function):
    """Register a property: a function that draws the arguments of a call from a Case and judges what comes of it."""
    PROPERTIES[function.__name__] = function
    return function


def require(condition, text, *values):
    if not condition:
        raise Broken(f"{text}: {values}" if values else text)


def same(result, expected, text="differs from the definition", tolerance=0.0):
    """Arrays of the same values."""
    result, expected = np.asarray(result), np.asarray(expected)
    require(result.shape == expected.shape, f"{text}: shape", result.shape, expected.shape)
    if tolerance:
        close = np.allclose(result, expected, rtol=tolerance, atol=tolerance * max(1, np.abs(expected).max(initial=0)))
    else:
        close = np.array_equal(result, expected)
    require(close, text, result, expected)


def ranked(scores, N, dropped=(), candidates=None, lowest=None):
    """The N best by score, equal ones by ascending id, dropped ones last; then padding."""
    lowest = np.finfo(scores.dtype).min if lowest is None else lowest
    scores = scores.copy()
    scores[list(dropped)] = lowest
    candidates = np.arange(len(scores)) if candidates is None else np.sort(candidates)
    order = candidates[np.lexsort((candidates, -scores[candidates]))][:N]
    padding = N - len(order)
    return np.append(order, [-1] * padding), np.append(scores[order], np.full(padding, lowest, scores.dtype))


def sizes(case, least=0):
    return least + case.byte(13 - least), least + case.byte(14 - least)


# Fitting models of factors


def configured(case, kind, parameters):
    """A model of these parameters, some given to the constructor and some set later."""

    def make(given, later):
        model = kind(**given)
        for name, value in later.items():
            setattr(model, name, value)
        return model

    first = {name: value for name, value in parameters.items() if name != "random_state" and case.byte(3)}
    return lambda: make(first, {name: value for name, value in parameters.items() if name not in first})


def common(case):
    return {
        "factors": case.pick("factors", [1, 2, 3, 5, 8, 17, np.int32(4)], [*POSITIVE, (2**31, ValueError)]),
        "dtype": case.pick("dtype", [np.float32, np.float64, "float32", "float64", float], NO_DTYPE),
        "iterations": case.pick("iterations", [0, 1, 2, 3], NO_COUNT),
        "num_threads": case.pick("num_threads", THREADS, NO_THREADS),
        "random_state": case.pick(
            "random_state", [*SEEDS, case.random(), np.random.RandomState(4), np.random.SeedSequence(1)], NO_SEED
        ),
    }


def fitted(case, make, matrix, shape, columns, stored):
    """Fit, and check what all models of factors promise; None if it was refused."""

    def fit(user_items):
        model = make()
        model.fit(user_items, show_progress=False)
        return model

    model = case.call(fit, matrix)
    if model is None:
        return None
    for side, rows in (("user_factors", shape[0]), ("item_factors", shape[1])):
        factors = getattr(model, side)
        require(factors.shape == (rows, model.factors + columns), f"{side} have the wrong shape", factors.shape)
        require(factors.dtype == np.dtype(model.dtype), f"{side} have the wrong type", factors.dtype)
        require(np.isfinite(factors).all(), f"{side} are not finite")
    return model


@prop
def als_fit(case):
    shape = sizes(case)
    parameters = common(case)
    parameters.update(
        regularization=case.pick("regularization", [0.01, 0.1, 1, 1e3, 0.0, 1e-8], NOT_NEGATIVE),
        alpha=case.pick("alpha", [1.0, 0.5, 40, 0, -1.0, 1e-8], NO_NUMBER),
        use_native=bool(case.byte(4)),
        use_cg=bool(case.byte(2)),
        cg_steps=case.pick("cg_steps", [1, 2, 3, 10, 2**31 - 1], [*POSITIVE, (2**31, ValueError)]),
        unobserved_weight=case.pick("unobserved_weight", [None, None, None, 0.1, 1.0], ABOVE_ZERO),
        regularization_exponent=case.pick("regularization_exponent", [0.0, 0.0, 0.5, 1], NOT_NEGATIVE),
        init_scale=case.pick("init_scale", [None, None, 0.1, 10.0], ABOVE_ZERO),
        calculate_training_loss=bool(case.byte(2)),
    )
    tame = bool(case.byte(2))
    matrix, dense, stored = case.matrix("user_items", *shape, values="counts" if tame else "wide")
    weight = parameters["unobserved_weight"]
    regular = not case.refusals and parameters["regularization"] >= 0.01 and parameters["alpha"] >= 0.5
    if weight is not None and isinstance(parameters["alpha"], (int, float)) and (parameters["alpha"] * dense < 0).any():
        case.refuse("unobserved_weight", ValueError)
    elif not (tame and regular):
        case.allowed = (ModelFitError,)
    model = fitted(case, configured(case, AlternatingLeastSquares, parameters), matrix, shape, 0, stored)
    if model is None or not (tame and regular) or model.iterations == 0:
        return
    require(not model.item_factors[~stored.any(axis=0)].any(), "items without entries are not zero")
    if model.use_native and np.dtype(model.dtype) == np.float64 and not model.use_cg:
        seed = parameters["random_state"]
        if isinstance(seed, (int, np.integer)):
            other = AlternatingLeastSquares(**{**parameters, "use_native": False})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                other.fit(matrix, show_progress=False)
            same(model.user_factors, other.user_factors, "differs from the array program", 1e-6)


def too_large(parameters):
    """Whether steps are so large that factors cannot stay finite."""
    return any(
        isinstance(parameters[name], float) and parameters[name] == 1e30 for name in ("learning_rate", "regularization")
    )


@prop
def bpr_fit(case):
    shape = sizes(case)
    parameters = common(case)
    parameters.update(
        learning_rate=case.pick("learning_rate", [0.01, 0.1, 0, -0.1, 1, 1e30], NO_NUMBER),
        regularization=case.pick("regularization", [0.01, 0, 1, 1e30], NOT_NEGATIVE),
        verify_negative_samples=bool(case.byte(2)),
        deterministic=bool(case.byte(4)),
    )
    if too_large(parameters):
        case.allowed = (ModelFitError,)
    matrix, _, stored = case.matrix("user_items", *shape, values="wide")
    model = fitted(case, configured(case, BayesianPersonalizedRanking, parameters), matrix, shape, 1, stored)
    if model is not None:
        require((model.user_factors[:, -1] == 1).all(), "the last column of the users is not 1")


@prop
def lmf_fit(case):
    shape = sizes(case)
    parameters = common(case)
    parameters.update(
        learning_rate=case.pick("learning_rate", [1.0, 0.1, 0, -0.1, 1e30], NO_NUMBER),
        regularization=case.pick("regularization", [0.6, 0, 1, 1e30], NOT_NEGATIVE),
        neg_prop=case.pick("neg_prop", [30, 1, 0, 2**31 - 1], [*NO_COUNT, (2**31, ValueError)]),
    )
    tame = not too_large(parameters) and bool(case.byte(2))
    if not tame:
        case.allowed = (ModelFitError,)
    matrix, _, stored = case.matrix("user_items", *shape, values="signed" if tame else "wide")
    model = fitted(case, configured(case, LogisticMatrixFactorization, parameters), matrix, shape, 2, stored)
    if model is not None:
        require((model.user_factors[:, -2] == 1).all(), "the column of ones of the users changed")
        require((model.item_factors[:, -1] == 1).all(), "the column of ones of the items changed")


# Results of models of factors


MODELS = [AlternatingLeastSquares, BayesianPersonalizedRanking, LogisticMatrixFactorization]


def factored(case, shape, whole=True, kinds=MODELS):
    """A model with drawn factors."""
    width = 1 + case.byte(20)
    model = case.one(kinds)(factors=width, num_threads=case.one(THREADS))
    model.user_factors = case.factors(shape[0], width, whole=whole)
    model.item_factors = case.factors(shape[1], width, whole=whole)
    return model


def selection(case, size, only_name, filter_name):
    """``items`` or ``filter_items``, what they select, and what they drop."""
    which = case.byte(4)
    options, candidates, dropped = {}, None, []
    if which == 1:
        options[only_name], candidates = case.ids(only_name, size, scalar=False, sets=True, empty=False)
    elif which == 2:
        options[filter_name], dropped = case.ids(filter_name, size, sets=True)
        dropped = [dropped] if isinstance(dropped, int) else dropped
    elif which == 3 and case.byte(4) == 0:
        if size:
            options = {only_name: [0], filter_name: [0]}
            case.refuse(only_name, ValueError)
        else:
            options = {only_name: []}
            case.refuse(only_name, IndexError)
    return options, candidates, dropped or []


def likes_of(case, users, ids, items, **options):
    """``user_items`` for these ids: the full matrix or a row for each; and what each likes, as lists."""
    many = [ids] if isinstance(ids, int) else (ids or [])
    if case.byte(2) and (len(many) < users):
        case.optional = {"user_items"}  # only the rows of these ids are looked at
        matrix, _, stored = case.matrix("user_items", users, items, formats="csr", finite=None, **options)
        rows = many
    else:
        matrix, _, stored = case.matrix("user_items", len(many), items, formats="csr", finite=None, **options)
        rows = range(len(many))
    return matrix, [np.flatnonzero(stored[row]).tolist() if row < len(stored) else [] for row in rows]


WRONG_N = [*NO_COUNT, (2**31, ValueError), (2**62, ValueError)]
RIGHT_N = [10, 0, 1, 2, 5, 100, np.int64(3)]


@prop
def recommend(case):
    shape = sizes(case)
    model = factored(case, shape)
    userid, ids = case.ids("userid", shape[0])
    filter_liked = bool(case.byte(2))
    options, candidates, dropped = selection(case, shape[1], "items", "filter_items")
    N = case.pick("N", RIGHT_N, WRONG_N)
    user_items, liked = None, [()] * (1 if isinstance(ids, int) else len(ids or []))
    if filter_liked:
        user_items, liked = likes_of(case, shape[0], ids, shape[1])
    result = case.call(model.recommend, userid, user_items, N=N, filter_already_liked_items=filter_liked, **options)
    if result is None:
        return
    scores = model.user_factors.astype(np.float64) @ model.item_factors.astype(np.float64).T
    scores = scores.astype(model.item_factors.dtype)
    N = min(N, len(candidates)) if candidates is not None else int(N)
    many = [ids] if isinstance(ids, int) else ids
    for row, (user, own) in enumerate(zip(many, liked, strict=True)):
        got = result if isinstance(ids, int) else (result[0][row], result[1][row])
        for part, wanted in zip(got, ranked(scores[user], N, [*own, *dropped], candidates), strict=True):
            same(part, wanted)
    require(result[0].shape[:-1] == (() if isinstance(ids, int) else (len(ids),)), "shape", result[0].shape)


@prop
def similar(case):
    shape = sizes(case)
    model = factored(case, shape, whole=bool(case.byte(2)))
    side = case.byte(2)
    name, plural, factors = (("userid", "users", model.user_factors), ("itemid", "items", model.item_factors))[side]
    given, ids = case.ids(name, shape[side])
    options, candidates, dropped = selection(case, shape[side], plural, f"filter_{plural}")
    N = case.pick("N", RIGHT_N, WRONG_N)
    result = case.call(getattr(model, f"similar_{plural}"), given, N=N, **options)
    if result is None:
        return
    wide = factors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    norms[norms == 0] = 1e-10
    cosines = wide @ wide.T / norms / norms[:, None]
    lowest = np.finfo(factors.dtype).min
    pool = sorted(candidates) if candidates is not None else range(shape[side])
    tolerance = 2e-6 if factors.dtype == np.float32 else 1e-12
    for row, one in enumerate([ids] if isinstance(ids, int) else ids):
        got, scores = result if isinstance(ids, int) else (result[0][row], result[1][row])
        expected = cosines[one].copy()
        expected[list(dropped)] = lowest
        found = got[got >= 0]
        require(len(got) == N and len(found) == min(N, len(pool)), "number of results", got)
        require((scores[:-1] >= scores[1:]).all(), "scores rise", scores)
        same(scores[: len(found)], expected[found], "scores are not cosines", tolerance)
        require((scores[len(found) :] == lowest).all(), "padding", scores)
        kept = sorted(found.tolist())
        require(all(kept.count(i) <= list(pool).count(i) for i in set(kept)), "an id too often", kept)
        rest = [expected[i] for i in pool if i not in kept]
        if rest and len(found):
            require(max(rest) <= scores[len(found) - 1] + tolerance, "a better one is missing", got, expected)


@prop
def recalculate(case):
    shape = sizes(case)
    model = factored(case, shape, whole=False, kinds=[AlternatingLeastSquares])
    width = model.user_factors.shape[1]
    model.dtype = np.dtype(case.one([np.float32, np.float64]))
    model.factors = width
    model.regularization = case.pick("regularization", [0.1, 1], NOT_NEGATIVE)
    model.use_native = bool(case.byte(3))
    side = case.byte(2)
    name, matrix_name, method = (("userid", "user_items", "user"), ("itemid", "item_users", "item"))[side]
    known, columns = shape[side], shape[1 - side]
    partial = case.byte(3) == 0
    ids_name = f"{name}s" if partial else name
    given, ids = case.ids(ids_name, known + 3, scalar=not partial, mask=False, known=False)
    many = [ids] if isinstance(ids, int) else (ids or [])
    strange = bool(case.refusals) and ids is None and not partial  # these ids need not be known, so few are wrong
    matrix, dense, _ = case.matrix(matrix_name, len(many), columns, formats="any")
    if strange:
        case.refusals, case.allowed = [], (IndexError, ValueError, TypeError)
    fixed = (model.item_factors, model.user_factors)[side].astype(np.float64)
    if partial:
        function = getattr(model, f"partial_fit_{method}s")
        before = np.array((model.user_factors, model.item_factors)[side])
    else:
        function = getattr(model, f"recalculate_{method}")
    result = case.call(lambda ids, rows: (function(ids, rows), 1), given, matrix)
    if result is None or strange:
        return
    stored = dense != 0
    explicit = np.zeros(dense.shape, bool)
    if sparse.issparse(matrix):
        entries = matrix.tocoo() if matrix.format != "csr" else _coo(matrix)
        explicit[entries.row, entries.col] = True
    expected = np.zeros((len(many), width))
    for row in range(len(many)):
        if explicit[row].any():
            c = np.where(explicit[row], dense[row], 1.0)
            A = fixed.T @ (np.where(explicit[row], np.abs(c), 1)[:, None] * fixed) + model.regularization * np.eye(
                width
            )
            b = fixed.T @ np.where(stored[row] & (c > 0), c, 0)
            expected[row] = np.linalg.solve(A, b)
    tolerance = 2e-3 if model.dtype == np.float32 or fixed.dtype == np.float32 else 1e-4
    if not partial:
        got = result[0][None] if isinstance(ids, int) else result[0]
        same(got, expected, "is not the solution", tolerance)
        return
    now = (model.user_factors, model.item_factors)[side]
    require(len(now) == max(known, max(many, default=-1) + 1), "rows", now.shape)
    last = {one: row for row, one in enumerate(many)}
    for one in range(len(now)):
        if one in last:
            same(now[one], expected[last[one]], "is not the solution", tolerance)
        else:
            same(now[one], before[one].astype(model.dtype) if one < known else np.zeros(width), "changed another row")


def _coo(matrix):
    stop = matrix.indptr[-1]
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return sparse.coo_matrix((matrix.data[:stop].astype(np.float64), (rows, matrix.indices[:stop])), shape=matrix.shape)


@prop
def explain(case):
    shape = sizes(case, least=1)
    model = factored(case, shape, whole=False, kinds=[AlternatingLeastSquares])
    model.regularization = case.pick("regularization", [0.1, 1], NOT_NEGATIVE)
    model.factors = model.user_factors.shape[1]
    userid, user = case.ids("userid", shape[0], many=False)
    itemid, item = case.ids("itemid", shape[1], many=False)
    N = case.pick("N", [10, 1, 0, 3], NO_COUNT)
    case.optional = {"user_items"} if shape[0] > 1 else set()
    matrix, _, _ = case.matrix("user_items", *shape, values="counts")
    result = case.call(model.explain, userid, matrix, itemid, N=N)
    if result is None:
        return
    score, contributions, _ = result
    full = case_free(model.explain, userid, matrix, itemid, N=1000)[1]
    same(sum(value for _, value in full), score, "contributions do not add up", 1e-6)
    require(contributions == full[:N], "not the largest contributions")
    wanted = case_free(model.recalculate_user, user, matrix) @ model.item_factors[item]
    same(wanted, score, "is not the score of the recalculated user", 5e-3)


def case_free(function, *args, **kwargs):
    """A call that is known to be right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


@prop
def deprecated(case):
    shape = sizes(case)
    model = factored(case, shape)
    matrix, _, stored = case.matrix("user_items", *shape, formats="csr", finite=None)
    if case.byte(2):
        N = case.pick("N", RIGHT_N, WRONG_N)
        offset = case.pick("users_items_offset", [0], NO_COUNT)
        result = case.call(_quietly(model.recommend_all), matrix, N=N, users_items_offset=offset)
        if result is not None:
            same(result, case_free(model.recommend, np.arange(shape[0]), matrix, N=N)[0])
    else:
        userid, ids = case.ids("userid", shape[0])
        chosen, candidates = case.ids("items", shape[1], scalar=False, empty=False)
        case.refusals = [(n, e) for n, e in case.refusals if n != "user_items"]
        result = case.call(_quietly(model.rank_items), userid, None, chosen)
        if result is not None:
            same(result[0], case_free(model.recommend, userid, None, items=chosen, filter_already_liked_items=False)[0])


def _quietly(function):
    def call(*args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return function(*args, **kwargs)

    return call


@prop
def unfitted(case):
    """Calls before ``fit``."""
    model = case.one([*MODELS, ItemItemRecommender, CosineRecommender, TFIDFRecommender, BM25Recommender])()
    model.set_params(**model.get_params())
    case.refuse("fit", NotFittedError, NotImplementedError)
    matrix = sparse.csr_matrix(np.ones((2, 3)))
    calls = [
        lambda: model.recommend(0, matrix[[0]]), lambda: model.similar_items(0), lambda: model.similar_users([0, 1]),
        lambda: model.recommend([], matrix[[]]),
    ]  # fmt: skip
    if isinstance(model, AlternatingLeastSquares):
        calls += [lambda: model.recalculate_user(0, matrix[[0]]), lambda: model.explain(0, matrix, 0),
                  lambda: model.partial_fit_items([0], matrix.T.tocsr()[[0]])]  # fmt: skip
    case.call(case.one(calls))


@prop
def not_offered(case):
    """What a model cannot do."""
    model, rows = case.one([BayesianPersonalizedRanking, LogisticMatrixFactorization])(), sparse.csr_matrix((1, 2))
    case.refuse("cannot recalculate", NotImplementedError)
    case.call(case.one([lambda: model.recalculate_user(0, rows), lambda: model.recalculate_item([0], rows)]))


@prop
def odd_factors(case):
    """Factors that a user has put there: of the wrong kind or width, or not finite."""
    shape = sizes(case, least=1)
    model = factored(case, shape)
    width = model.user_factors.shape[1]
    side = case.one(["user_factors", "item_factors"])
    kind = case.byte(6)
    factors = np.array(getattr(model, side))
    if kind == 0:
        model.__dict__[side] = factors[:, :-1] if width > 1 else np.hstack([factors, factors])
    elif kind == 1:
        model.__dict__[side] = factors.ravel()
    elif kind == 2:
        model.__dict__[side] = factors.astype(object)
    elif kind == 3:
        model.__dict__[side] = factors.astype(complex)
    else:
        factors[case.byte(len(factors)), 0] = case.one([np.nan, np.inf, -np.inf, 1e38])
        model.__dict__[side] = factors
    if kind < 4:
        case.refuse("factors", ValueError, TypeError)
    users = list(range(shape[0]))
    result = case.call(model.recommend, users, None, N=3, filter_already_liked_items=False)
    if result is not None:
        ids, scores = result
        require(not np.isnan(scores).any(), "a score is not a number", scores)
        require((ids < shape[1]).all() and (scores[:, :-1] >= scores[:, 1:]).all(), "order", ids, scores)
        for row in ids:
            require(len(set(row[row >= 0].tolist())) == (row >= 0).sum() == min(3, shape[1]), "ids", row)


# Nearest neighbours


def knn_weights(kind, model, dense, stored):
    """Weighted users × items matrix, from the formulas."""
    if kind is CosineRecommender:
        return dense / np.where((n := np.linalg.norm(dense, axis=0)) == 0, 1, n)
    if kind is TFIDFRecommender:
        w = tfidf(dense.T, stored.T).T
        return w / np.where((n := np.linalg.norm(w, axis=0)) == 0, 1, n)
    if kind is BM25Recommender:
        return bm25(dense.T, stored.T, model.K1, model.B).T
    return dense


def idf(stored):
    return np.log(max(stored.shape[0], 1) / (1 + stored.sum(axis=0)))


def tfidf(dense, stored):
    return np.sqrt(dense) * idf(stored)


def bm25(dense, stored, K1, B):
    lengths = dense.sum(axis=1)
    mean = lengths.mean() if len(lengths) else 0
    scale = K1 * (1 - B + B * lengths / (mean or 1))
    denominator = scale[:, None] + dense
    denominator[denominator == 0] = 1
    return dense * (K1 + 1) / denominator * idf(stored)


@prop
def knn(case):
    users, items = shape = sizes(case)
    kind = case.one([ItemItemRecommender, CosineRecommender, TFIDFRecommender, BM25Recommender])
    parameters = {
        "K": case.pick("K", [20, 1, 2, 5, 2**40], POSITIVE),
        "num_threads": case.pick("num_threads", THREADS, NO_THREADS),
    }
    if kind is BM25Recommender:
        parameters["K1"] = case.pick("K1", [1.2, 100, 0.1], NO_NUMBER)
        parameters["B"] = case.pick("B", [0.75, 0, 1], NO_NUMBER)
    matrix, dense, stored = case.matrix("user_items", *shape)

    def fit(user_items):
        model = configured(case, kind, parameters)()
        model.fit(user_items, show_progress=False)
        return model

    model = case.call(fit, matrix)
    if model is None:
        return
    weighted = knn_weights(kind, model, dense, stored)
    products, reached = weighted.T @ weighted, (stored.T.astype(int) @ stored) > 0
    similarity = model.similarity.toarray()
    require(model.similarity.shape == (items, items), "shape")
    for i in range(items):
        row = slice(model.similarity.indptr[i], model.similarity.indptr[i + 1])
        kept = model.similarity.indices[row]
        require(len(kept) == min(model.K, reached[i].sum()) and reached[i][kept].all(), "neighbours", kept)
        same(similarity[i, kept], products[i, kept], "is not the product", 1e-9)
        rest = [products[i, j] for j in range(items) if reached[i, j] and j not in kept]
        if rest and len(kept):
            require(max(rest) <= products[i, kept].min() + 1e-9, "a larger one is missing")
    which = case.byte(4)
    N = case.pick("N", RIGHT_N, WRONG_N)
    if which == 0:
        given, ids = case.ids("itemid", items)
        options, candidates, dropped = selection(case, items, "items", "filter_items")
        rows, own = np.eye(items), np.zeros((items, items), bool)
        result = case.call(model.similar_items, given, N=N, **options)
        liked_reach = np.eye(items, dtype=bool)
    elif which == 1:
        given, ids = case.ids("userid", users)
        options, candidates, dropped = selection(case, users, "users", "filter_users")
        result = case.call(model.similar_users, given, N=N, **options)
        if (
            result is not None
            and isinstance(ids, int)
            and candidates is None
            and ids not in dropped
            and stored[ids].any()
        ):
            require(len(result[0]) <= N, "too many")
        return
    else:
        given, ids = case.ids("userid", users, mask=False)
        strange = ids is None  # users need not be known, so that few ids are wrong
        if strange:
            case.refusals, case.allowed = [], (IndexError, ValueError, TypeError)
        options, candidates, dropped = selection(case, items, "items", "filter_items")
        filter_liked = bool(case.byte(2))
        many = [ids] if isinstance(ids, int) else (ids or [])
        user_items, _, _ = case.matrix("user_items", len(many), items, formats="csr", finite=None)
        result = case.call(model.recommend, given, user_items, N=N, filter_already_liked_items=filter_liked, **options)
        if result is None or strange:
            return
        entries = _coo(user_items)
        rows = np.zeros((len(many), items))
        np.add.at(rows, (entries.row, entries.col), entries.data.astype(np.float64))
        liked_reach = np.zeros(rows.shape, bool)
        liked_reach[entries.row, entries.col] = True
        own = liked_reach if filter_liked else np.zeros_like(liked_reach)
        ids = 0 if isinstance(ids, int) else list(range(len(many)))
    if result is None:
        return
    pattern = model.similarity.copy()
    pattern.data = np.ones_like(pattern.data)
    pattern = pattern.toarray() > 0
    for position, one in enumerate([ids] if isinstance(ids, int) else ids):
        got, scores = result if isinstance(ids, int) else (result[0][position], result[1][position])
        score = rows[one] @ similarity
        can = (liked_reach[one].astype(int) @ pattern > 0) & ~own[one]
        can[list(dropped)] = False
        found = got[got >= 0]
        require((np.diff(scores[: len(found)]) <= 0).all(), "scores rise", scores)
        if candidates is None:
            require(len(found) == min(N, can.sum()) and can[found].all(), "found", found, can)
            same(scores[: len(found)], score[found], "is not the score", 1e-9)
            rest = [score[i] for i in np.flatnonzero(can) if i not in found]
            if rest and len(found):
                require(max(rest) <= scores[len(found) - 1] + 1e-9 * max(1, abs(max(rest))), "a better one is missing")


@prop
def neighbours(case):
    shape = sizes(case)
    K = case.pick("K", [1, 3, 100, 2**50], POSITIVE)
    threads = case.pick("num_threads", THREADS, NO_THREADS)
    matrix, dense, stored = case.matrix("users", *shape, values="signed")
    result = case.call(all_pairs_knn, matrix, K=K, num_threads=threads, show_progress=False)
    if result is None:
        return
    products, reached = dense.T @ dense, (stored.T.astype(int) @ stored) > 0
    result = result.tocsr()
    for i in range(shape[1]):
        wanted = np.flatnonzero(reached[i])
        wanted = wanted[np.lexsort((wanted, -products[i, wanted]))][:K]
        row = slice(result.indptr[i], result.indptr[i + 1])
        same(np.sort(result.indices[row]), np.sort(wanted))
        same(result.toarray()[i, wanted], products[i, wanted])


@prop
def scorer(case):
    n = case.byte(9)
    matrix, dense, stored = case.matrix("similarity", n, n, values="signed", finite=None)
    found = case.call(NearestNeighboursScorer, matrix)
    if found is None:
        return
    row, likes, has = case.matrix("user", 1, n, values="signed", wrong=False, formats="csr")
    K = case.pick("K", RIGHT_N, WRONG_N)
    arrays = [row.indptr, row.indices, row.data]
    if case.wrong():
        place = case.byte(3)
        arrays[place] = case.one(["a", None, [[0, 1]], [1j], [object()], [[1], [1, 2]]])
        case.refuse("user_", ValueError, TypeError)
    result = case.call(found.recommend, *arrays, K=K, remove_own_likes=bool(case.byte(2)))
    if result is not None:
        same(result[1], (likes[0] @ dense)[result[0]])


# Weights


@prop
def weights(case):
    shape = sizes(case)
    which = case.byte(3)
    matrix, dense, stored = case.matrix("X", *shape, values="counts" if which < 2 else "signed", finite=ValueError)
    case.converts = False
    if which == 0:
        result, expected = case.call(tfidf_weight, matrix), tfidf
    elif which == 1:
        K1 = case.pick("K1", [100, 1.2, 0.5], NO_NUMBER)
        B = case.pick("B", [0.8, 0, 1], NO_NUMBER)
        result, expected = case.call(bm25_weight, matrix, K1, B), lambda d, s: bm25(d, s, K1, B)
    else:
        result = case.call(normalize, matrix)
        expected = lambda d, s: d / np.where((n := np.linalg.norm(d, axis=1)) == 0, 1, n)[:, None]  # noqa: E731
    if result is not None and len(result.data) == stored.sum():  # cells in one part
        same(result.toarray(), expected(dense, stored), tolerance=1e-9)


# Evaluation


@prop
def splits(case):
    shape = sizes(case)
    matrix, dense, stored = case.matrix("ratings", *shape, finite=None, canonical=True)
    case.converts = False
    seed = case.pick("random_state", [*SEEDS, case.random()], NO_SEED)
    if case.byte(2):
        share = case.pick("train_percentage", [0.8, 0, 1, 0.5, np.float32(0.3)], SHARES)
        result = case.call(evaluation.train_test_split, matrix, share, seed)
    else:
        K = case.pick("K", [1, 2, 5, 2**40], POSITIVE)
        only = case.pick("train_only_size", [0.0, 0.5, 0.99], [*SHARES, (1.0, ValueError)])
        result = case.call(evaluation.leave_k_out_split, matrix, K, only, seed)
        if result is not None:
            taken = (result[1].toarray() != 0).sum(axis=1)
            enough = stored.sum(axis=1) >= K + 2
            require((taken <= np.where(enough, K, 0)).all(), "test entries", taken)
            if only == 0 and (dense[stored] > 0).all():
                require((taken == np.where(enough, K, 0)).all(), "test entries", taken)
    if result is not None:
        train, test = result
        same(train.toarray().astype(np.float64) + test.toarray(), dense, "parts do not add up")
        require(train.shape == test.shape == shape, "shape")
        require(
            train.dtype == test.dtype == (np.float32 if matrix.dtype == np.float16 else matrix.dtype),
            "type",
            train.dtype,
        )


class Fixed:
    """A model that recommends what it was told."""

    def __init__(self, ids):
        self.ids = ids

    def recommend(self, userids, user_items, N=10):
        sound = isinstance(self.ids, np.ndarray) and self.ids.ndim == 2 and len(self.ids)
        return self.ids[userids][:, :N] if sound else self.ids, None


@prop
def metrics(case):
    users, items = shape = sizes(case, least=1)
    K = case.pick("K", [10, 1, 2, 5, 30], POSITIVE)
    threads = case.pick("num_threads", THREADS, NO_THREADS)
    test, _, stored = case.matrix("test_user_items", *shape, finite=None)
    train, _, _ = case.matrix("train_user_items", *shape, finite=None)
    case.converts = False
    random = case.random()
    ids = random.integers(-1, items + 2, (users, case.one([1, 3, 10, 40]))).astype(
        case.one([np.int32, np.int64, np.int16])
    )
    if case.wrong() and stored.any():
        ids = case.one([ids.astype(float), ids.ravel(), ids[:0], None, "a", [[0], [0, 1]]])
        case.refuse("recommend", ValueError, TypeError)
    result = case.call(evaluation.ranking_metrics_at_k, Fixed(ids), train, test, K, False, threads)
    if result is None:
        return
    same(list(result.values()), metrics_by_definition(ids, stored, K), tolerance=1e-9)
    function, name = case.one([(evaluation.precision_at_k, "precision"), (evaluation.mean_average_precision_at_k, "map"),
                               (evaluation.ndcg_at_k, "ndcg"), (evaluation.AUC_at_k, "auc")])  # fmt: skip
    require(case.call(function, Fixed(ids), train, test, K, False, threads) == result[name], name)


def metrics_by_definition(ids, stored, K):
    hits_sum = possible_sum = average = gain = area = users = ordered = 0
    items = stored.shape[1]
    for row, likes in zip(ids, stored, strict=True):
        if not likes.any():
            continue
        likes, seen, hits, misses = set(np.flatnonzero(likes).tolist()), set(), 0, 0
        size, negatives, precision, dcg, auc = len(likes), items - len(likes), 0.0, 0.0, 0.0
        for rank, item in enumerate(row[:K].tolist(), 1):
            if item in likes - seen:
                seen.add(item)
                hits += 1
                precision += hits / rank
                dcg += 1 / np.log2(rank + 1)
            elif misses < negatives:
                misses += 1
                auc += hits
        users += 1
        hits_sum += hits
        possible_sum += min(K, size)
        average += precision / min(K, size)
        gain += dcg / sum(1 / np.log2(rank + 1) for rank in range(1, min(K, size) + 1))
        if negatives:
            ordered += 1
            area += (auc + (negatives - misses) * (hits + size) / 2) / (negatives * size)
    divide = lambda a, b: a / b if b else 0.0  # noqa: E731
    return [divide(hits_sum, possible_sum), divide(average, users), divide(gain, users), divide(area, ordered)]


# Functions on arrays


NO_FACTORS = [
    (None, TypeError), ("X", TypeError), ([[1.0]], TypeError), (np.ones(3), ValueError), (np.ones((2, 1), complex), TypeError),
    (np.ones((2, 2), object), TypeError), (np.ones((1, 1, 1)), ValueError), (np.ones((40, 3)), ValueError), (sparse.eye(3), TypeError),
]  # fmt: skip


@prop
def half_steps(case):
    shape = sizes(case)
    width = 1 + case.byte(20)
    X, Y = case.factors(shape[0], width, whole=False), case.factors(shape[1], width, whole=False)
    regularization = case.pick("regularization", [0.1, 1], NOT_NEGATIVE)
    threads = case.pick("num_threads", THREADS, NO_THREADS)
    X = np.array(X, order="C")
    matrix, dense, stored = case.matrix("Cui", *shape)
    if case.wrong():
        wrong, error = case.one(NO_FACTORS)
        if case.byte(2):
            X = wrong
            case.refuse("X", error, ValueError)
        else:
            Y = wrong
            case.refuse("Y", error, ValueError)
    which = case.byte(3)
    if which == 0:
        loss = case.call(implicit_core.cpu.als.calculate_loss, matrix, X, Y, regularization, threads)
        if loss is not None:
            X, Y = X.astype(np.float64), Y.astype(np.float64)
            weight = np.where(stored, dense, 1.0)
            error = (weight * (np.where(stored & (dense > 0), 1.0, 0) - X @ Y.T) ** 2).sum()
            error += regularization * ((X**2).sum() + (Y**2).sum())
            same(loss, error / weight.sum() if weight.sum() else 0.0, tolerance=1e-4)
        return
    before = X.copy() if isinstance(X, np.ndarray) else None
    if which == 1:
        steps = ()
        function = implicit_core.cpu.als.least_squares
    else:
        steps = (case.pick("cg_steps", [1, 3, 50], [*POSITIVE, (2**31, ValueError)]),)
        function = implicit_core.cpu.als.least_squares_cg
    held = [X]  # X changes, which is what it is for
    done = case.call(
        lambda *rest: (function(rest[0], held[0], *rest[1:]), 1), matrix, Y, regularization, threads, *steps
    )
    if done is None:
        require(before is None or np.array_equal(X, before), "a refused call changed X")
        return
    for u in range(shape[0]):
        if not stored[u].any():
            require(not X[u].any(), "a row without entries is not zero")
        elif which == 1:
            y = Y.astype(np.float64)
            A = y.T @ (np.where(stored[u], dense[u], 1.0)[:, None] * y) + regularization * np.eye(width)
            same(
                X[u],
                np.linalg.solve(A, y.T @ np.where(stored[u], dense[u], 0)),
                tolerance=2e-3 if X.dtype == np.float32 else 1e-7,
            )
    require(np.isfinite(X).all(), "X is not finite")


@prop
def linear_equation(case):
    shape = sizes(case, least=1)
    width = 1 + case.byte(6)
    Y = case.factors(shape[1], width, whole=False)
    gram = Y.T.astype(np.float64) @ Y
    u, user = case.ids("u", shape[0], many=False)
    regularization = case.pick("regularization", [0.1, 1], NOT_NEGATIVE)
    n = case.pick("n_factors", [width], NO_COUNT)
    matrix, dense, stored = case.matrix("Cui", *shape)
    if case.wrong():
        Y, error = case.one(NO_FACTORS)
        case.refuse("Y", error, ValueError)
    function = case.one([implicit_core.cpu.als.user_factor, implicit_core.cpu.als.item_factor])
    system = case.call(implicit_core.cpu.als.user_linear_equation, Y, gram, matrix, u, regularization, n)
    solution = case.call(function, Y, gram, matrix, u, regularization, n)
    if system is None:
        return
    y = Y.astype(np.float64)
    A = y.T @ (np.where(stored[user], dense[user], 1.0)[:, None] * y) + regularization * np.eye(width)
    b = y.T @ np.where(stored[user], dense[user], 0)
    same(system[0], A, tolerance=1e-4)
    same(system[1], b, tolerance=1e-4)
    same(solution, np.linalg.solve(A, b), tolerance=1e-3)


@prop
def best(case):
    n, items = sizes(case)
    width = 1 + case.byte(20)
    Y, X = case.factors(items, width), case.factors(n, width)
    query, scalar = X, False
    if n and case.byte(4) == 0:
        query, scalar = X[0], True
    k = case.pick("k", RIGHT_N, WRONG_N)
    dropped, drop = [], None
    if case.byte(3) == 0:
        drop, dropped = case.ids("filter_items", items, sets=True)
        dropped = [dropped] if isinstance(dropped, int) else dropped or []
    threads = case.pick("num_threads", THREADS, NO_THREADS)
    exclude, stored = None, np.zeros((n, items), bool)
    if case.byte(3) == 0 and not scalar:
        exclude, _, stored = case.matrix("filter_query_items", n, items, finite=None)
    if case.wrong():
        wrong = case.one([np.ones((3, width + 1)), np.ones((2, 2, 2)), "a", None, [["a"]], np.ones((2, width), complex), [[1], [1, 2]],
                          np.full((2, width), None)])  # fmt: skip
        if case.byte(2):
            Y = wrong
            case.refuse("items", ValueError, TypeError)
        else:
            query = wrong
            case.refuse("query", ValueError, TypeError)
    norms = None
    if case.byte(6) == 0 and isinstance(Y, np.ndarray) and Y.ndim == 2 and items:
        norms = case.pick("item_norms", [np.ones(items), np.ones(items).tolist()],
                          [(np.ones(items + 1), ValueError), ("a", TypeError, ValueError), (np.ones((items, 2)), ValueError)])  # fmt: skip
    result = case.call(topk, Y, query, k, norms, exclude, drop, threads)
    if result is None:
        return
    scores = (X[:1] if scalar else X).astype(Y.dtype).astype(np.float64) @ Y.T.astype(np.float64)
    for row, score in enumerate(scores.astype(Y.dtype)):
        wanted = ranked(score, int(k), [*np.flatnonzero(stored[row]), *dropped])
        same(result[0][row], wanted[0])
        same(result[1][row], wanted[1])


@prop
def columns_of(case):
    shape = sizes(case, least=1)
    matrix, dense, stored = case.matrix("query_items", *shape, finite=None)
    ids = np.unique(case.random().integers(0, shape[1], 4))
    given = ids
    if case.wrong():
        given = case.one([[], [2, 1], [0.5], "a", None, [[0]], [[0], [0, 1]], {1: 2}])
        case.refuse("items", ValueError, TypeError)
    result = case.call(implicit_core.cpu.matrix_factorization_base._filter_items_from_sparse_matrix, given, matrix)
    if result is not None:
        same(_coo(result).toarray()[:, : len(ids)], dense[:, ids])


@prop
def helpers(case):
    which = case.byte(4)
    if which == 0:
        factors = case.factors(*sizes(case), whole=False)
        if case.wrong():
            factors = case.one([np.ones(3), "a", None, [[1], [1, 2]], np.ones((2, 2), complex)])
            case.refuse("factors", ValueError, TypeError)
        result = case.call(utils.augment_inner_product_matrix, factors)
        if result is not None:
            norm, augmented = result
            norms = np.linalg.norm(factors.astype(np.float64), axis=1)
            same(norm, norms.max(initial=0), tolerance=1e-5)
            same(np.linalg.norm(augmented, axis=1), np.full(len(factors), norms.max(initial=0)), tolerance=1e-3)
    elif which == 1:
        seed = case.pick("random_state", [*SEEDS, case.random(), np.random.RandomState(3)], NO_SEED)
        result = case.call(lambda value: utils.check_random_state(value), seed)
        require(result is None or isinstance(result, np.random.Generator), "no generator")
    elif which == 2:
        matrix, dense, _ = case.matrix("user_items", *sizes(case))
        result = case.call(utils.check_csr, matrix)
        require(result is None or result.shape == dense.shape, "shape")
        case.refusals = [refusal for refusal in case.refusals if refusal]
    else:
        shape = sizes(case, least=1)
        matrix, dense, _ = case.matrix("m", *shape, formats="csr", wrong=False, canonical=True)
        row = case.byte(shape[0])
        for column, value in utils.nonzeros(matrix, row):
            require(dense[row, column] == value, "value")
    utils.check_blas_config()


@prop
def synthetic(case):
    users, items = sizes(case, least=1)
    real = [
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("a", TypeError),
        (None, TypeError),
        (-1.0, ValueError),
        (1j, TypeError),
    ]
    whole = [
        (-1, ValueError),
        (2.5, TypeError),
        ("3", TypeError),
        (None, TypeError),
        (HUGE, ValueError),
        (True, TypeError),
    ]
    arguments = {
        "users": case.pick("users", [users], [*whole, (0, ValueError)]),
        "items": case.pick("items", [items], [*whole, (0, ValueError), (2**31, ValueError)]),
        "entries": case.pick("entries", [0, users * items, users * items // 2], [*whole, (10**6, ValueError)]),
        "groups": case.pick("groups", [1, items], [*whole, (0, ValueError), (99, ValueError)]),
        "affinity": case.pick("affinity", [0.8, 0, 1], [*real, (1.5, ValueError)]),
        "popularity_exponent": case.pick("popularity_exponent", [1.0, 0, 50], real),
        "popularity_offset": case.pick("popularity_offset", [10.0, 0], real),
        "activity_sigma": case.pick("activity_sigma", [0.5, 0, 30], real),
        "count_median": case.pick("count_median", [3.0, 0.1], [*real, (0, ValueError)]),
        "count_sigma": case.pick("count_sigma", [1.0, 0, 3], real),
        "random_state": case.pick("random_state", [None, 1, case.random()], NO_SEED),
    }
    matrix = case.call(make_implicit, **arguments)
    if matrix is not None:
        require(
            matrix.shape == (users, items) and matrix.nnz == arguments["entries"], "shape", matrix.shape, matrix.nnz
        )
        matrix.check_format(full_check=True)
        require(matrix.has_canonical_format and (matrix.data >= 1).all(), "entries")


# Approximate models


def _approximate():
    found = []
    for name, kind in (
        ("usearch", "UsearchModel"),
        ("faiss", "FaissModel"),
        ("nmslib", "NMSLibModel"),
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
    "connectivity": ([2, 16], [(1, ValueError), *NO_COUNT]), "expansion_add": ([1, 128], POSITIVE), "expansion_search": ([1, 64], POSITIVE),
    "dtype": (["f32", "f16", "i8", "f64"], [("f8", ValueError), (None, ValueError, TypeError), (3, ValueError, TypeError), ([], ValueError, TypeError)]),
    "nlist": ([1, 400], POSITIVE), "nprobe": ([1, 20], POSITIVE),
    "n_trees": ([1, 10], POSITIVE), "search_k": ([-1, 50], [(-2, ValueError), (1.5, TypeError)]),
    "index_params": ([None], [(3, TypeError), ("a", TypeError)]), "query_params": ([None], [(3, TypeError), ("a", TypeError)]),
}  # fmt: skip


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
            expected = case_free(inner.similar_users, given, N=N)
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
        ids, _ = case_free(model.recommend, list(range(users)), None, N=2, filter_already_liked_items=False)
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


# Private helpers of implicit that other packages import


@prop
def results(case):
    n, found = case.byte(5), case.byte(8)
    random = case.random()
    ids, scores = random.integers(0, 9, (n, found)), random.random((n, found))
    N = case.byte(9)
    filtered, dropped = case.ids("filter_items", 9, sets=True, wrong=False, scalar=False, mask=False)
    got = case.call(utils._filter_items_from_results, np.arange(n), ids, scores, filtered, N)
    for row in range(n):
        kept = [i for i in ids[row].tolist() if i not in dropped][:N]
        require(got[0][row].tolist() == kept + [-1] * (N - len(kept)), "kept", got[0][row], kept)
