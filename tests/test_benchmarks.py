"""The benchmarks run, compare what they say they compare, and write what they say they write."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import io, sparse

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path):
    """Run Python, which imports what this process imports, with a folder of workloads in a place of its own."""

    def run(*arguments, cwd=ROOT):
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        environment = {**os.environ, "PYTHONPATH": path, "IMPLICIT_CORE_BENCHMARKS": str(tmp_path / "workloads")}
        command = [sys.executable, "-W", "ignore", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def refused(run):
    """What a program says of arguments that it does not take."""

    def refused(*arguments):
        with pytest.raises(AssertionError, match="usage:") as error:
            run(*arguments)
        return str(error.value)

    return refused


@pytest.fixture
def matrix(tmp_path):
    """The path of a small matrix of users × items."""
    path = tmp_path / "small.npz"
    sparse.save_npz(path, sparse.random(120, 80, 0.1, format="csr", dtype=np.float32, random_state=0))
    return path


IRSPACK = importlib.util.find_spec("irspack") is not None
PEERS = ["implicit_core", *(["implicit"] if importlib.util.find_spec("implicit") else [])]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("Fit", ["factors=8", "iterations=2"]),
        ("Fit", ["factors=8"]),
        ("LossOverTime", ["factors=8", "goal=0.05"]),
        ("FitMemory", ["factors=8"]),
        ("Recommend", ["factors=8"]),
        ("RecommendOne", ["factors=8"]),
        ("SimilarItems", ["factors=8"]),
        ("Epochs", ["model=bpr", "factors=8", "epochs=2"]),
        ("Epochs", ["model=lmf", "factors=8", "epochs=2"]),
        ("Neighbours", ["step=fit"]),
        ("Neighbours", ["step=recommend"]),
        ("Metrics", ["factors=8"]),
        ("Call", ["path=nearest_neighbours.bm25_weight"]),
    ],
)
def test_each_task_runs_in_all_libraries_and_their_results_agree(run, matrix, tmp_path, task, options):
    where = ["--repeat", 1, "--json", tmp_path / "out.json"]
    run("-m", "benchmarks.compare", task, f"data={matrix}", *options, *where)
    (report,) = json.loads((tmp_path / "out.json").read_text())["reports"]
    others = {"irspack"} if task == "Fit" and IRSPACK else set()
    assert set(report["samples"]) == {*PEERS, *others}
    assert all(len(samples) == 1 and min(samples) > 0 for samples in report["samples"].values())
    for library, figures in report["agreement"].items():
        if figures:
            assert figures["equal ids"] > 0.9, library
            assert figures["score difference"] < 1e-5, library
    if task in ("Recommend", "RecommendOne", "SimilarItems"):
        shares = report["quality"]["implicit_core"]
        assert 0 < shares["scored"] <= shares["looked at"] <= 1
    if task in ("Fit", "Metrics", "Call", "Neighbours") and len(PEERS) == 2:
        mine, other = (list(report["quality"][library].values()) for library in PEERS)
        assert mine == pytest.approx(other, rel=1e-3)


def test_what_does_not_exist_is_refused(refused):
    assert "invalid choice: 'Nope'" in refused("-m", "benchmarks.compare", "Nope")
    libraries = "implicit_core,nosuch"
    assert "'nosuch' is not installed" in refused("-m", "benchmarks.compare", "Fit", "--libraries", libraries)
    assert "--only 'nosuch' matches none of the rows: als 64, " in refused("-m", "benchmarks", "--only", "nosuch")
    only_full = refused("-m", "benchmarks", "--only", "time to loss")
    assert "--only 'time to loss' matches none of the rows: but with --full time to loss" in only_full


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "benchmarks", "--only", "["], "'[' is no regular expression: "),
        (["-m", "benchmarks", "--data", "name"], "must be NAME=FILE.npz with a file that is there, got 'name'"),
        (["-m", "benchmarks", "--data", "name=nosuch.npz"], "must be NAME=FILE.npz with a file that is there"),
        (["-m", "benchmarks", "--repeat", "0"], "--repeat: must be at least 1, got 0"),
        (["-m", "benchmarks", "--threads", "0"], "--threads: must be at least 1, got 0"),
        (["-m", "benchmarks.compare", "Import", "--threads", "0"], "--threads: must be at least 1, got 0"),
        (["-m", "benchmarks.compare", "Import", "--repeat", "-1"], "--repeat: invalid choice: -1"),
        (["-m", "benchmarks.compare", "Recommend", "data=debian"], "missing a required argument: 'factors'"),
        (
            ["-m", "benchmarks.compare", "Fit", "data=debian", "factors=8", "alpha=2"],
            "unexpected keyword argument 'alpha'",
        ),
        (["-m", "benchmarks.plots"], "RESULTS.json, FOLDER"),
        (["benchmarks/quality.py", "--seeds", "0"], "--seeds must be at least 1, got 0"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(refused, arguments, message):
    assert message in refused(*arguments)


def test_a_peer_that_does_not_start_is_left_out(run, matrix, tmp_path, monkeypatch):
    (tmp_path / "stubs" / "pyspark").mkdir(parents=True)
    (tmp_path / "stubs" / "pyspark" / "__init__.py").touch()
    (tmp_path / "stubs" / "pyspark" / "sql.py").write_text("raise RuntimeError('JAVA_GATEWAY_EXITED')")
    monkeypatch.syspath_prepend(str(tmp_path / "stubs"))
    out = run("-m", "benchmarks.compare", "SparkFit", f"data={matrix}", "factors=8", "--repeat", 1)
    assert [line.split()[:2] for line in out.splitlines()] == [["SparkFit", "implicit_core"]]


def test_a_row_that_cannot_be_measured_does_not_end_the_suite(run, matrix, tmp_path):
    code = """
import sys
from unittest import mock
import benchmarks.__main__ as suite
from benchmarks.compare import OURS, Case
options = {"data": sys.argv[1], "factors": 8}
cases = [Case("bad", "Fit", options | {"objective": "zzz"}), Case("good", "Recommend", options, {}, (OURS,), repeat=1)]
sys.argv[1:] = ["--out", sys.argv[2]]
with mock.patch.object(suite, "all_cases", lambda full, data: cases):
    suite.main()
"""
    out = run("-c", code, matrix, tmp_path / "out")
    assert "good" in out
    assert "bad" not in out
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["reports"]) == 1


def test_models_of_files_are_kept_apart_and_fitted_again_where_a_file_changes(run, tmp_path):
    code = """
import sys
from pathlib import Path
import numpy as np
from scipy import sparse
from benchmarks.workloads import model_path
def write(path, seed):
    Path(path).parent.mkdir(exist_ok=True)
    sparse.save_npz(path, sparse.random(30, 20, 0.2, format="csr", random_state=seed))
def factors(path):
    with np.load(model_path(path, 4)) as file:
        return file["user_factors"]
one, two = f"{sys.argv[1]}/one/same.npz", f"{sys.argv[1]}/two/same.npz"
write(one, 0)
write(two, 1)
first = factors(one)
assert np.array_equal(first, factors(one))
assert not np.array_equal(first, factors(two))
write(one, 2)
assert not np.array_equal(first, factors(one))
"""
    run("-c", code, tmp_path)


def test_a_task_runs_without_ours(run, matrix):
    out = run("-m", "benchmarks.compare", "Import", "--repeat", "1", "--libraries", "implicit_core@2")
    assert len(out.splitlines()) == 1
    assert out.startswith("Import                            implicit_core@2")


def test_plots_are_drawn_into_a_new_folder(run, matrix, tmp_path):
    pytest.importorskip("matplotlib")
    results = tmp_path / "results.json"
    run("-m", "benchmarks.compare", "FitMemory", f"data={matrix}", "factors=8", "--repeat", "0", "--json", results)
    run("-m", "benchmarks.plots", results, tmp_path / "new" / "plots")
    assert (tmp_path / "new" / "plots").is_dir()


def test_a_library_is_compared_with_itself_on_another_number_of_threads(run, matrix, tmp_path):
    where = ["--libraries", "implicit_core,implicit_core@1", "--repeat", 1, "--json", tmp_path / "out.json"]
    run("-m", "benchmarks.compare", "Recommend", f"data={matrix}", "factors=8", *where)
    (report,) = json.loads((tmp_path / "out.json").read_text())["reports"]
    assert list(report["samples"]) == ["implicit_core", "implicit_core@1"]
    assert report["agreement"]["implicit_core@1"] == {"equal ids": 1, "score difference": 0}


def test_the_suite_writes_a_table_all_samples_and_plots(run, matrix, tmp_path):
    options = ["--data", f"small={matrix}", "--only", "recommend small", "--repeat", 1, "--out", tmp_path / "out"]
    stdout = run("-m", "benchmarks", *options)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.json", "table.txt"} <= written
    assert ("recommendations.svg" in written) == bool(importlib.util.find_spec("matplotlib"))
    assert "recommend small" in (tmp_path / "out" / "table.txt").read_text()
    assert "recommend small" in stdout


def test_the_script_of_implicit_keeps_its_flags(run, matrix, tmp_path):
    io.mmwrite(tmp_path / "small.mtx", sparse.load_npz(matrix))
    script = ROOT / "benchmarks" / "benchmark_als.py"
    graph = ["--graph"] if importlib.util.find_spec("matplotlib") else []
    run(script, "--input", "small.mtx", "--speed", "--loss", *graph, cwd=tmp_path)
    speed, loss = (json.loads((tmp_path / f"als_{name}.json").read_text()) for name in ("speed", "accuracy"))
    assert set(speed) >= {"cg2", "cg3", "cg4", "cholesky"}
    assert list(speed["cg3"]) == [str(factors) for factors in range(32, 257, 32)]
    assert all(len(losses) == 10 and losses[-1] < losses[0] for losses in loss.values())
    assert all((tmp_path / f"als_{name}.png").exists() for name in ("speed", "accuracy")) == bool(graph)


@pytest.mark.skipif("implicit" not in PEERS, reason="the loss to reach is that of implicit")
def test_the_time_to_the_loss_of_a_peer_has_a_curve_for_each_library(run, matrix):
    code = (
        "import sys, benchmarks.__main__ as suite; suite.BIG = sys.argv[1]; "
        "cases = [case for case in suite.losses(True) if suite.compare.installed(case.libraries[1])]; "
        "print(*(f'{case.name}: {sorted(suite.measure(case, 1).curves)}' for case in cases), sep='\\n')"
    )
    expected = ["time to loss: ['implicit', 'implicit_core']"]
    expected += ["time to irspack's loss: ['implicit_core', 'irspack']"] if IRSPACK else []
    assert run("-c", code, matrix).splitlines() == expected


@pytest.mark.skipif(not IRSPACK, reason="compared with irspack")
def test_ours_and_irspack_end_at_the_same_loss_of_irspack(run, matrix):
    code = """
import sys
from pytest import approx
from benchmarks.tasks import Fit
def fitted(library, objective):
    fit = Fit(library, 1, sys.argv[1], factors=4, exact=True, iterations=100, objective=objective)
    for _ in range(100):
        fit.run()
    return fit.quality()
ours, theirs = (fitted(library, "irspack") for library in ("implicit_core", "irspack"))
assert ours == {"loss after 100": approx(theirs["loss after 100"], rel=5e-3)}
assert fitted("irspack", "implicit") == {}
"""
    run("-c", code, matrix)


def test_the_loss_of_irspack_is_that_of_ours_with_unobserved_weight_1(run, matrix):
    code = """
import sys
from pytest import approx
from benchmarks.tasks import ALPHA, Fit
fit = Fit("implicit_core", 1, sys.argv[1], factors=8, objective="irspack")
fit.run()
fit.model.calculate_training_loss = True
seen = []
fit.model.fit(fit.counts, show_progress=False, callback=lambda *report: seen.append(report[2]))
fit.done = 2
assert fit.quality() == {"loss after 2": approx(seen[0], rel=1e-6)}
"""
    run("-c", code, matrix)


def test_blas_has_the_threads_that_a_task_asks_for(run):
    code = """
from unittest import mock
import pytest
from benchmarks import tasks, worker
pools = [{"user_api": api, "num_threads": threads, "filepath": ""} for api, threads in (("openmp", 7), ("blas", 2))]
with mock.patch.object(worker, "threadpool_info", lambda: pools):
    worker.check_blas(2)
    with pytest.raises(RuntimeError, match="BLAS must have 1 threads"):
        worker.check_blas(1)
assert tasks.RecommendOne.blas(1) == 1 == tasks.Fit.blas(2)
"""
    run("-c", code)


@pytest.mark.parametrize("beyond_numpy", ["false", "true"])
def test_imports_are_timed(run, beyond_numpy):
    where = ["--libraries", "implicit_core", "--repeat", 1]
    assert "implicit_core" in run("-m", "benchmarks.compare", "Import", f"beyond_numpy={beyond_numpy}", *where)


def test_ids_that_differ_are_seen_where_scores_are_apart(run):
    code = """
import numpy as np
from benchmarks.compare import agree
def found(ids, scores):
    return {"ids": np.array([ids]), "scores": np.array([scores], dtype=float)}
ours = found([1, 2, 3, 4], [4, 3, 2, 1])
assert agree(ours, found([1, 2, 3, 9], [4, 3, 2, 1]))["equal ids"] == 1  # perhaps tied with the one after the last
assert agree(ours, found([1, 9, 3, 4], [4, 3, 2, 1]))["equal ids"] == 2 / 3
assert agree(ours, found([1, 2, 3, 4], [5, 4, 3, 2])) == {"equal ids": 1, "score difference": 0.25}
tied = found([1, 2, 3, 4], [4, 3, 3, 1])
assert agree(tied, found([1, 3, 2, 4], [4, 3, 3, 1])) == {"equal ids": 1, "score difference": 0}
small = {name: np.vstack([array, array * (1 if name == "ids" else 1e-7)]) for name, array in ours.items()}
other = {name: array.copy() for name, array in small.items()}
other["ids"][1, 1] = 9
assert agree(small, other)["equal ids"] == 5 / 6
none = found([-1, -1], [-3e38, -3e38])
assert agree(none, none) == {"equal ids": 1, "score difference": 0}
"""
    run("-c", code)


def test_all_that_asv_tracks_runs(run, tmp_path):
    matrix = tmp_path / "thousand.npz"
    sparse.save_npz(matrix, sparse.random(1000, 80, 0.1, format="csr", dtype=np.float32, random_state=0))
    code = """
import sys
from benchmarks import track
for kind in vars(track).values():
    if isinstance(kind, type) and issubclass(kind, track._Tracked) and kind is not track._Tracked:
        kind.options = {**kind.options, "data": sys.argv[1]}
        tracked = kind()
        tracked.setup(1)
        for name in dir(kind):
            if name.startswith(("time_", "track_", "peakmem_")):
                getattr(tracked, name)(1)
        print(kind.__name__)
"""
    assert len(run("-c", code, matrix).splitlines()) == 13
