"""What `evaluate`, `reproduce` and `compare` do, once their arguments are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from aosa_fast.cli.demo_model import DEFAULT_MODEL, tell_of_default
from aosa_fast.cli.folders import check_folder
from aosa_fast.cli.interrupts import command_line, resumable
from aosa_fast.cli.run_explain import changed
from aosa_fast.cli.terminal import write_fact, write_line
from aosa_fast.config import Config, read_box
from aosa_fast.data import Dataset, open_dataset
from aosa_fast.errors import InputError
from aosa_fast.evaluation import DEFAULT_METHODS, Settings, evaluate, parse_entries, write_results
from aosa_fast.evaluation.compare import COMPARED, compare
from aosa_fast.evaluation.entries import split_names
from aosa_fast.evaluation.journal import FILE
from aosa_fast.evaluation.paper import TABLES
from aosa_fast.evaluation.reproduce import ModelOnData, reproduce, scaled_radius
from aosa_fast.evaluation.scale import scaled_grid
from aosa_fast.models import Classifier
from aosa_fast.models.loading import load_on
from aosa_fast.progress import Progress, show_progress
from aosa_fast.video import atomic_path

TIMED_CLIPS = 3
EMBEDDED = ("demo", "demo-attention")

if TYPE_CHECKING:
    from aosa_fast.cli.evaluate import Compare, Evaluate, Reproduce


def run_evaluate(request: Evaluate, console: Console, errors: Console) -> None:
    """Evaluates, and writes the rows, the table and the curves.

    Raises:
        InputError: anything about the arguments, the data or the model that cannot be.
    """
    settings = Settings(
        metrics=tuple(split_names([request.metrics])), target=request.target, block=request.block, seed=request.seed,
        judge=request.judge or "",
    )  # fmt: skip
    check_folder(request.out)
    dataset = _dataset(request)
    model = request.model or DEFAULT_MODEL
    classifier = load_on(model, request.device)
    config = _scaled(request, classifier)
    radius = scaled_radius(classifier) if request.radius_px is None else request.radius_px
    entries = parse_entries(split_names(request.methods or []) or DEFAULT_METHODS, config)
    tell_of_default(request.model, console, request.data)
    with _working(errors, request.out, f"{dataset.name}, {len(dataset)} clips") as report:
        evaluation = evaluate(
            dataset, classifier, entries, request.out, replace(settings, radius=radius),
            model_name=model, retry=request.retry, progress=report,
        )  # fmt: skip
    files = write_results(evaluation, request.out, command_line())
    write_line(console, files["table"].read_text(encoding="utf-8"))
    for name, path in files.items():
        write_fact(console, name, str(path))


def run_reproduce(request: Reproduce, console: Console, errors: Console) -> None:
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
    for place, text in enumerate(request.model or EMBEDDED):
        heading, equals, spec = text.partition("=")
        if not equals or heading not in table.models:
            heading, spec = "", text
        paper = table.models.index(heading) if heading else min(place, len(table.models) - 1)
        columns.append(ModelOnData(text, paper, load_on(spec, request.device), dataset))
    methods, settings = split_names(request.methods or []), Settings(seed=request.seed)
    tell_of_default(request.model, console, request.data)
    with _working(errors, out, f"table {name}, {len(dataset)} clips") as report:
        text = reproduce(table, columns, out, settings, methods=methods, progress=report)
    text += f"\n`{command_line()}`\n"
    path = out / "table.md"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_line(console, text)
    write_fact(console, "table", str(path))


def run_compare(request: Compare, out: Path, console: Console, errors: Console) -> None:
    """Explains a clip with several methods, and writes one picture.

    Raises:
        InputError: as `run_evaluate`; the name of the picture does not end in .png or .jpg.
    """
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"out must end in .png or .jpg; got {out}")
    check_folder(out.parent, out.name)
    model = request.model or DEFAULT_MODEL
    classifier = changed(load_on(model, request.device), resize=request.resize)
    with show_progress(True, request.clip.name, errors) as report:
        comparison = compare(
            classifier, request.clip, split_names(request.methods or []) or COMPARED, request.target,
            start=request.start, config=_scaled(request, classifier), progress=report,
        )  # fmt: skip
    facts = next(iter(comparison.explanations.values())).metadata
    name, probability = facts["target"][0], f"p = {facts['probability'][0]:.3f}"
    comparison.save(out, columns=request.columns, title=f"why {name}?  ({probability}, {model})")
    tell_of_default(request.model, console)
    write_fact(console, "explained", f"{name} ({probability})")
    write_fact(console, "picture", str(out))


@contextmanager
def _working(errors: Console, out: Path, title: str) -> Iterator[Progress]:
    """Around what a later run goes on from: shows how far it is, and says what is kept where it is interrupted."""
    with resumable(errors, lambda: _kept(out)), show_progress(True, title, errors) as report:
        yield report


def _dataset(request: Evaluate | Reproduce) -> Dataset:
    dataset = open_dataset(request.data, annotations=request.annotations, split=request.split)
    # All clips too in the drawn order, of which any smaller number is the beginning: clips can be added later.
    limit = len(dataset) if request.limit is None and request.per_class is None else request.limit
    return dataset.select(request.per_class, limit, request.seed)


def _scaled(request: Evaluate | Compare, classifier: Classifier) -> Config:
    """The paper's anchors and boxes, as large against the model's input as they are against the paper's."""
    box = None if request.box is None else read_box(request.box)
    return replace(request.config, **scaled_grid(classifier.preprocessing.crop, request.stride, box))


def _kept(out: Path) -> str:
    # One record for an evaluation, one in a folder of its own for each column of a table; the first line names the run.
    records = [path for path in (out / FILE, *out.glob(f"*/{FILE}")) if path.is_file()]
    blocks = sum(max(path.read_bytes().count(b"\n") - 1, 0) for path in records)
    return f"{blocks} blocks of clips are kept in {out}" if blocks else "no block of clips was done yet"
