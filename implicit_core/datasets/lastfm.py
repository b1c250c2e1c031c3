"""The Last.fm 360K data set: how often 358,868 users played each of 292,385 artists."""

from __future__ import annotations

import os

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ._download import read_cached
from ._hdf5 import create_hdf5, read_csr, read_labels, write_csr, write_labels
from ._raw import count, label, named_matrix, open_lines, parsed

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
    with open_lines(filename, _PLAYS_FILE) as lines:
        artists, users, plays = named_matrix(parsed(lines, _play, "user, artist id, artist and plays"))
    with create_hdf5(outputfilename) as file:
        write_labels(file, "artist", artists)
        write_labels(file, "user", users)
        write_csr(file, "artist_user_plays", plays)


def _play(line: str) -> tuple[str, str, int]:
    user, _, artist, plays = line.split("\t")
    return label(artist), label(user), count(plays)
