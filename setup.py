"""Build the Cython extensions; everything else about the package is in pyproject.toml.

Environment variables for development builds:

``IMPLICIT_CORE_DEBUG=1``
    bounds checks in Cython and in the C++ headers, debug symbols.
``IMPLICIT_CORE_SANITIZE=address,undefined``
    compile with these sanitizers.
"""

import os
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("IMPLICIT_CORE_DEBUG") == "1"
SANITIZE = os.environ.get("IMPLICIT_CORE_SANITIZE")

compile_args, link_args = ["-std=c++17", "-O3", "-fno-math-errno", "-fopenmp"], ["-fopenmp"]
if sys.platform == "win32":
    compile_args, link_args = ["/std:c++17", "/O2", "/openmp:experimental"], []
elif sys.platform == "darwin":
    compile_args[-1:], link_args = ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
if DEBUG:
    compile_args += ["-g", "-O1", "-DIMPLICIT_CORE_DEBUG"]
if SANITIZE:
    compile_args += ["-g", "-O1", f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
    link_args += [f"-fsanitize={SANITIZE}"]

HEADERS = [f"implicit_core/cpu/_{name}.h" for name in ("als", "isa", "knn", "span", "topk")]
extensions = [
    Extension(
        f"implicit_core.cpu._{name}",
        [f"implicit_core/cpu/_{name}.pyx"],
        depends=HEADERS,
        language="c++",
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for name in ("als", "knn", "topk")
]

setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "binding": False,
            "freethreading_compatible": True,
        },
    )
)
