"""Clips whose frames carry their number, for the tests of the readers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from aosa_fast.video import VideoClip, decoding

Change = Callable[[list[bytes], list[bool]], list[tuple[bytes, bool]]]
NOT_CODED = b"\0\0\1\xb6\x50\0\x43\x7f"  # a packet of MPEG-4 without a picture
LOSSLESS = {"qp": "0", "preset": "ultrafast"}
B_FRAMES = {"crf": "20", "g": "6", "bf": "3", "b_strategy": "0"}


def numbered(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A frame that shows `i` as eight bars, white for 1, and white in its upper left corner for no rotation."""
    bars = np.repeat([(i >> bit & 1) * 255 for bit in range(8)], width // 8)
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 4 :, : len(bars)] = bars[None, :, None]
    image[: height // 4, : width // 2] = 255
    return image


def number(image: np.ndarray) -> int:
    H, W = image.shape[:2]
    bar = W // 8
    values = [image[H // 2, bit * bar + bar // 2].mean() for bit in range(8)]
    assert image[H // 8, W // 4].mean() > 128 > image[H // 8, W * 3 // 4].mean(), "not upright"
    return sum(int(value > 128) << bit for bit, value in enumerate(values))


def write_clip(
    path: Path,
    count: int = 40,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] = LOSSLESS,
    size: tuple[int, int] = (64, 48),
    stamps: Sequence[int] | None = None,
    first: int = 0,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Frames that show `first`, `first` + 1, ..., at 25 a second or at `stamps` / 25 s."""
    images = [numbered(first + i, *size) for i in range(count)]
    return encode(path, images, codec, pix_fmt, options, stamps=stamps, metadata=metadata)


def write_frames(folder: Path, count: int) -> Path:
    """The same frames as pictures in a folder, from image_00001.png on."""
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(numbered(i)).save(folder / f"image_{i + 1:05d}.png")
    return folder


def encode(
    path: Path,
    images: Sequence[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] = LOSSLESS,
    *,
    rate: int = 25,
    stamps: Sequence[int] | None = None,
    metadata: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """A video of these images, RGB or RGBA."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, options=dict(options))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
            frame = frame.reformat(format=pix_fmt) if image.shape[2] == 4 else frame
            frame.pts, frame.time_base = i if stamps is None else stamps[i], Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copy_stream(old: av.container.InputContainer, new: av.container.OutputContainer) -> av.VideoStream:
    """A stream of `new` for the packets of the video in `old`."""
    if tuple(int(part) for part in av.__version__.split(".")[:2]) < (14, 4):
        pytest.skip("PyAV before 14.4 copies streams without their headers")
    return new.add_stream_from_template(old.streams.video[0])


def copy_packets(source: Path, path: Path, change: Change | None = None) -> Path:
    """Copy a clip packet by packet, with the stamps of a clip in which nothing is reordered.

    Args:
        source: the clip.
        path: of the copy.
        change: from the packets, and whether each is a key frame, to those of the copy.
    """
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = copy_stream(old, new)
        packets = [packet for packet in old.demux(video=0) if packet.size]
        content = [(bytes(packet), packet.is_keyframe) for packet in packets]
        if change is not None:
            content = change([data for data, _ in content], [key for _, key in content])
        for i, (data, key) in enumerate(content):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts, packet.dts, packet.is_keyframe = i, i, key
            new.mux(packet)
    return path


def pack(packets: list[bytes], keys: list[bool]) -> list[tuple[bytes, bool]]:
    """As XviD and DivX write MPEG-4 with B-frames to AVI: each in one packet with the frame that follows it in time."""
    begin = NOT_CODED[:4]
    is_b = [data[data.rindex(begin) + 4] >> 6 == 2 for data in packets]
    out: list[tuple[bytes, bool]] = []
    for i, data in enumerate(packets):
        if is_b[i]:
            out.append((NOT_CODED, False))
        else:
            out.append((data + (packets[i + 1] if is_b[i + 1 : i + 2] == [True] else b""), keys[i]))
    at = out[0][0].index(begin)
    return [(out[0][0][:at] + b"\0\0\1\xb2DivX503b1393p" + out[0][0][at:], True), *out[1:]]


def idle(packets: list[bytes], keys: list[bool]) -> list[tuple[bytes, bool]]:
    """As encoders write MPEG-4 where nothing moves: packets for which no frame is shown."""
    content = list(zip(packets, keys, strict=True))
    return [*content[:3], (NOT_CODED, False), (NOT_CODED, False), *content[3:]]


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write into an MP4 file that (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def shown(clip: VideoClip) -> list[int]:
    return [number(image) for image in clip.frames]


@contextmanager
def counted_decodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the frames that leave the decoder, one entry per pass."""
    passes: list[int] = []
    decode = decoding.Source._decode

    def counting(*args: object) -> Iterator[object]:
        passes.append(0)
        for event in decode(*args):  # type: ignore[arg-type]
            passes[-1] += 1
            yield event

    with monkeypatch.context() as patch:
        patch.setattr(decoding.Source, "_decode", counting)
        yield passes


FORMATS = {
    "h264 lossless": ("a.mp4", "libx264", "yuv420p", LOSSLESS, (64, 48)),
    "h264 b-frames": ("a.mp4", "libx264", "yuv420p", B_FRAMES, (64, 48)),
    "h264 open groups": ("a.mkv", "libx264", "yuv420p", B_FRAMES | {"x264-params": "open-gop=1"}, (64, 48)),
    "h264 periodic intra refresh": ("a.mp4", "libx264", "yuv420p", {"g": "10", "intra-refresh": "1"}, (64, 48)),
    "h264 in a transport stream": ("a.ts", "libx264", "yuv420p", B_FRAMES, (64, 48)),
    "h264 without time stamps": ("a.h264", "libx264", "yuv420p", B_FRAMES, (64, 48)),
    "mpeg4 avi": ("a.avi", "mpeg4", "yuv420p", {"g": "6"}, (64, 48)),
    "mpeg4 avi b-frames": ("a.avi", "mpeg4", "yuv420p", {"g": "6", "bf": "2"}, (64, 48)),
    "h264 avi": ("a.avi", "libx264", "yuv420p", LOSSLESS | {"g": "6"}, (64, 48)),
    "h264 avi b-frames": ("a.avi", "libx264", "yuv420p", B_FRAMES, (64, 48)),
    "h264 avi open groups": ("a.avi", "libx264", "yuv420p", B_FRAMES | {"x264-params": "open-gop=1"}, (64, 48)),
    "h264 asf b-frames": ("a.asf", "libx264", "yuv420p", B_FRAMES, (64, 48)),
    "h264 mxf b-frames": ("a.mxf", "libx264", "yuv420p", B_FRAMES, (64, 48)),
    "h264 flv b-frames": ("a.flv", "libx264", "yuv420p", B_FRAMES, (64, 48)),
    "hevc b-frames": ("a.mkv", "libx265", "yuv420p", {"x265-params": "log-level=none:keyint=9:bframes=4"}, (64, 48)),
    "mpeg2 mxf b-frames": ("a.mxf", "mpeg2video", "yuv420p", {"g": "6", "bf": "2"}, (64, 48)),
    "mpeg2 vob b-frames": ("a.vob", "mpeg2video", "yuv420p", {"g": "6", "bf": "2"}, (64, 48)),
    "wmv": ("a.wmv", "wmv2", "yuv420p", {"g": "6"}, (64, 48)),
    "vp9 webm": ("a.webm", "libvpx-vp9", "yuv420p", {"g": "8", "deadline": "realtime", "cpu-used": "8"}, (64, 48)),
    "vp8 webm": ("a.webm", "libvpx", "yuv420p", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "8"}, (64, 48)),
    "ffv1 grey odd size": ("a.mkv", "ffv1", "gray", {}, (65, 47)),
    "h264 4:4:4 odd size": ("a.mp4", "libx264", "yuv444p", LOSSLESS, (65, 47)),
    "gif": ("a.gif", "gif", "rgb8", {}, (64, 48)),
    "qtrle with alpha": ("a.mov", "qtrle", "argb", {}, (64, 48)),
    "mjpeg avi": ("a.avi", "mjpeg", "yuvj420p", {}, (64, 48)),
    "mjpeg": ("a.mov", "mjpeg", "yuvj420p", {}, (64, 48)),
}


def write_intra(path: Path, count: int, options: dict[str, str]) -> Path:
    """Frame i has brightness 8 * i and is a key frame."""
    images = [np.full((48, 64, 3), 8 * i, np.uint8) for i in range(count)]
    return encode(path, images, options={"qp": "0", "g": "1"}, muxer=options)


def damage(path: Path, places: Sequence[int]) -> None:
    """Overwrite the pictures in the packets at these places with ones, which no H.264 decoder takes."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for place in places:
        pos, size = packets[place]
        # A stream without a container keeps its packets apart by start codes only: those must stay.
        picture = data.rindex(b"\0\0\1", pos, pos + size) + 4 if path.suffix == ".h264" else pos
        data[picture : pos + size] = b"\xff" * (pos + size - picture)
    path.write_bytes(data)
