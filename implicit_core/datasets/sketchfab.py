"""The Sketchfab data set: which of 28 thousand 3D models 62 thousand users like."""

from __future__ import annotations

import os
from collections.abc import Callable

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ._download import read_cached
from ._hdf5 import create_hdf5, read_csr, read_labels, write_csr, write_labels
from ._raw import label, named_matrix, open_lines, parsed

URL = "https://github.com/benfred/recommender_data/releases/download/v1.0/sketchfab.hdf5"

_LIKES_FILE = "model_likes_anon.psv"


def get_sketchfab() -> tuple[NDArray[np.object_], NDArray[np.object_], csr_matrix]:
    """Return the likes of users of Sketchfab, downloaded on the first call.

    Returns
    -------
    items : ndarray of str, shape (n_items,)
        Ids of the 3D models, the rows of `likes`.
    users : ndarray of str, shape (n_users,)
        Hashed ids of the users, the columns of `likes`.
    likes : csr_matrix of float32, shape (n_items, n_users)
        1 where a user likes an item. Models want users as rows: ``likes.T.tocsr()``.

    Raises
    ------
    DatasetError
        The file is neither in the cache folder nor to be had from its server.

    Notes
    -----
    The file is kept in ``~/implicit_datasets``, or in the folder that the environment variable ``IMPLICIT_DATASETS``
    names. The data were collected by E. Rosenthal, *Likes Out! Guerilla Dataset!*, 2016. In the file to download, a
    like that was collected twice counts 2.
    """
    return read_cached("sketchfab.hdf5", URL, _read_sketchfab)


def _read_sketchfab(file: h5py.File) -> tuple[NDArray[np.object_], NDArray[np.object_], csr_matrix]:
    items, users = read_labels(file, "item"), read_labels(file, "user")
    return items, users, read_csr(file, "item_user_likes", shape=(len(items), len(users)))


def generate_dataset(filename: str | os.PathLike[str], outputfilename: str | os.PathLike[str]) -> None:
    """Make the file that `get_sketchfab` reads from the raw data.

    Lines without an item and a user are skipped, and their number is logged. A like is a like, however often it comes.
    Labels are sorted. The names of the items are not kept; they may contain any letter, the separator ``|`` too.

    Parameters
    ----------
    filename : path
        ``model_likes_anon.psv``, as it is or packed as ``.gz`` or ``.bz2``: a header with ``mid`` (the item) and
        ``uid`` (the user) after the name, then a like in each line, with ``|`` between the fields.
    outputfilename : path
        HDF5 file to write, replaced only when the new one is complete.

    Raises
    ------
    ValueError
        The input has no such header or no such lines.
    """
    with open_lines(filename, _LIKES_FILE) as lines:
        like = _reader(next(lines, ""))
        items, users, likes = named_matrix(parsed(lines, like, "name, item and user"), keep_last=True)
    with create_hdf5(outputfilename) as file:
        write_labels(file, "item", items)
        write_labels(file, "user", users)
        write_csr(file, "item_user_likes", likes)


def _reader(header: str) -> Callable[[str], tuple[str, str, int]]:
    """Return the function that finds item and user in a line."""
    names = header.strip().split("|")
    if not {"mid", "uid"} <= set(names):
        raise ValueError(f"the first line must be a header with mid and uid, got {header.strip()[:80]!r}")
    # Counted from the end, since a separator in the name moves what comes after it.
    item, user = (names.index(name) - len(names) for name in ("mid", "uid"))

    def like(line: str) -> tuple[str, str, int]:
        fields = line.rstrip("\r\n").split("|")
        if len(fields) < len(names):
            raise ValueError("a field is missing")
        return label(fields[item]), label(fields[user]), 1

    return like
