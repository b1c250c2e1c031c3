"""The Last.fm 360K data set: how often 358,868 users played each of 292,385 artists."""

from __future__ import annotations

import logging
import os
import tarfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import PurePosixPath
from typing import IO

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from ._download import read_cached
from ._hdf5 import create_hdf5, read_csr, read_labels, write_csr, write_labels

log = logging.getLogger(__name__)

URL = "https://github.com/benfred/recommender_data/releases/download/v1.0/lastfm_360k.hdf5"

_PLAYS_FILE = "usersha1-artmbid-artname-plays.tsv"


def get_lastfm() -> tuple[NDArray[np.object_], NDArray[np.object_], csr_matrix]:
    """Return the Last.fm 360K data set, downloaded on the first call.

    Returns
    -------
    artists : ndarray of str, shape (n_artists,)
        Names of the artists, the rows of `plays`.
    users : ndarray of str, shape (n_users,)
        Hashed names of the users, the columns of `plays`.
    plays : csr_matrix of float32, shape (n_artists, n_users)
        How often each user played each artist. Models want users as rows: ``plays.T.tocsr()``.

    Raises
    ------
    DatasetError
        The file is neither in the cache folder nor to be had from its server.

    Notes
    -----
    The file is kept in ``~/implicit_datasets``, or in the folder that the environment variable ``IMPLICIT_DATASETS``
    names. The data are described in O. Celma, *Music Recommendation and Discovery*, Springer, 2010.
    """
    return read_cached("lastfm_360k.hdf5", URL, _read_lastfm)


def _read_lastfm(file: h5py.File) -> tuple[NDArray[np.object_], NDArray[np.object_], csr_matrix]:
    artists, users = read_labels(file, "artist"), read_labels(file, "user")
    return artists, users, read_csr(file, "artist_user_plays", shape=(len(artists), len(users)))


def generate_dataset(filename: str | os.PathLike[str], outputfilename: str | os.PathLike[str]) -> None:
    """Make the file that `get_lastfm` reads from the raw data.

    Lines without four columns, a user, an artist and a positive whole number of plays are skipped, and their number is
    logged. Plays of the same user and artist name are summed; labels are sorted. A quotation mark is a letter like any
    other (a CSV parser takes it for the start of a quoted field and loses the lines up to the next one).

    Parameters
    ----------
    filename : path
        ``lastfm-dataset-360K.tar.gz``, or the file ``usersha1-artmbid-artname-plays.tsv`` in it.
    outputfilename : path
        HDF5 file to write, replaced only when the new one is complete.

    Raises
    ------
    ValueError
        The input has no such lines, or the archive no such file.
    """
    with _open_plays(filename) as lines:
        artists, users, plays = _parse(lines)
    with create_hdf5(outputfilename) as file:
        write_labels(file, "artist", artists)
        write_labels(file, "user", users)
        write_csr(file, "artist_user_plays", plays)


@contextmanager
def _open_plays(filename: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Open the lines of the raw file, straight from the archive if it is one."""
    if not tarfile.is_tarfile(filename):
        # Only "\n" ends a line: some names contain other characters that Python takes for a line's end.
        with open(filename, encoding="utf-8", errors="replace", newline="\n") as lines:
            yield lines
        return
    with tarfile.open(filename) as archive:
        for member in archive:
            content = archive.extractfile(member) if PurePosixPath(member.name).name == _PLAYS_FILE else None
            if content is not None:
                with TextIOWrapper(content, encoding="utf-8", errors="replace", newline="\n") as lines:
                    yield lines
                return
    raise ValueError(f"{filename} must contain {_PLAYS_FILE}, which is not in the archive")


class _Ids(dict[str, int]):
    """Numbers names in the order in which they come."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number

    def ranks(self) -> tuple[list[str], NDArray[np.int32]]:
        """Return the sorted names, and for each number the place of its name among them."""
        names = sorted(self)
        ranks = np.empty(len(names), dtype=np.int32)
        ranks[[self[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        return names, ranks


def _parse(lines: Iterable[str]) -> tuple[list[str], list[str], csr_matrix]:
    """Return artists, users and the artists × users matrix; 12 bytes a line are all that is kept meanwhile."""
    artist_ids, user_ids = _Ids(), _Ids()
    rows, columns, values = array("i"), array("i"), array("f")
    total = 0
    for total, line in enumerate(lines, 1):  # noqa: B007
        try:
            user, _, artist, text = line.split("\t")
            plays = int(text)
        except ValueError:
            continue
        # HDF5 strings end at a NUL.
        if not 0 < plays < 2**31 or not user.strip() or not artist.strip() or "\0" in line:
            continue
        rows.append(artist_ids[artist])
        columns.append(user_ids[user])
        values.append(plays)
    if not values:
        raise ValueError(f"the input must have lines of user, artist id, artist and plays, got none in {total} lines")
    if len(values) < total:
        log.warning("skipped %d malformed lines of %d", total - len(values), total)
    artists, artist_ranks = artist_ids.ranks()
    users, user_ranks = user_ids.ranks()
    plays_matrix = coo_matrix(
        (np.frombuffer(values, np.float32), (artist_ranks[rows], user_ranks[columns])),
        shape=(len(artists), len(users)),
    )
    return artists, users, plays_matrix.tocsr()
