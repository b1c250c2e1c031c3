"""A process that does one task with one library: it answers each line of its input, so that processes take turns.

    python -m benchmarks.worker LIBRARY THREADS TASK OPTIONS

OPTIONS is JSON. The input lines are ``run``, ``quality`` and ``result PATH``; each answer is a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
from threadpoolctl import threadpool_info

from benchmarks import tasks


def check_blas(threads: int) -> None:
    """Refuse to time anything while a copy of BLAS has another number of threads than the task asks for."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    wrong = [pool["filepath"] for pool in pools if pool["num_threads"] != threads]
    if wrong:
        raise RuntimeError(f"BLAS must have {threads} threads in this task, which these do not obey: {wrong}")


def main() -> None:
    """Make the task, then answer."""
    library, threads, name, options = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not come between
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", ".*BLAS")  # implicit's, of a number of threads that makes it slow
    kind = getattr(tasks, name)
    task = kind(library, int(threads), **json.loads(options))
    check_blas(kind.blas(int(threads)))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        answer: object = None
        if command == "run":
            start = time.perf_counter()
            measured = task.run()
            answer = time.perf_counter() - start if measured is None else measured
        elif command == "quality":
            answer = task.quality()
        else:
            np.savez(path, **task.result())
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
