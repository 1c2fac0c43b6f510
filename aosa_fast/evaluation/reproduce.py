"""The paper's tables on this machine, beside the paper's numbers."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aosa_fast.config import Config
from aosa_fast.data import Dataset
from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import Estimate, interval, ratio_interval
from aosa_fast.evaluation.entries import Entry, parse_entries
from aosa_fast.evaluation.evaluate import Report, evaluate
from aosa_fast.evaluation.journal import Row
from aosa_fast.evaluation.measure import Settings
from aosa_fast.evaluation.paper import Number, Table
from aosa_fast.models import Classifier
from aosa_fast.models.anatomy import find_anatomy
from aosa_fast.pipeline import explain

# Beyond the paper: its own rows would say little without a map that knows nothing, and AOSA-path is a row like others.
ADDED = ("aosa-path", "random", "centre")
RADIUS, RADIUS_SIDE = 7.0, 112  # of the pointing game's disk, and the side it is meant for, pixels
_HEADINGS = {
    "deletion": "deletion", "insertion": "insertion", "overall": "over-all", "spt": "S-PT", "seconds": "seconds",
    "overall_fill": "over-all (fill)",
}  # fmt: skip
# Of STEP's iterations so many are timed: they all take the same.
_TIMED_STEPS = 40


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


def settings_of(table: Table, column: Column, settings: Settings) -> tuple[Config, Settings]:
    """The paper's settings for a model, scaled to its input's side where that is another than the paper's."""
    side = min(column.classifier.preprocessing.crop)
    scale = side / table.side[column.paper]
    config = Config(
        stride=max(1, round(table.stride[column.paper] * scale)), box=max(1, round(table.box[column.paper] * scale))
    )
    metrics = ("pointing",) if table.quantities == ("spt",) else ("deletion", "pointing")
    return config, dataclasses.replace(settings, metrics=metrics, radius=RADIUS * side / RADIUS_SIDE)


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
        InputError: as `evaluate`.
    """
    rows = tuple(methods) or table.methods + tuple(name for name in ADDED if name not in table.methods)
    if table.quantities == ("seconds",):
        measured = [_timed(table, column, rows, settings, report) for column in columns]
        quantities: tuple[str, ...] = table.quantities
    else:
        quantities = table.quantities
        if "overall" in quantities or "insertion" in quantities:
            quantities = (*quantities, "overall_fill")
        measured = []
        for column in columns:
            config, own = settings_of(table, column, settings)
            entries = [entry for entry in parse_entries(rows, config) if _possible(entry, column)]
            folder = out / "".join(c if c.isalnum() else "-" for c in column.name)
            found = evaluate(
                column.dataset, column.classifier, entries, folder, own, model_name=column.name, report=report
            )
            measured.append({entry.name: _cells(found.rows, entry, quantities, own.seed) for entry in entries})
    return _markdown(table, columns, [row.partition("@")[0] for row in rows], quantities, measured)


def _possible(entry: Entry, column: Column) -> bool:
    """Attention Rollout is for transformers only: the paper has no number for its other model either."""
    if entry.config.method != "attention-rollout":
        return True
    network = column.classifier.network
    anatomy = find_anatomy(network) if isinstance(network, nn.Module) else None
    return anatomy is not None and anatomy.attention is not None


def _cells(rows: Sequence[Row], entry: Entry, quantities: Sequence[str], seed: int) -> list[Estimate | float | None]:
    own = [row for row in rows if row["method"] == entry.name and row["status"] == "ok"]
    cells: list[Estimate | float | None] = []
    for quantity in quantities:
        key = "spt_frames" if quantity == "spt" else quantity
        have = [row for row in own if row.get(key) is not None]
        if not have:
            cells.append(None)
        elif quantity == "spt":
            hits, frames = (np.array([row[name] for row in have], float) for name in ("spt_hits", "spt_frames"))
            cells.append(ratio_interval(hits, frames, seed=seed))
        else:
            cells.append(interval(np.array([row[quantity] for row in have], float), seed=seed))
    return cells


def _timed(
    table: Table, column: Column, methods: Sequence[str], settings: Settings, report: Report | None
) -> dict[str, list[Estimate | float | None]]:
    """Median seconds per map, one clip at a time; a first run of each method is not counted."""
    config, _ = settings_of(table, column, settings)
    clips, refused = [], []
    for sample in column.dataset.samples:
        try:
            clips.append(torch.from_numpy(column.dataset.read(sample, column.classifier.preprocessing).frames[None]))
        except InputError as error:
            refused.append(str(error))
    if not clips:
        raise InputError(refused[0] if refused else f"{column.dataset.name}: must have at least one clip; got none")
    seconds: dict[str, list[Estimate | float | None]] = {}
    for number, name in enumerate(methods):
        plain, half, _ = name.partition(":half-stride")
        (entry,) = parse_entries([plain], config)
        if not _possible(entry, column):
            continue
        chosen = entry.config
        if half:
            chosen = dataclasses.replace(chosen, stride=max(1, round(config.stride / 2)))
        factor = 1.0
        if chosen.method == "step":
            factor = max(1.0, chosen.step_count / _TIMED_STEPS)
            chosen = dataclasses.replace(chosen, steps=min(chosen.step_count, _TIMED_STEPS))
        if report:
            report(number, len(methods), name)
        times = []
        for clip in (clips[0], *clips):
            start = time.perf_counter()
            _explain(column.classifier, clip, chosen)
            times.append((time.perf_counter() - start) * factor)
        seconds[name] = [statistics.median(times[1:])]
    return seconds


def _explain(classifier: Classifier, clip: torch.Tensor, config: Config) -> None:
    mean, std = classifier.preprocessing.mean, classifier.preprocessing.std
    explain(classifier.network, clip, config=config, mean=mean, std=std)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _markdown(
    table: Table,
    columns: Sequence[Column],
    methods: Sequence[str],
    quantities: Sequence[str],
    measured: Sequence[dict[str, list[Estimate | float | None]]],
) -> str:
    paper = " / ".join(_HEADINGS[name] for name in table.quantities)
    mine = " / ".join(_HEADINGS[name] for name in quantities)
    heads = [f"paper: {model}, {table.data}" for model in table.models]
    heads += [f"measured: {column.name}, {column.dataset.name}" for column in columns]
    lines = [
        f"# Table {table.number}: {table.title}",
        "",
        f"Paper: {paper}. Measured: {mine}"
        + ("." if table.quantities == ("seconds",) else ", mean ± half of the 95 % bootstrap interval over clips."),
        "",
        "| method | " + " | ".join(heads) + " |",
        "| --- |" + " --- |" * len(heads),
    ]
    for name in methods:
        known = table.values.get(name, ((None,) * len(table.quantities),) * len(table.models))
        cells = [_numbers(values) for values in known]
        cells += [_estimates(column.get(name)) for column in measured]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    notes = [table.note] if table.note else []
    if any(column.name.startswith("demo") or "rendered" in column.dataset.name for column in columns):
        notes.append("Other networks and other data than the paper's: only the order of the methods can be compared.")
    if table.quantities == ("seconds",):
        notes.append(
            f"Median over the clips, one at a time, on {torch.get_num_threads()} threads of the CPU"
            + (f" or {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "")
            + f"; STEP is timed for {_TIMED_STEPS} iterations and scaled to all."
        )
    return "\n".join(lines) + "".join(f"\n\n{note}" for note in notes) + "\n"


def _numbers(values: Sequence[Number]) -> str:
    return "-" if all(value is None for value in values) else " / ".join(f"{value:.3f}" for value in values)


def _estimates(cells: Sequence[Estimate | float | None] | None) -> str:
    if cells is None:
        return "-"
    return " / ".join(
        "-" if cell is None else f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells
    )
