"""`read_clip`: one function for video files, animated images and folders of frames."""

from __future__ import annotations

import os
from pathlib import Path

from aosa_fast.boundary import reading
from aosa_fast.errors import InputError, VideoError
from aosa_fast.video import images, pyav_reader, torchcodec_reader
from aosa_fast.video.clip import VideoClip, Window
from aosa_fast.video.series import is_pattern

READERS = ("auto", "pyav", "torchcodec")


def read_clip(
    path: str | os.PathLike[str],
    frames: int,
    *,
    stride: int = 1,
    start: int | float | str = "center",
    reader: str = "auto",
) -> VideoClip:
    """Read `frames` frames of a video, animated image or folder of images, in presentation order.

    Args:
        path: a video file; an image file; a folder of one series of images, in the order of the numbers in their names;
            or, of several, the pattern of one: "frames/img_*.jpg". See `aosa_fast.video.series`.
        frames: how many to read.
        stride: step between them, in source frames.
        start: the first frame: its number from 0 (12 or "12"), its time in seconds (1.5 or "1.5s"; the frame
            with the nearest time stamp), or "center" for the window in the middle.
        reader: "pyav", "torchcodec" (needs the package torchcodec and FFmpeg's libraries), or "auto": torchcodec
            where it can read the file, else PyAV. Both give the same frame for the same number; torchcodec is
            not used for images, transparency and more than 8 bits a channel.

    Returns:
        The frames with their places and times.

    Raises:
        InputError: an argument out of range.
        VideoError: the file cannot be read, or is too short.

    Warns:
        UserWarning: damaged frames were replaced by their nearest decodable neighbours; or the window crosses a gap in
            the numbers of a series of images.
    """
    if reader not in READERS:
        raise InputError(f"reader must be one of {', '.join(READERS)}; got {reader!r}")
    window = Window.parse(frames, stride, start)
    name = os.fspath(path)
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError(f"path must be the name of a file or folder; got {name!r}")
    with reading(name, "must be a video, an image or a folder of images in one piece", VideoError):
        return _read(name, window, reader)


def _read(name: str, window: Window, reader: str) -> VideoClip:
    if os.path.isdir(name) or is_pattern(name):
        return images.read_folder(name, window)
    if Path(name).suffix.lower() in images.FILE_SUFFIXES:
        return images.read_file(name, window)
    if reader == "torchcodec":
        return torchcodec_reader.read(name, window)
    if reader == "auto" and torchcodec_reader.find_decoder() is not None:
        try:
            return torchcodec_reader.read(name, window)
        except VideoError:
            # PyAV gets more out of damaged files, and has the clearer message where nothing helps.
            pass
    return pyav_reader.read(name, window)
