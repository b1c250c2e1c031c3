"""The reddit data set: 23 million votes of 44 thousand users on 3.4 million links."""

from __future__ import annotations

import os

import h5py
from scipy.sparse import csr_matrix

from ._download import read_cached
from ._hdf5 import create_hdf5, read_csr, write_csr
from ._raw import label, named_matrix, open_lines, parsed

URL = "https://github.com/benfred/recommender_data/releases/download/v1.0/reddit.hdf5"

_VOTES = {"1": 1, "-1": -1}


def get_reddit() -> csr_matrix:
    """Return the public votes of users of reddit until 2010, downloaded on the first call.

    Returns
    -------
    votes : csr_matrix of float32, shape (n_links, n_users)
        1 where a user voted a link up, −1 where down; links and users have no names. Models want users as rows:
        ``votes.T.tocsr()``.

    Raises
    ------
    DatasetError
        The file is neither in the cache folder nor to be had from its server.

    Notes
    -----
    The file is kept in ``~/implicit_datasets``, or in the folder that the environment variable ``IMPLICIT_DATASETS``
    names. The votes are those of users who made them public; reddit published them in 2010 "to help build a
    recommender".
    """
    return read_cached("reddit.hdf5", URL, _read_reddit)


def _read_reddit(file: h5py.File) -> csr_matrix:
    return read_csr(file, "item_user_ratings")


def generate_dataset(filename: str | os.PathLike[str], outputfilename: str | os.PathLike[str]) -> None:
    """Make the file that `get_reddit` reads from the raw data.

    Lines without a user, a link and a vote of 1 or −1 are skipped, and their number is logged. Where a user votes on a
    link again, the last vote counts. Rows and columns are in the order of the sorted names.

    Parameters
    ----------
    filename : path
        ``publicvotes.csv`` (user, link, vote, with commas) or the later and larger dump (user, link, subreddit, vote
        and perhaps more, with tabs), as it is or packed as ``.gz`` or ``.bz2``.
    outputfilename : path
        HDF5 file to write, replaced only when the new one is complete.

    Raises
    ------
    ValueError
        The input has no such lines.
    """
    with open_lines(filename, "publicvotes.csv") as lines:
        _, _, votes = named_matrix(parsed(lines, _vote, "user, link and vote"), keep_last=True)
    with create_hdf5(outputfilename) as file:
        write_csr(file, "item_user_ratings", votes)


def _vote(line: str) -> tuple[str, str, int]:
    if "\t" in line:
        user, link, _, vote, *_ = line.split("\t")
    else:
        user, link, vote = line.split(",")
    value = _VOTES.get(vote.strip())
    if value is None:
        raise ValueError("a vote must be 1 or -1")
    return label(link), label(user), value
