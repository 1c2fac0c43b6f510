"""A video that grows, and can be played up to its last second wherever its writer is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.boundary import reason
from aosa_fast.errors import InputError
from aosa_fast.files import refuse_special
from aosa_fast.streams.overlay import Painted

_TICKS = 1000  # per second
_FRAGMENT = 1_000_000  # microseconds


class Recording:
    """An MP4 file in fragments of a second, each of which is whole once it is written.

    Frames are shown at their own times, so that a stream's gaps are gaps. All have the size of the first.
    """

    def __init__(self, path: Path, *, live: bool) -> None:
        """Begins an empty file, in place of one of that name.

        Args:
            path: the file; its folder is made.
            live: frames are shown at the times when they came, not at those that the source names.

        Raises:
            InputError: another suffix, or it cannot be written.
        """
        if path.suffix.lower() != ".mp4":
            raise InputError(f"{path}: must end in .mp4; got {path.suffix or 'no suffix'}")
        self.path, self._live = path, live
        with writing(path):
            refuse_special(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        self._container: av.container.OutputContainer | None = None
        self._first, self._last = 0.0, -1

    def show(self, frames: list[Painted]) -> None:
        """Adds frames, each with its age at this moment on it."""
        with writing(self.path):
            for painted in frames:
                self._add(painted.labelled(time.monotonic() - painted.stamp), painted)

    def _add(self, image: NDArray[np.uint8], painted: Painted) -> None:
        at = painted.stamp if self._live or painted.time is None else painted.time
        if self._container is None:
            self._open(image, at)
        assert self._container is not None
        if image.shape[:2] != self._size:
            image = np.asarray(Image.fromarray(image).resize(self._size[::-1], Image.Resampling.BILINEAR))
        # H.264 needs even sizes.
        padding = ((0, self._size[0] % 2), (0, self._size[1] % 2), (0, 0))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.pad(image, padding, "edge")), "rgb24")
        # Where a source's own times go back, as where it begins anew, the next tick has to do.
        self._last = max(round((at - self._first) * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def _open(self, image: NDArray[np.uint8], at: float) -> None:
        self._size = height, width = image.shape[:2]
        options = {
            "movflags": "+frag_keyframe+empty_moov+default_base_moof",
            "frag_duration": str(_FRAGMENT),
            "flush_packets": "1",
        }
        self._container, self._first = av.open(str(self.path.absolute()), "w", options=options), at
        self._stream = self._container.add_stream("libx264", rate=25)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._stream.codec_context.colorspace = av.video.reformatter.Colorspace.SMPTE170M
        self._stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
        # Without frames that wait in the encoder for those to come.
        self._stream.options = {"crf": "20", "preset": "veryfast", "tune": "zerolatency"}

    def close(self) -> None:
        """Ends the file; one in which there is nothing is removed."""
        if self._container is None:
            self.path.unlink(missing_ok=True)
            return
        with writing(self.path):
            self._container.mux(self._stream.encode(None))
            self._container.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes a file.

    Raises:
        InputError: it cannot be written.
    """
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        raise InputError(f"{path}: must be writable; got {reason(error)}") from error
