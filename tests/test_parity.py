"""docs/parity.md, and the script that compares the names of both packages."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def problems(run_python):
    """Return a function that gives what the script complains about, after changes to its table by a statement."""
    pytest.importorskip("implicit", reason="compares with implicit, which is not installed")

    def run(statement=""):
        script = f"import sys; sys.path.insert(0, {str(DOCS)!r}); sys.argv.append('--check'); "
        result = run_python(
            "-W", "ignore", "-c", f"{script}import _parity, make_parity; {statement}\nmake_parity.main()"
        )
        lines = [line.removeprefix("parity: ") for line in result.stderr.splitlines() if line.startswith("parity: ")]
        assert bool(lines) == bool(result.returncode), result.stderr
        return lines

    return run


def test_no_name_is_missing_no_parameter_moved_and_the_page_is_up_to_date(problems):
    assert problems() == []


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("import implicit_core.utils as u; del u.nonzeros", "utils.nonzeros is missing"),
        (
            "import implicit_core.als as a; del a.AlternatingLeastSquares.explain",
            "cpu.als.AlternatingLeastSquares.explain is missing",
        ),
        (
            "import implicit_core.utils as u; u.nonzeros = lambda row, m: 0",
            "utils.nonzeros has no parameter m at place 0",
        ),
        (
            "import implicit_core.utils as u; u.nonzeros = lambda m, row, *, axis: 0",
            "utils.nonzeros cannot be called without axis",
        ),
        (
            "import sys, implicit_core; sys.modules['implicit_core.cpu.topk'] = None",
            "the module cpu.topk is missing",
        ),
        (
            "import implicit_core.datasets.lastfm as l; l.URL = 'elsewhere'",
            "datasets.lastfm.URL is 'elsewhere', in implicit 'https",
        ),
        (
            "import implicit_core.utils as u; u.check_csr = 3",
            "utils.check_csr cannot be called as that of implicit can",
        ),
        (
            "import implicit_core.nearest_neighbours as n; n.bm25_weight = lambda X, K1=100, B=0.75: 0",
            "nearest_neighbours.bm25_weight has B=0.75, implicit 0.8",
        ),
        (
            "_parity.NOTES['utils.no_such_name'] = 'same', ''",
            "_parity.py has an entry that nothing needs: utils.no_such_name",
        ),
        ("_parity.ABSENT['utils.nonzeros'] = ''", "utils.nonzeros is there, and _parity.py says it is not"),
        (
            "_parity.NOTES['utils.nonzeros'] = 'better', 'faster'",
            "parity.md is out of date; run python docs/make_parity.py",
        ),
    ],
)
def test_what_is_wrong_is_named(problems, statement, wanted):
    assert any(line.startswith(wanted) for line in problems(statement))
