from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.audit.clip.measures import measure
from aosa_fast.audit.clip.prepare import Preparer
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.audit.tasks import failed_row
from aosa_fast.config import Config
from aosa_fast.data import Dataset, Sample, open_dataset
from aosa_fast.demo.planted import Cue, make_plan, render_planted
from aosa_fast.demo.render import render_clip
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing
from numbered_clips import write_clip

FILES = Dataset("files", None, ())


def seeing(frames: int = 16, side: int = 64) -> Preprocessing:
    return Preprocessing(frames, 1, side, (side, side), (0.45,) * 3, (0.225,) * 3)


def preparer(
    frames: int = 16, side: int = 64, dataset: Dataset = FILES, settings: AuditSettings | None = None
) -> Preparer:
    return Preparer(replace(dataset, samples=()), seeing(frames, side), settings or AuditSettings())


def write_frames(folder: Path, frames: NDArray[np.uint8]) -> Path:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i:03d}.png", compress_level=1)
    return folder


def file_sample(path: Path) -> Sample:
    return Sample(path.name, str(path), 0)


def test_a_rendered_clip_is_made_ready() -> None:
    dataset = open_dataset("rendered:pan=0.25")
    sample = dataset.samples[3]
    ready = preparer(dataset=dataset).prepare(sample)
    clip = dataset.read(sample, seeing())
    assert ready.sample is sample
    assert np.array_equal(ready.clip.frames, clip.frames)
    assert (ready.flow.shape, ready.flow.dtype) == ((15, 64, 64, 2), np.float32)
    assert (ready.moving.shape, ready.moving.dtype) == ((16, 64, 64), bool)
    assert ready.static.shape == ready.letterbox.shape == (64, 64)
    assert ready.camera == pytest.approx(0.25 * 64 / 16, abs=0.05)
    shape = hashlib.sha256(b"(16, 64, 64, 3)" + clip.frames.tobytes())
    assert ready.content_hash == shape.hexdigest()[:32]
    assert set(ready.seconds) == {"read", "flow", "motion"}
    assert all(0 < seconds < 60 for seconds in ready.seconds.values())
    again = pickle.loads(pickle.dumps(ready, pickle.HIGHEST_PROTOCOL))
    for name in ("flow", "moving", "static", "letterbox"):
        assert np.array_equal(getattr(again, name), getattr(preparer(dataset=dataset).prepare(sample), name))


def test_the_flow_is_that_of_the_config() -> None:
    dataset = open_dataset("rendered")
    settings = AuditSettings(config=Config(flow="dis-fast"))
    ready = preparer(4, dataset=dataset, settings=settings).prepare(dataset.samples[0])
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in ready.clip.frames]
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    assert np.array_equal(ready.flow[2], estimator.calc(grey[2], grey[3], None))


READS = """
from aosa_fast.audit.clip.prepare import Preparer
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.data import Dataset, Sample
from aosa_fast.models.preprocess import Preprocessing
own = Preprocessing(4, 1, 32, (32, 32), (0.5,) * 3, (0.2,) * 3).for_audits()
assert Preparer(Dataset("files", None, ()), own, AuditSettings()).prepare(Sample("a", sys.argv[1], None)).flow.any()
"""
DRIVES = "import aosa_fast.audit.workers.pool, aosa_fast.cli.run_audit"


@pytest.mark.parametrize(("code", "heavy"), [(READS, {"torch", "numba"}), (DRIVES, {"torch", "numba", "av", "PIL"})])
def test_who_reads_and_who_drives_load_no_more_than_they_need(code: str, heavy: set[str], tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", f"import sys\n{code}\nprint(*sys.modules)", write_clip(tmp_path / "a.mp4")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "aosa_fast" in loaded
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize("kind", ["rendered", "file"])
def test_a_model_that_sees_one_frame(kind: str, tmp_path: Path) -> None:
    dataset = open_dataset("rendered") if kind == "rendered" else FILES
    sample = dataset.samples[0] if kind == "rendered" else file_sample(write_clip(tmp_path / "a.mp4"))
    ready = preparer(1, 32, dataset).prepare(sample)
    assert ready.flow.shape == (0, 32, 32, 2)
    assert (ready.moving.shape, ready.camera) == ((1, 32, 32), 0.0)
    assert not ready.moving.any()
    assert not ready.static.any()
    assert measure(np.ones((1, 32, 32), np.float32), ready)["share_static"] == 0.0


def test_a_planted_logo_and_bars_are_found_in_files(tmp_path: Path) -> None:
    cue = next(cue for cue in make_plan(0).cues if isinstance(cue, Cue) and cue.kind == "logo")
    frames = render_planted(make_plan(0), 5, label=1, cue=cue).frames.copy()
    frames[:, :7], frames[:, -4:] = 0, 0
    ready = preparer().prepare(file_sample(write_frames(tmp_path / "clip", frames)))
    assert np.array_equal(ready.clip.frames, frames)
    bars, logo = np.zeros((2, 64, 64), bool)
    bars[:7], bars[-4:] = True, True
    top, left = (cue.corner // 2) * 50 + 2, (cue.corner % 2) * 50 + 2
    logo[top : top + 10, left : left + 10] = True
    assert np.array_equal(ready.letterbox, bars)
    assert np.array_equal(ready.static, bars | logo)
    values = measure(np.broadcast_to(logo & ~bars, (16, 64, 64)).astype(np.float32), ready)
    assert (values["share_static"], values["share_letterbox"]) == pytest.approx((1, 0))
    assert values["area_letterbox"] == 11 / 64


def test_the_camera_is_that_of_the_picture_between_the_bars(tmp_path: Path) -> None:
    frames = render_clip(6, label=1, size=112, pan=0.5).frames.copy()
    frames[:, :24], frames[:, -25:] = 0, 0
    ready = preparer(side=112).prepare(file_sample(write_frames(tmp_path / "clip", frames)))
    assert ready.camera == pytest.approx(0.5 * 112 / 16, rel=0.1)  # 0.16 with the bars
    assert ready.letterbox.sum() == 49 * 112
    assert ready.moving.any()
    assert not ready.moving[:, ready.letterbox].any()


def looped(tmp_path: Path, distinct: int) -> Sample:
    return file_sample(write_frames(tmp_path / "short", render_clip(4, label=1, frames=distinct, size=64).frames))


def test_the_leap_of_a_looped_clip_is_no_motion(tmp_path: Path) -> None:
    ready = preparer(15).prepare(looped(tmp_path, 6))
    short = preparer(6).prepare(looped(tmp_path / "again", 6))
    assert ready.clip.looped == 9
    assert short.moving.any()
    assert np.array_equal(ready.moving, short.moving[np.arange(15) % 6])
    assert ready.camera == short.camera
    assert np.array_equal(ready.flow[6:11], short.flow)


def test_one_frame_shown_all_the_time_does_not_make_everything_static(tmp_path: Path) -> None:
    ready = preparer(8).prepare(looped(tmp_path, 1))
    assert ready.clip.looped == 7
    assert not ready.static.any()
    assert not ready.moving.any()
    assert ready.camera == 0.0


def test_the_hash_of_a_file_is_of_its_bytes(tmp_path: Path) -> None:
    file = write_clip(tmp_path / "a.mp4", count=200, options={"qp": "0", "preset": "ultrafast", "g": "1"})
    first = preparer().prepare(file_sample(file)).content_hash
    assert first == hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    copy = tmp_path / "another name.mkv.mp4"
    shutil.copy(file, copy)
    part = replace(file_sample(copy), start=3, end=40)
    assert preparer().prepare(part).content_hash == first
    with copy.open("ab") as content:
        content.write(b"\0")
    changed = preparer().prepare(file_sample(copy)).content_hash
    assert changed == hashlib.sha256(copy.read_bytes()).hexdigest()[:32] != first


def test_the_hash_of_a_folder_is_of_its_frames_and_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = render_clip(0, frames=4, size=64).frames

    def hashed(change: Callable[[Path], object]) -> str:
        folder = write_frames(tmp_path / os.urandom(4).hex(), frames)
        change(folder)
        return preparer(3).prepare(file_sample(folder)).content_hash

    plain = hashed(lambda folder: None)
    assert plain == hashed(lambda folder: (folder / "notes.txt").write_text("x"))
    assert plain == hashed(lambda folder: (folder / ".hidden.png").write_text("x"))
    others = [
        hashed(lambda folder: (folder / "000.png").rename(folder / "0000.png")),
        hashed(lambda folder: (folder / "003.png").unlink()),
        hashed(lambda folder: Image.fromarray(frames[0]).save(folder / "002.png")),
        hashed(lambda folder: (folder / "001.png").write_bytes((folder / "001.png").read_bytes() + b"\0")),
    ]
    assert len({plain, *others}) == 5
    # File systems list names in any order.
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: sorted(listed(folder), reverse=True))
    assert plain == hashed(lambda folder: None)


def test_rendered_clips_differ_by_seed_and_size() -> None:
    dataset = open_dataset("rendered")
    a, b = dataset.samples[:2]
    hashes = [preparer(4, side, dataset).prepare(s).content_hash for s in (a, a, b) for side in (32, 48)]
    assert hashes[:2] == hashes[2:4]
    assert len(set(hashes)) == 4
    assert all(len(digits) == 32 for digits in hashes)


def test_what_cannot_be_read_gets_one_line(tmp_path: Path) -> None:
    sample = file_sample(tmp_path / "two\nlines.avi")
    with pytest.raises(InputError, match="must exist") as caught:
        preparer(5, 32).prepare(sample)
    line = failed_row(sample, "read", caught.value)["error"]
    assert "lines.avi" in line
    assert "\n" not in line


def test_names_that_no_file_can_have() -> None:
    for path in ("a\0b.mp4", "x" * 5000, ""):
        with pytest.raises((InputError, OSError)):
            preparer(4).prepare(Sample("x", path, 0))
    with pytest.raises(InputError, match="must have a path; got None"):
        preparer(4).prepare(Sample("x", None, 0))


@contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions do not hold root back."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


@pytest.mark.parametrize("what", ["file", "folder", "frame", "folder of frames", "folder without entry"])
def test_what_may_not_be_read_is_said_by_name(what: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        inside = Path(folder) / "in"
        inside.mkdir()
        if "frame" in what:
            path = write_frames(inside / "clip", render_clip(0, frames=4, size=32).frames)
            locked = path / "002.png" if what == "frame" else path
        else:
            path = write_clip(inside / "a.mp4")
            locked = path if what == "file" else inside
        os.chmod(locked, 0o444 if what == "folder without entry" else 0)
        with as_nobody(), pytest.raises((InputError, OSError), match=r"[Pp]ermission denied") as caught:
            preparer(4, 32).prepare(file_sample(path))
        os.chmod(locked, 0o755)
    assert str(locked if what == "frame" else path) in str(caught.value)


def test_a_clip_too_small_for_the_flow_is_refused() -> None:
    settings = AuditSettings(config=Config(flow="dis-fast"))
    dataset = open_dataset("rendered:size=16")
    with pytest.raises(InputError, match="must have frames of at least 12 pixels"):
        preparer(4, 8, dataset, settings).prepare(dataset.samples[0])
