"""Frames are converted one by one: memory and work follow what is kept of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aosa_fast.data import Dataset, Sample
from aosa_fast.errors import InputError, VideoError
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.models.views import DISPLAY_SIDE, read_views
from aosa_fast.video import read_clip
from numbered_clips import B_FRAMES, LOSSLESS, write_clip

SIDE = 1024
IMPORTS = """
import re, sys
import aosa_fast.models
from aosa_fast.data import Dataset, Sample
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.video import read_clip
MODEL = Preprocessing(20, 1, 32, (32, 32), (0.5,) * 3, (0.2,) * 3)
"""


@pytest.fixture(scope="module", params=["a.mp4", "a.avi", "frames"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 large frames: with time stamps, without true ones, and as pictures."""
    path = tmp_path_factory.mktemp("large") / request.param
    if path.suffix:
        return write_clip(path, 16, options=B_FRAMES | {"preset": "ultrafast", "bf": "2"}, size=(SIDE, SIDE))
    path.mkdir()
    for i in range(16):
        Image.fromarray(np.full((SIDE, SIDE, 3), i, np.uint8)).save(path / f"{i}.png", compress_level=1)
    return path


def preprocessing(frames: int) -> Preprocessing:
    return Preprocessing(frames, 1, 32, (32, 32), (0.5,) * 3, (0.2,) * 3)


def peak(code: str, *arguments: object) -> float:
    """Memory that a process of its own takes at most while it runs `code`, in frames of 2048x2048."""
    measured = "int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    program = f"{IMPORTS}\nbefore = {measured}\n{code}\nprint({measured} - before)"
    command = [sys.executable, "-P", "-c", program, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout.split()[-1]) * 1024 / (2048 * 2048 * 3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory of a process")
def test_memory_follows_what_is_kept(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 24, options=LOSSLESS | {"g": "1"}, size=(2048, 2048))
    converted = "DATA = Dataset('one', None, (Sample('a', sys.argv[1], None),)); DATA.read(DATA.samples[0], MODEL)"
    assert peak(converted, path) < 8
    assert 20 < peak("read_clip(sys.argv[1], 20)", path) < 28


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory of a process")
def test_a_frame_that_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mov", 4, "qtrle", "rgb24", {})
    data = bytearray(path.read_bytes())
    at = data.index(b"rle ", data.index(b"stsd")) + 28
    for side, message in ((16000, r"at most 67108864 pixels \(8192x8192\); got 16000x16000"), (60000, "it has none")):
        data[at : at + 4] = side.to_bytes(2, "big") * 2
        path.write_bytes(data)
        with pytest.raises(VideoError, match=rf"^[^\n]*: must have [^\n]*{message}$"):
            read_clip(path, 1, convert=lambda frame: frame[:1, :1])
        assert peak("try: read_clip(sys.argv[1], 1)\nexcept ValueError: pass", path) < 4


def test_a_data_set_reads_the_same_as_before_conversion(source: Path) -> None:
    dataset = Dataset("one", None, (Sample("a", str(source), None),))
    clip = dataset.read(dataset.samples[0], preprocessing(12))
    assert np.array_equal(clip.frames, preprocessing(12).crop_frames(read_clip(source, 12).frames))


def test_only_wanted_frames_are_converted(source: Path) -> None:
    calls: list[tuple[int, ...]] = []

    def convert(frame: np.ndarray) -> np.ndarray:
        assert frame.flags.c_contiguous
        calls.append(frame.shape)
        return frame[:: SIDE // 8, :: SIDE // 4].copy()

    clip = read_clip(source, 3, stride=5, start=2, convert=convert)
    assert calls == [(SIDE, SIDE, 3)] * 3
    assert (clip.frames.shape, clip.size) == ((3, 8, 4, 3), (SIDE, SIDE))
    whole = read_clip(source, 3, stride=5, start=2)
    assert np.array_equal(clip.frames, whole.frames[:, :: SIDE // 8, :: SIDE // 4])
    sizes = iter((4, 5, 6))
    with pytest.raises(InputError, match="convert must return arrays of one shape and dtype"):
        read_clip(source, 3, convert=lambda frame: frame[: next(sizes)])


def test_the_model_and_people_see_the_same_part(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 6, size=(2048, 1536))
    whole = read_clip(path, 4)
    clip, cropped, display = read_views(path, preprocessing(4), "center")
    assert clip.indices == whole.indices
    assert np.array_equal(cropped, preprocessing(4).crop_frames(whole.frames))
    # 32 of 43 columns of 2048 are 1524 of 1536 rows.
    assert display.shape == (4, DISPLAY_SIDE, 1270, 3)
    near = Preprocessing(4, 1, 1536, (1000, 1200), (0.5,) * 3, (0.2,) * 3)
    _, _, display = read_views(path, near, "center")
    assert np.array_equal(display, near.display_frames(whole.frames))


def test_frames_beyond_the_budget_are_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aosa_fast.video.clip.MAX_CLIP_PIXELS", 3 * SIDE * SIDE)
    assert len(read_clip(source, 3).frames) == 3
    message = rf"^[^\n]*: must have at most {3 * SIDE * SIDE} pixels in the frames that are read; got 4 of 1024x1024: "
    with pytest.raises(VideoError, match=message):
        read_clip(source, 4)
    assert len(read_clip(source, 4, convert=lambda frame: frame[:2, :2]).frames) == 4
