"""The generator of synthetic data."""

import os
import sys

import numpy as np
import pytest

from implicit_core.datasets.synthetic import lastfm_shaped, make_implicit


def assert_same(first, second):
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


def test_the_same_seed_gives_the_same_bits():
    assert_same(make_implicit(random_state=7), make_implicit(random_state=7))
    assert_same(make_implicit(random_state=7), make_implicit(random_state=np.random.default_rng(7)))


def test_another_seed_and_no_seed_give_other_data():
    first = make_implicit(random_state=7)
    for other in (8, None):
        assert (first != make_implicit(random_state=other)).nnz > 0


@pytest.mark.parametrize(
    ("users", "items", "entries"),
    [(1000, 500, 20_000), (3, 2000, 4000), (50, 7, 350), (50, 7, 349), (10, 10, 0), (10, 10, 3), (1, 1, 1)],
)
@pytest.mark.parametrize("options", [{"groups": 1}, {"groups": None, "affinity": 1.0}, {"popularity_exponent": 400}])
def test_shape_and_number_of_entries_are_exact_and_no_pair_repeats(users, items, entries, options):
    options = {"groups": min(items, 5), **options}
    options["groups"] = options["groups"] or min(items, 10)
    matrix = make_implicit(users, items, entries, random_state=0, **options)
    assert matrix.shape == (users, items)
    assert matrix.nnz == entries
    rows = np.repeat(np.arange(users), np.diff(matrix.indptr))
    keys = rows * items + matrix.indices
    assert (keys[1:] > keys[:-1]).all()
    assert matrix.indices.min(initial=0) >= 0
    assert matrix.indices.max(initial=0) < items


def test_every_user_has_an_entry_if_there_are_enough():
    lengths = np.diff(make_implicit(1000, 500, 1500, activity_sigma=3.0, random_state=0).indptr)
    assert lengths.min() >= 1
    assert lengths.sum() == 1500


def test_activity_sigma_spreads_the_users():
    even = np.diff(make_implicit(entries=20_300, activity_sigma=0, random_state=0).indptr)
    spread = np.diff(make_implicit(1000, 100_000, 200_000, activity_sigma=1, random_state=0).indptr)
    assert even.max() - even.min() <= 1
    assert np.log(spread).std() == pytest.approx(1, rel=0.1)


def test_users_choose_from_their_own_group_as_often_as_planted():
    affinity, groups = 0.7, 8
    matrix, user_groups, item_groups = make_implicit(
        2000, 4000, 60_000, groups=groups, affinity=affinity, popularity_offset=100, random_state=0, return_groups=True
    )
    assert user_groups.shape == (2000,)
    assert item_groups.shape == (4000,)
    assert np.bincount(user_groups).tolist() == [250] * groups
    assert np.bincount(item_groups).tolist() == [500] * groups
    rows = np.repeat(np.arange(2000), np.diff(matrix.indptr))
    share = (user_groups[rows] == item_groups[matrix.indices]).mean()
    # Repeated draws are replaced, so that the own group, where most of them fall, gets a little less.
    assert share == pytest.approx(affinity + (1 - affinity) / groups, abs=0.03)


def test_with_full_affinity_only_the_own_group_is_chosen():
    matrix, user_groups, item_groups = make_implicit(affinity=1.0, random_state=0, return_groups=True)
    rows = np.repeat(np.arange(1000), np.diff(matrix.indptr))
    left = np.diff(matrix.indptr) <= 50
    assert left.mean() > 0.9
    inside = (user_groups[rows] == item_groups[matrix.indices])[left[rows]]
    assert inside.all()


def test_without_affinity_groups_do_not_show():
    matrix, user_groups, item_groups = make_implicit(
        2000, 4000, 60_000, affinity=0.0, random_state=0, return_groups=True
    )
    rows = np.repeat(np.arange(2000), np.diff(matrix.indptr))
    assert (user_groups[rows] == item_groups[matrix.indices]).mean() == pytest.approx(0.1, abs=0.01)


def test_popularity_follows_the_law():
    users, items, offset = 20_000, 1000, 20
    matrix = make_implicit(
        users, items, 2 * users, groups=1, popularity_offset=offset, activity_sigma=0, random_state=0
    )
    seen = np.sort(np.bincount(matrix.indices, minlength=items))[::-1]
    law = 1 / (np.arange(1, items + 1) + offset)
    for ranks in (slice(0, 10), slice(10, 100), slice(100, 1000)):
        assert seen[ranks].sum() / seen.sum() == pytest.approx(law[ranks].sum() / law.sum(), rel=0.05)


def test_a_pair_of_items_is_as_likely_as_two_draws_without_repetition():
    users, items = 40_000, 5
    options = {"groups": 1, "popularity_offset": 0, "activity_sigma": 0}
    matrix = make_implicit(users, items, 2 * users, random_state=0, **options)
    pairs = matrix.indices.reshape(users, 2)
    weights = 1 / np.arange(1.0, items + 1)
    weights /= weights.sum()
    ordered = np.outer(weights, weights) / (1 - weights[:, None])
    expected = np.sort((ordered + ordered.T)[np.triu_indices(items, 1)])
    seen = np.sort(np.bincount(pairs @ [items, 1], minlength=items**2))[-len(expected) :]
    np.testing.assert_allclose(seen / users, expected, atol=0.01)


def test_a_user_who_has_the_whole_group_goes_on_by_popularity():
    users, items = 40_000, 5
    options = {"groups": items, "affinity": 1.0, "popularity_offset": 0, "activity_sigma": 0}
    matrix, user_groups, item_groups = make_implicit(
        users, items, 2 * users, random_state=0, return_groups=True, **options
    )
    own = np.argsort(item_groups)[user_groups]
    rows = np.repeat(np.arange(users), np.diff(matrix.indptr))
    assert (matrix[np.arange(users), own] > 0).all()
    others = np.bincount(matrix.indices[matrix.indices != own[rows]], minlength=items)
    weights = 1 / np.arange(1.0, items + 1)
    weights /= weights.sum()
    second = np.outer(1 / (1 - weights), weights) / items
    np.fill_diagonal(second, 0)
    np.testing.assert_allclose(np.sort(others) / users, np.sort(second.sum(0)), atol=0.01)


def test_ids_say_nothing_about_popularity_or_group():
    matrix, user_groups, item_groups = make_implicit(
        1000, 5000, 50_000, random_state=0, return_groups=True, activity_sigma=1
    )
    popularity = np.bincount(matrix.indices, minlength=5000)
    for values in (popularity, item_groups, np.diff(matrix.indptr), user_groups):
        assert abs(np.corrcoef(np.arange(len(values)), values)[0, 1]) < 0.1


def test_counts_are_whole_numbers_with_the_median_and_spread_asked_for():
    counts = make_implicit(count_median=50, count_sigma=1.5, random_state=0).data
    assert counts.dtype == np.float32
    assert counts.min() >= 1
    assert (counts == np.rint(counts)).all()
    assert np.median(counts) == pytest.approx(50, rel=0.05)
    assert np.log(counts).std() == pytest.approx(1.5, rel=0.05)
    assert (make_implicit(count_median=1, count_sigma=0, random_state=0).data == 1).all()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"users": 0}, "users and items must be"),
        ({"items": 0}, "users and items must be"),
        ({"entries": -1}, "entries"),
        ({"entries": 500_001}, "entries"),
        ({"groups": 0}, "groups"),
        ({"groups": 501}, "groups"),
        ({"affinity": 1.1}, "affinity"),
        ({"affinity": float("nan")}, "affinity"),
        ({"count_median": 0}, "count_median"),
        ({"count_sigma": -1}, "count_sigma"),
        ({"activity_sigma": float("inf")}, "activity_sigma"),
        ({"popularity_exponent": -1}, "popularity_exponent"),
        ({"popularity_offset": -1}, "popularity_offset"),
    ],
)
def test_a_parameter_out_of_range_is_refused(option, text):
    with pytest.raises(ValueError, match=text):
        make_implicit(**option)


def peak_bytes(call, run_python):
    """Return the highest memory use of a fresh process that runs `call`."""
    code = (
        f"from implicit_core.datasets.synthetic import *\n{call}\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps freed memory")
def test_memory_grows_by_little_more_than_the_result(run_python):
    small = peak_bytes("make_implicit(100_000, 50_000, 1_200_000, random_state=0)", run_python)
    large = peak_bytes("make_implicit(100_000, 50_000, 3_200_000, random_state=0)", run_python)
    assert large - small < 2_000_000 * 14


def test_lastfm_shaped_is_the_reference_workload(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "implicit_core.datasets.synthetic.make_implicit",
        lambda users, items, entries, **options: asked.update(options, size=(users, items, entries)),
    )
    lastfm_shaped()
    assert asked["size"] == (358_868, 292_385, 17_560_000)
    assert asked["groups"] == 1
    assert asked["popularity_offset"] == 30
    assert asked["random_state"] == 0
