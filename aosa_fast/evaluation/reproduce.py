"""The paper's tables on this machine, beside the paper's numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from torch import nn

from aosa_fast.config import Config
from aosa_fast.data import Dataset
from aosa_fast.errors import InputError, VideoError
from aosa_fast.evaluation.bootstrap import Estimate
from aosa_fast.evaluation.entries import Entry, parse_entries
from aosa_fast.evaluation.measure import Settings
from aosa_fast.evaluation.paper import Number, Table
from aosa_fast.evaluation.run import evaluate
from aosa_fast.evaluation.scale import SIDE, scaled
from aosa_fast.evaluation.table import summarise
from aosa_fast.evaluation.timed import time_methods
from aosa_fast.files import refuse_link
from aosa_fast.models import Classifier
from aosa_fast.models.anatomy import find_anatomy
from aosa_fast.progress import Report

# Beyond the paper: its own rows would say little without a map that knows nothing, and AOSA-path is a row like others.
ADDED = ("aosa-path", "random", "centre", "motion", "motion-tubes")
RADIUS, OSA_STRIDE = 7.0, 8  # of the pointing game's disk, and of OSA, pixels of an input of SIDE
HALF = ":half-stride"
_HEADINGS = {
    "deletion": "deletion", "insertion": "insertion", "overall": "over-all", "spt": "S-PT", "seconds": "seconds",
    "overall_fill": "over-all (fill)",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ModelOnData:
    """A model on some data: a measured column.

    Attributes:
        name: what the column is called.
        paper: which of the table's models it stands for: its settings are used.
        classifier: the model.
        dataset: the clips.
    """

    name: str
    paper: int
    classifier: Classifier
    dataset: Dataset


def scaled_radius(classifier: Classifier) -> float:
    """The radius of the pointing game, 7 pixels at 112, as large against the model's input; not rounded."""
    return RADIUS * min(classifier.preprocessing.crop) / SIDE


def reproduce(
    table: Table,
    columns: Sequence[ModelOnData],
    out: Path,
    settings: Settings,
    *,
    methods: Sequence[str] = (),
    progress: Report | None = None,
) -> str:
    """Runs a table, and puts what came out beside the paper's numbers, as Markdown.

    Args:
        table: which.
        columns: the models and data to run it on.
        out: folder; each column has one of its own in it, from which an interrupted run goes on.
        settings: target, blocks and seed; metrics and radius are the table's.
        methods: rows in place of the table's and `ADDED`.
        progress: as for `evaluate`, one column after the other.

    Raises:
        InputError: as `evaluate`; S-PT of data without boxes.
    """
    rows = list(methods) or list(dict.fromkeys((*table.values, *ADDED)))
    metrics = ("pointing",) if table.quantities == ("spt",) else ("deletion", "pointing")
    quantities = table.quantities
    if "overall" in quantities or "insertion" in quantities:
        quantities = (*quantities, "overall_fill")
    names: list[str] = []
    cells, notes = [], []
    for column in columns:
        # The paper's settings, scaled to the input's side where that is another than the paper's.
        model, side = column.classifier, table.side[column.paper]
        stride, box = (
            scaled(pixels[column.paper], model.preprocessing.crop, side) for pixels in (table.stride, table.box)
        )
        entries = _entries(rows, Config(stride=stride, box=box, seed=settings.seed), column)
        names = [entry.name for entry in entries]
        entries = [entry for entry in entries if _is_possible(entry, column)]
        if quantities == ("seconds",):
            found, note = time_methods(model, column.dataset, entries, progress)
        else:
            if metrics == ("pointing",):
                _check_boxes(table, column)
            own = dataclasses.replace(settings, metrics=metrics, radius=scaled_radius(model))
            found, note = _measure(column, entries, quantities, out / _folder(column.name), own, progress)
        cells.append(found)
        notes.append(f"{column.name}: anchors every {stride} pixels, boxes of {box}, {note}.")
    return _markdown(table, columns, names, quantities, cells, notes)


def _measure(
    column: ModelOnData,
    entries: list[Entry],
    quantities: Sequence[str],
    folder: Path,
    settings: Settings,
    progress: Report | None,
) -> tuple[dict[str, list[Estimate]], str]:
    """By method, an estimate of each quantity; and a note on the clips."""
    refuse_link(folder, "folder")
    found = evaluate(
        column.dataset, column.classifier, entries, folder, settings, model_name=column.name, progress=progress
    )
    summaries = summarise(found.rows, [entry.name for entry in entries], seed=settings.seed)
    keys = ["spt_micro" if quantity == "spt" else quantity for quantity in quantities]
    clips = {row["clip"]: row["status"] for row in found.rows}
    left_out = sum(status == "error" for status in clips.values())
    note = f"radius {settings.radius:g} pixels; {len(clips)} clips, {left_out} left out; seed {settings.seed}"
    return {summary.method: [summary.estimates[key] for key in keys] for summary in summaries}, note


def _entries(rows: Sequence[str], config: Config, column: ModelOnData) -> list[Entry]:
    """The rows as methods; OSA keeps the step that it has in all of the paper, and half-stride is Table V's s = 4."""
    osa_stride = scaled(OSA_STRIDE, column.classifier.preprocessing.crop)
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


def _is_possible(entry: Entry, column: ModelOnData) -> bool:
    """Attention Rollout is for transformers only: the paper has no number for its other model either."""
    if entry.config.method != "attention-rollout":
        return True
    network = column.classifier.network
    anatomy = find_anatomy(network) if isinstance(network, nn.Module) else None
    return anatomy is not None and anatomy.attention is not None


def _check_boxes(table: Table, column: ModelOnData) -> None:
    """Finds out before hours of work whether the one thing that is asked for can be measured."""
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
    return plain if len(plain) < 60 and plain == name else f"{plain[:50]}-{sha256(name.encode()).hexdigest()[:8]}"


def _markdown(
    table: Table,
    columns: Sequence[ModelOnData],
    methods: Sequence[str],
    quantities: Sequence[str],
    measured: Sequence[Mapping[str, list[Estimate]]],
    notes: list[str],
) -> str:
    paper = " / ".join(_HEADINGS[name] for name in table.quantities)
    mine = " / ".join(_HEADINGS[name] for name in quantities)
    timed = quantities == ("seconds",)
    how = "median, and half of the range" if timed else "mean ± half of the 95 % bootstrap interval"
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
    most = max((cell.n for column in measured for cells in column.values() for cell in cells), default=0)
    for name in methods:
        known = table.values.get(name, ((None,),) * len(table.models))
        cells = [_numbers(values) for values in known]
        cells += [_estimates(column.get(name, []), most) for column in measured]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    notes += [table.note] if table.note else []
    if any("demo" in column.name or column.dataset.name.startswith("rendered") for column in columns):
        notes.append("Other networks and other data than the paper's: only the order of the methods can be compared.")
    if table.number == "VII":
        notes.append("The paper has S-PT from UCF101-24 and the rest from UCF101; here both are from the same clips.")
    return "\n".join(lines) + "".join(f"\n\n{note}" for note in notes) + "\n"


def _numbers(values: Sequence[Number]) -> str:
    return "-" if all(value is None for value in values) else " / ".join(f"{value:.3f}" for value in values)


def _estimates(cells: Sequence[Estimate], most: int) -> str:
    count = max((cell.n for cell in cells), default=most)
    text = " / ".join(map(str, cells)) or "-"
    return text if count == most else f"{text} (n = {count})"
