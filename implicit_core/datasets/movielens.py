"""The MovieLens data sets: what users of movielens.org rate movies, 100 thousand to 20 million times."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ._download import read_cached
from ._hdf5 import create_hdf5, read_csr, read_labels, write_csr, write_labels
from ._raw import label, numbered_matrix, open_lines, parsed

URL_BASE = "https://github.com/benfred/recommender_data/releases/download/v1.0/"

# Ids are places in the matrix, so that one wrong digit could ask for gigabytes.
_LARGEST_ID = 10_000_000


def get_movielens(variant: str = "20m") -> tuple[NDArray[np.object_], csr_matrix]:
    """Return a MovieLens data set, downloaded on the first call.

    Parameters
    ----------
    variant : {"20m", "10m", "1m", "100k"}
        Which of them, by its number of ratings.

    Returns
    -------
    titles : ndarray of str, shape (n_movies,)
        Titles of the movies, the rows of `ratings`; empty where no movie has the id.
    ratings : csr_matrix of float32, shape (n_movies, n_users)
        Stars from 0.5 to 5. Row and column numbers are the ids of movies and users in the raw data, which begin at 1:
        row 0, column 0 and the rows of unused ids are empty. Models want users as rows: ``ratings.T.tocsr()``.

    Raises
    ------
    ValueError
        There is no such variant.
    DatasetError
        The file is neither in the cache folder nor to be had from its server.

    Notes
    -----
    The file is kept in ``~/implicit_datasets``, or in the folder that the environment variable ``IMPLICIT_DATASETS``
    names. The data are described in F. M. Harper, J. A. Konstan, *The MovieLens Datasets: History and Context*, ACM
    Transactions on Interactive Intelligent Systems, 2015.
    """
    _layout(variant)
    filename = _filename(variant)
    return read_cached(filename, URL_BASE + filename, _read_movielens)


def _read_movielens(file: h5py.File) -> tuple[NDArray[np.object_], csr_matrix]:
    return read_labels(file, "movie"), read_csr(file, "movie_user_ratings")


def generate_dataset(
    path: str | os.PathLike[str], variant: str = "20m", outputpath: str | os.PathLike[str] = "."
) -> None:
    """Make the file that `get_movielens` reads from the raw data.

    Lines without a user, a movie and a rating of at most 5, or without a movie and a title, are skipped, and their
    number is logged. Where a user rates a movie again, the last rating counts.

    Parameters
    ----------
    path : path
        ``ml-20m.zip``, ``ml-10m.zip``, ``ml-1m.zip`` or ``ml-100k.zip``, or the folder that was in it.
    variant : {"20m", "10m", "1m", "100k"}
        Which of them it is.
    outputpath : path
        Folder for the file ``movielens_<variant>.hdf5``, replaced only when the new one is complete.

    Raises
    ------
    ValueError
        There is no such variant, `path` is neither a zip file nor a folder, or it has no such files or lines.
    """
    layout = _layout(variant)
    path = Path(path)
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"path must be a folder or a zip file, got {path}; pass the archive as it was published")
    with open_lines(path, layout.movies, layout.encoding) as lines:
        titles = dict(parsed(_without("movieId,", lines), layout.title, "movie and title"))
    with open_lines(path, layout.ratings) as lines:
        rating = _rating_reader(layout.separator)
        entries = parsed(_without("userId,", lines), rating, "user, movie, rating and time")
        ratings = numbered_matrix(entries, keep_last=True)
    movies = max(ratings.shape[0], max(titles) + 1)
    ratings.resize((movies, ratings.shape[1]))
    with create_hdf5(Path(outputpath) / _filename(variant)) as file:
        write_labels(file, "movie", [titles.get(movie, "") for movie in range(movies)])
        write_csr(file, "movie_user_ratings", ratings)


def _filename(variant: str) -> str:
    return f"movielens_{variant}.hdf5"


def _id(text: str) -> int:
    number = int(text)
    if not 0 < number <= _LARGEST_ID:
        raise ValueError("an id must be positive, and not so large that it is none")
    return number


def _rating_reader(separator: str) -> Callable[[str], tuple[int, int, float]]:
    def rating(line: str) -> tuple[int, int, float]:
        user, movie, text, _ = line.split(separator)
        stars = float(text)
        if not 0 < stars <= 5:
            raise ValueError("a rating must be more than 0 and at most 5")
        return _id(movie), _id(user), stars

    return rating


def _csv_title(line: str) -> tuple[int, str]:
    try:
        # Line by line: a quotation mark too many costs one line, not those up to the next mark.
        movie, title, _ = next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return _id(movie), label(title)


def _dat_title(line: str) -> tuple[int, str]:
    movie, rest = line.split("::", 1)
    title, _ = rest.rsplit("::", 1)
    return _id(movie), label(title)


def _item_title(line: str) -> tuple[int, str]:
    movie, title, _ = line.split("|", 2)
    return _id(movie), label(title)


def _without(header: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines but for the first one, if it begins with `header`."""
    for number, line in enumerate(lines):
        if number or not line.startswith(header):
            yield line


class _Layout(NamedTuple):
    """How a variant lies in its files."""

    ratings: str
    separator: str
    movies: str
    encoding: str
    title: Callable[[str], tuple[int, str]]


_LAYOUTS = {
    "20m": _Layout("ratings.csv", ",", "movies.csv", "utf-8", _csv_title),
    "10m": _Layout("ratings.dat", "::", "movies.dat", "utf-8", _dat_title),
    "1m": _Layout("ratings.dat", "::", "movies.dat", "latin-1", _dat_title),
    "100k": _Layout("u.data", "\t", "u.item", "latin-1", _item_title),
}


def _layout(variant: str) -> _Layout:
    if variant not in _LAYOUTS:
        raise ValueError(f"variant must be one of {', '.join(_LAYOUTS)}, got {variant!r}")
    return _LAYOUTS[variant]
