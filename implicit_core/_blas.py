"""The number of threads of BLAS."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

from threadpoolctl import ThreadpoolController

from implicit_core._fork import no_fork


class _OneBlasThread:
    """A context in which BLAS runs on one thread, for products too small or too exact to be shared out.

    The limit is global to the process, so entries are counted: the last one to leave restores what was.
    """

    def __init__(self) -> None:
        self._controller: ThreadpoolController | None = None
        self.forget()

    def forget(self) -> None:
        """Start anew; also in a child that was forked while another thread was inside."""
        self._lock = threading.Lock()
        self._entered = 0
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._entered == 0:
                if self._controller is None:
                    with no_fork:
                        importlib.import_module("scipy.linalg")  # whose BLAS is a library of its own
                        self._controller = ThreadpoolController()
                self._limits = self._controller.limit(limits=1, user_api="blas")
            self._entered += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if self._entered == 0 and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


one_blas_thread = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.forget)
