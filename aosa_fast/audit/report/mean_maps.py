"""Mean maps as small pictures: colours for lifts, outlines round cells, and the scale that goes with them.

A lift is the share of a cell times the number of cells: 1 everywhere for a flat map.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.video.colormap import COLORS, LEVELS

Floats = NDArray[np.floating]
STEP = 9  # cells from one part of the clip to the next on the picture of all: 8 and a gap
_LIMITS = (8.0, 16.0, 32.0)
_SCALE_STEPS = 96
_GAMMA = 0.7  # below 1, so that small lifts can be told apart; not so small that a flat map looks hot


def lifts(shares: Floats) -> NDArray[np.float64]:
    """Shares to lifts, float64 of the same shape; 0 where a share is not finite or negative."""
    return np.maximum(np.nan_to_num(np.asarray(shares, np.float64), posinf=0), 0) * shares.size


def scale_limit(maps: Iterable[NDArray[np.float64]]) -> float:
    """The lift of the brightest colour for all maps of a page: 8, 16 or 32, so that few cells are beyond."""
    values = [lift.ravel() for lift in maps]
    top = float(np.percentile(np.concatenate(values), 99.5)) if values else 0.0
    return next((limit for limit in _LIMITS if top <= limit), _LIMITS[-1])


def frame_picture(lift: NDArray[np.float64], limit: float) -> bytes:
    """(rows, columns) lifts as a PNG with one pixel a cell."""
    return _png(_levels(lift, limit))


def parts_picture(lift: NDArray[np.float64], limit: float) -> bytes:
    """(parts, rows, columns) lifts as a PNG with the parts side by side, `STEP` pixels apart; gaps are transparent."""
    parts, rows, columns = lift.shape
    sheet = np.full((rows, parts * STEP - (STEP - columns)), -1)
    for i, part in enumerate(_levels(lift, limit)):
        sheet[:, i * STEP : i * STEP + columns] = part
    return _png(sheet)


def scale_picture(limit: float) -> bytes:
    """The colours from a lift of 0 to `limit`, evenly on the scale of `scale_ticks`, as a PNG one pixel high."""
    return _png(_levels((np.arange(_SCALE_STEPS) / (_SCALE_STEPS - 1)) ** (1 / _GAMMA) * limit, limit)[None])


def scale_ticks(limit: float) -> list[tuple[float, str]]:
    """(place, text) of the numbers on the scale; the place is 0 to 1."""
    values = [value for value in (0.0, 1.0, 2.0, 4.0, *_LIMITS) if value <= limit]
    # On a long scale 1 and 2 are too near to each other for both to be written.
    values = [value for value in values if value != 2 or limit <= 16]
    return [((value / limit) ** _GAMMA, f"≥ {value:g}" if value == limit else f"{value:g}") for value in values]


def outline(cells: Collection[tuple[int, int]], part: int = 0) -> str:
    """The rim of (row, column) cells as the data of an SVG path, one unit a cell, on a part of `parts_picture`."""
    marked = set(cells)
    lines = []
    for row, column in sorted(marked):
        x = part * STEP + column
        for beside, line in (
            ((row - 1, column), f"M{x} {row}h1"),
            ((row + 1, column), f"M{x} {row + 1}h1"),
            ((row, column - 1), f"M{x} {row}v1"),
            ((row, column + 1), f"M{x + 1} {row}v1"),
        ):
            if beside not in marked:
                lines.append(line)
    return "".join(lines)


def in_words(lift: NDArray[np.float64]) -> str:
    """Where a (parts, rows, columns) map is strongest, in words, for those who do not see it."""
    if not lift.any():
        return "empty"
    part, row, column = np.unravel_index(int(lift.argmax()), lift.shape)
    place = f"{_third(int(row), lift.shape[1], 'top', 'bottom')} {_third(int(column), lift.shape[2], 'left', 'right')}"
    place = "middle" if place == "middle middle" else place
    return f"strongest at the {place} in part {part + 1} of {len(lift)}, {lift.max():.1f} times a flat map"


def around_in_words(lift: NDArray[np.float64]) -> str:
    """Where a map round the moving object, (rows, columns), is strongest, in words."""
    if not lift.any():
        return "empty"
    row, column = np.unravel_index(int(lift.argmax()), lift.shape)
    down, right = int(row) - lift.shape[0] // 2, int(column) - lift.shape[1] // 2
    steps = [f"{abs(down)} {'below' if down > 0 else 'above'}"] * bool(down)
    steps += [f"{abs(right)} to the {'right' if right > 0 else 'left'}"] * bool(right)
    place = f"{' and '.join(steps)} of the object, in eighths of the frame" if steps else "on the object"
    return f"strongest {place}, {lift.max():.1f} times a flat map"


def _third(index: int, count: int, first: str, last: str) -> str:
    return first if 3 * index + 2 < count else last if 3 * index + 1 > 2 * count else "middle"


def _levels(lift: NDArray[np.float64], limit: float) -> NDArray[np.int64]:
    # From 1, so that with the gaps a palette has at most 256 colours.
    return 1 + np.rint(np.minimum(lift / limit, 1) ** _GAMMA * (LEVELS - 1)).astype(np.int64)


def _png(levels: NDArray[np.int64]) -> bytes:
    """Rows of `COLORS` above its middle as a PNG with a palette of those in use; -1 is transparent."""
    used, index = np.unique(levels, return_inverse=True)
    colors = np.rint(COLORS[LEVELS + np.maximum(used, 0)]).astype(np.uint8)
    image = Image.fromarray(index.reshape(levels.shape).astype(np.uint8), "P")
    image.putpalette(colors.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, **({"transparency": 0} if used[0] < 0 else {}))
    return file.getvalue()
