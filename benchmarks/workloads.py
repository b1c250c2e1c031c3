"""The matrices and fitted models that benchmarks work on, made once and kept in a folder.

The folder is ``IMPLICIT_CORE_BENCHMARKS`` from the environment, or ``implicit_core-benchmarks`` among temporary files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from implicit_core.als import AlternatingLeastSquares
from implicit_core.datasets.debian import get_debian
from implicit_core.datasets.synthetic import lastfm_shaped, make_implicit
from implicit_core.nearest_neighbours import bm25_weight


def folder() -> Path:
    """Where matrices and models are kept."""
    path = Path(os.environ.get("IMPLICIT_CORE_BENCHMARKS", f"{tempfile.gettempdir()}/implicit_core-benchmarks"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def matrix_path(name: str) -> Path:
    """The path of a matrix of users × items.

    Parameters
    ----------
    name : str
        ``lastfm-shaped``: 358,868 × 292,385 with 17.6 million independent entries, after BM25; ``lastfm-counts``: the
        same before; ``debian``: the data set that comes with the package; ``planted``: 30,000 × 40,000 with a million
        entries of 50 taste groups; ``tiny``: 1,000 × 50 with 4,000 entries; ``items-N``: 10,000 × N with 400,000 of
        them; ``entries-N``: N entries at the density of rows of ``lastfm-shaped``; ``filled-N``: N entries in
        255,102 × 208,333; or the path of an ``.npz`` file of `scipy.sparse.save_npz`.
    """
    if name.endswith(".npz"):
        return Path(name)
    path = folder() / f"{name}.npz"
    if not path.exists():
        partial = path.with_suffix(".partial.npz")
        sparse.save_npz(partial, _make(name), compressed=False)
        partial.rename(path)
    return path


def load(name: str) -> sparse.csr_matrix:
    """A matrix of users × items in single precision; see :func:`matrix_path`."""
    return sparse.csr_matrix(sparse.load_npz(matrix_path(name)), dtype=np.float32)


def _make(name: str) -> sparse.csr_matrix:
    if name == "lastfm-shaped":
        return bm25_weight(load("lastfm-counts").T, K1=100, B=0.8).T.tocsr()
    if name == "lastfm-counts":
        return lastfm_shaped()
    if name == "debian":
        return get_debian()[2].T.tocsr()
    if name == "planted":
        return make_implicit(30_000, 40_000, 1_000_000, groups=50, random_state=0)
    if name == "tiny":
        return make_implicit(1_000, 50, 4_000, random_state=0)
    kind, _, size = name.partition("-")
    if kind == "items":
        return make_implicit(10_000, int(size), 400_000, groups=50, random_state=0)
    if kind == "entries":
        return make_implicit(int(size) // 49, int(size) // 60, int(size), groups=1, affinity=0.0, random_state=0)
    if kind == "filled":
        return make_implicit(255_102, 208_333, int(size), groups=1, affinity=0.0, random_state=0)
    raise ValueError(f"no such workload: {name!r}")


def kept(name: str, what: str) -> Path:
    """Where something made of a matrix is kept; that of a file only while the file stays as it is."""
    path, of = Path(name), name
    if name.endswith(".npz"):
        status = path.stat()
        identity = f"{path.resolve()} {status.st_mtime_ns} {status.st_size}"
        of = f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    return folder() / f"{of}-{what}"


def model_path(name: str, factors: int) -> Path:
    """The path of an ALS model fitted to a workload, in the format that implicit reads too."""
    path = kept(name, f"{factors}.npz")
    if not path.exists():
        model: Any = AlternatingLeastSquares(factors=factors, iterations=10, regularization=0.05, random_state=0)
        model.fit(load(name), show_progress=False)
        model.save(path)
    return path
