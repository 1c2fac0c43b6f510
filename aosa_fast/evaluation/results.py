"""What an evaluation leaves behind: the rows as Parquet, the tables as Markdown, the curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aosa_fast.evaluation.bootstrap import interval
from aosa_fast.evaluation.columns import PROTOCOL_SUFFIXES
from aosa_fast.evaluation.curves import plot_curves
from aosa_fast.evaluation.metrics import FACTS, METRICS, Metric, Row
from aosa_fast.evaluation.ranks import rank_markdown
from aosa_fast.evaluation.run import Evaluation
from aosa_fast.evaluation.table import markdown_table, paired_markdown, summarise
from aosa_fast.evaluation.verdicts import compare_with_controls
from aosa_fast.files import atomic_path
from aosa_fast.libraries import check_libraries
from aosa_fast.methods.registry import METHODS
from aosa_fast.metrics import PROTOCOLS

_SHOWN = 10  # errors that are listed


def write_results(evaluation: Evaluation, out: Path, command: str) -> dict[str, Path]:
    """Writes results.parquet, table.md and, with deletion among the metrics, curves.png.

    Args:
        evaluation: what was found.
        out: the folder, which exists.
        command: the command line that makes these results.

    Returns:
        The files by name.

    Raises:
        InputError: a library is missing, or the folder cannot be written.
    """
    files = {"rows": out / "results.parquet", "table": out / "table.md"}
    _write_rows(evaluation, files["rows"])
    with atomic_path(files["table"]) as temporary:
        temporary.write_text(str(_text(_markdown(evaluation, command))), encoding="utf-8")
    if any(row.get("deletion_curve") for row in evaluation.rows):
        files["curves"] = out / "curves.png"
        plot_curves(evaluation.rows, [entry.name for entry in evaluation.entries], files["curves"])
    return files


def _write_rows(evaluation: Evaluation, path: Path) -> None:
    """One row per clip and method; the file's metadata hold the identity of the run, the configs and the protocols."""
    check_libraries("pyarrow", extra="evaluate")
    import pyarrow
    import pyarrow.parquet

    text, real = pyarrow.string(), pyarrow.float64()
    kinds = {
        "text": text, "whole": pyarrow.int64(), "truth": pyarrow.bool_(), "real": real,
        "reals": pyarrow.list_(real), "texts": pyarrow.list_(text),
    }  # fmt: skip
    columns = [*FACTS, *(column for metric in METRICS.values() for column in metric.columns)]
    types = [(column.key, kinds[kind]) for kind in kinds for column in columns if column.kind == kind]
    facts = {
        "aosa_fast": evaluation.identity,
        "configs": {entry.name: entry.config.as_dict() for entry in evaluation.entries},
        "protocols": {name: PROTOCOLS[name].as_dict() for name in PROTOCOL_SUFFIXES},
    }
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    rows = [{name: _text(value) for name, value in row.items()} for row in evaluation.rows]
    table = pyarrow.Table.from_pylist(rows, pyarrow.schema(types, metadata=metadata))
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def _markdown(evaluation: Evaluation, command: str) -> str:
    """The tables with all that is needed to read them, as Markdown."""
    names = [entry.name for entry in evaluation.entries]
    rows, identity = evaluation.rows, evaluation.identity
    seed = identity["settings"]["seed"]
    summaries = summarise(rows, names, seed=seed)
    known = [f"`{method.name}`" for method in METHODS.own() if not method.knows_model]
    parts = [
        f"# {identity['model']} on {identity['data']}",
        f"`{command}`",
        _counts(evaluation),
        "Mean ± half of the 95 % bootstrap interval over clips. Best in bold, second best underlined, among methods "
        f"run on nine tenths of the clips. {', '.join(known[:-1])} and {known[-1]} know nothing of the model: "
        "where they do well, the column says nothing.",
        markdown_table(summaries),
        compare_with_controls(rows, names, seed=seed),
        rank_markdown(summaries),
    ]
    references = [name for name in names if (method := METHODS.get(name.split(":")[0])) and method.has_tubes]
    if references and any(row.get("overall_fill") is not None for row in rows):
        parts.append("## Paired differences")
        parts += [paired_markdown(rows, names, references, column=column) for column in ("overall_fill", "overall")]
    for metric in METRICS.values():
        parts += _own_table(metric, rows, names, seed) if metric.title else []
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _counts(evaluation: Evaluation) -> str:
    rows, identity = evaluation.rows, evaluation.identity
    settings = identity["settings"]
    good = {row["clip"]: row for row in rows if row["status"] == "ok"}
    errors: dict[str, str] = {}
    for row in rows:
        if row["status"] == "error":
            errors.setdefault(row["clip"], row["error"])
    explained = "the true class" if settings["target"] == "label" else "the predicted class"
    lines = [f"{len({row['clip'] for row in rows})} clips, seed {settings['seed']}; explained: {explained}"]
    if settings.get("judge"):
        lines.append(f"deletion and insertion ask {settings['judge']}, not the explained network")
    right = [row["prediction"] == row["label"] for row in good.values() if row["label"] is not None]
    if right:
        share = f"{sum(right)} of {len(right)} clips with a label that it knows ({sum(right) / len(right):.1%})"
        lines.append(f"the model is right on {share}")
    if evaluation.unknown:
        lines.append(evaluation.unknown)
    if errors:
        shown = "; ".join(f"{clip} ({error})" for clip, error in [*errors.items()][:_SHOWN])
        more = "; ..." if len(errors) > _SHOWN else ""
        kept = len(errors.keys() & good.keys())
        some = f", {kept} of them for some methods only" if kept else ""
        lines.append(f"{len(errors)} clips left out{some}: {shown}{more}")
    if evaluation.missing:
        lines.append(f"{evaluation.missing} clips that the data's lists name are not there")
    first = evaluation.entries[0].config
    box = "x".join(map(str, first.box_size))
    partners = "partners as each method has them" if first.partners is None else f"{first.partners} partners"
    lines += [
        f"anchors every {first.stride} pixels, boxes of {box}, {partners}, where the method's name does not say "
        f"otherwise; radius of the pointing game {settings['radius']:g} pixels",
        f"weights {identity['weights']}, aosa_fast {identity['version']}, blocks of {settings['block']} clips; times "
        "as they came while this ran, `aosa-fast reproduce V` times methods one by one",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _text(value: Any) -> Any:
    """A text without what UTF-8 cannot hold, for names of files may be any bytes; other values as they are."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _own_table(metric: Metric, rows: Sequence[Row], names: Sequence[str], seed: int) -> list[str]:
    """The title and the table of a metric that has one of its own; nothing where no row has any of it."""
    stages = next((column.key for column in metric.columns if column.kind == "texts"), None)
    shown = [column for column in metric.columns if column.kind == ("reals" if stages else "real")]
    known = [row for row in rows if any(row.get(column.key) is not None for column in shown)]
    if not known:
        return []
    heads = known[0][stages] if stages else [column.heading for column in shown]
    lines = [f"| method | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for name in names:
        own = [row for row in known if row["method"] == name]
        if stages:
            cells = [[[row[column.key][i] for row in own] for column in shown] for i in range(len(heads))]
        else:
            cells = [[[row.get(column.key) for row in own]] for column in shown]
        if own:
            texts = (" / ".join(_mean(values, seed) for values in cell) for cell in cells)
            lines.append(f"| {name} | {' | '.join(texts)} |")
    return [f"## {metric.title}", "\n".join(lines)]


def _mean(values: Sequence[float | None], seed: int) -> str:
    return str(interval([value for value in values if value is not None], seed=seed))
