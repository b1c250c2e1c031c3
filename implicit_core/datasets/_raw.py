"""From raw files as they are published to labels and a matrix, one line at a time."""

from __future__ import annotations

import bz2
import gzip
import logging
import os
import tarfile
import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

T = TypeVar("T")

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_MOST_LINE = 1 << 20
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}


@contextmanager
def open_lines(path: str | os.PathLike[str], name: str, encoding: str = "utf-8") -> Iterator[Iterator[str]]:
    """Open the lines of the file `name` in a folder, a zip or a tar archive, or of `path` itself (also .gz, .bz2).

    Longer ones than any data set has come in pieces, since a small archive can hold one that fills the memory.
    """
    # Only "\n" ends a line: some names contain other characters that Python takes for a line's end.
    with (
        _open(Path(path), name) as content,
        TextIOWrapper(content, encoding=encoding, errors="replace", newline="\n") as lines,
    ):
        yield iter(partial(lines.readline, _MOST_LINE), "")


@contextmanager
def _open(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open the bytes of `open_lines`, straight from the archive if `path` is one."""
    if path.is_dir():
        with open(path / name, "rb") as content:
            yield content
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            # A loop, since a list of the members would unpack the whole archive first.
            found = next((entry for entry in tar if entry.isfile() and _is(entry.name, name)), None)
            yield _inside(path, name, tar.extractfile(found) if found else None)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = next(
                (entry for entry in archive.infolist() if not entry.is_dir() and _is(entry.filename, name)), None
            )
            yield _inside(path, name, archive.open(member) if member else None)
    else:
        with _OPENERS.get(path.suffix, open)(path, "rb") as content:
            yield content


def _is(member: str, name: str) -> bool:
    return PurePosixPath(member).name == name


def _inside(path: Path, name: str, content: IO[bytes] | None) -> IO[bytes]:
    if content is None:
        raise ValueError(f"{path} must contain {name}, which is not in the archive")
    return content


def parsed(lines: Iterable[str], parse: Callable[[str], T], layout: str) -> Iterator[T]:
    """Yield what `parse` makes of each line; those for which it raises ValueError are skipped, counted and logged.

    Raise ValueError if none is left; `layout` says there what a line must have.
    """
    total = good = 0
    for total, line in enumerate(lines, 1):  # noqa: B007
        try:
            entry = parse(line)
        except ValueError:
            continue
        # HDF5 strings end at a NUL.
        if "\0" in line:
            continue
        good += 1
        yield entry
    if not good:
        raise ValueError(f"the input must have lines of {layout}, got none in {total} lines")
    if good < total:
        log.warning("skipped %d malformed lines of %d", total - good, total)


def label(text: str) -> str:
    """Return the field `text`, which must not be blank."""
    if not text.strip():
        raise ValueError("a label must not be blank")
    return text


def count(text: str) -> int:
    """Return the positive whole number in the field `text`."""
    number = int(text)
    if not 0 < number < 2**31:
        raise ValueError("a count must be a positive number of at most 31 bits")
    return number


def named_matrix(
    entries: Iterable[tuple[str, str, float]], *, keep_last: bool = False
) -> tuple[list[str], list[str], csr_matrix]:
    """Return the sorted names of rows and columns, and the matrix of the entries (row, column, value).

    Entries of the same cell are summed, or else the last one counts. Until the matrix is made, 12 bytes an entry are
    kept, and every name once.
    """
    row_ids, column_ids = _Ids(), _Ids()
    rows, columns, values = _arrays((row_ids[row], column_ids[column], value) for row, column, value in entries)
    row_names, column_names = row_ids.rank(rows), column_ids.rank(columns)
    return row_names, column_names, _csr(rows, columns, values, (len(row_names), len(column_names)), keep_last)


def numbered_matrix(entries: Iterable[tuple[int, int, float]], *, keep_last: bool = False) -> csr_matrix:
    """Return the matrix of the entries (row, column, value), with the numbers as they come; see `named_matrix`."""
    rows, columns, values = _arrays(entries)
    return _csr(rows, columns, values, (int(rows.max(initial=-1)) + 1, int(columns.max(initial=-1)) + 1), keep_last)


class _Ids(dict[str, int]):
    """Numbers names in the order in which they come."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number

    def rank(self, numbers: NDArray[np.int32]) -> list[str]:
        """Return the sorted names, and put in place of each number the place of its name among them."""
        names = sorted(self)
        ranks = np.empty(len(names), dtype=np.int32)
        ranks[[self[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        for start in range(0, len(numbers), _CHUNK):
            numbers[start : start + _CHUNK] = ranks[numbers[start : start + _CHUNK]]
        return names


def _arrays(
    entries: Iterable[tuple[int, int, float]],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    rows, columns, values = array("i"), array("i"), array("f")
    for row, column, value in entries:
        rows.append(row)
        columns.append(column)
        values.append(value)
    return np.frombuffer(rows, np.int32), np.frombuffer(columns, np.int32), np.frombuffer(values, np.float32)


def _csr(
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    shape: tuple[int, int],
    keep_last: bool,
) -> csr_matrix:
    matrix = coo_matrix((values, (rows, columns)), shape=shape)
    if not keep_last:
        return matrix.tocsr()
    matrix.has_canonical_format = True  # otherwise a conversion sums the entries of a cell
    # Two conversions are a stable sort by row and column: entries of the same cell stay in the order of the input.
    matrix = matrix.tocsc().tocsr()
    indptr, indices, data = matrix.indptr, matrix.indices, matrix.data
    last = np.append(indices[1:] != indices[:-1], True)
    last[indptr[1:] - 1] = True
    if last.all():
        return matrix
    ends = np.append(0, np.cumsum(last, dtype=indptr.dtype))[indptr]
    return csr_matrix((data[last], indices[last], ends), shape=shape)
