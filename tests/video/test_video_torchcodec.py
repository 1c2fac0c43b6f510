from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from aosa_fast.errors import InputError, VideoError
from aosa_fast.video import pyav_reader, read_clip, torchcodec_reader
from aosa_fast.video.clip import Window
from numbered_clips import B_FRAMES, FORMATS, copy_packets, set_matrix, shown, write_clip


class FakeDecoder:
    """Stands in for torchcodec.decoders.VideoDecoder."""

    error: Exception | None = None
    extra = 0

    def __init__(self, path: str, dimension_order: str, seek_mode: str) -> None:
        assert (dimension_order, seek_mode) == ("NHWC", "exact")
        total = pyav_reader.read(path, Window.parse(1, 1, 0)).total_frames
        self.clip = pyav_reader.read(path, Window.parse(total, 1, 0))

    def __len__(self) -> int:
        return len(self.clip.frames) + self.extra

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        if self.error is not None:
            raise self.error
        return SimpleNamespace(data=torch.from_numpy(self.clip.frames[indices]))


def fake_torchcodec(monkeypatch: pytest.MonkeyPatch, decoder: object) -> None:
    module = ModuleType("torchcodec.decoders")
    if decoder is not None:
        module.VideoDecoder = decoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)


def test_auto_prefers_torchcodec_and_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 21)
    fake_torchcodec(monkeypatch, FakeDecoder)
    plain = read_clip(path, 4, stride=3, reader="pyav")
    clip = read_clip(path, 4, stride=3)
    assert (plain.reader, clip.reader) == ("pyav", "torchcodec")
    assert np.array_equal(plain.frames, clip.frames)
    assert (plain.indices, plain.times, plain.fps) == (clip.indices, clip.times, clip.fps)
    for attribute, value, message in (
        ("error", RuntimeError("file.cpp:12, bad\nmore"), "must be readable by torchcodec; got 12, bad"),
        ("error", IndexError("too far"), "must be readable by torchcodec; got too far"),
        ("extra", 1, "must have 21 frames for torchcodec, as its time stamps say; got 22"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(FakeDecoder, attribute, value)
            assert read_clip(path, 4).reader == "pyav"
            with pytest.raises(VideoError, match=f"{message}$"):
                read_clip(path, 4, reader="torchcodec")
    with pytest.raises(VideoError, match=r"must have at least 22 frames; got 21$"):
        read_clip(path, 22)


def test_auto_does_without_torchcodec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 4)
    fake_torchcodec(monkeypatch, None)
    assert read_clip(path, 4).reader == "pyav"
    with pytest.raises(InputError, match='reader "torchcodec" needs the package torchcodec'):
        read_clip(path, 4, reader="torchcodec")


def test_torchcodec_is_not_used_where_it_shows_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torchcodec(monkeypatch, FakeDecoder)
    mirrored = set_matrix(write_clip(tmp_path / "mirrored.mp4", 4), -1, 0, 0, 1)
    b_frames = write_clip(tmp_path / "source.mkv", 4, options=B_FRAMES)
    assert read_clip(b_frames, 4).reader == "torchcodec"
    paths = [
        write_clip(tmp_path / "alpha.mov", 4, "qtrle", "argb", {}),
        write_clip(tmp_path / "deep.mkv", 4, "ffv1", "gray10le", {}),
        write_clip(tmp_path / "order.avi", 4, options=B_FRAMES),
        copy_packets(b_frames, tmp_path / "order.mp4"),
        mirrored,
    ]
    for path in paths:
        clip = read_clip(path, 4)
        assert clip.reader == "pyav"
        if path != mirrored:
            assert shown(clip) == [0, 1, 2, 3]
        with pytest.raises(VideoError, match="must have certain time stamps, 8 bits a channel, no transparency"):
            read_clip(path, 4, reader="torchcodec")


@pytest.mark.skipif(torchcodec_reader.find_decoder() is None, reason="needs torchcodec and FFmpeg libraries")
@pytest.mark.parametrize("case", ["h264 b-frames", "h264 open groups", "vp9 webm", "mpeg4 avi", "ffv1 grey odd size"])
@pytest.mark.parametrize("rotation", [0, 90])
def test_torchcodec_gives_the_same_frames(case: str, rotation: int, tmp_path: Path) -> None:
    name, codec, pix_fmt, options, size = FORMATS[case]
    path = write_clip(tmp_path / name, 40, codec, pix_fmt, options, size)
    if rotation and path.suffix == ".mp4":
        set_matrix(path, 0, -1, 1, 0)
    one = read_clip(path, 8, stride=3, start=5, reader="torchcodec")
    two = read_clip(path, 8, stride=3, start=5, reader="pyav")
    assert np.array_equal(one.frames, two.frames)
    assert (one.indices, one.times, one.fps) == (two.indices, two.times, two.fps)
