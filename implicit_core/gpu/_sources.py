"""The CUDA sources of the kernels."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources


@cache
def source(name: str) -> str:
    """The text of the kernels in ``NAME.cu`` with its headers in place, so that a compiler needs no include path."""
    return _with_headers(f"{name}.cu")


def _with_headers(file: str) -> str:
    text = (resources.files(__package__) / file).read_text(encoding="utf-8").replace("#pragma once\n", "\n")

    def included(match: re.Match[str]) -> str:
        after = text.count("\n", 0, match.end()) + 2
        return f'#line 1 "{match[1]}"\n{_with_headers(match[1])}#line {after} "{file}"'

    return re.sub(r'^#include "(\w+\.cuh)"$', included, text, flags=re.MULTILINE)
