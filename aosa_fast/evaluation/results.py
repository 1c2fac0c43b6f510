"""What an evaluation leaves behind: the rows as Parquet, the tables as Markdown, the curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aosa_fast.evaluation.bootstrap import interval
from aosa_fast.evaluation.curves import plot_curves
from aosa_fast.evaluation.evaluate import Evaluation
from aosa_fast.evaluation.journal import Row
from aosa_fast.evaluation.measure import PROTOCOL_SUFFIXES
from aosa_fast.evaluation.table import markdown_table, paired_markdown, summarise
from aosa_fast.libraries import check_libraries
from aosa_fast.metrics import PROTOCOLS
from aosa_fast.video import atomic_path

_TEXT = ("clip", "method", "path", "sample", "status", "error", "curve_score")
_SHOWN = 10  # errors that are listed
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
        temporary.write_text(str(_text(describe(evaluation, command))), encoding="utf-8")
    if curves and any(row.get("deletion_curve") for row in evaluation.rows):
        files["curves"] = out / "curves.png"
        plot_curves(evaluation.rows, [entry.name for entry in evaluation.entries], files["curves"])
    return files


def write_rows(evaluation: Evaluation, path: Path) -> None:
    """One row per clip and method; the file's metadata hold the identity of the run, the configs and the protocols.

    Raises:
        InputError: pyarrow is missing.
    """
    check_libraries("pyarrow", extra="evaluate")
    import pyarrow
    import pyarrow.parquet

    number = pyarrow.float64()
    types = [
        *((name, pyarrow.string()) for name in _TEXT),
        *((name, pyarrow.int64()) for name in _WHOLE),
        ("saturated", pyarrow.bool_()),
        *((name, number) for name in _REAL),
        *((name, pyarrow.list_(number)) for name in _LISTS),
        ("sanity_stages", pyarrow.list_(pyarrow.string())),
    ]
    facts = {
        "aosa_fast": evaluation.identity,
        "configs": {entry.name: entry.config.as_dict() for entry in evaluation.entries},
        "protocols": {name: PROTOCOLS[name].as_dict() for name in PROTOCOL_SUFFIXES},
    }
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    rows = [{name: _text(value) if name in _TEXT else value for name, value in row.items()} for row in evaluation.rows]
    table = pyarrow.Table.from_pylist(rows, pyarrow.schema(types, metadata=metadata))
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
        _counts(evaluation),
        "Mean ± half of the 95 % bootstrap interval over clips. Best in bold, second best underlined, among methods "
        "run on nine tenths of the clips. `random` and `centre` know nothing of the model: where they do well, "
        "the column says nothing.",
        markdown_table(summaries),
    ]
    references = [name for name in names if name.split(":")[0] in ("aosa", "aosa-approx", "aosa-path")]
    if references and any(row.get("overall_fill") is not None for row in rows):
        parts.append("## Paired differences")
        parts += [paired_markdown(rows, names, references, column=column) for column in ("overall_fill", "overall")]
    parts += _other_tables(rows, names, seed)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _counts(evaluation: Evaluation) -> str:
    rows, identity = evaluation.rows, evaluation.identity
    settings = identity["settings"]
    good = {row["clip"]: row for row in rows if row["status"] == "ok"}
    errors: dict[str, str] = {}
    for row in rows:
        if row["status"] == "error":
            errors.setdefault(row["clip"], row["error"])
    labelled = [row for row in good.values() if row["label"] is not None]
    explained = "the true class" if settings["target"] == "label" else "the predicted class"
    lines = [f"- {len({row['clip'] for row in rows})} clips, seed {settings['seed']}; explained: {explained}"]
    if labelled:
        right = sum(row["prediction"] == row["label"] for row in labelled)
        lines.append(
            f"- the model is right on {right} of {len(labelled)} clips with a label that it knows "
            f"({right / len(labelled):.1%})"
        )
    if evaluation.unknown:
        lines.append(f"- {evaluation.unknown}")
    if errors:
        shown = "; ".join(f"{clip} ({error})" for clip, error in [*errors.items()][:_SHOWN])
        more = "; ..." if len(errors) > _SHOWN else ""
        kept = len(errors.keys() & good.keys())
        some = f", {kept} of them for some methods only" if kept else ""
        lines.append(f"- {len(errors)} clips left out{some}: {shown}{more}")
    if evaluation.missing:
        lines.append(f"- {evaluation.missing} clips that the data's lists name are not there")
    first = evaluation.entries[0].config
    lines.append(
        f"- anchors every {first.stride} pixels, boxes of {'x'.join(map(str, first.box_size))}, {first.partners} "
        "partners, where the method's name does not say otherwise; radius of the pointing game "
        f"{settings['radius']:g} pixels"
    )
    lines.append(
        f"- weights {identity['weights']}, aosa_fast {identity['version']}, blocks of {settings['block']} clips; times "
        "as they came while this ran, `aosa-fast reproduce V` times methods one by one"
    )
    return "\n".join(lines)


def _text(value: str | None) -> str | None:
    """Without what UTF-8 cannot hold: names of files may be any bytes."""
    return value if value is None else value.encode("utf-8", "backslashreplace").decode("utf-8")


def _other_tables(rows: Sequence[Row], names: Sequence[str], seed: int) -> list[str]:
    parts = []
    taylor = [name for name in names if any(r.get("taylor_error") is not None for r in rows if r["method"] == name)]
    if taylor:
        lines = ["| method | mean error / mean exact drop | correlation |", "| --- | --- | --- |"]
        for name in taylor:
            own = [row for row in rows if row["method"] == name]
            lines.append(f"| {name} | {_mean(own, 'taylor_error', seed)} | {_mean(own, 'taylor_correlation', seed)} |")
        parts += ["## First-order scores of tubes against exact ones", "\n".join(lines)]
    sane = [row for row in rows if row.get("sanity_stages")]
    if sane:
        stages = sane[0]["sanity_stages"]
        lines = ["| method | " + " | ".join(stages) + " |", "| --- |" + " --- |" * len(stages)]
        for name in names:
            own = [row for row in sane if row["method"] == name]
            if own:
                cells = [
                    " / ".join(_mean(own, name, seed, stage) for name in ("sanity_spearman", "sanity_ssim"))
                    for stage in range(len(stages))
                ]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
        parts += [
            "## Sanity check: Spearman / SSIM against the map of the trained model, layers randomised from the last on",
            "\n".join(lines),
        ]
    return parts


def _mean(rows: Sequence[Row], name: str, seed: int, stage: int | None = None) -> str:
    """Mean and interval of a column, or of a stage of a column of lists."""
    values = [row[name] if stage is None else row[name][stage] for row in rows if row.get(name) is not None]
    return str(interval(np.array([value for value in values if value is not None], float), seed=seed))
