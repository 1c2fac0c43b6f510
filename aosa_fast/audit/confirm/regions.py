"""Which voxels of a clip a finding is about, and as many elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.clip.grids import moving_centre
from aosa_fast.audit.clip.measures import border_ring, near
from aosa_fast.audit.findings.types import BORDER, TIME, Finding
from aosa_fast.audit.store.schema import GRID, WINDOW

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of a clip.

    Attributes:
        shape: (T, H, W).
        grid: (8, 8, 8), its map.
        moving: (T, H, W), what moves; None where nobody asks.
    """

    shape: tuple[int, int, int]
    grid: NDArray[np.float64]
    moving: Mask | None = None


def has_region(finding: Finding) -> bool:
    """Whether a finding says what it is about."""
    return bool(finding.boxes or finding.frames or finding.offsets) or finding.where in (BORDER, TIME)


def hide(finding: Finding, clip: Seen, turn: int) -> tuple[Mask, Mask]:
    """(T, H, W) the voxels that a finding is about in a clip, and a region of the same kind and size elsewhere.

    A part of the frame has its mirror images for that, the times of a clip other times, the cells round the motion
    their images round it; clips take turns with them by `turn`. What has no image apart from itself, as the middle of
    the frame, has the cells that are as far from the middle, as nearly as there are.
    """
    hidden, others = _region(finding, clip)
    size = int(hidden.sum())
    # Round the motion, an image may reach beyond the frame: those count whose size comes nearest.
    gaps = [abs(int(other.sum()) - size) for other in others]
    fitting = [other for other, gap in zip(others, gaps, strict=True) if gap == min(gaps)]
    return hidden, fitting[turn % len(fitting)]


def _region(finding: Finding, clip: Seen) -> tuple[Mask, list[Mask]]:
    T, H, W = clip.shape
    if finding.where == BORDER:
        ring, inner = _rings(H, W)
        return _over_time(ring, T), [_over_time(inner, T)]
    if finding.offsets:
        chosen = _marked(finding.offsets, (WINDOW, WINDOW))
        return _round_motion(chosen, clip), [_round_motion(image, clip) for image in _elsewhere(chosen)]
    if finding.boxes:
        chosen = _marked(finding.boxes, GRID[1:])
        return _over_time(_pixels(chosen, H, W), T), [_over_time(_pixels(c, H, W), T) for c in _elsewhere(chosen)]
    # Where each clip has another time, its own.
    parts = np.zeros(GRID[0], bool)
    parts[list(finding.frames) or [int(clip.grid.sum(axis=(1, 2)).argmax())]] = True
    hidden = _spread(parts, T)
    turns = [_spread(np.roll(parts, step), T) for step in range(1, GRID[0]) if not (np.roll(parts, step) & parts).any()]
    return _all_over(hidden, H, W), [_all_over(other, H, W) for other in turns or [~hidden]]


def _marked(cells: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> Mask:
    marked = np.zeros(shape, bool)
    marked[tuple(np.transpose(cells))] = True
    return marked


def _elsewhere(cells: Mask) -> list[Mask]:
    """Square regions like one, apart from it: its images by the symmetries of the square, else others as far out."""
    images = [image for image in _symmetries(cells) if not (image & cells).any()]
    unlike = {image.tobytes(): image for image in images}
    if unlike:
        return list(unlike.values())
    place = np.indices(cells.shape) - (np.array(cells.shape) - 1)[:, None, None] / 2
    far = np.hypot(*place)
    gap = np.where(cells, np.inf, np.abs(far - far[cells].mean()))
    order = np.argsort(gap, axis=None, kind="stable")[: min(int(cells.sum()), int((~cells).sum()))]
    other = np.zeros(cells.size, bool)
    other[order] = True
    return [other.reshape(cells.shape)]


def _symmetries(cells: Mask) -> Iterator[Mask]:
    # Mirrored before turned: a place on the side is likeliest to be like that on the other side.
    yield from (cells[:, ::-1], cells[::-1], cells[::-1, ::-1])
    yield from (cells.T, cells.T[:, ::-1], cells.T[::-1], cells.T[::-1, ::-1])


def _pixels(cells: Mask, height: int, width: int) -> Mask:
    rows, columns = (_cell_of(side, count) for side, count in zip((height, width), cells.shape, strict=True))
    return cells[rows[:, None], columns]


def _cell_of(side: int, count: int) -> NDArray[np.int64]:
    return ((np.arange(side) + 0.5) * count / side).astype(np.int64)


def _rings(height: int, width: int) -> tuple[Mask, Mask]:
    """The ring along the border that measures are of, and the next one inside, of as nearly the same size."""
    ring = border_ring(height, width)
    rows, columns = (np.minimum(np.arange(side), side - 1 - np.arange(side)) for side in (height, width))
    depth = np.minimum(rows[:, None], columns)
    inside = ~ring
    sizes = np.array([int((inside & (depth <= d)).sum()) for d in range(depth.max() + 1)])
    return ring, inside & (depth <= int(np.abs(sizes - ring.sum()).argmin()))


def _spread(parts: Mask, frames: int) -> Mask:
    """(T,) the frames of the eighths of a clip; where it has fewer frames, all that share one of them."""
    owner = _cell_of(frames, len(parts)) if frames >= len(parts) else None
    if owner is not None:
        return parts[owner]
    found = np.zeros(frames, bool)
    found[np.flatnonzero(parts) * frames // len(parts)] = True
    return found


def _round_motion(cells: Mask, clip: Seen) -> Mask:
    """What lies in these cells of the window round the motion, as `grid_around` is taken, but for what moves."""
    T, H, W = clip.shape
    centre = None if clip.moving is None else moving_centre(clip.moving)
    if clip.moving is None or centre is None:
        return np.zeros(clip.shape, bool)
    places = []
    for side, middle, count in ((H, centre[1], GRID[1]), (W, centre[0], GRID[2])):
        places.append(np.floor((np.arange(side) + 0.5 - middle) * count / side + WINDOW / 2).astype(np.int64))
    rows, columns = np.meshgrid(*places, indexing="ij")
    inside = (rows >= 0) & (rows < WINDOW) & (columns >= 0) & (columns < WINDOW)
    picture = np.zeros((H, W), bool)
    picture[inside] = cells[rows[inside], columns[inside]]
    return _over_time(picture, T) & ~near(clip.moving)


def _over_time(picture: Mask, frames: int) -> Mask:
    return np.broadcast_to(picture, (frames, *picture.shape))


def _all_over(frames: Mask, height: int, width: int) -> Mask:
    return np.broadcast_to(frames[:, None, None], (len(frames), height, width))


def read_grid(row: dict[str, Any]) -> NDArray[np.float64]:
    """The column `grid` of a row, (8, 8, 8)."""
    values = row["grid"]
    return np.zeros(GRID) if values is None else np.array(values, np.float64).reshape(GRID)
