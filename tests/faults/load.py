"""Load damaged and hostile model files: python tests/faults/load.py CASES SEED; prints how many cases of each kind.

Each file must be refused by a ModelLoadError or give a model that works; from one that is only damaged, whatever is
loaded must be what was saved. Memory is limited, so that who allots what a file asks for fails. Where the process dies,
the last line of the errors names the case.
"""

import faulthandler
import io
import json
import resource
import struct
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.ann.faiss import FaissModel
from implicit_core.bpr import BayesianPersonalizedRanking
from implicit_core.lmf import LogisticMatrixFactorization
from implicit_core.nearest_neighbours import BM25Recommender, CosineRecommender
from implicit_core.recommender_base import ModelLoadError

ROOM = 2**29  #: bytes of address space beyond what the process has when it starts
HUGE = (10**6, 10**9, 10**12, 2**31, 2**62, 2**63, 2**64, 10**30)
STRANGERS = ("../../evil.npy", "/tmp/evil", "recommend.npy", "__class__.npy", "_cache.npy", ".npy", "fit")
SEEDS = (7, np.random.SeedSequence(7), *(np.random.Generator(kind(7)) for kind in (
    np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64)), np.random.RandomState(7))  # fmt: skip


class Broken(AssertionError):
    """A file did what no file may do."""


def counts():
    random = np.random.default_rng(0)
    return sparse.csr_matrix(random.integers(1, 6, (30, 20)) * (random.random((30, 20)) < 0.3), dtype=np.float32)


def models(matrix):
    """A fitted model of each kind, and of factors one with each kind of seed."""
    made = [CosineRecommender(5), BM25Recommender(5, B=0.5)]
    for seed in SEEDS:
        made += (
            kind(3, iterations=1, num_threads=1, random_state=seed)
            for kind in (AlternatingLeastSquares, BayesianPersonalizedRanking, LogisticMatrixFactorization)
        )
    for model in made:
        model.fit(matrix, show_progress=False)
    try:
        made.append(FaissModel(made[2]))
        made[-1].recommend(0, matrix[0])
    except ImportError:
        del made[-1]
    return made


def saved(model):
    memory = io.BytesIO()
    model.save(memory)
    return memory.getvalue()


def zipped(members, compression=zipfile.ZIP_STORED):
    """A zip file of these contents by name."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return memory.getvalue()


def members_of(file):
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(value):
    memory = io.BytesIO()
    np.lib.format.write_array(memory, np.asanyarray(value), allow_pickle=True)
    return memory.getvalue()


def header(shape="(3,)", descr="'<f4'", order="False", version=1, size=b""):
    """The bytes of an array whose header says so, followed by these."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin-1", "replace")
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + size


# Damage: what a disk, a network or a crash does


def truncated(file, random):
    return file[: random.integers(len(file))]


def flipped(file, random):
    content = bytearray(file)
    for position in random.integers(len(file), size=random.integers(1, 9)):
        content[position] ^= 1 << random.integers(8)
    return bytes(content)


def overwritten(file, random):
    start = random.integers(len(file))
    stop = min(start + random.integers(1, 200), len(file))
    filling = bytes(stop - start) if random.random() < 0.3 else random.bytes(stop - start)
    return file[:start] + filling + file[stop:]


def cut_out(file, random):
    start, stop = np.sort(random.integers(len(file) + 1, size=2))
    return file[:start] + file[stop:]


def doubled(file, random):
    start, stop = np.sort(random.integers(len(file) + 1, size=2))
    return file[:stop] + file[start:]


DAMAGES = (truncated, flipped, overwritten, cut_out, doubled)

# Hostility: a sound zip file of what no model holds


def with_values(file, random):
    """One entry is another value."""
    members = members_of(file)
    values = (
        np.nan, np.inf, -1, 0, 2**70, -(2**70), 1e300, 1j, True, "text", "", b"bytes", None, {"a": 1}, [], [[]], [1],
        [1.5, 2], "[" * 100_000, '{"generator": ' * 10_000, np.zeros((2, 3)), np.full((4, 3), np.nan),
        np.zeros((20, 20), "f4"), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 2, 2)), np.datetime64("NaT"),
        np.array([1, "x"], dtype=object),
        np.zeros(3, dtype=[("a", "f4"), ("b", "O")]), np.zeros(3, dtype="V5"), np.array(["x" * 999]), np.arange(20) - 9,
        np.full(21, 2**62), np.arange(21)[::-1].copy(), np.zeros(7, bool), np.float16(2),
    )  # fmt: skip
    for name in random.choice(list(members), size=random.integers(1, 3)):
        members[name] = npy(np.asanyarray(values[random.integers(len(values))]))
    return zipped(members)


def with_headers(file, random):
    """The header of one array says something else than what follows it."""
    members = members_of(file)
    name = str(random.choice(list(members)))
    some = lambda *texts: texts[random.integers(len(texts))]  # noqa: E731
    big = HUGE[random.integers(len(HUGE))]
    shape = some(
        f"({big},)", f"({big}, {big})", f"(0, {big})", "(-1,)", "(-1, -5)", "(3.0,)", "('a',)", "3", "()", "(3", "None",
        "(" * 300 + ")" * 300, "-" * 9000 + "1", "(1" + ",1" * 60 + ")", "(1L, 2L)", "__import__('os').getpid()",
    )  # fmt: skip
    descr = some(
        "'<f4'", "'<f8'", "'O'", "'|O'", "'V0'", "'<U0'", f"'<U{big}'", f"'V{big}'", "'nonsense'", "None", "[]",
        "'\\q'",
        "[('a', '<f4'), ('b', 'O')]", "[('a', ('<f4', (1000000, 1000000)))]", "'<M8[ns]'", "{'names': ['a']}", "'<f2'",
        "'>f4'", "'<c8'", "1", "('<f4', (9,))",
    )  # fmt: skip
    version, order = some(1, 1, 2, 3, 9), some("False", "True", "7", "None")
    members[name] = header(shape, descr, order, version, random.bytes(random.choice([0, 12, 64])))
    return zipped(members, some(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))


def with_lies(file, random):
    """The directory of the zip file says something else than what is there."""
    content, start = bytearray(file), 0
    places = []
    while (start := file.find(b"PK\x01\x02", start)) >= 0:
        places.append(start)
        start += 4
    place = places[random.integers(len(places))]
    # flags, method, CRC, compressed size, size, lengths of name, extra field and comment, offset of the member
    field, size = ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4))[random.integers(9)]
    value = int(random.choice([0, 1, 2**15, 2**31, 2**32 - 1, random.integers(2**32)]))
    content[place + field : place + field + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(content)


def with_strangers(file, random):
    """Entries of another name, twice the same, or missing."""
    members = members_of(file)
    names = list(members)
    for _ in range(random.integers(1, 4)):
        name, other = (str(name) for name in random.choice(names, size=2))
        action = random.integers(4)
        if action == 0:
            members.pop(name, None)
        elif action == 1:
            members[other] = members.get(name, b"")
        elif action == 2:
            members[str(random.choice(STRANGERS))] = npy(1)
        else:
            members[name] = random.bytes(20)
    return zipped(members)


def bomb(file, random):
    """Few bytes that stand for very many."""
    members = members_of(file)
    name = str(random.choice([name for name in members if len(members[name]) > 200]))
    rows = int(random.choice([2**20, 2**21, 2**23]))
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for other in members.keys() - {name}:
            archive.writestr(other, members[other])
        with archive.open(name, "w") as entry:
            entry.write(header(f"({rows}, 20)", "'<f4'"))
            for _ in range(rows * 80 // 2**20):
                entry.write(bytes(2**20))
    return memory.getvalue()


def with_seeds(file, random):
    """A random state at which NumPy would read or write beyond its arrays, or allot without end."""
    members = members_of(file)
    if "random_state.npy" not in members:
        return with_values(file, random)
    stored = np.lib.format.read_array(io.BytesIO(members["random_state.npy"])).item()
    state = json.loads(stored) if isinstance(stored, str) else {"seed": stored}

    def changed(value):
        if isinstance(value, dict):
            return {key: changed(item) if random.random() < 0.9 else None for key, item in value.items()}
        if isinstance(value, list):
            kept = value if random.random() < 0.8 else value[: random.integers(len(value) + 1)]
            return [changed(item) for item in kept] if random.random() < 0.2 else kept
        if random.random() < 0.6:
            return value
        strange = (-1, 10**8, -(10**8), 2**31, 2**63, 2**64, 625, 1.5, None, "x", [], {}, True)
        return strange[random.integers(len(strange))]

    members["random_state.npy"] = npy(json.dumps(changed(state)))
    return zipped(members)


HOSTILITIES = (with_values, with_headers, with_lies, with_strangers, with_seeds)


def used(model, matrix):
    """Call what reads what was loaded; errors that are documented are fine."""
    calls = (
        lambda: model.recommend(3, matrix[3]),
        lambda: model.recommend(np.arange(30), matrix, N=4),
        lambda: model.similar_items([0, 5]),
        lambda: model.similar_users(2),
        lambda: saved(model),
    )
    for call in calls:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
        except (ValueError, IndexError, TypeError, NotImplementedError):
            pass
    if isinstance(getattr(model, "random_state", None), (np.random.Generator, np.random.RandomState)):
        model.random_state.random(1000)


def attributes(model):
    """The attributes of a model and of the one that it wraps, which are those that a new one has."""
    wrapped = getattr(model, "model", None)
    return {*vars(model), *(vars(wrapped) if wrapped is not None else ())}


def check(model, file, matrix, mmap, must_be_same, folder):
    """Load a file; return what came of it."""
    path = folder / "model.npz"
    path.write_bytes(file)
    try:
        loaded = type(model).load(path, mmap=mmap)
    except ModelLoadError as error:
        if not str(error):
            raise Broken("an error without a text") from error
        return "refused"
    if attributes(loaded) != attributes(model):
        raise Broken(f"other attributes: {attributes(loaded) ^ attributes(model)}")
    if must_be_same and not mmap:
        again = members_of(saved(loaded))
        if again != members_of(saved(model)):
            raise Broken("something else was loaded than was saved")
    used(loaded, matrix)
    return "loaded"


def main(cases, seed):
    matrix = counts()
    known = [(model, saved(model)) for model in models(matrix)]
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
    results = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(cases):
            random = np.random.default_rng([seed, number])
            model, file = known[random.integers(len(known))]
            if random.random() < 0.2:
                file = zipped(members_of(file), zipfile.ZIP_DEFLATED)
            damage = random.random() < 0.5
            change = random.choice(DAMAGES if damage else HOSTILITIES) if number % 500 else bomb
            mmap = bool(random.random() < 0.3)
            name = type(model).__name__
            print(f"case {number} of seed {seed}: {name}, {change.__name__}, mmap={mmap}", file=sys.stderr)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of numpy and zipfile while files are made
                hostile = change(file, random)
            outcome = check(model, hostile, matrix, mmap, damage, Path(folder))
            if change is bomb and outcome != "refused":
                raise Broken("a bomb was loaded")
            results[change.__name__, outcome] += 1
            if list(Path(folder).iterdir()) != [Path(folder) / "model.npz"]:
                raise Broken("a file appeared")
    print(json.dumps({f"{kind}, {outcome}": n for (kind, outcome), n in sorted(results.items())}))


if __name__ == "__main__":
    faulthandler.enable()
    warnings.simplefilter("error")
    main(*map(int, sys.argv[1:]))
