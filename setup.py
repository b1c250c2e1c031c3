"""Build the Cython extensions; everything else about the package is in pyproject.toml.

Environment variables for development builds:

``IMPLICIT_CORE_DEBUG=1``
    bounds checks in Cython and in the C++ headers, debug symbols.
``IMPLICIT_CORE_SANITIZE=address,undefined``
    compile with these sanitizers.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("IMPLICIT_CORE_DEBUG") == "1"
SANITIZE = os.environ.get("IMPLICIT_CORE_SANITIZE")

# GCC or Clang: the kernels use their vector extension. Clang fuses a * b + c across functions only where it is told to.
compile_args = ["-std=c++17", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp"]
link_args = ["-fopenmp"]
if sys.platform == "darwin":
    compile_args[-1:], link_args = ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
if DEBUG:
    compile_args += ["-g", "-O1", "-DIMPLICIT_CORE_DEBUG"]
if SANITIZE:
    compile_args += ["-g", "-O1", f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
    link_args += [f"-fsanitize={SANITIZE}"]

# A folder per kind of build, so that none takes over what another has compiled.
BUILD = "/".join(["build", "debug" if DEBUG else "release", *(SANITIZE or "").split(",")]).rstrip("/")
HEADERS = [str(path) for path in sorted(Path("implicit_core/cpu").glob("_*.h"))]
extensions = [
    Extension(
        f"implicit_core.cpu.{path.stem}",
        [str(path)],
        depends=HEADERS,
        include_dirs=["implicit_core/cpu"],
        language="c++",
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for path in sorted(Path("implicit_core/cpu").glob("_*.pyx"))
]

setup(
    options={"build": {"build_base": BUILD}, "build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        extensions,
        build_dir=BUILD,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "binding": True,  # signatures, for stubtest
            "autotestdict": False,
            "freethreading_compatible": True,
        },
    ),
)
