"""Where a stream's frames come from, as a person names it. torch is not loaded here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aosa_fast.errors import InputError
from aosa_fast.video.opening import alone, check_file

STDIN = "-"


@dataclass(frozen=True)
class Source:
    """A source of frames.

    Attributes:
        name: as the user gave it, but for a password in it, for messages.
        address: what FFmpeg opens.
        format: of FFmpeg's, or None where it finds out.
        options: of FFmpeg's.
        live: frames come whether or not anybody takes them, and where they cease, the source is opened again.
        patient: it may be silent for as long as it wants.
    """

    name: str
    address: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    live: bool = False
    patient: bool = False


def parse_source(name: str, *, size: str | None = None, pixel: str = "rgb24", fps: float = 25.0) -> Source:
    """The source that a person means.

    Args:
        name: a file, a camera (/dev/video0 or camera:0), an address such as rtsp://HOST/PATH, or - for raw frames on
            stdin.
        size: WxH, of raw frames, which need it, or of a camera.
        pixel: FFmpeg's name for how the pixels of raw frames are stored.
        fps: frames per second of raw frames.

    Raises:
        InputError: a file that is none, or a size that is missing, wrong, or of no use.
    """
    if size is not None and not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", size):
        raise InputError(f"size must be WIDTHxHEIGHT in pixels, as 640x480; got {size}")
    camera = re.fullmatch(r"(?:camera:|/dev/video)([0-9]+)", name)
    if name == STDIN:
        if size is None:
            raise InputError("size must be given for raw frames on stdin, as 640x480; got none")
        options = {"video_size": size, "pixel_format": pixel, "framerate": f"{fps:g}"}
        return Source("stdin", "pipe:0", "rawvideo", options, patient=True)
    if camera:
        return Source(name, f"/dev/video{camera[1]}", "v4l2", {} if size is None else {"video_size": size}, live=True)
    if size is not None:
        raise InputError(f"size must be left out but for a camera, or raw frames on stdin; got {size} for {name}")
    if "://" in name:
        # Over UDP, lost packets smear the pictures; over TCP, they come late instead.
        # Messages and files of metrics are for more eyes than a password is.
        return Source(
            _masked(name), name, None, {"rtsp_transport": "tcp"} if name.startswith("rtsp") else {}, live=True
        )
    check_file(name)
    # Whose name says that it is a playlist, may name other files.
    options = {} if name.lower().endswith(".m3u8") else alone()
    # Absolute, because FFmpeg reads a name like "take:1.mp4" as a protocol.
    return Source(name, str(Path(name).absolute()), None, options)


def _masked(address: str) -> str:
    """An address without its password, which may have an @ or, against the rules, a / in it."""
    shown, found = re.subn(r"(://[^:/@]*):[^/?#]*@", r"\1:***@", address)
    return shown if found else re.sub(r"(://[^:/@]*):(?!\d*(?:[/?#]|$)).*@", r"\1:***@", address)
