"""Pictures of figures: everybody on the same work, and how cost grows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aosa_fast.bench.rows import RESULTS, Row, read_rows
from aosa_fast.errors import InputError
from aosa_fast.files import atomic_path

# As the suite peers has them: its cases begin with whose they are.
RATIO = "time / (fwd + bwd)"
OURS, AUTHORS, FLOOR = "aosa_fast", "authors", "network"
_COLOURS = {OURS: "#c1432e", AUTHORS: "#444444", FLOOR: "#9aa0a6"}
_OTHERS = "#4878a8"
_WHO = {OURS: OURS, AUTHORS: "the authors' way", FLOOR: "the floor: one forward + backward"}


def plot(runs: Sequence[Path], what: str, out: Path) -> None:
    """Draws the rows of these runs, or the published ones, into a file.

    Raises:
        InputError: no such picture, a file that cannot be read or written, or no row for the picture.
    """
    if what not in _PICTURES:
        raise InputError(f"what must be one of {', '.join(_PICTURES)}; got {what}")
    rows = [row for path in runs or [RESULTS] for row in read_rows(path) if row["part"] == what]
    if not rows:
        raise InputError(f"what={what} must have rows: aosa-fast bench --suite {what} --json FILE makes them")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
    _PICTURES[what](figure, rows)
    with atomic_path(out) as part:
        try:
            figure.savefig(part)
        except ValueError as error:  # what Matplotlib says of a format that it does not write
            raise InputError(f"out must have a suffix that Matplotlib writes; got {out}: {error}") from error


def _peers(figure: Any, rows: Sequence[Row]) -> None:
    """Bars from the cheapest to the dearest, with p20 and p80, and the most memory beside."""
    chosen = sorted((row for row in rows if row["metric"] == RATIO), key=lambda row: -float(row["value"]))
    peaks = {row["case"]: row["peak_mb"] for row in rows if row["metric"] == "time"}
    axes = figure.subplots()
    most = max(float(row["p80"]) for row in chosen)
    for place, row in enumerate(chosen):
        low, value, high = (float(row[name]) for name in ("p20", "value", "p80"))
        colour = _COLOURS.get(row["case"].partition(",")[0], _OTHERS)
        axes.barh(place, value, color=colour, xerr=[[max(value - low, 0)], [max(high - value, 0)]], capsize=2.5)
        peak = peaks.get(row["case"])
        held = "" if peak is None else f"   {peak:,.0f} MB"
        axes.text(high * 1.06, place, f"{value:.3g}{held}", va="center", fontsize=7.5)
    axes.set_yticks(range(len(chosen)), [row["case"] for row in chosen], fontsize=8)
    axes.axvline(1, color=_COLOURS[FLOOR], lw=1, zorder=0)
    axes.set_xscale("log")
    axes.set_xlim(min(float(row["p20"]) for row in chosen) * 0.7, most * 4)
    axes.set_xlabel("time, in forwards + backwards of the network; beside it, the most memory it held", fontsize=9)
    _plain_ticks(axes.xaxis)
    axes.set_title("What a map of one clip costs: R3D-50, 16x112x112, flow included", fontsize=11)
    from matplotlib.patches import Patch

    known = {who: Patch(color=colour, label=_WHO[who]) for who, colour in _COLOURS.items()}
    others = Patch(color=_OTHERS, label="other packages")
    axes.legend(handles=[known[OURS], others, known[AUTHORS], known[FLOOR]], fontsize=8, loc="upper right")
    axes.annotate(_about(chosen), (0, 0), (0, -38), "axes fraction", textcoords="offset points", fontsize=6.5, va="top")


def _scaling(figure: Any, rows: Sequence[Row]) -> None:
    """A small picture for each size that grows, with the exponent that was fitted and the one expected."""
    sweeps: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["metric"] == "time":
            sweeps[row["case"].rpartition("=")[0]].append(row)
    fits = {row["case"]: row for row in rows if row["metric"].startswith("exponent of time")}
    columns = 3
    grid = figure.subplots(-(-len(sweeps) // columns), columns, squeeze=False).ravel()
    for axes, (name, own) in zip(grid, sweeps.items(), strict=False):
        sizes = np.array([float(row["case"].rpartition("=")[2]) for row in own])
        low, value, high = (np.array([float(row[key]) for row in own]) for key in ("p20", "value", "p80"))
        axes.errorbar(sizes, value, [np.maximum(value - low, 0), np.maximum(high - value, 0)], fmt="o-", capsize=2.5,
                      color=_COLOURS[OURS])  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.tick_params(which="both", labelsize=7)
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.set_xticks([], minor=True)
        _plain_ticks(axes.yaxis)
        axes.set_ylabel("ms", fontsize=7)
        title = name
        if name in fits:
            expected = fits[name]["metric"].rpartition(" ")[2]
            title += f"\nexponent {float(fits[name]['value']):.2f}, expected {expected}"
        axes.set_title(title, fontsize=8)
    for axes in grid[len(sweeps) :]:
        axes.set_visible(False)
    figure.supxlabel(_about([row for own in sweeps.values() for row in own]), fontsize=6.5)


def _plain_ticks(axis: Any) -> None:
    """1, 2, 5, 10, ... written as they are, on an axis of logarithms."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _about(rows: Sequence[Row]) -> str:
    row = rows[0]
    rounds = min(int(one["repeats"]) for one in rows)
    words = f"{row['machine']}, {row['threads']} threads, torch {row['torch']}, aosa_fast {row['aosa_fast']}"
    return f"medians of {rounds} interleaved rounds or more, bars from p20 to p80; {words}"


_PICTURES: dict[str, Callable[[Any, Sequence[Row]], None]] = {"peers": _peers, "scaling": _scaling}
