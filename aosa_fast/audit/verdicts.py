"""What a person decided about clips: read from files, kept in the audit's folder, and left out of later reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aosa_fast.audit.findings.types import AuditSummary, Finding
from aosa_fast.audit.report.rows import LABEL_COLUMNS, find_rows, label_of
from aosa_fast.audit.sheets import plain
from aosa_fast.boundary import read_json
from aosa_fast.data.tables import read_csv
from aosa_fast.errors import InputError, brief
from aosa_fast.files import atomic_path

VERDICTS = ("right", "wrong label", "shortcut", "ignore")
VERDICTS_VERSION = 1
VERDICTS_FILE = "verdicts.json"


@dataclass(frozen=True)
class Verdict:
    """What was decided about a clip.

    Attributes:
        verdict: "right", "wrong label", "shortcut" or "ignore".
        label: the name of the class that the clip was labelled as; with another label, it is to be looked at again.
            "" where that is not known, or does not matter.
    """

    verdict: str
    label: str = ""


def read_verdicts(path: Path) -> dict[str, Verdict]:
    """The verdicts of a file by the clips' ids; of several about one clip the last one.

    Args:
        path: a .json file as the page saves it, or a .csv file with the columns id and verdict, and label where it is
            known, such as suspects.csv with its column verdict filled in. Rows without a verdict are left out.

    Raises:
        InputError: it cannot be read, or an entry breaks a rule.
    """
    suffix = path.suffix.lower()
    if suffix not in (".json", ".csv"):
        raise InputError(f"verdicts must be a .json or .csv file; got {path}")
    return dict(_from_csv(path) if suffix == ".csv" else _from_json(path))


def load_verdicts(folder: Path) -> dict[str, Verdict]:
    """The verdicts that the folder of an audit holds. Raises InputError as `read_verdicts`."""
    path = folder / VERDICTS_FILE
    return dict(_from_json(path)) if path.exists() else {}


def keep_verdicts(folder: Path, given: dict[str, Verdict]) -> int:
    """Adds verdicts to those of an audit, in place of earlier ones about the same clips; returns how many there are.

    Raises:
        InputError: the folder cannot be written, or holds verdicts that cannot be read.
    """
    together = load_verdicts(folder) | given
    entries = [{"id": id, **vars(verdict)} for id, verdict in together.items()]
    with atomic_path(folder / VERDICTS_FILE) as temporary:
        temporary.write_text(json.dumps({"format": VERDICTS_VERSION, "verdicts": entries}, indent=1) + "\n", "utf-8")
    return len(together)


def leave_out(summary: AuditSummary, folder: Path) -> AuditSummary:
    """The summary without the clips that a person has decided about, whatever the verdict, among its findings.

    A finding without any other clip that it names is left out as a whole. Effects, tests and classes stay as they are.

    Raises:
        InputError: the verdicts, or the parts of the audit, cannot be read.
    """
    verdicts = load_verdicts(folder)
    named = {id for finding in summary.findings for id in finding.clips if id in verdicts}
    decided = {
        row["id"]
        for row in find_rows(folder, named, ("id", *LABEL_COLUMNS))
        if verdicts[row["id"]].label in ("", label_of(row) or "")
    }
    findings = (_without(finding, decided) for finding in summary.findings)
    return replace(summary, findings=tuple(filter(None, findings)), decided=len(decided))


def _without(finding: Finding, decided: set[str]) -> Finding | None:
    left = [i for i, id in enumerate(finding.clips) if id not in decided]
    gone = len(finding.clips) - len(left)
    if not gone:
        return finding
    if not left:
        return None
    return replace(
        finding,
        detail={**finding.detail, "decided_and_left_out": float(gone)},
        count=finding.count - gone,
        clips=tuple(finding.clips[i] for i in left),
        strengths=tuple(finding.strengths[i] for i in left) if finding.strengths else (),
    )


def _from_csv(path: Path) -> Iterator[tuple[str, Verdict]]:
    for row in read_csv(path, ("id", "verdict")):
        # As they are, and not without the spaces around them: a name may begin with one.
        id, verdict, label = (plain(str(row.values.get(name, ""))) for name in ("id", "verdict", "label"))
        if verdict.strip():
            yield _checked(row.place, id, verdict.strip(), label)


def _from_json(path: Path) -> Iterator[tuple[str, Verdict]]:
    content = read_json(path, "must be JSON")
    entries = content.get("verdicts") if isinstance(content, dict) else None
    if not isinstance(entries, list) or content.get("format") != VERDICTS_VERSION:
        raise InputError(f"{path}: must hold a list of verdicts of format {VERDICTS_VERSION}, as the page saves it")
    for number, entry in enumerate(entries, 1):
        values: dict[str, Any] = entry if isinstance(entry, dict) else {}
        yield _checked(f"{path}, verdict {number}", values.get("id"), values.get("verdict"), values.get("label") or "")


def _checked(place: str, id: Any, verdict: Any, label: Any) -> tuple[str, Verdict]:
    if not isinstance(id, str) or not id:
        raise InputError(f"{place}: id must be that of a clip; got {brief(str(id))}")
    if verdict not in VERDICTS:
        raise InputError(f"{place}: verdict must be one of {', '.join(VERDICTS)}; got {brief(str(verdict))}")
    if not isinstance(label, str):
        raise InputError(f"{place}: label must be the name of a class; got {brief(str(label))}")
    return id, Verdict(verdict, label)
