"""From a summary to what the template shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.types import AuditSummary, ClassSummary, Finding, Group
from aosa_fast.audit.report.mean_maps import (
    describe,
    describe_around,
    frame_picture,
    lifts,
    outline,
    parts_picture,
    scale_limit,
)
from aosa_fast.audit.report.pictures import Pictures
from aosa_fast.audit.report.store import Store
from aosa_fast.audit.report.strips import PER_FINDING
from aosa_fast.audit.report.text import percent
from aosa_fast.audit.report.views import AroundView, ClassView, ClipView, FailedView, FindingView, GroupView, MapView
from aosa_fast.audit.report.words import KINDS

Grid = NDArray[np.float32]
Progress = Callable[[int, int], None]  # (filmstrips drawn, in all)
_LISTED = 50  # clips of a finding
_OF_GROUP = 3
_CELLS = range(8)
_BESIDE = "beside the motion"  # among the places of a shortcut


def named_ids(summary: AuditSummary) -> list[str]:
    """Every clip that the page names, once."""
    ids = [id for finding in summary.findings for id in finding.clips[:_LISTED]]
    for one in summary.classes:
        ids += [*one.typical, *one.strangest, *(id for group in one.groups for id in group.clips[:_OF_GROUP])]
    return list(dict.fromkeys([*ids, *(id for _, _, failed in summary.errors for id in failed)]))


class Builder:
    """Makes the views of a page, and collects their pictures.

    Attributes:
        store: the pictures so far.
        limit: the lift of the brightest colour, the same for all maps of the page.
    """

    def __init__(
        self, summary: AuditSummary, pictures: Pictures, strips: Collection[str], progress: Progress | None = None
    ) -> None:
        """Takes pictures that are prepared; `strips` are the ids that have filmstrips."""
        self.store = Store()
        grids = [grid for one in summary.classes for grid in (one.mean_map, one.mean_around)]
        self.limit = scale_limit([lifts(grid) for grid in (*grids, summary.mean_map)])
        self._summary, self._pictures = summary, pictures
        self._strips, self._progress = frozenset(strips), progress
        self._clips: dict[str, ClipView] = {}
        self._drawn = 0
        self._classes = {one.index: one for one in summary.classes}
        self._about = [(_known(finding.kind), finding.class_index) for finding in summary.findings]

    def findings(self) -> list[FindingView]:
        """All findings, in their order."""
        return [self._finding(finding) for finding in self._summary.findings]

    def classes(self) -> list[ClassView]:
        """All classes, in their order."""
        return [self._class(one) for one in self._summary.classes]

    def failed(self) -> list[FailedView]:
        """The clips that the errors name."""
        return [FailedView(self._clip(id), message) for message, _, ids in self._summary.errors for id in ids]

    def _finding(self, finding: Finding) -> FindingView:
        one = None if finding.class_index is None else self._classes.get(finding.class_index)
        cells = {(row, column) for row, column in finding.boxes if row in _CELLS and column in _CELLS}
        frames = tuple(sorted({frame for frame in finding.frames if frame in _CELLS}))
        maps = [self._map("All classes", self._summary.mean_map, cells, frames)]
        if one is not None:
            maps.insert(0, self._map(one.name, one.mean_map, cells, frames))
        around: tuple[AroundView, ...] = ()
        if one is not None and finding.where == _BESIDE:
            mean = np.mean([other.mean_around for other in self._summary.classes], axis=0)
            around = (self._around(one.name, one.mean_around), self._around("All classes", mean))
        clips = self._list(finding.clips[:_LISTED])
        return FindingView(finding, _known(finding.kind), tuple(maps), around, clips[:PER_FINDING], clips)

    def _class(self, one: ClassSummary) -> ClassView:
        return ClassView(
            one=one,
            kinds=tuple(dict.fromkeys(kind for kind, index in self._about if index == one.index)),
            findings=sum(index == one.index for _, index in self._about),
            accuracy=None if one.correct is None or not one.clips else one.correct / one.clips,
            map=self._map("Mean map", one.mean_map),
            moving=self._map("What moves", one.mean_moving),
            around=self._around("Round what moves", one.mean_around),
            groups=tuple(self._group(group) for group in one.groups),
            typical=self._list(one.typical),
            strangest=self._list(one.strangest),
        )

    def _group(self, group: Group) -> GroupView:
        return GroupView(group, self._map("Mean map", group.mean_map), self._list(group.clips[:_OF_GROUP]))

    def _map(
        self, title: str, grid: Grid, cells: Collection[tuple[int, int]] = (), frames: tuple[int, ...] = ()
    ) -> MapView:
        lift = lifts(grid)
        shares = lift.sum(axis=(1, 2)) / lift.size
        return MapView(
            title=title,
            alt=describe(lift),
            whole=self.store.add(frame_picture(lift.mean(axis=0), self.limit), cells=True),
            parts=self.store.add(parts_picture(lift, self.limit), cells=True),
            shares=tuple(percent(float(share)) for share in shares),
            mark=outline(cells),
            # Eight times the same mark would hide the small pictures.
            part_marks="".join(outline(cells, part) for part in frames),
            frames=frames,
        )

    def _around(self, title: str, grid: Grid) -> AroundView:
        lift = lifts(grid)
        return AroundView(title, self.store.add(frame_picture(lift, self.limit), cells=True), describe_around(lift))

    def _list(self, ids: Iterable[str]) -> tuple[ClipView, ...]:
        return tuple(self._clip(id) for id in ids)

    def _clip(self, id: str) -> ClipView:
        if id not in self._clips:
            asked = id in self._strips
            data = self._pictures.filmstrip(id) if asked else None
            self._clips[id] = ClipView(
                id=id,
                caption=self._pictures.caption(id),
                command=self._pictures.command(id),
                picture=None if data is None else self.store.add(data),
                note=self._pictures.note(id) if asked else "",
                asked=asked,
            )
            self._drawn += asked
            if asked and self._progress is not None:
                self._progress(self._drawn, len(self._strips))
        return self._clips[id]


def _known(kind: str) -> str:
    return kind if kind in KINDS else "other"
