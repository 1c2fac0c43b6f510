"""Segments from a file, brought to what the model sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.boundary import read_array, reading
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.video import VideoClip


def read_segments_file(path: Path) -> NDArray[Any]:
    """The array of an .npy file, or the only one of an .npz file.

    Raises:
        InputError: there is none.
    """
    with reading(path, "must be an .npy file, or an .npz file of one array"):
        return read_array(path)


def seen_by(preprocessing: Preprocessing, segments: NDArray[Any], clip: VideoClip) -> NDArray[Any]:
    """Segments of the frames and pixels that the model sees.

    Those of every frame of the video lose the frames that are not read. Integer labels of another size than the model's
    input are of whole frames: these are resized and cropped as the frames are, to the nearest pixel.

    Raises:
        InputError: labels that cannot be of this clip.
    """
    masks = segments.ndim == 3 and segments.shape[-1] not in (2, 4) and segments.dtype.kind in "iub"
    frames = 0 if masks else segments.ndim - 2
    if not masks and segments.ndim != 3:
        return segments  # `explain` says what is wrong
    if segments.shape[frames] != len(clip.indices) and segments.shape[frames] == clip.total_frames:
        segments = segments.take(clip.indices, frames)
    if not masks or segments.shape[1:] == preprocessing.crop:
        return segments
    if 0 in segments.shape:
        raise InputError(f"segments must have labels of every frame; got {segments.shape}")
    x0, y0, x1, y1 = preprocessing.source_window(*segments.shape[1:])
    for axis, (begin, end, side) in enumerate([(y0, y1, preprocessing.crop[0]), (x0, x1, preprocessing.crop[1])], 1):
        middles = np.floor(begin + (np.arange(side) + 0.5) * (end - begin) / side).astype(int)
        inside = (middles >= 0) & (middles < segments.shape[axis])
        segments = segments.take(np.where(inside, middles, 0), axis)
        segments *= np.expand_dims(inside, (0, 3 - axis)).astype(segments.dtype)  # the bars of a letterbox
    return segments
