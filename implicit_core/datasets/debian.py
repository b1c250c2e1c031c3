"""The embedded data set: which Debian package depends on or recommends which; needs no download."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import IO

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ._hdf5 import create_hdf5, read_csr, write_csr

_FIELDS = ("depends", "pre-depends", "recommends")
# What may follow a name: a version "(>= 1)", an architecture "[amd64]" or ":any", a build profile "<!nocheck>".
_NAME = re.compile(r"[^\s(:\[<|]+")
_LEAST = 3


def get_debian() -> tuple[NDArray[np.object_], NDArray[np.object_], csr_matrix]:
    """Return the dependencies of the packages of Debian 12 (bookworm, main, amd64), which ship with the library.

    A package plays the user and a dependency the item: who installs this also needs that. The data are real, small
    (12,353 × 35,796, 239,375 entries) and easily judged by eye.

    Returns
    -------
    dependencies : ndarray of str, shape (n_dependencies,)
        Sorted names of what the packages need, the rows of `matrix`.
    packages : ndarray of str, shape (n_packages,)
        Sorted names of the packages, the columns of `matrix`.
    matrix : csr_matrix of float32, shape (n_dependencies, n_packages)
        1 where the package depends on, pre-depends on or recommends the dependency. Models want packages as rows:
        ``matrix.T.tocsr()``.

    Notes
    -----
    Names of packages and the relations between them are facts and free to ship; the file ``DATA_LICENSE`` beside this
    module says where they come from. `generate_dataset` says how the data set is made.
    """
    with files("implicit_core.datasets").joinpath("debian.hdf5").open("rb") as raw, h5py.File(raw, "r") as file:
        return (
            _read_names(file, "dependency"),
            _read_names(file, "package"),
            read_csr(file, "dependency_package"),
        )


def generate_dataset(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    suite: str | None = None,
    date: str | None = None,
) -> None:
    """Make the file that `get_debian` reads from an index of packages.

    The dependencies of a package are the union of its Depends, Pre-Depends and Recommends, of alternatives ``a | b``
    the first, without version, architecture and profile; a package listed several times has those of all its versions.
    Then, each step once and in this order:

    1. packages with fewer than 3 dependencies go;
    2. dependencies that fewer than 3 of the packages left name go;
    3. packages of which no dependency is left go.

    Parameters
    ----------
    source : path
        A file ``Packages`` of a Debian archive, also ``.gz`` or ``.xz``, or the output of ``apt-cache dumpavail``.
    output : path
        HDF5 file to write, replaced only when the new one is complete.
    suite : str, optional
        Name of the release, kept as an attribute. By default the one in the name that apt gives to its lists
        (``..._dists_<suite>_...``), else ``"unknown"``.
    date : str, optional
        Day of the index as ``YYYY-MM-DD``, kept as an attribute. By default when `source` was last changed, in UTC.

    Raises
    ------
    ValueError
        Nothing is left, for example since `source` is no such index.
    """
    source = Path(source)
    if suite is None:
        found = re.search(r"_dists_([^_]+)_", source.name)
        suite = found[1] if found else "unknown"
    if date is None:
        date = datetime.fromtimestamp(source.stat().st_mtime, timezone.utc).date().isoformat()
    with _open(source) as lines:
        packages = _filter(_parse(lines))
    if not packages:
        raise ValueError(f"{source} must list packages with dependencies in Debian's format, but none are left")
    package_names = sorted(packages)
    dependency_names = sorted(set().union(*packages.values()))
    with create_hdf5(output) as file:
        file.attrs.update(suite=suite, date=date)
        _write_names(file, "dependency", dependency_names)
        _write_names(file, "package", package_names)
        write_csr(file, "dependency_package", _matrix(packages, dependency_names, package_names), level=9)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _parse(lines: Iterable[str]) -> dict[str, set[str]]:
    """Return the dependencies of every package."""
    packages: dict[str, set[str]] = {}
    dependencies: set[str] = set()
    for field, value in _fields(lines):
        if field == "package":
            # First in its stanza, as Debian's policy wants and every archive does.
            dependencies = packages.setdefault(value.strip(), set())
        elif field in _FIELDS:
            dependencies.update(found[0] for part in value.split(",") if (found := _NAME.match(part.strip())))
    return packages


def _fields(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield lower-case name and value of each field; a line that starts with a blank goes on with the last one."""
    field, value = "", ""
    for line in lines:
        if line[0] in " \t":
            value += line
        else:
            yield field, value
            field, _, value = line.partition(":")
            field = field.lower()
    yield field, value


def _filter(packages: dict[str, set[str]]) -> dict[str, set[str]]:
    """Apply the three steps of `generate_dataset`."""
    large = {name: needs for name, needs in packages.items() if len(needs) >= _LEAST}
    named = Counter(need for needs in large.values() for need in needs)
    common = {need for need, count in named.items() if count >= _LEAST}
    return {name: needs & common for name, needs in large.items() if needs & common}


def _matrix(packages: dict[str, set[str]], dependency_names: list[str], package_names: list[str]) -> csr_matrix:
    rows = {name: row for row, name in enumerate(dependency_names)}
    pairs = np.array([(rows[need], column) for column, name in enumerate(package_names) for need in packages[name]])
    return csr_matrix((np.ones(len(pairs), np.float32), pairs.T), shape=(len(dependency_names), len(package_names)))


def _write_names(file: h5py.File, name: str, labels: list[str]) -> None:
    """Write sorted names as one compressed text, a quarter of the size of HDF5's own strings."""
    text = zlib.compress("\n".join(labels).encode(), 9)
    file.create_dataset(name, data=np.frombuffer(text, dtype=np.uint8))


def _read_names(file: h5py.File, name: str) -> NDArray[np.object_]:
    return np.array(zlib.decompress(file[name][...].tobytes()).decode().split("\n"), dtype=object)
