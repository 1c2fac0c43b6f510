"""Frames in another size, by OpenCV; or where that cannot be imported, in NumPy, with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.libraries import cv2, opencv

Frame = NDArray[np.uint8]  # (H, W, 3)


def resize(frame: Frame, height: int, width: int) -> Frame:
    """A frame (H, W, 3) uint8 in another size: sides that shrink area-averaged, then those that grow bilinear.

    Without OpenCV it takes 4 to 20 times as long.
    """
    smaller = min(height, frame.shape[0]), min(width, frame.shape[1])
    # In two passes: OpenCV averages areas only where no side grows.
    if smaller != frame.shape[:2]:
        frame = _averaged(frame, *smaller) if _missing() else _opencv(frame, *smaller, cv2.INTER_AREA)
    if smaller != (height, width):
        frame = _interpolated(frame, height, width) if _missing() else _opencv(frame, height, width, cv2.INTER_LINEAR)
    return frame


def _missing() -> bool:
    return isinstance(opencv(), ImportError)


def _opencv(frame: Frame, height: int, width: int, how: int) -> Frame:
    return np.asarray(cv2.resize(frame, (width, height), interpolation=how), np.uint8)


def _averaged(frame: Frame, height: int, width: int) -> Frame:
    rows, columns = frame.shape[0] / height, frame.shape[1] / width
    if rows.is_integer() and columns.is_integer():
        blocks = frame.reshape(height, int(rows), width, int(columns), -1).sum(axis=(1, 3), dtype=np.int32)
        if rows == columns == 2:
            return ((blocks + 2) >> 2).astype(np.uint8)  # halves are rounded up here, else to even
        return np.rint(blocks * np.float32(1 / (rows * columns))).astype(np.uint8)
    values = frame.astype(np.float32)
    for axis, size in ((1, width), (0, height)):
        places, weights = _overlaps(values.shape[axis], size)
        values = sum(
            np.take(values, place, axis) * _along(axis, weight) for place, weight in zip(places, weights, strict=True)
        )
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _overlaps(before: int, after: int) -> tuple[NDArray[np.int_], NDArray[np.float32]]:
    """The places (taps, after) of the pixels that a larger pixel covers, and the share of it that each of them is."""
    scale = before / after
    begin = np.arange(after) * scale
    pixels = np.floor(begin).astype(int) + np.arange(int(np.ceil(scale)) + 1)[:, None]
    parts = np.clip(np.minimum(pixels + 1, begin + scale) - np.maximum(pixels, begin), 0, 1)
    shares = np.where(parts > 1e-3, parts / np.minimum(scale, before - begin), 0)
    return np.minimum(pixels, before - 1), shares.astype(np.float32)


def _interpolated(frame: Frame, height: int, width: int) -> Frame:
    columns, left, right = _neighbours(frame.shape[1], width)
    near, far = (np.clip(columns + i, 0, frame.shape[1] - 1) for i in (0, 1))
    across = (frame[:, near] * _along(1, left) + frame[:, far] * _along(1, right)) >> 4
    rows, upper, lower = _neighbours(frame.shape[0], height)
    near, far = (np.clip(rows + i, 0, frame.shape[0] - 1) for i in (0, 1))
    down = (across[near] * _along(0, upper) >> 16) + (across[far] * _along(0, lower) >> 16)
    return ((down + 2) >> 2).astype(np.uint8)


def _neighbours(before: int, after: int) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.int_]]:
    """The pixel before each new pixel's middle, and the weights of it and the next one, in steps of 1/2048."""
    middles = ((np.arange(after) + 0.5) * (before / after) - 0.5).astype(np.float32)
    first = np.floor(middles)
    share = middles - first
    weights = (np.rint(part * np.float32(2048)).astype(int) for part in (1 - share, share))
    return first.astype(int), *weights


def _along(axis: int, weights: NDArray[Any]) -> NDArray[Any]:
    return weights[:, None] if axis == 1 else weights[:, None, None]
