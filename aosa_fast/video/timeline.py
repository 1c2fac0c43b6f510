"""When each frame of a video file is shown, found without decoding where time stamps allow it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from aosa_fast.errors import VideoError
from aosa_fast.video.clip import DEFAULT_FPS


@dataclass(frozen=True)
class Timeline:
    """The frames of a file in presentation order.

    Attributes:
        stamps: what identifies each frame, ascending: its time stamp, or its running number if `by_order`.
        times: seconds from the first frame.
        fps: average rate.
        keys: time stamps of the key frames, ascending; empty if `by_order`.
        by_order: time stamps are missing or repeated, so frames are counted as they leave the decoder.
        plain: 8 bits a channel and no transparency, which every library turns into the same RGB values.
    """

    stamps: tuple[int, ...]
    times: tuple[float, ...]
    fps: float
    keys: tuple[int, ...]
    by_order: bool
    plain: bool


@contextmanager
def open_video(path: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its best video stream, closed afterwards.

    Raises:
        VideoError: the file is missing, empty, unreadable, no video, or needs a decoder that is not there.
    """
    check_file(path)
    try:
        # Absolute, because FFmpeg reads a name like "take:1.mp4" as a protocol.
        container = av.open(str(Path(path).absolute()))
    except (av.error.FFmpegError, UnicodeError) as error:
        raise VideoError(path, f"must be a video file, complete from its start; got {_reason(error)}") from error
    with container:
        stream = container.streams.best("video")
        # The cover picture of a music file counts as a video stream to FFmpeg, not to people.
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise VideoError(path, "must have a video stream; it has no video stream")
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
            raise VideoError(path, "must have a video stream in a known format; no decoder knows it")
        # Frame threads would report a damaged packet some packets late; slices keep the two together.
        stream.thread_type = "SLICE"
        yield container, stream


def check_file(path: str) -> None:
    """Find the reasons that FFmpeg would report unclearly.

    Raises:
        VideoError: `path` is missing, no regular file, empty, or may not be read.
    """
    if not Path(path).exists():
        raise VideoError(path, "must exist; there is no such file or folder")
    if not Path(path).is_file():
        raise VideoError(path, "must be a regular file or a folder of frames")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise VideoError(path, f"must be readable; got {error.strerror}") from error
    if empty:
        raise VideoError(path, "must be a video file; it is empty (0 bytes)")


def scan(path: str) -> Timeline | None:
    """Read the time stamps of all packets without decoding; None where they do not tell the frames apart."""
    stamps: list[int] = []
    keys: list[int] = []
    with open_video(path) as (container, stream):
        for packet in packets(container, stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                return None
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        if not stamps or len(set(stamps)) < len(stamps):
            return None
        return build(stream, sorted(stamps), sorted(keys))


def build(stream: av.VideoStream, stamps: list[int], keys: list[int]) -> Timeline:
    """The timeline of frames with known, distinct time stamps."""
    base = float(stream.time_base or Fraction(1, 1000))
    times = tuple((stamp - stamps[0]) * base for stamp in stamps)
    measured = (len(times) - 1) / times[-1] if len(times) > 1 else 0.0
    fps = _rate(stream) or measured or DEFAULT_FPS
    return Timeline(tuple(stamps), times, fps, tuple(keys), by_order=False, plain=_plain(stream))


def build_by_order(stream: av.VideoStream, count: int) -> Timeline:
    """The timeline of `count` frames without usable time stamps, taken as evenly spaced."""
    fps = _rate(stream) or DEFAULT_FPS
    return Timeline(
        tuple(range(count)), tuple(i / fps for i in range(count)), fps, (), by_order=True, plain=_plain(stream)
    )


def packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet[av.VideoStream]]:
    """The packets of the stream, up to where the file ends or breaks off."""
    with suppress(av.error.FFmpegError):
        yield from container.demux(stream)


def _plain(stream: av.VideoStream) -> bool:
    pixels = stream.codec_context.format
    return pixels is not None and all(c.bits <= 8 and not c.is_alpha for c in pixels.components)


def _rate(stream: av.VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate and rate > 0 else 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "data that is cut off or in no known format"
    return (getattr(error, "strerror", None) or type(error).__name__).replace("\n", " ")
