"""Right and adversarial arguments, and what must come of a call with them."""

import copy
import dis
import traceback
import warnings
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from scipy import sparse

import implicit_core
from implicit_core.recommender_base import ModelFitError
from implicit_core.utils import ParameterWarning

PACKAGE = str(Path(implicit_core.__file__).parent)
RAISE = dis.opmap["RAISE_VARARGS"]
DOCUMENTED = (ValueError, IndexError, TypeError, NotImplementedError)
BYTES = st.integers(0, 255)
SEEDS = st.integers(0, 2**32 - 1)
HUGE = 2**70

NO_COUNT = [  # values that are no integer of at least 0 in 64 bits
    (-1, ValueError), (-HUGE, ValueError), (HUGE, ValueError), (2.0, TypeError), (float("nan"), TypeError),
    ("3", TypeError), (None, TypeError), (True, TypeError), ([1], TypeError), (np.ones(2), TypeError), (1j, TypeError),
]  # fmt: skip
NO_NUMBER = [
    (float("nan"), ValueError), (float("inf"), ValueError), (-float("inf"), ValueError), (1e39, ValueError),
    ("1", TypeError), (None, TypeError), (1j, TypeError), ([1.0], TypeError), (np.ones(2), TypeError),
    (HUGE**20, ValueError),
]  # fmt: skip
NO_THREADS = [
    (1.5, TypeError),
    ("2", TypeError),
    (None, TypeError),
    ([1], TypeError),
    (True, TypeError),
    (HUGE, ValueError),
]
NO_SEED = [
    (-1, ValueError),
    ("seed", TypeError),
    (1.5, TypeError),
    ({}, TypeError),
    ([-1], ValueError),
    (1j, TypeError),
]
NO_DTYPE = [
    ("no such", TypeError),
    (np.int32, TypeError),
    (np.float16, TypeError),
    (complex, TypeError),
    (object, TypeError),
    (3, TypeError),
]
THREADS = [0, 1, 2, 3, 8, -1, -2, -100, 1000, np.int64(2)]


class Broken(AssertionError):
    """A call did not do what it must."""


class Case:
    """Arguments of one call, drawn one after the other, and which of them it must refuse."""

    def __init__(self, draw, wrongness=24):
        self.draw = draw
        self.wrongness = wrongness
        self.refusals = []  # (name, types of error) of each wrong argument
        self.allowed = ()  # errors that may come without a wrong argument
        self.optional = set()  # names of arguments that may be wrong where it does not matter
        self.converts = False  # whether a ParameterWarning may come

    def byte(self, below=256):
        return self.draw(BYTES) % below

    def one(self, values):
        """One of a list, any length."""
        return values[self.draw(st.integers(0, len(values) - 1))]

    def random(self):
        return np.random.default_rng(self.draw(SEEDS))

    def wrong(self):
        """Whether the next argument is to be a wrong one."""
        return self.byte(self.wrongness) == 1

    def refuse(self, name, *errors):
        self.refusals.append((name, errors))

    def pick(self, name, right, wrong=()):
        """A value of the parameter ``name``: one of ``right``, or at times one of the pairs of ``wrong``."""
        if wrong and self.wrong():
            value, *errors = self.one(wrong)
            self.refuse(name, *errors)
            return value
        return self.one(right)

    def call(self, function, *args, **kwargs):
        """The result of a call; None if it was refused as it must be.

        Raises
        ------
        Broken
            Another error than was due, one that does not name its argument, none where one was due, a warning, or a
            changed input.
        """
        try:
            return self._checked(function, args, kwargs)
        except Broken as error:
            described = [*map(_described, args), *(f"{name}={_described(value)}" for name, value in kwargs.items())]
            raise Broken(
                f"{getattr(function, '__qualname__', function)}({', '.join(described)}):\n{error}"
            ) from error.__cause__

    def _checked(self, function, args, kwargs):
        before = _snapshot((args, kwargs))
        result, caught = None, None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if self.converts:
                warnings.simplefilter("ignore", ParameterWarning)
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                caught = error
        if caught is not None:
            self._judge(caught)
        elif self.refusals and all(name in self.optional for name, _ in self.refusals):
            result = None
        elif self.refusals:
            raise Broken(f"took what it must refuse: {self.refusals}; gave {_brief(result)}")
        if before != _snapshot((args, kwargs)):
            raise Broken("changed its input")
        return result

    def _judge(self, error):
        last = error.__traceback__
        while last.tb_next:
            last = last.tb_next
        where = last.tb_frame.f_code
        text = "".join(traceback.format_exception(error)[-3:])
        if not isinstance(error, DOCUMENTED):
            raise Broken(f"error of an undocumented type:\n{text}") from error
        if not (where.co_filename.startswith(PACKAGE) and where.co_code[last.tb_lasti] == RAISE):
            raise Broken(
                f"an error that comes from elsewhere than a raise statement of the package:\n{text}"
            ) from error
        if not self.refusals:
            if not isinstance(error, self.allowed):
                raise Broken(f"refused what it must take:\n{text}") from error
            return
        errors = tuple(kind for _, kinds in self.refusals for kind in kinds) + tuple(self.allowed)
        if not isinstance(error, errors):
            raise Broken(f"wrong type of error for {self.refusals}:\n{text}") from error
        if not isinstance(error, self.allowed or ()) and not any(name in str(error) for name, _ in self.refusals):
            raise Broken(f"the error names none of {[name for name, _ in self.refusals]}:\n{text}") from error

    # sparse matrices

    def matrix(
        self, name, rows, columns, *, values="counts", formats="any", wrong=True, finite=ModelFitError, canonical=False
    ):
        """A sparse matrix of this shape and what it means, as a dense array and a mask of stored cells.

        ``values``: "counts" are small whole numbers of at least 0, some stored as 0; "signed" also negative ones;
        "wide" also fractions of any size that float32 holds. ``finite``: the error for NaN and infinite values, or None
        where they are allowed. ``formats``: "any" converts with a warning, "csr" must be CSR.
        """
        random = self.random()
        density = random.choice([0.0, 0.2, 0.5, 1.0], p=[0.1, 0.4, 0.4, 0.1])
        stored = random.random((rows, columns)) < density
        dense = random.integers(-3 if values != "counts" else 0, 6, (rows, columns)).astype(np.float64)
        dtypes = [np.float32, np.float64, np.int64, np.int32, np.int16, np.int8]
        if values == "counts":
            dtypes += [np.uint8, np.uint16, np.uint64, np.bool_, np.float16]
        dtype = np.dtype(dtypes[random.integers(len(dtypes))])
        if values == "wide" and dtype.kind == "f" and random.random() < 0.5:
            dense = dense * 10.0 ** random.integers(-30, 31, dense.shape) if dtype != np.float16 else dense
        dense = np.where(stored, dense, 0).astype(dtype).astype(np.float64)

        row, column = np.nonzero(stored)
        data = dense[row, column].astype(dtype)
        if not canonical and len(row) and dtype.kind == "i" and random.random() < 0.3:  # a cell in two parts
            again = random.integers(len(row), size=random.integers(1, 4))
            row, column = np.append(row, row[again]), np.append(column, column[again])
            data = np.append(data, np.ones(len(again), dtype))
            np.add.at(dense, (row[-len(again) :], column[-len(again) :]), 1)
        order = random.permutation(len(row)) if random.random() < 0.4 else np.arange(len(row))
        order = order[np.argsort(row[order], kind="stable")]
        row, column, data = row[order], column[order], data[order]
        index = np.dtype(random.choice([np.int32, np.int64]))
        indptr = np.zeros(rows + 1, index)
        np.cumsum(np.bincount(row, minlength=rows), out=indptr[1:])
        kind = sparse.csr_matrix if random.random() < 0.6 else sparse.csr_array
        matrix = kind((rows, columns), dtype=np.float32)
        matrix.data, matrix.indices, matrix.indptr = data, column.astype(index), indptr
        if random.random() < 0.1:  # longer arrays than needed
            matrix.data = np.append(matrix.data, np.ones(2, dtype))
            matrix.indices = np.append(matrix.indices, np.array([2**31 - 1, -1], index))
        if random.random() < 0.2:
            for part in (matrix.data, matrix.indices, matrix.indptr):
                part.flags.writeable = False
        if random.random() < 0.1:  # arrays that are no block of memory
            matrix.data = np.repeat(matrix.data, 2)[::2]
            matrix.indices = np.repeat(matrix.indices, 2)[::2]
        if formats == "any" and random.random() < 0.15 and dtype != np.float16 and len(matrix.data) == indptr[-1]:
            kind = random.choice(["csc", "coo", "lil", "dok", "bsr"])
            matrix = matrix.copy().tobsr((1, 1)) if kind == "bsr" else matrix.copy().asformat(kind)
            self.converts = True
        if wrong and self.wrong():
            matrix = self._spoil(name, matrix, random, finite, formats)
        return matrix, dense, stored

    def _spoil(self, name, matrix, random, finite, formats):
        """A matrix that must be refused."""
        choice = self.byte(4)
        csr = sparse.issparse(matrix) and matrix.format == "csr"
        corrupt = {
            "indptr falls": lambda m: _set(m, "indptr", _with(m.indptr, -2, m.indptr[-1] + 1)),
            "indptr starts late": lambda m: _set(m, "indptr", _with(m.indptr, 0, 1)),
            "indptr negative": lambda m: _set(m, "indptr", _with(m.indptr, 0, -1)),
            "indptr ends late": lambda m: _set(m, "indptr", _with(m.indptr, -1, len(m.data) + 7)),
            "indptr ends far": lambda m: _set(m, "indptr", _with(m.indptr.astype(np.int64), -1, 2**62)),
            "indptr short": lambda m: _set(m, "indptr", m.indptr[:-1]),
            "indptr long": lambda m: _set(m, "indptr", np.append(m.indptr, m.indptr[-1:])),
            "indptr of floats": lambda m: _set(m, "indptr", m.indptr.astype(np.float64)),
            "indptr with two dimensions": lambda m: _set(m, "indptr", m.indptr[None]),
        }
        stored = {
            "column negative": lambda m: _set(m, "indices", _with(m.indices, 0, -1)),
            "column too large": lambda m: _set(m, "indices", _with(m.indices, 0, m.shape[1])),
            "column far too large": lambda m: _set(m, "indices", _with(m.indices.astype(np.int64), 0, 2**32)),
            "columns too few": lambda m: _set(m, "indices", m.indices[: m.indptr[-1] - 1]),
            "values too few": lambda m: _set(m, "data", m.data[: m.indptr[-1] - 1]),
            "columns of floats": lambda m: _set(m, "indices", m.indices + 0.5),
            "columns with two dimensions": lambda m: _set(m, "indices", m.indices[:, None]),
            "values with two dimensions": lambda m: _set(m, "data", m.data[:, None]),
        }
        bad_values = {
            "complex": (lambda m: _set(m, "data", m.data.astype(complex)), TypeError),
            "objects": (lambda m: _set(m, "data", m.data.astype(object)), TypeError),
            "text": (lambda m: _set(m, "data", m.data.astype(str)), TypeError),
            "times": (lambda m: _set(m, "data", m.data.astype("M8[s]")), TypeError),
        }
        others = {
            "dense": lambda m: np.zeros(m.shape),
            "list": lambda m: [[0] * m.shape[1]] * m.shape[0],
            "nothing": lambda m: None,
            "text": lambda m: "user_items",
            "np.matrix": lambda m: np.asmatrix(np.zeros(m.shape)),
        }
        if choice == 0 or not csr:
            self.refuse(name, TypeError, ValueError)
            return others[self.one(sorted(others))](matrix)
        has = matrix.indptr[-1] > 0
        if choice == 1 and has and finite is not None:
            if self.byte(3) == 0 and formats == "any":
                make, error = bad_values[self.one(sorted(bad_values))]
                self.refuse(name, error)
                return make(matrix)
            self.refuse(name, finite)
            data = matrix.data.astype(np.float64)
            return _set(
                matrix, "data", _with(data, random.integers(matrix.indptr[-1]), self.one([np.nan, np.inf, -np.inf]))
            )
        self.refuse(name, ValueError)
        if matrix.shape[0] == 0:
            return corrupt["indptr long"](matrix)
        if choice == 2 and has:
            return stored[self.one(sorted(stored))](matrix)
        spoilt = corrupt[self.one(sorted(corrupt))](matrix)
        if (
            spoilt.indptr.shape == matrix.indptr.shape
            and (spoilt.indptr == matrix.indptr).all()
            and spoilt.indptr.dtype.kind == "i"
        ):
            spoilt = corrupt["indptr ends far"](matrix)
        return spoilt

    # ids

    def ids(self, name, size, *, scalar=True, many=True, sets=False, empty=True, wrong=True, mask=True, known=True):
        """Ids below ``size`` in any form, and the same as a list; a scalar gives an int.

        Those not below ``size`` are wrong unless ``known`` is False.
        """
        if (wrong and self.wrong()) or (size == 0 and not (many and empty)):
            if size == 0 or self.byte(2):
                value = self.one([-1, 2**31, 2**32, -(2**63), HUGE, np.uint64(2**63)] + [size] * known)
                value = [value] if not scalar or self.byte(2) else value
                self.refuse(name, IndexError)
            else:
                value = self.one([
                    1.5, "a", np.nan, [0.5], [[0]], ["a"], [None], [[0], [0, 0]], {"a": 1}, iter([0]),
                    np.zeros((1, 1), int), [0, -1], np.array([0, 2**31]), [0, 2**63], np.array([1 + 0j]), object(),
                    b"1", [True, 2.5], np.zeros(size + 1, bool), {1, "a"}, [float("nan")], np.array(["2020"], "M8[Y]"),
                ])  # fmt: skip
                self.refuse(name, IndexError, TypeError)
            return value, None
        random = self.random()
        if scalar and size and (not many or self.byte(3) == 0):
            one = int(random.integers(size))
            kinds = [int, np.int64, np.int32, lambda i: np.array(i)] + ([np.uint8] if size < 256 else [])
            return kinds[random.integers(len(kinds))](one), one
        n = int(random.integers(0 if empty else 1, 9)) if size else 0
        chosen = random.integers(0, max(size, 1), n)
        kinds = [
            list,
            tuple,
            lambda a: a,
            lambda a: a.astype(np.int32),
            lambda a: a.astype(np.uint16),
            lambda a: a.astype(np.uint8 if size < 256 else np.uint64),
            lambda a: np.repeat(a, 2)[::2],
        ]
        if mask:
            kinds.append("mask")
        if sets:
            kinds += [lambda a: set(a.tolist()), lambda a: frozenset(a.tolist())]
        kind = kinds[random.integers(len(kinds))]
        if kind == "mask":
            mask = np.isin(np.arange(size), chosen)
            if empty or mask.any():
                return mask, np.flatnonzero(mask).tolist()
            return chosen, chosen.tolist()
        value = kind(chosen)
        return value, list(value) if not isinstance(value, (set, frozenset)) else sorted(value)

    # factors

    def factors(self, rows, width, *, whole=True):
        """Factors in any layout; whole numbers, whose inner products are exact, or any."""
        random = self.random()
        values = random.integers(-3, 4, (rows, width)).astype(np.float64)
        if not whole:
            values = random.normal(size=(rows, width))
        if rows and random.random() < 0.2:
            values[random.integers(rows)] = 0
        dtype = [np.float32, np.float64][random.integers(2)]
        array = values.astype(dtype)
        layout = random.integers(5)
        if layout == 1:
            array = np.asfortranarray(array)
        elif layout == 2:
            array = np.repeat(array, 2, axis=0)[::2]
        elif layout == 3:
            array = np.repeat(array, 3, axis=1)[:, ::3]
        if random.random() < 0.3:
            array.flags.writeable = False
        return array


def _set(matrix, name, value):
    changed = copy.copy(matrix)
    for part in ("data", "indices", "indptr"):
        setattr(changed, part, getattr(matrix, part))
    setattr(changed, name, value)
    return changed


def _with(array, position, value):
    changed = array.copy()
    changed[position] = value
    return changed


def _snapshot(value):
    """What a call must leave as it is."""
    if sparse.issparse(value):
        parts = ("data", "indices", "indptr", "row", "col", "rows", "offsets")
        return [(name, _snapshot(getattr(value, name))) for name in parts if hasattr(value, name)] + [value.shape]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes() if value.dtype != object else repr(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_snapshot(part) for part in value]
    if isinstance(value, dict):
        return [(key, _snapshot(part)) for key, part in value.items()]
    if isinstance(value, (int, float, str, set, frozenset)):
        return repr(value)
    return None


def _described(value):
    if sparse.issparse(value) and value.format == "csr":
        parts = ", ".join(f"{name}={_brief(getattr(value, name))}" for name in ("data", "indices", "indptr"))
        return f"{type(value).__name__}(shape={value.shape}, {parts})"
    return _brief(value)


def _brief(value):
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "…"
