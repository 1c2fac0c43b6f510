"""Read a window of frames from a series of images in a folder, or from an image file, with Pillow."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from aosa_fast.boundary import open_file, reading, unlogged
from aosa_fast.errors import VideoError
from aosa_fast.video.clip import (
    ANY,
    DEFAULT_FPS,
    MAX_FRAME_PIXELS,
    Bounds,
    Convert,
    VideoClip,
    Window,
    check_pixels,
    join_frames,
)
from aosa_fast.video.opening import check_file
from aosa_fast.video.pixels import over_black
from aosa_fast.video.series import SUFFIXES, find_series, warn_of_gaps

FILE_SUFFIXES = (*SUFFIXES, ".gif", ".apng")
"""Of the files that are read here where they are named."""

_ANIMATED = ("GIF", "PNG", "WEBP")
_UNTIMED = 0.1  # seconds that a frame of an animation is shown whose file says 0, as in browsers
_SUBFILE = 254  # of a TIFF page: bit 0 where it is a smaller copy of another one, bit 2 where it is a mask
_RULE = "must be an image in one piece"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_folder(path: str, window: Window, convert: Convert | None = None) -> VideoClip:
    """Read frames from the series of images in a folder, or from the one that a pattern names; see `series`.

    Raises:
        VideoError: no images, several series, too few, of different sizes, or one that cannot be read.

    Warns:
        UserWarning: numbers are missing inside of the window.
    """
    series = find_series(path)
    times = [i / DEFAULT_FPS for i in range(len(series.files))]
    places = window.choose(path, times, DEFAULT_FPS)
    warn_of_gaps(path, series, places[0], places[-1])
    files = [series.files[i] for i in places]
    frames = _stack(((file, os.path.basename(file), load(file, window.bounds)) for file in files), len(places), convert)
    return VideoClip.of(*frames, places, times, DEFAULT_FPS, path, "images")


def read_file(path: str, window: Window, convert: Convert | None = None) -> VideoClip:
    """Read frames from one image file: an animation, the pages of a TIFF, or a still image.

    Frames of GIF, WebP and APNG are shown as long as the file says, and 0.1 s where it says 0. An APNG's default image
    that is no part of the animation is left out, as are smaller copies and masks among a TIFF's pages. An animation
    ends where it is damaged.

    Raises:
        VideoError: missing, damaged, too few frames, or frames of several sizes.

    Warns:
        UserWarning: the animation is damaged, and ends there.
    """
    check_file(path)
    with _opened(path, window.bounds) as image:
        order, seconds, lost = _schedule(path, image, window.bounds)
        times = [0.0, *accumulate(seconds)]
        fps = len(seconds) / times.pop()
        places = window.choose(path, times, fps)
        shown = ((path, f"frame {i}", _at(path, image, order[i], window.bounds)) for i in places)
        frames = _stack(shown, len(places), convert)
    if lost:
        warnings.warn(f"{path}: damaged from frame {len(times)} on, where it ends", UserWarning, stacklevel=5)
    return VideoClip.of(*frames, places, times, fps, path, "images", damaged=lost)


def load(path: str, bounds: Bounds = ANY) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: one image file, upright, in RGB, transparency over black, 16-bit grey scaled to 8.

    Raises:
        VideoError: missing, damaged, no regular file, or larger than `MAX_FRAME_PIXELS`.
    """
    with _opened(path, bounds) as image:
        return _to_rgb(path, image)


def _stack(
    frames: Iterable[tuple[str, str, NDArray[np.uint8]]], count: int, convert: Convert | None
) -> tuple[NDArray[Any], tuple[int, int]]:
    """(T, ...) of `count` frames (H, W, 3), converted, each with its file and its name; and their one size (H, W)."""
    taken: list[NDArray[Any]] = []
    size, like = (0, 0), ""
    for file, name, frame in frames:
        height, width = frame.shape[:2]
        if not taken:
            size, like = (height, width), name
            check_pixels(file, height, width, count if convert is None else 1)
        if (height, width) != size:
            raise VideoError(file, f"must be {size[1]}x{size[0]} as {like} is; {name} is {width}x{height}")
        taken.append(frame if convert is None else convert(frame))
    return join_frames(taken), size


@contextmanager
def _opened(path: str, bounds: Bounds) -> Iterator[Image.Image]:
    with warnings.catch_warnings(), unlogged("PIL"), reading(path, _RULE, VideoError):
        # Pillow warns of odd metadata, which do not matter, and of too many pixels, which are refused.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with open_file(path) as file, Image.open(file) as image:
                check_pixels(path, image.height, image.width, bounds=bounds)
                if image.format == "EPS":
                    raise ValueError("PostScript, a program that would be run")
                yield image
        except UnidentifiedImageError:
            raise ValueError("data in no known format") from None  # Pillow's text names the open file
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            count = re.search("[0-9]+", str(error))
            most = min(Image.MAX_IMAGE_PIXELS or MAX_FRAME_PIXELS, bounds.pixels or MAX_FRAME_PIXELS)
            rule = f"must have frames of at most {most} pixels"
            raise VideoError(path, f"{rule}; got {count[0] if count else 'more'}") from error


def _schedule(path: str, image: Image.Image, bounds: Bounds) -> tuple[Sequence[int], list[float], int]:
    """The places of the frames in the file, the seconds that each is shown, and how many more it announces in vain."""
    cut = False
    try:
        with reading(path, _RULE, VideoError):
            total = getattr(image, "n_frames", 1)
    except VideoError:
        if image.format != "GIF":
            raise
        total, cut = sys.maxsize, True  # only its end would tell how many there are
    if not cut:
        bounds.check_length(path, total)
    if image.format == "TIFF":
        pages = [i for i in range(total) if _is_page(image, i)] or [0]
        return pages, [1 / DEFAULT_FPS] * len(pages), 0
    if image.format not in _ANIMATED or total == 1:
        return [0], [1 / DEFAULT_FPS], 0
    places = range(int(getattr(image, "default_image", False)), total)
    seconds: list[float] = []
    for i in places:
        try:
            with reading(path, _RULE, VideoError):
                image.seek(i)
                check_pixels(path, image.height, image.width, bounds=bounds)  # a GIF's frame may outgrow the first
                image.load()  # WebP knows the time only then
        except VideoError:
            if not seconds:
                raise
            break
        seconds.append(image.info.get("duration", 0) / 1000 or _UNTIMED)
    return places, seconds, 1 if cut else len(places) - len(seconds)


def _is_page(image: Image.Image, place: int) -> bool:
    image.seek(place)
    kind = getattr(image, "tag_v2", {}).get(_SUBFILE, 0)
    return not (isinstance(kind, int) and kind & 5)


def _at(path: str, image: Image.Image, place: int, bounds: Bounds) -> NDArray[np.uint8]:
    image.seek(place)
    check_pixels(path, image.height, image.width, bounds=bounds)  # pages of a TIFF have sizes of their own
    return _to_rgb(path, image)


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turn = _TURNS.get(int(image.getexif().get(ExifTags.Base.Orientation, 1)))
    except Exception:  # noqa: BLE001 - cameras and editors write all kinds of EXIF, and the picture is whole without
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_rgb(path: str, image: Image.Image) -> NDArray[np.uint8]:
    upright = _upright(image)
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
