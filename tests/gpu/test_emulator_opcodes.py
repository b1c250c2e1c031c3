"""Each instruction that the emulator knows computes what the PTX ISA reference says, and it knows no other."""

import itertools
import math
from fractions import Fraction

import emulator
import numpy as np
import pytest
from emulator import ptx

pytestmark = pytest.mark.skipif(bool(emulator.missing(nvrtc_too=False)), reason=emulator.missing(nvrtc_too=False))

NUMPY = {"u16": "u2", "s16": "i2", "b16": "u2", "u32": "u4", "s32": "i4", "b32": "u4", "u64": "u8", "s64": "i8"}
NUMPY |= {"b64": "u8", "f32": "f4", "f64": "f8", "f16": "f2", "pred": "u4"}
SPECIAL_FLOATS = [0.0, -0.0, 1.5, -2.25, 3.1415927, 1e-40, -1e-39, 1e30, math.inf, -math.inf, math.nan]
WIDE = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}


def bits(type_):
    return 8 * ptx.BYTES[type_]


def values_of(type_):
    if type_ == "pred":
        return [0, 1]
    if type_ in ptx.FLOATS:
        return [float(np.dtype(NUMPY[type_]).type(value)) for value in SPECIAL_FLOATS]
    n = bits(type_)
    unsigned = [0, 1, 2, 3, 5, 31, 40, 2**n - 1, 2 ** (n - 1), 2 ** (n - 1) - 1, 0x9E3779B97F4A7C15 % 2**n]
    return [value - 2**n if type_[0] == "s" and value >= 2 ** (n - 1) else value for value in unsigned]


def rounded(exact, type_, down=False):
    """A fraction as a float of the type: the nearest, of two the even one; or the next one down."""
    dtype = np.dtype(NUMPY[type_])
    near = dtype.type(exact.numerator / exact.denominator)
    candidates = [np.nextafter(near, dtype.type(-math.inf)), near, np.nextafter(near, dtype.type(math.inf))]
    if down:
        return max(c for c in candidates if Fraction(float(c)) <= exact)
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(f"u{dtype.itemsize}")) % 2))


def fma(type_, a, b, c, down=False):
    if all(map(math.isfinite, (a, b, c))):
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if exact and abs(exact) < Fraction(3e38):
            return rounded(exact, type_, down)
        if down:  # the sign of zero, and what overflows, are those of the direction
            return None
    with np.errstate(all="ignore"):
        return np.float64(a) * np.float64(b) + np.float64(c)


def quotient(a, b):
    return (abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)) if b else None  # by zero: not defined


def extreme(choose, a, b):
    """The least or greatest number; −0 is less than 0."""
    if a != a or b != b:
        return a if b != b else b
    return choose(a, b, key=lambda x: (x, math.copysign(1, x)))


def bit_field_insert(type_, a, b, position, length):
    position, length, n = position & 255, length & 255, bits(type_)
    mask = ((1 << min(length, n)) - 1) << position & (2**n - 1) if position < n else 0
    return (b & ~mask) | (a << position & mask)


def flushed(x):
    return math.copysign(0, x) if abs(x) < 2.0**-126 else x


def divided(type_, a, b):
    real = np.dtype(NUMPY[type_]).type
    with np.errstate(all="ignore"):
        return real(a) / real(b)


EXPECTED = {  # by the type of the instruction and the sources, before wrapping around
    "add": lambda t, a, b: a + b,
    "sub": lambda t, a, b: a - b,
    "mul": lambda t, a, b: np.float64(a) * np.float64(b),
    "mul.lo": lambda t, a, b: a * b,
    "mul.hi": lambda t, a, b: a * b >> bits(t),
    "mul.wide": lambda t, a, b: a * b,
    "mad.lo": lambda t, a, b, c: a * b + c,
    "fma.rn": fma,
    "fma.rm": lambda t, a, b, c: fma(t, a, b, c, down=True),
    "div": lambda t, a, b: quotient(a, b),
    "div.rn": divided,
    "rcp.rn": lambda t, a: divided(t, 1, a),
    "ex2.approx.ftz": lambda t, a: flushed(float(np.exp2(np.float32(flushed(a))))),
    "min": lambda t, a, b: extreme(min, a, b),
    "max": lambda t, a, b: extreme(max, a, b),
    "neg": lambda t, a: -a,
    "abs": lambda t, a: abs(a),
    "and": lambda t, a, b: a & b,
    "or": lambda t, a, b: a | b,
    "xor": lambda t, a, b: a ^ b,
    "not": lambda t, a: 1 - a if t == "pred" else ~a,
    "shl": lambda t, a, by: a << by if by < bits(t) else 0,
    "shr": lambda t, a, by: a >> by,
    "bfi": bit_field_insert,
    "selp": lambda t, a, b, first: a if first else b,
    "prmt": lambda t, a, b, choice: permuted([*a.to_bytes(4, "little"), *b.to_bytes(4, "little")], choice),
    "cvt.sat.f32": lambda t, a: min(a, 1.0) if a > 0 else 0.0,
}


def permuted(given, choice):
    digits = [choice >> 4 * i & 15 for i in range(4)]
    signs = [255 if byte > 127 else 0 for byte in given]
    return int.from_bytes([signs[d - 8] if d > 7 else given[d] for d in digits], "little")


CONVERSIONS = [("", to, source) for to in ptx.INTEGERS for source in ptx.INTEGERS]
CONVERSIONS += [("", "f64", "f32"), ("", "f32", "f16"), ("rn", "f16", "f32"), ("rn", "f32", "s64")]
CONVERSIONS += [("rni", "s64", "f32")]
COMPARED = [(name, t) for name in ptx.COMPARISONS for t in ptx.INTEGERS + ptx.FLOATS]
COMPARED += [(name + "u", t) for name in ptx.COMPARISONS for t in ptx.FLOATS]
FLUSHING = {  # instructions with .ftz, of those without
    f"{name.partition('.')[0]}.ftz.sat.f32.f32" if name == "cvt.sat.f32" else f"{name}.ftz.f32": name
    for name, operation in ptx.OPERATIONS.items()
    if "f32" in operation.types and name not in ("selp", "ex2.approx.ftz")
}


def register(type_, n):
    prefix = {"f32": "f", "f64": "fd", "pred": "p"}.get(type_) or {16: "rs", 32: "r", 64: "rd"}[bits(type_)]
    return f"%{prefix}{n}"


class Case:
    """An instruction with sources and a result of given types, applied to all combinations of interesting values."""

    def __init__(self, mnemonic, sources, result):
        self.mnemonic, self.sources, self.result = mnemonic, sources, result
        self.name = "case_" + mnemonic.replace(".", "_")
        wanted = itertools.product(*map(values_of, ("f32" if source == "f16" else source for source in sources)))
        self.inputs = list(wanted)[::3] if len(sources) > 3 else list(wanted)

    def kernel(self):
        count = len(self.sources) + 1
        code = [f".param .u64 {self.name}_param_{i}" for i in range(count)]
        code = [f".visible .entry {self.name}(", ",\n".join(code), ")\n{"]
        code += [
            f".reg .{t} %{p}<9>;" for t, p in (("pred", "p"), ("b16", "rs"), ("b32", "r"), ("f32", "f"), ("f64", "fd"))
        ]
        code += [".reg .b64 %rd<40>;", "mov.u32 %r8, %tid.x;", "mov.u32 %r7, %ntid.x;", "mov.u32 %r6, %ctaid.x;"]
        code += ["mad.lo.s32 %r8, %r6, %r7, %r8;"]
        for i, type_ in enumerate((*self.sources, self.result)):
            size = 4 if type_ == "pred" else ptx.BYTES[type_]
            code += [f"ld.param.u64 %rd{10 + i}, [{self.name}_param_{i}];", f"mul.wide.u32 %rd{20 + i}, %r8, {size};"]
            code += [f"add.s64 %rd{30 + i}, %rd{10 + i}, %rd{20 + i};"]
            if i == len(self.sources):
                break
            if type_ == "pred":
                code += [f"ld.global.u32 %r{i}, [%rd{30 + i}];", f"setp.ne.s32 %p{i}, %r{i}, 0;"]
            else:
                code += [f"ld.global.{'b16' if type_ == 'f16' else type_} {register(type_, i)}, [%rd{30 + i}];"]
        arguments = ", ".join(register(type_, i) for i, type_ in enumerate((*self.sources, self.result)))
        *sources, result = arguments.split(", ")
        code += [f"{self.mnemonic} {', '.join((result, *sources))};"]
        if self.result == "pred":
            code += [f"selp.b32 %r5, 1, 0, {result};", f"st.global.b32 [%rd{30 + i}], %r5;"]
        else:
            code += [f"st.global.{'b16' if self.result == 'f16' else self.result} [%rd{30 + i}], {result};"]
        return "\n".join([*code, "ret;", "}"])

    def run(self, module):
        columns = zip(*self.inputs, strict=True)
        with np.errstate(all="ignore"):
            arrays = [wrapped(column, t) for column, t in zip(columns, self.sources, strict=True)]
        out = np.zeros(len(self.inputs), NUMPY[self.result])
        block = 64
        padded = [np.concatenate([a, np.zeros(-len(a) % block, a.dtype)]) for a in (*arrays, out)]
        module.get_function(self.name)((len(padded[-1]) // block,), (block,), padded)
        return arrays, padded[-1][: len(out)]


def wrapped(values, type_):
    """Numbers as values of a type, integers wrapped around."""
    dtype = np.dtype(NUMPY[type_])
    if dtype.kind == "f":
        return np.array(values, dtype=np.float64).astype(dtype)
    n = 8 * dtype.itemsize
    return np.array([int(value) % 2**n for value in values], dtype=f"u{dtype.itemsize}").view(dtype)


def cases():
    for name, operation in ptx.OPERATIONS.items():
        for type_ in operation.types:
            sources = [{"t": type_, "u": "u32", "p": "pred"}[code] for code in operation.sources]
            yield Case(f"{name}.{type_}", sources, WIDE[type_] if name == "mul.wide" else type_)
    for modifier, to, source in CONVERSIONS:
        yield Case(".".join(filter(None, ("cvt", modifier, to, source))), [source], to)
    for comparison, type_ in COMPARED:
        yield Case(f"setp.{comparison}.{type_}", [type_, type_], "pred")
    for mnemonic, name in FLUSHING.items():
        yield Case(mnemonic, ["f32" for _ in ptx.OPERATIONS[name].sources], "f32")
    yield Case("setp.ge.ftz.f32", ["f32", "f32"], "pred")
    yield Case("setp.ltu.ftz.f32", ["f32", "f32"], "pred")
    yield Case("cvt.ftz.f64.f32", ["f32"], "f64")


CASES = {case.mnemonic: case for case in cases()}


@pytest.fixture(scope="module")
def module():
    header = ".version 8.0\n.target sm_80\n.address_size 64\n"
    return emulator.Module(header + "\n".join(case.kernel() for case in CASES.values()))


def same(found, expected):
    if found.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(expected[~np.isnan(found)]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mnemonic", [f"{name}.{t}" for name, o in ptx.OPERATIONS.items() for t in o.types])
def test_an_operation_computes_what_it_is_defined_to(module, mnemonic):
    case = CASES[mnemonic]
    name, _, type_ = mnemonic.rpartition(".")
    sources, found = case.run(module)
    with np.errstate(all="ignore"):
        expected = [EXPECTED[name](type_, *values) for values in zip(*(a.tolist() for a in sources), strict=True)]
        defined = np.array([value is not None for value in expected])
        same(found[defined], wrapped([value for value in expected if value is not None], case.result))


@pytest.mark.parametrize("mnemonic", FLUSHING)
def test_an_operation_that_flushes_takes_and_gives_no_subnormal_numbers(module, mnemonic):
    case, name = CASES[mnemonic], FLUSHING[mnemonic]
    sources, found = case.run(module)
    with np.errstate(all="ignore"):
        given = zip(*([flushed(value) for value in a.tolist()] for a in sources), strict=True)
        results = [EXPECTED[name]("f32", *values) for values in given]
        expected = [flushed(float(np.float32(value))) for value in results if value is not None]
    same(found[np.array([value is not None for value in results])], wrapped(expected, "f32"))


def test_comparisons_and_conversions_that_flush_take_no_subnormal_numbers(module):
    for comparison, holds in (("ge", np.greater_equal), ("ltu", lambda a, b: ~(a >= b))):
        (a, b), found = CASES[f"setp.{comparison}.ftz.f32"].run(module)
        a, b = (np.array([flushed(value) for value in side.tolist()]) for side in (a, b))
        np.testing.assert_array_equal(found, holds(a, b))
    (a,), found = CASES["cvt.ftz.f64.f32"].run(module)
    same(found, np.array([flushed(value) for value in a.tolist()]))


@pytest.mark.parametrize(("modifier", "to", "source"), CONVERSIONS)
def test_a_conversion_keeps_the_value_or_its_low_bits(module, modifier, to, source):
    case = CASES[".".join(filter(None, ("cvt", modifier, to, source)))]
    (values,), found = case.run(module)
    with np.errstate(all="ignore"):
        same(found, nearest_s64(values) if modifier == "rni" else values.astype(NUMPY[to]))


def nearest_s64(values):
    """The nearest integers, ties to even; beyond those of 64 bits the last one, for NaN the least."""
    limits = np.iinfo(np.int64)
    return np.array(
        [limits.min if v != v else int(min(max(np.rint(v), limits.min), limits.max)) for v in values.astype(object)]
    )


@pytest.mark.parametrize(("comparison", "type_"), COMPARED)
def test_a_comparison_holds_for_numbers_and_with_u_for_what_is_none(module, comparison, type_):
    (a, b), found = CASES[f"setp.{comparison}.{type_}"].run(module)
    unordered = comparison not in ptx.COMPARISONS
    name = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
    expected = getattr(np, name[comparison[:2]])(a, b)
    if type_ in ptx.FLOATS:
        expected = np.where(np.isnan(a) | np.isnan(b), unordered, expected)
    np.testing.assert_array_equal(found, expected)


def body(code, arrays, block=(1, 1, 1), grid=(1, 1, 1), shared=""):
    """Run statements with %rd0, %rd1, ... the addresses of arrays, %r0 = %tid.x and %rd9 = 4 %tid.x."""
    parameters = ",\n".join(f".param .u64 k_param_{i}" for i in range(len(arrays)))
    registers = ".reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<20>; .reg .b64 %rd<20>; .reg .f32 %f<9>;"
    loads = "\n".join(f"ld.param.u64 %rd{i}, [k_param_{i}];" for i in range(len(arrays)))
    text = f""".version 8.0
.visible .entry k(
{parameters}
)
{{
{shared}
{registers}
{loads}
mov.u32 %r0, %tid.x;
mul.wide.u32 %rd9, %r0, 4;
{code}
ret;
}}"""
    emulator.Module(text).get_function("k")(grid, block, arrays)


def test_vectors_and_halves_of_registers():
    source, out = np.arange(8, dtype=np.uint32), np.zeros(8, np.uint32)
    body(
        """ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd0+16];
        mov.b64 %rd5, {%r1, %r2};
        mov.b64 {%r6, %r7}, %rd5;
        st.global.v2.u32 [%rd1+8], {%r7, %r6};
        st.global.v4.u32 [%rd1+16], {%r4, %r3, %r2, %r1};""",
        [source, out],
    )
    assert out.tolist() == [0, 0, 5, 4, 7, 6, 5, 4]


def test_a_block_has_a_register_of_its_own():
    source, out = np.array([0x123456789ABCDEF0, 7], np.uint64), np.zeros(2, np.uint32)
    body(
        """ld.global.u64 %rd5, [%rd0];
        { .reg .b32 tmp; mov.b64 {tmp, %r1}, %rd5; }
        { .reg .b32 tmp; mov.b64 {%r2, tmp}, %rd5; }
        st.global.v2.u32 [%rd1], {%r1, %r2};""",
        [source, out],
    )
    assert out.tolist() == [0x12345678, 0x9ABCDEF0]


def test_special_registers_and_branches():
    out = np.zeros(2 * 4 * 6, np.uint32)
    body(
        """mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.y;
        mov.u32 %r4, %ntid.y; mov.u32 %r5, %nctaid.x;
        mad.lo.s32 %r6, %r3, %r2, %r0;
        mul.lo.s32 %r7, %r2, %r4;
        mad.lo.s32 %r8, %r1, %r7, %r6;
        mul.wide.u32 %rd3, %r8, 4;
        add.s64 %rd4, %rd0, %rd3;
        setp.eq.s32 %p1, %r0, 2;
        @%p1 bra $SKIP;
        mad.lo.s32 %r9, %r5, 1000, %r8;
        bra.uni $STORE;
        $SKIP:
        mov.u32 %r9, 7;
        $STORE:
        st.global.u32 [%rd4], %r9;""",
        [out],
        block=(4, 6, 1),
        grid=(2, 1, 1),
    )
    expected = 2000 + np.arange(48, dtype=np.uint32)
    expected[2::4] = 7
    assert out.tolist() == expected.tolist()


def test_atomic_additions_return_what_was_there():
    total, order = np.array([100], np.uint32), np.zeros(32, np.uint32)
    body(
        "atom.global.add.u32 %r1, [%rd0], 2; add.s64 %rd2, %rd1, %rd9; st.global.u32 [%rd2], %r1;",
        [total, order],
        (32,),
    )
    assert total.tolist() == [164]
    assert sorted(order.tolist()) == list(range(100, 164, 2))


@pytest.mark.parametrize("type_", ["b32", "b64"])
def test_an_atomic_exchange_gives_each_value_to_one(type_):
    size = np.uint32 if type_ == "b32" else np.uint64
    place, seen, register = np.array([100], size), np.zeros(32, size), "%r1" if type_ == "b32" else "%rd5"
    body(
        f"cvt.u64.u32 %rd6, %r0; mul.wide.u32 %rd3, %r0, {size().itemsize}; "
        f"atom.global.exch.{type_} {register}, [%rd0], {'%r0' if type_ == 'b32' else '%rd6'}; "
        f"add.s64 %rd2, %rd1, %rd3; st.global.{type_} [%rd2], {register};",
        [place, seen],
        (32,),
    )
    assert sorted([*seen.tolist(), *place.tolist()]) == [*range(32), 100]


def test_a_shuffle_exchanges_lanes_within_segments():
    out, inside = np.zeros(32, np.uint32), np.zeros(32, np.uint32)
    body(
        """shfl.sync.bfly.b32 %r1|%p1, %r0, 9, 6151, -1;
        selp.b32 %r2, 1, 0, %p1;
        add.s64 %rd2, %rd0, %rd9;
        add.s64 %rd3, %rd1, %rd9;
        st.global.u32 [%rd2], %r1;
        st.global.u32 [%rd3], %r2;""",
        [out, inside],
        (32,),
    )  # 6151 = 24 << 8 | 7: segments of 8 lanes, of which none reads above its own
    allowed = [(lane ^ 9) <= (lane | 7) for lane in range(32)]
    assert out.tolist() == [lane ^ 9 if inside else lane for lane, inside in enumerate(allowed)]
    assert inside.tolist() == allowed
    assert any(allowed)
    assert not all(allowed)


@pytest.mark.parametrize(
    "exchange",
    [
        """mov.u64 %rd1, buffer; add.s64 %rd2, %rd1, %rd9; st.shared.u32 [%rd2], %r0; bar.sync 0;
        sub.s32 %r1, 63, %r0; mul.wide.u32 %rd3, %r1, 4; add.s64 %rd4, %rd1, %rd3; ld.shared.u32 %r2, [%rd4];""",
        """mov.u32 %r3, buffer; shl.b32 %r4, %r0, 2; add.s32 %r5, %r3, %r4; st.shared.u32 [%r5], %r0; bar.sync 0;
        sub.s32 %r6, %r3, %r4; ld.shared.u32 %r2, [%r6+252];""",
    ],
    ids=["64 bits of address", "32 bits"],
)
def test_shared_memory_holds_what_other_threads_wrote_before_a_barrier(exchange):
    out = np.zeros(64, np.uint32)
    body(
        exchange + "add.s64 %rd5, %rd0, %rd9; st.global.u32 [%rd5], %r2;",
        [out],
        (64,),
        shared=".shared .align 4 .b8 buffer[256];",
    )
    assert out.tolist() == list(range(63, -1, -1))


@pytest.mark.parametrize(
    "instruction",
    [
        "rem.s32 %r1, %r0, 3;",
        "add.f16 %rs1, %rs0, %rs2;",
        "add.rz.f32 %f1, %f0, %f2;",
        "add.ftz.f64 %fd1, %fd0, %fd2;",
        "fma.rp.f32 %f1, %f0, %f2, %f3;",
        "shl.s32 %r1, %r0, 3;",
        "cvt.rzi.s32.f32 %r1, %f0;",
        "cvt.rn.f32.s32 %f1, %r0;",
        "setp.lo.u32 %p1, %r0, 3;",
        "setp.lt.and.s32 %p1, %r0, 3, %p2;",
        "ld.local.u32 %r1, [%rd0];",
        "ld.global.nc.u32 %r1, [%rd0];",
        "ld.u32 %r1, [%rd0];",
        "ld.acquire.gpu.global.u32 %r1, [%rd0];",
        "st.volatile.global.u32 [%rd0], %r1;",
        "atom.global.cas.b32 %r1, [%rd0], %r0, 3;",
        "atom.global.add.f64 %rd1, [%rd0], %rd2;",
        "bar.sync 1;",
        "bar.sync 0, 32;",
        "shfl.sync.idx.b32 %r1|%p1, %r0, 0, 31, -1;",
        "vote.sync.ballot.b32 %r1, %p1, -1;",
        "mov.u32 %r1, %laneid;",
        "mov.u32 %r1, %clock;",
        "call.uni f;",
        "trap;",
    ],
)
def test_an_unknown_instruction_raises(instruction):
    with pytest.raises(ptx.Unsupported, match=r"line \d+ of the PTX"):
        body(instruction, [np.zeros(4, np.uint32)])


def test_a_device_function_raises():
    with pytest.raises(ptx.Unsupported):
        emulator.Module(".version 8.0\n.visible .func f(\n)\n{\nret;\n}")
