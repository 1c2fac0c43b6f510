"""From the model's input back to the source: which of its frames, and where in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aosa_fast.addresses import is_elsewhere
from aosa_fast.audit.tasks import Row
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.video import read_clip


@dataclass(frozen=True)
class Source:
    """What a clip was cut from.

    Attributes:
        height, width: of its frames, pixels.
        fps: frames a second; None where it has none.
        frames: how many it has; None where that is not known.
        indices: (T,) the frames that the model sees, those that repeat the beginning of a short clip left out.
        preprocessing: how its frames became the input.
    """

    height: int
    width: int
    fps: float | None
    frames: int | None
    indices: NDArray[np.int64]
    preprocessing: Preprocessing

    def boxes(self, boxes: NDArray[np.int32]) -> NDArray[np.float64]:
        """(..., 4) (x0, y0, x1, y1) of the model's input in pixels of the source, clipped to its frame."""
        x0, y0, x1, y1 = self.preprocessing.source_window(self.height, self.width)
        high, wide = self.preprocessing.crop
        scale = np.array([(x1 - x0) / wide, (y1 - y0) / high] * 2)
        moved = boxes * scale + np.array([x0, y0, x0, y0])
        clipped: NDArray[np.float64] = np.clip(moved, 0, np.array([self.width, self.height] * 2)).round(2)
        return clipped

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, h, w): a map (T, H, W) of the input over the whole resized frame; 0 where the model does not look."""
        values = values[: len(self.indices)]
        high, wide = self.preprocessing.resized(self.height, self.width)
        top, left = (high - values.shape[1]) // 2, (wide - values.shape[2]) // 2
        whole = np.zeros((len(values), high, wide), np.float32)
        part = values[:, max(-top, 0) : max(-top, 0) + high, max(-left, 0) : max(-left, 0) + wide]
        y, x = max(top, 0), max(left, 0)
        whole[:, y : y + part.shape[1], x : x + part.shape[2]] = part
        return whole

    def shown(self, start: float, end: float) -> Sequence[int]:
        """The frames from one share of the clip to another, at least one."""
        count = len(self.indices)
        first = min(int(start * count), count - 1)
        return [int(i) for i in self.indices[first : max(first + 1, round(end * count))]]


def find_source(row: Row, preprocessing: Preprocessing | None) -> Source | None:
    """The source of a row; None where the row does not say it, and the file is not there to be asked.

    Rows of older audits do not say the size of the frames: then the file is opened. The frames of a rendered clip are
    the input itself.
    """
    if preprocessing is None or row["frames"] is None:
        return None
    facts = [row[f"source_{name}"] for name in ("height", "width", "fps", "frames")]
    if facts[0] is None and row["path"] is None:
        facts = [row["height"], row["width"], None, row["frames"]]
        preprocessing = preprocessing.changed(resize="exact")
    elif facts[0] is None:
        if not (is_elsewhere(row["path"]) or os.path.exists(row["path"])):
            return None
        try:
            clip = read_clip(row["path"], 1, start=0, convert=lambda frame: frame[:1, :1])
        except InputError:
            return None
        facts = [*clip.size, clip.fps, clip.total_frames]
    distinct = row["frames"] - (row["looped"] or 0)
    step = 1 if row["path"] is None else preprocessing.stride
    indices = (row["first_frame"] or 0) + np.arange(distinct) * step
    height, width, fps, frames = facts
    return Source(height, width, fps, frames, indices, preprocessing)
