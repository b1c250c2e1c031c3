"""Progress bars. tqdm, which takes longer to import than this whole package, is imported for the first of them."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from implicit_core._fork import no_fork


def progress_bar(total: int, show: bool, done: int = 0) -> Any:
    """A bar of ``total`` steps, ``done`` of which were made before; nothing appears unless ``show``."""
    with no_fork:
        from tqdm.auto import tqdm
    return tqdm(total=total, initial=done, disable=not show)


def _start_anew_in_child() -> None:
    """Let go of the lock of progress bars, which another thread may hold and even those take that are not shown."""
    if "tqdm.auto" in sys.modules:
        sys.modules["tqdm.auto"].tqdm.set_lock(threading.RLock())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)
