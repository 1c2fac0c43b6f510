"""The clips that a person should look at, one by one: suspects.csv and suspects.parquet beside the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aosa_fast.audit.findings.types import LABEL, OUTLIER, SHORTCUT, AuditSummary, Finding
from aosa_fast.audit.report.links import clip_link
from aosa_fast.audit.report.rows import LABEL_COLUMNS, find_rows, label_of, name_of
from aosa_fast.audit.report.text import probability
from aosa_fast.audit.sheets import write_csv
from aosa_fast.audit.tasks import Row
from aosa_fast.files import atomic_path

_COLUMNS = ("id", "path", *LABEL_COLUMNS, "prediction_name", "prediction", "probability")


@dataclass(frozen=True)
class Suspect:
    """A clip, and one reason to look at it; the columns of the tables, in their order.

    Attributes:
        path: of its file, or its address; "" for a rendered clip.
        label: the class by the data; "" without one.
        suggestion: the class that the model is sure of where the label looks wrong; else "".
        reason: one sentence.
        strength: how clearly the clip shows it, 0 to 1.
        finding: the rank of the finding, as on the page.
        link: to the file, relative to the page, or its address; "" for a rendered clip.
        id: of its row.
        kind: of the finding.
        verdict: to be filled in by a person.
    """

    path: str
    label: str
    suggestion: str
    reason: str
    strength: float
    finding: int
    link: str
    id: str
    kind: str
    verdict: str = ""


def find_suspects(summary: AuditSummary, audit: Path, folder: Path) -> list[Suspect]:
    """The clips of all findings, one entry for each clip and reason, the strongest first.

    Args:
        summary: what was found.
        audit: the folder of the audit.
        folder: that of the page, which links start from.

    Raises:
        InputError: the parts of the audit cannot be read.
    """
    ids = {id for finding in summary.findings for id in finding.clips}
    rows = {row["id"]: row for row in find_rows(audit, ids, _COLUMNS)}
    found = [
        suspect
        for rank, finding in enumerate(summary.findings, 1)
        for suspect in _of_finding(rank, finding, rows, folder)
    ]
    return sorted(found, key=lambda suspect: (-suspect.strength, suspect.finding))


def write_suspects(suspects: Sequence[Suspect], folder: Path) -> Path:
    """Writes suspects.csv, and beside it suspects.parquet; returns the path of the first."""
    path = folder / "suspects.csv"
    names = [field.name for field in fields(Suspect)]
    rows = list(map(vars, suspects))
    with atomic_path(path) as temporary:
        write_csv(temporary, names, rows)
    kinds = {"strength": pa.float64(), "finding": pa.int32()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")
    return path


def _of_finding(rank: int, finding: Finding, rows: dict[str, Row], folder: Path) -> Iterator[Suspect]:
    count = len(finding.clips)
    known = len(finding.strengths) == count
    for i, id in enumerate(finding.clips):
        row = rows.get(id)
        if row is None:
            continue
        prediction = name_of(row["prediction_name"], row["prediction"]) or ""
        # Where nothing measures it, the order is all that there is, and it counts for less than any measure would.
        strength = finding.strengths[i] if known else math.nan
        strength = strength if math.isfinite(strength) else 0.5 * (1 - i / count)
        yield Suspect(
            path=row["path"] or "",
            label=label_of(row) or "",
            suggestion=prediction if finding.kind == LABEL else "",
            reason=_reason(finding, row, prediction),
            strength=round(min(max(strength, 0.0), 1.0), 4),
            finding=rank,
            link=clip_link(row["path"], folder),
            id=id,
            kind=finding.kind,
        )


def _reason(finding: Finding, row: Row, prediction: str) -> str:
    text = finding.text
    if finding.kind == LABEL:
        return (
            f"It is labelled {label_of(row)}; the model is sure that it is {prediction} "
            f"(p = {probability(row['probability'])}), and its map is like those of such clips."
        )
    if finding.kind == SHORTCUT:
        return f"It shows a shortcut of {finding.class_name}: {text[:1].lower()}{text[1:]}"
    if finding.kind == OUTLIER:
        return f"Its map is unlike those of other clips that are explained as {finding.class_name}."
    return f"Its map is not to be trusted: {text.partition('not to be trusted: ')[2] or text}"
