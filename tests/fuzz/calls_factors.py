"""Models of factors with drawn arguments, and what their results must be by definition."""

import warnings
from unittest.mock import patch

import numpy as np
from arguments import NO_COUNT, NO_DTYPE, NO_NUMBER, NO_SEED, NO_THREADS, THREADS
from judging import (
    ABOVE_ZERO,
    MODELS,
    NOT_NEGATIVE,
    POSITIVE,
    RIGHT_N,
    SEEDS,
    WRONG_N,
    configured,
    coo,
    factored,
    prop,
    quietly,
    ranked,
    require,
    same,
    selection,
    sizes,
)
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.cpu import _axes
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import (
    BM25Recommender,
    CosineRecommender,
    ItemItemRecommender,
    TFIDFRecommender,
)
from implicit_core.recommender_base import ModelFitError, NotFittedError


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
    sign = np.sign(parameters["alpha"]) if "alpha" not in dict(case.refusals) else 0
    if weight is not None and (sign * dense < 0).any():
        case.refuse("unobserved_weight", ValueError)
    elif not (tame and regular):
        case.allowed = (ModelFitError,)
    least = 1 if case.byte(2) else _axes.MIN_FACTORS  # so that half of the fits are in principal axes
    with patch.multiple(_axes, MIN_FACTORS=least, ROWS_PER_FACTOR=0):
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
        entries = matrix.tocoo() if matrix.format != "csr" else coo(matrix)
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


@prop
def recalculated(case):
    """Results with factors that come from the rows given are those of a model that has these factors."""
    shape = sizes(case, 1)
    model = factored(case, shape, whole=False, kinds=[AlternatingLeastSquares])
    model.regularization = 0.1
    model.dtype = model.item_factors.dtype
    side = case.byte(2)
    name, matrix_name, flag = (("userid", "user_items", "user"), ("itemid", "item_users", "item"))[side]
    given, ids = case.ids(name, shape[side], wrong=False, empty=False)
    many = [ids] if isinstance(ids, int) else ids
    full = bool(case.byte(2)) and len(many) < shape[side]
    rows = shape[side] + case.byte(3) if full else len(many)
    matrix, _, _ = case.matrix(matrix_name, rows, shape[1 - side], formats="csr", wrong=not full)
    N = case.pick("N", RIGHT_N, WRONG_N)
    recalculate = getattr(model, f"recalculate_{flag}")
    if side == 0:
        filter_liked = bool(case.byte(2))
        options = {"recalculate_user": True, "filter_already_liked_items": filter_liked}
        result = case.call(model.recommend, given, matrix, N=N, **options)
    else:
        result = case.call(model.similar_items, given, N=N, recalculate_item=True, item_users=matrix)
    if result is None:
        return
    positions = many if full else range(len(many))
    if matrix.dtype == np.float16:  # whose rows SciPy cannot take, nor sort to convert it
        parts = matrix.data.astype(np.float32), matrix.indices.copy(), matrix.indptr.copy()
        matrix = type(matrix)(parts, matrix.shape)
    own = matrix[list(positions)]
    other = AlternatingLeastSquares(model.factors)
    other.user_factors = other.item_factors = model.item_factors
    if side == 0:
        other.user_factors = quietly(recalculate, np.array(many), own)
        wanted = quietly(other.recommend, range(len(many)), own, N=N, filter_already_liked_items=filter_liked)
    else:
        vectors = quietly(recalculate, np.array(many), own)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        vectors /= np.where(norms == 0, 1e-10, norms)[:, None].astype(vectors.dtype)
        wanted = result[0].reshape(len(many), -1), result[1].reshape(len(many), -1)
        require(wanted[0].shape[1] == N, "number of results", wanted[0].shape)
        found = wanted[0] >= 0
        lengths = np.linalg.norm(model.item_factors.astype(np.float64), axis=1)
        cosines = vectors @ (model.item_factors / np.where(lengths == 0, 1e-10, lengths)[:, None]).T
        same(wanted[1][found], np.take_along_axis(cosines, np.maximum(wanted[0], 0), 1)[found], "no cosines", 1e-4)
    for part, expected in zip(result, wanted, strict=True):
        same(part, expected[0] if isinstance(ids, int) else expected)


@prop
def explain(case):
    shape = sizes(case, least=1)
    model = factored(case, shape, whole=False, kinds=[AlternatingLeastSquares])
    model.regularization = case.pick("regularization", [0.1, 1], NOT_NEGATIVE)
    model.factors = model.user_factors.shape[1]
    userid, user = case.ids("userid", shape[0], many=False)
    itemid, item = case.ids("itemid", shape[1], many=False)
    N = case.pick("N", [10, 1, 0, 3], NO_COUNT)
    case.optional = {"user_items" if shape[0] > 1 else "userid"}  # a single row may be of a user that is not known
    matrix, _, _ = case.matrix("user_items", *shape, values="counts")
    result = case.call(model.explain, userid, matrix, itemid, N=N)
    if result is None:
        return
    score, contributions, _ = result
    full = quietly(model.explain, userid, matrix, itemid, N=1000)[1]
    same(sum(value for _, value in full), score, "contributions do not add up", 1e-6)
    require(contributions == full[:N], "not the largest contributions")
    wanted = quietly(model.recalculate_user, user, matrix) @ model.item_factors[item]
    same(wanted, score, "is not the score of the recalculated user", 5e-3)


@prop
def deprecated(case):
    shape = sizes(case)
    model = factored(case, shape)
    matrix, _, _ = case.matrix("user_items", *shape, formats="csr", finite=None)
    if case.byte(2):
        N = case.pick("N", RIGHT_N, WRONG_N)
        offset = case.pick("users_items_offset", [0], NO_COUNT)
        result = case.call(without_deprecation(model.recommend_all), matrix, N=N, users_items_offset=offset)
        if result is not None:
            same(result, quietly(model.recommend, np.arange(shape[0]), matrix, N=N)[0])
    else:
        userid, _ = case.ids("userid", shape[0])
        chosen, _ = case.ids("items", shape[1], scalar=False, empty=False)
        case.refusals = [(n, e) for n, e in case.refusals if n != "user_items"]
        result = case.call(without_deprecation(model.rank_items), userid, None, chosen)
        if result is not None:
            same(result[0], quietly(model.recommend, userid, None, items=chosen, filter_already_liked_items=False)[0])


def without_deprecation(function):
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
        lambda: model.recommend(0, matrix[[0]]),
        lambda: model.similar_items(0),
        lambda: model.similar_users([0, 1]),
        lambda: model.recommend([], matrix[[]]),
    ]
    if isinstance(model, AlternatingLeastSquares):
        calls += [
            lambda: model.recalculate_user(0, matrix[[0]]),
            lambda: model.explain(0, matrix, 0),
            lambda: model.partial_fit_items([0], matrix.T.tocsr()[[0]]),
        ]
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
