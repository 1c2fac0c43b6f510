"""Clips whose frames carry their number, for the tests of the readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from aosa_fast.video import VideoClip, pyav_reader

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
    rotation: int = 0,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=dict(options))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(i, *size), format="rgb24")
            frame.pts = i if stamps is None else stamps[i]
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown(clip: VideoClip) -> list[int]:
    return [number(image) for image in clip.frames]


@contextmanager
def counted_decodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the frames that leave the decoder, one entry per pass."""
    passes: list[int] = []
    decode = pyav_reader._decode

    def counting(*args: object) -> Iterator[object]:
        passes.append(0)
        for event in decode(*args):  # type: ignore[arg-type]
            passes[-1] += 1
            yield event

    with monkeypatch.context() as patch:
        patch.setattr(pyav_reader, "_decode", counting)
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
    "vp9 webm": ("a.webm", "libvpx-vp9", "yuv420p", {"g": "8", "deadline": "realtime", "cpu-used": "8"}, (64, 48)),
    "vp8 webm": ("a.webm", "libvpx", "yuv420p", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "8"}, (64, 48)),
    "ffv1 grey odd size": ("a.mkv", "ffv1", "gray", {}, (65, 47)),
    "h264 4:4:4 odd size": ("a.mp4", "libx264", "yuv444p", LOSSLESS, (65, 47)),
    "gif": ("a.gif", "gif", "rgb8", {}, (64, 48)),
    "qtrle with alpha": ("a.mov", "qtrle", "argb", {}, (64, 48)),
    "mjpeg": ("a.mov", "mjpeg", "yuvj420p", {}, (64, 48)),
}
