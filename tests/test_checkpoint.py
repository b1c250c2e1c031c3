"""Fits that are interrupted and go on from their checkpoint."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.recommender_base import ModelFitError, ModelLoadError

TRIALS = int(os.environ.get("IMPLICIT_CORE_TRIALS", "1"))
FAULTS = Path(__file__).parent / "faults"
COMMON = {"factors": 5, "iterations": 7, "random_state": 3}
MODELS = {
    "als": lambda **p: AlternatingLeastSquares(**{**COMMON, **p}),
    "als-exact-float64": lambda **p: AlternatingLeastSquares(**{**COMMON, "use_cg": False, "dtype": np.float64, **p}),
    "als-unobserved-weight": lambda **p: AlternatingLeastSquares(
        **{**COMMON, "unobserved_weight": 0.1, "init_scale": 0.1, **p}
    ),
    "bpr": lambda **p: BayesianPersonalizedRanking(**{**COMMON, "learning_rate": 0.1, **p}),
    "bpr-float64": lambda **p: BayesianPersonalizedRanking(**{**COMMON, "dtype": np.float64, **p}),
    "lmf": lambda **p: LogisticMatrixFactorization(**{**COMMON, **p}),
    "lmf-float64": lambda **p: LogisticMatrixFactorization(**{**COMMON, "dtype": np.float64, **p}),
}
SEEDS = {
    "int": lambda: 3,
    "huge int": lambda: 2**90,
    "none": lambda: None,
    "generator": lambda: np.random.default_rng(3),
    "mersenne twister": lambda: np.random.Generator(np.random.MT19937(3)),
    "legacy": lambda: np.random.RandomState(3),
    "sequence": lambda: np.random.SeedSequence(3),
    "bit generator": lambda: np.random.PCG64DXSM(3),
}


class Interruption(Exception):
    """Stands for the end of the process."""


@pytest.fixture(params=MODELS)
def make(request):
    return MODELS[request.param]


@pytest.fixture
def matrix():
    random = np.random.default_rng(0)
    values = random.integers(1, 6, size=(40, 30)) * (random.random((40, 30)) < 0.2)
    values[:, [4, 9]] = 0
    return sparse.csr_matrix(values, dtype=np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.npz"


def after(iterations):
    """A callback that interrupts a fit in an iteration."""

    def callback(iteration, *_):
        if iteration == iterations:
            raise Interruption

    return callback


def interrupted(model, matrix, path, iterations, every=1):
    with pytest.raises(Interruption):
        model.fit(matrix, False, after(iterations), checkpoint=path, checkpoint_every=every)
    return model


def fitted(model, matrix, **options):
    model.fit(matrix, show_progress=False, **options)
    return model


def assert_same_factors(model, other):
    for side in ("user_factors", "item_factors"):
        mine, wanted = getattr(model, side), getattr(other, side)
        assert mine.dtype == wanted.dtype
        np.testing.assert_array_equal(mine, wanted)


def test_a_checkpoint_changes_nothing_of_a_fit(make, matrix, path):
    seen = []
    model = fitted(make(), matrix, checkpoint=path, callback=lambda iteration, *_: seen.append(iteration))
    assert_same_factors(model, fitted(make(), matrix))
    assert seen == list(range(7))
    assert os.listdir(path.parent) == ["fit.npz"]  # noqa: PTH208


@pytest.mark.parametrize(("stop", "every", "again"), [(1, 1, 1), (4, 1, 4), (6, 1, 6), (5, 3, 3), (6, 4, 4)])
def test_an_interrupted_fit_goes_on_to_the_same_bits(make, matrix, path, stop, every, again):
    interrupted(make(), matrix, path, stop, every)
    seen = []
    model = fitted(
        make(num_threads=2), matrix, checkpoint=str(path), callback=lambda iteration, *_: seen.append(iteration)
    )
    assert seen == list(range(again, 7))
    assert_same_factors(model, fitted(make(), matrix))


def test_a_fit_may_be_interrupted_over_and_over(make, matrix, path):
    for stop in range(1, 7):
        interrupted(make(), matrix, path, stop)
    assert_same_factors(fitted(make(), matrix, checkpoint=path), fitted(make(), matrix))


@pytest.mark.parametrize(("stop", "every"), [(0, 1), (2, 3)])
@pytest.mark.parametrize("same_model", [True, False])
def test_before_the_first_write_of_an_iteration_a_fit_starts_anew(make, matrix, path, stop, every, same_model):
    """The same model has factors that an iteration has changed, which must not count."""
    model = interrupted(make(), matrix, path, stop, every)
    again = fitted(model if same_model else make(), matrix, checkpoint=path)
    assert_same_factors(again, fitted(make(), matrix))


@pytest.mark.parametrize("seed", ["int", "generator"])
@pytest.mark.parametrize("name", ["als", "bpr", "lmf"])
def test_an_interrupt_while_the_start_is_written_leaves_the_model_as_it_was(name, matrix, path, seed, monkeypatch):
    expected = fitted(MODELS[name](random_state=SEEDS[seed]()), matrix)
    model = MODELS[name](random_state=SEEDS[seed]())

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.fit(matrix, show_progress=False, checkpoint=path)
    assert model.user_factors is None
    assert model.item_factors is None
    assert list(path.parent.iterdir()) == []
    assert_same_factors(fitted(model, matrix, checkpoint=path), expected)


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("name", ["als", "bpr", "lmf"])
def test_a_fit_goes_on_with_any_kind_of_seed(name, matrix, path, kind):
    seed, others = SEEDS[kind](), SEEDS[kind]()
    interrupted(MODELS[name](random_state=seed), matrix, path, 3)
    expected = fitted(MODELS[name](random_state=others), matrix)
    new = SEEDS[kind]()
    model = fitted(MODELS[name](random_state=new), matrix, checkpoint=path)
    if kind != "none":
        assert_same_factors(model, expected)
    if kind in ("generator", "mersenne twister", "legacy"):  # which another use finds where it would have been
        assert new.random() == others.random()


@pytest.mark.parametrize("name", ["als", "bpr", "lmf"])
def test_without_a_seed_a_fit_goes_on_from_its_own_start(name, matrix, path):
    """An interrupted and a finished fit from the same unknown seed: the checkpoint is copied in between."""
    copies = []

    def copy(iteration, *_):
        if iteration == 3:
            copies.append(path.read_bytes())

    expected = fitted(MODELS[name](random_state=None), matrix, checkpoint=path, callback=copy)
    path.write_bytes(copies[0])
    assert_same_factors(fitted(MODELS[name](random_state=None), matrix, checkpoint=path), expected)


def test_the_same_model_goes_on_from_its_checkpoint_too(make, matrix, path):
    model = interrupted(make(), matrix, path, 4)
    assert_same_factors(fitted(model, matrix, checkpoint=path), fitted(make(), matrix))


def test_a_model_with_factors_goes_on_from_them_and_then_from_the_checkpoint(make, matrix, path):
    def start():
        return fitted(make(iterations=2), matrix).set_params(iterations=7)

    interrupted(start(), matrix, path, 4)
    assert_same_factors(fitted(make(), matrix, checkpoint=path), fitted(start(), matrix))


def test_what_a_callback_writes_into_the_factors_is_in_the_checkpoint(make, matrix, path):
    def halve(model, stop=None):
        def callback(iteration, *_):
            if iteration == 2:
                model.item_factors *= np.float32(0.5)
            if iteration == stop:
                raise Interruption

        return callback

    first = make()
    with pytest.raises(Interruption):
        first.fit(matrix, False, halve(first, 4), checkpoint=path)
    expected = make()
    expected.fit(matrix, False, halve(expected))
    assert_same_factors(fitted(make(), matrix, checkpoint=path), expected)


def test_a_finished_fit_gives_the_same_model_again_without_work(make, matrix, path):
    expected = fitted(make(), matrix, checkpoint=path)
    before, seen = path.read_bytes(), []
    model = fitted(make(), matrix, checkpoint=path, callback=lambda *_: seen.append(1))
    assert_same_factors(model, expected)
    assert seen == []
    assert path.read_bytes() == before


def test_a_finished_fit_can_be_given_more_iterations(make, matrix, path):
    fitted(make(iterations=4), matrix, checkpoint=path)
    assert_same_factors(fitted(make(), matrix, checkpoint=path), fitted(make(), matrix))


def test_the_progress_bar_starts_where_the_fit_does(matrix, path, capsys):
    interrupted(MODELS["als"](), matrix, path, 4)
    MODELS["als"]().fit(matrix, checkpoint=path)
    shown = capsys.readouterr().err
    assert "4/7" in shown
    assert "7/7" in shown
    assert "0/7" not in shown


# Other fits

DIFFERENT = [
    ("als", {"factors": 6}, "factors was 5 and is 6"),
    ("als", {"regularization": 0.5}, "regularization was 0.01 and is 0.5"),
    ("als", {"alpha": 2.0}, "alpha was 1.0 and is 2.0"),
    ("als", {"use_cg": False}, "use_cg was True and is False"),
    ("als", {"use_native": False}, "use_native was True and is False"),
    ("als", {"cg_steps": 2}, "cg_steps was 3 and is 2"),
    ("als", {"unobserved_weight": 0.5}, "unobserved_weight was None and is 0.5"),
    ("als", {"regularization_exponent": 1.0}, "regularization_exponent was 0.0 and is 1.0"),
    ("als", {"init_scale": 1.0}, "init_scale was None and is 1.0"),
    ("als", {"dtype": np.float64}, "dtype was 'float32' and is 'float64'"),
    ("als", {"random_state": 4}, "random_state was 3 and is 4"),
    ("als", {"random_state": None}, "random_state was 3 and is None"),
    ("als", {"random_state": np.random.default_rng(3)}, "random_state was 3 and is 'a generator'"),
    ("bpr", {"learning_rate": 0.2}, "learning_rate was 0.1 and is 0.2"),
    ("bpr", {"verify_negative_samples": False}, "verify_negative_samples was True and is False"),
    ("bpr", {"deterministic": False}, "deterministic was True and is False"),
    ("lmf", {"neg_prop": 3}, "neg_prop was 30 and is 3"),
    ("lmf", {"factors": 4, "learning_rate": 0.5}, "factors was 5 and is 4; learning_rate was 1.0 and is 0.5"),
]


@pytest.mark.parametrize(("name", "parameters", "text"), DIFFERENT)
def test_other_parameters_are_refused_and_named(name, parameters, text, matrix, path):
    interrupted(MODELS[name](), matrix, path, 3)
    before = path.read_bytes()
    model = MODELS[name](**parameters)
    with pytest.raises(ValueError, match=f"is of another fit: .*{text}.*to start anew, delete the file"):
        model.fit(matrix, show_progress=False, checkpoint=path)
    assert model.user_factors is None
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m[:39], r"shape of user_items was \[40, 30\] and is \[39, 30\]"),
        (lambda m: m.T.tocsr(), r"shape of user_items was \[40, 30\] and is \[30, 40\]"),
        (lambda m: m * np.float32(2), "content of user_items was '"),
        (lambda m: sparse.csr_matrix(m.toarray()[::-1]), "content of user_items was '"),
    ],
)
def test_another_matrix_is_refused_and_what_differs_is_named(make, matrix, path, change, text):
    interrupted(make(), matrix, path, 3)
    with pytest.raises(ValueError, match=text):
        make().fit(change(matrix), show_progress=False, checkpoint=path)


def test_values_of_another_type_are_another_matrix(matrix, path):
    interrupted(MODELS["als"](), matrix, path, 3)
    with pytest.raises(ValueError, match="type of user_items was 'float32' and is 'float64'"):
        MODELS["als"]().fit(matrix.astype(np.float64), show_progress=False, checkpoint=path)


def test_the_same_entries_in_another_form_are_the_same_matrix(make, matrix, path):
    interrupted(make(), matrix, path, 3)
    order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)])
    other = sparse.csr_array(
        (matrix.data[order], matrix.indices[order].astype(np.int64), matrix.indptr.astype(np.int64)), shape=matrix.shape
    )
    assert_same_factors(fitted(make(), other, checkpoint=path), fitted(make(), matrix))


def test_another_kind_of_model_is_refused(matrix, path):
    interrupted(MODELS["bpr"](), matrix, path, 3)
    with pytest.raises(ValueError, match="class was 'BayesianPersonalizedRanking' and is 'AlternatingLeastSquares'"):
        MODELS["als"]().fit(matrix, show_progress=False, checkpoint=path)


def test_another_kind_of_generator_is_refused(matrix, path):
    interrupted(MODELS["bpr"](random_state=np.random.default_rng(1)), matrix, path, 3)
    with pytest.raises(ValueError, match="random_state was over PCG64 and is over Philox"):
        fitted(MODELS["bpr"](random_state=np.random.Generator(np.random.Philox(1))), matrix, checkpoint=path)


def test_fewer_iterations_than_are_done_are_refused(make, matrix, path):
    interrupted(make(), matrix, path, 5)
    with pytest.raises(ValueError, match="after 5 iterations, more than iterations=4"):
        make(iterations=4).fit(matrix, show_progress=False, checkpoint=path)


def test_a_model_is_not_written_over(make, matrix, path):
    fitted(MODELS["als"](), matrix).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="checkpoint must name a file that fit wrote or that is not there yet, got"):
        make().fit(matrix, show_progress=False, checkpoint=path)
    assert path.read_bytes() == before


# Files


@pytest.mark.parametrize(("checkpoint", "error"), [(io.BytesIO(), TypeError), (3, TypeError), (True, TypeError)])
def test_a_checkpoint_must_be_a_path(make, matrix, checkpoint, error):
    with pytest.raises(error, match="checkpoint must be the path of a file, got"):
        make().fit(matrix, show_progress=False, checkpoint=checkpoint)


@pytest.mark.parametrize(("every", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (None, TypeError)])
def test_the_interval_must_be_a_positive_number_of_iterations(make, matrix, path, every, error):
    for checkpoint in (path, None):
        with pytest.raises(error, match="checkpoint_every must be"):
            make().fit(matrix, show_progress=False, checkpoint=checkpoint, checkpoint_every=every)


def test_a_folder_that_cannot_be_written_to_is_an_error_before_the_first_iteration(make, matrix, tmp_path):
    seen = []
    with pytest.raises(FileNotFoundError):
        make().fit(matrix, False, lambda *_: seen.append(1), checkpoint=tmp_path / "no such folder" / "fit")
    assert seen == []


def test_the_suffix_is_added_and_what_killed_writes_left_is_removed(make, matrix, tmp_path):
    for name in (".fit.npz.0123abcd.part", ".other.npz.0123abcd.part", "fit.npz.part"):
        (tmp_path / name).write_bytes(b"half")
    fitted(make(), matrix, checkpoint=tmp_path / "fit")
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == [".other.npz.0123abcd.part", "fit.npz", "fit.npz.part"]


def entries_of(path):
    with np.load(path) as members:
        return dict(members)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entries: {"checkpoint": "no json"},
        lambda entries: {"checkpoint": "[" * 100_000},
        lambda entries: {"checkpoint": "{}"},
        lambda entries: {"checkpoint": np.ones(3)},
        *(
            lambda entries, change=change: {
                "checkpoint": json.dumps({**json.loads(entries["checkpoint"].item()), **change})
            }
            for change in (
                {"iterations": -1}, {"iterations": "3"}, {"iterations": None}, {"fit": 3},
                {"random": None}, {"random": "nonsense"}, {"random": 7}, {"random": '{"seed": 3}'},
            )
        ),
        lambda entries: {"user_factors": entries["user_factors"][:5]},
        lambda entries: {"item_factors": entries["item_factors"].astype(np.float16)},
        lambda entries: {"item_factors": np.full_like(entries["item_factors"], np.nan)},
        lambda entries: {"user_factors": 3},
        lambda entries: {"user_factors": None},
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_refused_and_the_model_stays_as_it_was(make, matrix, path, damage):
    interrupted(make(), matrix, path, 3)
    entries = entries_of(path)
    entries.update(damage(entries))
    np.savez(path, **{name: value for name, value in entries.items() if value is not None})
    model = make()
    with pytest.raises(ModelLoadError):
        model.fit(matrix, show_progress=False, checkpoint=path)
    assert model.user_factors is model.item_factors is None


@pytest.mark.parametrize("bad", [None, np.nan, np.ones((40, 3))])
def test_the_sums_of_the_optimiser_are_checked_too(matrix, path, bad):
    interrupted(MODELS["lmf"](), matrix, path, 3)
    entries = entries_of(path)
    if isinstance(bad, float):
        bad = np.full_like(entries["user_squares"], bad)
    np.savez(path, **{name: value for name, value in {**entries, "user_squares": bad}.items() if value is not None})
    with pytest.raises(ModelLoadError, match="user_squares"):
        MODELS["lmf"]().fit(matrix, show_progress=False, checkpoint=path)


def test_factors_that_are_not_finite_do_not_replace_those_that_are(make, matrix, path):
    model, before = make(), []

    def spoil(iteration, *_):
        if iteration == 3:
            before.append(path.read_bytes())
            model.item_factors[2, 1] = np.nan

    with pytest.raises(ModelFitError, match="item_factors must be finite"):
        model.fit(matrix, False, spoil, checkpoint=path)
    assert path.read_bytes() == before[0]
    assert_same_factors(fitted(make(), matrix, checkpoint=path), fitted(make(), matrix))


def test_a_write_that_fails_ends_the_fit_and_leaves_the_last_state(make, matrix, path, monkeypatch):
    write, calls = np.lib.format.write_array, []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) > 40:
            raise OSError("disk full")
        write(*args, **kwargs)

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        make().fit(matrix, show_progress=False, checkpoint=path)
    monkeypatch.undo()
    assert [entry.name for entry in path.parent.iterdir()] == ["fit.npz"]
    assert_same_factors(fitted(make(), matrix, checkpoint=path), fitted(make(), matrix))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("seed", range(TRIALS))
def test_a_fit_that_is_killed_at_random_moments_ends_with_the_same_bits(run_python, seed):
    result = run_python(str(FAULTS / "kill_fit.py"), "7", str(seed))
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    assert counts["killed"] >= 3 * 7
    for kind in (AlternatingLeastSquares, BayesianPersonalizedRanking, LogisticMatrixFactorization):
        assert counts[f"{kind.__name__} ended"] > 0
