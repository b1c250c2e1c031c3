"""The layout of the data sets in HDF5 files."""

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from implicit_core.datasets._hdf5 import create_hdf5, read_csr, read_labels, write_csr, write_labels


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "file.hdf5", "w") as file:
        yield file


def write_plain(file, data=(1.0, 2.0, 3.0), indices=(0, 2, 1), indptr=(0, 2, 3), shape=None):
    """Write a group as the older library does, without a shape unless one is given."""
    group = file.create_group("m")
    for name, array in (("data", data), ("indices", indices), ("indptr", indptr)):
        group[name] = np.array(array)
    if shape is not None:
        group.attrs["shape"] = shape


@pytest.mark.parametrize("dense", [[[0, 1.5, 0], [0, 0, 0], [2, 3, 0], [0, 0, 0]], np.zeros((2, 3)), np.zeros((0, 0))])
def test_a_matrix_comes_back_with_its_empty_rows_and_columns(file, dense):
    write_csr(file, "m", csr_matrix(dense, dtype=np.float32))
    matrix = read_csr(file, "m")
    assert isinstance(matrix, csr_matrix)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), dense)


def test_a_matrix_without_shape_ends_with_its_last_column(file):
    write_plain(file)
    matrix = read_csr(file, "m")
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), [[1, 0, 2], [0, 3, 0]])


def test_a_matrix_without_shape_gets_the_given_one(file):
    write_plain(file)
    assert read_csr(file, "m", shape=(2, 5)).shape == (2, 5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"indices": (0, 3, 1), "shape": (2, 3)}, r"indices must lie in 0\.\.2"),
        ({"indices": (0, -1, 1)}, "indices must lie in"),
        ({"indices": (0.0, 1.0, 1.0)}, "integers"),
        ({"indices": (0, 2)}, "one index per value"),
        ({"indptr": (0, 4, 3)}, "indptr must rise"),
        ({"indptr": (0, 2, 2)}, "indptr must rise"),
        ({"indptr": (1, 2, 3)}, "indptr must rise"),
        ({"shape": (3, 3)}, "indptr must have one entry more"),
        ({"indptr": np.array([], dtype=int)}, "indptr must have one entry more"),
        ({"data": ((1.0, 2.0, 3.0),)}, "vector"),
        ({"data": (b"1", b"2", b"3")}, "vector of numbers"),
    ],
)
def test_a_damaged_matrix_is_refused(file, change, text):
    write_plain(file, **change)
    with pytest.raises(ValueError, match=text):
        read_csr(file, "m")


def test_a_missing_part_is_named(file):
    file.create_group("m")
    with pytest.raises(ValueError, match="m/data"):
        read_csr(file, "m")


@pytest.mark.parametrize("labels", [["abba", "sigur rós", "", "東京"], []])
def test_labels_come_back_as_strings(file, labels):
    write_labels(file, "label", labels)
    read = read_labels(file, "label")
    assert read.dtype == object
    assert read.tolist() == labels


@pytest.mark.parametrize("labels", [np.array([b"abba", b"cher"]), np.array([b"abba", b"cher"], dtype=object)])
def test_labels_stored_as_bytes_come_back_as_strings(file, labels):
    file.create_dataset("label", data=labels, dtype=h5py.string_dtype() if labels.dtype == object else None)
    assert read_labels(file, "label").tolist() == ["abba", "cher"]


def test_labels_of_several_columns_come_back_alike(file):
    labels = [("a", "sigur rós"), ("b", ""), ("c", "東京")]
    write_labels(file, "label", labels)
    read = read_labels(file, "label")
    assert read.dtype == object
    assert read.tolist() == [list(row) for row in labels]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("length", [None, 10])
def test_labels_are_utf8_whatever_the_file_says_and_bytes_that_are_not_lose_no_label(file, encoding, length):
    labels = np.array(["sigur rós".encode(), b"bj\xf6rk"], dtype=object if length is None else "S10")
    file["label"] = labels.astype(h5py.string_dtype(encoding, length))
    assert read_labels(file, "label").tolist() == ["sigur rós", "bj\N{REPLACEMENT CHARACTER}rk"]


def test_labels_that_are_numbers_are_refused(file):
    file["label"] = [1, 2]
    with pytest.raises(ValueError, match="strings"):
        read_labels(file, "label")


@pytest.mark.parametrize("size", [10**8, 10**12, 2**60])
def test_a_data_set_that_claims_more_than_its_file_can_hold_is_refused(file, size):
    """HDF5 would fill memory, or loop for hours."""
    file.create_dataset("label", (size,), dtype=h5py.string_dtype(), chunks=(1000,))
    with pytest.raises(ValueError, match=f"label claims {size} values, which the file is too short for"):
        read_labels(file, "label")
    write_plain(file)
    for name in ("data", "indices", "indptr"):
        del file["m"][name]
        file["m"].create_dataset(name, (size,), dtype=np.int32, chunks=(1000,))
        with pytest.raises(ValueError, match=f"m/{name} claims {size} values"):
            read_csr(file, "m")
        del file["m"][name]
        file["m"][name] = [0]


def test_names_that_are_no_text_are_no_other_error(file):
    file[b"\xff\xfe"] = [1]
    file["x"] = [1]
    with pytest.raises(ValueError, match="must hold a data set named label"):
        read_labels(file, "label")


def test_a_file_that_is_not_finished_does_not_replace_the_old_one(tmp_path):
    (tmp_path / "out").write_bytes(b"old")

    def write_half():
        with create_hdf5(tmp_path / "out") as file:
            write_labels(file, "label", ["a"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out", b"old")]
