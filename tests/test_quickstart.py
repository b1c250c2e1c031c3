"""The example that README.md begins with, run as a user runs it."""

import re
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart.py"
SCIENTIFIC = {
    "python3-scipy",
    "python3-matplotlib",
    "python3-pandas",
    "python3-h5py",
    "python3-h5py-serial",
    "python3-numba",
    "python3-sklearn",
    "python3-astropy",
    "python3-skimage",
    "python3-tables",
}


@pytest.fixture(scope="module")
def quickstart(run_python):
    """Return a function that runs the example with arguments."""
    return lambda *arguments: run_python("-W", "error", str(QUICKSTART), *arguments)


@pytest.fixture(scope="module")
def output(quickstart):
    return quickstart()


def test_it_runs_without_warnings_and_shows_progress(output):
    assert output.returncode == 0, output.stderr
    assert "15/15" in output.stderr
    assert "Warning" not in output.stderr


def test_neighbours_of_numpy_are_scientific_packages(output):
    block = output.stdout.split("similar to python3-numpy\n")[1].split("\n\n")[0]
    names = re.findall(r"^ +[\d.]+  (\S+)$", block, flags=re.M)
    assert names[0] == "python3-numpy"
    assert len(names) == 6
    assert set(names[1:]) <= SCIENTIFIC
    assert "python3-scipy" in names


def test_recommendations_for_a_scientific_package_are_python_packages(output):
    block = output.stdout.split("python3-sklearn could also depend on\n")[1].split("\n\n")[0]
    names = re.findall(r"^ +[\d.]+  (\S+)$", block, flags=re.M)
    assert len(names) == 5
    assert sum(name.startswith("python3-") for name in names) >= 3


def test_other_packages_can_be_asked_for(quickstart):
    output = quickstart("--package", "gimp", "--dependency", "ruby")
    assert "gimp could also depend on" in output.stdout
    assert "similar to ruby" in output.stdout


def test_an_unknown_package_is_named(quickstart):
    output = quickstart("--package", "no-such-package")
    assert output.returncode == 1
    assert "'no-such-package' is not in the data set" in output.stderr
