"""Open a video file with PyAV: its best video stream, the packets, and the decoder for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import av

from aosa_fast.addresses import is_elsewhere
from aosa_fast.boundary import open_file, reading, reason
from aosa_fast.errors import VideoError
from aosa_fast.video.clip import ANY, Bounds, check_pixels
from aosa_fast.video.skimming import Skimmed, demuxer_options

_EMPTY = "must be a video file; it is empty (0 bytes)"

# FFmpeg's own decoders of VP8 and VP9 leave out the transparency, which lies beside the picture in the packet.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

# Formats that name other files or addresses, which FFmpeg would open: whoever made the file chose them.
_NAME_OTHERS = {
    "concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest",
}  # fmt: skip


@contextmanager
def open_video(path: str, bounds: Bounds = ANY) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its best video stream, closed afterwards.

    Args:
        path: of a file, or what names one that lies elsewhere: see `addresses`.
        bounds: of the file.

    Raises:
        VideoError: the file is missing, empty, unreadable, no video, has too large frames, or needs a decoder that is
            not there.
    """
    source = _skimmed(path) if is_elsewhere(path) else _checked(path)
    options = alone("file" if isinstance(source, str) else "none") | demuxer_options(source)
    try:
        # Titles may be in any encoding.
        container = av.open(source, "r", metadata_errors="replace", options=options)
    except (av.error.FFmpegError, UnicodeError) as error:
        got = reason(error)
        if isinstance(error, av.error.InvalidDataError):
            got = "data that is cut off or in no known format"
        elif isinstance(error, av.error.ArgumentError):
            got = "a list of other files, which are not opened, or values that are none"
        raise VideoError(path, f"must be a video file, complete from its start; got {got}") from error
    with nullcontext() if isinstance(source, str) else source, container:
        stream = container.streams.best("video")
        # The cover picture of a music file counts as a video stream to FFmpeg, not to people.
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise VideoError(path, "must have a video stream; it has no video stream")
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
            raise VideoError(path, "must have a video stream in a known format; no decoder knows it")
        check_pixels(path, stream.codec_context.height, stream.codec_context.width, bounds=bounds)
        # Frame threads would report a damaged packet some packets late; slices keep the two together.
        stream.thread_type = "SLICE"
        if bounds.threads is not None:
            stream.codec_context.thread_count = bounds.threads
        yield container, stream


@cache
def alone(protocol: str = "file") -> dict[str, str]:
    """Options of `av.open` with which FFmpeg opens a file by this protocol, and nothing that the file names."""
    names = {name for name in av.formats_available if av.ContainerFormat(name).is_input}
    return {"protocol_whitelist": protocol, "format_whitelist": ",".join(sorted(names - _NAME_OTHERS))}


def _checked(path: str) -> str:
    check_file(path)
    # Absolute, because FFmpeg reads a name like "take:1.mp4" as a protocol.
    return str(Path(path).absolute())


def _skimmed(path: str) -> Skimmed:
    with reading(path, "must be a video file", VideoError):
        source = Skimmed(open_file(path), path)
    if not source.size:
        raise VideoError(path, _EMPTY)
    return source


def check_file(path: str) -> None:
    """Find the reasons that FFmpeg would report unclearly; what lies elsewhere is checked where it is opened.

    Raises:
        VideoError: `path` is missing, no regular file, empty, or may not be read.
    """
    if is_elsewhere(path):
        return
    if not Path(path).exists():
        raise VideoError(path, "must exist; there is no such file or folder")
    if not Path(path).is_file():
        raise VideoError(path, "must be a regular file or a folder of frames")
    with reading(path, "must be a video file", VideoError), open_file(path) as file:
        if not file.read(1):
            raise VideoError(path, _EMPTY)


def find_decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """The decoder of a stream: its own, or one that knows its transparency."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name in av.codecs_available and stream.metadata.get("alpha_mode") == "1":
        decoder = av.CodecContext.create(name, "r")
        assert isinstance(decoder, av.VideoCodecContext)
        return decoder
    return stream.codec_context


def packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet[av.VideoStream]]:
    """The packets of the stream, up to where the file ends or breaks off."""
    try:
        yield from container.demux(stream)
    except MemoryError:
        raise
    except av.error.FFmpegError:
        return
