"""Benchmarks of implicit_core beside its peers; ``python -m benchmarks`` runs the quick suite."""

import sys
from pathlib import Path

# `python -m` puts the checkout first on the path, where the package may lie uncompiled: an installed one goes first.
_checkout = str(Path(__file__).parents[1])
sys.path[:] = [p for p in sys.path if p not in ("", _checkout)] + [_checkout]
