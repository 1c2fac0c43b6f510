"""Shortcuts: classes whose maps lie at one place or time, clip after clip, where the motion is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.findings.permutation import Test, compare_classes, median_excess
from aosa_fast.audit.findings.places import AROUND, frame_cells, offset_name, place_name, ring, time_name, window_cells
from aosa_fast.audit.findings.types import SHORTCUT, Finding
from aosa_fast.audit.store.schema import GRID, WINDOW

Floats = NDArray[np.floating]

SIGNIFICANCE = 0.05
# The least share of the map, above the other classes', that is worth a person's time.
LEAST_EFFECT = {"frame": 0.1, "border": 0.1, "time": 0.15, "motion": 0.1, "once": 0.2}
# The least excess, share of the map, of a region's best cell in the frame or round the motion. A flat map has 0.016 in
# a cell: what is spread thinly over many is a class' way of filling the frame, and no one place.
LEAST_PEAK = 0.04
_REGION = 0.25  # cells with at least this part of the largest excess belong to the region
_LEAST_RING = 8  # of the 28 cells along the sides: a mark in a corner lights up to five


def profiles(clips: Clips, *, less_motion: bool = True) -> dict[str, Floats]:
    """Where the map of each clip lies that its motion does not.

    Returns:
        "frame": (n, 64) by place in the frame: share of the map less share of the moving pixels. "border": (n, 1) the
        same of all cells along the frame's sides together. "time": (n, 8) the same by part of the clip. "motion":
        (n, 81) by offset from the moving object: share of the map, on pixels that do not move. "once": (n, 1) the
        largest share of one frame, whichever it is. Without `less_motion` plain shares, from which nothing is taken.
    """
    count = len(clips)
    excess = clips.grids["grid"] - clips.grids["grid_moving"] if less_motion else clips.grids["grid"]
    frame = excess.sum(1)
    return {
        "frame": frame.reshape(count, -1),
        "border": frame[:, ring()].sum(1, keepdims=True),
        "time": excess.sum((2, 3)),
        "motion": clips.grids["grid_around"].reshape(count, -1),
        "once": np.nan_to_num(clips["best_frame_share"])[:, None],
    }


@dataclass(frozen=True, eq=False)
class _Region:
    """Cells of one profile in which a class exceeds the others."""

    profile: str
    cells: NDArray[np.bool_]
    excess: Floats  # (p,), 0 outside of the cells
    p_value: float

    @property
    def effect(self) -> float:
        return float(self.excess.sum())

    @property
    def peak(self) -> float:
        return float(self.excess.max())


def find_shortcuts(clips: Clips, *, permutations: int = 999, seed: int = 0) -> list[Finding]:
    """The shortcuts of all classes.

    A class is named where its mean map exceeds the other classes' somewhere by `LEAST_EFFECT` of the map, and the
    permutation test, corrected for all classes, cells and profiles, says that this is no chance. A region
    of the frame is told from one beside the motion by which of the two alignments gathers it into fewer cells.
    Clips with an empty map are left out; permutations and seed are those of the test.

    Returns:
        At most one finding per class for a place and one for a time, the largest effect first.
    """
    use = clips.has_map
    labels = clips.target[use]
    excess, plain = profiles(clips), profiles(clips, less_motion=False)
    tests: dict[str, Test] = {}
    for name in LEAST_EFFECT:
        test = compare_classes(excess[name][use], labels, permutations=permutations, seed=seed)
        if test is None:
            continue
        # Maps follow the motion in part only. Where it keeps away from, a map has more than the motion even if it has
        # no more there than the maps of other classes: the smaller of the two excesses counts.
        shares = plain[name][use]
        above = median_excess(np.stack([shares[labels == c].mean(0) for c in test.classes]))
        # One test among several: Bonferroni on top of the correction for classes and cells.
        p_values = np.minimum(test.p_values * len(LEAST_EFFECT), 1)
        tests[name] = replace(test, excess=np.minimum(test.excess, above), p_values=p_values)
    if not tests:
        return []
    findings = []
    for number, label in enumerate(tests["frame"].classes):
        regions = {name: region for name, test in tests.items() if (region := _region(name, test, number))}
        for region in _choose(regions):
            findings.append(_finding(clips, region, int(label), plain[region.profile]))
    return sorted(findings, key=lambda finding: -finding.effect)


def _region(name: str, test: Test, number: int) -> _Region | None:
    excess = test.excess[number]
    cells = test.significant[number] & (excess >= _REGION * excess.max())
    if test.p_values[number] > SIGNIFICANCE or not cells.any():
        return None
    region = _Region(name, cells, np.where(cells, excess, 0.0), float(test.p_values[number]))
    if region.effect < LEAST_EFFECT[name]:
        return None
    if name in ("frame", "motion") and region.peak < LEAST_PEAK and not _is_ring(region):
        return None
    # Close round the motion is what moved there a frame ago: no shortcut.
    if name == "motion" and offset_name(region.excess.reshape(WINDOW, WINDOW)) == AROUND:
        return None
    return region


def _choose(regions: dict[str, _Region]) -> Iterator[_Region]:
    """At most one region of space and one of time."""
    if "border" in regions and ("frame" not in regions or _is_ring(regions["frame"])):
        spaces = [regions["border"]]
    else:
        spaces = [regions[name] for name in ("frame", "motion") if name in regions]
    times = [regions[name] for name in ("time", "once") if name in regions]
    if times and not (spaces and spaces[0].effect > times[0].effect):
        yield times[0]
        return
    if spaces:
        # What stands at one place of the frame smears when maps are moved onto the motion, and the other way round.
        yield max(spaces, key=lambda region: region.peak)


def _is_ring(region: _Region) -> bool:
    """Whether a region of the frame runs along its sides, and is more than a corner."""
    if region.profile != "frame":
        return False
    edge = ring().reshape(-1)
    return bool(region.cells[edge].sum() >= _LEAST_RING and region.excess[edge].sum() >= 0.75 * region.effect)


def _finding(clips: Clips, region: _Region, label: int, plain: Floats) -> Finding:
    own = (clips.target == label) & clips.has_map
    shares = plain[:, region.cells].sum(1)
    others = clips.has_map & ~own
    usual = float(np.median([shares[others & (clips.target == c)].mean() for c in np.unique(clips.target[others])]))
    showing = own & (shares >= usual + 0.5 * region.effect)
    order = np.flatnonzero(showing)[np.argsort(-shares[showing], kind="stable")]
    mean = float(shares[own].mean())
    detail = {"share": mean, "usual_share": usual, "clips_of_class": float(own.sum())}
    where, words = _where(clips, region, own, detail)
    percent = f"{100 * mean:.0f} % of the map, against {100 * usual:.0f} % in other classes"
    return Finding(
        kind=SHORTCUT,
        class_index=label,
        class_name=clips.names[label],
        where=where,
        text=f"Maps of this class lie {words}: {percent}.",
        effect=region.effect,
        effect_name="share of the map, above what the motion and other classes explain",
        p_value=region.p_value,
        count=int(showing.sum()),
        clips=clips.ids(order),
        detail=detail,
        boxes=frame_cells(region.cells) if region.profile == "frame" else (),
        frames=tuple(map(int, np.flatnonzero(region.cells))) if region.profile == "time" else (),
        offsets=window_cells(region.cells) if region.profile == "motion" else (),
    )


def _where(clips: Clips, region: _Region, own: NDArray[np.bool_], detail: dict[str, float]) -> tuple[str, str]:
    """The kind of place, and words for it."""
    frames = int(np.median(clips["frames"][own]))
    if region.profile == "time":
        return "time", f"in {time_name(region.cells, frames)}"
    if region.profile == "once":
        return "time", "in a single frame, at different times"
    if region.profile == "motion":
        words = offset_name(region.excess.reshape(WINDOW, WINDOW))
        return "beside the motion", f"{words} what moves, not on it"
    if region.profile == "border":
        return "border", "along the border of the frame"
    weights = region.excess.reshape(GRID[1:])
    words = f"in the {place_name(weights)} of the frame"
    overlay = float(np.nanmedian(clips["share_static"][own]))
    detail["share_static"] = overlay
    if overlay >= 0.5 * region.effect and float(np.nanmedian(clips["area_static"][own])) < 0.25:
        return "static overlay", f"{words}, on pixels that never change"
    return "place", words
