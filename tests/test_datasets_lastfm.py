"""The generator of the Last.fm data set, from raw files as they are published."""

import io
import logging
import tarfile

import h5py
import numpy as np
import pytest

from implicit_core.datasets.lastfm import generate_dataset, get_lastfm

FOLDER = "lastfm-dataset-360K"
PLAYS = "usersha1-artmbid-artname-plays.tsv"
LINES = [
    "sep 20, 2008\t7ffd711a-b34d-4739-8aab-25e045c246da\tsigur rós\t10",
    "00000c289a\t3bd73256-3905-4f3a-97e2-8b341527f805\tbetty blowtorch\t2137",
    "00000c289a\t\tdie Ärzte\t1099",
    'sep 20, 2008\t\t"heroes"\t7',
    "sep 20, 2008\t\tdie Ärzte\t1",
]
ARTISTS = ['"heroes"', "betty blowtorch", "die Ärzte", "sigur rós"]
USERS = ["00000c289a", "sep 20, 2008"]
PLAYS_OF = [[0, 7], [2137, 0], [1099, 1], [0, 10]]


def text(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def tar(path, **members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def generate(tmp_path, monkeypatch):
    """Return a function that makes the cached file from a raw file, or from its bytes, and loads it."""
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "cache"))

    def run(raw):
        if isinstance(raw, bytes):
            (tmp_path / PLAYS).write_bytes(raw)
            raw = tmp_path / PLAYS
        generate_dataset(raw, tmp_path / "cache" / "lastfm_360k.hdf5")
        return get_lastfm()

    return run


def assert_is_sample(artists, users, plays):
    assert artists.tolist() == ARTISTS
    assert users.tolist() == USERS
    assert plays.dtype == np.float32
    np.testing.assert_array_equal(plays.toarray(), PLAYS_OF)


def test_the_matrix_is_artists_by_users_with_sorted_labels(generate):
    assert_is_sample(*generate(text(LINES)))


def test_a_file_of_the_older_library_without_shape_reads_alike(generate, tmp_path):
    generate(text(LINES))
    with h5py.File(tmp_path / "cache" / "lastfm_360k.hdf5", "r+") as file:
        del file["artist_user_plays"].attrs["shape"]
    assert_is_sample(*get_lastfm())


def test_the_order_of_the_lines_does_not_matter(generate):
    assert_is_sample(*generate(text(LINES[::-1])))


def test_the_archive_is_read_as_the_file_in_it(generate, tmp_path):
    members = {
        f"{FOLDER}/README.txt": b"read me",
        f"{FOLDER}/._{PLAYS}": b"what some systems add",
        f"{FOLDER}/{PLAYS}": text(LINES),
        f"{FOLDER}/usersha1-profile.tsv": b"a\tf\t20\tGermany\tFeb 1, 2007\n",
    }
    assert_is_sample(*generate(tar(tmp_path / "raw.tar.gz", **members)))


def test_nothing_of_the_archive_is_written_to_disk(generate, tmp_path):
    generate(tar(tmp_path / "raw.tar.gz", **{f"{FOLDER}/{PLAYS}": text(LINES)}))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cache", "lastfm_360k.hdf5", "raw.tar.gz"]


def test_an_archive_without_the_plays_is_refused(generate, tmp_path):
    with pytest.raises(ValueError, match=PLAYS):
        generate(tar(tmp_path / "raw.tar.gz", **{"README.txt": b"read me"}))


def test_a_cut_archive_gives_no_half_data_set(generate, tmp_path):
    lines = [f"{i:x}\t\t{i * i:x}\t{i + 1}" for i in range(20_000)]
    whole = tar(tmp_path / "raw.tar.gz", **{f"{FOLDER}/{PLAYS}": text(lines)}).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((tarfile.ReadError, EOFError)):
        generate(tmp_path / "cut.tar.gz")
    assert list(tmp_path.rglob("*.hdf5*")) == []


def test_repeated_pairs_are_summed(generate):
    _, _, plays = generate(text(["u\tx\ta\t2", "u\ty\ta\t3"]))
    assert plays.nnz == 1
    assert plays[0, 0] == 5


@pytest.mark.parametrize(
    "line",
    [
        "user\tartist\t5",
        "user\tx\tartist\t5\tmore",
        "user\tx\t\t5",
        "\tx\tartist\t5",
        "user\tx\t \t5",
        "user\tx\tartist\t",
        "user\tx\tartist\tmany",
        "user\tx\tartist\t0",
        "user\tx\tartist\t-1",
        "user\tx\tartist\tnan",
        "user\tx\tartist\t99999999999",
        "user\tx\tart\0ist\t5",
        "",
    ],
)
def test_a_malformed_line_is_skipped_and_counted(generate, caplog, line):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        assert_is_sample(*generate(text([*LINES[:2], line, *LINES[2:]])))
    assert f"skipped 1 malformed lines of {len(LINES) + 1}" in caplog.text


@pytest.mark.parametrize("name", ['one " quote', "line\u2028separator", "carriage\rreturn", "nan", "null", "\x0bb"])
def test_an_odd_name_is_kept_as_it_is(generate, name):
    artists, _, plays = generate(text([f"u\tx\t{name}\t5", "u\tx\tother\t1"]))
    assert sorted(artists) == sorted([name, "other"])
    assert plays.nnz == 2


def test_windows_line_ends_are_no_part_of_a_line(generate):
    assert_is_sample(*generate(text(LINES).replace(b"\n", b"\r\n")))


def test_bytes_that_are_no_utf8_lose_no_line(generate):
    artists, _, _ = generate(b"u\tx\tbj\xf6rk\t5\n")
    assert artists.tolist() == ["bj\N{REPLACEMENT CHARACTER}rk"]


def test_a_file_without_plays_is_refused_and_keeps_the_old_output(tmp_path):
    (tmp_path / "raw").write_bytes(b"user,artist,plays\n")
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(ValueError, match="none in 1 lines"):
        generate_dataset(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
