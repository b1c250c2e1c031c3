"""What every model promises, of models on the GPU: the tests of ``test_conformance.py`` with models of their own."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import implicit_core.gpu.als
import implicit_core.gpu.bpr
from implicit_core import gpu

_path = Path(__file__).parent.parent / "test_conformance.py"
_spec = importlib.util.spec_from_file_location("conformance_of_models", _path)
_suite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_suite)

ON_DEVICE = os.environ.get("IMPLICIT_CORE_FAKE_GPU") != "1" and gpu.HAS_CUDA
EVERYTHING = os.environ.get("IMPLICIT_CORE_GPU_TESTS") == "all"
GIVEN = {"factors": 8, "iterations": 5, "random_state": 3}
MODELS = {
    "als-float32": lambda **p: implicit_core.gpu.als.AlternatingLeastSquares(**{**GIVEN, **p}),
    "als-float16": lambda **p: implicit_core.gpu.als.AlternatingLeastSquares(**{**GIVEN, "dtype": np.float16, **p}),
    "bpr": lambda **p: implicit_core.gpu.bpr.BayesianPersonalizedRanking(**{**GIVEN, "learning_rate": 0.1, **p}),
}

#: what threads do, and arrays of NumPy; ``test_models.py`` has tests of factors as arrays of CuPy
OF_THE_CPU = {
    "test_the_number_of_threads_changes_no_bit",
    "test_the_scores_of_a_factorization_are_inner_products",
    "test_factors_of_any_layout_give_the_same_results",
}
#: what the stand-in does in seconds; a GPU does all
QUICK = {
    "test_results_have_n_columns_whatever_there_is_to_find",
    "test_a_negative_n_is_refused",
    "test_liked_items_come_last",
    "test_what_is_filtered_has_the_lowest_finite_score_and_padding_has_no_id",
    "test_scores_that_are_no_number_never_rank_above_others",
    "test_similar_candidates_are_padded_rather_than_cut",
    "test_repeated_candidates_stay_repeated",
    "test_candidates_and_filters_exclude_each_other",
    "test_candidates_must_be_known_ids",
    "test_filters_must_be_known_ids",
    "test_unknown_ids_are_index_errors",
    "test_what_is_no_id_is_an_index_error",
    "test_a_scalar_of_any_integer_type_gives_one_row",
    "test_an_empty_batch_gives_empty_results",
    "test_oneself_is_the_most_similar_with_score_one",
    "test_a_transposed_matrix_is_named_so",
    "test_a_column_that_the_model_does_not_know_is_refused",
    "test_factors_written_in_place_count_at_once",
    "test_a_deep_copy_shares_nothing",
    "test_an_unfitted_model_says_so",
    "test_file_objects_will_do",
    "test_an_unfitted_model_can_be_saved",
    "test_a_missing_file_is_not_found",
}
#: what it does in minutes, where everything is asked for
LONG = {
    "test_a_batch_of_similarities_is_its_members_bit_for_bit",
    "test_a_copy_gives_the_same_results_and_can_go_on",
    "test_a_loaded_model_can_be_recalculated_and_fitted_further",
    "test_the_same_seed_gives_the_same_model_and_another_seed_another",
    "test_the_callback_is_called_once_per_iteration",
}

for _name, _value in vars(_suite).items():
    _is_test = _name.startswith("test_")
    _chosen = ON_DEVICE or _name in QUICK or (EVERYTHING and _name in LONG)
    if not _name.startswith("_") and (not _is_test or (_chosen and _name not in OF_THE_CPU)):
        globals().setdefault(_name, _value)


@pytest.fixture(scope="module", params=[m for m in MODELS if ON_DEVICE or EVERYTHING or m != "als-float16"])
def name(request, cupy):
    return request.param


@pytest.fixture(scope="module")
def make(name):
    """Return a function that makes an unfitted model."""
    return MODELS[name]
