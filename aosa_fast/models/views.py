"""What a model sees of a clip, read in one pass: as its input, and as pictures for people. torch is not loaded here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.video.clip import Convert, VideoClip
from aosa_fast.video.read import read_clip

_log = logging.getLogger(__name__)
DISPLAY_SIDE = 1280
"""The longest side, in pixels, of the frames that overlays are painted on."""


def read_views(
    path: str | os.PathLike[str], preprocessing: Preprocessing, start: int | float | str = "center"
) -> tuple[VideoClip, NDArray[np.uint8], NDArray[np.uint8]]:
    """Reads what the model sees of a clip, as its input and as a picture for people, and nothing else.

    Args:
        path: of the clip.
        preprocessing: of the model.
        start: as for `read_clip`.

    Returns:
        clip: with both, for each frame.
        cropped: (T, H, W, 3) uint8, the model's input.
        display: (T, H', W', 3) uint8, the same part of the source in its own resolution, but no side longer than 1280.
    """
    clip, cropped, display = views_of(
        preprocessing,
        lambda convert: read_clip(
            path, preprocessing.frames, stride=preprocessing.stride, start=start, convert=convert
        ),
    )
    _log.info(
        "read %d of %d frames of %s, every %d from frame %d (%.2f s) on, by %s; resized from %dx%d pixels: %s",
        len(clip.indices), clip.total_frames, clip.path, preprocessing.stride, clip.indices[0], clip.times[0],
        clip.reader, clip.size[1], clip.size[0], preprocessing.summary,
    )  # fmt: skip
    return clip, cropped, display


def shrunk(picture: NDArray[np.uint8], most: int = DISPLAY_SIDE) -> NDArray[np.uint8]:
    """An (H, W, 3) uint8 picture, no side of which is longer than `most` pixels."""
    longest = max(picture.shape)
    if longest <= most:
        return picture
    height, width = (max(1, round(side * most / longest)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def views_of(
    preprocessing: Preprocessing, read: Callable[[Convert], VideoClip]
) -> tuple[VideoClip, NDArray[np.uint8], NDArray[np.uint8]]:
    """As `read_views`, of what `read` reads, which calls its argument with each frame."""

    def views(frame: NDArray[np.uint8]) -> NDArray[Any]:
        (cropped,), (display,) = preprocessing.cropped(frame[None]), preprocessing.display_frames(frame[None])
        display = shrunk(display)
        kept = np.empty((), [("cropped", np.uint8, cropped.shape), ("display", np.uint8, display.shape)])
        kept["cropped"], kept["display"] = cropped, display
        return kept

    clip = read(views)
    return clip, np.ascontiguousarray(clip.frames["cropped"]), np.ascontiguousarray(clip.frames["display"])
