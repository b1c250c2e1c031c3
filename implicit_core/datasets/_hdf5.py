"""How the data sets lie in HDF5 files: a CSR matrix as a group of three arrays, labels as UTF-8 strings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

_CHUNK = 1 << 18
_MOST_INFLATION = 1100  # bytes that one of gzip can stand for


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what was written there becomes `path` on success and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for every writer: two processes at once cost a second download, not a corrupt file.
    part = path.with_name(f"{path.name}.{uuid4().hex[:12]}.part")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def create_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open a new HDF5 file that appears under its name only when it is complete."""
    with atomic_path(Path(path)) as part, h5py.File(part, "w") as file:
        yield file


def write_csr(file: h5py.File, name: str, matrix: csr_matrix, *, level: int = 4) -> None:
    """Write `matrix` as the group `name`; `level` is the gzip level, 0 to 9."""
    group = file.create_group(name)
    group.attrs["shape"] = np.array(matrix.shape, dtype=np.int64)
    for part in ("data", "indices", "indptr"):
        array = getattr(matrix, part)
        # gzip with shuffled bytes is what every HDF5 library can read, and it halves a typical matrix.
        chunks = (min(max(len(array), 1), _CHUNK),)
        group.create_dataset(
            part, data=array, chunks=chunks, maxshape=(None,), compression="gzip", compression_opts=level, shuffle=True
        )


def read_csr(file: h5py.File, name: str, shape: tuple[int, int] | None = None) -> csr_matrix:
    """Read the float32 matrix in the group `name`, checked so far that no later loop can leave its arrays.

    Files of the older library have no shape attribute; there `shape`, or else the largest index, tells it.
    """
    data = _array(file, f"{name}/data").astype(np.float32, copy=False)
    indices = _array(file, f"{name}/indices")
    indptr = _array(file, f"{name}/indptr")
    stored = file[name].attrs.get("shape")
    if stored is not None:
        shape = (int(stored[0]), int(stored[1]))
    elif shape is None:
        shape = (max(len(indptr), 1) - 1, int(indices.max(initial=-1)) + 1)
    _check_csr(name, data, indices, indptr, shape)
    return csr_matrix((data, indices, indptr), shape=shape)


def _check_csr(
    name: str, data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], shape: tuple[int, int]
) -> None:
    """Raise ValueError unless the arrays are a CSR matrix of this shape."""
    for part, array in (("indices", indices), ("indptr", indptr)):
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name}/{part} must hold integers, got {array.dtype}")
    if len(indptr) != shape[0] + 1:
        raise ValueError(f"{name}/indptr must have one entry more than the {shape[0]} rows, got {len(indptr)}")
    if len(data) != len(indices):
        raise ValueError(f"{name} must have one index per value, got {len(indices)} for {len(data)}")
    if indptr[0] != 0 or indptr[-1] != len(data) or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(f"{name}/indptr must rise from 0 to the {len(data)} stored values; the file is damaged")
    if len(indices) and (indices.min() < 0 or indices.max() >= shape[1]):
        raise ValueError(
            f"{name}/indices must lie in 0..{shape[1] - 1}, got {indices.min()}..{indices.max()}; the file is damaged"
        )


def write_labels(file: h5py.File, name: str, labels: Sequence[str] | Sequence[tuple[str, ...]]) -> None:
    """Write `labels`, strings of any length or tuples of as many each, in UTF-8."""
    file.create_dataset(name, data=np.array(labels, dtype=object), dtype=h5py.string_dtype("utf-8"))


def read_labels(file: h5py.File, name: str) -> NDArray[np.object_]:
    """Read the strings of the data set `name` as an object array of str."""
    dataset = _dataset(file, name)
    if h5py.check_string_dtype(dataset.dtype) is None:
        raise ValueError(f"{name} must hold strings, got {dataset.dtype}")
    # Some files have UTF-8 under the name of ASCII, and one wrong letter is no reason to refuse a data set.
    labels: NDArray[np.object_] = dataset.asstr("utf-8", errors="replace")[...]
    return labels


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(
            f"the file must hold a data set named {name}, but has only {sorted(map(str, file))} at its top"
        )
    if int(dataset.size) * dataset.dtype.itemsize > _MOST_INFLATION * file.id.get_filesize():
        raise ValueError(f"{name} claims {dataset.size} values, which the file is too short for; it is damaged")
    return dataset


def _array(file: h5py.File, name: str) -> NDArray[Any]:
    """Read a vector of numbers."""
    dataset = _dataset(file, name)
    if dataset.ndim != 1 or dataset.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a vector of numbers, got {dataset.dtype} of shape {dataset.shape}")
    array: NDArray[Any] = dataset[...]
    return array
