"""Models that others derive from the base classes."""

import numpy as np
import pytest
from scipy import sparse

from implicit_core.cpu.matrix_factorization_base import MatrixFactorizationBase
from implicit_core.recommender_base import ModelFitError, RecommenderBase


class Popular(RecommenderBase):
    """As one would write it for implicit: the five abstract methods, and no others."""

    def __init__(self):
        self.scores = None

    def fit(self, user_items, show_progress=True, callback=None):
        self.scores = np.asarray(user_items.sum(axis=0)).ravel()

    def recommend(self, userid, user_items, N=10, **rest):
        ids = np.argsort(-self.scores)[:N]
        return ids, self.scores[ids]

    def similar_users(self, userid, N=10, **rest):
        raise NotImplementedError

    def similar_items(self, itemid, N=10, **rest):
        raise NotImplementedError

    def save(self, fileobj_or_path):
        np.savez(fileobj_or_path, scores=self.scores)


def test_a_recommender_written_for_implicit_needs_the_five_methods_only(tmp_path):
    model = Popular()
    model.fit(sparse.csr_matrix([[1, 0, 3], [0, 0, 1]]))
    model.save(tmp_path / "model.npz")
    assert Popular.load(tmp_path / "model.npz").recommend(0, None, N=2)[0].tolist() == [2, 0]


class Svd(MatrixFactorizationBase):
    """A model of factors as one would write it for implicit."""

    def fit(self, user_items, show_progress=True, callback=None):
        u, s, v = np.linalg.svd(user_items.toarray())
        self.user_factors, self.item_factors = u[:, :2] * s[:2], np.ascontiguousarray(v[:2].T)
        self._check_fit_errors()

    def save(self, fileobj_or_path):
        np.savez(fileobj_or_path, user_factors=self.user_factors, item_factors=self.item_factors)


def test_a_model_of_factors_written_for_implicit_finds_what_it_builds_on(tmp_path):
    model = Svd()
    model.fit(sparse.random(8, 6, 0.6, random_state=0, format="csr"))
    assert np.array_equal(model._user_factor(3, None), model.user_factors[3])
    assert np.array_equal(model._item_factor([1, 4], None), model.item_factors[[1, 4]])
    with pytest.raises(IndexError, match="userid"):
        model._user_factor(8, None)
    with pytest.raises(NotImplementedError):
        model._user_factor(3, sparse.csr_matrix((1, 6)), recalculate_user=True)
    with pytest.raises(NotImplementedError):
        model._item_factor(3, sparse.csr_matrix((1, 8)), recalculate_item=True)
    for filtered in (None, [2, 0]):
        found = model._get_similarity_score(
            model.item_factors[1], model.item_norms[1], model.item_factors, model.item_norms, 4, filtered
        )
        expected = model.similar_items(1, N=4, filter_items=filtered)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    model.save(tmp_path / "model.npz")
    assert np.array_equal(Svd.load(tmp_path / "model.npz").item_factors, model.item_factors)
    model.item_factors[2, 1] = np.nan
    with pytest.raises(ModelFitError, match="item_factors"):
        model._check_fit_errors()
