"""Search indexes that a model keeps of its factors: made once, and never of factors that have changed since."""

import copy
import gc
import io
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.cpu import kernels
from implicit_core.lmf import LogisticMatrixFactorization

USERS, ITEMS = 60, 90
ENOUGH = 40  #: calls after which an index is there, if it may be
KINDS = (AlternatingLeastSquares, BayesianPersonalizedRanking, LogisticMatrixFactorization)
MATRIX = sparse.random(USERS, ITEMS, 0.15, format="csr", random_state=1, dtype=np.float32)


def fitted(kind=AlternatingLeastSquares):
    model = kind(factors=5, iterations=2, random_state=1, num_threads=2)
    model.fit(MATRIX, show_progress=False)
    return model


@pytest.fixture
def model():
    return fitted()


@pytest.fixture
def made(monkeypatch):
    """References to the indexes that were made, while they live."""
    references, prepare = [], kernels.prepare

    def counting(*arguments, **options):
        index = prepare(*arguments, **options)
        if index.packed is not None:
            references.append(weakref.ref(index.packed))
        return index

    monkeypatch.setattr(kernels, "prepare", counting)
    return references


def ask(model, times=ENOUGH):
    return [model.recommend(user, MATRIX[user], N=7) for user in range(times)]


def check(model):
    """What the model answers, many times, is what the factors that it has now say."""
    by_hand = vars(model)["user_factors"] @ vars(model)["item_factors"].T
    liked = MATRIX.toarray() > 0
    for user, (ids, scores) in enumerate(ask(model)):
        unliked = np.where(liked[user], -np.inf, by_hand[user])
        np.testing.assert_allclose(scores, np.sort(unliked)[::-1][:7], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(unliked[ids], scores, rtol=1e-4, atol=1e-6)


def saved_and_loaded(model, **options):
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    return type(model).load(file, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "how",
    [
        lambda model: model,
        copy.deepcopy,
        saved_and_loaded,
        *(lambda model, protocol=protocol: pickle.loads(pickle.dumps(model, protocol)) for protocol in (2, 4, 5)),
    ],
    ids=["fitted", "copied", "loaded", "pickle-2", "pickle-4", "pickle-5"],
)
def test_an_index_is_made_once_of_factors_that_nobody_else_has(kind, how, made):
    model = how(fitted(kind))
    first, second = ask(model), ask(model)
    assert len(made) == 1
    for mine, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, again)
    check(model)
    for _ in range(ENOUGH):
        model.similar_items(3)
        model.similar_users(3)
    assert len(made) == 3
    del model, how
    gc.collect()
    assert not any(reference() is not None for reference in made)


def test_an_index_of_mapped_factors_is_kept_whoever_has_them(model, made, tmp_path):
    model.save(tmp_path / "model")
    mapped = AlternatingLeastSquares.load(tmp_path / "model", mmap=True)
    for mine, other in zip(ask(mapped), ask(model), strict=True):
        np.testing.assert_array_equal(mine, other)
    factors = mapped.item_factors
    ask(mapped)
    assert len(made) == 2
    del mapped, factors, mine, other
    gc.collect()
    assert made[0]() is None


def test_an_index_is_made_again_once_nobody_has_the_factors_any_more(model, made):
    ask(model)
    factors = model.item_factors
    assert made[0]() is None
    ask(model)
    assert len(made) == 1
    del factors
    ask(model)
    assert len(made) == 2


# Whoever changes the factors, by whatever way, is heard


class Kept:
    """Something that holds an array or a way to it, with a function that writes by it."""

    def __init__(self, held, write):
        self.held, self.write = held, write


def by_address(model):
    pointer = np.ctypeslib.as_ctypes(model.item_factors)
    return Kept(pointer, lambda pointer: np.ctypeslib.as_array(pointer).__imul__(-2))


WAYS = {
    "attribute": lambda model: Kept(model, lambda model: model.item_factors.__imul__(-2)),
    "array": lambda model: Kept(model.item_factors, lambda array: array.__imul__(-2)),
    "view": lambda model: Kept(model.item_factors[::2], lambda view: view.__imul__(-2)),
    "view of a view": lambda model: Kept(model.item_factors[5:].T[1:], lambda view: view.__imul__(-2)),
    "row": lambda model: Kept(model.item_factors[17], lambda row: row.__iadd__(9)),
    "iterator": lambda model: Kept(model.item_factors.flat, lambda flat: flat.__setitem__(slice(40, 60), 9)),
    "buffer": lambda model: Kept(memoryview(model.item_factors), lambda buffer: np.asarray(buffer).__imul__(-2)),
    "ctypes": by_address,
    "weak reference": lambda model: Kept(weakref.ref(model.item_factors), lambda weak: weak().__imul__(-2)),
    "copy of the model": lambda model: Kept(copy.copy(model), lambda other: other.item_factors.__imul__(-2)),
    "state": lambda model: Kept(model.__getstate__(), lambda state: state["item_factors"].__imul__(-2)),
    "closure": lambda model: Kept((lambda array: lambda: array)(model.item_factors), lambda got: got().__imul__(-2)),
    "users": lambda model: Kept(model.user_factors, lambda array: array.__imul__(-2)),
    "other array": lambda model: Kept(model, lambda model: setattr(model, "item_factors", -model.item_factors)),
    "own array": lambda model: Kept(given(model), lambda array: array.__imul__(-2)),
    "part of an own array": lambda model: Kept(part_given(model), lambda array: array.__imul__(-2)),
    "memory of the array": lambda model: Kept(model.item_factors.base, lambda memory: memory.fill(0x40)),
    "dictionary": lambda model: Kept(vars(model), lambda names: names.update(item_factors=-names["item_factors"])),
    "fit": lambda model: Kept(model, lambda model: model.fit(MATRIX * 3, show_progress=False)),
    "items": lambda model: Kept(model, lambda model: model.partial_fit_items([4, 5], MATRIX.T.tocsr()[[7, 8]] * 9)),
}


def given(model):
    array = np.array(model.item_factors)
    model.item_factors = array
    return array


def part_given(model):
    model.item_factors = np.vstack([model.item_factors, model.item_factors])[:ITEMS]
    return model.item_factors


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [True, False], ids=["after an index", "before any"])
def test_what_was_written_counts(model, way, first):
    if first:
        check(model)
    kept = WAYS[way](model)
    for _ in range(3):
        check(model)
        kept.write(kept.held)
        check(model)


def test_factors_that_are_read_only_for_a_while_are_looked_at_anew(model):
    model.item_factors.flags.writeable = False
    before = ask(model)
    model.item_factors.flags.writeable = True
    model.item_factors *= 2
    model.item_factors.flags.writeable = False
    for (_, now), (_, then) in zip(ask(model), before, strict=True):
        np.testing.assert_array_equal(now, 2 * then)


def test_a_long_series_of_reads_and_writes_by_many_holders(model):
    random = np.random.default_rng(3)
    held = []
    for _ in range(150):
        step = random.integers(6)
        if step == 0:
            held.append(WAYS[list(WAYS)[random.integers(len(WAYS) - 3)]](model))
        elif step == 1 and held:
            del held[random.integers(len(held))]
        elif step <= 3 and held:
            kept = held[random.integers(len(held))]
            kept.write(kept.held)
            model.item_factors /= np.abs(model.item_factors).max()
        else:
            check(model)


def test_recalculated_users_follow_what_was_written(model):
    model.recalculate_user(3, MATRIX[3])
    model.item_factors *= 2
    expected = copy.deepcopy(model).recalculate_user(3, MATRIX[3])
    np.testing.assert_array_equal(model.recalculate_user(3, MATRIX[3]), expected)


def test_a_subclass_with_factors_of_its_own_gets_no_index(made):
    class Model(AlternatingLeastSquares):
        item_factors = None

    model = Model(factors=5)
    factors = np.random.default_rng(0).random((2, ITEMS, 5), dtype=np.float32)
    model.user_factors = np.ones((USERS, 5), dtype=np.float32)
    for array in factors:
        model.item_factors = array
        check(model)
    assert not made


def test_writes_count_at_once_while_other_threads_ask(model):
    """Threads are switched as often as can be."""
    random, done, errors = np.random.default_rng(5), threading.Event(), []

    def asking():
        try:
            while not done.is_set():
                ask(model)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=asking, daemon=True) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(20):
            model.item_factors[:] = random.random((ITEMS, 5))
            check(model)
    finally:
        done.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert not errors
