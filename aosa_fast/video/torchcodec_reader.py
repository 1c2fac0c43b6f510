"""Read a window of frames with torchcodec, indexed by the same timeline as the PyAV reader."""

from __future__ import annotations

from typing import Any

import numpy as np

from aosa_fast.errors import InputError, VideoError
from aosa_fast.video import timeline as tl
from aosa_fast.video.clip import VideoClip, Window


def find_decoder() -> Any:
    """The class torchcodec.decoders.VideoDecoder, or None where torchcodec or its FFmpeg libraries are missing."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError):
        # torchcodec itself imports without FFmpeg; its decoders then raise RuntimeError.
        return None
    return VideoDecoder


def read(path: str, window: Window) -> VideoClip:
    """Read the frames of `window`, in presentation order.

    Raises:
        InputError: torchcodec is not installed, or finds no FFmpeg libraries.
        VideoError: the file cannot be opened or is too short, or torchcodec cannot decode a wanted frame.
    """
    decoder_class = find_decoder()
    if decoder_class is None:
        raise InputError('reader "torchcodec" needs the package torchcodec and the FFmpeg libraries; use "pyav"')
    timeline = tl.scan(path)
    if timeline is None:
        raise VideoError(path, 'must have distinct time stamps for reader "torchcodec"; use "pyav"')
    if not timeline.plain:
        # It drops transparency, showing the colours hidden by it, and rounds deeper channels differently.
        raise VideoError(path, 'must have 8 bits a channel and no transparency for reader "torchcodec"; use "pyav"')
    places = window.choose(path, timeline.times, timeline.fps)
    total = len(timeline.stamps)
    try:
        decoder = decoder_class(path, dimension_order="NHWC", seek_mode="exact")
        if len(decoder) != total:
            raise VideoError(
                path, f"must have {total} frames for torchcodec, as its time stamps say; got {len(decoder)}"
            )
        frames = np.ascontiguousarray(decoder.get_frames_at(indices=places).data.numpy())
    except VideoError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        # torchcodec raises RuntimeError for any damage, with the place in its source before the reason.
        reason = str(error).strip().splitlines()[0].split(".cpp:")[-1]
        raise VideoError(path, f"must be readable by torchcodec; got {reason}") from error
    return VideoClip(
        frames=frames,
        indices=tuple(places),
        times=tuple(timeline.times[i] for i in places),
        fps=timeline.fps,
        total_frames=total,
        damaged=0,
        replaced=(),
        path=path,
        reader="torchcodec",
    )
