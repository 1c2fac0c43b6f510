"""What the template shows: findings, classes and clips with the pictures that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

from aosa_fast.audit.findings.types import ClassSummary, Finding, Group
from aosa_fast.audit.report.pictures import Caption
from aosa_fast.audit.report.store import Stored


@dataclass(frozen=True)
class MapView:
    """A mean map: the whole clip at once, and its eighths side by side.

    Attributes:
        title: what it is the map of.
        alt: where it is strongest, in words.
        whole: picture of one pixel a cell: the sum over time.
        parts: the eighths, `mean_maps.STEP` pixels apart.
        shares: of each eighth, as percentages.
        mark: outline of the marked cells on `whole`, as data of an SVG path; "" for none.
        part_marks: the same on `parts`.
        frames: the marked eighths.
    """

    title: str
    alt: str
    whole: Stored
    parts: Stored
    shares: tuple[str, ...]
    mark: str = ""
    part_marks: str = ""
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class AroundView:
    """A map round the moving object: its title, its picture of one pixel a cell, and in words where it is strongest."""

    title: str
    picture: Stored
    alt: str


@dataclass(frozen=True)
class ClipView:
    """A clip that the page names.

    Attributes:
        id: of the clip.
        caption: what the audit found about it.
        command: draws it in full.
        picture: its filmstrip, or None.
        note: what to know of the filmstrip, or why there is none.
        asked: whether it is among the clips that have filmstrips.
    """

    id: str
    caption: Caption
    command: str
    picture: Stored | None = None
    note: str = ""
    asked: bool = False


@dataclass(frozen=True)
class FindingView:
    """A finding.

    Attributes:
        finding: as it was found.
        kind: its kind, or "other" for one that the page does not know.
        maps: mean map of its class, and of all classes.
        around: the same round the moving object, where it is about a place beside it.
        strips: the clips that are shown.
        clips: the clips that are listed.
    """

    finding: Finding
    kind: str
    maps: tuple[MapView, ...]
    around: tuple[AroundView, ...]
    strips: tuple[ClipView, ...]
    clips: tuple[ClipView, ...]


@dataclass(frozen=True)
class GroupView:
    """A cluster of a class: as it was found, its mean map, and its first clips."""

    group: Group
    map: MapView
    clips: tuple[ClipView, ...]


@dataclass(frozen=True)
class ClassView:
    """A class.

    Attributes:
        one: as the audit saw it.
        kinds: of the findings about it, each once.
        findings: how many there are.
        accuracy: share of its clips that are labelled so; None without labels.
        map: its mean map.
        moving: the same of the moving pixels.
        around: the map round the moving object.
        groups: its clusters.
        typical: clips near the mean map.
        strangest: clips far from it.
    """

    one: ClassSummary
    kinds: tuple[str, ...]
    findings: int
    accuracy: float | None
    map: MapView
    moving: MapView
    around: AroundView
    groups: tuple[GroupView, ...]
    typical: tuple[ClipView, ...]
    strangest: tuple[ClipView, ...]


@dataclass(frozen=True)
class FailedView:
    """A clip that could not be read or explained, with the message that it shares with others."""

    clip: ClipView
    message: str
