"""Generated calls of everything public: right results or errors that name the argument, and no crash."""

import os
from pathlib import Path

import pytest

CASES = int(os.environ.get("IMPLICIT_CORE_FUZZ_CASES", "5000"))


def test_generated_calls_give_right_results_or_errors_that_name_the_argument(run_python):
    result = run_python("fuzz/run.py", "--cases", str(CASES), timeout=None)
    assert result.returncode == 0, result.stdout[-20_000:]


@pytest.mark.parametrize(
    ("body", "report"),
    [
        ("ctypes.string_at(0)", "died with status -11 in case      1 of broken"),
        ("os.abort()", "died with status -6 in case      1 of broken"),
        ("raise IndexError('index 3 is out of bounds')", "failed; the last was case"),
        ("case.call(lambda: np.ones(3)[5])", "comes from elsewhere than a raise statement"),
        ("case.call(lambda: np.float64(1) / np.zeros(1))", "RuntimeWarning"),
        ("case.call(np.ndarray.sort, np.array([2, 1]))", "changed its input"),
        ("case.refuse('N', ValueError); case.call(int)", "took what it must refuse"),
        ("case.refuse('N', ValueError); case.call(utils.check_csr, None, 'X')", "wrong type of error"),
        ("case.refuse('other', TypeError); case.call(utils.check_csr, None, 'X')", "the error names none of"),
        ("case.call(utils.check_csr, None, 'X')", "refused what it must take"),
        ("time.sleep(60)", "Timeout"),
    ],
)
def test_what_goes_wrong_is_seen_and_named(run_python, tmp_path, body, report):
    script = tmp_path / "broken.py"
    script.write_text(f"""
import ctypes, os, sys, time, types
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0"
sys.path.insert(0, {str(Path(__file__).with_name("fuzz"))!r})
import numpy as np
import run
from implicit_core import utils

def broken(case):
    {body}

sys.modules["calls"] = types.SimpleNamespace(PROPERTIES={{"broken": broken}}, APPROXIMATE=[])
run.SECONDS_PER_CASE = 5
run.__file__ = __file__
sys.exit(run.main())
""")
    result = run_python(str(script), "--cases", "3", "--only", "broken")
    assert result.returncode == 1
    assert report in result.stdout
    assert f"{script} --cases 3 --seed 0 --only broken" in result.stdout
