"""Findings held against the model itself: what they are about is hidden in the clips of their class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.again import Audited, read_audited
from aosa_fast.audit.clip.answers import answers
from aosa_fast.audit.clip.prepare import Preparer
from aosa_fast.audit.confirm.answered import Answered
from aosa_fast.audit.confirm.choice import Choice, choose_clips
from aosa_fast.audit.confirm.judge import FEWEST, judge
from aosa_fast.audit.confirm.regions import Mask, Seen, has_region, hide, read_grid
from aosa_fast.audit.findings.types import SHORTCUT, AuditSummary, Confirmation, Finding
from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.audit.tasks import Row, sample_of
from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.routes import lasting_route
from aosa_fast.progress import Report, show_progress

_BATCH = 8
# What a pixel's own surroundings make of it does not hide a region: its middle stays as it is.
_LOCAL = ("conditional", "blur")
_COLUMNS = (
    "id", "path", "start", "end", "seed", "group", "data_label", "frames", "height", "width", "first_frame", "grid",
)  # fmt: skip


def confirm_findings(
    folder: Path,
    summary: AuditSummary,
    *,
    device: str = "auto",
    model: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Report | None = None,
) -> AuditSummary:
    """The summary with what hiding does to each shortcut: `Finding.confirmed`, see `Confirmation`.

    At most 50 clips of each finding are read as the audit read them, one of each source, and answered by the model
    three times: whole, with what the finding is about replaced by the audit's fill, and with as much replaced
    elsewhere. Answers are kept in the folder, and asked for once.

    Args:
        folder: of the audit.
        summary: of `summarize`.
        device: this and the next two as in `aosa_fast.audit.again.Audited.load`.
        model: see there.
        trust: see there.
        seed: of the choice of clips, and of the bootstrap.
        progress: as for `aosa_fast.explain`; a step is a finding.

    Returns:
        The summary; where the model or the data cannot be opened, or the model fails, `AuditSummary.unconfirmed` says
        so.

    Raises:
        InputError: the rows cannot be read.
    """
    wanted = [finding for finding in summary.findings if finding.kind == SHORTCUT and has_region(finding)]
    choices = choose_clips(folder, wanted, seed) if wanted else []
    known = Answered(folder, summary.run["identity"])
    found = {id(one): known.find(one, choice, seed) for one, choice in zip(wanted, choices, strict=True)}
    asked = [(one, choice) for one, choice in zip(wanted, choices, strict=True) if found[id(one)] is None]
    unconfirmed = ""
    with show_progress(progress, "confirmed findings") as report:
        try:
            witness = _Witness(read_audited(folder), device, model, trust) if asked else None
            for number, (one, choice) in enumerate(asked, 1):
                assert witness is not None
                answer = witness.ask(one, choice, seed)
                if answer is None:
                    unconfirmed = f"not confirmed by the model: fewer than {FEWEST} of its clips could be read"
                else:
                    known.keep(one, choice, seed, answer)
                found[id(one)] = answer
                report(number, len(asked))
        except InputError as error:  # there is a report all the same
            unconfirmed = f"not confirmed by the model: {error}"
    findings = tuple(replace(one, confirmed=found.get(id(one))) for one in summary.findings)
    return replace(summary, findings=findings, unconfirmed=unconfirmed)


class _Witness:
    """The model and the data of an audit, which can be asked about its findings."""

    def __init__(self, audited: Audited, device: str, model: str | None, trust: bool) -> None:
        """Loads the model. Raises InputError as `Audited.load` and `Audited.open_data`."""
        self._folder = audited.folder
        self._classifier = audited.load(device, model=model, trust=trust)
        config = audited.config
        self._config: Config = replace(config, fill="mean") if config.fill_name in _LOCAL else config
        self._route = lasting_route(self._classifier.network, config)
        settings = AuditSettings(config=config)
        self._preparer = Preparer(audited.open_data(trust=trust), self._classifier.preprocessing, settings)

    def ask(self, finding: Finding, choice: Choice, seed: int) -> Confirmation | None:
        """What hiding does to a finding; None where too few clips can be read."""
        parts: list[NDArray[np.float64]] = []
        clips = self._clips(finding, choice)
        while batch := list(islice(clips, _BATCH)):
            parts.append(self._answers(batch))
        if sum(map(len, parts)) < FEWEST:
            return None
        assert finding.class_index is not None
        return judge(np.concatenate(parts), finding.class_index, choice.labelled, seed)

    def _clips(self, finding: Finding, choice: Choice) -> Iterator[tuple[NDArray[np.uint8], Mask, Mask]]:
        """Of each clip that is still what it was: its frames, what is hidden, and what is hidden elsewhere."""
        for turn, row in enumerate(find_rows(self._folder, choice.ids, _COLUMNS)):
            try:
                frames, moving = self._read(row, bool(finding.offsets))
            except (InputError, OSError):
                continue
            hidden, elsewhere = hide(finding, Seen(frames.shape[:3], read_grid(row), moving), turn)
            yield frames, hidden, elsewhere

    def _read(self, row: Row, with_motion: bool) -> tuple[NDArray[np.uint8], Mask | None]:
        sample, moving = sample_of(row), None
        if with_motion:
            ready = self._preparer.prepare(sample)
            clip, moving = ready.clip, ready.moving
        else:
            clip = self._preparer.dataset.read(sample, self._preparer.preprocessing)
        was = tuple(row[name] for name in ("frames", "height", "width", "first_frame"))
        if (*clip.frames.shape[:3], int(clip.indices[0])) != was:
            raise InputError(f"{sample.id}: must be the clip that was audited; its source has changed since")
        return clip.frames, moving

    def _answers(self, batch: Sequence[tuple[NDArray[np.uint8], Mask, Mask]]) -> NDArray[np.float64]:
        """(B, 3, n_classes)"""
        frames = np.stack([clip[0] for clip in batch])
        masks = (None, np.stack([clip[1] for clip in batch]), np.stack([clip[2] for clip in batch]))
        return np.stack([answers(self._classifier, frames, self._config, self._route, mask) for mask in masks], axis=1)
