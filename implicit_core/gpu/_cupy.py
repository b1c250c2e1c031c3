"""CuPy, imported when it is first used, so that modules that use it can be imported without it."""

from __future__ import annotations

import importlib
from typing import Any


class _CuPy:
    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("cupy"), name)


cp: Any = _CuPy()
