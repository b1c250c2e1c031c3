"""Draws what ``python -m benchmarks`` measured, as SVG: only the plots for which the results have figures.

python -m benchmarks.plots RESULTS.json FOLDER
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLOURS = {"implicit_core": "#2a6f97", "implicit": "#e07a5f", "irspack": "#81b29a"}
Row = dict[str, Any]


def median(row: Row, library: str) -> float:
    """The median of a library's samples."""
    return statistics.median(row["samples"][library])


def matching(rows: list[Row], pattern: str) -> list[tuple[str, Row]]:
    """Rows whose whole name matches, with the first group of the pattern."""
    found = [(re.fullmatch(pattern, row["case"]["name"]), row) for row in rows]
    return [(match[1], row) for match, row in found if match]


def bars(axes: Any, rows: list[tuple[str, Row]], value: Callable[[Row, str], float]) -> None:
    """A group of bars for each row, a bar for each library."""
    libraries = [name for name in COLOURS if any(name in row["samples"] for _, row in rows)]
    for place, library in enumerate(libraries):
        at = [i + 0.8 * (place + 0.5) / len(libraries) - 0.4 for i in range(len(rows))]
        heights = [value(row, library) if library in row["samples"] else 0.0 for _, row in rows]
        drawn = axes.bar(at, heights, 0.75 / len(libraries), label=library, color=COLOURS[library])
        axes.bar_label(drawn, fmt="%.3g", fontsize=7)
    axes.set_xticks(range(len(rows)), [label for label, _ in rows])
    if rows:
        axes.legend()


def by_factors(axes: Any, rows: list[Row]) -> bool:
    """Seconds of an iteration."""
    chosen = matching(rows, r"als (\d+)")
    bars(axes, chosen, median)
    axes.set(xlabel="factors", ylabel="seconds per iteration", title="ALS on lastfm-shaped (358,868 × 292,385)")
    return bool(chosen)


def recommendations(axes: Any, rows: list[Row]) -> bool:
    """Seconds, by data set."""
    chosen = [(name, row) for name, row in matching(rows, r"recommend (\S+)") if row["case"]["task"] == "Recommend"]
    bars(axes, chosen, median)
    axes.set(ylabel="seconds (log)", yscale="log", title="recommend: ten items for many users, exactly")
    return bool(chosen)


def by_items(axes: Any, rows: list[Row]) -> bool:
    """Users a second, by items."""
    chosen = matching(rows, r"recommend, (\d+) items")
    for library in ("implicit_core", "implicit"):
        points = [(int(n), 10_000 / median(row, library)) for n, row in chosen if library in row["samples"]]
        axes.loglog(
            *zip(*points, strict=True) if points else ((), ()), marker="o", label=library, color=COLOURS[library]
        )
    axes.set(xlabel="items", ylabel="users per second", title="recommend: ten of N items, 64 factors")
    if chosen:
        axes.legend()
    return bool(chosen)


def memory(axes: Any, rows: list[Row]) -> bool:
    """Peak memory of a fit."""
    chosen = matching(rows, r"als (64) memory")
    bars(axes, chosen, median)
    axes.set(xlabel="factors", ylabel="MB above the input", title="Peak memory of fit, lastfm-shaped")
    return bool(chosen)


def loss(axes: Any, rows: list[Row]) -> bool:
    """Loss against time."""
    chosen = matching(rows, r"time to (loss|irspack's loss)")
    for kind, row in chosen:
        style, of = ("-", "") if kind == "loss" else ("--", ", objective of irspack")
        for library, curve in row["curves"].items():
            axes.plot(*zip(*curve, strict=True), style, marker=".", label=library + of, color=COLOURS[library])
    axes.set(xlabel="seconds", ylabel="loss", title="Loss against time, 64 factors, lastfm-shaped")
    if chosen:
        axes.legend()
    return bool(chosen)


def threads(axes: Any, rows: list[Row]) -> bool:
    """How much faster two threads are."""
    chosen = matching(rows, r"scaling of (.+)")
    for work, row in chosen:
        pairs = zip(row["samples"]["implicit_core@1"], row["samples"]["implicit_core"], strict=True)
        axes.plot([1, 2], [1, statistics.median(one / two for one, two in pairs)], marker="o", label=work)
    axes.set(xlabel="threads", ylabel="times as fast as one thread", title="Scaling with threads")
    if chosen:
        axes.legend()
    return bool(chosen)


def entries(axes: Any, rows: list[Row]) -> bool:
    """Time by stored entries."""
    kinds = {"entries": "of a matrix that grows with them", "in one shape": "of a matrix of 255,102 × 208,333"}
    for kind, label in kinds.items():
        chosen = matching(rows, rf"als 64, (\d+) {kind}")
        points = [(int(count), median(row, "implicit_core")) for count, row in chosen]
        axes.loglog(*zip(*points, strict=True) if points else ((), ()), marker="o", label=label)
    axes.set(xlabel="stored entries", ylabel="seconds per iteration", title="Scaling with entries, 64 factors")
    if chosen:
        axes.legend()
    return bool(chosen)


def draw(results: Path, folder: Path) -> None:
    """Write ``NAME.svg`` for each plot that the results have figures for."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        print("matplotlib is not installed, so that there are no plots")
        return
    measured = json.loads(results.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    for plot in (by_factors, recommendations, by_items, memory, loss, threads, entries):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        if plot(figure.subplots(), measured["reports"]):
            figure.text(0.99, 0.005, measured["machine"], ha="right", fontsize=5, color="gray")
            with rc_context({"svg.hashsalt": plot.__name__}):  # for the same file from the same figures
                figure.savefig(folder / f"{plot.__name__}.svg", metadata={"Date": None})


def main() -> None:
    """Draw the plots of a run again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, metavar="RESULTS.json")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    draw(args.results, args.folder)


if __name__ == "__main__":
    main()
