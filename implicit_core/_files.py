"""Reading and writing ``.npz`` model files."""

from __future__ import annotations

import json
import math
import os
import secrets
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from implicit_core.utils import ModelLoadError

ALIGNMENT = 64  #: bytes; what numpy aligns its headers to, and a cache line
LOCAL_HEADER = 30  #: bytes of the header of a member, without its name and extra fields
PADDING_FIELD = 0xD935  #: the extra field by which Android's zipalign pads too
FORMAT_VERSION = 1  #: 0 are files of implicit
VERSION_ENTRY = "format_version"
FROM_PICKLE = (
    "pickles of implicit do not carry over: unpickle it in an environment with implicit, call model.save(path) there, "
    "and load that file"
)


def with_suffix(path: str | os.PathLike[str]) -> Path:
    """The path as ``numpy.savez`` would write it."""
    path = Path(os.fspath(path))
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def write_npz(file: Any, arrays: dict[str, Any]) -> None:
    """Write arrays to a path or file object; a path is replaced only by a complete file."""
    if hasattr(file, "write"):
        _write_members(file, arrays)
        return
    path = with_suffix(file)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as stream:
            _write_members(stream, arrays)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_members(stream: Any, arrays: dict[str, Any]) -> None:
    """What ``numpy.savez`` writes, with arrays that begin at multiples of ``ALIGNMENT`` bytes, and the version."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, value in {**arrays, VERSION_ENTRY: FORMAT_VERSION}.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            # The header has its fixed part, the name, 20 bytes of sizes, and the padding, which has a header too. What
            # follows, the header of the array, is a multiple of 64 bytes long.
            before = archive.start_dir + LOCAL_HEADER + len(member.filename.encode()) + 20 + 4
            padding = -before % ALIGNMENT
            member.extra = struct.pack("<HH", PADDING_FIELD, padding) + bytes(padding)
            with archive.open(member, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(value), allow_pickle=False)


def read_npz(file: Any, mmap: bool = False) -> dict[str, Any]:
    """Arrays of an ``.npz`` file, zero-dimensional ones as Python scalars; with ``mmap``, the others mapped from it.

    Raises
    ------
    FileNotFoundError
    TypeError
        ``mmap`` is set and the file is no path.
    ModelLoadError
        Not an ``.npz`` file, one with members that are not plain arrays or cannot be mapped, or of a newer release.
    """
    if not hasattr(file, "read"):
        path = with_suffix(file)
        if not path.exists():
            raise FileNotFoundError(f"there is no model file {path}")
        with path.open("rb") as stream:
            return _read_members(stream, mmap)
    if mmap:
        raise TypeError(f"mmap=True needs the path of a file, got {type(file).__name__}")
    return _read_members(file, mmap)


def _read_members(stream: Any, mmap: bool) -> dict[str, Any]:
    try:
        if _is_pickle(stream):
            raise ModelLoadError(f"this is a pickle, not a model file that save() wrote; {FROM_PICKLE}")
        members = np.load(stream, allow_pickle=False)
        arrays = {name: members[name] for name in members.files if not mmap}
        if mmap:
            for name, member in zip(members.files, members.zip.infolist(), strict=True):
                mapped = _mapped(stream, member)
                arrays[name] = members[name] if mapped is None else mapped
        values = {name: array.item() if array.ndim == 0 else array for name, array in arrays.items()}
    except ModelLoadError:
        raise
    except (ValueError, AttributeError, EOFError, KeyError, OSError, struct.error, zipfile.BadZipFile, zlib.error) as e:
        raise ModelLoadError(
            f"this is not a model file that save() wrote: {e}. A model saved by implicit with a Generator as "
            "random_state cannot be read; save it there with an int random_state"
        ) from e
    version = values.pop(VERSION_ENTRY, 0)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelLoadError(
            f"the file has format {version}, and this release of implicit_core reads formats up to {FORMAT_VERSION}; "
            "upgrade implicit_core"
        )
    return values


def _is_pickle(stream: Any) -> bool:
    start = stream.tell()
    first = stream.read(1)
    stream.seek(start)
    return bool(first == b"\x80")


def _mapped(stream: IO[bytes], member: zipfile.ZipInfo) -> NDArray[Any] | None:
    """The array of a member as it lies in the file, read-only; None if it is a scalar or empty.

    Raises
    ------
    ModelLoadError
        The array is compressed or not aligned.
    """
    if member.compress_type == zipfile.ZIP_STORED:
        stream.seek(member.header_offset)
        name, extra = struct.unpack("<26x2H", stream.read(LOCAL_HEADER))
        start = stream.seek(name + extra, os.SEEK_CUR)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(stream)]
        shape, fortran, dtype = read_header(stream)
        offset, size = stream.tell(), math.prod(shape) * dtype.itemsize
        if not shape or size == 0 or dtype.hasobject:
            return None
        if offset - start + size != member.file_size:
            raise ValueError(f"{member.filename} has not the size that its header says")
        if offset % ALIGNMENT == 0:
            return np.asarray(np.memmap(stream, dtype, "r", offset, shape, "F" if fortran else "C"))
    raise ModelLoadError(
        f"the file cannot be mapped, since {member.filename} is compressed or not aligned in it, as in files of "
        "implicit; load it without mmap, and save() it to have one that can"
    )


def set_state(model: Any, state: Any) -> None:
    """Take over what a model was pickled as.

    Raises
    ------
    ModelLoadError
        It is no state of ours: a module of this package stands in for one of implicit.
    """
    if "_cache" not in state:
        raise ModelLoadError(f"a pickle of another library cannot become a {type(model).__name__}; {FROM_PICKLE}")
    vars(model).update(state)


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
