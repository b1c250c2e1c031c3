"""The Last.fm tutorial of `implicit`, as a user runs it: in a notebook's process and as a script of its own."""

import os
import runpy
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import implicit_core
from implicit_core.datasets import lastfm

GROUPS, ARTISTS_PER_GROUP, USERS, PLAYED = 4, 30, 240, 12

TUTORIAL = """
import sys
import implicit_core.datasets.lastfm

if len(sys.argv) == 4:
    implicit_core.datasets.lastfm.URL = sys.argv[1]

from implicit_core.datasets.lastfm import get_lastfm

artists, users, artist_user_plays = get_lastfm()

X = artist_user_plays.tocoo()
triples = list(zip(X.row, X.col, X.data))[:10]

from implicit_core.nearest_neighbours import bm25_weight

# weight the matrix, both to reduce impact of users that have played the same artist thousands of times
# and to reduce the weight given to popular items
raw_plays = artist_user_plays
artist_user_plays = bm25_weight(artist_user_plays, K1=100, B=0.8)

# get the transpose since most of the functions expect (user, item) sparse matrices instead of (item, user)
user_plays = artist_user_plays.T.tocsr()

from implicit_core.als import AlternatingLeastSquares

model = AlternatingLeastSquares(factors=64, regularization=0.05, alpha=2.0)
model.fit(user_plays)

# Get recommendations for the a single user
userid = 123
ids, scores = model.recommend(userid, user_plays[userid], N=10, filter_already_liked_items=False)

# Use pandas to display the output in a table
import numpy as np
import pandas as pd

table = pd.DataFrame(
    {"artist": artists[ids], "score": scores, "already_liked": np.isin(ids, user_plays[userid].indices)}
)

itemid = 17
similar_ids, similar_scores = model.similar_items(itemid)
similar_table = pd.DataFrame({"artist": artists[similar_ids], "score": similar_scores})

# Make recommendations for the first users in the dataset
userids = np.arange(100)
batch_ids, batch_scores = model.recommend(userids, user_plays[userids])

if len(sys.argv) == 4:
    print(table.to_string())
    np.savez(sys.argv[2], batch_ids=batch_ids, batch_scores=batch_scores, similar_ids=similar_ids, users=len(users))
    table.to_csv(sys.argv[3])
"""


def group_of_artist(name):
    return int(name.split()[1])


def group_of_user(name):
    return int(name, 16) % GROUPS


def raw_lines():
    """Lines as Last.fm published them: users of a group play its artists, and now and then another."""
    random = np.random.default_rng(0)
    for user in range(USERS):
        own = random.choice(ARTISTS_PER_GROUP, size=PLAYED, replace=False)
        played = [(user % GROUPS, artist) for artist in own]
        played.append(((user + 1) % GROUPS, random.integers(ARTISTS_PER_GROUP)))
        for group, artist in played:
            columns = (
                f"{user:040x}",
                random.bytes(8).hex(),
                f"group {group} artist {artist:02d}",
                random.integers(1, 500),
            )
            yield "\t".join(map(str, columns)) + "\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve the small data set from this machine, and count the downloads."""
    folder = tmp_path_factory.mktemp("lastfm")
    (folder / "plays.tsv").write_text("".join(raw_lines()), encoding="utf-8")
    lastfm.generate_dataset(folder / "plays.tsv", folder / "lastfm_360k.hdf5")
    body = (folder / "lastfm_360k.hdf5").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        downloads = 0

        def do_GET(self):
            Handler.downloads += 1
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/lastfm_360k.hdf5", Handler
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "tutorial.py"
    path.write_text(TUTORIAL, encoding="utf-8")
    return path


def assert_group_dominates(names, group, share=0.8):
    assert np.mean([group_of_artist(name) == group for name in names]) >= share


@pytest.fixture
def notebook(server, script, tmp_path, monkeypatch):
    """The variables of the tutorial after it was run in this process."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "cache"))
    monkeypatch.setattr(lastfm, "URL", server[0])
    monkeypatch.setattr(sys, "argv", [str(script)])
    return runpy.run_path(str(script))


def test_the_tutorial_gives_sensible_recommendations(notebook, tmp_path):
    artists, users, user_plays = notebook["artists"], notebook["users"], notebook["user_plays"]
    assert artists.shape == (GROUPS * ARTISTS_PER_GROUP,)
    assert users.shape == (USERS,)
    assert notebook["raw_plays"].shape == (len(artists), USERS)
    assert len(notebook["triples"]) == 10
    assert user_plays.shape == (USERS, len(artists))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lastfm_360k.hdf5"]

    ids, scores, userid = notebook["ids"], notebook["scores"], notebook["userid"]
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32
    assert ids.shape == scores.shape == (10,)
    assert (np.diff(scores) <= 0).all()
    table = notebook["table"]
    assert table["artist"].tolist() == artists[ids].tolist()
    assert table["already_liked"].any()
    assert_group_dominates(table["artist"], group_of_user(users[userid]))

    similar = notebook["similar_table"]
    assert similar["artist"][0] == artists[notebook["itemid"]]
    assert similar["score"][0] == pytest.approx(1, abs=1e-5)
    assert_group_dominates(similar["artist"], group_of_artist(artists[notebook["itemid"]]), 0.7)

    batch = notebook["batch_ids"]
    assert batch.shape == notebook["batch_scores"].shape == (100, 10)
    assert batch.dtype == np.int32
    hits = 0
    for user, recommended in enumerate(batch):
        assert not np.isin(recommended, user_plays[user].indices).any()
        hits += sum(group_of_artist(name) == group_of_user(users[user]) for name in artists[recommended])
    assert hits / batch.size >= 0.8


def test_the_tutorial_runs_as_a_script_from_an_empty_cache_and_then_from_the_full_one(server, script, tmp_path):
    url, handler = server
    places = [str(Path(implicit_core.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "IMPLICIT_DATASETS": str(tmp_path / "cache"),
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(places),
        "PYTHONWARNINGS": "error",
    }
    arguments = [url, str(tmp_path / "out.npz"), str(tmp_path / "table.csv")]
    before = handler.downloads
    done = [
        subprocess.run(
            [sys.executable, str(script), *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        for _ in range(2)
    ]
    for process in done:
        assert process.returncode == 0, process.stderr
        assert "already_liked" in process.stdout
        assert "15/15" in process.stderr
        assert "Warning" not in process.stderr
    assert handler.downloads == before + 1
    with np.load(tmp_path / "out.npz") as out:
        assert out["batch_ids"].shape == out["batch_scores"].shape == (100, 10)
        assert out["similar_ids"][0] == 17
        assert out["users"] == USERS
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 11
