"""The curves of deletion and insertion, mean over clips, as a picture (paper IV-B)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import Estimate, Floats, curve_intervals, interval
from aosa_fast.evaluation.measured import rows_by_method
from aosa_fast.evaluation.metrics import METRICS, Column, Row
from aosa_fast.evaluation.table import is_baseline
from aosa_fast.files import atomic_path
from aosa_fast.libraries import check_libraries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = [column for column in METRICS["deletion"].columns if column.kind == "reals"]
# Okabe and Ito's palette, which colour-blind eyes can tell apart, without the yellow, which is faint on white.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.2, 1.2, 1.2)), (0, (1.1, 1.1)))
_GREYS: dict[str, tuple[str, Any]] = {
    "random": ("#6e6e6e", (0, (2.2, 1.8))),
    "centre": ("#9c9c9c", (0, (6, 2.5))),
    "motion": ("#4c4c4c", (0, (1, 2.5))),
    "motion-tubes": ("#4c4c4c", (0, (6, 1.5, 1, 1.5))),
}
_LONGEST = 34  # characters of a method's name in the legend


@dataclass(frozen=True, eq=False)
class Line:
    """A method's mean curve over clips, (S,), the ends of its intervals, and the area under it."""

    method: str
    mean: Floats
    low: Floats
    high: Floats
    area: Estimate


def plot_curves(rows: Sequence[Row], methods: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draw the mean curves of all methods with 95 % bootstrap bands and their areas, as PNG.

    One panel each for deletion, insertion into the blurred clip, and insertion into the fill; those without data are
    left out. The legend is sorted by area, the best first, those that know no model last.

    Args:
        rows: one per clip and method, see `table.summarise`, with `deletion_curve`, `insertion_curve` and
            `insertion_fill_curve`: lists of scores at equal steps from 0 to 100 % of the voxels; any may be missing.
        methods: which to draw, in the order of their colours; 14 can be told apart well.
        path: the file, ending in .png, replaced if it exists.

    Raises:
        InputError: matplotlib is missing, no curves, curves of different lengths in one panel or not finite, or the
            file cannot be written.
    """
    check_libraries("matplotlib.figure", extra="evaluate", what="curves")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not os.fspath(path).lower().endswith(".png"):
        raise InputError(f"{os.fspath(path)}: must end in .png")
    found = [(panel, lines) for panel in _PANELS if (lines := mean_lines(rows, methods, panel))]
    if not found:
        keys = ", ".join(panel.key for panel in _PANELS)
        raise InputError(f"rows must have curves of {', '.join(methods)}; got none of {keys}")
    styles = line_styles(methods)
    legend = 0.3 + 0.2 * max(len(lines) for _, lines in found)  # inches, as all that follows
    figure = Figure(figsize=(0.45 + 4.3 * len(found), 4.1 + legend), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    low, high = _limits([line for _, lines in found for line in lines])
    for i, (panel, lines) in enumerate(found):
        width, height = figure.get_size_inches()
        axes = figure.add_axes(((0.7 + 4.3 * i) / width, (0.65 + legend) / height, 3.75 / width, 3.1 / height))
        _draw(axes, lines, styles)
        axes.set(title=panel.heading, xlabel=panel.meaning, xlim=(0, 100), ylim=(low, high))
        if i == 0:
            axes.set_ylabel("score of the class, mean over clips")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def mean_lines(rows: Sequence[Row], methods: Sequence[str], column: Column) -> list[Line]:
    """The methods that have this curve, best area first, baselines last."""
    own = rows_by_method(rows)
    lines: list[Line] = []
    for method in methods:
        values = [row.get(column.key) for row in own.get(method, {}).values()]
        # pandas reads a missing list as NaN.
        curves = [np.asarray(value, np.float64) for value in values if isinstance(value, Sequence | np.ndarray)]
        if not curves:
            continue
        length = len(lines[0].mean) if lines else len(curves[0])
        for curve in curves:
            if len(curve) != length or length < 2 or not np.isfinite(curve).all():
                raise InputError(
                    f"{column.key} must be finite, of one length for all clips, at least 2; got {len(curve)} and "
                    f"{length} values for {method}"
                )
        table = np.stack(curves)
        areas = (table[:, 1:] + table[:, :-1]).mean(1) / 2
        lines.append(Line(method, *curve_intervals(table), interval(areas)))
    return sorted(lines, key=lambda line: (is_baseline(line.method), -column.better * line.area.mean))


def line_styles(methods: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Colour and dashes of each method, the same in all panels."""
    ranked = [method for method in methods if not is_baseline(method)]
    styles = {
        method: (_COLORS[i % len(_COLORS)], _DASHES[i // len(_COLORS) % len(_DASHES)])
        for i, method in enumerate(ranked)
    }
    return styles | {
        method: _GREYS.get(method.partition(":")[0], _GREYS["random"]) for method in methods if is_baseline(method)
    }


def _limits(lines: Sequence[Line]) -> tuple[float, float]:
    """One scale for all panels, from 0, since their areas are compared."""
    low = min(0.0, *(float(line.low.min()) for line in lines))
    high = max(1e-9, *(float(line.high.max()) for line in lines))
    room = 0.04 * (high - low)
    return low - room * (low < 0), high + room


def _draw(axes: Axes, lines: Sequence[Line], styles: dict[str, tuple[str, Any]]) -> None:
    handles = []
    for line in lines:
        color, dashes = styles[line.method]
        at = np.linspace(0, 100, len(line.mean))
        rank = 1 if is_baseline(line.method) else 2
        axes.fill_between(at, line.low, line.high, color=color, alpha=0.13, linewidth=0, zorder=rank)
        handles += axes.plot(at, line.mean, color=color, linestyle=dashes, linewidth=1.7, zorder=rank + 2)
    most = max(line.area.n for line in lines)
    texts = [
        f"{line.area.text(3)}   {_short(line.method)}" + (f" ({line.area.n} clips)" if line.area.n < most else "")
        for line in lines
    ]
    axes.grid(color="#e4e4e8", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(
        handles,
        texts,
        title="area ± half of the 95 % interval",
        loc="upper left",
        bbox_to_anchor=(-0.03, -0.175),
        borderaxespad=0,
        frameon=False,
        fontsize=8.5,
        title_fontsize=8.5,
        handlelength=3.4,
        alignment="left",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a $ in a name is no formula


def _short(method: str) -> str:
    line = " ".join(method.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
