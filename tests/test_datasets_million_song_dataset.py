"""The generator of the taste profile of the Million Song Dataset, from raw files as they are published."""

import logging
import zipfile

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from implicit_core.datasets import million_song_dataset
from implicit_core.datasets._download import DatasetError
from implicit_core.datasets.million_song_dataset import generate_dataset, get_msd_taste_profile

TRIPLETS = "train_triplets.txt"
LINES = [
    "b80344d063\tSOBYHAJ12A\t2",
    "85c1f87fea\tSOAKIMP12A\t1",
    "b80344d063\tSOAKIMP12A\t5",
    "b80344d063\tSOZZZZZ12A\t9",
]
SONGS = [
    ("SOBYHAJ12A", "Björk", "Debut", "Human Behaviour"),
    ("SOUNUSED12", "Nobody", "Played", "This"),
    ("SOZZZZZ12A", "東京事変", "", "能動的三分間"),
    ("SOAKIMP12A", "Jack Johnson", "Thicker Than Water", "The Cove"),
]
TRACKS = [list(SONGS[3]), list(SONGS[0]), list(SONGS[2])]
USERS = ["85c1f87fea", "b80344d063"]
PLAYS = [[1, 5], [0, 2], [0, 9]]


def text(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def write_summary(path, songs=SONGS):
    """Write the table of the summary file, with some of its other columns between those that are needed."""
    fields = [("artist_hotttnesss", "f8"), ("artist_name", "S1024"), ("release", "S1024"), ("year", "i4")]
    table = np.zeros(len(songs), dtype=[*fields, ("song_id", "S32"), ("title", "S1024")])
    for row, song in zip(table, songs, strict=True):
        for field, value in zip(("song_id", "artist_name", "release", "title"), song, strict=True):
            row[field] = value.encode() if isinstance(value, str) else value
    with h5py.File(path, "w") as file:
        file["metadata/songs"] = table
    return path


@pytest.fixture
def generate(tmp_path, monkeypatch):
    """Return a function that makes the cached file from a raw file, or from its bytes, and loads it."""
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "cache"))

    def run(raw=text(LINES), songs=SONGS):  # noqa: B008
        if isinstance(raw, bytes):
            (tmp_path / TRIPLETS).write_bytes(raw)
            raw = tmp_path / TRIPLETS
        summary = write_summary(tmp_path / "summary.h5", songs)
        generate_dataset(raw, summary, tmp_path / "cache" / "msd_taste_profile.hdf5")
        return get_msd_taste_profile()

    return run


def assert_is_sample(tracks, users, plays):
    assert tracks.dtype == users.dtype == object
    assert tracks.shape == (3, 4)
    assert tracks.tolist() == TRACKS
    assert users.tolist() == USERS
    assert isinstance(plays, csr_matrix)
    assert plays.dtype == np.float32
    np.testing.assert_array_equal(plays.toarray(), PLAYS)


@pytest.mark.parametrize("order", [1, -1])
def test_the_matrix_is_songs_by_users_with_sorted_labels(generate, order):
    assert_is_sample(*generate(text(LINES[::order])))


def test_a_file_of_the_older_library_reads_alike(generate, tmp_path):
    generate()
    with h5py.File(tmp_path / "cache" / "msd_taste_profile.hdf5", "r+") as file:
        del file["track_user_plays"].attrs["shape"]
        del file["track"]
        file.create_dataset("track", data=np.array(TRACKS, dtype=object), dtype=h5py.string_dtype())
    assert_is_sample(*get_msd_taste_profile())


@pytest.mark.parametrize("tracks", [["a", "b", "c"], [["a", "b", "c"]] * 3])
def test_a_cached_file_without_four_columns_is_damaged(generate, tmp_path, monkeypatch, tracks):
    generate()
    monkeypatch.setattr(million_song_dataset, "URL", (tmp_path / "none").as_uri())
    monkeypatch.setattr("implicit_core.datasets._download.PAUSE_SECONDS", 0)
    with h5py.File(tmp_path / "cache" / "msd_taste_profile.hdf5", "r+") as file:
        del file["track"]
        file.create_dataset("track", data=np.array(tracks, dtype=object), dtype=h5py.string_dtype())
    with pytest.raises(DatasetError):
        get_msd_taste_profile()


def test_the_archive_is_read_as_the_file_in_it(generate, tmp_path):
    with zipfile.ZipFile(tmp_path / "raw.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", "read me")
        archive.writestr(TRIPLETS, text(LINES))
    assert_is_sample(*generate(tmp_path / "raw.zip"))
    names = ["cache", "msd_taste_profile.hdf5", "raw.zip", "summary.h5"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == names


def test_the_summary_and_the_output_have_default_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path))
    (tmp_path / "other name").write_bytes(text(LINES))
    write_summary(tmp_path / "msd_summary_file.h5")
    generate_dataset("other name")
    assert_is_sample(*get_msd_taste_profile())


def test_a_summary_of_many_songs_is_read_to_its_end(generate, monkeypatch):
    monkeypatch.setattr(million_song_dataset, "_CHUNK", 3)
    others = [(f"SO{number}", "x", "y", "z") for number in range(4)]
    assert_is_sample(*generate(songs=[*SONGS[:2], *others, *SONGS[2:]]))


def test_a_song_that_the_summary_lacks_keeps_its_id_and_is_counted(generate, caplog):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        tracks, _, plays = generate(songs=SONGS[1:])
    assert tracks.tolist() == [TRACKS[0], ["SOBYHAJ12A", "", "", ""], TRACKS[2]]
    np.testing.assert_array_equal(plays.toarray(), PLAYS)
    assert "lacks 1 of 3 songs" in caplog.text


def test_a_whole_data_set_is_not_worth_a_warning(generate, caplog):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        generate()
    assert caplog.text == ""


def test_of_a_song_twice_in_the_summary_the_last_entry_counts(generate):
    assert_is_sample(*generate(songs=[("SOAKIMP12A", "old", "older", "oldest"), *SONGS]))


def test_bytes_that_are_no_utf8_lose_no_song(generate):
    tracks, _, _ = generate(songs=[("SOBYHAJ12A", b"Bj\xf6rk", "", ""), *SONGS[1:]])
    assert tracks[1, 1] == "Bj\N{REPLACEMENT CHARACTER}rk"


def test_repeated_pairs_are_summed(generate):
    _, _, plays = generate(text([*LINES, LINES[0]]))
    assert plays.nnz == 4
    assert plays[1, 1] == 4


@pytest.mark.parametrize(
    "line",
    [
        "user\tSOX",
        "user\tSOX\t5\tmore",
        "\tSOX\t5",
        "user\t \t5",
        "user\tSOX\t0",
        "user\tSOX\t-1",
        "user\tSOX\t1.5",
        "user\tSOX\tmany",
        "user\tSOX\t99999999999",
        "us\0er\tSOX\t5",
        "user,SOX,5",
        "",
    ],
)
def test_a_malformed_line_is_skipped_and_counted(generate, caplog, line):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        assert_is_sample(*generate(text([*LINES[:2], line, *LINES[2:]])))
    assert f"skipped 1 malformed lines of {len(LINES) + 1}" in caplog.text


def test_windows_line_ends_are_no_part_of_a_line(generate):
    assert_is_sample(*generate(text(LINES).replace(b"\n", b"\r\n")))


def test_a_file_without_plays_is_refused_and_keeps_the_old_output(tmp_path):
    (tmp_path / "raw").write_bytes(b"user,song,plays\n")
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(ValueError, match="user, song and plays, got none in 1 lines"):
        generate_dataset(tmp_path / "raw", write_summary(tmp_path / "summary"), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"


@pytest.mark.parametrize("content", ["nothing", "a table without titles"])
def test_a_summary_without_songs_is_refused(tmp_path, content):
    (tmp_path / "raw").write_bytes(text(LINES))
    with h5py.File(tmp_path / "summary", "w") as file:
        if content != "nothing":
            file["metadata/songs"] = np.zeros(2, dtype=[("song_id", "S32"), ("artist_name", "S32"), ("release", "S32")])
    with pytest.raises(ValueError, match="must have a table metadata/songs"):
        generate_dataset(tmp_path / "raw", tmp_path / "summary", tmp_path / "out")
    assert not (tmp_path / "out").exists()
