"""Files that survive crashes and full disks, and loading of files that somebody damaged or made to do harm.

`IMPLICIT_CORE_TRIALS=10` tries ten times as much.
"""

import io
import json
import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import BM25Recommender, CosineRecommender
from implicit_core.recommender_base import ModelFitError, ModelLoadError, RecommenderBase

TRIALS = int(os.environ.get("IMPLICIT_CORE_TRIALS", "1"))
FAULTS = Path(__file__).parent / "faults"
MT19937, PHILOX = np.random.MT19937, np.random.Philox


@pytest.fixture
def matrix():
    return sparse.random(30, 20, 0.3, format="csr", random_state=1, dtype=np.float32)


@pytest.fixture
def model(matrix):
    model = AlternatingLeastSquares(4, iterations=1, random_state=1)
    model.fit(matrix, show_progress=False)
    return model


def saved_with(model, **entries):
    """What a model saves, with other entries."""
    memory = io.BytesIO()
    model.save(memory)
    memory.seek(0)
    members = {**np.load(memory), **entries}
    memory = io.BytesIO()
    np.savez(memory, **members)
    memory.seek(0)
    return memory


# Crashes and full disks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("seed", range(TRIALS))
def test_a_save_that_is_killed_leaves_the_old_file_or_the_new_one(run_python, seed):
    result = run_python(str(FAULTS / "kill.py"), "20", str(seed))
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    assert counts["model 1"] + counts["model 2"] == 20
    assert counts["in the midst of writing"] > 0


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_is_an_error_and_leaves_the_old_file(run_python, tmp_path):
    """The limit on the size of a file stands for the disk: wherever it cuts, the write fails in the same way."""
    script = f"""
import errno, os, resource
import numpy as np
from pathlib import Path
from implicit_core.als import AlternatingLeastSquares
from implicit_core.nearest_neighbours import CosineRecommender
from scipy import sparse

folder = Path({str(tmp_path)!r})
matrix = sparse.random(300, 200, 0.1, format="csr", random_state=1)
for new in (AlternatingLeastSquares(8, iterations=1), CosineRecommender()):
    new.fit(matrix, show_progress=False)
    new.save(folder / "new")
    size = (folder / "new.npz").stat().st_size
    (folder / "new.npz").unlink()
    (folder / "model.npz").write_bytes(b"old")
    for limit in (0, 1, 63, 64, 500, *np.linspace(1000, size - 1, 40).astype(int).tolist(), size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            new.save(folder / "model")
        except OSError as error:
            assert error.errno == errno.EFBIG, error
        else:
            raise AssertionError(f"no error at {{limit}} of {{size}} bytes")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert [entry.name for entry in folder.iterdir()] == ["model.npz"]
        assert (folder / "model.npz").read_bytes() == b"old"
    new.save(folder / "model")
    assert type(new).load(folder / "model").get_params() == new.get_params()
"""
    result = run_python("-c", script)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_under_a_file_object_is_an_error(model):
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        model.save(file)


@pytest.mark.skipif(os.name != "posix", reason="needs folders that can be flushed")
def test_a_file_is_on_the_disk_before_it_gets_its_name_and_the_name_before_save_returns(model, tmp_path, monkeypatch):
    steps, flush, rename = [], os.fsync, Path.replace

    def fsync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        flush(descriptor)

    def replace(self, target):
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    model.save(tmp_path / "model")
    assert steps == ["file", "rename", "folder"]


@pytest.mark.skipif(os.name != "posix", reason="links and permissions of POSIX")
def test_a_link_and_the_permissions_of_a_file_stay(model, tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "v1.npz", tmp_path / "model.npz"
    link.symlink_to(target)
    model.save(link)
    target.chmod(0o600)
    model.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [entry.name for entry in target.parent.iterdir()] == ["v1.npz"]
    np.testing.assert_array_equal(AlternatingLeastSquares.load(link).item_factors, model.item_factors)


def test_factors_that_could_not_be_loaded_are_not_saved_over_others(model, tmp_path):
    model.save(tmp_path / "model")
    before = (tmp_path / "model.npz").read_bytes()
    for bad in (np.nan, np.inf, -np.inf):
        model.item_factors[3, 1] = bad
        with pytest.raises(ModelFitError, match="item_factors must be finite to be saved"):
            model.save(tmp_path / "model")
    assert (tmp_path / "model.npz").read_bytes() == before


# Damaged and hostile files


@pytest.mark.parametrize("seed", range(TRIALS))
def test_files_damaged_or_made_to_harm_are_refused_or_harmless(run_python, seed):
    result = run_python(str(FAULTS / "load.py"), "2000", str(seed))
    assert result.returncode == 0, "\n".join(result.stderr.splitlines()[-40:])
    outcomes = json.loads(result.stdout)
    assert sum(outcomes.values()) == 2000
    for kind in ("flipped", "truncated", "with_headers", "with_lies", "with_seeds", "with_values", "bomb"):
        assert outcomes[f"{kind}, refused"] > 0


@pytest.mark.parametrize("field", [30, 32], ids=["extra field", "comment"])
def test_damage_that_hides_entries_is_noticed(model, field):
    """A length in the directory swallows the entries after it, without which the model would be a new one."""
    memory = io.BytesIO()
    model.save(memory)
    content, start = memory.getvalue(), 0
    end = content.index(b"PK\x05\x06")
    while (start := content.find(b"PK\x01\x02", start)) >= 0:
        name, extra, comment = struct.unpack_from("<3H", content, start + 28)
        rest = end - (start + 46 + name + extra + comment)
        damaged = bytearray(content)
        struct.pack_into("<H", damaged, start + field, rest + (extra if field == 30 else comment))
        if rest:
            with pytest.raises(ModelLoadError):
                type(model).load(io.BytesIO(damaged))
        start += 4


@pytest.mark.parametrize("kind", [AlternatingLeastSquares, BayesianPersonalizedRanking])
@pytest.mark.parametrize("side", ["user_factors", "item_factors"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_factors_that_are_not_finite_are_refused(kind, side, bad, matrix):
    model = kind(4, iterations=1, random_state=1)
    model.fit(matrix, show_progress=False)
    factors = getattr(model, side).copy()
    factors[2, 1] = bad
    with pytest.raises(ModelLoadError, match=f"{side} of the file must be finite"):
        kind.load(saved_with(model, **{side: factors}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", np.nan), ("user_items_data", np.inf), ("indices", -1), ("indices", 20), ("indptr", 10**6),
        ("user_items_indices", 20), ("user_items_indices", -1), ("user_items_indptr", 10**6), ("users", 10**30),
        ("K", 0), ("K", "many"), ("K1", "x"), ("B", np.nan), ("num_threads", 0.5),
    ],
)  # fmt: skip
def test_neighbours_that_cannot_be_are_refused(matrix, name, value):
    model = BM25Recommender(5)
    model.fit(matrix, show_progress=False)
    stored = np.load(saved_with(model))[name]
    changed = np.asanyarray(value)
    if stored.ndim:
        changed = stored.astype(float) if isinstance(value, float) else stored.copy()
        changed[len(changed) // 2] = value
    with pytest.raises(ModelLoadError):
        BM25Recommender.load(saved_with(model, **{name: changed}))


@pytest.mark.parametrize("name", ["factors", "regularization", "use_cg", "random_state", "iterations"])
def test_a_parameter_that_is_an_array_is_refused(model, name):
    with pytest.raises(ModelLoadError, match=f"{name} of the file must be one value, got an array of shape"):
        AlternatingLeastSquares.load(saved_with(model, **{name: np.ones(3, dtype=int)}))


def with_state(random_state, *path_and_value):
    """The random state as a file holds it, with one number in it replaced."""
    memory = io.BytesIO()
    AlternatingLeastSquares(4, random_state=random_state).save(memory)
    memory.seek(0)
    stored = state = json.loads(np.load(memory)["random_state"].item())
    *path, last, value = path_and_value
    for name in path:
        state = state[name]
    assert last in state
    state[last] = value
    return json.dumps(stored)


@pytest.mark.parametrize("position", [-(10**9), -1, 625, 10**9, 2**31, 0.5, "1", None])
@pytest.mark.parametrize("kind", ["MT19937", "RandomState", "Philox"])
def test_a_random_state_cannot_point_outside_its_words(model, kind, position):
    """NumPy reads there, which ends the process if nothing lies there."""
    stored = {
        "MT19937": lambda: with_state(np.random.Generator(MT19937(1)), "generator", "state", "pos", position),
        "RandomState": lambda: with_state(np.random.RandomState(1), "legacy", "state", "pos", position),
        "Philox": lambda: with_state(np.random.Generator(PHILOX(1)), "generator", "buffer_pos", position),
    }[kind]()
    with pytest.raises(ModelLoadError, match="random_state of the file cannot be read"):
        AlternatingLeastSquares.load(saved_with(model, random_state=stored))


@pytest.mark.parametrize(
    "stored",
    [
        lambda: with_state(np.random.SeedSequence(1), "seed_sequence", "pool_size", 10**9),
        lambda: with_state(np.random.default_rng(1), "generator", "state", "inc", -1),
        lambda: with_state(np.random.RandomState(1), "legacy", "state", "key", [1, 2]),
        lambda: with_state(np.random.RandomState(1), "legacy", "gauss", "x"),
        lambda: '{"generator": ' + "[" * 100_000,
        lambda: '{"legacy": [1, 2]}',
        lambda: '{"seed": Infinity}',
    ],
)
def test_a_random_state_that_cannot_be_is_refused(model, stored):
    with pytest.raises(ModelLoadError, match="random_state of the file cannot be read"):
        AlternatingLeastSquares.load(saved_with(model, random_state=stored()))


def test_an_entry_does_not_take_the_place_of_a_method_in_recommenders_of_others(tmp_path):
    class Popular(RecommenderBase):
        fit = recommend = similar_users = similar_items = save = lambda self, *_: "a method"

    np.savez(tmp_path / "model", scores=[1, 2], recommend=1, save=2, __class__=3)
    loaded = Popular.load(tmp_path / "model")
    assert loaded.recommend(0) == loaded.save("") == "a method"
    assert loaded.scores.tolist() == [1, 2]
    assert vars(loaded).keys() == {"scores"}


def test_an_index_in_a_file_that_is_nested_without_end_is_refused(model):
    ann = pytest.importorskip("implicit_core.ann.usearch")
    with pytest.raises(ModelLoadError, match="the file holds no UsearchModel"):
        ann.UsearchModel.load(saved_with(model, ann="[" * 100_000))


def test_pieces_of_a_cosine_file_that_are_missing_are_refused(matrix):
    model = CosineRecommender(5)
    model.fit(matrix, show_progress=False)
    for name in ("shape", "data", "indices", "indptr", "user_items_shape", "user_items_data"):
        memory = io.BytesIO()
        np.savez(memory, **{key: value for key, value in np.load(saved_with(model)).items() if key != name})
        memory.seek(0)
        with pytest.raises(ModelLoadError, match="the file must hold"):
            CosineRecommender.load(memory)


@pytest.mark.parametrize("kind", [AlternatingLeastSquares, BayesianPersonalizedRanking, LogisticMatrixFactorization])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("factors", 4.0), ("factors", None), ("iterations", "15"), ("regularization", -1), ("regularization", [1]),
        ("num_threads", 1.5), ("num_threads", None), ("dtype", "no such"), ("random_state", "x"), ("random_state", 1j),
    ],
)  # fmt: skip
def test_a_model_that_could_not_be_loaded_is_not_saved_over_another(kind, name, value, matrix, tmp_path):
    model = kind(4, iterations=1, random_state=1)
    model.fit(matrix, show_progress=False)
    model.save(tmp_path / "model")
    before = (tmp_path / "model.npz").read_bytes()
    setattr(model, name, value)
    with pytest.raises((TypeError, ValueError), match=name):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.npz").read_bytes() == before


@pytest.mark.parametrize(("name", "value"), [("K", 0), ("K", None), ("K1", "x"), ("B", None), ("num_threads", 1.5)])
def test_neighbours_that_could_not_be_loaded_are_not_saved_over_others(name, value, matrix, tmp_path):
    model = BM25Recommender(5)
    model.fit(matrix, show_progress=False)
    model.save(tmp_path / "model")
    before = (tmp_path / "model.npz").read_bytes()
    setattr(model, name, value)
    with pytest.raises((TypeError, ValueError), match=name):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.npz").read_bytes() == before


def npz_of(members, compression=zipfile.ZIP_STORED):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    memory.seek(0)
    return memory


def test_a_file_that_is_packed_much_more_than_a_model_is_refused_before_it_is_unpacked():
    """Whether its arrays go together or not."""
    model = BayesianPersonalizedRanking(30, iterations=1)
    model.user_factors, model.item_factors = (np.zeros((400_000, 31), np.float32) for _ in range(2))
    memory = io.BytesIO()
    model.save(memory)
    with zipfile.ZipFile(memory) as archive:
        packed = npz_of({name: archive.read(name) for name in archive.namelist()}, zipfile.ZIP_DEFLATED)
    del model, memory
    tracemalloc.start()
    try:
        with pytest.raises(ModelLoadError, match=r"and says that it holds 99.* made to exhaust memory"):
            BayesianPersonalizedRanking.load(packed)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("extent", [2**28, 2**33, 2**40, 2**60, 2**62 + 1])
def test_memory_is_not_allotted_for_a_size_that_an_array_merely_claims(model, extent):
    memory = io.BytesIO()
    model.save(memory)
    with zipfile.ZipFile(memory) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = members["item_factors.npy"]
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({extent}, 4), }}"
    members["item_factors.npy"] = content[:10] + text.ljust(117).encode() + b"\n" + content[128:]
    tracemalloc.start()
    try:
        with pytest.raises(ModelLoadError, match=r"item_factors\.npy has not the size that its header says"):
            AlternatingLeastSquares.load(npz_of(members))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_array_that_is_followed_by_something_is_refused(model):
    memory = io.BytesIO()
    model.save(memory)
    with zipfile.ZipFile(memory) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["user_factors.npy"] += b"more"
    with pytest.raises(ModelLoadError, match=r"user_factors\.npy has not the size that its header says"):
        AlternatingLeastSquares.load(npz_of(members))
