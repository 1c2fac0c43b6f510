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
from aosa_fast.video.writer import add_h264, h264_frame

_TICKS = 1000  # per second
_FRAGMENT = 1_000_000  # microseconds


class Recording:
    """An MP4 file in fragments of a second, each of which is whole once it is written.

    Frames are shown at their own times, so that a stream's gaps are gaps. All have the size of the first.
    """

    def __init__(self, path: Path, *, live: bool) -> None:
        """Begins it; a file of that name stays what it is until there is a frame to be written.

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
            self._existed = path.exists()
            path.open("ab").close()
        self._container: av.container.OutputContainer | None = None
        self._first, self._last = 0.0, -1

    def show(self, frames: list[Painted]) -> None:
        """Adds frames, each with its age at this moment on it."""
        with writing(self.path):
            for painted in frames:
                self._add(painted.labelled(time.monotonic() - painted.stamp), painted)

    def _add(self, image: NDArray[np.uint8], painted: Painted) -> None:
        if self._container is None:
            self._live |= painted.time is None
            self._open(image)
        assert self._container is not None
        at = painted.stamp if self._live else painted.time
        self._first = at if self._last < 0 and at is not None else self._first
        if image.shape[:2] != self._size:
            image = np.asarray(Image.fromarray(image).resize(self._size[::-1], Image.Resampling.BILINEAR))
        # Where a source's own times go back, as where it begins anew, or end, the next tick has to do.
        self._last = max(0 if at is None else round((at - self._first) * _TICKS), self._last + 1)
        frame = h264_frame(image, self._last)
        frame.time_base = Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def _open(self, image: NDArray[np.uint8]) -> None:
        self._size = image.shape[:2]
        options = {
            "movflags": "+frag_keyframe+empty_moov+default_base_moof",
            "frag_duration": str(_FRAGMENT),
            "flush_packets": "1",
        }
        self._container = av.open(str(self.path.absolute()), "w", options=options)
        # Without frames that wait in the encoder for those to come.
        self._stream = add_h264(self._container, self._size, 25, crf="20", preset="veryfast", tune="zerolatency")
        self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def close(self) -> None:
        """Ends the file; where there was no frame, none is left."""
        if self._container is None:
            if not self._existed:
                self.path.unlink(missing_ok=True)
            return
        with writing(self.path):
            try:
                self._container.mux(self._stream.encode(None))
            finally:
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
