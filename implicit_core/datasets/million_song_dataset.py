"""The taste profile of the Million Song Dataset: how often a million users played each of 384,546 songs."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ._download import read_cached
from ._hdf5 import create_hdf5, read_csr, read_labels, write_csr, write_labels
from ._raw import count, label, named_matrix, open_lines, parsed

log = logging.getLogger(__name__)

URL = "https://github.com/benfred/recommender_data/releases/download/v1.0/msd_taste_profile.hdf5"

_TRIPLETS_FILE = "train_triplets.txt"
_SONGS = "metadata/songs"
_FIELDS = ("song_id", "artist_name", "release", "title")
_CHUNK = 1 << 13


def get_msd_taste_profile() -> tuple[NDArray[np.object_], NDArray[np.object_], csr_matrix]:
    """Return the taste profile subset of the Million Song Dataset, downloaded on the first call.

    Returns
    -------
    tracks : ndarray of str, shape (n_tracks, 4)
        Id, artist, album and name of each song, the rows of `plays`.
    users : ndarray of str, shape (n_users,)
        Hashed names of the users, the columns of `plays`.
    plays : csr_matrix of float32, shape (n_tracks, n_users)
        How often each user played each song. Models want users as rows: ``plays.T.tocsr()``.

    Raises
    ------
    DatasetError
        The file is neither in the cache folder nor to be had from its server.

    Notes
    -----
    The file is kept in ``~/implicit_datasets``, or in the folder that the environment variable ``IMPLICIT_DATASETS``
    names. The data are described in B. McFee, T. Bertin-Mahieux, D. Ellis, G. Lanckriet, *The Million Song Dataset
    Challenge*, WWW Companion, 2012.
    """
    return read_cached("msd_taste_profile.hdf5", URL, _read_msd)


def _read_msd(file: h5py.File) -> tuple[NDArray[np.object_], NDArray[np.object_], csr_matrix]:
    tracks, users = read_labels(file, "track"), read_labels(file, "user")
    if tracks.shape[1:] != (len(_FIELDS),):
        raise ValueError(f"track must have {len(_FIELDS)} columns, got shape {tracks.shape}")
    return tracks, users, read_csr(file, "track_user_plays", shape=(len(tracks), len(users)))


def generate_dataset(
    triplets_filename: str | os.PathLike[str],
    summary_filename: str | os.PathLike[str] = "msd_summary_file.h5",
    outputfilename: str | os.PathLike[str] = "msd_taste_profile.hdf5",
) -> None:
    """Make the file that `get_msd_taste_profile` reads from the raw data.

    Lines without a user, a song and a positive whole number of plays are skipped, and their number is logged. Plays of
    the same user and song are summed; songs are sorted by id, users by name. A song that the summary does not have
    keeps its id and has an empty artist, album and name; of one that it has several times the last entry counts.

    Parameters
    ----------
    triplets_filename : path
        ``train_triplets.txt.zip``, or the file ``train_triplets.txt`` in it.
    summary_filename : path
        ``msd_summary_file.h5``, which says artist, album and name of each song.
    outputfilename : path
        HDF5 file to write, replaced only when the new one is complete.

    Raises
    ------
    ValueError
        The triplets have no such lines, the archive no such file, or the summary no songs.
    """
    # The summary comes first: that it is missing should not come out after minutes of reading.
    with h5py.File(summary_filename, "r") as summary, open_lines(triplets_filename, _TRIPLETS_FILE) as lines:
        songs = summary.get(_SONGS)
        if not isinstance(songs, h5py.Dataset) or not set(_FIELDS) <= set(songs.dtype.names or ()):
            raise ValueError(f"{summary_filename} must have a table {_SONGS} with {', '.join(_FIELDS)}")
        ids, users, plays = named_matrix(parsed(lines, _play, "user, song and plays"))
        tracks = _tracks(ids, songs)
    with create_hdf5(outputfilename) as file:
        write_labels(file, "track", tracks)
        write_labels(file, "user", users)
        write_csr(file, "track_user_plays", plays)


def _play(line: str) -> tuple[str, str, int]:
    user, song, plays = line.split("\t")
    return label(song), label(user), count(plays)


def _tracks(ids: Sequence[str], songs: h5py.Dataset) -> list[tuple[str, ...]]:
    """Return id, artist, album and name of each song; the table has gigabytes, of which a slice is read at a time."""
    tracks = {song: (song, "", "", "") for song in ids}
    unknown = set(ids)
    for start in range(0, len(songs), _CHUNK):
        table = songs.fields(list(_FIELDS))[start : start + _CHUNK]
        for song, *texts in zip(*(table[field].tolist() for field in _FIELDS), strict=True):
            name = song.decode("utf-8", "replace")
            if name in tracks:
                artist, album, title = (text.decode("utf-8", "replace") for text in texts)
                tracks[name] = (name, artist, album, title)
                unknown.discard(name)
    if unknown:
        log.warning("the summary lacks %d of %d songs", len(unknown), len(ids))
    return [tracks[song] for song in ids]
