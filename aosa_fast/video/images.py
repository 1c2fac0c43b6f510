"""Read a window of frames from a folder of images or from an image file, with Pillow."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from aosa_fast.errors import VideoError
from aosa_fast.video.clip import DEFAULT_FPS, VideoClip, Window
from aosa_fast.video.pyav_reader import over_black
from aosa_fast.video.timeline import check_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

_Result = TypeVar("_Result")

# Pillow's decoders raise all of these on damaged files, SyntaxError for broken PNG chunks included.
_DAMAGED = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def read_folder(path: str, window: Window) -> VideoClip:
    """Read frames from the images in a folder, in the order of the numbers in their names.

    Raises:
        VideoError: no images, too few, of different sizes, or one that cannot be read.
    """
    try:
        files = [file for file in Path(path).iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
    except OSError as error:
        raise VideoError(path, f"must be readable; got {error.strerror}") from error
    if not files:
        raise VideoError(path, f"must hold images ({', '.join(SUFFIXES)}); it holds none")
    files.sort(key=_natural)
    places = window.choose(path, [i / DEFAULT_FPS for i in range(len(files))], DEFAULT_FPS)
    frames = [_load(str(files[i])) for i in places]
    for i, frame in zip(places, frames, strict=True):
        if frame.shape != frames[0].shape:
            (h, w), (H, W) = frame.shape[:2], frames[0].shape[:2]
            raise VideoError(files[i], f"must be {W}x{H} as {files[places[0]].name} is; got {w}x{h}")
    return _clip(path, frames, places, len(files), DEFAULT_FPS)


def read_file(path: str, window: Window) -> VideoClip:
    """Read frames from one image file, animated or still.

    Raises:
        VideoError: missing, damaged, or too few frames.
    """
    check_file(path)

    def take(image: Image.Image) -> VideoClip:
        total = getattr(image, "n_frames", 1)
        fps = _rate(image)
        places = window.choose(path, [i / fps for i in range(total)], fps)
        frames = []
        for i in places:
            image.seek(i)
            frames.append(_to_rgb(path, image))
        return _clip(path, frames, places, total, fps)

    return _open(path, take)


def _clip(path: str, frames: list[NDArray[np.uint8]], places: list[int], total: int, fps: float) -> VideoClip:
    return VideoClip(
        frames=np.stack(frames),
        indices=tuple(places),
        times=tuple(i / fps for i in places),
        fps=fps,
        total_frames=total,
        damaged=0,
        replaced=(),
        path=path,
        reader="images",
    )


def _open(path: str, take: Callable[[Image.Image], _Result]) -> _Result:
    try:
        with Image.open(path) as image:
            return take(image)
    except VideoError:
        raise
    except _DAMAGED as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise VideoError(path, f"must be an image in one piece; got {reason or type(error).__name__}") from error


def _load(path: str) -> NDArray[np.uint8]:
    return _open(path, lambda image: _to_rgb(path, image))


def _rate(image: Image.Image) -> float:
    image.load()
    duration = image.info.get("duration", 0)
    return 1000 / duration if duration > 0 else DEFAULT_FPS


def _to_rgb(path: str, image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the image upright, in RGB, transparency over black, 16-bit grey scaled to 8."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "I" or upright.mode.startswith("I;16"):
        grey = np.asarray(upright).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise VideoError(path, f"must have values in 0..65535; got {grey.min()}..{grey.max()}")
        return np.repeat(((grey * 255 + 32767) // 65535).astype(np.uint8)[..., None], 3, axis=2)
    if upright.mode == "F":
        raise VideoError(path, "must be an 8- or 16-bit image; got 32-bit floating point")
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        return over_black(np.asarray(upright.convert("RGBA")))
    return np.asarray(upright.convert("RGB"))


def _natural(file: Path) -> tuple[list[int | str], str]:
    # Splitting at the digits alternates text and number, so that like is compared with like.
    parts = re.split(r"([0-9]+)", file.name.lower())
    return [int(part) if part.isdecimal() else part for part in parts], file.name
