"""`read_clip`: one function for video files, animated images and folders of frames."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from aosa_fast.addresses import is_elsewhere
from aosa_fast.boundary import reading
from aosa_fast.errors import InputError, VideoError
from aosa_fast.video import images, pyav_reader, torchcodec_reader
from aosa_fast.video.clip import Convert, Fit, VideoClip, Window
from aosa_fast.video.series import is_pattern

READERS = ("auto", "pyav", "torchcodec")


def read_clip(
    path: str | os.PathLike[str],
    frames: int,
    *,
    stride: int = 1,
    start: int | float | str = "center",
    reader: str = "auto",
    convert: Convert | None = None,
) -> VideoClip:
    """Read `frames` frames of a video, animated image or folder of images, in the order in which they are shown.

    That order is the one in which the decoder shows them. Where a file's time stamps say otherwise, as in AVI files
    with B-frames or in recordings put one behind the other, frames are counted, and taken as evenly spaced in time.

    Args:
        path: a video file; an image file; a folder of one series of images, in the order of the numbers in their names;
            or, of several, the pattern of one: "frames/img_*.jpg". See `aosa_fast.video.series`. Or the address of a
            video or image file, such as "s3://bucket/clip.mp4", of which only parts are read.
        frames: how many to read.
        stride: step between them, in source frames.
        start: the first frame: its number from 0 (12 or "12"), its time in seconds (1.5 or "1.5s"; the frame
            with the nearest time stamp), or "center" for the window in the middle.
        reader: "pyav", "torchcodec" (needs the package torchcodec and FFmpeg's libraries), or "auto": torchcodec
            where it can read the file, else PyAV. Both give the same frame for the same number; torchcodec is
            not used for images, transparency, mirrored frames, more than 8 bits a channel and uncertain time stamps.
        convert: called with each wanted frame as soon as it is decoded, (H, W, 3) uint8, RGB, upright; returns the
            array that is kept of it, of one shape for all frames. Memory then follows what is kept, not the source's
            size. None: frames are kept as they are.

    Returns:
        The frames with their places and times.

    Raises:
        InputError: an argument out of range.
        VideoError: the file cannot be read, is too short, has frames of more than 2^26 pixels (8192x8192), or,
            without `convert`, more than 2^29 pixels in all frames that are read (64 of 3840x2160, 1.6 GB).

    Warns:
        UserWarning: damaged frames were replaced by their nearest decodable neighbours; or the window crosses a gap in
            the numbers of a series of images.
    """
    clip = read_source(path, Window.parse(frames, stride, start), reader, convert)
    if count := len(clip.replaced):
        replaced = "1 damaged frame was" if count == 1 else f"{count} damaged frames were"
        warnings.warn(f"{path}: {replaced} replaced by the nearest decodable one", UserWarning, stacklevel=2)
    return clip


def read_source(
    path: str | os.PathLike[str],
    window: Window,
    reader: str = "auto",
    convert: Convert | None = None,
    fit: Fit | None = None,
) -> VideoClip:
    """As `read_clip`, of frames that `window` chooses; tells of damage by `replaced` alone, not by a warning.

    Frames of videos are scaled to what `fit` makes of their size as their colours are converted: by PyAV, whatever else
    is installed, so that every machine gets the same pixels. `convert` is called with these.
    """
    if reader not in READERS:
        raise InputError(f"reader must be one of {', '.join(READERS)}; got {reader!r}")
    name = os.fspath(path)
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError(f"path must be the name of a file or folder; got {name!r}")
    with reading(name, "must be a video, an image or a folder of images in one piece", VideoError):
        return _read(name, window, reader, convert, fit)


def _read(name: str, window: Window, reader: str, convert: Convert | None, fit: Fit | None) -> VideoClip:
    if os.path.isdir(name) or is_pattern(name):
        return images.read_folder(name, window, convert)
    if Path(name).suffix.lower() in images.FILE_SUFFIXES:
        return images.read_file(name, window, convert)
    if reader == "torchcodec":
        return torchcodec_reader.read(name, window, convert)
    local = not is_elsewhere(name)
    if reader == "auto" and local and fit is None and torchcodec_reader.find_decoder() is not None:
        try:
            return torchcodec_reader.read(name, window, convert)
        except VideoError:
            # PyAV gets more out of damaged files, and has the clearer message where nothing helps.
            pass
    return pyav_reader.read(name, window, convert, fit)
