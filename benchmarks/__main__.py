"""The benchmark suite: ours beside every installed peer, in turn, on the same input.

    python -m benchmarks [--full] [--only REGEX] [--threads 2] [--repeat N] [--data NAME=FILE.npz] [--out FOLDER]

The quick suite takes less than ten minutes on two cores, the full one about forty and all plots. Printed are medians,
the ratio peer / ours with its target, and what stands beside the time: losses, NDCG, sums, agreement of results. FOLDER
gets ``results.json`` with every sample, ``table.txt``, and the plots as SVG. ``--data online-retail=FILE`` adds a
matrix of users × items saved by `scipy.sparse.save_npz` to those that recommendations are timed on.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import compare, plots
from benchmarks.compare import ALONE, OURS, Case, Report

BIG = "lastfm-shaped"
WITH_IRSPACK = (OURS, "implicit", "irspack")


def fits(full: bool) -> Iterator[Case]:
    """ALS by factors; memory."""
    targets = {32: 3.0, 64: 5.0, 100: 3.0, 128: 4.0, 256: 3.0}
    for factors in targets if full else (64,):
        wanted = {"implicit": targets[factors]}
        yield Case(f"als {factors}", "Fit", {"data": BIG, "factors": factors}, wanted, WITH_IRSPACK, repeat=3)
    theirs = {"data": BIG, "factors": 64, "objective": "irspack"}
    yield Case("als 64, objective of irspack", "Fit", theirs, {"irspack": 3.0}, (OURS, "irspack"), repeat=3)
    exact = {"data": BIG if full else "planted", "factors": 64, "exact": True}
    yield Case("als 64 exact", "Fit", exact, {"implicit": 3.0}, WITH_IRSPACK, repeat=2 if full else 3)
    spark = {"data": "debian", "factors": 64}  # of BIG, an iteration of Spark takes minutes
    yield Case("als 64 beside Spark", "SparkFit", spark, libraries=(OURS, "pyspark"), repeat=2 if full else 1)
    yield Case("als 64 memory", "FitMemory", {"data": BIG, "factors": 64}, repeat=0, unit="MB")


def searches(full: bool, data: dict[str, str]) -> Iterator[Case]:
    """Recommendations and similar items."""
    for name in ("debian", "planted", *data):
        options = {"data": data.get(name, name), "factors": 64}
        wanted = {"implicit": 8.0 if name == "online-retail" else 15.0}
        yield Case(f"recommend {name}", "Recommend", options, wanted, repeat=5 if full else 3)
    users = {"data": BIG, "factors": 64, "users": 20_000 if full else 4_000}
    yield Case(f"recommend {BIG}", "Recommend", users, {"implicit": 4.0}, repeat=3)
    planted = {"data": "planted", "factors": 64}
    yield Case("one by one", "RecommendOne", planted, {"implicit": 3.0})
    yield Case("one by one, mapped model", "RecommendOne", planted, {"implicit": 3.0}, own={"mmap": True})
    tiny = {"data": "tiny", "factors": 8}  # what is left is the calls themselves: at most 50 µs for each of 1,000
    yield Case("call overhead", "RecommendOne", tiny, limit=0.05)
    yield Case("similar_items", "SimilarItems", planted, {"implicit": 4.0}, repeat=3)


def others(full: bool) -> Iterator[Case]:
    """The other models, metrics, splits, weights, import."""
    epochs = {"data": "planted", "factors": 64, "epochs": 10}
    bpr = epochs | {"model": "bpr", "epochs": 20, "learning_rate": 0.05}  # the default learns little in so few
    yield Case("bpr 20 epochs", "Epochs", bpr, {"implicit": 2.0}, repeat=5)
    yield Case("bpr race", "Epochs", bpr, {"implicit": 3.0}, own={"deterministic": False}, repeat=5)
    yield Case("lmf 10 epochs", "Epochs", epochs | {"model": "lmf"}, {"implicit": 3.0}, repeat=3)
    frugal = epochs | {"model": "lmf"}
    yield Case("lmf, one negative an entry", "Epochs", frugal, {"implicit": 3.0}, own={"neg_prop": 1}, repeat=3)
    yield Case("bm25 fit", "Neighbours", {"data": "planted", "step": "fit"}, {"implicit": 2.0})
    yield Case("bm25 recommend", "Neighbours", {"data": "planted", "step": "recommend"}, {"implicit": 10.0}, repeat=3)
    yield Case("ranking_metrics_at_k", "Metrics", {"data": "planted", "factors": 64}, {"implicit": 8.0}, repeat=3)
    counts = {"data": "lastfm-counts"}
    split = {"path": "evaluation.train_test_split", "random_state": 5}
    yield Case("train_test_split", "Call", counts | split, {"implicit": 3.0}, repeat=3)
    leave = {"data": "lastfm-counts" if full else "planted", "path": "evaluation.leave_k_out_split"}
    yield Case("leave_k_out_split", "Call", leave, {"implicit": 50.0}, repeat=1)
    yield Case("bm25_weight", "Call", counts | {"path": "nearest_neighbours.bm25_weight"}, {"implicit": 2.0})
    yield Case("import", "Import", {}, {"implicit": 1.0}, repeat=9)
    yield Case("import, beyond NumPy", "Import", {"beyond_numpy": True}, {"implicit": 1.0}, repeat=9)


def scaling(full: bool) -> Iterator[Case]:
    """Recommendations by items; ours beside itself with one thread, and by entries."""
    if not full:
        return
    for items in (10_000, 20_000, 40_000, 80_000, 160_000):
        yield Case(f"recommend, {items} items", "Recommend", {"data": f"items-{items}", "factors": 64}, repeat=3)
    beside = {"targets": {ALONE: 1.85}, "libraries": (OURS, ALONE), "repeat": 9}
    yield Case("scaling of als 64", "Fit", {"data": BIG, "factors": 64}, **beside)
    yield Case("scaling of recommend", "Recommend", {"data": BIG, "factors": 64, "users": 20_000}, **beside)
    for entries in (12_500_000, 25_000_000, 50_000_000, 100_000_000):
        options = {"data": f"entries-{entries}", "factors": 64}
        yield Case(f"als 64, {entries} entries", "Fit", options, libraries=(OURS,), repeat=3)
    for entries in (6_250_000, 12_500_000, 25_000_000, 50_000_000):
        options = {"data": f"filled-{entries}", "factors": 64}
        yield Case(f"als 64, {entries} in one shape", "Fit", options, libraries=(OURS,), repeat=3)


def losses(full: bool) -> Iterator[Case]:
    """Loss against time, to what 15 iterations of a peer reach of its own objective."""
    if full:
        data = {"data": BIG, "factors": 64}
        yield Case("time to loss", "LossOverTime", data, {"implicit": 6.0}, (OURS, "implicit"), repeat=3)
        theirs = data | {"objective": "irspack"}
        yield Case("time to irspack's loss", "LossOverTime", theirs, {}, (OURS, "irspack"), repeat=1)


def measure(case: Case, threads: int) -> Report:
    """Measure a case, which may need a goal."""
    if case.task == "LossOverTime":
        peer = case.options.get("objective", "implicit")
        options = {**case.options, "iterations": 15}
        fits = compare.run(Case(case.name, "Fit", options, libraries=(peer,), repeat=14), threads)
        if peer not in fits.quality:
            raise RuntimeError(f"there is no goal without {peer}")
        case.options["goal"] = fits.quality[peer]["loss after 15"] * (1 + 1e-6)
    return compare.run(case, threads)


def all_cases(full: bool, data: dict[str, str]) -> list[Case]:
    """All rows."""
    return [*fits(full), *searches(full, data), *others(full), *scaling(full), *losses(full)]


def pattern(text: str) -> re.Pattern[str]:
    """An argument that is a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def named_file(text: str) -> tuple[str, str]:
    """An argument that names a file."""
    name, _, file = text.partition("=")
    if not file.endswith(".npz") or not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"must be NAME=FILE.npz with a file that is there, got {text!r}")
    return name, file


def main() -> None:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", type=pattern, default="", metavar="REGEX", help="only the rows whose name matches")
    parser.add_argument("--threads", type=compare.positive, default=2)
    parser.add_argument("--repeat", type=compare.positive, help="rounds, in place of each row's own number")
    parser.add_argument("--data", type=named_file, action="append", default=[], metavar="NAME=FILE.npz")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    args = parser.parse_args()
    data = dict(args.data)
    cases = all_cases(args.full, data)
    chosen = [case for case in cases if re.search(args.only, case.name)]
    if not chosen:
        more = [case.name for case in all_cases(True, data) if re.search(args.only, case.name)]
        known = f"but with --full {', '.join(more)}" if more else ", ".join(case.name for case in cases)
        parser.error(f"--only {args.only.pattern!r} matches none of the rows: {known}")
    reports, table = [], [compare.machine(), f"{args.threads} threads; median seconds; ratio peer / ours (target)", ""]
    print(*table, sep="\n")

    def add(report: Report) -> None:
        reports.append(report)
        table.extend(report.lines())
        print(*report.lines(), sep="\n", flush=True)
        args.out.mkdir(parents=True, exist_ok=True)
        compare.save(reports, args.out / "results.json")
        (args.out / "table.txt").write_text("\n".join(table) + "\n")

    start = time.time()
    for case in chosen:
        if case.repeat:  # else the first run counts, whatever was asked for
            case.repeat = args.repeat or case.repeat
        try:
            add(measure(case, args.threads))
        except RuntimeError as error:
            print(f"{case.name} is left out: {error}", file=sys.stderr)
    if not reports:
        sys.exit("nothing could be measured")
    plots.draw(args.out / "results.json", args.out)
    print(f"\nin {time.time() - start:.0f} s; every sample is in {args.out / 'results.json'}")


if __name__ == "__main__":
    main()
