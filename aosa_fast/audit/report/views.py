"""What the template shows of maps and clips, made when it asks, with the pictures that belong to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.types import AuditSummary, ClassSummary, Finding
from aosa_fast.audit.report.links import clip_link, page_link
from aosa_fast.audit.report.mean_maps import (
    around_in_words,
    frame_picture,
    in_words,
    lifts,
    outline,
    parts_picture,
    scale_limit,
)
from aosa_fast.audit.report.pictures import Caption, ClipPictures
from aosa_fast.audit.report.store import Store, Stored
from aosa_fast.audit.report.text import percent
from aosa_fast.progress import Progress

Grid = NDArray[np.float32]
LISTED = 50  # clips of a finding
OF_GROUP = 3  # clips that are named of a group


@dataclass(frozen=True)
class MapView:
    """A mean map: the whole clip at once, and its eighths side by side."""

    alt: str  # where it is strongest, in words
    whole: Stored  # one pixel a cell: the sum over time
    parts: Stored  # the eighths, `mean_maps.STEP` pixels apart
    shares: list[str]  # of each eighth, as percentages
    mark: str  # outline of the marked cells on `whole`, as data of an SVG path; "" for none
    part_marks: str  # the same on `parts`
    frames: tuple[int, ...]  # the marked eighths


@dataclass(frozen=True)
class ClipView:
    """A clip that the page names."""

    id: str
    caption: Caption
    command: str  # draws it in full
    asked: bool  # whether it is among the clips that have filmstrips
    picture: Stored | None  # its filmstrip
    note: str  # what to know of the filmstrip, or why there is none
    link: str  # to its file, where a browser can open it; else ""
    moving: Stored | None  # the clip itself, where it cannot


class Views:
    """Makes the views of a page, and collects their pictures.

    Attributes:
        store: the pictures so far.
        limit: the lift of the brightest colour, the same for all maps of the page.
    """

    def __init__(
        self,
        summary: AuditSummary,
        pictures: ClipPictures,
        strips: Collection[str],
        folder: Path,
        progress: Progress | None = None,
    ) -> None:
        """Takes pictures that are prepared; `strips` are the ids that have filmstrips, `folder` is the page's."""
        grids = [grid for one in summary.classes for grid in (one.mean_map, one.mean_around)]
        self.limit = scale_limit([lifts(grid) for grid in (*grids, summary.mean_map)])
        self.store = Store()
        self._pictures, self._strips, self._folder, self._progress = pictures, frozenset(strips), folder, progress
        self._clips: dict[str, ClipView] = {}
        self._drawn = 0

    def map(self, grid: Grid, finding: Finding | None = None) -> MapView:
        """A mean map, (8, 8, 8), with the cells and the eighths marked that a finding is about."""
        lift = lifts(grid)
        shares = lift.sum(axis=(1, 2)) / lift.size
        cells, frames = ((), ()) if finding is None else (finding.boxes, finding.frames)
        return MapView(
            alt=in_words(lift),
            whole=self.store.add(frame_picture(lift.mean(axis=0), self.limit), cells=True),
            parts=self.store.add(parts_picture(lift, self.limit), cells=True),
            shares=[percent(float(share)) for share in shares],
            mark=outline(cells),
            # Eight times the same mark would hide the small pictures.
            part_marks="".join(outline(cells, part) for part in frames),
            frames=frames,
        )

    def around(self, grids: list[Grid]) -> tuple[Stored, str]:
        """The mean of maps round the moving object, (9, 9) each, and where it is strongest, in words."""
        lift = lifts(np.mean(grids, axis=0))
        return self.store.add(frame_picture(lift, self.limit), cells=True), around_in_words(lift)

    def clips(self, ids: Iterable[str]) -> list[ClipView]:
        """Clips with their filmstrips, each drawn once."""
        return [self._clip(id) for id in ids]

    def _clip(self, id: str) -> ClipView:
        if id not in self._clips:
            asked = id in self._strips
            data, note = self._pictures.filmstrip(id) if asked else (None, "")
            moving = self._pictures.moving(id) if asked else None
            picture, played = (None if one is None else self.store.add(one) for one in (data, moving))
            caption, command = self._pictures.caption(id), self._pictures.command(id)
            link = page_link(clip_link(caption.path, self._folder))
            self._clips[id] = ClipView(id, caption, command, asked, picture, note, link, played)
            self._drawn += asked
            if asked and self._progress is not None:
                self._progress(self._drawn, len(self._strips))
        return self._clips[id]


def named_ids(summary: AuditSummary) -> list[str]:
    """Every clip that the page names, once."""
    ids = [id for finding in summary.findings for id in finding.clips[:LISTED]]
    for one in summary.classes:
        ids += [*one.typical, *one.strangest, *(id for group in one.groups for id in group.clips[:OF_GROUP])]
    return list(dict.fromkeys([*ids, *(id for _, _, failed in summary.errors for id in failed)]))


def accuracy(one: ClassSummary) -> float | None:
    """Share of a class' clips that are labelled so; None without labels."""
    return None if one.correct is None or not one.clips else one.correct / one.clips
