"""Read a window from a part of a video, looped if the part is too short."""

from __future__ import annotations

import warnings

from aosa_fast.errors import VideoError
from aosa_fast.video.clip import VideoClip
from aosa_fast.video.read import read_clip

_BEHIND_EVERY_END = 10**11


def read_window(
    path: str, frames: int, stride: int, start: int | float | None = None, end: int | float | None = None
) -> VideoClip:
    """Read at most `frames` frames of the part of a video between two places.

    Args:
        path: a video file or a folder of frames.
        frames: how many are wanted.
        stride: step between them, in source frames.
        start: first frame of the part: its number from 0 (int), its time in seconds (float), or None for the first.
        end: likewise, the first frame that no longer belongs to it; None, or one behind the end of the video, for
            the end of the video.

    Returns:
        The window in the middle of the part; with a `start` and no `end`, the window that begins at the start. Where
        the part is too short: fewer frames, every `stride`-th from its first, for the caller to loop. Damage is told
        by `damaged` and `replaced`, not by a warning.

    Raises:
        VideoError: the file cannot be read, or the part holds no frame.
    """
    # Filters belong to the process: read in processes, not in threads, which could leave this one behind.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* replaced by the nearest decodable one", category=UserWarning)
        if start is not None or end is not None:
            return _read_part(path, frames, stride, start, end, _count_frames(path))
        try:
            return read_clip(path, frames, stride=stride)
        except VideoError as error:
            if not error.frames_ok:
                raise
            return _read_part(path, frames, stride, None, None, error.frames_ok)


def _read_part(
    path: str, frames: int, stride: int, start: int | float | None, end: int | float | None, total: int
) -> VideoClip:
    first = 0 if start is None else _frame_number(path, start, total)
    last = total if end is None else _frame_number(path, end, total, is_end=True)
    while True:
        length = min(last, total) - first
        if length < 1:
            raise VideoError(path, f"must have a frame from {_place(start)} to {_place(end)}; got {total} frames")
        count = min(frames, -(-length // stride))
        span = (count - 1) * stride + 1
        centred = count == frames and (start is None or end is not None)
        try:
            return read_clip(path, count, stride=stride, start=first + (length - span) // 2 if centred else first)
        except VideoError as error:
            # Where time stamps prove wrong, decoding may bring fewer frames than they announce.
            if not 0 < error.frames_ok < total:
                raise
            total = error.frames_ok


def _count_frames(path: str) -> int:
    # The cheapest way to ask: the answer to a start behind the end comes before anything is decoded.
    try:
        return read_clip(path, 1, start=_BEHIND_EVERY_END).total_frames
    except VideoError as error:
        if not error.frames_ok:
            raise
        return error.frames_ok


def _frame_number(path: str, place: int | float, total: int, is_end: bool = False) -> int:
    if isinstance(place, int):
        return place
    try:
        shown = read_clip(path, 1, start=place)
    except VideoError as error:
        if is_end and error.frames_ok:
            return total
        raise
    # The end of the last frame is nearest to the last frame, and yet behind it.
    return shown.indices[0] + (is_end and place - shown.times[0] > 0.5 / shown.fps)


def _place(place: int | float | None) -> str:
    if place is None:
        return "its end"
    return f"{place:g} s" if isinstance(place, float) else f"frame {place}"
