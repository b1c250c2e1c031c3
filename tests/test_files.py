"""Model files: their layout, their version, and models that are mapped from them."""

import copy
import io
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.nearest_neighbours import BM25Recommender, CosineRecommender
from implicit_core.recommender_base import ModelLoadError
from implicit_core.utils import ParameterWarning

MODELS = {
    "als": lambda **p: AlternatingLeastSquares(**{"factors": 5, "iterations": 3, "random_state": 1, **p}),
    "als float64": lambda **p: AlternatingLeastSquares(
        **{"factors": 5, "iterations": 3, "random_state": 1, "dtype": np.float64, **p}
    ),
    "bpr": lambda **p: BayesianPersonalizedRanking(**{"factors": 5, "iterations": 3, "random_state": 1, **p}),
    "cosine": lambda **p: CosineRecommender(**p),
    "bm25": lambda **p: BM25Recommender(**p),
}


@pytest.fixture(params=MODELS)
def make(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def matrix():
    random = np.random.default_rng(0)
    return sparse.csr_matrix(random.integers(1, 6, size=(60, 45)) * (random.random((60, 45)) < 0.2), dtype=np.float32)


@pytest.fixture
def model(make, matrix):
    model = make()
    model.fit(matrix, show_progress=False)
    return model


def results(model, matrix):
    calls = (
        model.recommend(3, matrix[3]),
        model.recommend(np.arange(60), matrix),
        model.similar_items(np.arange(45)),
        model.similar_users([1, 2]),
    )
    return [array for call in calls for array in call]


def assert_same_results(model, other, matrix):
    for mine, wanted in zip(results(model, matrix), results(other, matrix), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def arrays(model):
    """The arrays of a model that a file holds."""
    if hasattr(model, "user_factors"):
        return [model.user_factors, model.item_factors]
    return [model.similarity.data, model.similarity.indices, model.user_items.data]


def base_of(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# Layout


def test_arrays_lie_uncompressed_at_multiples_of_64_bytes(model, tmp_path):
    path = tmp_path / "model.npz"
    model.save(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            name, extra = struct.unpack_from("<2H", content, member.header_offset + 26)
            start = member.header_offset + 30 + name + extra
            assert content[start : start + 6] == b"\x93NUMPY"
            assert start % 64 == 0
            assert (10 + struct.unpack_from("<H", content, start + 8)[0]) % 64 == 0


def test_files_in_the_middle_of_a_stream_and_to_pipes_can_be_written(model, matrix, tmp_path):
    memory = io.BytesIO()
    memory.write(b"before")
    model.save(memory)
    memory.seek(6)
    assert_same_results(type(model).load(memory), model, matrix)
    receive = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    with subprocess.Popen([sys.executable, "-c", receive, str(tmp_path / "m.npz")], stdin=subprocess.PIPE) as process:
        model.save(process.stdin)
        process.stdin.close()
    assert_same_results(type(model).load(tmp_path / "m.npz", mmap=True), model, matrix)


# Version


def with_entries(model, **entries):
    """What the model saves, with other entries."""
    memory = io.BytesIO()
    model.save(memory)
    memory.seek(0)
    members = {**np.load(memory), **entries}
    memory = io.BytesIO()
    np.savez(memory, **{name: value for name, value in members.items() if value is not None})
    memory.seek(0)
    return memory


def test_files_say_their_format_and_those_of_implicit_need_not(model, matrix):
    assert with_entries(model).getvalue() != with_entries(model, format_version=None).getvalue()
    for file in (with_entries(model), with_entries(model, format_version=None), with_entries(model, format_version=1)):
        loaded = type(model).load(file)
        assert_same_results(loaded, model, matrix)
        assert not hasattr(loaded, "format_version")


@pytest.mark.parametrize("version", [2, 10**6, "1", 1.0, [1, 1]])
def test_files_of_a_newer_format_are_refused(model, version):
    with pytest.raises(ModelLoadError, match=r"format .*, and this release .* up to 1; upgrade implicit_core"):
        type(model).load(with_entries(model, format_version=version))


# Parameters that implicit lacks


def test_nothing_is_compiled_to_save_and_load(model, tmp_path, monkeypatch):
    """Python 3.11 reports an internal error where several threads compile at once, as `numpy.load` does."""

    def refuse(*args, **kwargs):
        raise AssertionError("something is compiled")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.compile", refuse)
        model.save(tmp_path / "model")
        loaded = type(model).load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.similar_items(3)[1], model.similar_items(3)[1])


def test_a_parameter_that_implicit_lacks_is_saved_with_a_warning(tmp_path):
    path = tmp_path / "model.npz"
    model = BayesianPersonalizedRanking(deterministic=False)
    with pytest.warns(ParameterWarning, match=r"implicit has no parameter for deterministic=False .*ignore") as caught:
        model.save(path)
    assert [warning.filename for warning in caught] == [__file__]
    assert not BayesianPersonalizedRanking.load(path).deterministic


def test_defaults_and_parameters_that_implicit_has_are_saved_in_silence(model, tmp_path):
    model.save(tmp_path / "model.npz")
    AlternatingLeastSquares(cg_steps=7, alpha=2).save(tmp_path / "model.npz")
    assert AlternatingLeastSquares.load(tmp_path / "model.npz").cg_steps == 7


# Maps


def test_a_mapped_model_is_the_same_and_cannot_be_written(model, matrix, tmp_path):
    model.save(tmp_path / "model")
    for path in (tmp_path / "model", str(tmp_path / "model.npz")):
        mapped = type(model).load(path, mmap=True)
        assert mapped.get_params() == model.get_params()
        for array, original in zip(arrays(mapped), arrays(model), strict=True):
            assert type(array) is np.ndarray
            assert isinstance(base_of(array), np.memmap)
            assert not array.flags.writeable
            assert array.flags.aligned
            assert array.ctypes.data % 64 == 0
            assert array.dtype == original.dtype
        assert_same_results(mapped, model, matrix)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_mapped_model_can_be_copied_fitted_further_and_saved_over_its_file(make, model, matrix, tmp_path, how):
    path = tmp_path / "model.npz"
    model.save(path)
    mapped = how(type(model).load(path, mmap=True))
    before = results(mapped, matrix)
    mapped.fit(matrix, show_progress=False)
    model.fit(matrix, show_progress=False)
    assert_same_results(mapped, model, matrix)
    still = type(model).load(path, mmap=True)
    mapped.save(path)
    for array, old in zip(results(still, matrix), before, strict=True):
        np.testing.assert_array_equal(array, old)
    assert_same_results(type(model).load(path, mmap=True), model, matrix)


def test_a_mapped_model_can_be_extended(matrix, tmp_path):
    model = MODELS["als"]()
    model.fit(matrix, show_progress=False)
    model.save(tmp_path / "model")
    mapped = AlternatingLeastSquares.load(tmp_path / "model", mmap=True)
    for each in (mapped, model):
        each.partial_fit_users([2, 61], matrix[[4, 5]])
        each.partial_fit_items([0], matrix.T.tocsr()[[3]])
    assert_same_results(mapped, model, matrix)
    assert AlternatingLeastSquares.load(tmp_path / "model").user_factors.shape == (60, 5)


def test_unfitted_and_empty_models_can_be_mapped(make, tmp_path):
    make().save(tmp_path / "model")
    assert type(make()).load(tmp_path / "model", mmap=True).get_params() == make().get_params()
    model = make()
    model.fit(sparse.csr_matrix((0, 4)), show_progress=False)
    model.save(tmp_path / "model")
    mapped = type(model).load(tmp_path / "model", mmap=True)
    np.testing.assert_array_equal(mapped.similar_items(1)[0], model.similar_items(1)[0])


def test_factors_in_fortran_order_are_mapped_too(tmp_path):
    model = AlternatingLeastSquares(3)
    model.user_factors, model.item_factors = (
        np.asfortranarray(np.sin(np.arange(3.0 * n)).reshape(n, 3)) for n in (70, 20)
    )
    model.save(tmp_path / "model")
    mapped = AlternatingLeastSquares.load(tmp_path / "model", mmap=True)
    np.testing.assert_array_equal(mapped.user_factors, model.user_factors)
    np.testing.assert_array_equal(mapped.recommend(3, None, filter_already_liked_items=False),
                                  model.recommend(3, None, filter_already_liked_items=False))  # fmt: skip


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_files_that_cannot_be_mapped_say_so_and_can_be_read(model, matrix, tmp_path, write):
    path = tmp_path / "model.npz"
    model.save(path)
    write(path, **np.load(path))
    with pytest.raises(
        ModelLoadError, match="compressed or not aligned in it, as in files of implicit; load it without"
    ):
        type(model).load(path, mmap=True)
    loaded = type(model).load(path)
    assert_same_results(loaded, model, matrix)
    loaded.save(path)
    assert_same_results(type(model).load(path, mmap=True), model, matrix)


def test_only_files_with_a_path_can_be_mapped(model, tmp_path):
    memory = io.BytesIO()
    model.save(memory)
    memory.seek(0)
    with pytest.raises(TypeError, match="mmap=True needs the path of a file, got BytesIO"):
        type(model).load(memory, mmap=True)
    with pytest.raises(FileNotFoundError):
        type(model).load(tmp_path / "none", mmap=True)


def test_damaged_files_are_refused_rather_than_mapped(make, tmp_path):
    model = make()
    model.fit(sparse.identity(20, format="csr"), show_progress=False)
    path = tmp_path / "model.npz"
    model.save(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        name, extra = struct.unpack_from("<2H", content, member.header_offset + 26)
        start = member.header_offset + 30 + name + extra
        shape = content.index(b"'shape': (", start) + len("'shape': (")
        if content[shape : shape + 1] == b")":
            continue
        for position, byte in (
            (start, b"X"),
            (start + 6, b"\x07"),
            (shape, b"9"),
            (member.header_offset + 28, b"\xff"),
        ):
            path.write_bytes(content[:position] + byte + content[position + 1 :])
            with pytest.raises(ModelLoadError):
                type(model).load(path, mmap=True)
    for damaged in (content[: len(content) // 2], b"", b"no zip"):
        path.write_bytes(damaged)
        with pytest.raises(ModelLoadError):
            type(model).load(path, mmap=True)


# Pickles


def test_a_pickle_is_no_model_file(model, tmp_path):
    (tmp_path / "model.npz").write_bytes(pickle.dumps(model))
    for options in ({}, {"mmap": True}):
        with pytest.raises(ModelLoadError, match=r"this is a pickle, .*call model\.save\(path\) there"):
            type(model).load(tmp_path / "model.npz", **options)


def test_the_state_of_a_model_of_implicit_says_how_to_carry_it_over(make):
    """What unpickling ends in where `implicit_core` stands in for `implicit`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("implicit", reason="takes the state of its models, and it is not installed")
        import implicit.cpu.als
        import implicit.cpu.bpr
        import implicit.nearest_neighbours

        model = make()
        module = {"als": implicit.cpu.als, "bpr": implicit.cpu.bpr}.get(
            type(model).__module__.split(".")[-1], implicit.nearest_neighbours
        )
        theirs = getattr(module, type(model).__name__)()
    function, arguments, state = theirs.__reduce_ex__(4)[:3]
    with pytest.raises(ModelLoadError, match="pickles of implicit do not carry over: unpickle it in an environment"):
        function(type(model), *arguments[1:]).__setstate__(state)


@pytest.mark.parametrize(
    ("file", "error", "text"),
    [
        ("", ValueError, "must have a name"),
        (".", ValueError, "must have a name"),
        ("a\0b", ValueError, "must have a name"),
        (None, TypeError, "must be a path or a binary file object, got NoneType"),
        (3, TypeError, "must be a path or a binary file object, got int"),
        (["model"], TypeError, "must be a path or a binary file object, got list"),
    ],
)
def test_what_is_no_file_is_refused(model, file, error, text):
    with pytest.raises(error, match=f"the file of a model {text}"):
        model.save(file)
    with pytest.raises(error, match=f"the file of a model {text}"):
        type(model).load(file)


def test_a_path_may_be_bytes(model, tmp_path):
    model.save(os.fsencode(tmp_path / "model"))
    assert type(model).load(os.fsencode(tmp_path / "model.npz")).get_params().keys() == model.get_params().keys()
