"""Boxes of the objects in a video, by frame number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.errors import InputError

_RULE = "must be [frame, x0, y0, x1, y1] lists, or per frame null, [x0, y0, x1, y1] or a list of these"


@dataclass(frozen=True, eq=False)
class Boxes:
    """All boxes of a video.

    Attributes:
        frames: (N,) int64, source frame of each box, from 0.
        tracks: (N,) int64 in 0..M-1, which object it is, or the running number of the box in its frame.
        corners: (N, 4) float64, (x0, y0, x1, y1), half-open.
        count: M, columns of the array that `at` gives.
        size: (width, height) of the frames in which the corners are measured; None: of the source's own.
    """

    frames: NDArray[np.int64]
    tracks: NDArray[np.int64]
    corners: NDArray[np.float64]
    count: int
    size: tuple[int, int] | None = None

    def at(self, indices: Sequence[int] | NDArray[np.int64], height: int, width: int) -> NDArray[np.float64]:
        """(T, M, 4) float64: the boxes of the source frames `indices`, in pixels of a (height, width) source.

        Zeros where there is none.
        """
        out = np.zeros((len(indices), self.count, 4))
        for t, index in enumerate(indices):
            here = self.frames == index
            out[t, self.tracks[here]] = self.corners[here]
        if self.size is not None:
            out *= np.array([width / self.size[0], height / self.size[1]] * 2)
        return out


def boxes_from_tubes(tubes: Sequence[tuple[int, NDArray[Any]]], size: tuple[int, int]) -> Boxes:
    """Boxes of objects that are annotated frame by frame.

    Args:
        tubes: per object its first frame, and (n, 4) x, y, width, height in this frame and those after it.
        size: (width, height) of the annotated frames.
    """
    frames = [first + np.arange(len(rows), dtype=np.int64) for first, rows in tubes]
    tracks = [np.full(len(rows), m, np.int64) for m, (_, rows) in enumerate(tubes)]
    # Files store x and width in integers that just hold them: add in floating point, where nothing overflows.
    sides = np.concatenate([np.zeros((0, 4)), *(np.asarray(rows, np.float64).reshape(-1, 4) for _, rows in tubes)])
    return Boxes(
        frames=np.concatenate([np.zeros(0, np.int64), *frames]),
        tracks=np.concatenate([np.zeros(0, np.int64), *tracks]),
        corners=np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1),
        count=len(tubes),
        size=size,
    )


def boxes_from_lists(content: Any) -> Boxes:
    """Boxes as a manifest holds them, in pixels of the source.

    Args:
        content: `[frame, x0, y0, x1, y1]` lists in any order; or one entry per source frame, from frame 0 on: None, one
            `[x0, y0, x1, y1]`, or a list of these.

    Raises:
        InputError: anything else; the message says what is expected.
    """
    if not isinstance(content, list):
        raise InputError(f"{_RULE}; got {_short(content)}")
    if content and all(_is_row(entry, 5) for entry in content):
        rows = [(entry[0], entry[1:]) for entry in content]
    else:
        entries = [[] if entry is None else [entry] if _is_row(entry, 4) else entry for entry in content]
        for entry in entries:
            if not isinstance(entry, list) or not all(_is_row(corners, 4) for corners in entry):
                raise InputError(f"{_RULE}; got {_short(entry)}")
        rows = [(frame, corners) for frame, entry in enumerate(entries) for corners in entry]
    tracks: list[int] = []
    in_frame: dict[int, int] = {}
    for frame, _ in rows:
        if frame != int(frame) or frame < 0:
            raise InputError(f"{_RULE}, frame a whole number from 0 on; got {frame}")
        tracks.append(in_frame.get(int(frame), 0))
        in_frame[int(frame)] = tracks[-1] + 1
    return Boxes(
        frames=np.array([frame for frame, _ in rows], np.int64),
        tracks=np.array(tracks, np.int64),
        corners=np.array([corners for _, corners in rows], np.float64).reshape(-1, 4),
        count=max(in_frame.values(), default=0),
    )


def _is_row(entry: Any, length: int) -> bool:
    return isinstance(entry, list) and len(entry) == length and all(_is_number(value) for value in entry)


def _is_number(value: Any) -> bool:
    # No pixel needs more, and float() of a longer integer fails.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 <= value <= 1e9


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
