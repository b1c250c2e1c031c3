"""Models, data and definitions for the tests of what every model promises: a new model joins by a line in MODELS."""

import numpy as np
import pytest
from scipy import sparse

import implicit_core.cpu.als
from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization

ALS = {"factors": 8, "iterations": 5, "random_state": 3, "num_threads": 1}
MODELS = {
    "als-cg-float32": lambda **p: AlternatingLeastSquares(**{**ALS, **p}),
    "als-cg-float64": lambda **p: AlternatingLeastSquares(**{**ALS, "dtype": np.float64, **p}),
    "als-cholesky-float32": lambda **p: AlternatingLeastSquares(**{**ALS, "use_cg": False, **p}),
    "als-cholesky-float64": lambda **p: implicit_core.cpu.als.AlternatingLeastSquares(
        **{**ALS, "use_cg": False, "dtype": np.float64, **p}
    ),
    "als-arrays": lambda **p: AlternatingLeastSquares(
        **{**ALS, "use_native": False, "use_cg": False, "iterations": 3, **p}
    ),
    "bpr": lambda **p: BayesianPersonalizedRanking(**{**ALS, "learning_rate": 0.1, **p}),
    "lmf-float32": lambda **p: LogisticMatrixFactorization(**{**ALS, **p}),
    "lmf-float64": lambda **p: LogisticMatrixFactorization(**{**ALS, "dtype": np.float64, **p}),
}
USERS, ITEMS = 60, 45
UNLIKED = [7, 20, 21]  #: items that nobody has
NOVICE = 9  #: a user without items


def checkerboard(size=50):
    """Even users like even items, odd users odd ones; the item of the user's own number is withheld."""
    parity = np.arange(size) % 2
    likes = (parity[:, None] == parity).astype(np.float64)
    np.fill_diagonal(likes, 0)
    return sparse.csr_matrix(likes)


def counts():
    random = np.random.default_rng(0)
    values = random.integers(1, 6, size=(USERS, ITEMS)) * (random.random((USERS, ITEMS)) < 0.2)
    values[NOVICE], values[:, UNLIKED] = 0, 0
    return sparse.csr_matrix(values.astype(np.float64))


def needs_recalculation(model):
    """Skip what a model cannot do, once it has said so."""
    if not isinstance(model, AlternatingLeastSquares):
        with pytest.raises(NotImplementedError, match=type(model).__name__):
            model.recalculate_user(0, None)
        with pytest.raises(NotImplementedError, match=type(model).__name__):
            model.recalculate_item(0, None)
        pytest.skip(f"{type(model).__name__} cannot recalculate")


def ways(model):
    """Options of `recommend` that lead to different code, as far as the model has them."""
    recalculated = [{"recalculate_user": True}] if isinstance(model, AlternatingLeastSquares) else []
    return [{}, {"items": np.arange(40)}, *recalculated]


def has_biases(model):
    """Whether scores depend on items alone, too: then who likes nothing does not score 0."""
    return not isinstance(model, AlternatingLeastSquares)


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def make(name):
    """Return a function that makes an unfitted model."""
    return MODELS[name]


@pytest.fixture(scope="module")
def for_board(name):
    """Parameters that are enough to converge on the checkerboard."""
    more = {"regularization": 0.0, "iterations": 300, "learning_rate": 0.05} if name == "bpr" else {}
    return {"factors": 3, "regularization": 1.0, "iterations": 30, **more}


@pytest.fixture(scope="module")
def board():
    return checkerboard()


@pytest.fixture(scope="module")
def on_board(make, board, for_board):
    model = make(**for_board)
    model.fit(board, show_progress=False)
    return model


@pytest.fixture(scope="module")
def matrix():
    return counts()


@pytest.fixture(scope="module")
def model(make, matrix):
    """A model fitted to counts; tests must not change it."""
    model = make()
    model.fit(matrix, show_progress=False)
    return model


@pytest.fixture(scope="module")
def scores(model):
    """The scores of all items for all users, as a batch of everything gives them."""
    ids, values = model.recommend(np.arange(USERS), None, N=ITEMS, filter_already_liked_items=False)
    full = np.empty_like(values)
    np.put_along_axis(full, ids.astype(np.int64), values, axis=1)
    return full


@pytest.fixture(scope="module")
def similarities(model):
    return {side: all_similarities(model, side) for side in ("items", "users")}


def similar(model, side, *args, **kwargs):
    """`similar_items` or `similar_users`, with `candidates` and `filtered` for their parameters of different names."""
    for name, theirs in (("candidates", side), ("filtered", f"filter_{side}")):
        if name in kwargs:
            kwargs[theirs] = kwargs.pop(name)
    return getattr(model, f"similar_{side}")(*args, **kwargs)


def all_similarities(model, side):
    count = ITEMS if side == "items" else USERS
    ids, values = similar(model, side, np.arange(count), N=count)
    full = np.empty_like(values)
    np.put_along_axis(full, ids.astype(np.int64), values, axis=1)
    return full


SIDES = pytest.mark.parametrize("side", ["items", "users"])


def ranked(scores, N, filtered=(), candidates=None):
    """Ids and scores by definition: a sort by score, equal ones by id, filtered ones last, then padding."""
    lowest = np.finfo(scores.dtype).min
    scores = scores.copy()
    scores[list(filtered)] = lowest
    candidates = np.arange(len(scores)) if candidates is None else np.sort(candidates)
    order = candidates[np.lexsort((candidates, -scores[candidates]))][:N]
    padding = N - len(order)
    return np.append(order, [-1] * padding), np.append(scores[order], np.full(padding, lowest, scores.dtype))


def assert_result(result, expected):
    for part, wanted in zip(result, expected, strict=True):
        np.testing.assert_array_equal(part, wanted)


def assert_same_results(first, second, matrix, unlike=False):
    """Two models give the same bits in every kind of call."""
    users = np.arange(matrix.shape[0])
    for call in (
        lambda m: m.recommend(users, matrix, N=7),
        lambda m: m.similar_items(np.arange(matrix.shape[1]), N=7),
        lambda m: m.similar_users(users, N=7),
    ):
        assert_result(call(first), call(second))


def on_host(factors):
    """Factors as an array of NumPy; those of a model on a GPU are copied."""
    return factors.get() if hasattr(factors, "get") else factors


def liked_by(matrix, user):
    return matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]
