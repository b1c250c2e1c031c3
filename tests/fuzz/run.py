"""Run generated cases in processes of their own, so that a crash or a hang is seen and named.

``python tests/fuzz/run.py --cases 5000`` shares so many out among the properties in ``calls.py``. A failure prints the
command that repeats it. ``--only NAME`` runs one property, another ``--seed`` other cases.
"""

import argparse
import faulthandler
import inspect
import itertools
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_origin

PER_PROCESS = 2500  #: cases of a process
SECONDS_PER_CASE = 60  #: more is a hang
TRACED = 100  #: cases of each property in which calls are noted
UTILS = ("augment_inner_product_matrix", "check_blas_config", "check_csr", "check_random_state", "nonzeros")
ELSEWHERE = {  # public names that are tested in other ways
    "save": "tests/test_files.py", "load": "tests/test_files.py", "to_cpu": "GPU", "to_gpu": "GPU",
    "lastfm_shaped": "make_implicit at full size",
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--only", help="the name of one property")
    parser.add_argument("--worker", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    return work(options) if options.worker else share_out(options)


def share_out(options):
    """Run processes of cases with a seed each; 1 if one of them fails, or a public function is never called."""
    start, processes = time.time(), max(1, -(-options.cases // PER_PROCESS))
    shares = [options.cases * (i + 1) // processes - options.cases * i // processes for i in range(processes)]
    seeds = range(options.seed, options.seed + processes)
    with ThreadPoolExecutor(options.jobs) as pool, tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(seed) for seed in seeds]
        failed = sum(pool.map(lambda *of_process: run_process(options, *of_process), seeds, shares, logs))
        reports = [log.with_suffix(".json") for log in logs]
        done = [json.loads(report.read_text()) for report in reports if report.exists()]
    cases = sum(one["cases"] for one in done)
    print(f"{cases} cases in {processes} processes, {time.time() - start:.0f} s: {failed} processes failed")
    uncalled = set.intersection(*(set(one["uncalled"]) for one in done)) if done and not options.only else ()
    if uncalled:
        print(f"no case called {', '.join(sorted(uncalled))}")
    return int(failed > 0 or len(uncalled) > 0 or (cases < options.cases and not options.only))


def run_process(options, seed, cases, log):
    command = [sys.executable, __file__, "--cases", str(cases), "--seed", str(seed)]
    command += ["--only", options.only] if options.only else []
    result = subprocess.run([*command, "--worker", str(log)], capture_output=True, text=True, encoding="utf-8")
    if result.returncode == 0:
        return 0
    last = log.read_text(encoding="utf-8") if log.exists() else "no case"
    how = f"died with status {result.returncode} in" if result.returncode != 1 else "failed; the last was"
    print(f"=== {' '.join(command)} {how} {last}\n{result.stdout}{result.stderr[-5000:]}", flush=True)
    return 1


def work(options):
    """Run all cases of this process; 1 if a property fails."""
    from calls import PROPERTIES

    from implicit_core.cpu import kernels

    kernels.THREAD_WORK = 300  # so that small work is shared out, too
    log = os.open(options.worker, os.O_CREAT | os.O_WRONLY)
    names = [options.only] if options.only else sorted(PROPERTIES)
    failed, ran, called = 0, Counter(), set()
    for position, name in enumerate(names):
        # some properties have few different cases; later ones have more instead
        cases = options.cases * (position + 1) // len(names) - ran.total()
        try:
            if cases > 0:
                check(name, PROPERTIES[name], cases, options.seed, log, called, ran)
        except Exception as error:
            failed = 1
            error.__notes__ = []  # hypothesis's, of each draw
            print(f"--- {name}: {''.join(traceback.format_exception(error)[-6:])}")
    faulthandler.cancel_dump_traceback_later()
    uncalled = [name for name, code in public_functions() if code not in called]
    Path(options.worker).with_suffix(".json").write_text(json.dumps({"uncalled": uncalled, "cases": ran.total()}))
    return failed


def check(name, run, cases, number, log, called, ran):
    """Run a property and count its cases, which may be fewer; the log always says which one is under way."""
    from arguments import PACKAGE, Case
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    count = itertools.count(1)

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.add(frame.f_code)

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
        case = next(count)
        os.pwrite(log, f"case {case:6} of {name:40}\n".encode(), 0)
        faulthandler.dump_traceback_later(SECONDS_PER_CASE, exit=True)
        sys.setprofile(note if case <= TRACED else None)
        try:
            run(Case(data.draw))
        finally:
            sys.setprofile(None)
        ran[name] += 1

    every_case()


def public_functions():
    """Names and code of what the package offers: functions of public modules, and methods of their classes."""
    import implicit_core
    from implicit_core import ann, cpu
    from implicit_core._nearest_neighbours import NearestNeighboursScorer
    from implicit_core.recommender_base import RecommenderBase

    packages = [("implicit_core.", implicit_core), ("implicit_core.cpu.", cpu), ("implicit_core.ann.", ann)]
    paths = [prefix + found.name for prefix, package in packages for found in pkgutil.iter_modules(package.__path__)]
    installed = sys.modules["calls"].APPROXIMATE
    kinds = (RecommenderBase, NearestNeighboursScorer)
    seen = {}
    for path in [*paths, "implicit_core.datasets.synthetic"]:
        leaf = path.rpartition(".")[2]
        if (
            leaf.startswith("_")
            or leaf in ("gpu", "datasets", "kernels")
            or not hasattr(sys.modules.get(path), "__file__")
        ):
            continue
        module = sys.modules[path]
        for name in getattr(module, "__all__", UTILS if leaf == "utils" else vars(module)):
            value = vars(module).get(name)
            if name.startswith("_") and "__all__" not in vars(module):
                continue
            if inspect.isfunction(value) and (value.__module__ == path or "__all__" in vars(module)):
                if leaf != "approximate_als" or any(kind.__name__.startswith(name[:4]) for kind in installed):
                    seen[value.__code__] = f"{path}.{name}"
            elif inspect.isclass(value) and get_origin(value) is None and issubclass(value, kinds):
                if ".ann." in path and value not in installed:
                    continue
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    abstract = getattr(function, "__isabstractmethod__", False)
                    if not method.startswith("_") and function.__module__.startswith("implicit_core") and not abstract:
                        seen[function.__code__] = f"{path}.{name}.{method}"
    return [(name, code) for code, name in seen.items() if name.rpartition(".")[2] not in ELSEWHERE]


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())
