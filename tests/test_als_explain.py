"""Explanations of alternating least squares."""

import numpy as np
import pytest
from als_cases import FACTORS, ITEMS, USERS, as_csr, confidence_and_preference, fitted
from als_cases import cells as cells
from als_cases import matrix as matrix
from scipy import sparse

from implicit_core.utils import ParameterWarning


@pytest.fixture
def explained(cells):
    return fitted(as_csr(cells), alpha=1.7, regularization=0.3, dtype=np.float64)


def test_the_total_of_an_explanation_is_the_recalculated_score(explained, cells, matrix, unmodified):
    scores = explained.recalculate_user(np.arange(USERS), matrix) @ explained.item_factors.T
    for user in range(USERS):
        for item in (0, 4, 17):
            with unmodified(matrix):
                total, contributions, _ = explained.explain(user, matrix, item, N=ITEMS)
            assert isinstance(total, float)
            assert total == pytest.approx(scores[user, item], abs=1e-11)
            assert sum(score for _, score in contributions) == pytest.approx(total, abs=1e-11)
            liked = np.flatnonzero(np.nan_to_num(cells[user]) > 0)
            assert sorted(item for item, _ in contributions) == liked.tolist()


def test_a_contribution_is_the_weighted_similarity_of_two_items(explained, cells, matrix):
    confidence, preference = confidence_and_preference(cells, 1.7)
    user, item, Y = np.argmax(preference.sum(axis=1)), 9, explained.item_factors
    A = Y.T @ (confidence[user][:, None] * Y) + 0.3 * np.eye(FACTORS)
    _, contributions, _ = explained.explain(user, matrix, item, N=ITEMS)
    assert len(contributions) > 2
    for liked, score in contributions:
        assert preference[user, liked]
        assert score == pytest.approx(confidence[user, liked] * Y[item] @ np.linalg.solve(A, Y[liked]), abs=1e-12)


def test_contributions_are_the_n_largest_in_descending_order(explained, matrix):
    total, every, _ = explained.explain(6, matrix, 9, N=ITEMS)
    assert [score for _, score in every] == sorted((score for _, score in every), reverse=True)
    for n in (0, 1, 2, 10):
        assert explained.explain(6, matrix, 9, N=n)[:2] == (total, every[:n])
    assert explained.explain(6, matrix, 9)[1] == every[:10]
    assert all(type(item) is int and type(score) is float for item, score in every)
    with pytest.raises(ValueError, match="N must be at least 0"):
        explained.explain(6, matrix, 9, N=-1)


def test_an_explanation_takes_the_full_matrix_or_the_row_of_the_user(explained, matrix, row_of):
    expected = explained.explain(6, matrix, 9)
    array = sparse.csr_array(matrix)
    for row in (matrix[6], array[[6]], row_of(array, 6), array):
        assert explained.explain(6, row, 9)[:2] == expected[:2]
    with pytest.raises(ValueError, match="one row per userid"):
        explained.explain(6, matrix[:5], 9)
    with pytest.warns(ParameterWarning, match=r"^Method expects CSR input"):
        assert explained.explain(6, matrix.tocoo(), 9)[:2] == expected[:2]


def test_user_weights_spare_the_work_of_a_second_explanation(explained, matrix):
    weights = explained.explain(6, matrix, 9)[2]
    fresh, reused = explained.explain(6, matrix, 3), explained.explain(6, matrix, 3, user_weights=weights)
    assert reused[:2] == fresh[:2]
    assert reused[2] is weights
    doubled = explained.explain(6, matrix, 3, user_weights=(weights[0] * np.sqrt(2), weights[1]))
    assert doubled[0] == pytest.approx(fresh[0] / 2)


def test_a_user_without_likes_has_nothing_to_explain(explained, matrix):
    total, contributions, _ = explained.explain(3, matrix, 9)
    assert total == 0
    assert contributions == []


@pytest.mark.parametrize(("user", "item"), [(0, -1), (0, ITEMS), (-1, 0)])
def test_unknown_ids_cannot_be_explained(explained, matrix, user, item):
    with pytest.raises(IndexError):
        explained.explain(user, matrix, item)


def test_explanations_of_float32_models_agree_with_their_recommendations(matrix):
    model = fitted(matrix)
    ids, scores = model.recommend(6, matrix[6], N=3, recalculate_user=True)
    for item, score in zip(ids, scores, strict=True):
        assert model.explain(6, matrix, item)[0] == pytest.approx(score, abs=1e-4)
