"""The examples for Last.fm and MovieLens, run as a user runs them, on data that need no network."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from implicit_core.datasets import lastfm, movielens
from implicit_core.datasets.debian import get_debian

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(run_python, tmp_path):
    """Return a function that runs an example with arguments and gives the lines of its table, split, as triples."""

    def table(name, *arguments, **variables):
        output = tmp_path / "table.tsv"
        result = run_python("-W", "error", str(EXAMPLES / name), "--output", str(output), *arguments, **variables)
        assert result.returncode == 0, result.stderr
        assert f"wrote {output}" in result.stdout
        return [line.split("\t") for line in output.read_text(encoding="utf-8").splitlines()]

    return table


def models_by_name():
    spec = importlib.util.spec_from_file_location("_models", EXAMPLES / "_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def neighbours(table, of):
    return [other for one, other, _ in table if one == of]


def assert_is_ranking(table):
    """At most ten different others of each, scores falling."""
    for one in {row[0] for row in table}:
        scores = [float(score) for name, _, score in table if name == one]
        assert scores == sorted(scores, reverse=True)
        assert len(set(neighbours(table, one))) == len(scores) <= 10


# The package's own data


@pytest.mark.parametrize(
    ("example", "model"),
    [("lastfm.py", "als"), ("lastfm.py", "bm25"), ("movielens.py", "als"), ("movielens.py", "tfidf")],
)
def test_neighbours_of_packages_are_of_the_same_language(run, example, model):
    table = run(example, "--dataset", "debian", "--model", model, "--param", "num_threads=2")
    names, _, matrix = get_debian()
    assert table[0][0] == names[np.argmax(np.diff(matrix.indptr))]  # popular ones first
    found = neighbours(table, "python3-numpy")
    assert len(found) == 10
    assert "python3-numpy" not in found
    assert sum(name.startswith(("python3", "lib", "cython")) for name in found) >= 9
    assert_is_ranking(table[:500])


def test_recommendations_are_of_what_a_package_has_not(run):
    table = run("lastfm.py", "--dataset", "debian", "--recommend", "--param", "factors=16", "--param", "iterations=3")
    names, packages, matrix = get_debian()
    assert len(table) == 10 * len(packages)
    (package,) = np.flatnonzero(packages == "python3-sklearn")
    found = neighbours(table, "python3-sklearn")
    assert not set(found) & set(names[matrix.T.tocsr()[package].indices])
    assert_is_ranking(table[:500])


# Data in the cache


def test_lastfm_reads_the_cached_data(run, tmp_path):
    plays = [("ann", "Abba", 3), ("ann", "Blur", 1), ("bob", "Abba", 2), ("bob", "Blur", 5), ("cyd", "Cher", 4)]
    raw = tmp_path / "raw.tsv"
    raw.write_text("".join(f"{user}\tid\t{artist}\t{count}\n" for user, artist, count in plays), encoding="utf-8")
    lastfm.generate_dataset(raw, tmp_path / "lastfm_360k.hdf5")
    table = run("lastfm.py", "--model", "cosine", IMPLICIT_DATASETS=str(tmp_path))
    assert [row[:2] for row in table] == [["Abba", "Blur"], ["Blur", "Abba"]]
    assert float(table[0][2]) == pytest.approx(13 / (13 * 26) ** 0.5, rel=1e-5)
    assert run("lastfm.py", "--model", "cosine", "--recommend", IMPLICIT_DATASETS=str(tmp_path)) == []


def test_movielens_counts_good_ratings_alone(run, tmp_path):
    (tmp_path / "u.data").write_text(
        "".join(f"{user}\t{movie}\t{stars}\t0\n" for user, movie, stars in [(1, 1, 5), (1, 2, 4), (1, 3, 3), (2, 1, 4)])
    )
    (tmp_path / "u.item").write_text("1|Alien|\n2|Brazil|\n3|Cube|\n")
    movielens.generate_dataset(tmp_path, "100k", tmp_path)
    options = ("--variant", "100k", "--model", "cosine")
    table = run("movielens.py", *options, IMPLICIT_DATASETS=str(tmp_path))
    assert [row[:2] for row in table] == [["Alien", "Brazil"], ["Brazil", "Alien"]]
    table = run("movielens.py", *options, "--min_rating", "3", IMPLICIT_DATASETS=str(tmp_path))
    assert {tuple(sorted(row[:2])) for row in table} == {("Alien", "Brazil"), ("Alien", "Cube"), ("Brazil", "Cube")}


# Models and their parameters


@pytest.mark.parametrize("name", models_by_name().MODELS)
def test_every_model_is_made_with_parameters(name):
    module = models_by_name()
    option = "K=7" if name in ("tfidf", "cosine", "bm25") else "factors=7"
    try:
        model = module.make_model(name, [module.parameter(option)])
    except SystemExit as error:
        if "cannot be used" not in str(error):
            raise
        pytest.skip(str(error))
    assert getattr(getattr(model, "model", model), option.split("=")[0]) == 7


@pytest.mark.parametrize(("text", "value"), [("a=1", 1), ("a=1e-2", 0.01), ("a=None", None), ("a=float64", "float64")])
def test_parameters_are_literals_or_text(text, value):
    assert models_by_name().parameter(text) == ("a", value)


def test_parameters_reach_the_model(run):
    table = run("movielens.py", "--dataset", "debian", "--model", "cosine", "--param", "K=3")
    assert len(neighbours(table, "python3-numpy")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--param", "colour=1"], "the model als does not take these parameters: .*'colour'"),
        (["--param", "factors"], "'factors' is not of the form KEY=VALUE"),
        (["--model", "magic"], "invalid choice: 'magic'"),
        (["--dataset", "magic"], "invalid choice: 'magic'"),
    ],
)
@pytest.mark.parametrize("example", ["lastfm.py", "movielens.py"])
def test_what_makes_no_sense_is_said_in_a_line(run_python, example, options, message, tmp_path):
    result = run_python(str(EXAMPLES / example), "--output", str(tmp_path / "table"), *options)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert re.search(message, result.stderr)
    assert not (tmp_path / "table").exists()


def test_a_model_that_is_not_there_is_named(run_python):
    script = f"""
import runpy, sys
sys.path.insert(0, {str(EXAMPLES)!r})
sys.modules["annoy"] = None
sys.argv = ["lastfm.py", "--dataset", "debian", "--model", "annoy_als"]
runpy.run_path({str(EXAMPLES / "lastfm.py")!r}, run_name="__main__")
"""
    result = run_python("-c", script)
    assert result.returncode == 1
    assert result.stderr.startswith("the model annoy_als cannot be used: ")
    assert "pip install annoy" in result.stderr
