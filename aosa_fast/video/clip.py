"""The clip that every reader returns, and the window of frames that a caller asks for."""

from __future__ import annotations

import bisect
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.errors import InputError, VideoError

DEFAULT_FPS = 25.0
"""The rate assumed for sources that carry none: frame folders, still images, raw streams."""

MAX_FRAME_PIXELS = 2**26
"""Pixels of the largest frame that is decoded: 8192x8192."""

MAX_CLIP_PIXELS = 2**29
"""Pixels of all frames of a clip that is kept as decoded, 1.6 GB: 64 of 3840x2160."""

Convert = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""What turns an (H, W, 3) uint8 RGB frame, upright, into the array that is kept of it, of one shape for all frames."""

Fit = Callable[[int, int], tuple[int, int]]
"""From (H, W) of a frame, upright, to that which is wanted of it, each side at most its own."""


@dataclass(frozen=True)
class VideoClip:
    """Frames cut out of a video.

    Attributes:
        frames: (T, H, W, 3) uint8, RGB, turned upright; or (T, ...), what `convert` makes of each of them.
        size: (H, W) of the frames of the source, upright.
        indices: place of each frame in the source, in presentation order, from 0.
        times: seconds from the first frame of the source.
        fps: average rate of the source, frames per second.
        total_frames: frames in the source, by their time stamps; by decoding it where these are of no use.
        damaged: packets, among those read, that could not be decoded.
        replaced: those of `indices` whose frame was damaged; the nearest decodable frame stands in.
        path: the file or folder.
        reader: "pyav", "torchcodec" or "images".
    """

    frames: NDArray[Any]
    size: tuple[int, int]
    indices: tuple[int, ...]
    times: tuple[float, ...]
    fps: float
    total_frames: int
    damaged: int
    replaced: tuple[int, ...]
    path: str
    reader: str

    @classmethod
    def of(
        cls,
        frames: NDArray[Any],
        size: tuple[int, int],
        places: Sequence[int],
        times: Sequence[float],
        fps: float,
        path: str,
        reader: str,
        damaged: int = 0,
        replaced: Sequence[int] = (),
    ) -> VideoClip:
        """The frames at these places of a source whose frames are shown at `times`; the rest as above."""
        shown = tuple(times[i] for i in places)
        return cls(frames, size, tuple(places), shown, fps, len(times), damaged, tuple(replaced), path, reader)

    @property
    def facts(self) -> dict[str, Any]:
        """Which frames these are, and how they were read, in plain types, for metadata."""
        return {
            "reader": self.reader,
            "frame_indices": list(self.indices),
            "frame_times": list(self.times),
            "total_frames": self.total_frames,
            "fps": self.fps,
            "damaged_packets": self.damaged,
            "replaced_frames": list(self.replaced),
        }


@dataclass(frozen=True)
class Bounds:
    """What a source that somebody else chose may be, before it is refused; None: whatever fits.

    Attributes:
        pixels: of a frame, at most.
        frames: of the source, at most.
        seconds: of the source, at most.
        threads: that decode it; None: as many as FFmpeg likes.
    """

    pixels: int | None = None
    frames: int | None = None
    seconds: float | None = None
    threads: int | None = None

    def check_length(self, path: str, frames: int, seconds: float = 0.0) -> None:
        """Refuse a source of so many frames, the last of which is shown at `seconds`.

        Raises:
            VideoError: it is too long.
        """
        if self.frames is not None and frames > self.frames:
            raise VideoError(path, f"must have at most {self.frames} frames; got {frames}")
        if self.seconds is not None and seconds > self.seconds:
            raise VideoError(path, f"must last at most {self.seconds:g} s; got {seconds:.6g} s")


ANY = Bounds()


@dataclass(frozen=True)
class Window:
    """Which frames of a source are wanted.

    Attributes:
        frames: how many, at least 1.
        stride: step between them in source frames, at least 1.
        start: the first: a frame number (int), seconds (float), or None for the centre of the source.
        bounds: of the source.
    """

    frames: int
    stride: int
    start: int | float | None
    bounds: Bounds = field(default=ANY, kw_only=True)

    @classmethod
    def parse(cls, frames: int, stride: int, start: int | float | str) -> Window:
        """Check the arguments of `read_clip`.

        Raises:
            InputError: a value out of range, or a `start` that is none of 12, 1.5, "12", "1.5s", "center".
        """
        return cls(_count("frames", frames), _count("stride", stride), _parse_start(start))

    @property
    def span(self) -> int:
        """Source frames from the first wanted one to the last, both included."""
        return (self.frames - 1) * self.stride + 1

    def choose(self, path: str, times: Sequence[float], fps: float) -> list[int]:
        """The wanted places in a source whose frames are shown at `times` (seconds, ascending).

        Raises:
            VideoError: the source has too few frames from the start on, or is too long.
        """
        total = len(times)
        self.bounds.check_length(path, total, times[-1] if times else 0.0)
        if self.start is None:
            first, where = max(0, (total - self.span) // 2), ""
        elif isinstance(self.start, float):
            first = frame_at(path, self.start, times, fps)
            where = f" from {self.start:g} s (frame {first}) on"
        else:
            first, where = self.start, f" from frame {self.start} on"
        if first + self.span > total:
            wish = f" for {self.frames} frames with stride {self.stride}" if self.stride > 1 else ""
            s = "" if self.span == 1 else "s"
            rule = f"must have at least {self.span} frame{s}{where}{wish}; got {max(0, total - first)}"
            raise VideoError(path, rule, frames_ok=total)
        return list(range(first, first + self.span, self.stride))


def check_pixels(path: object, height: int, width: int, frames: int = 1, bounds: Bounds = ANY) -> None:
    """Refuse what would take more memory than a picture is worth.

    Args:
        path: the file, for the message.
        height: of a frame, pixels.
        width: likewise.
        frames: how many are kept as decoded, none of them converted.
        bounds: of the source; of pixels, where they say so, instead of `MAX_FRAME_PIXELS`.

    Raises:
        VideoError: a frame has more than `MAX_FRAME_PIXELS`, or all frames more than `MAX_CLIP_PIXELS`.
    """
    if bounds.pixels is not None and height * width > bounds.pixels:
        raise VideoError(path, f"must have frames of at most {bounds.pixels / 1e6:g} megapixels; got {width}x{height}")
    if height * width > MAX_FRAME_PIXELS:
        raise VideoError(
            path, f"must have frames of at most {MAX_FRAME_PIXELS} pixels (8192x8192); got {width}x{height}"
        )
    if frames * height * width > MAX_CLIP_PIXELS:
        rule = f"must have at most {MAX_CLIP_PIXELS} pixels in the frames that are read"
        raise VideoError(
            path, f"{rule}; got {frames} of {width}x{height}: ask for fewer, or convert each as it is read"
        )


def join_frames(images: list[NDArray[Any]]) -> NDArray[Any]:
    """(T, ...): the arrays of all frames in one; empties the list, so that no frame is held twice.

    Raises:
        InputError: the arrays have several shapes or dtypes.
    """
    kinds = {(image.shape, image.dtype) for image in images}
    if len(kinds) > 1:
        raise InputError(f"convert must return arrays of one shape and dtype; got {', '.join(map(str, sorted(kinds)))}")
    joined = np.empty((len(images), *images[0].shape), images[0].dtype)
    for place in reversed(range(len(images))):
        joined[place] = images.pop()
    return joined


def _count(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number; got {value!r}") from None
    if number < 1 or isinstance(value, bool):
        raise InputError(f"{name} must be at least 1; got {value!r}")
    return number


def _parse_start(start: int | float | str) -> int | float | None:
    rule = 'start must be "center", a frame number like 12, or seconds like "1.5s"'
    value: int | float
    if isinstance(start, str):
        text = start.strip().lower()
        if text == "center":
            return None
        if re.fullmatch(r"[0-9]{1,12}", text):
            return int(text)
        if not re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*s", text):
            raise InputError(f"{rule}; got {start!r}")
        value = float(text[:-1])
    elif isinstance(start, float | np.floating):
        value = float(start)
    else:
        try:
            value = operator.index(start)
        except TypeError:
            raise InputError(f"{rule}; got {start!r}") from None
    if isinstance(start, bool) or not math.isfinite(value) or value < 0:
        raise InputError(f"{rule}, not negative; got {start!r}")
    return value


def frame_at(path: str, seconds: float, times: Sequence[float], fps: float) -> int:
    """The place of the frame shown nearest to `seconds`.

    Raises:
        VideoError: the source ends before.
    """
    # The nearest time stamp, not the last one before: containers round time stamps (33 ms for 1/30 s).
    if not times or seconds > times[-1] + 1 / fps:
        end = times[-1] if times else 0.0
        raise VideoError(path, f"must reach {seconds:g} s; got a last frame at {end:.6g} s", frames_ok=len(times))
    after = min(bisect.bisect_left(times, seconds), len(times) - 1)
    before = max(0, after - 1)
    return before if seconds - times[before] <= times[after] - seconds else after
