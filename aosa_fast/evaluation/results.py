"""What an evaluation leaves behind: the rows as Parquet, the tables as Markdown, the curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aosa_fast.errors import InputError
from aosa_fast.evaluation.curves import plot_curves
from aosa_fast.evaluation.evaluate import Evaluation
from aosa_fast.evaluation.journal import Row
from aosa_fast.evaluation.table import markdown_table, paired_markdown, summarise
from aosa_fast.video import atomic_path

_TEXT = ("clip", "method", "path", "status", "error")
_WHOLE = ("label", "target", "prediction", "looped_frames", "damaged_packets", "spt_frames")
_LISTS = ("deletion_curve", "insertion_curve", "insertion_fill_curve", "sanity_spearman", "sanity_ssim")
_REAL = (
    "probability", "seconds", "deletion", "insertion", "overall", "insertion_fill", "overall_fill", "spt_hits",
    "energy", "energy_chance", "iou", "taylor_error", "taylor_correlation",
)  # fmt: skip


def write_results(evaluation: Evaluation, out: Path, command: str, *, curves: bool = True) -> dict[str, Path]:
    """Writes results.parquet, table.md and, with deletion among the metrics, curves.png.

    Args:
        evaluation: what was found.
        out: the folder, which exists.
        command: the command line that makes these results.
        curves: whether to draw the curves.

    Returns:
        The files by name.

    Raises:
        InputError: a library is missing, or the folder cannot be written.
    """
    files = {"rows": out / "results.parquet", "table": out / "table.md"}
    write_rows(evaluation, files["rows"])
    with atomic_path(files["table"]) as temporary:
        temporary.write_text(describe(evaluation, command), encoding="utf-8")
    if curves and any(row.get("deletion_curve") for row in evaluation.rows):
        files["curves"] = out / "curves.png"
        plot_curves(evaluation.rows, [entry.name for entry in evaluation.entries], files["curves"])
    return files


def write_rows(evaluation: Evaluation, path: Path) -> None:
    """One row per clip and method; the identity of the run is in the file's metadata, under "aosa_fast".

    Raises:
        InputError: pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError("results.parquet must have pyarrow; it is missing: pip install aosa-fast[evaluate]") from None
    number = pyarrow.float64()
    types = [
        *((name, pyarrow.string()) for name in _TEXT),
        *((name, pyarrow.int64()) for name in _WHOLE),
        ("saturated", pyarrow.bool_()),
        *((name, number) for name in _REAL),
        *((name, pyarrow.list_(number)) for name in _LISTS),
        ("sanity_stages", pyarrow.list_(pyarrow.string())),
    ]
    identity = {"aosa_fast": json.dumps(evaluation.identity)}
    configs = {"configs": json.dumps({entry.name: entry.config.as_dict() for entry in evaluation.entries})}
    table = pyarrow.Table.from_pylist(evaluation.rows, pyarrow.schema(types, metadata={**identity, **configs}))
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def describe(evaluation: Evaluation, command: str) -> str:
    """The tables with all that is needed to read them, as Markdown."""
    names = [entry.name for entry in evaluation.entries]
    rows, identity = evaluation.rows, evaluation.identity
    seed = identity["settings"]["seed"]
    summaries = summarise(rows, names, seed=seed)
    parts = [
        f"# {identity['model']} on {identity['data']}",
        f"`{command}`",
        _counts(rows, identity),
        "Mean ± half of the 95 % bootstrap interval over clips. Best in bold, second best underlined, among methods "
        "run on nine tenths of the clips. `random` and `centre` know nothing of the model: where they do well, "
        "the column says nothing.",
        markdown_table(summaries),
    ]
    references = [name for name in names if name.split(":")[0] in ("aosa", "aosa-approx", "aosa-path")]
    if references and any(row.get("overall_fill") is not None for row in rows):
        parts.append("## Paired differences")
        parts += [paired_markdown(rows, names, references, column=column) for column in ("overall_fill", "overall")]
    parts += _other_tables(rows, names)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _counts(rows: Sequence[Row], identity: dict[str, Any]) -> str:
    clips = {row["clip"]: row for row in rows}
    failed = {row["clip"]: row["error"] for row in rows if row["status"] == "error"}
    known = [row for row in clips.values() if row["status"] == "ok" and row["label"] is not None]
    right = sum(row["prediction"] == row["label"] for row in known)
    settings = identity["settings"]
    lines = [
        f"- {len(clips)} clips, seed {settings['seed']}; explained: the "
        + ("true class" if settings["target"] == "label" else "predicted class"),
    ]
    if known:
        lines.append(f"- the model is right on {right} of {len(known)} clips with a label ({right / len(known):.1%})")
    if failed:
        lines.append(
            f"- {len(failed)} clips left out: "
            + "; ".join(f"{clip} ({error})" for clip, error in [*failed.items()][:10])
        )
    lines.append(
        f"- weights {identity['weights']}, aosa_fast {identity['version']}, blocks of {settings['block']} clips"
    )
    return "\n".join(lines)


def _other_tables(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    parts = []
    taylor = [name for name in names if any(r.get("taylor_error") is not None for r in rows if r["method"] == name)]
    if taylor:
        lines = ["| method | mean error / mean exact drop | correlation |", "| --- | --- | --- |"]
        for name in taylor:
            own = [row for row in rows if row["method"] == name]
            lines.append(f"| {name} | {_mean(own, 'taylor_error'):.3f} | {_mean(own, 'taylor_correlation'):.3f} |")
        parts += ["## First-order scores of tubes against exact ones", "\n".join(lines)]
    sane = [row for row in rows if row.get("sanity_stages")]
    if sane:
        stages = sane[0]["sanity_stages"]
        lines = ["| method | " + " | ".join(stages) + " |", "| --- |" + " --- |" * len(stages)]
        for name in names:
            own = [row for row in sane if row["method"] == name]
            if own:
                cells = [
                    f"{_column_mean(own, 'sanity_spearman', s):.2f} / {_column_mean(own, 'sanity_ssim', s):.2f}"
                    for s in range(len(stages))
                ]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
        parts += [
            "## Sanity check: Spearman / SSIM against the map of the trained model, layers randomised from the last on",
            "\n".join(lines),
        ]
    return parts


def _mean(rows: Sequence[Row], name: str) -> float:
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else float("nan")


def _column_mean(rows: Sequence[Row], name: str, stage: int) -> float:
    values = [row[name][stage] for row in rows if row[name][stage] is not None]
    return sum(values) / len(values) if values else float("nan")
