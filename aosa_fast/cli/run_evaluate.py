"""What `evaluate`, `reproduce` and `compare` do, once their arguments are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from aosa_fast.cli.interrupts import command_line, resumable
from aosa_fast.cli.progress import show_progress
from aosa_fast.cli.run_explain import changed, check_folder, read_views
from aosa_fast.config import Config, read_box
from aosa_fast.data import Dataset, open_dataset
from aosa_fast.errors import InputError
from aosa_fast.evaluation import DEFAULT_METHODS, Evaluation, Settings, evaluate, parse_entries, write_results
from aosa_fast.evaluation.entries import split_names
from aosa_fast.evaluation.journal import FILE
from aosa_fast.evaluation.paper import TABLES
from aosa_fast.evaluation.reproduce import Column, reproduce, scaled, scaled_radius
from aosa_fast.models import Classifier
from aosa_fast.models.loading import load_on
from aosa_fast.pipeline import explain
from aosa_fast.video import atomic_path, write_image
from aosa_fast.video.comparison import comparison_sheet

STRIDE, BOX = 8, 16  # the paper's, for inputs of 112 pixels
TIMED_CLIPS = 3
COMPARED = ("grad-cam", "osa", "smoothgrad", "aosa", "aosa-approx", "aosa-path")
EMBEDDED = ("demo", "demo-attention")


@dataclass(frozen=True)
class EvaluationRequest:
    """One call of `aosa-fast evaluate`; see its help."""

    data: str
    model: str
    methods: list[str]
    metrics: str
    target: str
    annotations: str | None
    split: str | None
    limit: int | None
    per_class: int | None
    seed: int
    device: str
    radius: float | None
    block: int
    retry: bool
    out: Path
    stride: int | None
    box: str | None
    config: Config


@dataclass(frozen=True)
class ReproduceRequest:
    """One call of `aosa-fast reproduce`; see its help."""

    table: str
    data: str
    models: list[str]
    methods: list[str]
    annotations: str | None
    split: str | None
    limit: int | None
    per_class: int | None
    seed: int
    device: str
    out: Path | None


@dataclass(frozen=True)
class CompareRequest:
    """One call of `aosa-fast compare`; see its help."""

    clip: Path
    model: str
    methods: list[str]
    target: str
    device: str
    start: str
    resize: str | None
    columns: int
    stride: int | None
    box: str | None
    out: Path
    config: Config


def run_evaluate(request: EvaluationRequest, console: Console, errors: Console) -> Evaluation:
    """Evaluates, and writes the rows, the table and the curves.

    Raises:
        InputError: anything about the arguments, the data or the model that cannot be.
    """
    settings = Settings(
        metrics=tuple(split_names([request.metrics])), target=request.target, block=request.block, seed=request.seed
    )
    check_folder(request.out)
    dataset = _dataset(request)
    classifier = load_on(request.model, request.device)
    config = _scaled(request.config, classifier, request.stride, request.box)
    radius = scaled_radius(classifier) if request.radius is None else request.radius
    entries = parse_entries(split_names(request.methods) or DEFAULT_METHODS, config)
    with (
        resumable(errors, lambda: _kept(request.out)),
        show_progress(errors, f"{dataset.name}, {len(dataset)} clips") as report,
    ):
        evaluation = evaluate(
            dataset,
            classifier,
            entries,
            request.out,
            replace(settings, radius=radius),
            model_name=request.model,
            retry=request.retry,
            report=report,
        )
    files = write_results(evaluation, request.out, command_line())
    console.print(files["table"].read_text(encoding="utf-8"), highlight=False, markup=False, soft_wrap=True)
    for name, path in files.items():
        console.print(f"{name:<10} {path}", highlight=False, markup=False, soft_wrap=True)
    return evaluation


def run_reproduce(request: ReproduceRequest, console: Console, errors: Console) -> Path:
    """Runs a table of the paper, and writes it to table.md.

    Raises:
        InputError: as `run_evaluate`, or an unknown table or column.
    """
    numbers = dict(zip("1234567", TABLES, strict=True))
    name = numbers.get(request.table, request.table.upper())
    if name not in TABLES:
        raise InputError(f"table must be I to VII, or 1 to 7; got {request.table}")
    table = TABLES[name]
    out = request.out or Path("out") / f"table-{name}"
    check_folder(out)
    if name == "V" and not (request.limit or request.per_class):
        request = replace(request, limit=TIMED_CLIPS)
    dataset = _dataset(request)
    columns = []
    for place, text in enumerate(request.models or EMBEDDED):
        heading, equals, spec = text.partition("=")
        if not equals or heading not in table.models:
            heading, spec = "", text
        paper = table.models.index(heading) if heading else min(place, len(table.models) - 1)
        columns.append(Column(text, paper, load_on(spec, request.device), dataset))
    with (
        resumable(errors, lambda: _kept(out)),
        show_progress(errors, f"table {name}, {len(dataset)} clips") as report,
    ):
        text = reproduce(
            table,
            columns,
            out,
            Settings(seed=request.seed),
            methods=split_names(request.methods),
            report=report,
        )
    text += f"\n`{command_line()}`\n"
    path = out / "table.md"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"table      {path}", highlight=False, markup=False, soft_wrap=True)
    return path


def run_compare(request: CompareRequest, console: Console, errors: Console) -> Path:
    """Explains a clip with several methods, and writes one picture.

    Raises:
        InputError: as `run_evaluate`; the name of the picture does not end in .png or .jpg.
    """
    if request.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"out must end in .png or .jpg; got {request.out}")
    check_folder(request.out.parent, request.out.name)
    classifier = changed(load_on(request.model, request.device), resize=request.resize)
    _, cropped, display = read_views(request.clip, classifier.preprocessing, request.start)
    config = _scaled(request.config, classifier, request.stride, request.box)
    entries = parse_entries(split_names(request.methods) or COMPARED, config)
    pictures = torch.from_numpy(cropped[None])
    maps, name, probability = [], "", 0.0
    with show_progress(errors, request.clip.name) as report:
        for number, entry in enumerate(entries):
            report(number, len(entries), entry.name)
            found = explain(classifier, pictures, request.target, config=entry.config)
            name, probability = found.metadata["target"][0], found.metadata["probability"][0]
            maps.append((entry.name, found.saliency[0].numpy(), found.config.unit))
    title = f"why {name}?  (p = {probability:.3f}, {request.model})"
    sheet = comparison_sheet(display, maps, title=title, columns=request.columns)
    write_image(request.out, sheet)
    console.print(f"explained  {name} (p = {probability:.3f})", highlight=False, markup=False, soft_wrap=True)
    console.print(f"picture    {request.out}", highlight=False, markup=False, soft_wrap=True)
    return request.out


def _dataset(request: EvaluationRequest | ReproduceRequest) -> Dataset:
    dataset = open_dataset(request.data, annotations=request.annotations, split=request.split)
    # All clips too in the drawn order, of which any smaller number is the beginning: clips can be added later.
    limit = len(dataset) if request.limit is None and request.per_class is None else request.limit
    return dataset.select(request.per_class, limit, request.seed)


def _scaled(config: Config, classifier: Classifier, stride: int | None, box: str | None) -> Config:
    """The paper's anchors and boxes, as large against the model's input as they are against the paper's."""
    return replace(
        config,
        stride=scaled(STRIDE, classifier) if stride is None else stride,
        box=scaled(BOX, classifier) if box is None else read_box(box),
    )


def _kept(out: Path) -> str:
    # One record for an evaluation, one in a folder of its own for each column of a table; the first line names the run.
    records = [path for path in (out / FILE, *out.glob(f"*/{FILE}")) if path.is_file()]
    blocks = sum(max(path.read_bytes().count(b"\n") - 1, 0) for path in records)
    return f"{blocks} blocks of clips are kept in {out}" if blocks else "no block of clips was done yet"
