"""Compare the public names of implicit with those of implicit_core, and write docs/parity.md beside this file.

    python docs/make_parity.py [--check]

Both packages are imported; nothing of implicit is read but its names and signatures. The script fails where a name is
missing, or a parameter has another place or default, unless `_parity.py` says why. With --check it also fails where
docs/parity.md is not what it would write.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
import types
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from _parity import ABSENT, INTRODUCTION, NOTES, PARAMETERS

PAGE = Path(__file__).with_name("parity.md")
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
BACKENDS = ("annoy", "faiss", "nmslib")  #: which modules of implicit import


def public_modules(package: types.ModuleType) -> Iterator[types.ModuleType]:
    """The modules of a package without those whose path has a private part, but for one that `implicit` documents."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        path = found.name.split(".")[1:]
        if path == ["_nearest_neighbours"] or not any(part.startswith("_") for part in path):
            yield importlib.import_module(found.name)


def public_names(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module defines, or takes from a private module of its package."""
    package = module.__name__.split(".")[0]
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None)
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if isinstance(home, str):
            private = home.startswith(f"{package}.") and home.split(".")[-1].startswith("_")
            if home == module.__name__ or (private and not home.endswith("._download")):
                yield name, value
        elif name.isupper():
            yield name, value


def members(cls: type) -> Iterator[tuple[str, str]]:
    """Public methods and properties of a class, and the path of the class of its package that defines them."""
    package = cls.__module__.split(".")[0]
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), cls)
        if not name.startswith("_") and owner.__module__.split(".")[0] == package and name != "args":
            yield name, f"{owner.__module__.removeprefix(package + '.')}.{owner.__name__}"


def parameters(value: Any) -> list[inspect.Parameter] | None:
    """Parameters but for self; None for what has none to be read."""
    if not callable(value):
        return None
    try:
        return [p for p in inspect.signature(value).parameters.values() if p.name != "self"]
    except (TypeError, ValueError):
        return None


def differences(path: str, theirs: Any, mine: Any) -> Iterator[str]:
    """What of the parameters of `implicit` is at another place, has another default, or is missing."""
    wanted, given = parameters(theirs), parameters(mine)
    if isinstance(theirs, str) and mine != theirs:
        yield f"{path} is {mine!r}, in implicit {theirs!r}"
    if wanted is None:
        return
    if given is None:
        yield f"{path} cannot be called as that of implicit can"
        return
    pattern = next((pattern for pattern in PARAMETERS if fnmatchcase(path, pattern)), "")
    allowed = PARAMETERS.get(pattern, set())
    places = [p for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    by_name = {p.name: p for p in given}
    for parameter in given:
        needed = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        if needed and parameter.name not in allowed | {p.name for p in wanted}:
            yield f"{path} cannot be called without {parameter.name}, which implicit does not know"
    for place, parameter in enumerate(wanted):
        if parameter.name in allowed:
            used.add(("parameters", pattern))
        elif parameter.kind in VARIADIC:
            if parameter.kind not in {p.kind for p in given}:
                yield f"{path} takes no further arguments {parameter}"
        else:
            found = by_name.get(parameter.name)
            by_place = parameter.kind is not parameter.KEYWORD_ONLY
            if found is None or (by_place and (place >= len(places) or places[place] is not found)):
                yield f"{path} has no parameter {parameter.name} at place {place}"
            elif not same_default(found.default, parameter.default):
                yield f"{path} has {parameter.name}={found.default!r}, implicit {parameter.default!r}"


def same_default(mine: Any, theirs: Any) -> bool:
    """Whether defaults are equal and of one type, so that 1 is not True."""
    return type(mine) is type(theirs) and bool(mine == theirs)


used: set[tuple[str, str]] = set()  #: of the entries of _parity.py, which must all be needed


def note(path: str) -> tuple[str, str]:
    """Verdict and remark on a name."""
    for pattern, remark in NOTES.items():
        if fnmatchcase(path, pattern):
            used.add(("note", pattern))
            return remark
    return "same", ""


def compare(implicit: types.ModuleType, ours: types.ModuleType) -> tuple[dict[str, list[str]], list[str]]:
    """Rows of the page by module, and what is wrong."""
    rows: dict[str, list[str]] = {}
    problems = []
    absent = object()

    def add(path: str, theirs: Any, mine: Any, place: str, row: list[str]) -> None:
        """Compare a name that `implicit` defines at ``path``, and that is looked for at ``place``."""
        if path in ABSENT:
            used.add(("absent", path))
            verdict, remark = "absent", ABSENT[path]
            if mine is not absent:
                problems.append(f"{place} is there, and _parity.py says it is not")
        else:
            verdict, remark = note(path)
            problems.extend([f"{place} is missing"] if mine is absent else differences(path, theirs, mine))
        row.append(f"| `{path.removeprefix(name + '.')}` | {verdict} | {remark} |")

    for module in public_modules(implicit):
        name = module.__name__.removeprefix("implicit.")
        try:
            counterpart = importlib.import_module(f"implicit_core.{name}")
        except ModuleNotFoundError:
            counterpart = types.ModuleType(name)
            problems.append(f"the module {name} is missing")
        for public, theirs in public_names(module):
            path, mine, table = f"{name}.{public}", getattr(counterpart, public, absent), rows.setdefault(name, [])
            add(path, theirs, mine, path, table)
            for member, owner in members(theirs) if inspect.isclass(theirs) else ():
                inherited: list[str] = []  # the row is in the table of the class that it is inherited from
                pair = getattr(theirs, member), getattr(mine, member, absent)
                add(f"{owner}.{member}", *pair, f"{path}.{member}", table if owner == path else inherited)
    tables = {"note": NOTES, "absent": ABSENT, "parameters": PARAMETERS}
    needed = {(table, key) for table, entries in tables.items() for key in entries}
    problems += [f"_parity.py has an entry that nothing needs: {key}" for _, key in sorted(needed - used)]
    return rows, list(dict.fromkeys(problems))


def page(rows: dict[str, list[str]]) -> str:
    """The page."""
    counts = [sum(f" | {verdict} | " in row for table in rows.values() for row in table) for verdict in VERDICTS]
    summary = ", ".join(f"{count} {verdict}" for count, verdict in zip(counts, VERDICTS, strict=True))
    tables = (
        f"## {module}\n\n| name | verdict | remarks |\n|---|---|---|\n" + "\n".join(table) + "\n"
        for module, table in rows.items()
    )
    return f"# Parity with implicit 0.7.3\n\n{INTRODUCTION}\nOf {sum(counts)} names: {summary}.\n\n" + "\n".join(tables)


VERDICTS = ("same", "better", "different", "absent")


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if the page is out of date")
    arguments = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for backend in BACKENDS:
            try:
                importlib.import_module(backend)
            except ImportError:  # enough for modules that only import it
                sys.modules[backend] = types.ModuleType(backend)
        rows, problems = compare(importlib.import_module("implicit"), importlib.import_module("implicit_core"))
    text = page(rows)
    if arguments.check and (not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text):
        problems.append(f"{PAGE.name} is out of date; run python docs/{Path(__file__).name}")
    if problems:
        raise SystemExit("\n".join(f"parity: {problem}" for problem in problems))
    if not arguments.check:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
