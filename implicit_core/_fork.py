"""Forks while other threads are at work: the child has the locks they hold, but not the threads to release them."""

from __future__ import annotations

import logging  # noqa: F401  # whose lock a fork takes: the hooks of what is imported later run before those from here
import os
import threading

PATIENCE = 60.0  #: seconds that a fork waits at most, should it hold what a thread inside waits for


class _NoFork:
    """A context for threads that hold locks of other libraries: a fork waits until all have left it.

    Meanwhile no thread enters that is not inside already.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0  # how many threads
        self._forking = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._wait, after_in_parent=self._go_on, after_in_child=self._start_anew)

    def __enter__(self) -> None:
        if self._depth == 0:
            with self._changed:
                self._changed.wait_for(lambda: not self._forking)
                self._inside += 1
        self._local.depth = self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._local.depth -= 1
        if self._depth == 0:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @property
    def _depth(self) -> int:
        """How often the calling thread is inside."""
        depth: int = getattr(self._local, "depth", 0)
        return depth

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._forking = True
            self._changed.wait_for(lambda: self._inside == (self._depth > 0), PATIENCE)

    def _go_on(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def _start_anew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = int(self._depth > 0)
        self._forking = False


no_fork = _NoFork()
