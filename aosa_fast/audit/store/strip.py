"""A few frames of a clip as its model sees them, in some 5 kB, for what only the model's own code can prepare again."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.boundary import reading
from aosa_fast.errors import InputError
from aosa_fast.video.overlay import resize_image

FRAMES = 6
SIDE = 96  # height of a frame, pixels
_WIDTHS = (48, 176)  # least and most of a frame
_QUALITY = 60  # of WebP: 4 to 5 kB of six frames, and 4 ms


def spread(count: int) -> NDArray[np.int64]:
    """Which of so many frames are shown: six, or all where there are fewer, evenly spread."""
    return np.rint(np.linspace(0, count - 1, min(FRAMES, count))).astype(np.int64)


def shrink(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3), 96 pixels high; themselves where they are."""
    height, width = frames.shape[1:3]
    width = min(max(round(SIDE * width / height), _WIDTHS[0]), _WIDTHS[1])
    return np.stack([resize_image(frame, SIDE, width) for frame in frames])


def pack_strip(frames: NDArray[np.uint8]) -> bytes:
    """Six of the frames (T, H, W, 3), small and side by side, as WebP."""
    file = io.BytesIO()
    Image.fromarray(np.concatenate(shrink(frames[spread(len(frames))]), axis=1)).save(
        file, "WEBP", quality=_QUALITY, method=2
    )
    return file.getvalue()


def unpack_strip(data: bytes, frames: int) -> NDArray[np.uint8]:
    """The six frames of a clip that had so many, as far as WebP keeps them.

    Raises:
        InputError: it is damaged.
    """
    with reading("strip", "must be a picture"), Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
        count, (width, height) = min(FRAMES, frames), image.size
        if height != SIDE or width % count or not _WIDTHS[0] <= width // count <= _WIDTHS[1]:
            raise InputError(f"strip must have {count} frames of {SIDE} pixels; got {width} x {height}")
        sheet = np.asarray(image.convert("RGB"))
    return sheet.reshape(SIDE, count, width // count, 3).transpose(1, 0, 2, 3)
