"""Read a window of frames with torchcodec, indexed by the same timeline as the PyAV reader."""

from __future__ import annotations

from typing import Any

import numpy as np

from aosa_fast.errors import InputError, VideoError
from aosa_fast.video import timeline as tl
from aosa_fast.video.clip import Convert, VideoClip, Window, check_pixels, join_frames
from aosa_fast.video.decoding import Source
from aosa_fast.video.opening import open_video


def find_decoder() -> Any:
    """The class torchcodec.decoders.VideoDecoder, or None where torchcodec or its FFmpeg libraries are missing."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError):
        # torchcodec itself imports without FFmpeg; its decoders then raise RuntimeError.
        return None
    return VideoDecoder


def read(path: str, window: Window, convert: Convert | None = None) -> VideoClip:
    """Read the frames of `window`, in presentation order; arguments as of `pyav_reader.read`.

    Raises:
        InputError: torchcodec is not installed, or finds no FFmpeg libraries.
        VideoError: the file cannot be opened or is too short, or torchcodec cannot decode a wanted frame.
    """
    decoder_class = find_decoder()
    if decoder_class is None:
        raise InputError('reader "torchcodec" needs the package torchcodec and the FFmpeg libraries; use "pyav"')
    with open_video(path) as video:
        timeline = tl.scan(Source(*video))
    if not timeline.plain:
        # It shows the colours hidden by transparency, rounds deeper channels differently, turns and does not mirror,
        # and sorts frames by stamps that may be those of decoding.
        rule = "must have certain time stamps, 8 bits a channel, no transparency and no mirrored frames"
        raise VideoError(path, f'{rule} for reader "torchcodec"; use "pyav"')
    places = window.choose(path, timeline.times, timeline.fps)
    total = len(timeline.stamps)
    try:
        decoder = decoder_class(path, dimension_order="NHWC", seek_mode="exact")
        if len(decoder) != total:
            raise VideoError(
                path, f"must have {total} frames for torchcodec, as its time stamps say; got {len(decoder)}"
            )
        kept = []
        for place in places:
            # One by one: all of them at once would take the memory of their full size.
            image = np.ascontiguousarray(decoder.get_frames_at(indices=[place]).data.numpy()[0])
            size = image.shape[0], image.shape[1]
            check_pixels(path, *size, len(places) if convert is None else 1)
            kept.append(image if convert is None else convert(image))
    except InputError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        # torchcodec raises RuntimeError for any damage, with the place in its source before the reason.
        reason = str(error).strip().splitlines()[0].split(".cpp:")[-1]
        raise VideoError(path, f"must be readable by torchcodec; got {reason}") from error
    return VideoClip.of(join_frames(kept), size, places, timeline.times, timeline.fps, path, "torchcodec")
