"""Write videos and pictures so that a file is there complete or not at all."""

from __future__ import annotations

import io
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.errors import InputError
from aosa_fast.files import atomic_path

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webp", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def write_video(path: str | os.PathLike[str], frames: NDArray[np.uint8], fps: float = 8.0) -> None:
    """Write frames as H.264 video (.mp4, .mkv, .mov; playable in browsers), animated WebP or GIF.

    Args:
        path: the file, replaced if it exists; its suffix chooses the format.
        frames: (T, H, W, 3) uint8, RGB. H.264 needs even sizes: an odd edge is repeated once.
        fps: frames per second. GIF rounds the time of a frame to 10 ms.

    Raises:
        InputError: another suffix, shape, dtype or rate, or the file cannot be written.

    Note:
        WebP and GIF merge equal successive frames into one that is shown longer.
    """
    suffix = _suffix(path, VIDEO_SUFFIXES)
    _check(frames, "frames", "(T, H, W, 3)", 4)
    if not math.isfinite(fps) or not 0 < fps <= 1000:
        raise InputError(f"fps must be above 0 and at most 1000; got {fps!r}")
    with atomic_path(path) as temporary:
        if suffix in (".webp", ".gif"):
            _write_animation(path, temporary, frames, fps)
        else:
            _write_h264(path, temporary, frames, fps)


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) uint8 RGB picture as PNG, JPEG or WebP, by suffix.

    Raises:
        InputError: another suffix, shape or dtype, or the file cannot be written.
    """
    suffix = _suffix(path, IMAGE_SUFFIXES)
    _check(image, "image", "(H, W, 3)", 3)
    # Levels above 1 make a sheet's PNG by 6 % smaller, in four times the time, which is most of what a sheet takes.
    options: dict[str, Any] = {"compress_level": 1} if suffix == ".png" else {"quality": 92}
    with atomic_path(path) as temporary:
        _save(path, temporary, Image.fromarray(image), options)


def _suffix(path: str | os.PathLike[str], allowed: tuple[str, ...]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in allowed:
        raise InputError(f"{os.fspath(path)}: must end in one of {', '.join(allowed)}; got {suffix or 'no suffix'}")
    return suffix


def _check(array: NDArray[np.uint8], name: str, shape: str, ndim: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"{name} must be a uint8 array; got {got}")
    if array.ndim != ndim or array.shape[-1] != 3 or 0 in array.shape:
        raise InputError(f"{name} must have shape {shape}, none of it empty; got {array.shape}")


def add_h264(
    container: av.container.OutputContainer, size: tuple[int, ...], rate: int | Fraction, **options: str
) -> av.VideoStream:
    """A stream of H.264 for pictures of `size` (H, W), which become even; for `h264_frame`."""
    stream = container.add_stream("libx264", rate=rate)
    stream.height, stream.width = (side + side % 2 for side in size)
    stream.pix_fmt, stream.options = "yuv420p", {**options}
    # Says which of the two common conversions from RGB was used; players guess otherwise, by size.
    stream.codec_context.colorspace = av.video.reformatter.Colorspace.SMPTE170M
    stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
    return stream


def h264_frame(image: NDArray[np.uint8], pts: int) -> av.VideoFrame:
    """An (H, W, 3) uint8 picture, its sides made even."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), "rgb24")
    frame.pts = pts
    return frame


def _write_h264(path: object, temporary: Path, frames: NDArray[np.uint8], fps: float) -> None:
    H, W = frames.shape[1:3]
    # faststart puts the index first, so that a browser can play before it has the whole file.
    options = {} if temporary.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
    try:
        with av.open(str(temporary), "w", options=options) as container:
            stream = add_h264(container, (H, W), Fraction(fps).limit_denominator(1001), crf="18")
            for i, image in enumerate(frames):
                container.mux(stream.encode(h264_frame(image, i)))
            container.mux(stream.encode(None))
    except OSError:
        raise
    except (av.error.FFmpegError, av.codec.codec.UnknownCodecError) as error:
        got = getattr(error, "strerror", f"no encoder {error}")
        raise InputError(f"{path}: must be encodable as H.264; got {got}, frames {W}x{H}") from error


def _write_animation(path: object, temporary: Path, frames: NDArray[np.uint8], fps: float) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    options: dict[str, Any] = {"save_all": True, "duration": round(1000 / fps), "loop": 0}
    if temporary.suffix.lower() == ".webp":
        options |= {"quality": 85}
    else:
        images = [image.quantize(256, dither=Image.Dither.NONE) for image in images]
    _save(path, temporary, images[0], options | {"append_images": images[1:]})


def _save(path: object, temporary: Path, image: Image.Image, options: dict[str, Any]) -> None:
    # By way of memory: Pillow takes a write that a full disk cut short for a complete one.
    buffer = io.BytesIO()
    try:
        image.save(buffer, Image.registered_extensions()[temporary.suffix.lower()], **options)
    except (ValueError, OSError) as error:
        # Formats limit the size of a picture (WebP: 16383 pixels a side); nothing is written yet.
        raise InputError(f"{path}: must be encodable; got {image.width}x{image.height}, {error}") from error
    temporary.write_bytes(buffer.getbuffer())
