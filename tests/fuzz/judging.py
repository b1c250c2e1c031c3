"""What the properties share: their list, drawn models and candidates, and comparisons with a definition."""

import warnings

import numpy as np
from arguments import NO_COUNT, NO_NUMBER, THREADS, Broken
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization

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


WRONG_N = [*NO_COUNT, (2**31, ValueError), (2**62, ValueError)]
RIGHT_N = [10, 0, 1, 2, 5, 100, np.int64(3)]


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


def coo(matrix):
    stop = matrix.indptr[-1]
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return sparse.coo_matrix((matrix.data[:stop].astype(np.float64), (rows, matrix.indices[:stop])), shape=matrix.shape)


def quietly(function, *args, **kwargs):
    """A call that is known to be right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def configured(case, kind, parameters):
    """A model of these parameters, some given to the constructor and some set later."""

    def make(given, later):
        model = kind(**given)
        for name, value in later.items():
            setattr(model, name, value)
        return model

    first = {name: value for name, value in parameters.items() if name != "random_state" and case.byte(3)}
    return lambda: make(first, {name: value for name, value in parameters.items() if name not in first})
