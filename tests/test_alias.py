"""`implicit_core` under the name of `implicit`, by the lines in docs/migration.md, and what RecTools does with it."""

import importlib.util
import pickle
import warnings
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs" / "migration.md"

SETUP = """
import warnings
import numpy as np
from scipy import sparse

random = np.random.default_rng(0)
users, items = np.nonzero(random.random((60, 40)) < 0.2)
matrix = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(60, 40))
"""


@pytest.fixture(scope="module")
def as_implicit(run_python):
    """Return a function that runs a script after the lines of the docs, and returns what it prints."""
    lines = DOCS.read_text(encoding="utf-8").split("<!-- alias -->\n```python\n")[1].split("```")[0]
    assert len([line for line in lines.splitlines() if line]) == 5

    def run(script, *options):
        result = run_python(*options, "-c", lines + SETUP + script)
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    return run


def test_every_module_goes_by_both_names(as_implicit):
    printed = as_implicit("""
import implicit, implicit.cpu.als, implicit.datasets.lastfm
from implicit.nearest_neighbours import bm25_weight

assert implicit is implicit_core and implicit.als.AlternatingLeastSquares is implicit_core.als.AlternatingLeastSquares
ours = {name for name in sys.modules if name.startswith("implicit_core")}
assert {name.replace("implicit_core", "implicit", 1) for name in ours} == {
    name for name in sys.modules if name.split(".")[0] == "implicit"
}
assert all(sys.modules[name.replace("implicit_core", "implicit", 1)] is sys.modules[name] for name in ours)
print(*sorted(ours))
""")
    folder = Path(importlib.util.find_spec("implicit_core").origin).parent
    files = {path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py") if path.stem != "__init__"}
    assert {".".join(["implicit_core", *path.parts]) for path in files} <= set(printed)


def test_what_rectools_relies_on_holds(as_implicit):
    as_implicit("""
import functools
import implicit
import implicit.gpu
from implicit.cpu.als import AlternatingLeastSquares as CPUAlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking as CPUBayesianPersonalizedRanking
from implicit.cpu.matrix_factorization_base import _filter_items_from_sparse_matrix
from implicit.cpu.topk import topk
from implicit.gpu.als import AlternatingLeastSquares as GPUAlternatingLeastSquares
from implicit.gpu.bpr import BayesianPersonalizedRanking as GPUBayesianPersonalizedRanking
from implicit.utils import check_random_state

als = implicit.als.AlternatingLeastSquares(factors=4, iterations=2, random_state=1)
bpr = implicit.bpr.BayesianPersonalizedRanking(factors=4, iterations=2, random_state=1)
assert isinstance(als, CPUAlternatingLeastSquares) and not isinstance(als, GPUAlternatingLeastSquares)
assert isinstance(bpr, CPUBayesianPersonalizedRanking) and not isinstance(bpr, GPUBayesianPersonalizedRanking)
assert isinstance(implicit.nearest_neighbours.TFIDFRecommender(), implicit.nearest_neighbours.ItemItemRecommender)
assert implicit.gpu.HAS_CUDA is False

als.fit(matrix, show_progress=False)
X, Y = als.user_factors.copy(), als.item_factors.copy()
als.solver(matrix, X, Y, als.regularization, num_threads=1)  # a half-step of training
als.fit_callback, again = None, implicit.als.AlternatingLeastSquares(factors=4, iterations=1)
again.user_factors, again.item_factors = als.user_factors.copy(), als.item_factors.copy()
again.fit(matrix, show_progress=False)
np.testing.assert_array_equal(again.user_factors, X)

candidates = np.arange(0, 40, 2)
liked = _filter_items_from_sparse_matrix(candidates, matrix[:5])
ids, scores = topk(Y[candidates], X[:5], 6, filter_query_items=liked, num_threads=1)
assert ids.shape == scores.shape == (5, 6) and ids.dtype == np.int32
again.item_factors = Y
again.user_factors = X
wanted = again.recommend(np.arange(5), matrix[:5], N=6, items=candidates)
np.testing.assert_array_equal(candidates[ids], wanted[0])
np.testing.assert_array_equal(scores, wanted[1])

generator = check_random_state(32)
assert isinstance(generator, np.random.Generator) and check_random_state(generator) is generator
np.testing.assert_array_equal(generator.random(3), np.random.default_rng(32).random(3))

warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="Method expects CSR input", category=implicit.utils.ParameterWarning)
als.fit(matrix.tocoo(), show_progress=False)
implicit.utils.check_blas_config()
""")


def test_a_pickle_made_by_implicit_says_how_to_carry_it_over(as_implicit, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        implicit = pytest.importorskip("implicit", reason="pickles one of its models, and it is not installed")
        models = [
            implicit.als.AlternatingLeastSquares(),
            implicit.bpr.BayesianPersonalizedRanking(),
            implicit.nearest_neighbours.BM25Recommender(),
        ]
    (tmp_path / "models").write_bytes(b"".join(map(pickle.dumps, models)))
    as_implicit(f"""
import pickle
with open({str(tmp_path / "models")!r}, "rb") as file:
    for _ in range({len(models)}):
        try:
            pickle.load(file)
        except implicit_core.recommender_base.ModelLoadError as error:
            assert "call model.save(path) there, and load that file" in str(error)
        else:
            raise AssertionError("it was read")
""")


@pytest.mark.skipif(importlib.util.find_spec("rectools") is None, reason="needs RecTools")
def test_the_wrappers_of_rectools_work(as_implicit):
    printed = as_implicit(
        """
import pandas as pd
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import ImplicitALSWrapperModel, ImplicitBPRWrapperModel, ImplicitItemKNNWrapperModel
import implicit.als, implicit.bpr, implicit.nearest_neighbours

table = pd.DataFrame({Columns.User: users, Columns.Item: items + 100})
table[[Columns.Weight, Columns.Datetime]] = 1.0, "2024-01-01"
colours = np.where(np.arange(40) % 2, "red", "blue")
side = pd.DataFrame({"id": np.arange(100, 140), "feature": "colour", "value": colours})
dataset = Dataset.construct(table)
with_features = Dataset.construct(table, item_features_df=side, cat_item_features=["colour"])
als = {"factors": 8, "iterations": 3, "random_state": 1}
wrappers = [
    (ImplicitALSWrapperModel(implicit.als.AlternatingLeastSquares(**als)), dataset),
    (ImplicitALSWrapperModel(implicit.als.AlternatingLeastSquares(**als), fit_features_together=False), with_features),
    (ImplicitALSWrapperModel(implicit.als.AlternatingLeastSquares(**als), fit_features_together=True), with_features),
    (ImplicitBPRWrapperModel(implicit.bpr.BayesianPersonalizedRanking(**als)), dataset),
    (ImplicitItemKNNWrapperModel(implicit.nearest_neighbours.TFIDFRecommender(K=5)), dataset),
]
some = np.arange(10)
for wrapper, data in wrappers:
    options = dict(users=some, dataset=data, k=4, filter_viewed=True)
    found = wrapper.fit(data).recommend(**options)
    assert len(found) == 40
    assert not set(zip(found[Columns.User], found[Columns.Item])) & set(zip(users, items + 100))
    assert type(wrapper).from_config(wrapper.get_config()).fit(data).recommend(**options).equals(found)
    assert type(wrapper).loads(wrapper.dumps()).recommend(**options).equals(found)
    chosen = wrapper.recommend(**options, items_to_recommend=np.arange(100, 140, 2))
    assert (chosen[Columns.Item] % 2 == 0).all()
    assert len(wrapper.recommend_to_items(target_items=[101, 102], dataset=data, k=3)) == 6
    print(type(wrapper).__name__)
wrappers[0][0].fit_partial(dataset, epochs=1)
""",
        "-W",
        "ignore",
    )
    assert len(printed) == 5
