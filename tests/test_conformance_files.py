"""What every model promises of copies and files."""

import copy
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conformance import ITEMS, USERS, assert_result, assert_same_results, ways
from conformance import make as make
from conformance import matrix as matrix
from conformance import model as model
from conformance import name as name

from implicit_core.recommender_base import ModelLoadError, NotFittedError, RecommenderBase

COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "oldest pickle": lambda model: pickle.loads(pickle.dumps(model, protocol=2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_gives_the_same_results_and_can_go_on(model, matrix, how):
    twin = COPIES[how](model)
    assert type(twin) is type(model)
    assert_same_results(twin, model, matrix)
    assert twin.get_params() == model.get_params()
    assert twin.recommend(0, matrix[0], **ways(model)[-1])[0].shape == (10,)
    unfitted = COPIES[how](type(model)())
    with pytest.raises(NotFittedError):
        unfitted.recommend(0, matrix[0])


def test_a_deep_copy_shares_nothing(model):
    twin = copy.deepcopy(model)
    twin.item_factors[:] = 0
    assert model.item_factors.any()


def test_an_unfitted_model_says_so(make, matrix):
    model = make()
    for call in (
        lambda: model.recommend(0, matrix[0]),
        lambda: model.recommend([0], None, filter_already_liked_items=False),
        lambda: model.similar_items(0),
        lambda: model.similar_users(0),
        lambda: model.item_norms,
    ):
        for kind in (NotFittedError, ValueError, TypeError):
            with pytest.raises(kind, match="call fit or load"):
                call()


def test_parameters_survive_being_read_and_set(make, matrix, model):
    clone = type(model)(**make().get_params())
    clone.fit(matrix, show_progress=False)
    assert_same_results(clone, model, matrix)
    assert clone.get_params() == model.get_params()
    assert isinstance(clone, RecommenderBase)
    assert clone.set_params(num_threads=2) is clone
    assert clone.num_threads == 2
    with pytest.raises(ValueError, match="volume"):
        clone.set_params(volume=11)


@pytest.mark.parametrize("suffix", ["", ".npz", ".model"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_saved_model_is_loaded_by_the_name_it_was_saved_under(model, matrix, tmp_path, suffix, kind):
    path = kind(tmp_path / f"a model{suffix}")
    model.save(path)
    names = [entry.name for entry in tmp_path.iterdir()]
    assert names == [f"a model{suffix}" if suffix == ".npz" else f"a model{suffix}.npz"]
    for loaded in (type(model).load(path), type(model).load(kind(tmp_path / names[0])), model.load(path)):
        assert type(loaded) is type(model)
        assert loaded.get_params() == model.get_params()
        assert_same_results(loaded, model, matrix)


def test_a_loaded_model_can_be_recalculated_and_fitted_further(model, matrix, tmp_path):
    model.save(tmp_path / "model")
    loaded, going_on = type(model).load(tmp_path / "model"), copy.deepcopy(model)
    for options in ways(model):
        assert_result(loaded.recommend(3, matrix[3], **options), model.recommend(3, matrix[3], **options))
    for each in (loaded, going_on):
        each.fit(matrix, show_progress=False)
    assert_same_results(loaded, going_on, matrix)


def test_file_objects_will_do(model, matrix, tmp_path):
    with open(tmp_path / "model", "wb") as file:
        model.save(file)
    with open(tmp_path / "model", "rb") as file:
        assert_same_results(type(model).load(file), model, matrix)
    memory = io.BytesIO()
    model.save(memory)
    memory.seek(0)
    assert_same_results(type(model).load(memory), model, matrix)


def test_the_public_class_loads_what_the_class_of_a_device_saved(model, matrix, tmp_path):
    model.save(tmp_path / "model")
    public = type(model).__mro__[1]
    loaded = public.load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert_same_results(loaded, model, matrix)


def test_an_unfitted_model_can_be_saved(make, matrix, model, tmp_path):
    make().save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert loaded.__dict__ == make().__dict__
    with pytest.raises(NotFittedError):
        loaded.recommend(0, matrix[0])
    loaded.fit(matrix, show_progress=False)
    assert_same_results(loaded, model, matrix)


@pytest.mark.parametrize(
    "seed",
    [
        lambda: None,
        lambda: 5,
        lambda: np.int64(5),
        lambda: np.random.default_rng(5),
        lambda: np.random.Generator(np.random.MT19937(5)),
        lambda: np.random.Generator(np.random.Philox(5)),
        lambda: np.random.Generator(np.random.SFC64(5)),
        lambda: np.random.RandomState(5),
        lambda: np.random.SeedSequence(5).spawn(2)[1],
        lambda: np.random.PCG64DXSM(5),
    ],
)
def test_the_random_state_is_saved_with_the_model(make, matrix, tmp_path, seed):
    model = make(random_state=seed())
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    if seed() is None:
        assert loaded.random_state is None
        return
    for each in (model, loaded):
        each.fit(matrix, show_progress=False)
    assert_same_results(loaded, model, matrix)


def test_a_missing_file_is_not_found(model, tmp_path):
    for path in (tmp_path / "model", str(tmp_path / "model.npz")):
        with pytest.raises(FileNotFoundError):
            type(model).load(path)
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "no such folder" / "model")


class Weapon:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("trace of an unpickled object"),))


def hostile(kind, good, tmp_path):
    """Write a file that is no model."""
    path = tmp_path / "bad.npz"
    members = dict(np.load(io.BytesIO(good)))
    damages = {
        "pickled": {"random_state": np.array([Weapon()], dtype=object)},
        "pickled factors": {"user_factors": np.array([[Weapon()]], dtype=object)},
        "of integers": {"user_factors": np.ones((3, 8), dtype=int)},
        "of text": {"user_factors": np.array([["a"]])},
        "of one dimension": {"item_factors": np.ones(8)},
        "of no dimension": {"item_factors": np.float64(8)},
        "of another width": {"item_factors": np.ones((3, 5), dtype=np.float32)},
        "of no known type": {"dtype": np.array("nonsense")},
        "of objects": {"dtype": np.array("O")},
        "type is a number": {"dtype": np.array(3)},
        "with a broken seed": {"random_state": np.array('{"generator": {"bit_generator": "PCG64"}}')},
        "with a seed of text": {"random_state": np.array("nonsense")},
        "with a foreign seed": {"random_state": np.array('{"generator": {"bit_generator": "os.system"}}')},
    }
    if kind in damages:
        np.savez(path, **{**members, **damages[kind]})
    elif kind == "without factors":
        np.savez(path, user_factors=members["user_factors"], item_factors=members["item_factors"])
    elif kind == "one side":
        np.savez(path, **{name: part for name, part in members.items() if name != "item_factors"})
    elif kind == "one array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind == "a zip of text":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("factors.npy", "text")
    elif kind == "a pickle":
        path.write_bytes(pickle.dumps({"factors": 3}))
    elif kind == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "one byte flipped":
        data = good.index(members["item_factors"].tobytes())  # dates of a zip file, for example, nobody checks
        path.write_bytes(good[:data] + bytes([good[data] ^ 255]) + good[data + 1 :])
    else:
        path.write_bytes({"empty": b"", "text": b"no model at all"}[kind])
    return path


HOSTILE = [
    *("pickled", "pickled factors", "of integers", "of text", "of one dimension", "of no dimension"),
    *("of another width", "of no known type", "of objects", "type is a number", "with a broken seed"),
    *("with a seed of text", "with a foreign seed", "without factors", "one side", "one array"),
    *("a zip of text", "a pickle", "truncated", "one byte flipped", "empty", "text"),
]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_no_model_is_refused(model, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    good = io.BytesIO()
    model.save(good)
    path = hostile(kind, good.getvalue(), tmp_path)
    with pytest.raises(ModelLoadError):
        type(model).load(path)
    with open(path, "rb") as file, pytest.raises(ModelLoadError):
        type(model).load(file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.npz"]
    assert issubclass(ModelLoadError, ValueError)


def test_what_lies_behind_the_last_entry_does_not_matter(make, model, matrix, with_spare_room):
    roomy = make()
    roomy.fit(with_spare_room(matrix), show_progress=False)
    everything = {"userid": np.arange(USERS), "user_items": None, "N": ITEMS, "filter_already_liked_items": False}
    for part, wanted in zip(roomy.recommend(**everything), model.recommend(**everything), strict=True):
        np.testing.assert_array_equal(part, wanted)
    for users in (2, [1, 2]):
        for rows in (matrix, matrix[users]):
            found = model.recommend(users, with_spare_room(rows), N=5)
            for part, wanted in zip(found, model.recommend(users, rows, N=5), strict=True):
                np.testing.assert_array_equal(part, wanted)


def test_entries_that_the_model_does_not_know_do_not_become_attributes(model, matrix, tmp_path):
    memory = io.BytesIO()
    model.save(memory)
    memory.seek(0)
    members = dict(np.load(memory))
    extra = {"recommend": 1, "fit_callback": 2, "stranger": 3, "_cache": 4, "device": "gpu", "__class__": 5}
    np.savez(tmp_path / "model.npz", **members, **extra)
    loaded = type(model).load(tmp_path / "model")
    assert loaded.__dict__.keys() == model.__dict__.keys()
    assert not hasattr(loaded, "stranger")
    assert_same_results(loaded, model, matrix)


def test_a_save_that_fails_keeps_the_old_file(model, matrix, tmp_path, monkeypatch):
    model.save(tmp_path / "model")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    other = copy.deepcopy(model)
    other.item_factors = other.item_factors * 0
    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        other.save(tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]
    assert_same_results(type(model).load(tmp_path / "model"), model, matrix)
