"""Models answer as those of `implicit` 0.7.3 do once they have the same factors, which BPR and LMF train otherwise.

Where the two differ on purpose (order of equal scores, padding, scores of what is filtered), cases are left out.
"""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import implicit_core.cpu.als
import implicit_core.cpu.bpr
import implicit_core.cpu.lmf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("implicit", reason="compares with implicit, which is not installed")
    import implicit.cpu.als
    import implicit.cpu.bpr
    import implicit.cpu.lmf

CLASSES = {
    "als": (implicit_core.cpu.als.AlternatingLeastSquares, implicit.cpu.als.AlternatingLeastSquares, 0),
    "bpr": (implicit_core.cpu.bpr.BayesianPersonalizedRanking, implicit.cpu.bpr.BayesianPersonalizedRanking, 1),
    "lmf": (implicit_core.cpu.lmf.LogisticMatrixFactorization, implicit.cpu.lmf.LogisticMatrixFactorization, 2),
}
pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def likes(users, items, seed):
    random = np.random.default_rng(seed)
    cells = (random.random((users, items)) < 0.4) * random.integers(1, 5, (users, items))
    return sparse.csr_matrix(cells.astype(np.float32))


def outcome(call):
    """What a call returns, or the kind of exception that it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return call()
        except (ValueError, IndexError, NotImplementedError) as error:
            return next(k for k in (NotImplementedError, IndexError, ValueError) if isinstance(error, k))


def assert_alike(mine, other, dtype):
    """The same outcome; of what is filtered, scored −max by theirs, the ids may stand in any order."""
    if isinstance(mine, type) or isinstance(other, type):
        assert mine is other
        return
    for ids, scores, their_ids, their_scores in zip(*(np.atleast_2d(part) for part in (*mine, *other)), strict=True):
        shown = scores > np.finfo(dtype).min
        assert np.array_equal(shown, their_scores > -1e30)
        np.testing.assert_array_equal(ids[shown], their_ids[shown])
        np.testing.assert_allclose(
            scores[shown], their_scores[shown], rtol=0, atol=1e-4 if dtype == "float32" else 1e-10
        )
        assert len(set(ids.tolist())) == len(ids)
    for part, their_part in zip(mine, other, strict=True):
        assert part.shape == their_part.shape
        assert part.dtype == their_part.dtype


@st.composite
def worlds(draw):
    """Both models with the same factors, and a matrix."""
    mine, other, more = CLASSES[draw(st.sampled_from(sorted(CLASSES)))]
    users, items, factors = draw(st.integers(1, 9)), draw(st.integers(2, 14)), draw(st.integers(2, 6))
    dtype, seed = draw(st.sampled_from(["float32", "float64"])), draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    sides = [random.normal(size=(n, factors + more)).astype(dtype) for n in (users, items)]
    models = mine(factors, num_threads=1), other(factors, num_threads=1)
    for model in models:
        model.user_factors, model.item_factors = (side.copy() for side in sides)
    return models, likes(users, items, seed), dtype


def ids_below(n, unknown=False):
    """One id, or some distinct ones; with ``unknown``, perhaps one that is too large."""
    one = st.integers(0, n if unknown else n - 1)
    return st.one_of(one, st.lists(one, min_size=1, max_size=n, unique=True))


@many
@given(world=worlds(), data=st.data())
def test_recommendations_are_alike(world, data):
    models, matrix, dtype = world
    users, items = matrix.shape
    userid = data.draw(ids_below(users, unknown=True))
    selection = data.draw(st.sampled_from([None, "items", "filter_items"]))
    options = {"filter_already_liked_items": data.draw(st.booleans())}
    if selection:
        options[selection] = data.draw(st.lists(st.integers(0, items - 1), min_size=1, max_size=items, unique=True))
    N = data.draw(st.integers(1, items))
    rows = matrix[np.minimum(np.atleast_1d(userid), users - 1)]
    mine, other = (outcome(lambda model=model: model.recommend(userid, rows, N=N, **options)) for model in models)
    assert_alike(mine, other, dtype)


@many
@given(world=worlds(), side=st.sampled_from(["item", "user"]), data=st.data())
def test_similarities_are_alike(world, side, data):
    models, matrix, dtype = world
    size = matrix.shape[side == "item"]
    ids = data.draw(ids_below(size, unknown=True))
    selection = data.draw(st.sampled_from([None, f"{side}s", f"filter_{side}s"]))
    options, most = {}, size
    if selection:
        options[selection] = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=size, unique=True))
        if selection == f"{side}s":
            most = len(options[selection])
    N = data.draw(st.integers(1, most))
    mine, other = (
        outcome(lambda model=model: getattr(model, f"similar_{side}s")(ids, N=N, **options)) for model in models
    )
    assert_alike(mine, other, dtype)


@many
@given(world=worlds(), data=st.data())
def test_what_is_refused_is_refused_by_both(world, data):
    models, matrix, _ = world
    users, items = matrix.shape
    call = data.draw(
        st.sampled_from(
            [
                lambda model: model.recommend([0], matrix[:0]),
                lambda model: model.recommend(0, None),
                lambda model: model.recommend(0, matrix[[0]], items=[items]),
                lambda model: model.recommend(0, matrix[[0]], items=[0], filter_items=[1]),
                lambda model: model.recommend(users, None, filter_already_liked_items=False),
                lambda model: model.similar_items(items),
                lambda model: model.similar_users([users]),
                lambda model: model.similar_users(0, users=[users]),
            ]
        )
    )
    mine, other = (outcome(lambda model=model: call(model)) for model in models)
    assert isinstance(mine, type)
    assert mine is other


@pytest.mark.parametrize("name", ["bpr", "lmf"])
def test_factors_cannot_be_recalculated(name):
    matrix = likes(4, 5, seed=0)
    for cls in CLASSES[name][:2]:
        model = cls(3, num_threads=1)
        model.user_factors, model.item_factors = (np.ones((n, 5)) for n in matrix.shape)
        with pytest.raises(NotImplementedError):
            model.recommend(0, matrix[[0]], recalculate_user=True)
        with pytest.raises(NotImplementedError):
            model.similar_items(0, recalculate_item=True, item_users=matrix.T.tocsr()[[0]])


@pytest.mark.parametrize("name", CLASSES)
def test_norms_are_alike_and_public_names_are_all_there(name):
    mine, other, more = CLASSES[name]
    models = mine(3, num_threads=1), other(3, num_threads=1)
    random = np.random.default_rng(0)
    sides = [random.normal(size=(n, 3 + more)) for n in (6, 5)]
    sides[1][2] = 0
    for model in models:
        model.user_factors, model.item_factors = sides
    for norms in ("user_norms", "item_norms"):
        np.testing.assert_allclose(getattr(models[0], norms), getattr(models[1], norms), rtol=1e-12)
    assert {public for public in dir(models[1]) if not public.startswith("_")} <= set(dir(models[0]))
