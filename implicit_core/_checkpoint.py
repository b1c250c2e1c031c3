"""The file in which a fit keeps its state, so that one that was interrupted can go on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from implicit_core._checks import check_count
from implicit_core._devices import public_class
from implicit_core._errors import ModelLoadError
from implicit_core._files import (
    check_finite_entry,
    decode_random_state,
    encode_random_state,
    partial_files,
    read_npz,
    with_suffix,
    write_npz,
)
from implicit_core._typing import Counts, Factors
from implicit_core.matrix_factorization import MatrixFactorizationBase

ENTRY = "checkpoint"
NO_MATTER = ("num_threads", "iterations", "calculate_training_loss", "random_state")  #: for the bits of an iteration


class Checkpoint:
    """The state of a fit between two iterations, in a model file with a few more entries.

    Parameters
    ----------
    path : str or path, optional
        None keeps nothing.
    every : int
        Iterations from one write to the next.
    model : MatrixFactorizationBase
        What is fitted.
    counts : Counts
        What it is fitted to.
    width : int
        Columns of its factors.
    sums : dict of ndarray
        What else an iteration starts from, by name.

    Raises
    ------
    TypeError
        ``path`` is no path, or ``every`` no integer.
    ValueError
        ``every`` is below 1.
    OSError
        Its folder cannot be written to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        every: int,
        model: MatrixFactorizationBase,
        counts: Counts,
        width: int,
        sums: dict[str, Factors] | None = None,
    ) -> None:
        self._every = check_count(every, "checkpoint_every", 1)
        self._model, self._sums = model, sums or {}
        self._path: Path | None = None
        if path is None:
            return
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be the path of a file, got {type(path).__name__}")
        self._path = Path(os.path.realpath(with_suffix(path)))
        with tempfile.TemporaryFile(dir=self._path.parent):
            pass  # an error now rather than after an hour
        for partial in partial_files(self._path):
            partial.unlink(missing_ok=True)
        self._shapes = {"user_factors": (counts.shape[0], width), "item_factors": (counts.shape[1], width)}
        self._shapes.update((name, array.shape) for name, array in self._sums.items())
        self._fit = json.loads(json.dumps(_identity(model, counts), default=repr))
        self._random = ""

    def begin(self, random: np.random.Generator, initialize: Callable[[], None]) -> int:
        """Restore what the file holds; if there is none, initialize the factors and write them.

        An error or interrupt leaves the model as it was, so that the same call can be made again.

        Parameters
        ----------
        random : Generator
            Gets the state that it had when factors had been initialized.
        initialize : callable

        Returns
        -------
        iterations : int
            How many are done.

        Raises
        ------
        ValueError
            The file is of another fit, of one with more iterations, or no checkpoint.
        ModelLoadError
            The file is damaged.
        """
        model: Any = self._model
        if self._path is None:
            initialize()
            return 0
        before = model.user_factors, model.item_factors, random.bit_generator.state
        try:
            done = 0
            if self._path.exists():
                done = self._restore(random)
            else:
                initialize()
            self._random = encode_random_state(random)
            if done == 0:
                self._write(0)
        except BaseException:
            model.user_factors, model.item_factors, random.bit_generator.state = before
            raise
        return done

    def after(self, iterations: int) -> None:
        """Write the state after so many iterations, if it is time to.

        Raises
        ------
        ModelFitError
            The factors are not finite; the file stays as it was.
        """
        model: Any = self._model
        if self._path is not None and (iterations % self._every == 0 or iterations == model.iterations):
            self._write(iterations)

    def _write(self, iterations: int) -> None:
        model: Any = self._model
        about = {"fit": self._fit, "iterations": iterations, "random": self._random}
        write_npz(self._path, {**model._state(), **self._sums, ENTRY: json.dumps(about)})

    def _restore(self, random: np.random.Generator) -> int:
        model: Any = self._model
        state = read_npz(self._path)
        if ENTRY not in state:
            raise ValueError(
                f"checkpoint must name a file that fit wrote or that is not there yet, got {self._path}, which holds "
                "no state of a fit and would be written over"
            )
        try:
            about = json.loads(state[ENTRY])
            fit, done = dict(about["fit"]), check_count(about["iterations"], "iterations")
            start = decode_random_state(about["random"]).bit_generator.state
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise ModelLoadError(f"the checkpoint {self._path} is damaged: {error}") from error
        differences = [
            f"{name} was {fit.get(name)!r} and is {value!r}"
            for name, value in self._fit.items()
            if fit.get(name) != value
        ]
        kinds = [state_of["bit_generator"] for state_of in (start, random.bit_generator.state)]
        if kinds[0] != kinds[1]:
            differences.append(f"random_state was over {kinds[0]} and is over {kinds[1]}")
        if differences:
            raise ValueError(
                f"the checkpoint {self._path} is of another fit: {'; '.join(differences)}. To go on with that fit, use "
                "what it used; to start anew, delete the file"
            )
        if done > model.iterations:
            raise ValueError(
                f"the checkpoint {self._path} is of a fit after {done} iterations, more than iterations="
                f"{model.iterations}; to start anew, delete the file"
            )
        dtype = np.promote_types(model.dtype, np.float32)  # half precision of a GPU is single precision in files
        for name, shape in self._shapes.items():
            array = state.get(name)
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
                raise ModelLoadError(f"the checkpoint {self._path} is damaged: {name} must be {dtype} of {shape}")
            check_finite_entry(state, name)
        for side in ("user_factors", "item_factors"):
            setattr(model, side, model._kernels.writable(state[side], model.dtype))
        for name, array in self._sums.items():
            array[...] = state[name]
        random.bit_generator.state = start
        return done


def _identity(model: Any, counts: Counts) -> dict[str, Any]:
    """What must be the same for a fit to go on: the model, its parameters, and what it is fitted to."""
    content = hashlib.sha256()
    for array in (counts.indptr, counts.indices, counts.values):
        content.update(np.ascontiguousarray(array).data)
    seed = model.random_state
    moves_on = isinstance(seed, (np.random.Generator, np.random.RandomState, np.random.BitGenerator))
    parameters = {name: getattr(model, name) for name in (*model._saved, *model._beyond) if name not in NO_MATTER}
    return {
        "class": public_class(type(model)).__name__,
        **{name: value.item() if isinstance(value, np.generic) else value for name, value in parameters.items()},
        "dtype": np.dtype(model.dtype).name,
        "random_state": "a generator" if moves_on else encode_random_state(seed),
        "shape of user_items": counts.shape,
        "type of user_items": counts.values.dtype.name,
        "content of user_items": content.hexdigest(),
    }
