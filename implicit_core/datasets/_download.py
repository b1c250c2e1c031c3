"""The cache of downloaded data sets: a file is there whole or not at all, whatever cuts the line."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import h5py
from tqdm.auto import tqdm

from ._hdf5 import atomic_path

T = TypeVar("T")

log = logging.getLogger(__name__)

# os.path, since Path.home() raises where a user has no home, and then nothing here could be imported.
LOCAL_CACHE_DIR = os.path.join(os.path.expanduser("~"), "implicit_datasets")  # noqa: PTH111, PTH118

ATTEMPTS = 5
STALL_SECONDS = 20.0
PAUSE_SECONDS = 0.2

_CHUNK = 1 << 16
# Request timeout, too early, too many requests: answers that may be another one in a moment. So are all of 5xx.
_PASSING = (408, 425, 429)


class DatasetError(OSError):
    """A data set is neither in the cache nor to be had from its server."""


class _Cut(Exception):
    """A transfer failed in a way that may pass."""


class _Refused(Exception):
    """A transfer failed in a way that a second attempt does not mend."""


def cache_dir() -> Path:
    """Return the folder of the cached files: environment variable `IMPLICIT_DATASETS`, else `LOCAL_CACHE_DIR`."""
    return Path(os.path.expanduser(os.environ.get("IMPLICIT_DATASETS") or LOCAL_CACHE_DIR))  # noqa: PTH111


def read_cached(filename: str, url: str, read: Callable[[h5py.File], T], sha256: str | None = None) -> T:
    """Return what `read` makes of the cached HDF5 file, which is downloaded first where it is missing or damaged.

    Parameters
    ----------
    filename : str
        Name of the file in the cache folder.
    url : str
        Where it is downloaded from.
    read : callable
        Gets the open file. An error that it raises for its content counts as damage.
    sha256 : str, optional
        Hexadecimal digest that a download must have.

    Raises
    ------
    DatasetError
        The file cannot be downloaded, or what came is not the data set.
    """
    path = cache_dir().absolute() / filename
    if path.exists():
        try:
            return _read(path, read)
        except _Refused as damage:
            log.warning("%s is damaged and will be downloaded again: %s", path, damage)
    # Read under the temporary name: only a file that can be read gets the final one.
    with atomic_path(path) as part:
        try:
            _download(url, part, sha256)
            return _read(part, read)
        except _Refused as error:
            raise _no_dataset(url, path, error) from error


def download_file(url: str, local_filename: str | os.PathLike[str], sha256: str | None = None) -> None:
    """Download `url` to `local_filename`, which is replaced only by a complete file.

    A cut transfer is taken up where it ended, up to five attempts in all.

    Parameters
    ----------
    url : str
        Address of the file.
    local_filename : path
        Its place on disk. Missing folders are made.
    sha256 : str, optional
        Hexadecimal digest that the file must have.

    Raises
    ------
    DatasetError
        The server cannot be reached, refuses, or sends something else.
    """
    path = Path(local_filename).absolute()
    with atomic_path(path) as part:
        try:
            _download(url, part, sha256)
        except _Refused as error:
            raise _no_dataset(url, path, error) from error


def _no_dataset(url: str, path: Path, reason: Exception) -> DatasetError:
    return DatasetError(
        f"could not download {url}: {reason}. To go on without a download, put the file at {path} by hand, or set the "
        f"environment variable IMPLICIT_DATASETS to a folder that has {path.name}"
    )


def _read(path: Path, read: Callable[[h5py.File], T]) -> T:
    """Open and read an HDF5 file; raise `_Refused` if its content is not what `read` expects."""
    try:
        with h5py.File(path, "r") as file:
            return read(file)
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        # An error number comes from the system (permission, locks): that says nothing about the content.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _Refused(f"the file is not the data set expected ({error})") from error


def _download(url: str, part: Path, sha256: str | None) -> None:
    """Fetch `url` into the new file `part`; raise `_Refused` if it cannot be had."""
    name = url.rpartition("/")[2]
    with open(part, "w+b") as file, tqdm(unit="B", unit_scale=True, unit_divisor=1024, desc=name) as progress:
        transfer = _Transfer(url, file, progress)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                transfer.run()
                break
            except _Cut as cut:
                log.info("attempt %d to download %s: %s", attempt, url, cut)
                if attempt == ATTEMPTS:
                    raise _Refused(f"{cut} ({ATTEMPTS} attempts)") from cut
                time.sleep(PAUSE_SECONDS * attempt)
        if sha256 is not None and (digest := _sha256(file)) != sha256.lower():
            raise _Refused(f"the SHA-256 of the file must be {sha256}, got {digest}; it was changed on the way")


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


class _Transfer:
    """One download over several attempts."""

    def __init__(self, url: str, file: IO[bytes], progress: Any) -> None:
        self.url = url
        self.file = file
        self.progress = progress
        self.validator: str | None = None  # says which version of the resource the bytes in `file` are of

    def run(self) -> None:
        """Fetch what is missing; raise `_Cut` or `_Refused` when that fails."""
        offset = self.file.tell()
        with self._request(offset) as response:
            total = self._accept(response, offset)
            for chunk in _chunks(response):
                self.file.write(chunk)
                self.progress.update(len(chunk))
        if total is not None and self.file.tell() != total:
            raise _Cut(f"the connection ended after {self.file.tell()} of {total} bytes")

    def _restart(self) -> None:
        """Forget what came so far."""
        self.file.seek(0)
        self.file.truncate()
        self.progress.reset()

    def _request(self, offset: int) -> Any:
        headers = {"User-Agent": "implicit_core"}
        if offset and self.validator:
            headers |= {"Range": f"bytes={offset}-", "If-Range": self.validator}
        try:
            return urlopen(Request(self.url, headers=headers), timeout=STALL_SECONDS)
        except HTTPError as error:
            error.close()
            answer = " ".join(f"the server answered {error.code} {error.reason}".split())
            if error.code == 416:
                self._restart()
            elif error.code < 500 and error.code not in _PASSING:
                raise _Refused(answer) from error
            raise _Cut(answer) from error
        except (OSError, HTTPException) as error:
            raise _Cut(f"the server cannot be reached ({error})") from error

    def _accept(self, response: Any, offset: int) -> int | None:
        """Make `file` end where the body of `response` begins; return the length of the whole file if it is told."""
        headers = response.headers
        if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise _Refused("a web page came in place of the data, perhaps the login page of a network")
        validator = _validator(headers)
        if response.status == 206:
            start, total = _content_range(headers)
            if start != offset or validator not in (None, self.validator):
                self._restart()
                raise _Cut("the file on the server changed during the download")
        else:
            self._restart()
            self.validator = validator
            length = headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
        self.progress.total = total
        return total


def _validator(headers: Message) -> str | None:
    """Return what an If-Range header may hold: a strong ETag, or else the date of the last change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """Return the first byte and the whole length from a Content-Range header."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if found is None:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _chunks(response: Any) -> Iterator[bytes]:
    """Yield the body; an error of the network becomes `_Cut`, one of the disk in the caller's loop does not."""
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _Cut(f"the connection broke ({error})") from error
