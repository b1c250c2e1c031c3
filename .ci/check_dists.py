"""Check that the sdist and the wheel in a folder hold what they must, and nothing else.

Usage: ``git ls-files | python .ci/check_dists.py dist``
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

GENERATED = ("PKG-INFO", "setup.cfg", "implicit_core.egg-info/")


def check(kind: str, found: set[str], expected: set[str]) -> None:
    """Exit unless both sets are the same."""
    for names, problem in ((expected - found, "lacks"), (found - expected, "should not hold")):
        if names:
            sys.exit(f"the {kind} {problem} {', '.join(sorted(names))}")
    print(f"{kind}: {len(found)} files, as they must be")


def main(folder: Path, source: set[str]) -> None:
    """Check the one sdist and the one wheel in ``folder`` against the names of the source files."""
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2] for member in archive if member.isfile()}
    check("sdist", {name for name in members if not name.startswith(GENERATED)}, source)

    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
    package = {name for name in source if name.startswith("implicit_core/")}
    sources = {name for name in package if name.endswith((".pyx", ".h"))}
    modules = {name.removesuffix(".pyx") for name in sources if name.endswith(".pyx")}
    compiled = {name for name in members if name.endswith((".so", ".pyd"))}
    if {name.partition(".")[0] for name in compiled} != modules:
        sys.exit(f"the wheel must hold {', '.join(sorted(modules))} compiled, got {', '.join(sorted(compiled))}")
    metadata = {name for name in members if ".dist-info/" in name}
    licences = {name.partition("licenses/")[2] for name in metadata if "/licenses/" in name}
    check("wheel", members - metadata - compiled, package - sources)
    check("wheel's licences", licences, {"LICENSE", "implicit_core/datasets/DATA_LICENSE"})
    for name in ("py.typed", "cpu/_als.pyi", "datasets/debian.hdf5", "datasets/DATA_LICENSE"):
        if f"implicit_core/{name}" not in members:
            sys.exit(f"the wheel lacks {name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), {name for name in sys.stdin.read().split("\n") if name and not name.startswith(".git")})
