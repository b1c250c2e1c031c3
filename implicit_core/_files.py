"""Reading and writing ``.npz`` model files."""

from __future__ import annotations

import contextlib
import json
import math
import numbers
import os
import re
import secrets
import shutil
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from implicit_core._errors import ModelLoadError
from implicit_core._matrices import all_finite
from implicit_core._memory import aligned
from implicit_core.utils import check_random_state

ALIGNMENT = 64  #: bytes; what numpy aligns its headers to, and a cache line
LOCAL_HEADER = 30  #: bytes of the header of a member, without its name and extra fields
END_RECORD = 22  #: bytes of the end of an archive, without its comment
HEADER_LENGTHS = {(1, 0): "<H", (2, 0): "<I"}  #: how formats of arrays store the length of their header
PLAIN_HEADER = re.compile(
    rb"\{'descr': '([<>|]?[a-zA-Z]\d*)', 'fortran_order': (True|False), 'shape': \(((?:\d+, ?)*\d*)\), \} *\n"
)
COPIED = 2**20  #: bytes of an array that are read at once
PADDING_FIELD = 0xD935  #: the extra field by which Android's zipalign pads too
FORMAT_VERSION = 1  #: 0 are files of implicit
VERSION_ENTRY = "format_version"
MOST_INFLATION = 64  #: bytes that a byte of a file may stand for; save() does not compress
SMALL = 2**26  #: bytes that a file may hold whatever its length
MOST_POOL = 4096  #: words of a SeedSequence, which takes time in proportion to their square
FROM_PICKLE = (
    "pickles of implicit do not carry over: unpickle it in an environment with implicit, call model.save(path) there, "
    "and load that file"
)


def with_suffix(path: str | bytes | os.PathLike[str]) -> Path:
    """The path as ``numpy.savez`` would write it.

    Raises
    ------
    TypeError, ValueError
        It is no path, or one that cannot be of a file.
    """
    given: Any = path
    if not isinstance(given, (str, bytes, os.PathLike)):
        raise TypeError(f"the file of a model must be a path or a binary file object, got {type(given).__name__}")
    path = Path(os.fsdecode(given))
    if not path.name or "\0" in path.name:
        raise ValueError(f"the file of a model must have a name, got the path {os.fsdecode(given)!r}")
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def write_npz(file: Any, arrays: dict[str, Any]) -> None:
    """Write arrays to a path or file object; a path is replaced only by a complete file.

    A link stays one, and the file that it leads to is replaced. The new file has the permissions of the old one. Where
    the process is killed, a file that ends in ``.part`` may stay beside it.
    """
    if hasattr(file, "write"):
        _write_members(file, arrays)
        return
    path = Path(os.path.realpath(with_suffix(file)))
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as stream:
            _write_members(stream, arrays)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system can; the file itself is safe
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def partial_files(path: Path) -> list[Path]:
    """What writes of a file have left behind whose processes were killed."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    return [entry for entry in path.parent.iterdir() if name.fullmatch(entry.name)]


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
                array = np.asanyarray(value)
                if array.dtype == object and isinstance(value, numbers.Real):  # a fraction, or a huge integer
                    array = np.asanyarray(float(value))
                np.lib.format.write_array(entry, array, allow_pickle=False)


def read_npz(file: Any, mmap: bool = False) -> dict[str, Any]:
    """Arrays of an ``.npz`` file, zero-dimensional ones as Python scalars; with ``mmap``, the others mapped from it.

    Nothing that the file says is believed before it is checked: no memory is allotted that its length does not warrant,
    and nothing in it is executed.

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
        with zipfile.ZipFile(stream) as archive:
            _check_directory(stream, archive)
            arrays = {
                member.filename.removesuffix(".npy"): _member(stream, archive, member, mmap)
                for member in archive.infolist()
            }
        values = {name: array.item() if array.ndim == 0 else array for name, array in arrays.items()}
    except (ModelLoadError, MemoryError):
        raise
    except Exception as error:  # what parsers raise for arbitrary bytes is not listed anywhere
        raise ModelLoadError(f"this is not a model file that save() wrote: {error}") from error
    version = values.pop(VERSION_ENTRY, 0)
    if not isinstance(version, int) or not 0 <= version <= FORMAT_VERSION:
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


def _check_directory(stream: IO[bytes], archive: zipfile.ZipFile) -> None:
    """Raise ModelLoadError where members are much larger than the file, lie on top of each other, or are missing.

    A length in the directory that is damaged can hide the members after it, which zipfile does not notice.
    """
    length, members = stream.seek(0, os.SEEK_END), archive.infolist()
    stored, inflated = sum(member.compress_size for member in members), sum(member.file_size for member in members)
    if stored > length or inflated > max(MOST_INFLATION * length, SMALL):
        raise ModelLoadError(
            f"the file has {length} bytes and says that it holds {inflated}, which no model is compressed to; it is "
            "damaged or made to exhaust memory"
        )
    stream.seek(-END_RECORD - len(archive.comment), os.SEEK_END)
    (entries,) = struct.unpack("<10xH10x", stream.read(END_RECORD))
    if entries != len(members):
        raise ModelLoadError(f"the file must hold {entries} arrays, but {len(members)} can be found; it is damaged")


def _member(stream: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo, mmap: bool) -> NDArray[Any]:
    """The array that a member holds, whose size is what its header says; mapped if asked for and it has elements.

    Raises
    ------
    ModelLoadError
        It holds objects, or is to be mapped and cannot be.
    """
    with archive.open(member) as entry:
        shape, fortran, dtype = _header(entry)
        start, size = entry.tell(), math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ModelLoadError(
            f"{member.filename} in the file holds Python objects, which are never read. A model saved by implicit with "
            "a Generator as random_state cannot be read; save it there with an int random_state"
        )
    if start + size != member.file_size:
        raise ValueError(f"{member.filename} has not the size that its header says")
    if mmap and shape and size:
        return _mapped(stream, member, start, shape, fortran, dtype)
    as_rows = dtype.kind == "f" and not fortran
    array = aligned(shape, dtype) if as_rows else np.empty(shape, dtype, "F" if fortran else "C")
    content = array.ravel("K").view(np.uint8)
    with archive.open(member) as entry:
        entry.seek(start)
        for begin in range(0, size, COPIED):
            chunk = content[begin : begin + COPIED]
            chunk[:] = np.frombuffer(entry.read(len(chunk)), np.uint8)
        entry.read(1)  # the end, where zipfile compares the check sum
    return array


def _header(entry: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type, as the header of an array says.

    NumPy would have Python compile it, which hostile text can exhaust, and which Python 3.11 does wrong in threads.
    """
    version = np.lib.format.read_magic(entry)
    if version not in HEADER_LENGTHS:
        raise ValueError(f"it holds an array of format {version}")
    length = struct.Struct(HEADER_LENGTHS[version])
    text = entry.read(*length.unpack(entry.read(length.size)))
    header = PLAIN_HEADER.fullmatch(text)
    if header is None:
        raise ValueError(f"it holds an array whose header {text[:80]!r} cannot be read")
    dtype, fortran, shape = (part.decode() for part in header.groups())
    return tuple(int(extent) for extent in re.findall(r"\d+", shape)), fortran == "True", np.dtype(dtype)


def _mapped(
    stream: IO[bytes],
    member: zipfile.ZipInfo,
    start: int,
    shape: tuple[int, ...],
    fortran: bool,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """The array of a member, ``start`` bytes after where it begins, as it lies in the file, read-only.

    Raises
    ------
    ModelLoadError
        It is compressed or not aligned.
    """
    stream.seek(member.header_offset)
    name, extra = struct.unpack("<26x2H", stream.read(LOCAL_HEADER))
    offset = member.header_offset + LOCAL_HEADER + name + extra + start
    if member.compress_type != zipfile.ZIP_STORED or offset % ALIGNMENT:
        raise ModelLoadError(
            f"the file cannot be mapped, since {member.filename} is compressed or not aligned in it, as in files of "
            "implicit; load it without mmap, and save() it to have one that can"
        )
    return np.asarray(np.memmap(stream, dtype, "r", offset, shape, "F" if fortran else "C"))


def memory_of(array: Any) -> Any:
    """What the elements of an array lie in, if other than an array; None where that is an array of its own."""
    while isinstance(array, (np.ndarray, memoryview)):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether an array lies in a file rather than in memory."""
    return isinstance(array.base, np.memmap)


def check_finite_entry(state: dict[str, Any], name: str) -> None:
    """Raise ModelLoadError where an array of a file, unless it is mapped, holds values that are NaN or infinite."""
    array = state[name]
    if not is_mapped(array) and not all_finite(array):
        raise ModelLoadError(f"{name} of the file must be finite, but holds NaN or infinite values")


def check_single_entries(state: dict[str, Any], names: tuple[str, ...]) -> None:
    """Raise ModelLoadError where a parameter in a file is an array."""
    for name in names:
        if isinstance(state.get(name), np.ndarray):
            raise ModelLoadError(f"{name} of the file must be one value, got an array of shape {state[name].shape}")


def set_state(model: Any, state: Any) -> None:
    """Take over what a model was pickled as.

    Raises
    ------
    ModelLoadError
        It is no state of ours: a module of this package stands in for one of implicit.
    """
    if not isinstance(state, dict) or "_cache" not in state:
        raise ModelLoadError(f"a pickle of another library cannot become a {type(model).__name__}; {FROM_PICKLE}")
    vars(model).update(state)


def encode_random_state(random_state: Any) -> Any:
    """An int stays; what is no plain number becomes JSON text, so that the file holds no pickle.

    Raises
    ------
    TypeError, ValueError
        It is no seed, or a generator of a kind that could not be read back.
    """
    if random_state is None:
        return None
    if isinstance(random_state, (int, np.integer)):
        return random_state if -(2**63) <= random_state < 2**63 else json.dumps({"seed": int(random_state)})
    if isinstance(random_state, np.random.SeedSequence):
        return json.dumps({"seed_sequence": _plain(random_state.state)})
    if isinstance(random_state, np.random.RandomState):
        return json.dumps({"legacy": _plain(random_state.get_state(legacy=False))})
    generator = check_random_state(random_state)
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
            if state["pool_size"] > MOST_POOL:
                raise ValueError(f"a pool of {state['pool_size']} words is too large")
            return np.random.SeedSequence(**state)
        if _negative(state):
            raise ValueError("a part of it is negative")
        _check_position(state)
        if kind == "legacy":
            legacy = np.random.RandomState()
            legacy.set_state(state)
            return legacy
        bit_generator = {c.__name__: c for c in _BIT_GENERATORS}[state["bit_generator"]]()
        bit_generator.state = _arrays(state)
        return np.random.Generator(bit_generator)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelLoadError(f"the random_state of the file cannot be read: {error}") from error


def _negative(value: Any) -> bool:
    """Whether a number of nested state is, other than the next normal variate that a RandomState keeps."""
    if isinstance(value, dict):
        return any(_negative(item) for key, item in value.items() if key != "gauss")
    if isinstance(value, list):
        return any(map(_negative, value))
    return isinstance(value, (int, float)) and value < 0


def _check_position(state: dict[str, Any]) -> None:
    """Raise ValueError for a position outside the words of a generator, which NumPy does not check."""
    kind = state["bit_generator"]
    position, words = (state["buffer_pos"], 4) if kind == "Philox" else (state["state"].get("pos", 0), 624)
    if position not in range(words + 1):
        raise ValueError(f"{kind} is at word {position} of {words}")


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
