"""Clips summed into few cells, so that those of any size can be compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.store.schema import GRID, WINDOW

_UNITS = 1_000_000
_CELLS = GRID[1]  # cells of the frame's side; the window's have the same size


def clip_grid(values: NDArray[np.float64] | NDArray[np.bool_]) -> list[float] | None:
    """Shares of a clip's sum in 8 x 8 x 8 cells.

    A cell is an eighth of the clip's length, height and width, whatever these are: a frame or pixel that two cells
    share counts in each by how much of it lies there, and where there are fewer than eight, several cells share one.

    Args:
        values: (T, H, W), not negative.

    Returns:
        512 numbers, time first, then rows, then columns, in millionths, that sum to 1; None if all values are 0.
    """
    over_time, over_rows, over_columns = (
        _overlaps(np.linspace(0, side, cells + 1), side) for side, cells in zip(values.shape, GRID, strict=True)
    )
    # Frame by frame, which needs no other array of the clip's size.
    frames = np.stack([over_rows @ (frame.astype(np.float64) @ over_columns.T) for frame in values])
    cells = (over_time @ frames.reshape(len(frames), -1)).ravel()
    total = cells.sum()
    return in_millionths(cells / total) if total > 0 else None


def signed_grid(field: NDArray[np.float32], magnitude: float) -> list[float] | None:
    """Sums of a field over the clip in 8 x 8 cells of the frame, as parts of a magnitude.

    Noise of both signs, which fills most of a field, cancels in them; a mark that stands at its place does not.

    Args:
        field: (T, H, W), of any sign.
        magnitude: what a sum is a part of, that of all absolute values.

    Returns:
        64 numbers from -1 to 1, rows first, to the nearest millionth; None where the magnitude is 0.
    """
    if magnitude <= 0:
        return None
    over_rows, over_columns = (
        _overlaps(np.linspace(0, side, cells + 1), side) for side, cells in zip(field.shape[1:], GRID[1:], strict=True)
    )
    cells = over_rows @ field.sum(axis=0, dtype=np.float64) @ over_columns.T / magnitude
    # Adding 0 makes a 0 of -0.
    return (np.rint(cells.ravel() * _UNITS) / _UNITS + 0.0).tolist()


def window_grid(picture: NDArray[np.float64], centre: tuple[float, float]) -> list[float]:
    """Sums of a picture in 9 x 9 cells round a place; each is an eighth of the frame high and wide.

    Args:
        picture: (H, W), shares: not negative, sum at most 1.
        centre: (x, y) of the middle cell's middle; in pixels, the first of which reaches from 0 to 1.

    Returns:
        81 numbers, rows first, in millionths; what lies beyond the window does not count.
    """
    steps = np.arange(WINDOW + 1) - WINDOW / 2
    height, width = picture.shape
    over_rows = _overlaps(centre[1] + steps * height / _CELLS, height)
    over_columns = _overlaps(centre[0] + steps * width / _CELLS, width)
    return in_millionths((over_rows @ picture @ over_columns.T).ravel())


def moving_centre(moving: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Where the motion (T, H, W) is: (x, y), pixels, the first of which reaches from 0 to 1.

    Per axis the median, over the frames in which something moves, of the mean place of that; None if nothing does.
    """
    per_row, per_column = moving.sum(axis=2), moving.sum(axis=1)
    counts = per_row.sum(axis=1)
    some = counts > 0
    if not some.any():
        return None
    x, y = (np.median(sums[some] @ (np.arange(sums.shape[1]) + 0.5) / counts[some]) for sums in (per_column, per_row))
    return float(x), float(y)


def in_millionths(shares: NDArray[np.float64]) -> list[float]:
    """Whole millionths of shares (N,), not negative: they compress well, and have the same sum to half of one.

    Each number is rounded down, and the millionths that the sum then lacks go to those that lost most.
    """
    exact = shares * _UNITS
    whole = np.floor(exact)
    lacking = round(float(exact.sum() - whole.sum()))
    whole[np.argsort(whole - exact, kind="stable")[:lacking]] += 1
    return (whole / _UNITS).tolist()


def _overlaps(edges: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(cells, count): how much of each of the pixels 0..1, 1..2, ... lies between each two edges."""
    starts = np.arange(count)
    shared = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return np.maximum(shared, 0)
