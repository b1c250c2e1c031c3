"""PTX, the assembly language of NVIDIA's GPUs, translated into C++ that runs on ``runtime.cpp``.

A kernel becomes a function, a register a variable of as many bits, a label a label, a branch a ``goto``. The tables
below hold the instructions that NVRTC makes of this project's kernels and nothing else; whatever they do not hold
raises :class:`Unsupported`, so that no kernel runs by a guess. Meanings are those of the PTX ISA reference;
``operations.hpp`` has what instructions compute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

C_TYPES = {
    "b8": "u8", "u8": "u8", "b16": "u16", "u16": "u16", "s16": "s16", "b32": "u32", "u32": "u32", "s32": "s32",
    "b64": "u64", "u64": "u64", "s64": "s64", "f32": "float", "f64": "double", "f16": "u16", "pred": "bool",
}  # fmt: skip
BYTES = {name: int(name[1:]) // 8 for name in C_TYPES if name != "pred"}
SIGNED, UNSIGNED, BITS, FLOATS = ("s16", "s32", "s64"), ("u16", "u32", "u64"), ("b16", "b32", "b64"), ("f32", "f64")
INTEGERS = SIGNED + UNSIGNED


class Operation(NamedTuple):
    """Types that an instruction takes, and those of its sources: t its own, u = u32, p = predicate."""

    types: tuple[str, ...]
    sources: str


OPERATIONS = {
    "add": Operation(INTEGERS + FLOATS, "tt"),
    "sub": Operation(INTEGERS + FLOATS, "tt"),
    "mul": Operation(FLOATS, "tt"),
    "mul.lo": Operation(INTEGERS, "tt"),
    "mul.hi": Operation(INTEGERS, "tt"),
    "mul.wide": Operation(("s16", "u16", "s32", "u32"), "tt"),
    "mad.lo": Operation(INTEGERS, "ttt"),
    "fma.rn": Operation(FLOATS, "ttt"),
    "fma.rm": Operation(("f32",), "ttt"),
    "div": Operation(INTEGERS, "tt"),
    "div.rn": Operation(FLOATS, "tt"),
    "rcp.rn": Operation(FLOATS, "t"),
    "ex2.approx.ftz": Operation(("f32",), "t"),
    "min": Operation(INTEGERS + FLOATS, "tt"),
    "max": Operation(INTEGERS + FLOATS, "tt"),
    "neg": Operation(SIGNED + FLOATS, "t"),
    "abs": Operation(("f32",), "t"),
    "and": Operation((*BITS, "pred"), "tt"),
    "or": Operation((*BITS, "pred"), "tt"),
    "xor": Operation((*BITS, "pred"), "tt"),
    "not": Operation((*BITS, "pred"), "t"),
    "shl": Operation(BITS, "tu"),
    "shr": Operation(INTEGERS + BITS, "tu"),
    "bfi": Operation(("b32", "b64"), "ttuu"),
    "prmt": Operation(("b32",), "ttu"),
    "selp": Operation(INTEGERS + BITS + FLOATS, "ttp"),
    "cvt.sat.f32": Operation(("f32",), "t"),
}
# setp: for floats, those with u hold also where an operand is not a number
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
SPECIAL = {
    f"%{name}.{axis}": f"{value}.{axis}"
    for name, value in (("tid", "thread_id()"), ("ntid", "block"), ("ctaid", "block_id"), ("nctaid", "grid"))
    for axis in "xyz"
}


class Unsupported(Exception):
    """PTX that the emulator does not know."""


class Parameter(NamedTuple):
    """A parameter of a kernel: where its bytes lie among those of all."""

    offset: int
    size: int


RED_ZONE = 64  #: bytes between variables in shared memory that nothing may touch


class Module:
    """The kernels of a PTX module."""

    def __init__(self, text: str):
        self.parameters: dict[str, dict[str, Parameter]] = {}  #: of each kernel, by name
        self.shared: list[tuple[int, int]] = []  #: (offset, bytes) of variables in shared memory
        self.dynamic_shared = 0  #: offset of the dynamic part of shared memory
        self.places: dict[int, str] = {}  #: source lines of instructions, by their line in the PTX
        self._addresses: dict[str, int] = {}  # of variables in shared memory
        self._bodies = {}
        dynamic = None
        files: dict[str, str] = {}
        lines = enumerate(re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).split("\n"), 1)
        for _, raw in lines:
            line = raw.partition("//")[0].strip()
            if not line or re.match(r"\.(version|target|address_size|global)\b", line):
                continue  # constants of the source stand in instructions by their values: .global is not needed
            if line.startswith(".section"):
                while not line.endswith("}"):
                    line = next(lines)[1].strip()
            elif match := re.match(r'\.file\s+(\d+)\s+"(.*?)"', line):
                files[match[1]] = match[2].rpartition("/")[2]
            elif match := re.match(r"\.extern \.shared \.align \d+ \.b8 (\w+)\[\];", line):
                dynamic = match[1]
            elif match := re.match(r"\.visible \.entry (\w+)\(", line):
                self._entry(match[1], line[match.end() :], lines)
            else:
                self._shared_variable(line)
        self.dynamic_shared = _round_up(self.dynamic_shared, 16)
        if dynamic is not None:
            self._addresses[dynamic] = self.dynamic_shared
        self._files = files

    def _entry(self, name: str, header: str, lines: Iterator[tuple[int, str]]) -> None:
        while "{" not in header:
            header += next(lines)[1].partition("//")[0]
        offset = 0
        self.parameters[name] = {}
        for type_, parameter in re.findall(r"\.param \.(\w+)(?: \.ptr[\w. ]*)? (\w+)", header):
            offset = _round_up(offset, BYTES[type_])
            self.parameters[name][parameter] = Parameter(offset, BYTES[type_])
            offset += BYTES[type_]
        body, depth = [], 1
        while True:
            number, raw = next(lines)
            line = raw.partition("//")[0].strip()
            depth += 1 if line == "{" else -1 if line == "}" else 0
            if depth == 0:
                break
            if re.search(r"\.shared\s", line) and line.startswith("."):
                self._shared_variable(line)
            else:
                body.append((number, line))
        self._bodies[name] = body

    def _shared_variable(self, line: str) -> None:
        match = re.match(r"\.shared \.align (\d+) \.(\w+) (\w+)(?:\[(\d+)\])?;", line)
        if match is None:
            raise Unsupported(line)
        offset = _round_up(self.dynamic_shared, int(match[1]))
        size = BYTES[match[2]] * int(match[4] or 1)
        self._addresses[match[3]] = offset
        self.shared.append((offset, size))
        self.dynamic_shared = offset + size + RED_ZONE

    def cpp(self) -> str:
        """The module in C++: for each kernel a function ``kernel_NAME`` that runs one thread."""
        return '#include "operations.hpp"\n' + "\n".join(self._kernel(name) for name in self._bodies)

    def _kernel(self, name: str) -> str:
        code = [f'extern "C" void kernel_{name}(const u8 *parameters) {{']
        inlined: dict[tuple[str, ...], tuple[str, ...] | None] = {}
        place = "?"
        for number, line in self._bodies[name]:
            if match := re.match(r"\.loc\s+(\d+)\s+(\d+)\s+(\d+)(?:.*inlined_at (\d+) (\d+) (\d+))?", line):
                at = match.groups()
                inlined[at[:3]] = at[3:] if at[3] else None
                place = self._place(at[:3], inlined)
                continue
            for statement in _statements(line):
                self.places[number] = place
                try:
                    code.append(_Statement(self, self.parameters[name], number).translate(statement))
                except (Unsupported, KeyError, ValueError) as error:
                    raise Unsupported(f"{statement} ({place}, line {number} of the PTX)") from error
        return "\n".join([*code, "}"])

    def _place(self, at: tuple[str, ...], inlined: dict[tuple[str, ...], tuple[str, ...] | None]) -> str:
        """The source line of a position, then those that it was inlined at, outermost last."""
        chain: list[str] = []
        following: tuple[str, ...] | None = at
        while following is not None and len(chain) < 8:
            chain.append(f"{self._files.get(following[0], '?')}:{following[1]}")
            following = inlined.get(following)
        return " < ".join(chain)

    def address(self, name: str) -> int:
        """The offset of a variable in shared memory."""
        return self._addresses[name]


class _Statement:
    """Translates one statement."""

    def __init__(self, module: Module, parameters: dict[str, Parameter], number: int):
        self._module = module
        self._parameters = parameters
        self._where = f"{number}u"
        self._flushes = False  # whether subnormal numbers of float32 count as zero

    def translate(self, text: str) -> str:
        if text in "{}" or re.fullmatch(r"\$\w+:", text):
            return text.replace("$", "") + (";" if text.endswith(":") else "")
        if text.startswith(".pragma"):
            return ""
        if match := re.fullmatch(r"\.reg \.(\w+) (.*)", text):
            return _registers(*match.groups())
        match = re.fullmatch(r"(?:@(!?)(%?\w+) )?([\w.:]+)(?: (.*))?", text)
        if match is None:
            raise Unsupported(text)
        negated, predicate, mnemonic, arguments = match.groups()
        code = self._instruction(mnemonic, _split(arguments or ""))
        return f"if ({negated}{_name(predicate)}) {{ {code} }}" if predicate else f"{{ {code} }}"

    def _instruction(self, mnemonic: str, args: list[str]) -> str:
        name, _, type_ = mnemonic.rpartition(".")
        kind, *modifiers = mnemonic.split(".")
        if "ftz" in modifiers and "f32" in modifiers and name not in OPERATIONS:
            self._flushes = True
            modifiers.remove("ftz")
            mnemonic = ".".join((kind, *modifiers))
            name, _, type_ = mnemonic.rpartition(".")
        if name in OPERATIONS and type_ in OPERATIONS[name].types:
            return self._operation(name, type_, args)
        if kind in ("ld", "st", "atom", "mov", "cvt", "setp"):
            return getattr(self, f"_{kind}")(modifiers, args)
        if mnemonic in ("bra", "bra.uni"):
            return f"goto {args[0].replace('$', '')};"
        if mnemonic == "ret":
            return "return;"
        if mnemonic == "cvta.to.global.u64":
            return f"{_name(args[0])} = {self._value(args[1], 'u64')};"
        if mnemonic == "bar.sync" and args == ["0"]:
            return f"block_barrier({self._where});"
        if mnemonic == "bar.warp.sync":
            mask = self._value(args[0], "u32")
            return f"warp_collective(SYNC_WARP, 0, 0, 0, {mask}, {self._where}, nullptr);"
        if mnemonic == "shfl.sync.bfly.b32":
            target, _, in_range = args[0].partition("|")
            values = ", ".join(self._value(arg, "u32") for arg in args[1:])
            call = f"warp_collective(SHUFFLE_BUTTERFLY, {values}, {self._where}, &in_range)"
            return f"bool in_range; {_name(target)} = {call};" + (f" {_name(in_range)} = in_range;" if in_range else "")
        raise Unsupported(mnemonic)

    def _operation(self, name: str, type_: str, args: list[str]) -> str:
        source_types = [{"t": type_, "u": "u32", "p": "pred"}[code] for code in OPERATIONS[name].sources]
        values = ", ".join(self._value(arg, t) for arg, t in zip(args[1:], source_types, strict=True))
        function = "cvt_sat" if name == "cvt.sat.f32" else name.replace(".", "_")
        result = f"op_{function}({values})"
        return f"put({_name(args[0])}, {f'flushed({result})' if self._flushes else result});"

    def _ld(self, modifiers: list[str], args: list[str]) -> str:
        access = "ATOMIC_READ" if modifiers[:2] == ["relaxed", "gpu"] else "READ"
        space, parts, type_ = _memory_type(modifiers[2:] if access == "ATOMIC_READ" else modifiers)
        if space == "param":
            parameter, _, offset = args[1][1:-1].partition("+")
            source = f"parameters + {self._parameters[parameter].offset + int(offset or 0)}"
        else:
            source = self._memory(space, args[1], parts * BYTES[type_], access)
        targets = _split(args[0].strip("{}"))
        code = [f"{C_TYPES[type_]} v[{parts}]; std::memcpy(v, {source}, sizeof v);"]
        code += [f"put({_name(target)}, v[{i}]);" for i, target in enumerate(targets)]
        return " ".join(code)

    def _st(self, modifiers: list[str], args: list[str]) -> str:
        if "cg" in modifiers:  # which caches keep it
            modifiers.remove("cg")
        space, parts, type_ = _memory_type(modifiers)
        if space == "param":
            raise Unsupported("st.param")
        values = ", ".join(self._value(arg, type_) for arg in _split(args[1].strip("{}")))
        target = self._memory(space, args[0], parts * BYTES[type_], "WRITE")
        return f"const {C_TYPES[type_]} v[{parts}] = {{{values}}}; std::memcpy({target}, v, sizeof v);"

    def _atom(self, modifiers: list[str], args: list[str]) -> str:
        if modifiers[:2] == ["relaxed", "gpu"]:  # as it is where nothing is said
            modifiers = modifiers[2:]
        space, operation, type_ = modifiers
        updates = {"add": ("u32", "u64", "f32"), "exch": ("b32", "b64")}
        if space not in ("global", "shared") or type_ not in updates.get(operation, ()):
            raise Unsupported("atom")
        value = self._value(args[2], type_)
        place = self._memory(space, args[1], BYTES[type_], "ATOMIC_UPDATE")
        return (
            f"u8 *place = {place}; {C_TYPES[type_]} old; std::memcpy(&old, place, sizeof old); "
            f"const {C_TYPES[type_]} updated = {f'op_add(old, {value})' if operation == 'add' else value}; "
            f"std::memcpy(place, &updated, sizeof old); put({_name(args[0])}, old);"
        )

    def _memory(self, space: str, address: str, size: int, access: str) -> str:
        base, _, offset = address[1:-1].partition("+")
        if base.startswith("%"):  # the sum has as many bits as the register
            place = f"decltype({_name(base)})({_name(base)} + ({offset or 0}))"
        else:
            place = f"{self._value(base, 'u64')} + ({offset or 0})"
        return f"{space}_memory({place}, {size}, {access}, {self._where})"

    def _mov(self, modifiers: list[str], args: list[str]) -> str:
        (type_,) = modifiers
        if args[0].startswith("{"):
            low, high = _split(args[0].strip("{}"))
            half = f"u{4 * BYTES[type_]}"
            parts = {low: f"{half}(v)", high: f"{half}(v >> {4 * BYTES[type_]})"}
            code = [f"put({_name(target)}, {part});" for target, part in parts.items() if target != "_"]
            return f"const {C_TYPES[type_]} v = {self._value(args[1], type_)}; {' '.join(code)}"
        if args[1].startswith("{"):
            half = f"u{4 * BYTES[type_]}"
            low, high = (self._value(arg, half) for arg in _split(args[1].strip("{}")))
            whole = C_TYPES[type_]
            return f"put({_name(args[0])}, {whole}({whole}({low}) | {whole}({high}) << {4 * BYTES[type_]}));"
        return f"put({_name(args[0])}, {self._value(args[1], type_)});"

    def _cvt(self, modifiers: list[str], args: list[str]) -> str:
        *rounding, to, source = modifiers
        if (not rounding and to in INTEGERS and source in INTEGERS) or (rounding, to, source) == ([], "f64", "f32"):
            converted = f"{C_TYPES[to]}({self._value(args[1], source)})"
        elif (rounding, to, source) == (["rn"], "f32", "s64"):
            converted = f"float({self._value(args[1], source)})"
        elif (rounding, to, source) == (["rni"], "s64", "f32"):
            converted = f"nearest_s64({self._value(args[1], source)})"
        elif (rounding, to, source) == ([], "f32", "f16"):
            converted = f"from_half({self._value(args[1], 'u16')})"
        elif (rounding, to, source) == (["rn"], "f16", "f32"):
            converted = f"to_half({self._value(args[1], 'f32')})"
        else:
            raise Unsupported("cvt")
        return f"put({_name(args[0])}, {converted});"

    def _setp(self, modifiers: list[str], args: list[str]) -> str:
        comparison, type_ = modifiers
        a, b = (self._value(arg, type_) for arg in args[1:])
        unordered = type_ in FLOATS and comparison.endswith("u")
        holds = f"{a} {COMPARISONS[comparison[:-1] if unordered else comparison]} {b}"
        if type_ in FLOATS:
            holds = f"{holds} || " if unordered else f"({holds}) && !"
            holds += f"__builtin_isunordered({a}, {b})"
        return f"{_name(args[0])} = {holds};"

    def _value(self, operand: str, type_: str) -> str:
        """An operand as a value of a type."""
        if self._flushes and type_ == "f32":
            return f"flushed({self._bits(operand, type_)})"
        return self._bits(operand, type_)

    def _bits(self, operand: str, type_: str) -> str:
        c_type = C_TYPES[type_]
        if operand in SPECIAL:
            return f"{c_type}({SPECIAL[operand]})"
        if match := re.fullmatch(r"0[fd]((?:[0-9A-F]{8}){1,2})", operand):
            return f"get<{c_type}>(0x{match[1]}u{'ll' if len(match[1]) == 16 else ''})"
        if re.fullmatch(r"-?\d+", operand):
            return f"{c_type}({operand}{'ull' if int(operand) >= 2**63 else 'll'})".replace(
                "-9223372036854775808ll", "INT64_MIN"
            )
        if operand in self._module._addresses:
            return f"{c_type}({self._module.address(operand)})"
        if re.fullmatch(r"%[a-z]+\d+", operand):
            return f"get<{c_type}>({_name(operand)})"
        raise Unsupported(operand)


def _memory_type(modifiers: list[str]) -> tuple[str, int, str]:
    """Space, number of parts and type of a load or store."""
    space, *vector, type_ = modifiers
    if space not in ("param", "global", "shared") or vector not in ([], ["v2"], ["v4"]) or type_ not in BYTES:
        raise Unsupported(".".join(modifiers))
    return space, int(vector[0][1]) if vector else 1, type_


def _registers(type_: str, names: str) -> str:
    c_type = {"f32": "u32", "f64": "u64"}.get(type_, C_TYPES[type_])
    match = re.fullmatch(r"(%\w+)<(\d+)>", names)
    if match is None and names == "tmp":  # of a block that takes the half of a register
        return f"{c_type} tmp = 0;"
    if match is None:
        raise Unsupported(names)
    return f"{c_type} " + ", ".join(f"{_name(match[1])}{i} = 0" for i in range(int(match[2]))) + ";"


def _name(register: str) -> str:
    return register.replace("%", "r_")


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _split(arguments: str) -> list[str]:
    """Arguments between commas, vectors in braces as one."""
    return [part.strip() for part in re.findall(r"\{[^}]*\}|[^,{}]+", arguments) if part.strip()]


def _statements(line: str) -> list[str]:
    """The statements of a line. NVRTC writes one, in inline assembly several, or a block ``{ .reg ...; ...; }``."""
    if line.startswith("{") and line.endswith("}"):
        return ["{", *_statements(line[1:-1]), "}"]
    return [" ".join(part.split()) for part in line.split(";") if part.strip()]
