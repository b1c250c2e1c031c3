"""The embedded data set and its generator."""

import gzip
import lzma
import os
from importlib.resources import files

import h5py
import numpy as np
import pytest

from implicit_core.datasets import debian
from implicit_core.datasets.debian import generate_dataset, get_debian

# Common are a, b, c, d: each is named by p1, p2, p3 at least. p4 names too few, p5 only what nobody else names.
PACKAGES = """\
Package: p2
Version: 1.0
Pre-Depends: d (>= 1.0)
Depends: c:any, a (>= 2.0~rc1) [amd64], b <!nocheck> | z
Description: words, and | more (words)
 Depends: not-a-field
Suggests: suggested
Breaks: broken
Enhances: enhanced

Package: p1
Depends: a,b , c|y|x (<< 3),
 d
Recommends: rare, a (= 1)
Suggests: suggested
Breaks: broken
Enhances: enhanced

Package: p3
depends: d
Recommends: a, b, c
Suggests: suggested
Breaks: broken
Enhances: enhanced

Package: p4
Depends: a, rare

Package: p5
Depends: only, these, three

Package: p6
Enhances: enhanced

Package: p6
Depends: a, b

Package: p6
Depends: d
"""
DEPENDENCIES = ["a", "b", "c", "d"]
NAMES = ["p1", "p2", "p3", "p6"]
DENSE = [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]


def load(path, monkeypatch):
    """Return what `get_debian` makes of another file."""
    monkeypatch.setattr(debian, "files", lambda package: path.parent)
    return get_debian()


@pytest.fixture
def generate(tmp_path, monkeypatch):
    def run(content, name="Packages", **options):
        (tmp_path / name).write_bytes(content)
        generate_dataset(tmp_path / name, tmp_path / "debian.hdf5", **options)
        return load(tmp_path / "debian.hdf5", monkeypatch)

    return run


def attributes(tmp_path):
    with h5py.File(tmp_path / "debian.hdf5") as file:
        return file.attrs["suite"], file.attrs["date"]


@pytest.mark.parametrize(
    ("name", "pack"),
    [("Packages", bytes), ("Packages.gz", gzip.compress), ("Packages.xz", lzma.compress), ("dumpavail.txt", bytes)],
)
def test_an_index_gives_the_common_dependencies_of_the_large_packages(generate, name, pack):
    dependencies, packages, matrix = generate(pack(PACKAGES.encode()), name)
    assert dependencies.tolist() == DEPENDENCIES
    assert packages.tolist() == NAMES
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), DENSE)


def test_other_fields_and_a_missing_last_blank_line_change_nothing(generate):
    dumped = PACKAGES.replace("\nDepends", "\nMD5sum: 00\nDepends").rstrip("\n")
    _, packages, matrix = generate(dumped.encode())
    assert packages.tolist() == NAMES
    np.testing.assert_array_equal(matrix.toarray(), DENSE)


def test_dependencies_are_counted_among_the_large_packages_only(generate):
    # "rare" is named three times, but by two packages with three dependencies.
    dependencies, packages, _ = generate(PACKAGES.encode() + b"\nPackage: p7\nDepends: a, b, rare\n")
    assert "p7" in packages
    assert "rare" not in dependencies


def test_suite_and_date_are_kept(generate, tmp_path):
    generate(PACKAGES.encode(), suite="sid", date="2024-02-29")
    assert attributes(tmp_path) == ("sid", "2024-02-29")


def test_suite_and_date_come_from_the_file_by_default(generate, tmp_path):
    source = tmp_path / "mirror.example_debian_dists_trixie_main_binary-amd64_Packages"
    source.write_text(PACKAGES, encoding="utf-8")
    os.utime(source, (86_399, 86_399))
    generate_dataset(source, tmp_path / "debian.hdf5")
    assert attributes(tmp_path) == ("trixie", "1970-01-01")
    generate(PACKAGES.encode())
    assert attributes(tmp_path)[0] == "unknown"


def test_the_same_index_gives_the_same_bytes(generate, tmp_path):
    generate(PACKAGES.encode(), date="2024-02-29")
    first = (tmp_path / "debian.hdf5").read_bytes()
    generate(PACKAGES.encode(), date="2024-02-29")
    assert (tmp_path / "debian.hdf5").read_bytes() == first


@pytest.mark.parametrize("content", [b"", b"Package: p\nDepends: a, b, c\n", b"no index\n"])
def test_an_index_of_which_nothing_is_left_is_refused(generate, content):
    with pytest.raises(ValueError, match="none are left"):
        generate(content)


def test_the_shipped_file_is_small_and_dated():
    shipped = files("implicit_core.datasets").joinpath("debian.hdf5")
    assert len(shipped.read_bytes()) < 600_000
    with shipped.open("rb") as raw, h5py.File(raw) as file:
        assert file.attrs["suite"] == "bookworm"
        assert file.attrs["date"] == "2026-07-11"
    assert "bookworm" in files("implicit_core.datasets").joinpath("DATA_LICENSE").read_text(encoding="utf-8")


def test_the_shipped_data_have_the_documented_size_and_no_empty_rows():
    dependencies, packages, matrix = get_debian()
    assert matrix.shape == (len(dependencies), len(packages)) == (12_353, 35_796)
    assert matrix.nnz == 239_375
    assert matrix.dtype == np.float32
    assert (matrix.data == 1).all()
    assert matrix.has_canonical_format
    assert np.diff(matrix.indptr).min() >= 3
    assert np.diff(matrix.tocsc().indptr).min() >= 1


@pytest.mark.parametrize("which", [0, 1])
def test_the_shipped_labels_are_unique_sorted_strings(which):
    labels = get_debian()[which]
    assert labels.dtype == object
    assert all(type(label) is str for label in labels)
    assert (labels[1:] > labels[:-1]).all()


@pytest.mark.parametrize(
    ("dependency", "some"),
    [
        ("python3-numpy", {"python3-scipy", "python3-pandas", "python3-matplotlib", "python3-astropy"}),
        ("libgtk-3-0", {"firefox-esr", "inkscape"}),
        ("default-jre", {"freeplane"}),
    ],
)
def test_the_shipped_relations_are_true(dependency, some):
    dependencies, packages, matrix = get_debian()
    row = matrix[np.searchsorted(dependencies, dependency)]
    assert some <= set(packages[row.indices])
