"""The strongest tubes of a clip as tracks: a box for each frame, in pixels of the source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.exports.geometry import Source
from aosa_fast.audit.store.compact import StoredTubes, row_tubes
from aosa_fast.audit.tasks import Row

_SHARE = 0.5  # of the strongest tube's score: weaker ones are left out
_ALIKE = 0.3  # mean overlap (intersection over union) from which on two tubes show the same


@dataclass(frozen=True, eq=False)
class Track:
    """A tube.

    Attributes:
        score: how far the class' score drops when the tube is hidden.
        frames: (n,) of the source, ascending.
        boxes: (n, 4) (x0, y0, x1, y1), pixels of the source: around the middle of what is hidden in each frame.
    """

    score: float
    frames: NDArray[np.int64]
    boxes: NDArray[np.float64]


def find_tracks(row: Row, source: Source, most: int) -> list[Track]:
    """The tubes with the highest scores, the strongest first, of those that show the same the strongest.

    Args:
        row: with a map.
        source: of the row.
        most: how many.

    Raises:
        InputError: the map is damaged.
    """
    tubes = row_tubes(row)
    boxes = _surround(tubes)[:, : len(source.indices)]
    order = np.argsort(-tubes.scores, kind="stable")
    chosen: list[int] = []
    for n in order[tubes.scores[order] > max(0.0, _SHARE * float(tubes.scores.max()))].tolist():
        if len(chosen) < most and all(_overlap(boxes[n], boxes[m]) < _ALIKE for m in chosen):
            chosen.append(n)
    moved = source.boxes(boxes)
    seen: NDArray[np.bool_] = np.all(moved[..., 2:] > moved[..., :2], axis=-1)
    return [Track(float(tubes.scores[n]), source.indices[seen[n]], moved[n][seen[n]]) for n in chosen if seen[n].any()]


def _surround(tubes: StoredTubes) -> NDArray[np.int32]:
    """(N, T, 4): the rectangle around each anchor's box and those of its members that touch it; 0 where it is gone.

    Members may lie anywhere, as long as they move alike: a rectangle around all of them would show what is not hidden.
    """
    joined = tubes.boxes[tubes.members]  # (N, K+1, T, 4)
    anchor = joined[:, :1]
    touch = (np.maximum(joined[..., :2], anchor[..., :2]) <= np.minimum(joined[..., 2:], anchor[..., 2:])).all(-1)
    there = touch & (tubes.members >= 0)[:, :, None] & tubes.alive[tubes.members] & tubes.alive[:, None]
    low = np.where(there[..., None], joined[..., :2], np.iinfo(np.int32).max).min(1)
    high = np.where(there[..., None], joined[..., 2:], 0).max(1)
    around: NDArray[np.int32] = np.concatenate([low, high], -1).astype(np.int32)
    around[~there.any(1)] = 0
    return around


def _overlap(one: NDArray[np.int32], other: NDArray[np.int32]) -> float:
    """Mean over the frames of intersection over union."""
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    both = np.clip(high - low, 0, None).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one, other)]
    return float((both / np.maximum(areas[0] + areas[1] - both, 1)).mean())
