"""The generator of the reddit data set, from raw files as they were published."""

import bz2
import gzip
import logging

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from implicit_core.datasets.reddit import generate_dataset, get_reddit

LINES = ["zoe,t3_b,1", "adam,t3_b,-1", "zoe,t3_a,-1", "bert,t3_c,1"]
# Links a, b, c by users adam, bert, zoe.
VOTES = [[0, 0, -1], [-1, 0, 1], [0, 1, 0]]


def text(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def dump(lines):
    """Return the lines as in the larger file: with tabs, a subreddit before the vote, and a time after it."""
    columns = [line.split(",") for line in lines]
    return text(f"{user}\t{link}\tt5_{number}\t{vote}\t2010" for number, (user, link, vote) in enumerate(columns))


@pytest.fixture
def generate(tmp_path, monkeypatch):
    """Return a function that makes the cached file from the bytes of a raw file, and loads it."""
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "cache"))

    def run(raw, name="publicvotes.csv"):
        (tmp_path / name).write_bytes(raw)
        generate_dataset(tmp_path / name, tmp_path / "cache" / "reddit.hdf5")
        return get_reddit()

    return run


def assert_is_sample(votes):
    assert isinstance(votes, csr_matrix)
    assert votes.dtype == np.float32
    assert votes.nnz == 4
    np.testing.assert_array_equal(votes.toarray(), VOTES)


@pytest.mark.parametrize("order", [1, -1])
def test_the_matrix_is_links_by_users_in_the_order_of_their_names(generate, order):
    assert_is_sample(generate(text(LINES[::order])))


@pytest.mark.parametrize("columns", [4, 5])
def test_the_dump_with_tabs_reads_alike(generate, columns):
    assert_is_sample(generate(dump(LINES) if columns == 5 else dump(LINES).replace(b"\t2010", b"")))


@pytest.mark.parametrize(("name", "pack"), [("votes.csv.gz", gzip.compress), ("votes.dump.bz2", bz2.compress)])
def test_a_packed_file_reads_alike(generate, name, pack):
    assert_is_sample(generate(pack(text(LINES)), name))


def test_of_repeated_votes_the_last_counts(generate):
    earlier = ["adam,t3_b,1", "zoe,t3_a,-1", "zoe,t3_a,1", "bert,t3_c,1"]
    assert_is_sample(generate(text([*earlier, *LINES])))


@pytest.mark.parametrize(
    "line",
    [
        "zoe,t3_b",
        "zoe,t3_b,1,1",
        ",t3_b,1",
        "zoe, ,1",
        "zoe,t3_b,",
        "zoe,t3_b,0",
        "zoe,t3_b,2",
        "zoe,t3_b,nan",
        "zoe,t3_b,up",
        "zo\0e,t3_b,1",
        "zoe\tt3_b\t1",
        "zoe\tt3_b\tt5_x\t0",
        "user,link,vote",
        "",
    ],
)
def test_a_malformed_line_is_skipped_and_counted(generate, caplog, line):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        assert_is_sample(generate(text([*LINES[:2], line, *LINES[2:]])))
    assert f"skipped 1 malformed lines of {len(LINES) + 1}" in caplog.text


def test_windows_line_ends_are_no_part_of_a_line(generate):
    assert_is_sample(generate(text(LINES).replace(b"\n", b"\r\n")))


@pytest.mark.parametrize("raw", [b"", b"user,link,vote\n"])
def test_a_file_without_votes_is_refused_and_keeps_the_old_output(tmp_path, raw):
    (tmp_path / "raw").write_bytes(raw)
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(ValueError, match="user, link and vote, got none"):
        generate_dataset(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"


def test_many_votes_give_the_matrix_of_their_last_values(generate, monkeypatch):
    monkeypatch.setattr("implicit_core.datasets._raw._CHUNK", 999)
    rng = np.random.default_rng(0)
    links, users, votes = rng.integers(40, size=5000), rng.integers(50, size=5000), rng.choice([-1, 1], size=5000)
    dense = np.zeros((40, 50))
    for link, user, vote in zip(links, users, votes, strict=True):
        dense[link, user] = vote
    lines = [f"{user:02},{link:02},{vote}" for link, user, vote in zip(links, users, votes, strict=True)]
    matrix = generate(text(lines))
    assert matrix.nnz == (dense != 0).sum()
    assert matrix.has_sorted_indices
    np.testing.assert_array_equal(matrix.toarray(), dense)
