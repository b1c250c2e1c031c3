"""Models in threads, in child processes, and under Ctrl-C.

`IMPLICIT_CORE_TRIALS=10` tries ten times as much.
"""

import copy
import importlib.util
import io
import json
import multiprocessing
import os
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.ann.faiss import FaissModel
from implicit_core.ann.usearch import UsearchModel
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import BM25Recommender

TRIALS = int(os.environ.get("IMPLICIT_CORE_TRIALS", "1"))
FAULTS = Path(__file__).parent / "faults"
FACTORS = {"factors": 8, "iterations": 2, "random_state": 3, "num_threads": 2}
USERS, ITEMS = 120, 90


def approximate(kind, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    return kind(AlternatingLeastSquares(**FACTORS))


MODELS = {
    "als": lambda: AlternatingLeastSquares(**FACTORS),
    "als-arrays": lambda: AlternatingLeastSquares(**FACTORS, use_native=False, use_cg=False),
    "bpr": lambda: BayesianPersonalizedRanking(**FACTORS),
    "lmf": lambda: LogisticMatrixFactorization(**FACTORS, neg_prop=3),
    "bm25": lambda: BM25Recommender(8, num_threads=2),
    "faiss": lambda: approximate(FaissModel, "faiss"),
    "usearch": lambda: approximate(UsearchModel, "usearch"),
}


@pytest.fixture
def matrix():
    return sparse.random(USERS, ITEMS, 0.15, format="csr", random_state=1, dtype=np.float32)


@pytest.fixture(params=MODELS)
def model(request, matrix):
    model = MODELS[request.param]()
    model.fit(matrix, show_progress=False)
    return model


def calls(model, matrix):
    """Calls of every kind; each gives arrays."""
    users, some = np.arange(USERS), [0, 3, 77]
    yield lambda: model.recommend(users, matrix, N=7)
    yield lambda: model.recommend(5, matrix[5], N=7)
    yield lambda: model.recommend(some, matrix[some], items=np.arange(40))
    yield lambda: model.similar_items(np.arange(ITEMS), N=5)
    yield lambda: model.similar_items(4)
    yield lambda: [part for user in users for part in model.recommend(user, matrix[user], N=7)]  # in the same scratch
    yield lambda: model.similar_users(some)
    if isinstance(model, AlternatingLeastSquares):
        yield lambda: model.recommend(users, matrix, recalculate_user=True)
        yield lambda: (model.recalculate_item(some, matrix.T.tocsr()[some]),)
        yield lambda: (np.array(model.explain(7, matrix, 4)[1]),)


def test_eight_threads_get_what_one_gets_while_others_fit_copies_save_and_load(model, matrix, tmp_path):
    """Threads are switched as often as can be, and start together."""
    every = list(calls(model, matrix))
    expected = [call() for call in every]
    start, errors, done = threading.Barrier(11, timeout=60), [], threading.Event()

    def guarded(work):
        def run():
            try:
                start.wait()
                work()
            except BaseException as error:
                errors.append(error)
                raise

        return threading.Thread(target=run, daemon=True)

    def ask(number):
        for turn in range(3 * len(every)):
            which = (turn + number) % len(every)
            for mine, wanted in zip(every[which](), expected[which], strict=True):
                np.testing.assert_array_equal(mine, wanted)

    def fit():
        while not done.is_set():
            other = copy.deepcopy(model)
            other.fit(matrix, show_progress=False)

    def save_and_load():
        while not done.is_set():
            model.save(tmp_path / "model")
            loaded = type(model).load(tmp_path / "model")
            for mine, wanted in zip(loaded.similar_users(3), model.similar_users(3), strict=True):
                np.testing.assert_array_equal(mine, wanted)

    def describe():
        while not done.is_set():
            repr(model)
            copy.copy(model)
            model.get_params()
            model.save(io.BytesIO())

    askers = [guarded(lambda number=number: ask(number)) for number in range(8)]
    others = [guarded(work) for work in (fit, save_and_load, describe)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in askers + others:
            thread.start()
        for thread in askers:
            thread.join(120)
        done.set()
        for thread in others:
            thread.join(120)
    finally:
        done.set()
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in askers + others)
    assert errors == []


@pytest.mark.parametrize("how", ["fork", "forkserver", "spawn"])
def test_child_processes_compute_what_their_parent_does(run_python, how):
    if how not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {how} on this platform")
    assert_right(run_python("-W", "ignore", str(FAULTS / "processes.py"), how, str(TRIALS), "0"))


def test_workers_of_joblib_compute_what_their_parent_does(run_python):
    pytest.importorskip("joblib")
    assert_right(run_python("-W", "ignore", str(FAULTS / "processes.py"), "loky", str(TRIALS), "0"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("seed", range(TRIALS))
def test_children_forked_while_threads_are_at_work_compute_what_their_parent_does(run_python, seed):
    """As under a server that loads its application and then forks; whatever lock is held at that moment."""
    results = assert_right(run_python("-W", "ignore", str(FAULTS / "processes.py"), "preload", "20", str(seed)))
    assert results["right"] == 20
    assert results["parent"] >= 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("show_progress", [True, False])
def test_a_child_forked_while_a_thread_holds_the_lock_of_progress_bars_can_fit(run_python, show_progress):
    script = f"""
import faulthandler, os, sys, threading
from scipy import sparse
from tqdm.auto import tqdm
from implicit_core.als import AlternatingLeastSquares

matrix, held, done = sparse.random(60, 40, 0.2, format="csr", random_state=0), threading.Event(), threading.Event()

def hold():
    with tqdm.get_lock():
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(20, exit=True)  # says where it hangs
    AlternatingLeastSquares(4, iterations=1).fit(matrix, show_progress={show_progress})
    os._exit(0)
status = os.waitpid(child, 0)[1]
done.set()
thread.join()
sys.exit(status != 0)
"""
    result = run_python("-W", "ignore", "-c", script)
    assert result.returncode == 0, result.stderr


def assert_right(result):
    assert result.returncode == 0, result.stderr
    results = json.loads(result.stdout)
    assert results["right"] > 0
    assert "wrong" not in results
    return results


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("seed", range(TRIALS))
def test_an_interrupted_fit_leaves_finite_factors_of_full_shape_and_goes_on(run_python, seed):
    result = run_python(str(FAULTS / "interrupt.py"), "4", str(seed))
    assert result.returncode == 0, result.stderr
    kinds = {"als", "als in principal axes", "als exact", "bpr", "bpr racing", "lmf", "cosine"}
    assert json.loads(result.stdout).keys() == kinds


IMPORTING = """
import os, signal, sys, threading
from implicit_core.evaluation import progress_bar

class Slow:
    def find_spec(self, name, path, target=None):
        if name == "tqdm.auto":
            importing.set()
            threading.Event().wait(0.2)

importing = threading.Event()
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=progress_bar, args=(1, False))
thread.start()
importing.wait()
child = os.fork()
signal.alarm(60)
progress_bar(1, False)
if child == 0:
    os._exit(0)
thread.join()
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_child_forked_while_a_thread_makes_the_first_progress_bar_does_not_wait_for_it(run_python):
    result = run_python("-W", "ignore", "-c", IMPORTING)
    assert result.returncode == 0, result.stderr


INSIDE = """
import os, signal, sys, threading
from implicit_core._fork import no_fork

def hold():
    with no_fork:
        inside.set()
        forking.wait()
        threading.Event().wait(0.2)
        with no_fork:  # again, while the fork waits
            held.append(True)
    with no_fork:  # when it is done
        held.append(bool(forked))

inside, forking, held, forked = threading.Event(), threading.Event(), [], []
os.register_at_fork(before=forking.set, after_in_parent=lambda: forked.append(True))
thread = threading.Thread(target=hold)
thread.start()
inside.wait()
signal.alarm(60)
child = os.fork()
if child == 0:
    signal.alarm(60)
    with no_fork:
        grandchild = os.fork()
        os._exit(held != [True] or (grandchild and os.waitpid(grandchild, 0)[1]))
thread.join()
assert held == [True, True], held
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_waits_for_threads_inside_other_libraries_and_keeps_others_out(run_python):
    """FAISS and what lists the libraries of a process hold locks that a child would wait for without end."""
    result = run_python("-W", "ignore", "-c", INSIDE)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter has a global lock")
def test_the_compiled_modules_do_not_bring_back_the_global_lock(run_python):
    script = "import implicit_core.als, implicit_core.nearest_neighbours, sys; print(sys._is_gil_enabled())"
    assert run_python("-W", "error", "-c", script).stdout == "False\n"
