"""The generator of the Sketchfab data set, from raw files as they were published."""

import gzip
import logging

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from implicit_core.datasets.sketchfab import generate_dataset, get_sketchfab

HEADER = "modelname|mid|uid"
LINES = [
    "3D fanart, Noelle|m2|zoe",
    "3D fanart, Noelle|m2|adam",
    'one " quote|m1|zoe',
    "|m3|adam",
]
ITEMS = ["m1", "m2", "m3"]
USERS = ["adam", "zoe"]
LIKES = [[0, 1], [1, 1], [1, 0]]


def text(lines, header=HEADER):
    return "".join(f"{line}\n" for line in [header, *lines]).encode()


@pytest.fixture
def generate(tmp_path, monkeypatch):
    """Return a function that makes the cached file from the bytes of a raw file, and loads it."""
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "cache"))

    def run(raw, name="model_likes_anon.psv"):
        (tmp_path / name).write_bytes(raw)
        generate_dataset(tmp_path / name, tmp_path / "cache" / "sketchfab.hdf5")
        return get_sketchfab()

    return run


def assert_is_sample(items, users, likes):
    assert items.dtype == users.dtype == object
    assert items.tolist() == ITEMS
    assert users.tolist() == USERS
    assert isinstance(likes, csr_matrix)
    assert likes.dtype == np.float32
    np.testing.assert_array_equal(likes.toarray(), LIKES)


@pytest.mark.parametrize("order", [1, -1])
def test_the_matrix_is_items_by_users_with_sorted_labels(generate, order):
    assert_is_sample(*generate(text(LINES[::order])))


def test_a_file_of_the_older_library_without_shape_reads_alike(generate, tmp_path):
    generate(text(LINES))
    with h5py.File(tmp_path / "cache" / "sketchfab.hdf5", "r+") as file:
        del file["item_user_likes"].attrs["shape"]
    assert_is_sample(*get_sketchfab())


def test_a_packed_file_reads_alike(generate):
    assert_is_sample(*generate(gzip.compress(text(LINES)), "likes.psv.gz"))


@pytest.mark.parametrize("name", ["a|b", "|", "\\a|b\\", "mid|uid", "東京", "a\u2028b", '"', "a\rb"])
def test_a_name_may_contain_anything(generate, name):
    assert_is_sample(*generate(text([*LINES[:-1], f"{name}|m3|adam"])))


def test_the_header_says_where_item_and_user_are(generate):
    swapped = ["|".join((name, user, item)) for name, item, user in (line.split("|") for line in LINES)]
    assert_is_sample(*generate(text(swapped, header="modelname|uid|mid")))


@pytest.mark.parametrize("header", [LINES[0], "", "modelname|mid", "modelname|uid"])
def test_a_file_without_the_header_is_refused(generate, header):
    with pytest.raises(ValueError, match="header with mid and uid"):
        generate(text(LINES, header=header))


def test_a_repeated_like_is_one_like(generate):
    assert_is_sample(*generate(text([*LINES, LINES[1], *LINES])))


@pytest.mark.parametrize("line", ["m1|zoe", "name", "name||zoe", "name|m1|", "name|m1| ", "na\0me|m1|adam", ""])
def test_a_malformed_line_is_skipped_and_counted(generate, caplog, line):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        assert_is_sample(*generate(text([*LINES[:2], line, *LINES[2:]])))
    assert f"skipped 1 malformed lines of {len(LINES) + 1}" in caplog.text


def test_the_header_is_not_counted_as_malformed(generate, caplog):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        generate(text(LINES))
    assert caplog.text == ""


def test_windows_line_ends_are_no_part_of_a_line(generate):
    assert_is_sample(*generate(text(LINES).replace(b"\n", b"\r\n")))


def test_a_file_without_likes_is_refused_and_keeps_the_old_output(tmp_path):
    (tmp_path / "raw").write_bytes(text([]))
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(ValueError, match="name, item and user, got none"):
        generate_dataset(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
