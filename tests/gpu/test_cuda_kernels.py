"""The CUDA kernels compute what the array programs define and the CPU's kernels compute, under all checks."""

import emulator
import launches
import numpy as np
import pytest
from emulator import Checks
from launches import EVERYTHING, Launcher, relative_error

from implicit_core import _arrays
from implicit_core._typing import Policy
from implicit_core.cpu import kernels as cpu
from implicit_core.gpu._sources import source

pytestmark = pytest.mark.skipif(bool(emulator.missing()), reason=emulator.missing())

CLOSE = {False: 3e-6, True: 6e-4}  # by half: rounding to float16 alone makes up to 2^-11
SCHEDULES = [Checks(), Checks(order="descending"), Checks(order="random", seed=7)]
OBSERVED = Policy(0.7, observed=True)


def shapes(*factors, few=()):
    """(factors, half, arch): all of them on all architectures, or some on two."""
    archs = launches.architectures()
    chosen = [(f, half, arch) for f in factors for half in (False, True) for arch in archs]
    if EVERYTHING:
        return chosen
    return [(f, half, archs[-1 if half else 0]) for f in few or factors for half in (False, True)]


@pytest.mark.parametrize(("factors", "half", "arch"), shapes(1, 8, 16, 37, 64, 100, 128, 150, 200, few=(37, 150)))
class TestLeastSquares:
    def test_equals_the_definition_in_double_precision(self, factors, half, arch):
        given = launches.problem(factors, half)
        launch = Launcher(factors, half, arch)
        found = launch.als_cg(given)
        assert launch.errors == []
        assert relative_error(found, given.solved(_arrays, 3, np.float64)) < CLOSE[half]
        assert relative_error(found, given.solved(cpu, 3, np.float32)) < CLOSE[half]

    def test_has_the_same_bits_under_any_schedule_and_launch(self, factors, half, arch):
        given = launches.problem(factors, half)
        expected = Launcher(factors, half, arch).als_cg(given)
        for checks, warps, grid in zip(SCHEDULES, (1, 2, 8), (3, 70, 1), strict=True):
            launch = Launcher(factors, half, arch, checks=checks)
            np.testing.assert_array_equal(launch.als_cg(given, warps=warps, grid=grid), expected)
            assert launch.errors == []

    def test_rows_kept_in_shared_memory_change_nothing(self, factors, half, arch):
        given = launches.problem(factors, half)
        expected = Launcher(factors, half, arch).als_cg(given, kept=0)
        for kept in (1, 7, 50):
            launch = Launcher(factors, half, arch)
            np.testing.assert_array_equal(launch.als_cg(given, kept=kept, warps=2), expected)
            assert launch.errors == []

    def test_the_split_form_equals_the_definition(self, factors, half, arch):
        given = launches.problem(factors, half)
        expected = given.solved(_arrays, 3, np.float64)
        expected[np.diff(given.counts.indptr) == 0] = given.X[np.diff(given.counts.indptr) == 0]
        launch = Launcher(factors, half, arch)
        found = launch.als_split(given)
        assert relative_error(found, expected) < CLOSE[half]
        other = Launcher(factors, half, arch, checks=SCHEDULES[2])
        np.testing.assert_array_equal(other.als_split(given, warps=1, grid=70), found)
        assert launch.errors == other.errors == []

    def test_the_loss_equals_the_definition(self, factors, half, arch):
        given = launches.problem(factors, half)
        expected = _arrays.stored_error(
            given.counts, given.X.astype(np.float64), given.Y.astype(np.float64), given.policy
        )
        for checks, chunk in zip(SCHEDULES, (3, 16, 100), strict=True):
            launch = Launcher(factors, half, arch, checks=checks)
            assert launch.stored_error(given, chunk=chunk) == pytest.approx(expected, rel=1e-6)
            assert launch.errors == []


@pytest.mark.parametrize(("factors", "half", "arch"), shapes(256, 300, 1024, 1100, 2100, few=(300, 1100)))
def test_the_split_form_takes_any_number_of_factors(factors, half, arch):
    given = launches.problem(factors, half, users=12, items=20)
    expected = given.solved(_arrays, 3, np.float64)
    expected[[0, 3]] = given.X[[0, 3]]
    launch = Launcher(factors, half, arch)
    error = relative_error(launch.als_split(given, chunk=8), expected)
    assert error < CLOSE[half] + 10 * launches.error_of_float32(given, 3)
    assert launch.errors == []


@pytest.mark.parametrize("solve", ["als_cg", "als_split"])
class TestSystems:
    FACTORS = 37

    def check(self, solve, given, steps):
        launch = Launcher(self.FACTORS)
        expected = given.solved(_arrays, steps, np.float64)
        if solve == "als_split":
            empty = np.diff(given.counts.indptr) == 0
            expected[empty] = given.X[empty]
        found = getattr(launch, solve)(given, steps=steps)
        assert launch.errors == []
        assert relative_error(found, expected) < CLOSE[False] + 3 * launches.error_of_float32(given, steps)
        return found

    def test_where_only_stored_cells_weigh(self, solve):
        self.check(solve, launches.problem(self.FACTORS, policy=OBSERVED), 3)

    @pytest.mark.parametrize("steps", [0, 1, 5])
    def test_any_number_of_steps(self, solve, steps):
        self.check(solve, launches.problem(self.FACTORS), steps)

    def test_as_many_steps_as_factors_solve_exactly(self, solve):
        given = launches.problem(self.FACTORS)
        found = self.check(solve, given, self.FACTORS)
        rows = np.diff(given.counts.indptr) > 0
        assert relative_error(found[rows], given.solved(_arrays, None, np.float64)[rows]) < 1e-4

    def test_what_is_solved_exactly_says_how_far(self, solve):
        given = launches.problem(self.FACTORS)
        given.X[:] = 0
        left = np.full(len(given.X), np.nan, np.float32)
        launch = Launcher(self.FACTORS, exact=True)
        found = getattr(launch, solve)(given, steps=3 * self.FACTORS, left=left)
        assert launch.errors == []
        rows = np.diff(given.counts.indptr) > 0
        assert relative_error(found[rows], given.solved(_arrays, None, np.float64)[rows]) < 1e-5
        assert (left[rows] < 1e-12).all()
        getattr(launch, solve)(given, steps=2, left=left)
        assert (left[rows] > 1e-12).any()

    def test_a_solved_row_stays_as_it_is(self, solve):
        given = launches.problem(self.FACTORS)
        given.Y[...] = 0
        given.gram[...] = 0
        given.X[:] = 0
        found = getattr(Launcher(self.FACTORS), solve)(given)
        assert not found.any()

    def test_a_ridge_for_each_row(self, solve):
        given = launches.problem(self.FACTORS)
        given.diag[1] = 1e6
        found = self.check(solve, given, 3)
        assert np.abs(found[1]).max() < 1e-3

    def test_entries_and_factors_without_rows(self, solve):
        given = launches.problem(self.FACTORS, items=1, users=5)
        self.check(solve, given, 3)


def test_only_the_rows_asked_for_are_solved():
    given = launches.problem(16)
    found = Launcher(16).als_cg(given, rows=[5, 2, 0])
    others = np.setdiff1d(np.arange(60), [5, 2, 0])
    np.testing.assert_array_equal(found[others], given.X[others])
    np.testing.assert_array_equal(found[[5, 2, 0]], Launcher(16).als_cg(given)[[5, 2, 0]])
    np.testing.assert_array_equal(Launcher(16).als_cg(given, rows=[]), given.X)


@pytest.mark.parametrize(("factors", "half", "arch"), shapes(1, 8, 37, 64, 100, 130, few=(37, 100)))
class TestProducts:
    def test_gram(self, factors, half, arch):
        Y = launches.problem(factors, half, items=150).Y
        expected = np.triu(_arrays.gram(Y))
        for rows, slice_ in ((150, 64), (150, 150), (33, 16), (1, 5)):
            launch = Launcher(factors, half, arch, checks=SCHEDULES[rows % 3])
            found = launch.gram(Y[:rows], slice_)
            assert launch.errors == []
            expected = np.triu(_arrays.gram(Y[:rows]))
            assert relative_error(found, expected) < 1e-6

    def test_scores(self, factors, half, arch):
        random = np.random.default_rng(factors)
        A = random.standard_normal((70, factors)).astype(np.float32)
        B = random.standard_normal((131, factors)).astype(np.float16 if half else np.float32)
        launch = Launcher(factors, half, arch, checks=SCHEDULES[factors % 3])
        found = launch.product(A, B)
        np.testing.assert_allclose(found, A.astype(np.float64) @ B.T.astype(np.float64), atol=2e-6 * factors + 1e-6)
        ids = random.permutation(131)[:66].astype(np.int32)
        np.testing.assert_array_equal(launch.product(A, B, ids), found[:, ids])
        np.testing.assert_array_equal(launch.product(A[69:], B, ids[:1]), found[69:, ids[:1]])
        assert launch.errors == []


@pytest.mark.parametrize("arch", launches.architectures())
class TestTopk:
    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize(
        ("n", "k", "parts"),
        [
            (1, 1, 1),
            (5, 3, 1),
            (50, 100, 1),
            (1024, 10, 1),
            (3000, 10, 1),
            (3000, 10, 5),
            (2500, 1024, 2),
            (5000, 1500, 3),
        ],
    )
    def test_equals_a_sort(self, n, k, parts, plain, arch):
        case = launches.ranking(n, plain=plain)
        launch = Launcher(arch=arch, checks=SCHEDULES[(n + parts) % 3])
        ids, scores = launch.topk(case, k, parts)
        assert launch.errors == []
        expected_ids, expected_scores = case.best(k)
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_array_equal(scores, expected_scores)

    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize(("n", "k"), [(1, 3), (700, 700), (700, 800)])
    def test_the_sort_of_keys_equals_a_sort(self, n, k, plain, arch):
        case = launches.ranking(n, plain=plain)
        launch = Launcher(arch=arch)
        ids, scores = launch.topk_by_sort(case, k)
        assert launch.errors == []
        np.testing.assert_array_equal(ids, case.best(k)[0])
        np.testing.assert_array_equal(scores, case.best(k)[1])

    def test_ascending_and_descending_scores(self, arch):
        for sign in (1, -1):
            case = launches.ranking(4000, plain=True)
            scores = sign * np.arange(8000, dtype=np.float32).reshape(2, 4000)
            case = launches.Ranking(launches.aligned(scores), 4000, None, None, None, case.drop)
            launch = Launcher(arch=arch)
            np.testing.assert_array_equal(launch.topk(case, 20)[0], case.best(20)[0])
            assert launch.errors == []


def bpr_problem(factors):
    given = launches.problem(factors, users=80, items=40)
    given.X[:, -1] = 1
    return given


@pytest.mark.parametrize("arch", launches.architectures() if EVERYTHING else launches.architectures()[:1])
@pytest.mark.parametrize("factors", [1, 17, 65, 101, 600] if EVERYTHING else [17, 101, 600])
class TestBPR:
    def test_a_warp_takes_the_steps_that_the_definition_draws(self, factors, arch):
        given = bpr_problem(factors)
        for first, verify in ((0, True), (2**33, False)):
            launch = Launcher(factors, arch=arch)
            X, Y, seen = launch.bpr(given, 1000, first, verify)
            assert launch.errors == []
            expected_X, expected_Y, expected_seen = launches.bpr_steps(given, 1000, first, verify, 0.05, 0.01)
            assert seen == expected_seen
            np.testing.assert_allclose(X, expected_X, atol=2e-6)
            np.testing.assert_allclose(Y, expected_Y, atol=2e-6)

    def test_warps_side_by_side_draw_the_same_and_lose_no_addition(self, factors, arch):
        given = bpr_problem(factors)
        rate = 1e-4  # so small that what one step does is nothing to another
        expected_X, expected_Y, expected_seen = launches.bpr_steps(given, 1000, 0, True, rate, 0.0)
        for checks in SCHEDULES:
            launch = Launcher(factors, arch=arch, checks=checks)
            X, Y, seen = launch.bpr(given, 1000, warps=4, grid=9, rates=(rate, 0.0))
            assert launch.errors == []
            assert seen[1] == expected_seen[1]
            assert abs(seen[0] - expected_seen[0]) <= 5
            assert (X[:, -1] == 1).all()
            np.testing.assert_allclose(X - given.X, expected_X - given.X, atol=3e-6)
            np.testing.assert_allclose(Y - given.Y, expected_Y - given.Y, atol=3e-5)

    def test_steps_from_the_same_factors_have_the_same_bits_in_any_order(self, factors, arch):
        given = bpr_problem(factors)
        expected_X, expected_Y = launches.bpr_runs(given, 300, 64, 0.05, 0.01)
        found = []
        for checks, warps, grid in zip(SCHEDULES, (1, 4, 2), (1, 9, 40), strict=True):
            launch = Launcher(factors, arch=arch, checks=checks)
            found.append(launch.bpr(given, 300, warps=warps, grid=grid, at_once=64))
            assert launch.errors == []
        for X, Y, seen in found:
            np.testing.assert_array_equal(X, found[0][0])
            np.testing.assert_array_equal(Y, found[0][1])
            assert seen == found[0][2]
            np.testing.assert_allclose(X, expected_X, atol=2e-6)
            np.testing.assert_allclose(Y, expected_Y, atol=2e-6)

    def test_what_diverges_does_not_become_finite_again(self, factors, arch):
        given = bpr_problem(factors)
        _, Y, _ = Launcher(factors, arch=arch).bpr(given, 100, rates=(1e30, 0.01), at_once=50)
        assert not np.isfinite(Y).all()


def test_on_a_gpu_the_same_launches_go_there(fake, monkeypatch):
    given, case, ranked = launches.problem(150), launches.ranking(2500), launches.problem(17, users=80, items=40)
    ranked.X[:, -1] = 1
    calls = (
        lambda: Launcher(150).als_cg(given),
        lambda: Launcher(150).als_split(given),
        lambda: Launcher().topk(case, 100, 2)[0],
        lambda: Launcher(17).bpr(ranked, 100, at_once=50)[1],
    )
    expected = [call() for call in calls]
    assert not fake.launches
    monkeypatch.setattr(launches, "ON_DEVICE", True)
    for call, wanted in zip(calls, expected, strict=True):
        np.testing.assert_array_equal(call(), wanted)
    assert {"als_cg", "als_chunks", "als_step", "topk_select", "topk_merge", "bpr"} <= set(fake.launches)


@pytest.mark.parametrize("file", sorted(set(launches.FILES.values())))
def test_the_emulator_knows_the_instructions_for_every_architecture(file):
    known = launches.architectures(compiled=True)
    for arch in known if EVERYTHING else {*known, *emulator.nvrtc.compiler().architectures()[-1:]}:
        options = "-DFACTORS=37", "-DHALF=0"
        assert emulator.ptx.Module(emulator.nvrtc.compiler().ptx(source(file), file, arch, options)).cpp()
