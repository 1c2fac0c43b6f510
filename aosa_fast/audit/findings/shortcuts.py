"""Shortcuts: classes whose maps lie at one place or time, clip after clip, where the motion is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.findings.permutation import Test, compare_classes, quantile_of_others
from aosa_fast.audit.findings.places import (
    AROUND,
    frame_cells,
    offset_name,
    place_name,
    ring,
    time_name,
    window_cells,
)
from aosa_fast.audit.findings.types import SHORTCUT, Finding, Showing
from aosa_fast.audit.store.schema import GRID, WINDOW

Floats = NDArray[np.floating]

SIGNIFICANCE = 0.05
# The least share of the map, above the other classes', that is worth a person's time.
LEAST_EFFECT = {"frame": 0.25, "border": 0.15, "time": 0.15, "motion": 0.1, "once": 0.2}
# The least excess, share of the map, of a region's best cell in the frame or round the motion. What is spread thinly
# over many cells is a class' way of filling the frame, and no one place.
LEAST_PEAK = {"frame": 0.1, "motion": 0.04}
# Likewise of the best cell's signed sum, as a part of all magnitudes; a cell has 1/64 of an even field's. Where a field
# all but cancels everywhere, what is left over is no place that the score rests on.
_LEAST_SUM = 0.01
# Rows of an older version have no signed sums, and noise of both signs is in their shares.
_OLD_EFFECT, _OLD_PEAK = 0.1, 0.04
# Of the others' means, what a class is held against. Where a mark lies, classes with the same mark elsewhere have
# nothing, so that the lower quartile hides none of four marked classes of seven. The rest keeps the median: what is at
# one time, or spreads along the border, differs between classes that have no mark as well.
_OTHERS = {"frame": 0.25}
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
    moving = clips.grids["grid_moving"] * less_motion
    excess = clips.grids["grid"] - moving
    return {
        "frame": (_places(clips) - moving.sum(1)).reshape(count, -1),
        "border": excess.sum(1)[:, ring()].sum(1, keepdims=True),
        "time": excess.sum((2, 3)),
        "motion": clips.grids["grid_around"].reshape(count, -1),
        "once": np.nan_to_num(clips["best_frame_share"])[:, None],
    }


def _places(clips: Clips) -> Floats:
    """(n, 8, 8): share of the map in each cell of the frame, noise of both signs cancelling over the clip's time.

    Of rows of an older version, which have no such sums, the share of the positive part, where noise adds up.
    """
    signed = _sums(clips)
    total = signed.sum((1, 2), keepdims=True)
    return np.where(total > 0, signed / np.maximum(total, 1e-9), clips.grids["grid"].sum(1))


def _sums(clips: Clips) -> Floats:
    """(n, 8, 8): positive part of each cell's signed sum, as a part of all magnitudes; 0 in rows that have none."""
    if "grid_signed" not in clips.grids:
        return np.zeros((len(clips), *GRID[1:]), np.float32)
    return np.maximum(clips.grids["grid_signed"], 0)


@dataclass(frozen=True, eq=False)
class _Region:
    """Cells of one profile in which a class exceeds the others."""

    profile: str
    cells: NDArray[np.bool_]
    excess: Floats  # (p,), 0 outside of the cells
    p_value: float
    plain_peak: float  # largest excess of a cell, by positive shares: what profiles can be compared by

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
        quantile = _OTHERS.get(name, 0.5)
        test = compare_classes(
            excess[name][use], labels, clips.source[use], quantile=quantile, permutations=permutations, seed=seed
        )
        if test is None:
            continue
        # Maps follow the motion in part only. Where it keeps away from, a map has more than the motion even if it has
        # no more there than the maps of other classes: the smaller of the two excesses counts.
        above = _above_others(plain[name][use], labels, test.classes, quantile)
        # One test among several: Bonferroni on top of the correction for classes and cells.
        p_values = np.minimum(test.p_values * len(LEAST_EFFECT), 1)
        tests[name] = replace(test, excess=np.minimum(test.excess, above), p_values=p_values)
    if not tests:
        return []
    classes = tests["frame"].classes
    sums = _above_others(_sums(clips)[use].reshape(len(labels), -1), labels, classes, _OTHERS["frame"])
    shares = (clips.grids["grid"] - clips.grids["grid_moving"])[use].sum(1).reshape(len(labels), -1)
    unsigned = _above_others(shares, labels, classes, _OTHERS["frame"])
    findings = []
    for number, label in enumerate(classes):
        regions = {name: region for name, test in tests.items() if (region := _region(name, test, number))}
        if "frame" in regions and not _stands_out(regions["frame"], sums[number], is_old=not sums.any()):
            del regions["frame"]
        if "frame" in regions:
            own = regions["frame"]
            regions["frame"] = replace(own, plain_peak=float(unsigned[number][own.cells].max()))
        for region in _choose(regions):
            findings.append(_finding(clips, region, int(label), plain[region.profile]))
    return sorted(findings, key=lambda finding: -finding.effect)


def _above_others(shares: Floats, labels: NDArray[np.int64], classes: NDArray[np.int64], quantile: float) -> Floats:
    """(C, p): mean of each class less the quantile of the others' means."""
    means = np.stack([shares[labels == c].mean(0) for c in classes]).astype(np.float64)
    return np.asarray(means - quantile_of_others(means, quantile))


def _region(name: str, test: Test, number: int) -> _Region | None:
    excess = test.excess[number]
    cells = test.significant[number] & (excess >= _REGION * excess.max())
    if test.p_values[number] > SIGNIFICANCE or not cells.any():
        return None
    region = _Region(name, cells, np.where(cells, excess, 0.0), float(test.p_values[number]), float(excess.max()))
    if name == "frame":
        return region
    if region.effect < LEAST_EFFECT[name] or (name == "motion" and region.peak < LEAST_PEAK[name]):
        return None
    # Close round the motion is what moved there a frame ago: no shortcut.
    if name == "motion" and offset_name(region.excess.reshape(WINDOW, WINDOW)) == AROUND:
        return None
    return region


def _stands_out(region: _Region, sums: Floats, *, is_old: bool) -> bool:
    """Whether a region of the frame is one place that the score rests on, by the sums above the other classes'."""
    if is_old:
        return region.effect >= _OLD_EFFECT and (region.peak >= _OLD_PEAK or _is_ring(region))
    is_marked = region.peak >= LEAST_PEAK["frame"] and sums[region.cells].max() >= _LEAST_SUM
    return region.effect >= LEAST_EFFECT["frame"] and bool(is_marked)


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
        yield max(spaces, key=lambda region: region.plain_peak)


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
    least = usual + 0.5 * region.effect
    showing = own & (shares >= least)
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
        showing=Showing(region.profile, tuple(map(int, np.flatnonzero(region.cells))), least),
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
