"""The paper's tables on this machine, beside the paper's numbers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from aosa_fast.config import Config
from aosa_fast.data import Dataset
from aosa_fast.errors import InputError, VideoError
from aosa_fast.evaluation.bootstrap import Estimate
from aosa_fast.evaluation.entries import Entry, parse_entries
from aosa_fast.evaluation.evaluate import Report, evaluate
from aosa_fast.evaluation.measure import Settings
from aosa_fast.evaluation.paper import Number, Table
from aosa_fast.evaluation.table import summarise
from aosa_fast.evaluation.timed import time_methods
from aosa_fast.files import refuse_link
from aosa_fast.models import Classifier
from aosa_fast.models.anatomy import find_anatomy

# Beyond the paper: its own rows would say little without a map that knows nothing, and AOSA-path is a row like others.
ADDED = ("aosa-path", "random", "centre")
RADIUS, OSA_STRIDE, SIDE = (
    7.0,
    8,
    112,
)  # of the pointing game's disk and of OSA, and the side they are meant for, pixels
HALF = ":half-stride"
_HEADINGS = {
    "deletion": "deletion", "insertion": "insertion", "overall": "over-all", "spt": "S-PT", "seconds": "seconds",
    "overall_fill": "over-all (fill)",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Column:
    """A model on some data.

    Attributes:
        name: what the measured column is called.
        paper: which of the table's models it stands for: its settings are used.
        classifier: the model.
        dataset: the clips.
    """

    name: str
    paper: int
    classifier: Classifier
    dataset: Dataset


@dataclass(frozen=True)
class Measured:
    """A column of results.

    Attributes:
        cells: by method, an estimate for each quantity; None where there is none.
        note: settings and clips.
    """

    cells: dict[str, list[Estimate | None]]
    note: str


def scaled(pixels: int, classifier: Classifier, side: int = SIDE) -> int:
    """A length that is meant for inputs of `side` pixels, as large against the model's own input; at least 1."""
    return max(1, round(pixels * (min(classifier.preprocessing.crop) / side)))


def scaled_radius(classifier: Classifier) -> float:
    """The radius of the pointing game, 7 pixels at 112, likewise; not rounded."""
    return RADIUS * min(classifier.preprocessing.crop) / SIDE


def settings_of(table: Table, column: Column, settings: Settings) -> tuple[Config, Settings]:
    """The paper's settings for a model, scaled to its input's side where that is another than the paper's."""
    model, side = column.classifier, table.side[column.paper]
    stride, box = (scaled(pixels[column.paper], model, side) for pixels in (table.stride, table.box))
    config = Config(stride=stride, box=box, seed=settings.seed)
    metrics = ("pointing",) if table.quantities == ("spt",) else ("deletion", "pointing")
    return config, dataclasses.replace(settings, metrics=metrics, radius=scaled_radius(model))


def reproduce(
    table: Table,
    columns: Sequence[Column],
    out: Path,
    settings: Settings,
    *,
    methods: Sequence[str] = (),
    report: Report | None = None,
) -> str:
    """Runs a table, and puts what came out beside the paper's numbers.

    Args:
        table: which.
        columns: the models and data to run it on.
        out: folder; each column has one of its own in it, from which an interrupted run goes on.
        settings: target, blocks and seed; metrics and radius are the table's.
        methods: rows in place of the table's and `ADDED`.
        report: as for `evaluate`.

    Returns:
        Markdown.

    Raises:
        InputError: as `evaluate`; S-PT of data without boxes.
    """
    rows = tuple(methods) or table.methods + tuple(name for name in ADDED if name not in table.methods)
    timed = table.quantities == ("seconds",)
    quantities = table.quantities
    if "overall" in quantities or "insertion" in quantities:
        quantities = (*quantities, "overall_fill")
    keys = ["spt_micro" if quantity == "spt" else quantity for quantity in quantities]
    names: list[str] = []
    measured = []
    for column in columns:
        config, own = settings_of(table, column, settings)
        entries = _entries(rows, config, column)
        names = [entry.name for entry in entries]
        entries = [entry for entry in entries if _possible(entry, column)]
        note = f"{column.name}: anchors every {config.stride} pixels, boxes of {config.box}, "
        if timed:
            seconds, note_of_times = time_methods(column.classifier, column.dataset, entries, report)
            measured.append(Measured({name: [value] for name, value in seconds.items()}, note + note_of_times))
            continue
        _check_boxes(table, column)
        folder = out / _folder(column.name)
        refuse_link(folder, "folder")
        found = evaluate(column.dataset, column.classifier, entries, folder, own, model_name=column.name, report=report)
        cells = {
            summary.method: [summary.estimates[key] if summary.estimates[key].n else None for key in keys]
            for summary in summarise(found.rows, [entry.name for entry in entries], seed=own.seed)
        }
        clips = {row["clip"]: row["status"] for row in found.rows}
        note += (
            f"radius {own.radius:g} pixels; {len(clips)} clips, {sum(s == 'error' for s in clips.values())} left out"
        )
        measured.append(Measured(cells, f"{note}; seed {own.seed}"))
    return _markdown(table, columns, names, quantities, measured)


def _entries(rows: Sequence[str], config: Config, column: Column) -> list[Entry]:
    """The rows as methods; OSA keeps the step that it has in all of the paper, and half-stride is Table V's s = 4."""
    osa_stride = scaled(OSA_STRIDE, column.classifier)
    made: list[Entry] = []
    for row in rows:
        (entry,) = parse_entries([row.replace(HALF, "")], config)
        if HALF in row:
            half = dataclasses.replace(entry.config, stride=max(1, round(config.stride / 2)))
            entry = dataclasses.replace(entry, name=entry.name + HALF, config=half)
        if entry.config.method == "osa" and "stride=" not in entry.name:
            entry = dataclasses.replace(entry, config=dataclasses.replace(entry.config, stride=osa_stride))
        if any(other.name == entry.name for other in made):
            raise InputError(f"methods must differ; got {entry.name} twice")
        made.append(entry)
    return made


def _possible(entry: Entry, column: Column) -> bool:
    """Attention Rollout is for transformers only: the paper has no number for its other model either."""
    if entry.config.method != "attention-rollout":
        return True
    network = column.classifier.network
    anatomy = find_anatomy(network) if isinstance(network, nn.Module) else None
    return anatomy is not None and anatomy.attention is not None


def _check_boxes(table: Table, column: Column) -> None:
    """Finds out before hours of work whether the one thing that is asked for can be measured."""
    if table.quantities != ("spt",):
        return
    for sample in column.dataset.samples:
        try:
            boxes = column.dataset.read(sample, column.classifier.preprocessing).boxes
        except VideoError:
            continue
        if boxes is None:
            raise InputError(f"{column.dataset.name}: must have boxes for table {table.number}; it has none")
        return


def _folder(name: str) -> str:
    """A folder's name for a model's, which may be a path of any length."""
    plain = "".join(c if c.isalnum() else "-" for c in name)
    return (
        plain if len(plain) < 60 and plain == name else f"{plain[:50]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )


def _markdown(
    table: Table,
    columns: Sequence[Column],
    methods: Sequence[str],
    quantities: Sequence[str],
    measured: Sequence[Measured],
) -> str:
    paper = " / ".join(_HEADINGS[name] for name in table.quantities)
    mine = " / ".join(_HEADINGS[name] for name in quantities)
    how = (
        "median, and half of the range" if quantities == ("seconds",) else "mean ± half of the 95 % bootstrap interval"
    )
    heads = [f"paper: {model}, {table.data}" for model in table.models]
    heads += [f"measured: {column.name}, {column.dataset.name}" for column in columns]
    lines = [
        f"# Table {table.number}: {table.title}",
        "",
        f"Paper: {paper}. Measured: {mine}, {how} over clips.",
        "",
        "| method | " + " | ".join(heads) + " |",
        "| --- |" + " --- |" * len(heads),
    ]
    most = max((cell.n for m in measured for cells in m.cells.values() for cell in cells if cell), default=0)
    for name in methods:
        known = table.values.get(name, ((None,) * len(table.quantities),) * len(table.models))
        cells = [_numbers(values) for values in known] + [
            _estimates(column.cells.get(name), most) for column in measured
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    notes = [column.note + "." for column in measured] + ([table.note] if table.note else [])
    if any("demo" in column.name or column.dataset.name.startswith("rendered") for column in columns):
        notes.append("Other networks and other data than the paper's: only the order of the methods can be compared.")
    if table.number == "VII":
        notes.append("The paper has S-PT from UCF101-24 and the rest from UCF101; here both are from the same clips.")
    return "\n".join(lines) + "".join(f"\n\n{note}" for note in notes) + "\n"


def _numbers(values: Sequence[Number]) -> str:
    return "-" if all(value is None for value in values) else " / ".join(f"{value:.3f}" for value in values)


def _estimates(cells: Sequence[Estimate | None] | None, most: int) -> str:
    if cells is None:
        return "-"
    text = " / ".join("-" if cell is None else str(cell) for cell in cells)
    count = max((cell.n for cell in cells if cell), default=0)
    return text if count == most else f"{text} (n = {count})"
