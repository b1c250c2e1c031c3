"""Downloads and the cache, against a local server that misbehaves on purpose."""

import hashlib
import io
import os
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from implicit_core.datasets import _download, lastfm, million_song_dataset, movielens, reddit, sketchfab
from implicit_core.datasets._download import DatasetError, download_file, read_cached
from implicit_core.datasets._raw import open_lines

BODY = np.random.default_rng(0).bytes(300_000)


class Server:
    """Answers requests with the functions in `answers`, one after the other; the last one stays."""

    def __init__(self):
        self.answers, self.requests, self.paths = [], [], []
        server, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with lock:
                    server.requests.append(dict(self.headers))
                    server.paths.append(self.path)
                    answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                answer(self)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/data.hdf5"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *args):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(_download, "PAUSE_SECONDS", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        yield server


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "cache"))
    return tmp_path / "cache"


def send(body=BODY, *, cut=None, length=None, status=200, kind="application/octet-stream", ranges=False, **headers):
    """Answer with `body`, of which only the first `cut` bytes come; with `ranges`, honour Range and If-Range."""

    def answer(handler):
        start, code = 0, status
        wanted = handler.headers["Range"]
        if ranges and wanted and (ranges == "naive" or handler.headers["If-Range"] in headers.values()):
            start, code = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
        handler.send_response(code)
        if code == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Type", kind)
        if length != "none":
            handler.send_header("Content-Length", str(length or len(body) - start))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body[start:cut])

    return answer


def hdf5_bytes(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path.read_bytes()


def read_x(file):
    return file["x"][...]


def test_a_download_is_the_served_file_and_nothing_else_stays(server, tmp_path):
    server.answers = [send()]
    download_file(server.url, tmp_path / "new" / "data")
    assert (tmp_path / "new" / "data").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data"]


@pytest.mark.parametrize("validator", [{"ETag": '"1"'}, {"Last_Modified": "Sat, 01 Jan 2022 00:00:00 GMT"}])
def test_a_cut_download_goes_on_where_it_ended(server, tmp_path, validator):
    server.answers = [send(cut=100_000, **validator), send(ranges=True, **validator)]
    download_file(server.url, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == BODY
    assert "Range" not in server.requests[0]
    assert server.requests[1]["Range"] == "bytes=100000-"
    assert server.requests[1]["If-Range"] in validator.values()


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(send(ETag='"1"'), id="range ignored"),
        pytest.param(send(ETag='"2"', ranges=True), id="changed, If-Range honoured"),
        pytest.param(send(ETag='"2"', ranges="naive"), id="changed, If-Range ignored"),
        pytest.param(send(status=416), id="range refused"),
    ],
)
def test_a_cut_download_begins_again_where_it_cannot_go_on(server, tmp_path, second):
    old = bytes(len(BODY))
    server.answers = [send(old, cut=100_000, ETag='"1"'), second, send(ETag='"2"', ranges=True)]
    download_file(server.url, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == BODY
    assert "Range" in server.requests[1]


def test_of_a_file_that_became_shorter_nothing_old_stays(server, tmp_path):
    server.answers = [send(cut=100_000, ETag='"1"'), send(b"new", ETag='"2"', ranges=True)]
    download_file(server.url, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"new"


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}])
def test_without_a_strong_validator_no_range_is_asked_for(server, tmp_path, headers):
    server.answers = [send(cut=100_000, **headers), send(ranges=True, **headers)]
    download_file(server.url, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == BODY
    assert all("Range" not in request for request in server.requests)


def redirect_to_itself(handler):
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (send(status=404), "404"),
        (send(status=403), "403"),
        (redirect_to_itself, "infinite loop"),
        (send(b"<html>log in</html>", kind="text/html; charset=utf-8"), "web page"),
    ],
)
def test_a_refusal_is_told_at_once_and_says_how_to_go_on(server, tmp_path, answer, text):
    server.answers = [answer]
    (tmp_path / "data").write_bytes(b"old")
    with pytest.raises(DatasetError, match=text) as caught:
        download_file(server.url, tmp_path / "data")
    for hint in (server.url, str(tmp_path / "data"), "IMPLICIT_DATASETS"):
        assert hint in str(caught.value)
    assert answer is redirect_to_itself or len(server.requests) == 1
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("data", b"old")]


@pytest.mark.parametrize(
    "answer",
    [send(status=500), send(length=400_000), send(cut=100_000), send(cut=1000, ETag='"1"', ranges=True)],
    ids=["500", "longer than the body", "always cut", "always cut at the same byte"],
)
def test_retries_are_bounded_and_leave_nothing(server, tmp_path, answer):
    server.answers = [answer]
    with pytest.raises(DatasetError, match=f"{_download.ATTEMPTS} attempts"):
        download_file(server.url, tmp_path / "data")
    assert len(server.requests) == _download.ATTEMPTS
    assert list(tmp_path.iterdir()) == []


def test_a_passing_failure_is_overcome(server, tmp_path):
    server.answers = [send(status=500), send(status=503), send(status=429), send()]
    download_file(server.url, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == BODY


@pytest.mark.parametrize("cut", [None, 100_000], ids=["before the answer", "in the answer"])
def test_a_stalled_server_is_given_up(server, tmp_path, monkeypatch, cut):
    monkeypatch.setattr(_download, "STALL_SECONDS", 0.05)
    done = threading.Event()

    def answer(handler):
        if cut:
            send(cut=cut, ETag='"1"')(handler)
        done.wait(2)

    server.answers = [answer]
    try:
        with pytest.raises(DatasetError, match="timed out"):
            download_file(server.url, tmp_path / "data")
    finally:
        done.set()
    assert len(server.requests) == _download.ATTEMPTS
    assert ("Range" in server.requests[-1]) == bool(cut)


def test_an_unreachable_server_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(_download, "PAUSE_SECONDS", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        url = server.url
    with pytest.raises(DatasetError, match="cannot be reached"):
        download_file(url, tmp_path / "data")


def test_only_the_right_hash_is_accepted(server, tmp_path):
    server.answers = [send()]
    with pytest.raises(DatasetError, match="SHA-256"):
        download_file(server.url, tmp_path / "data", sha256=hashlib.sha256(b"").hexdigest())
    assert list(tmp_path.iterdir()) == []
    download_file(server.url, tmp_path / "data", sha256=hashlib.sha256(BODY).hexdigest().upper())
    assert (tmp_path / "data").read_bytes() == BODY


def test_an_error_of_the_disk_is_not_taken_for_one_of_the_line(server, tmp_path):
    server.answers = [send()]
    (tmp_path / "data").mkdir()
    with pytest.raises(IsADirectoryError):
        download_file(server.url, tmp_path / "data")
    assert len(server.requests) == 1


def test_two_downloads_of_one_file_at_once_do_not_mix(server, tmp_path):
    both = threading.Barrier(2, timeout=10)

    def answer(handler):
        both.wait()
        send()(handler)

    server.answers = [answer]
    threads = [threading.Thread(target=download_file, args=(server.url, tmp_path / "data")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "data").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_cache_folder_is_looked_up_at_each_call(server, tmp_path, monkeypatch):
    server.answers = [send(hdf5_bytes(tmp_path / "x", x=[1, 2]))]
    monkeypatch.setattr(_download, "LOCAL_CACHE_DIR", str(tmp_path / "constant"))
    monkeypatch.delenv("IMPLICIT_DATASETS", raising=False)
    read_cached("data.hdf5", server.url, read_x)
    assert os.listdir(tmp_path / "constant") == ["data.hdf5"]  # noqa: PTH208
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "variable"))
    read_cached("data.hdf5", server.url, read_x)
    assert os.listdir(tmp_path / "variable") == ["data.hdf5"]  # noqa: PTH208


def test_a_cached_file_needs_no_server(server, cache, tmp_path):
    server.answers = [send(hdf5_bytes(tmp_path / "x", x=[1, 2]))]
    for _ in range(2):
        np.testing.assert_array_equal(read_cached("data.hdf5", server.url, read_x), [1, 2])
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["truncated", "a web page", "empty", "without the data"])
def test_a_damaged_cached_file_is_replaced(server, cache, tmp_path, damage):
    good = hdf5_bytes(tmp_path / "x", x=np.arange(1000))
    bad = {
        "truncated": good[:5000],
        "a web page": b"<html></html>",
        "empty": b"",
        "without the data": hdf5_bytes(tmp_path / "y", y=[1]),
    }
    cache.mkdir()
    (cache / "data.hdf5").write_bytes(bad[damage])
    server.answers = [send(good)]
    np.testing.assert_array_equal(read_cached("data.hdf5", server.url, read_x), np.arange(1000))
    assert (cache / "data.hdf5").read_bytes() == good


def test_a_cached_file_truncated_anywhere_is_replaced(server, cache, tmp_path):
    good = hdf5_bytes(tmp_path / "x", x=np.random.default_rng(0).random(5000))
    cache.mkdir()
    server.answers = [send(good)]
    lengths = np.unique(np.linspace(0, len(good) - 1, 60).astype(int))
    for length in lengths:
        (cache / "data.hdf5").write_bytes(good[:length])
        assert len(read_cached("data.hdf5", server.url, read_x)) == 5000
        assert (cache / "data.hdf5").read_bytes() == good
    assert len(server.requests) == len(lengths)


@pytest.mark.parametrize("length", [None, "none"])
def test_a_download_that_cannot_be_read_never_gets_the_final_name(server, cache, tmp_path, length):
    good = hdf5_bytes(tmp_path / "x", x=np.arange(1000))
    server.answers = [send(good[:5000], length=length)]
    with pytest.raises(DatasetError, match="not the data set"):
        read_cached("data.hdf5", server.url, read_x)
    assert list(cache.iterdir()) == []


def test_a_cached_file_that_the_system_refuses_is_not_downloaded_over(server, cache):
    (cache / "data.hdf5").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        read_cached("data.hdf5", server.url, read_x)
    assert server.requests == []


def chunked(*parts, end=True):
    """Answer in chunks, of which the last may be missing."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in (*parts, b"") if end else parts:
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")

    return answer


def raw(answer):
    """Answer with these bytes, whatever HTTP says."""

    def send_raw(handler):
        handler.wfile.write(answer)

    return send_raw


def redirected(*places):
    """Answer with a way to other places in turn, and at last with the file."""

    def answer(handler):
        step = int(handler.path.rpartition("=")[2]) if "=" in handler.path else 0
        if step == len(places):
            return send()(handler)
        handler.send_response(302)
        handler.send_header("Location", places[step].format(step=step + 1))
        handler.send_header("Content-Length", "0")
        return handler.end_headers()

    return answer


def test_a_file_in_chunks_and_one_behind_redirections_come_whole(server, tmp_path):
    for answer in (chunked(BODY[:1000], BODY[1000:]), redirected("/a?n={step}", "/b?n={step}")):
        server.answers = [answer]
        download_file(server.url, tmp_path / "data")
        assert (tmp_path / "data").read_bytes() == BODY


@pytest.mark.parametrize(
    "answer",
    [
        chunked(BODY[:1000], end=False),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnonsense"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
        raw(b"nonsense" * 1000),
        raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n"),
        raw(b""),
        raw(b"HTTP/1.1 99999 what\r\n\r\n"),
        raw(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nabcde"),
        raw(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 7-11/12\r\nContent-Length: 5\r\n\r\nabcde"),
        redirected(*(f"/{n}?n={{step}}" for n in range(30))),
        redirected("file:///etc/passwd"),
        redirected("http://127.0.0.1:1/"),
        redirected(""),
        send(BODY[:100], length=10),
    ],
)
def test_nonsense_of_a_server_is_an_error_and_leaves_the_old_file(server, tmp_path, answer):
    server.answers = [answer]
    (tmp_path / "data").write_bytes(b"old")
    with pytest.raises(DatasetError, match="could not download"):
        download_file(server.url, tmp_path / "data", sha256=hashlib.sha256(BODY).hexdigest())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("data", b"old")]


# Archives


def archive_of(kind, path, content):
    """An archive whose members would like to be written elsewhere."""
    names = ["../outside", "/tmp/implicit_core_outside", "a/../../outside", "plays.tsv.exe"]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("plays.tsv/", b"")
            for name in names:
                archive.writestr(name, b"evil")
            archive.writestr("../../plays.tsv", content)
        return
    with tarfile.open(path, "w:gz") as archive:
        for name, form, target in (
            ("plays.tsv", tarfile.SYMTYPE, "/etc/passwd"),
            ("x/plays.tsv", tarfile.LNKTYPE, "../outside"),
            ("y/plays.tsv", tarfile.DIRTYPE, ""),
            ("z/plays.tsv", tarfile.FIFOTYPE, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = form, target
            archive.addfile(entry)
        for name in (*names, "../../plays.tsv"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_an_archive_one_file_is_read_and_nothing_is_written(tmp_path, monkeypatch, kind):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    archive_of(kind, tmp_path / "here" / "archive", b"1\t2\n")
    with open_lines(tmp_path / "here" / "archive", "plays.tsv") as lines:
        assert list(lines) == ["1\t2\n"]
    with pytest.raises(ValueError, match=r"must contain missing\.tsv"), open_lines("archive", "missing.tsv"):
        pass
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["here", "here/archive"]
    assert not os.path.exists("/tmp/implicit_core_outside")  # noqa: PTH110


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_damaged_archive_is_an_error_and_makes_no_data_set(tmp_path, kind):
    content = "".join(f"u{n}\tx\tartist {n % 7}\t{n}\n" for n in range(1, 3000)).encode()
    name = "usersha1-artmbid-artname-plays.tsv"
    memory = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=memory, mode="w:gz") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    whole = memory.getvalue()
    for cut in np.linspace(20, 0.9 * len(whole), 12).astype(int):
        (tmp_path / "raw").write_bytes(whole[:cut])
        with pytest.raises((ValueError, EOFError, OSError, tarfile.TarError, zipfile.BadZipFile)):
            lastfm.generate_dataset(tmp_path / "raw", tmp_path / "made.hdf5")
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_lastfm_comes_back_from_a_server_as_it_was_generated(server, cache, tmp_path, monkeypatch):
    (tmp_path / "raw.tsv").write_text("u2\tx\tsigur rós\t3\nu1\tx\tabba\t5\nu2\tx\tabba\t7\n", encoding="utf-8")
    lastfm.generate_dataset(tmp_path / "raw.tsv", tmp_path / "made.hdf5")
    server.answers = [send((tmp_path / "made.hdf5").read_bytes())]
    monkeypatch.setattr(lastfm, "URL", server.url)
    for _ in range(2):
        artists, users, plays = lastfm.get_lastfm()
        assert artists.tolist() == ["abba", "sigur rós"]
        assert users.tolist() == ["u1", "u2"]
        np.testing.assert_array_equal(plays.toarray(), [[5, 7], [0, 3]])
    assert [path.name for path in cache.iterdir()] == ["lastfm_360k.hdf5"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("variant", ["20m", "10m", "1m", "100k"])
def test_movielens_comes_back_from_a_server_as_it_was_generated(server, cache, tmp_path, monkeypatch, variant):
    files = {
        "20m": {"ratings.csv": "2,1,3.5,9\n2,3,4,9\n", "movies.csv": '1,"A, b",x\n3,Ç,x\n'},
        "10m": {"ratings.dat": "2::1::3.5::9\n2::3::4::9\n", "movies.dat": "1::A, b::x\n3::Ç::x\n"},
        "1m": {"ratings.dat": "2::1::3.5::9\n2::3::4::9\n", "movies.dat": "1::A, b::x\n3::Ç::x\n"},
        "100k": {"u.data": "2\t1\t3.5\t9\n2\t3\t4\t9\n", "u.item": "1|A, b|x\n3|Ç|x\n"},
    }
    for name, text in files[variant].items():
        (tmp_path / name).write_text(text, encoding="utf-8" if variant in ("20m", "10m") else "latin-1")
    movielens.generate_dataset(tmp_path, variant, tmp_path)
    server.answers = [send((tmp_path / f"movielens_{variant}.hdf5").read_bytes())]
    monkeypatch.setattr(movielens, "URL_BASE", server.url.removesuffix("data.hdf5") + "folder/")
    for _ in range(2):
        titles, ratings = movielens.get_movielens(variant)
        assert titles.tolist() == ["", "A, b", "", "Ç"]
        np.testing.assert_array_equal(ratings.toarray(), [[0, 0, 0], [0, 0, 3.5], [0, 0, 0], [0, 0, 4]])
    assert [path.name for path in cache.iterdir()] == [f"movielens_{variant}.hdf5"]
    assert server.paths == [f"/folder/movielens_{variant}.hdf5"]


def test_the_taste_profile_comes_back_from_a_server_as_it_was_generated(server, cache, tmp_path, monkeypatch):
    (tmp_path / "raw.txt").write_text("u2\tSOB\t3\nu1\tSOA\t5\n", encoding="utf-8")
    table = np.zeros(1, dtype=[(name, "S32") for name in ("song_id", "artist_name", "release", "title")])
    table[0] = b"SOB", "Björk".encode(), b"Debut", b"Crying"
    with h5py.File(tmp_path / "summary.h5", "w") as file:
        file["metadata/songs"] = table
    million_song_dataset.generate_dataset(tmp_path / "raw.txt", tmp_path / "summary.h5", tmp_path / "made.hdf5")
    server.answers = [send((tmp_path / "made.hdf5").read_bytes())]
    monkeypatch.setattr(million_song_dataset, "URL", server.url)
    for _ in range(2):
        tracks, users, plays = million_song_dataset.get_msd_taste_profile()
        assert tracks.tolist() == [["SOA", "", "", ""], ["SOB", "Björk", "Debut", "Crying"]]
        assert users.tolist() == ["u1", "u2"]
        np.testing.assert_array_equal(plays.toarray(), [[5, 0], [0, 3]])
    assert [path.name for path in cache.iterdir()] == ["msd_taste_profile.hdf5"]
    assert len(server.requests) == 1


def test_reddit_comes_back_from_a_server_as_it_was_generated(server, cache, tmp_path, monkeypatch):
    (tmp_path / "raw.csv").write_text("u2,b,-1\nu1,a,1\n", encoding="utf-8")
    reddit.generate_dataset(tmp_path / "raw.csv", tmp_path / "made.hdf5")
    server.answers = [send((tmp_path / "made.hdf5").read_bytes())]
    monkeypatch.setattr(reddit, "URL", server.url)
    for _ in range(2):
        np.testing.assert_array_equal(reddit.get_reddit().toarray(), [[1, 0], [0, -1]])
    assert [path.name for path in cache.iterdir()] == ["reddit.hdf5"]
    assert len(server.requests) == 1


def test_sketchfab_comes_back_from_a_server_as_it_was_generated(server, cache, tmp_path, monkeypatch):
    (tmp_path / "raw.psv").write_text("modelname|mid|uid\nx, y|b|u2\nz|a|u1\n", encoding="utf-8")
    sketchfab.generate_dataset(tmp_path / "raw.psv", tmp_path / "made.hdf5")
    server.answers = [send((tmp_path / "made.hdf5").read_bytes())]
    monkeypatch.setattr(sketchfab, "URL", server.url)
    for _ in range(2):
        items, users, likes = sketchfab.get_sketchfab()
        assert items.tolist() == ["a", "b"]
        assert users.tolist() == ["u1", "u2"]
        np.testing.assert_array_equal(likes.toarray(), [[1, 0], [0, 1]])
    assert [path.name for path in cache.iterdir()] == ["sketchfab.hdf5"]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (lastfm.URL, "lastfm_360k.hdf5"),
        (movielens.URL_BASE, ""),
        (million_song_dataset.URL, "msd_taste_profile.hdf5"),
        (reddit.URL, "reddit.hdf5"),
        (sketchfab.URL, "sketchfab.hdf5"),
    ],
)
def test_the_addresses_are_those_of_the_older_library(address, name):
    assert address == f"https://github.com/benfred/recommender_data/releases/download/v1.0/{name}"


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on memory")
@pytest.mark.parametrize("kind", ["gzip", "bz2"])
def test_a_small_file_of_one_endless_line_does_not_fill_the_memory(run_python, tmp_path, kind):
    """Its 1 GB would be 1 GB of text, and the room is half of that."""
    packed = tmp_path / {"gzip": "plays.gz", "bz2": "plays.bz2"}[kind]
    script = f"""
import {kind}, resource
from implicit_core.datasets import lastfm

with {kind}.open({str(packed)!r}, "wb") as file:
    for _ in range(1024):
        file.write(b"x" * 2**20)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29,) * 2)
try:
    lastfm.generate_dataset({str(packed)!r}, {str(tmp_path / "made.hdf5")!r})
except ValueError as error:
    print(error)
"""
    result = run_python("-c", script)
    assert "got none in" in result.stdout, result.stderr
    assert list(tmp_path.iterdir()) == [packed]
