"""Reading and writing ``.npz`` model files."""

from __future__ import annotations

import json
import os
import secrets
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from implicit_core.utils import ModelLoadError


def with_suffix(path: str | os.PathLike[str]) -> Path:
    """The path as ``numpy.savez`` would write it."""
    path = Path(os.fspath(path))
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def write_npz(file: Any, arrays: dict[str, Any]) -> None:
    """Write arrays to a path or file object; a path is replaced only by a complete file."""
    if hasattr(file, "write"):
        np.savez(file, **arrays)
        return
    path = with_suffix(file)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_npz(file: Any) -> dict[str, Any]:
    """Arrays of an ``.npz`` file, zero-dimensional ones as Python scalars.

    Raises
    ------
    FileNotFoundError
    ModelLoadError
        Not an ``.npz`` file, or one with members that are not plain arrays.
    """
    if not hasattr(file, "read"):
        path = with_suffix(file)
        if not path.exists():
            raise FileNotFoundError(f"there is no model file {path}")
        with path.open("rb") as stream:
            return read_npz(stream)
    try:
        members = np.load(file, allow_pickle=False)
        arrays = {name: members[name] for name in members.files}
        return {name: array.item() if array.ndim == 0 else array for name, array in arrays.items()}
    except (ValueError, AttributeError, EOFError, KeyError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelLoadError(
            f"this is not a model file that save() wrote: {error}. A model pickled by another library, or saved by "
            "implicit with a Generator as random_state, cannot be read; save it with an int random_state"
        ) from error


def encode_random_state(random_state: Any) -> Any:
    """An int stays; what is no plain number becomes JSON text, so that the file holds no pickle.

    Raises
    ------
    ValueError
        A generator of a kind that could not be read back.
    """
    if random_state is None:
        return None
    if isinstance(random_state, (int, np.integer)):
        return random_state if -(2**63) <= random_state < 2**63 else json.dumps({"seed": int(random_state)})
    if isinstance(random_state, np.random.SeedSequence):
        return json.dumps({"seed_sequence": _plain(random_state.state)})
    if isinstance(random_state, np.random.RandomState):
        return json.dumps({"legacy": _plain(random_state.get_state(legacy=False))})
    generator = np.random.default_rng(random_state)
    if type(generator.bit_generator) not in _BIT_GENERATORS:
        raise ValueError(
            f"a random_state over {type(generator.bit_generator).__name__} cannot be stored; set it to an int or a "
            "generator of numpy's own kinds"
        )
    return json.dumps({"generator": _plain(generator.bit_generator.state)})


def decode_random_state(stored: Any) -> Any:
    """Turn back what :func:`encode_random_state` gave."""
    if not isinstance(stored, str):
        return stored
    try:
        ((kind, state),) = json.loads(stored).items()
        if kind == "seed":
            return int(state)
        if kind == "seed_sequence":
            return np.random.SeedSequence(**state)
        if kind == "legacy":
            legacy = np.random.RandomState()
            legacy.set_state(state)
            return legacy
        bit_generator = {c.__name__: c for c in _BIT_GENERATORS}[state["bit_generator"]]()
        bit_generator.state = _arrays(state)
        return np.random.Generator(bit_generator)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelLoadError(f"the random_state of the file cannot be read: {error}") from error


_BIT_GENERATORS = (
    np.random.MT19937,
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.Philox,
    np.random.SFC64,
)


def _plain(value: Any) -> Any:
    """Nested state with arrays as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _arrays(value: Any) -> Any:
    """Nested state with lists as arrays."""
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    return np.array(value, dtype=np.uint64) if isinstance(value, list) else value
