"""Words for cells: where in the frame, when in the clip, on which side of the motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.store.schema import GRID, WINDOW

ROWS, COLUMNS = GRID[1:]
AROUND = "around"  # an offset of nothing


def ring() -> NDArray[np.bool_]:
    """(8, 8): the cells along the frame's sides."""
    cells = np.ones((ROWS, COLUMNS), bool)
    cells[1:-1, 1:-1] = False
    return cells


def frame_cells(cells: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """(row, column) of those of the frame's 64 cells that are True."""
    return tuple((int(row), int(column)) for row, column in np.argwhere(cells.reshape(ROWS, COLUMNS)))


def window_cells(cells: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """(row, column) of those of the 81 cells round the motion that are True."""
    return tuple((int(row), int(column)) for row, column in np.argwhere(cells.reshape(WINDOW, WINDOW)))


def place_name(weights: NDArray[np.floating]) -> str:
    """Words for the place of a region of the frame, (8, 8) weights: "bottom right corner", "left side", "centre"."""
    row, column = _centre(weights)
    high = _third(row, ROWS, ("top", "", "bottom"))
    wide = _third(column, COLUMNS, ("left", "", "right"))
    if high and wide:
        return f"{high} {wide} corner"
    return f"{high or wide} side" if high or wide else "centre"


def offset_name(weights: NDArray[np.floating]) -> str:
    """Words for the offset of a region from the motion, (9, 9) weights: "above", "right of and below", or `AROUND`."""
    row, column = _centre(weights)
    middle = (WINDOW - 1) / 2
    down, right = row - middle, column - middle
    parts = []
    if abs(right) >= 1 and abs(right) >= 0.5 * abs(down):
        parts.append("right of" if right > 0 else "left of")
    if abs(down) >= 1 and abs(down) >= 0.5 * abs(right):
        parts.append("below" if down > 0 else "above")
    return " and ".join(parts) or AROUND


def time_name(cells: NDArray[np.bool_], frames: int) -> str:
    """Words for parts of the clip, (8,) bool: "frame 12 of 16", "frames 3-6 of 16"; frames count from 1."""
    where = np.flatnonzero(cells)
    first = int(where[0] * frames / len(cells)) + 1
    last = max(first, int(np.ceil((where[-1] + 1) * frames / len(cells))))
    return f"frame {first} of {frames}" if first == last else f"frames {first}-{last} of {frames}"


def _centre(weights: NDArray[np.floating]) -> tuple[float, float]:
    total = float(weights.sum())
    rows, columns = np.indices(weights.shape)
    return float((rows * weights).sum() / total), float((columns * weights).sum() / total)


def _third(position: float, cells: int, names: tuple[str, str, str]) -> str:
    share = (position + 0.5) / cells
    return names[0] if share < 0.32 else names[2] if share > 0.68 else names[1]
