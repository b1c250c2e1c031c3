"""Models over approximate indexes: over one of our own that does what a test wants, and over the real libraries."""

import importlib.util
import inspect
import io
import json
import pickle
import threading

import numpy as np
import pytest
from scipy import sparse

import implicit_core.approximate_als
from implicit_core.als import AlternatingLeastSquares
from implicit_core.ann import _base
from implicit_core.ann._base import ApproximateModel
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.datasets.debian import get_debian
from implicit_core.nearest_neighbours import CosineRecommender
from implicit_core.recommender_base import ModelFitError, ModelLoadError, NotFittedError

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")  # of implicit

USERS, ITEMS = 60, 400
UNLIKED = [7, 20, 21]  #: items that nobody has
NOVICE = 9  #: a user without items
BACKENDS = {
    "usearch": ("usearch.index", "UsearchModel"),
    "nmslib": ("nmslib", "NMSLibModel"),
    "faiss": ("faiss", "FaissModel"),
    "annoy": ("annoy", "AnnoyModel"),
}


def model_over(name):
    """The class of models over a library, or a skipped test."""
    library, kind = BACKENDS[name]
    if importlib.util.find_spec(library.partition(".")[0]) is None:
        pytest.skip(f"needs {library}")
    return getattr(importlib.import_module(f"implicit_core.ann.{name}"), kind)


class Exhaustive(ApproximateModel):
    """A model over an index that is exact, but finds only some of what it is asked for."""

    share = 1.0

    def __init__(self, model, approximate_similar_items=True, approximate_recommend=True, size=3):
        super().__init__(model, approximate_similar_items, approximate_recommend)
        self.size = size
        self.built, self.asked = [], []

    def _check_parameters(self):
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")

    def _build(self, vectors, cosine):
        self.built.append((vectors, cosine))
        return vectors

    def _nearest(self, index, queries, k, threads):
        self.asked.append((len(queries), k))
        best = np.argsort(-(queries @ index.T), axis=1, kind="stable")[:, :k]
        best[:, int(self.share * k) :] = -1
        return best


class TwoIndexes(Exhaustive):
    _inner_product = True
    _overfetch = 3


def counts(users=USERS, items=ITEMS, share=0.04):
    random = np.random.default_rng(0)
    values = random.integers(1, 6, size=(users, items)) * (random.random((users, items)) < share)
    values[NOVICE], values[:, UNLIKED] = 0, 0
    return sparse.csr_matrix(values.astype(np.float32))


MODELS = {
    "als-float32": lambda: AlternatingLeastSquares(8, iterations=4, random_state=3),
    "als-float64": lambda: AlternatingLeastSquares(8, iterations=4, random_state=3, dtype=np.float64),
    "als-arrays": lambda: AlternatingLeastSquares(4, iterations=1, random_state=3, use_native=False),
    "bpr": lambda: BayesianPersonalizedRanking(8, learning_rate=0.1, iterations=20, random_state=3),
}


@pytest.fixture(scope="module")
def matrix():
    return counts()


@pytest.fixture(scope="module", params=MODELS)
def model(request, matrix):
    """A model fitted to the matrix; tests must not change it."""
    model = MODELS[request.param]()
    model.fit(matrix, show_progress=False)
    return model


@pytest.fixture(scope="module")
def als(matrix):
    model = MODELS["als-float32"]()
    model.fit(matrix, show_progress=False)
    return model


@pytest.fixture
def always(monkeypatch):
    """Use the index however few items there are."""
    monkeypatch.setattr(_base, "EXACT_WORK", 0)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    """The class of a model over a real library."""
    return model_over(request.param)


def assert_same(result, expected):
    for part, wanted in zip(result, expected, strict=True):
        assert part.dtype == wanted.dtype
        np.testing.assert_array_equal(part, wanted)


def recall(found, exact):
    return np.mean([len(np.intersect1d(a, b)) / len(np.unique(b)) for a, b in zip(found[0], exact[0], strict=True)])


everyone = np.arange(USERS)
CALLS = {
    "recommend one": lambda m, c: m.recommend(3, c[3]),
    "recommend one with the full matrix": lambda m, c: m.recommend(3, c, N=4),
    "recommend many": lambda m, c: m.recommend(everyone, c, N=7),
    "recommend in another order": lambda m, c: m.recommend([5, 3, 3], c[[5, 3, 3]], N=7),
    "recommend what is liked too": lambda m, c: m.recommend(everyone, None, filter_already_liked_items=False),
    "recommend without some items": lambda m, c: m.recommend(everyone, c, filter_items=np.arange(0, ITEMS, 9)),
    "recommend among items": lambda m, c: m.recommend(everyone, c, items=[5, 3, 8, 200], N=3),
    "recommend to nobody": lambda m, c: m.recommend([], c[:0]),
    "recommend nothing": lambda m, c: m.recommend(everyone, c, N=0),
    "recommend all items": lambda m, c: m.recommend(everyone, c, N=ITEMS),
    "recommend more than all items": lambda m, c: m.recommend(everyone, c, N=ITEMS + 5),
    "items similar to one": lambda m, c: m.similar_items(3),
    "items similar to many": lambda m, c: m.similar_items(np.arange(ITEMS), N=6),
    "similar items without some": lambda m, c: m.similar_items([3, 4], filter_items=[3, 5]),
    "similar items among some": lambda m, c: m.similar_items([3, 4], items=[3, 5, 9], N=5),
    "more similar items than there are": lambda m, c: m.similar_items([3, 4], N=ITEMS + 5),
    "similar users": lambda m, c: m.similar_users([3, 4], N=5, filter_users=[7]),
}


@pytest.mark.parametrize("kind", [Exhaustive, TwoIndexes])
@pytest.mark.parametrize("call", CALLS)
def test_with_an_index_that_misses_nothing_results_are_those_of_the_model(always, kind, call, model, matrix):
    wrapped = kind(model)
    assert_same(CALLS[call](wrapped, matrix), CALLS[call](model, matrix))
    indexed = not any(word in call for word in ("among", "nobody", "nothing", "users"))
    assert bool(wrapped.asked) == indexed


def test_users_and_items_can_be_recalculated(always, als, matrix):
    wrapped = Exhaustive(als)
    for call in (
        lambda m: m.recommend([100, 101], matrix[[4, 5]], recalculate_user=True),
        lambda m: m.recommend(100, matrix[4], recalculate_user=True, filter_items=[1]),
        lambda m: m.similar_items([4, 900], recalculate_item=True, item_users=matrix.T.tocsr()[[4, 5]]),
    ):
        assert_same(call(wrapped), call(als))
        assert wrapped.asked
    other = Exhaustive(BayesianPersonalizedRanking(4, iterations=1))
    other.fit(matrix, show_progress=False)
    with pytest.raises(NotImplementedError, match="cannot recalculate users"):
        other.recommend(0, matrix[0], recalculate_user=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("call", [call for call in CALLS if "among" not in call])
def test_what_the_index_does_not_find_is_answered_exactly(always, share, call, als, matrix, monkeypatch):
    monkeypatch.setattr(Exhaustive, "share", share)
    wrapped = Exhaustive(als)
    ids, scores = CALLS[call](wrapped, matrix)
    expected = CALLS[call](als, matrix)
    assert (ids.shape, scores.shape) == (expected[0].shape, expected[1].shape)
    if share == 0:
        assert_same((ids, scores), expected)
    lowest = np.finfo(np.float32).min
    assert np.array_equal(scores == lowest, expected[1] == lowest)  # filtered ones come only after all others


def test_no_result_depends_on_the_other_queries_of_a_batch(always, als, matrix, monkeypatch):
    monkeypatch.setattr(Exhaustive, "share", 0.8)
    wrapped = Exhaustive(als)
    ids, scores = wrapped.recommend(everyone, matrix, N=5)
    for user in everyone:
        assert_same((ids[user], scores[user]), wrapped.recommend(user, matrix[user], N=5))


def test_equal_scores_rank_by_ascending_id(always):
    model = AlternatingLeastSquares(2)
    model.user_factors = np.ones((3, 2), dtype=np.float32)
    model.item_factors = np.ones((40, 2), dtype=np.float32)
    model.item_factors[30:] = 2
    ids, scores = Exhaustive(model).recommend([0, 1], None, N=12, filter_already_liked_items=False)
    assert ids.tolist() == [[*range(30, 40), 0, 1]] * 2
    assert scores[0].tolist() == [4] * 10 + [2] * 2


def test_few_items_or_many_candidates_are_searched_exactly(als, matrix):
    wrapped = Exhaustive(als)
    wrapped.recommend(0, None, N=9, filter_already_liked_items=False)  # 16 candidates of 400 items
    assert not wrapped.asked
    wrapped.recommend(0, None, N=8, filter_already_liked_items=False)
    assert wrapped.asked == [(1, 8)]
    wrapped.recommend(0, None, N=8, filter_items=[5], filter_already_liked_items=False)
    wrapped.recommend(0, matrix[0], N=8)
    assert wrapped.asked == [(1, 8)]


def test_items_are_made_equally_long_for_inner_products(model):
    wrapped = TwoIndexes(model)
    wrapped.build_index()
    (directions, first), (augmented, second), (raw, third) = wrapped.built
    assert [first, second, third] == [True, False, False]
    items = model.item_factors.astype(np.float64)
    lengths = np.linalg.norm(items, axis=1)
    np.testing.assert_allclose(directions, (items / np.maximum(lengths, 1e-10)[:, None])[lengths > 0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(augmented, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(raw, items / lengths.max(), atol=1e-6)
    np.testing.assert_allclose(augmented[:, :-1], raw)
    assert all(vectors.dtype == np.float32 and vectors.flags.c_contiguous for vectors, _ in wrapped.built)


def test_huge_and_tiny_factors_are_indexed(always, als, matrix):
    for scale in (1e-25, 1e25):
        model = pickle.loads(pickle.dumps(als))
        model.item_factors = als.item_factors * np.float32(scale)
        assert_same(Exhaustive(model).recommend(everyone, matrix), model.recommend(everyone, matrix))


def test_factors_of_zeros_are_ranked_exactly(always):
    model = AlternatingLeastSquares(2)
    model.user_factors, model.item_factors = np.ones((3, 2)), np.zeros((9, 2))
    wrapped = TwoIndexes(model)
    assert wrapped.recommend(0, None, N=3, filter_already_liked_items=False)[0].tolist() == [0, 1, 2]
    assert wrapped.similar_items(5, N=3)[0].tolist() == [0, 1, 2]
    model.user_factors, model.item_factors = np.zeros((3, 2)), np.ones((9, 2))
    assert wrapped.recommend(0, None, N=3, filter_already_liked_items=False)[0].tolist() == [0, 1, 2]
    model.item_factors = np.zeros((0, 2))
    assert wrapped.recommend(0, None, N=2, filter_already_liked_items=False)[0].tolist() == [-1, -1]


def test_factors_that_are_not_finite_are_refused(always, als):
    model = pickle.loads(pickle.dumps(als))
    model.item_factors = als.item_factors.copy()
    model.item_factors[3, 1] = np.nan
    with pytest.raises(ModelFitError, match="item factors became NaN"):
        Exhaustive(model).similar_items(0)


def test_flags_send_calls_to_the_model(always, als, matrix):
    wrapped = Exhaustive(als, approximate_similar_items=False)
    wrapped.build_index()
    assert [cosine for _, cosine in wrapped.built] == [False]
    assert_same(wrapped.similar_items([3, 4]), als.similar_items([3, 4]))
    assert not wrapped.asked
    assert wrapped.similar_items_index is None
    wrapped = Exhaustive(als, approximate_recommend=False)
    wrapped.build_index()
    assert [cosine for _, cosine in wrapped.built] == [True]
    assert_same(wrapped.recommend([3, 4], matrix[[3, 4]]), als.recommend([3, 4], matrix[[3, 4]]))
    assert not wrapped.asked
    assert wrapped.recommend_index is None


def test_fit_trains_the_model_and_builds_the_indexes(als, matrix):
    for name in ("user_items", "Cui"):
        wrapped, reports = Exhaustive(MODELS["als-float32"]()), []
        wrapped.fit(**{name: matrix}, show_progress=False, callback=lambda *report, to=reports: to.append(report))
        assert np.array_equal(wrapped.model.item_factors, als.item_factors)
        assert len(reports) == 4
        assert len(wrapped.built) == 2
        assert wrapped.recommend_index is wrapped.built[1][0]
        assert wrapped.similar_items_index is wrapped.built[0][0]
    for arguments in ({}, {"user_items": matrix, "Cui": matrix}):
        with pytest.raises(TypeError, match="user_items, once"):
            wrapped.fit(**arguments)
    wrapped = Exhaustive(MODELS["als-float32"](), size=0)
    with pytest.raises(ValueError, match="size must be at least 1"):
        wrapped.fit(matrix, show_progress=False)
    assert wrapped.model.item_factors is None


def test_an_index_follows_the_factors(always, als, matrix):
    model = pickle.loads(pickle.dumps(als))
    wrapped = Exhaustive(model)
    wrapped.similar_items(3)
    wrapped.similar_items(3)
    assert len(wrapped.built) == 1
    model.partial_fit_items([ITEMS], matrix.T.tocsr()[[3]])
    assert set(wrapped.similar_items(ITEMS, N=2)[0]) == {3, ITEMS}
    assert len(wrapped.built) == 2
    model.item_factors[2] = model.item_factors[1]
    wrapped.build_index()
    assert wrapped.similar_items(1, N=2)[0].tolist() == [1, 2]


def test_callers_at_the_same_time_build_one_index(always, als):
    wrapped, start = Exhaustive(als), threading.Barrier(4)
    build = wrapped._build

    def slow(vectors, cosine):
        threading.Event().wait(0.05)
        return build(vectors, cosine)

    wrapped._build = slow

    def call():
        start.wait()
        wrapped.similar_items(3)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrapped.built) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda m, c: m.recommend(USERS, c[0]),
        lambda m, c: m.recommend([-1], c[[0]]),
        lambda m, c: m.recommend(0, c[:2]),
        lambda m, c: m.recommend(0, c[0].tocsc()),
        lambda m, c: m.recommend(0, None),
        lambda m, c: m.recommend(0, c[0], N=-1),
        lambda m, c: m.recommend(0, c[0], N=1.5),
        lambda m, c: m.recommend(0, c[0], filter_items=[ITEMS]),
        lambda m, c: m.recommend(0, c[0], items=[]),
        lambda m, c: m.recommend(0, c[0], items=[1], filter_items=[2]),
        lambda m, c: m.recommend(np.arange(ITEMS), c.T.tocsr()),
        lambda m, c: m.similar_items(ITEMS),
        lambda m, c: m.similar_items(-1),
        lambda m, c: m.similar_items(0, N=-1),
        lambda m, c: m.similar_items(0, recalculate_item=True),
        lambda m, c: m.similar_users(USERS),
    ],
)
def test_errors_are_those_of_the_model(always, call, als, matrix):
    with pytest.raises((ValueError, IndexError, TypeError)) as expected:
        call(als, matrix)
    with pytest.raises(type(expected.value)) as error:
        call(Exhaustive(als), matrix)
    assert str(error.value) == str(expected.value)


def test_before_fit_there_is_nothing_to_find(matrix):
    wrapped = Exhaustive(AlternatingLeastSquares(4))
    for call in (
        lambda: wrapped.recommend(0, matrix[0]),
        lambda: wrapped.similar_items(0),
        lambda: wrapped.similar_users(0),
        wrapped.build_index,
    ):
        with pytest.raises(NotFittedError, match="AlternatingLeastSquares is not fitted"):
            call()
    assert wrapped.recommend_index is wrapped.similar_items_index is None


@pytest.mark.parametrize("wrong", [AlternatingLeastSquares, CosineRecommender(), None, "als"])
def test_only_models_of_factors_are_wrapped(wrong, als):
    with pytest.raises(TypeError, match="model must be a matrix factorization model"):
        Exhaustive(wrong)
    with pytest.raises(TypeError, match="got Exhaustive"):
        Exhaustive(Exhaustive(als))


# files


def test_a_saved_model_comes_back_and_its_own_class_reads_it(always, model, matrix, tmp_path):
    wrapped = Exhaustive(model, approximate_recommend=False, size=np.int64(7))
    wrapped.save(tmp_path / "model")
    stream = io.BytesIO()
    wrapped.save(stream)
    stream.seek(0)
    for source in (tmp_path / "model.npz", stream):
        again = Exhaustive.load(source)
        assert type(again.model) is type(model)
        assert again.model.get_params() == model.get_params()
        assert (again.approximate_recommend, again.approximate_similar_items, again.size) == (False, True, 7)
        assert_same(again.similar_items([3, 4]), model.similar_items([3, 4]))
        assert again.asked
    alone = type(model).load(tmp_path / "model.npz")
    assert_same(alone.recommend([3, 4], matrix[[3, 4]]), model.recommend([3, 4], matrix[[3, 4]]))


def test_implicit_reads_the_model_of_a_file(als, tmp_path):
    theirs = pytest.importorskip("implicit.cpu.als")
    Exhaustive(als).save(tmp_path / "model.npz")
    loaded = theirs.AlternatingLeastSquares.load(str(tmp_path / "model.npz"))
    assert np.array_equal(loaded.item_factors, als.item_factors)


def test_an_unfitted_model_and_a_model_of_a_subclass_are_saved(matrix, tmp_path):
    class Mine(AlternatingLeastSquares):
        pass

    Exhaustive(Mine(5)).save(tmp_path / "model.npz")
    again = Exhaustive.load(tmp_path / "model.npz")
    assert type(again.model) is Mine
    assert again.model.factors == 5
    with pytest.raises(NotFittedError):
        again.similar_items(0)


def test_files_of_something_else_are_refused(als, tmp_path):
    als.save(tmp_path / "als.npz")
    with pytest.raises(ModelLoadError, match="load it with its own class and pass it to Exhaustive"):
        Exhaustive.load(tmp_path / "als.npz")
    TwoIndexes(als).save(tmp_path / "other.npz")
    with pytest.raises(ModelLoadError, match="holds a TwoIndexes, not a Exhaustive"):
        Exhaustive.load(tmp_path / "other.npz")
    Exhaustive(als, size=0).save(tmp_path / "bad.npz")
    with pytest.raises(ModelLoadError, match="size must be at least 1"):
        Exhaustive.load(tmp_path / "bad.npz")
    about = {"class": "Exhaustive", "model": "implicit_core.als.AlternatingLeastSquares", "parameters": {}}
    for change, message in (
        ({"model": "os.system"}, "holds a os.system; import"),
        ({"parameters": {"secret": 1}}, "parameters that cannot be"),
        ({"parameters": 5}, "holds no Exhaustive"),
    ):
        np.savez(tmp_path / "made.npz", factors=4, ann=json.dumps({**about, **change}))
        with pytest.raises(ModelLoadError, match=message):
            Exhaustive.load(tmp_path / "made.npz")
    with pytest.raises(FileNotFoundError):
        Exhaustive.load(tmp_path / "nothing.npz")


# the libraries


@pytest.fixture(scope="module")
def debian():
    """Packages are users and what they depend on are items: 12,353 of these, of very different popularity."""
    matrix = get_debian()[2].T.tocsr()
    model = AlternatingLeastSquares(32, iterations=5, random_state=0)
    model.fit(matrix, show_progress=False)
    return model, matrix


@pytest.fixture(scope="module")
def indexed(backend, debian):
    model = backend(debian[0])
    model.build_index()
    return model


def test_recall_is_high(indexed, debian):
    model, matrix = debian
    users, items = np.arange(0, matrix.shape[0], 40), np.arange(0, matrix.shape[1], 12)
    assert indexed.recommend_index is not None
    assert indexed.similar_items_index is not None
    assert recall(indexed.recommend(users, matrix[users]), model.recommend(users, matrix[users])) >= 0.92
    assert recall(indexed.similar_items(items), model.similar_items(items)) >= 0.95
    many = {"N": 60, "filter_items": np.arange(0, 500, 50)}
    assert recall(indexed.recommend(users, matrix[users], **many), model.recommend(users, matrix[users], **many)) >= 0.9
    new = model.recommend(users, matrix[users], recalculate_user=True)
    assert recall(indexed.recommend(users, matrix[users], recalculate_user=True), new) >= 0.92


def test_scores_are_those_of_the_model_and_ranked(indexed, debian):
    model, matrix = debian
    users = np.arange(0, matrix.shape[0], 700)
    for found, exact in (
        (indexed.recommend(users, matrix[users]), lambda user, ids: model.recommend(user, matrix[user], items=ids)),
        (indexed.similar_items(users % 12_000), lambda user, ids: model.similar_items(user % 12_000, items=ids)),
    ):
        assert found[0].dtype == np.int32
        assert found[1].dtype == np.float32
        assert found[0].shape == found[1].shape == (len(users), 10)
        for user, ids, scores in zip(users, *found, strict=True):
            expected = exact(user, ids)
            assert ids.tolist() == expected[0].tolist()
            assert scores.tolist() == expected[1].tolist()


def test_filtered_and_liked_items_are_not_found(indexed, debian):
    _, matrix = debian
    users = np.argsort(-np.diff(matrix.indptr), kind="stable")[[0, 1, 10, 100, 1000, 10_000]]
    banned = np.unique(indexed.recommend(users, matrix[users])[0])[::2]
    ids, _ = indexed.recommend(users, matrix[users], N=20, filter_items=banned)
    assert not np.isin(ids, banned).any()
    for user, row in zip(users, ids, strict=True):
        assert not np.isin(row, matrix[user].indices).any()
        assert len(set(row)) == 20
    banned = indexed.similar_items(5, N=6)[0][1:4]
    ids, _ = indexed.similar_items(5, N=20, filter_items=banned)
    assert not np.isin(ids, banned).any()
    assert len(set(ids)) == 20


def test_one_query_is_answered_as_in_a_batch(indexed, debian):
    _, matrix = debian
    users = np.arange(50, matrix.shape[0], 3000)
    ids, scores = indexed.recommend(users, matrix[users], N=5)
    for position, user in enumerate(users):
        assert_same(indexed.recommend(user, matrix[user], N=5), (ids[position], scores[position]))
    ids, scores = indexed.similar_items(users % 12_000, N=5)
    for position, user in enumerate(users):
        assert_same(indexed.similar_items(user % 12_000, N=5), (ids[position], scores[position]))


def test_an_index_built_again_gives_the_same_results(indexed, debian):
    _, matrix = debian
    users = np.arange(0, matrix.shape[0], 100)
    again = pickle.loads(pickle.dumps(indexed))
    assert again.recommend_index is None
    again.model.num_threads = 1
    assert_same(again.recommend(users, matrix[users]), indexed.recommend(users, matrix[users]))
    assert_same(again.similar_items(users % 12_000), indexed.similar_items(users % 12_000))
    assert again.recommend_index is not None


def test_a_small_catalogue_with_empty_rows_works_too(always, backend, als, matrix, tmp_path, capfd):
    wrapped = backend(MODELS["als-float32"]())
    wrapped.fit(matrix, show_progress=False)
    for name, call in CALLS.items():
        found, expected = call(wrapped, matrix), call(als, matrix)
        assert [part.shape for part in found] == [part.shape for part in expected], name
        assert [part.dtype for part in found] == [part.dtype for part in expected], name
        if found[0].ndim == 2 and found[0].size:
            assert recall(found, expected) > 0.9, name
    wrapped.save(tmp_path / "model.npz")
    again = backend.load(tmp_path / "model.npz")
    assert again.get_params().keys() == wrapped.get_params().keys()
    assert all(again.get_params()[name] == value for name, value in wrapped.get_params().items() if name != "model")
    assert_same(again.recommend(everyone, matrix), wrapped.recommend(everyone, matrix))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_handful_of_items_works_too(always, backend, size):
    model = AlternatingLeastSquares(3, iterations=2, random_state=0)
    model.fit(sparse.csr_matrix(np.ones((4, size), dtype=np.float32)), show_progress=False)
    wrapped = backend(model)
    assert sorted(wrapped.similar_items(0, N=size)[0]) == list(range(size))
    assert sorted(wrapped.recommend(0, None, N=size, filter_already_liked_items=False)[0]) == list(range(size))


PARAMETERS = {
    "UsearchModel": [{"connectivity": 1}, {"expansion_add": 0}, {"expansion_search": 1.5}, {"dtype": "f33"}],
    "NMSLibModel": [{"index_params": 5}, {"query_params": [1]}],
    "FaissModel": [{"nlist": 0}, {"nprobe": "5"}],
    "AnnoyModel": [{"n_trees": 0}, {"search_k": -2}],
}


def test_a_parameter_out_of_range_is_named(backend, als):
    for parameters in PARAMETERS[backend.__name__]:
        with pytest.raises((TypeError, ValueError), match=next(iter(parameters))):
            backend(als, **parameters).build_index()


def test_parameters_reach_the_library(always):
    random = np.random.default_rng(0)
    model = AlternatingLeastSquares(16)
    model.user_factors, model.item_factors = random.normal(size=(300, 16)), random.normal(size=(3000, 16))

    def recall_of(name, **parameters):
        kind = model_over(name)
        calls = (
            m.recommend(np.arange(300), None, N=1, filter_already_liked_items=False)
            for m in (kind(model, approximate_similar_items=False, **parameters), model)
        )
        return recall(*calls)

    low = {
        "usearch": {"connectivity": 2, "expansion_add": 2, "expansion_search": 2},
        "nmslib": {"index_params": {"M": 2, "efConstruction": 2}, "query_params": {"ef": 1}},
        "faiss": {"nprobe": 1},
        "annoy": {"n_trees": 1, "search_k": 1},
    }
    for name, parameters in low.items():
        assert recall_of(name, **parameters) < recall_of(name) - 0.02, name


@pytest.mark.parametrize("name", ["usearch", "nmslib", "annoy"])
def test_threads_may_build_an_index(always, name, als, matrix):
    model = model_over(name)(als, deterministic=False)
    assert recall(model.recommend(everyone, matrix), als.recommend(everyone, matrix)) > 0.9


@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8"])
def test_usearch_may_store_less(always, dtype, als, matrix):
    model = model_over("usearch")(als, dtype=dtype)
    found, exact = model.recommend(everyone, matrix), als.recommend(everyone, matrix)
    assert recall(found, exact) > 0.9
    same = found[0] == exact[0]
    assert same.mean() > 0.8
    assert np.array_equal(found[1][same], exact[1][same])


def test_faiss_stays_on_the_cpu(als):
    kind = model_over("faiss")
    with pytest.raises(ValueError, match="use_gpu=True cannot be met"):
        kind(als, use_gpu=True)


# names and what implicit does


@pytest.mark.parametrize("name", BACKENDS)
def test_a_library_that_is_not_there_is_named_with_the_command_that_installs_it(name, run_python):
    module, _ = BACKENDS[name]
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from implicit_core.als import AlternatingLeastSquares\n"
        f"from implicit_core.ann import {name}\n"
        f"kind = next(value for key, value in vars({name}).items() if key.lower() == '{name}model')\n"
        "try:\n    kind(AlternatingLeastSquares())\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    result = run_python("-c", code)
    requirement = "faiss-cpu" if name == "faiss" else name
    assert result.stdout.startswith(f"ModuleNotFoundError implicit_core.ann.{name} needs {requirement}"), result.stderr
    assert f"pip install {requirement}" in result.stdout


def test_the_package_imports_no_library_of_an_index(run_python):
    code = (
        "import sys, implicit_core\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('usearch', 'faiss', 'nmslib', 'annoy')"
        " or m.startswith('implicit_core.ann')])"
    )
    assert run_python("-c", code).stdout.strip() == "[]"


FACTORIES = {
    "usearch": ("UsearchAlternatingLeastSquares", {"connectivity": 8, "index_dtype": "f16", "deterministic": False}),
    "nmslib": (
        "NMSLibAlternatingLeastSquares",
        {"method": "hnsw", "index_params": {"M": 8}, "query_params": {"ef": 9}, "deterministic": False},
    ),
    "faiss": ("FaissAlternatingLeastSquares", {"nlist": 7, "nprobe": 3}),
    "annoy": ("AnnoyAlternatingLeastSquares", {"n_trees": 7, "search_k": 99, "deterministic": False}),
}


@pytest.mark.parametrize("name", BACKENDS)
def test_functions_of_approximate_als_pass_parameters_on(name):
    factory, parameters = FACTORIES[name]
    expected = model_over(name)
    model = getattr(implicit_core.approximate_als, factory)(
        16, 0.5, approximate_similar_items=False, alpha=2.0, use_gpu=False, **parameters
    )
    assert type(model) is expected
    assert (model.model.factors, model.model.regularization, model.model.alpha) == (16, 0.5, 2.0)
    assert (model.approximate_similar_items, model.approximate_recommend) == (False, True)
    for parameter, value in parameters.items():
        assert getattr(model, parameter.removeprefix("index_") if parameter == "index_dtype" else parameter) == value
    with pytest.raises(ValueError, match="use_gpu"):
        getattr(implicit_core.approximate_als, factory)(use_gpu=True)


@pytest.mark.parametrize("name", ["nmslib", "faiss", "annoy"])
def test_implicit_agrees_on_signatures_and_on_what_is_easy_to_find(always, name, als, matrix):
    ours = model_over(name)
    theirs = getattr(pytest.importorskip(f"implicit.ann.{name}"), ours.__name__)
    factory, _ = FACTORIES[name]
    factories = [
        getattr(pytest.importorskip(f"{package}.approximate_als"), factory) for package in ("implicit", "implicit_core")
    ]
    for one, other in ((theirs, ours), factories):
        expected = {n: p for n, p in inspect.signature(one).parameters.items() if n != "kwargs"}
        found = inspect.signature(other).parameters
        assert list(found)[: len(expected)] == list(expected)
        assert all(found[n].default == p.default for n, p in expected.items() if n != "use_gpu")
        assert all(found[n].kind == p.kind for n, p in expected.items())
    assert "kwargs" in inspect.signature(factories[1]).parameters
    # short vectors, and lists that are all looked into, so that both find nearly everything
    parameters = {"nlist": 4, "nprobe": 4} if name == "faiss" else {}
    their_als = pytest.importorskip("implicit.cpu.als").AlternatingLeastSquares(8, iterations=4, random_state=3)
    their_model, our_model = theirs(their_als, **parameters), ours(MODELS["als-float32"](), **parameters)
    for model in (their_model, our_model):
        model.fit(matrix, show_progress=False)
    their_als.user_factors, their_als.item_factors = als.user_factors, als.item_factors
    for user in range(0, USERS, 5):
        ids, scores = their_model.recommend(user, matrix[user], N=5)
        our_ids, our_scores = our_model.recommend(user, matrix[user], N=5)
        assert len(np.intersect1d(ids, our_ids)) >= 4
        np.testing.assert_allclose(our_scores[0], scores[0], rtol=0.05)
    ids, scores = their_model.similar_items(np.arange(0, ITEMS, 40), N=5)
    our_ids, our_scores = our_model.similar_items(np.arange(0, ITEMS, 40), N=5)
    np.testing.assert_allclose(our_scores[:, 0], scores[:, 0], atol=1e-3)
    assert np.mean([len(np.intersect1d(a, b)) / 5 for a, b in zip(ids, our_ids, strict=True)]) > 0.85
