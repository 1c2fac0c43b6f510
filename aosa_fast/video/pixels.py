"""From decoded frames of PyAV to upright RGB pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import av
import numpy as np
from av.buffer import Buffer
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray


class Display(NamedTuple):
    """What to do to a picture, in this order, to show it."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    @property
    def is_mirrored(self) -> bool:
        """Whether this is more than quarter turns."""
        return self.transpose ^ self.flip_rows ^ self.flip_columns

    def shown(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(H, W) of a frame as it is shown."""
        return (frame.width, frame.height) if self.transpose else (frame.height, frame.width)


AS_STORED = Display(False, False, False)


def find_display(frame: av.VideoFrame) -> Display:
    """What the display matrix of a frame says; other turns than quarter ones go to the nearest.

    Ask one frame of a file, not each: PyAV then keeps it until Python looks for cycles.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, Buffer):
        return AS_STORED
    # x' = a x + c y, and y' = b x + d y.
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), np.int32)[:5])
    return Display(True, b < 0, c < 0) if abs(b) + abs(c) > abs(a) + abs(d) else Display(False, d < 0, a < 0)


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether a frame has transparency."""
    return any(component.is_alpha for component in frame.format.components)


def to_rgb(
    frame: av.VideoFrame, display: Display, size: tuple[int, int], reformatter: VideoReformatter
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, contiguous: the frame in RGB, transparency over black, turned and mirrored to be shown.

    Args:
        frame: as it left the decoder.
        display: how it is shown.
        size: (H, W) of the result; a frame that must shrink for it is averaged over areas as its colours are converted.
        reformatter: may be used for many frames, one after the other.
    """
    alpha, scaled = has_alpha(frame), size != display.shown(frame)
    height, width = size[::-1] if display.transpose else size
    # One thread: to start others for each frame takes longer. FFmpeg scales to planes in half the time of pixels.
    picture = reformatter.reformat(
        frame, width, height, "rgba" if alpha else "gbrp" if scaled else "rgb24",
        interpolation=Interpolation.AREA if scaled else None, threads=1,
    )  # fmt: skip
    image: NDArray[Any] = picture.to_ndarray()
    image = over_black(image) if alpha else image
    image = image.swapaxes(0, 1) if display.transpose else image
    return np.ascontiguousarray(image[:: -1 if display.flip_rows else 1, :: -1 if display.flip_columns else 1])


def over_black(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: an (H, W, 4) RGBA image laid over black."""
    alpha = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * alpha + 127) // 255).astype(np.uint8)
