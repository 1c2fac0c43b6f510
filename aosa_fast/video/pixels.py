"""From decoded frames of PyAV to upright RGB pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import av
import numpy as np
from av.buffer import Buffer
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


def to_rgb(frame: av.VideoFrame, display: Display) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, contiguous: the frame in RGB, transparency over black, turned and mirrored to be shown."""
    alpha = has_alpha(frame)
    image: NDArray[Any] = frame.to_ndarray(format="rgba" if alpha else "rgb24")
    image = over_black(image) if alpha else image
    image = image.swapaxes(0, 1) if display.transpose else image
    return np.ascontiguousarray(image[:: -1 if display.flip_rows else 1, :: -1 if display.flip_columns else 1])


def over_black(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: an (H, W, 4) RGBA image laid over black."""
    alpha = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * alpha + 127) // 255).astype(np.uint8)
