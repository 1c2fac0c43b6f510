"""What a clip looks like in few bytes, whatever a model makes of it: for near-duplicates, and for tests without one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.store.schema import GRID
from aosa_fast.libraries import cv2

_SIDE = 64  # pixels that a frame is looked at in
_CHANNELS = 4  # red, green, blue, change
_ROWS, _COLUMNS = GRID[1:]
_STEP = 0.5  # levels: cells of one brightness must not differ by chance


def look(frames: NDArray[np.uint8]) -> dict[str, Any]:
    """The columns `frame_hash` and `appearance` of a clip (T, H, W, 3), RGB.

    `frame_hash` is the 64-bit difference hash of the mean frame: whether each of 8 x 8 cells is brighter than its left
    neighbour. `appearance` is levels of 0 to 255, a byte each: of 8 x 8 cells of the frame, rows first, and after them
    of the eighths of the clip, the mean red, green and blue, and the mean change of the grey from a frame to the next.
    """
    small = [cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in small]
    # The last frame is followed by none, a single one by itself.
    changes = [cv2.absdiff(*pair) for pair in pairwise(grey)] or [np.zeros_like(grey[0])]
    mean, change = _mean(small), _mean(changes)
    cells = cv2.resize(np.dstack([mean, change]), (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
    levels = np.array([cv2.mean(frame)[:3] for frame in small])
    steps = np.array([cv2.mean(picture)[0] for picture in (*changes, changes[-1])])[: len(frames)]
    parts = [np.append(levels[own].mean(axis=0), steps[own].mean()) for own in _parts(len(frames))]
    together = np.concatenate([cells.reshape(-1, _CHANNELS), parts])
    light = cv2.resize(_mean(grey), (_COLUMNS + 1, _ROWS), interpolation=cv2.INTER_AREA)
    bits = np.packbits(light[:, 1:] > light[:, :-1] + _STEP)
    return {
        "frame_hash": int.from_bytes(bits.tobytes(), "big"),
        "appearance": np.rint(together).astype(np.uint8).tobytes(),
    }


def unpack(appearances: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(n, 8, 8, 4) of the frame and (n, 8, 4) of the clip's parts, of n values of the column `appearance`.

    Raises:
        ValueError: another number of bytes.
    """
    size = (_ROWS * _COLUMNS + GRID[0]) * _CHANNELS
    if any(len(one) != size for one in appearances):
        raise ValueError(f"an appearance of another size than {size} bytes")
    values = np.frombuffer(b"".join(appearances), np.uint8).reshape(len(appearances), -1, _CHANNELS)
    cells, parts = np.split(values, [_ROWS * _COLUMNS], axis=1)
    return cells.reshape(-1, _ROWS, _COLUMNS, _CHANNELS), parts


def _mean(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    total = np.zeros(pictures[0].shape, np.float32)
    for picture in pictures:
        cv2.accumulate(picture, total)
    return np.asarray(total / len(pictures), np.float32)


def _parts(frames: int) -> list[slice]:
    """The frames of each eighth of a clip; where there are fewer than eight, several have the same."""
    starts = [part * frames // GRID[0] for part in range(GRID[0] + 1)]
    return [slice(first, max(end, first + 1)) for first, end in pairwise(starts)]
