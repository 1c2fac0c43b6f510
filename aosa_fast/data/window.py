"""Read a window from a part of a video, looped if the part is too short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aosa_fast.errors import VideoError
from aosa_fast.video.clip import Convert, Fit, VideoClip, Window, frame_at
from aosa_fast.video.read import read_source


@dataclass(frozen=True)
class _Part(Window):
    """The window of `read_window`; `start` None is the first frame, not the centre."""

    end: int | float | None = None

    def choose(self, path: str, times: Sequence[float], fps: float) -> list[int]:
        first = 0 if self.start is None else self._number(path, self.start, times, fps)
        last = len(times)
        behind = isinstance(self.end, float) and (not times or self.end > times[-1] + 1 / fps)
        if self.end is not None and not behind:
            last = min(last, self._number(path, self.end, times, fps, is_end=True))
        length = last - first
        if length < 1:
            rule = f"must have a frame from {_place(self.start)} to {_place(self.end)}; got {len(times)} frames"
            raise VideoError(path, rule, frames_ok=len(times))
        count = min(self.frames, -(-length // self.stride))
        span = (count - 1) * self.stride + 1
        if count == self.frames and (self.start is None or self.end is not None):
            first += (length - span) // 2
        return list(range(first, first + span, self.stride))

    @staticmethod
    def _number(path: str, place: int | float, times: Sequence[float], fps: float, is_end: bool = False) -> int:
        if isinstance(place, int):
            return place
        number = frame_at(path, place, times, fps)
        # The end of the last frame is nearest to the last frame, and yet behind it.
        return number + (is_end and place - times[number] > 0.5 / fps)


def read_window(
    path: str,
    frames: int,
    stride: int,
    start: int | float | None = None,
    end: int | float | None = None,
    convert: Convert | None = None,
    fit: Fit | None = None,
) -> VideoClip:
    """Read at most `frames` frames of the part of a video between two places.

    Args:
        path: a video file or a folder of frames.
        frames: how many are wanted.
        stride: step between them, in source frames.
        start: first frame of the part: its number from 0 (int), its time in seconds (float), or None for the first.
        end: likewise, the first frame that no longer belongs to it; None, or one behind the end of the video, for
            the end of the video.
        convert: as for `read_clip`.
        fit: as for `read_source`.

    Returns:
        The window in the middle of the part; with a `start` and no `end`, the window that begins at the start. Where
        the part is too short: fewer frames, every `stride`-th from its first, for the caller to loop. Damage is told
        by `damaged` and `replaced`, not by a warning.

    Raises:
        InputError: an argument out of range.
        VideoError: the file cannot be read, or the part holds no frame.
    """
    first, last = (None if place is None else Window.parse(frames, stride, place).start for place in (start, end))
    return read_source(path, _Part(frames, stride, first, last), convert=convert, fit=fit)


def _place(place: int | float | None) -> str:
    if place is None:
        return "its end"
    return f"{place:g} s" if isinstance(place, float) else f"frame {place}"
