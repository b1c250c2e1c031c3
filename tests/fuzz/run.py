"""Run generated cases in processes of their own, so that a crash or a hang is seen and named.

``python tests/fuzz/run.py --cases 5000`` runs so many, shared out evenly among the properties in ``calls.py``. A failure
prints the command that repeats it. ``--only NAME`` runs one property, ``--seed`` changes the cases.
"""

import argparse
import faulthandler
import itertools
import os
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PER_PROCESS = 2500  #: cases of a process
SECONDS_PER_CASE = 60  #: more is a hang


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    parser.add_argument("--only", help="the name of one property")
    parser.add_argument("--worker", metavar="LOG", help=argparse.SUPPRESS)
    options = parser.parse_args()
    return work(options) if options.worker else share_out(options)


def share_out(options):
    """Run processes of cases with a seed each; 1 if one of them fails."""
    start, processes = time.time(), max(1, -(-options.cases // PER_PROCESS))
    shares = [options.cases * (i + 1) // processes - options.cases * i // processes for i in range(processes)]
    with ThreadPoolExecutor(options.jobs) as pool, tempfile.TemporaryDirectory() as folder:
        seeds = range(options.seed, options.seed + processes)
        failures = sum(pool.map(lambda seed, n: run_process(options, seed, n, Path(folder) / str(seed)), seeds, shares))
    print(f"{options.cases} cases in {processes} processes, {time.time() - start:.0f} s: {failures} processes failed")
    return int(failures > 0)


def run_process(options, seed, cases, log):
    command = [sys.executable, __file__, "--cases", str(cases), "--seed", str(seed)]
    command += ["--only", options.only] if options.only else []
    result = subprocess.run([*command, "--worker", str(log)], capture_output=True, text=True, encoding="utf-8")
    if result.returncode == 0:
        return 0
    last = log.read_text(encoding="utf-8") if log.exists() else "none"
    died = f"died with status {result.returncode} in " if result.returncode != 1 else "failed, last "
    print(f"=== {' '.join(command)}\n{died}{last}\n{result.stdout}{result.stderr[-5000:]}", flush=True)
    return 1


def work(options):
    """Run all cases of this process; 1 if a property fails."""
    from calls import PROPERTIES

    from implicit_core.cpu import kernels

    kernels.THREAD_WORK = 300  # so that small work is shared out, too
    log = os.open(options.worker, os.O_CREAT | os.O_WRONLY)
    names = [options.only] if options.only else sorted(PROPERTIES)
    failed = 0
    for position, name in enumerate(names):
        cases = options.cases * (position + 1) // len(names) - options.cases * position // len(names)
        try:
            if cases:
                check(name, PROPERTIES[name], cases, options.seed, log)
        except Exception as error:
            failed = 1
            error.__notes__ = []  # hypothesis's, of each draw
            print(f"--- {name}: {''.join(traceback.format_exception(error)[-3:])}")
    faulthandler.cancel_dump_traceback_later()
    return failed


def check(name, run, cases, number, log):
    """Run a property; the log always says which case is under way."""
    from arguments import Case
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    count = itertools.count(1)

    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.data())
    def every_case(data):
        os.pwrite(log, f"case {next(count):6} of {name:40}\n".encode(), 0)
        faulthandler.dump_traceback_later(SECONDS_PER_CASE, exit=True)
        run(Case(data.draw))

    every_case()


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())
