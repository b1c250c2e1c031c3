"""Rows rounded to integers, by which batches of queries rule out most candidates: they must never lose one."""

import numpy as np
import pytest

from implicit_core.cpu import _topk
from implicit_core.cpu import kernels as cpu_kernels

CODE = 32767  # the norm of a row of codes

pytestmark = pytest.mark.skipif(not _topk.HAS_CODES, reason="no codes for this kind of processor")


@pytest.fixture(params=[np.float32, np.float64])
def dtype(request):
    return request.param


def prepared(Y: np.ndarray, cosine: bool):
    return cpu_kernels.prepare(Y, cosine=cosine, queries=10_000)


def assert_codes_lose_nothing(Q: np.ndarray, Y: np.ndarray, cosine: bool, k: int):
    index = prepared(Y, cosine)
    assert index.codes is not None
    expected = cpu_kernels.topk(Q, index._replace(codes=None), k)
    found = cpu_kernels.topk(Q, index, k)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


@pytest.mark.parametrize("factors", [1, 2, 5, 16, 33])
def test_codes_are_the_direction_of_a_row_rounded(dtype, factors):
    Y = np.random.default_rng(0).normal(size=(50, factors)).astype(dtype) * np.geomspace(1e-9, 1e9, 50)[:, None]
    Y = Y.astype(dtype)
    Y[7] = 0
    index = prepared(Y, cosine=True)
    panels, pairs, _ = index.codes.shape
    rows = index.codes.reshape(panels, pairs, -1, 2).transpose(0, 2, 1, 3).reshape(-1, 2 * pairs)
    norms = np.linalg.norm(Y.astype(np.float64), axis=1)
    norms[7] = 1
    np.testing.assert_allclose(rows[:50, :factors], CODE * (Y / norms[:, None]), atol=0.5001)
    assert not rows[:, factors:].any()
    assert not rows[50:].any()


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("factors", [1, 2, 3, 16, 33, 64])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_nothing_is_lost_by_codes(dtype, cosine, factors, k):
    rng = np.random.default_rng(1)
    Q = rng.normal(size=(100, factors)).astype(dtype)
    Y = (rng.normal(size=(3000, factors)) * rng.lognormal(size=(3000, 1))).astype(dtype)
    Y[5], Y[2900:] = 0, Y[:100]
    Q[3] = 0
    assert_codes_lose_nothing(Q, Y, cosine, k)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("spread", [1e-3, 1e-4, 1e-5, 1e-6])
def test_candidates_that_codes_cannot_tell_apart_are_told_apart(dtype, cosine, spread):
    rng = np.random.default_rng(2)
    center = rng.normal(size=33)
    Q = (center + spread * rng.normal(size=(96, 33))).astype(dtype)
    Y = (center + spread * rng.normal(size=(3000, 33))).astype(dtype)
    assert_codes_lose_nothing(Q, Y, cosine, 5)


def rounded_by(fraction: float, factors: int, start: int) -> np.ndarray:
    """Ones, but for a last factor that makes the codes of the others ``start`` and a fraction before rounding."""
    norm = CODE / (start + fraction)
    return np.append(np.ones(factors - 1), np.sqrt(norm**2 - (factors - 1)))


@pytest.mark.parametrize("cosine", [False, True])
def test_the_largest_error_of_codes_is_allowed_for(cosine):
    """All codes of the queries and of the best item are rounded down by half a unit, those of the others up."""
    start = int(CODE / 8) - 1
    Q = np.repeat(rounded_by(0.499, 64, start)[None], 16, axis=0)
    best, next_best = rounded_by(0.499, 64, start), rounded_by(-0.499, 64, start)
    poor = np.append(np.ones(63), 20.0)
    Y = np.vstack([np.repeat(next_best[None], 16, axis=0), np.repeat(poor[None], 64, axis=0), best[None]])
    Y /= np.linalg.norm(Y, axis=1)[:, None]
    Q /= np.linalg.norm(Q, axis=1)[:, None]
    if not cosine:
        Y[:-1] *= np.linspace(1 + 2e-15, 1 + 1e-15, len(Y) - 1)[:, None]  # so that the best comes last
    exact = Q[0] @ Y.T
    assert exact[-1] == exact.max() > exact[0] > exact[40]
    index = prepared(Y, cosine)
    rows = index.codes.reshape(len(index.codes), 32, -1, 2).transpose(0, 2, 1, 3).reshape(-1, 64).astype(np.int64)
    q = np.rint(CODE * Q[0]).astype(np.int64)
    assert rows[0] @ q - rows[80] @ q > 0.9 * CODE * 8  # nine tenths of the error that there can be
    ids, _ = cpu_kernels.topk(Q, index, 1)
    assert (ids == 80).all()


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("norm", [0, 1e-40, 1e-20, 1e-17, 1e17, 1e20, 1e35, np.inf, np.nan])
@pytest.mark.parametrize("which", ["items", "queries", "both"])
def test_rows_of_any_length_rank_as_they_do_without_codes(dtype, cosine, norm, which):
    rng = np.random.default_rng(3)
    Q, Y = rng.normal(size=(64, 8)).astype(dtype), rng.normal(size=(900, 8)).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if which != "items":
            Q[::3] *= dtype(norm)
        if which != "queries":
            Y[100::7] *= dtype(norm)
        index = prepared(Y, cosine)
        assert (index.codes is None) == (
            which != "queries" and norm != 0 and (dtype == np.float32 or norm != norm or norm == np.inf)
        )
        for k in (1, 10):
            expected = cpu_kernels.topk(Q, index._replace(codes=None), k)
            found = cpu_kernels.topk(Q, index, k)
            assert np.array_equal(found[0], expected[0])
            assert np.array_equal(found[1], expected[1], equal_nan=True)


@pytest.mark.parametrize("cosine", [False, True])
def test_codes_pay_no_heed_to_scores_below_zero(dtype, cosine):
    rng = np.random.default_rng(4)
    Q, Y = np.abs(rng.normal(size=(64, 8))).astype(dtype), -np.abs(rng.normal(size=(900, 8))).astype(dtype)
    assert_codes_lose_nothing(Q, Y, cosine, 10)


def test_candidates_that_codes_rule_out_are_not_scored(dtype):
    rng = np.random.default_rng(5)
    Q, Y = rng.normal(size=(64, 8)).astype(dtype), rng.normal(size=(3000, 8)).astype(dtype)
    index = prepared(Y, cosine=True)
    with_codes, without = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    cpu_kernels.topk(Q, index, 10, work=with_codes)
    cpu_kernels.topk(Q, index._replace(codes=None), 10, work=without)
    assert without.tolist() == [64 * 3000, 64 * 3000]
    assert with_codes[0] == 64 * 3000
    assert with_codes[1] < 0.5 * with_codes[0]


def test_excluded_candidates_do_not_count(dtype):
    rng = np.random.default_rng(6)
    Q, Y = rng.normal(size=(64, 8)).astype(dtype), rng.normal(size=(3000, 8)).astype(dtype)
    index = prepared(Y, cosine=False)
    drop = np.unique(cpu_kernels.topk(Q, index, 20)[0]).astype(np.int32)
    expected = cpu_kernels.topk(Q, index._replace(codes=None), 10, drop=drop)
    found = cpu_kernels.topk(Q, index, 10, drop=drop)
    assert not np.isin(found[0], drop).any()
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_other_instruction_sets_lose_nothing_either(isa, run_python):
    selection = "nothing_is_lost or told_apart or largest_error"
    result = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", selection, IMPLICIT_CORE_ISA=isa
    )
    assert result.returncode == 0, result.stdout
