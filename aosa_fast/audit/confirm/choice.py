"""Which clips a finding is confirmed on: those of its class, each source once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aosa_fast.audit.findings.draw import SOURCE, Draw, once
from aosa_fast.audit.findings.types import Finding
from aosa_fast.audit.store.parts import iter_rows
from aosa_fast.audit.tasks import OK, Row

MOST = 50  # clips of a finding


@dataclass(frozen=True)
class Choice:
    """The clips that a finding is confirmed on."""

    ids: tuple[str, ...]
    labelled: bool  # whether they are chosen by their labels, and not by what their maps explain


def choose_clips(folder: Path, findings: Sequence[Finding], seed: int) -> list[Choice]:
    """For each finding at most 50 clips, one of each source.

    Those that are labelled as its class, whatever the model says of them; where no clip is, those whose map explains
    it. Of a finding about some of a class' clips, these.

    Raises:
        InputError: the rows cannot be read.
    """
    classes = {finding.class_index for finding in findings if not _of_some(finding)}
    named = {id for finding in findings if _of_some(finding) for id in finding.clips}
    some: dict[str, Row] = {}
    labelled, explained = Draw(MOST, seed), Draw(MOST, seed)
    for batch in iter_rows(folder, ("id", "status", "label", "target", *SOURCE)):
        for row in batch.to_pylist():
            if row["status"] != OK:
                continue
            if row["id"] in named:
                some[row["id"]] = row
            for index, draw in ((row["label"], labelled), (row["target"], explained)):
                if index in classes:
                    draw.add(index, row)
    choices = []
    for finding in findings:
        label = finding.class_index
        if _of_some(finding):
            rows = [some[id] for id in finding.clips if id in some]
            rows = once([row for row in rows if row["label"] in (None, label)])[:MOST]
        else:
            rows = labelled.rows(label) or explained.rows(label)
        choices.append(Choice(tuple(row["id"] for row in rows), any(row["label"] is not None for row in rows)))
    return choices


def _of_some(finding: Finding) -> bool:
    return "share_of_clips" in finding.detail
