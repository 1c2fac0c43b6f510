"""Which clips come from one source."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("scipy")

from aosa_fast.audit.clip.appearance import look
from aosa_fast.audit.findings.sources import number_sources
from aosa_fast.audit.findings.sums import sum_rows
from aosa_fast.audit.store.parts import PartWriter
from aosa_fast.data import open_dataset
from aosa_fast.demo.network import PREPROCESSING
from audit_rows import fake_row


def compressed(frames: np.ndarray, quality: int) -> np.ndarray:
    files = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for frame in frames]
    return np.stack([cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files])


def test_ten_copies_of_one_video_are_one_source_and_other_videos_are_not(tmp_path: Path) -> None:
    dataset = open_dataset("rendered:noise=1")
    clips = [dataset.read(sample, PREPROCESSING).frames for sample in dataset.samples[:6]]
    looks = [look(compressed(clips[0], 100 - i)) for i in range(10)] + [look(clip) for clip in clips[1:]]
    with PartWriter(tmp_path, (1, 1)) as writer:
        writer.add([fake_row(f"{i:02}", **columns) for i, columns in enumerate(looks)])
    source = sum_rows(tmp_path).clips.source
    assert source.dtype == np.int64
    assert len(set(source[:10])) == 1
    assert len(set(source)) == 6


def test_clips_of_a_group_are_one_source_and_what_is_not_known_is_its_own(tmp_path: Path) -> None:
    groups = ["a", None, "b", "a", None]
    with PartWriter(tmp_path, (1, 1)) as writer:
        writer.add([fake_row(f"{i}", group=group) for i, group in enumerate(groups)])
    a, first, b, again, second = sum_rows(tmp_path).clips.source
    assert a == again
    assert len({a, first, b, second}) == 4


def test_one_wall_behind_different_actors_is_no_source() -> None:
    """Their mean frames have one hash; what moves before them is elsewhere."""
    wall = np.broadcast_to(np.linspace(200, 20, 64, dtype=np.uint8)[:, None], (16, 64, 64, 3)).copy()
    clips = [wall.copy() for _ in range(2)]
    for clip, column in zip(clips, (12, 44), strict=True):
        clip[::2, 20:40, column : column + 6] += 20
    looks = [look(clip) for clip in (*clips, compressed(clips[1], 98))]
    assert len({own["frame_hash"] for own in looks}) < 3
    source = number_sources([None] * 3, *([own[name] for own in looks] for name in ("frame_hash", "appearance")))
    assert source[0] != source[1] == source[2]


def test_no_time_is_quadratic_where_all_have_one_hash() -> None:
    grey, noise = look(np.full((2, 8, 8, 3), 9, np.uint8)), np.random.default_rng(0)
    looks = [noise.integers(0, 256, len(grey["appearance"]), np.uint8).tobytes() for _ in range(20_000)]
    source = number_sources([None] * len(looks), [grey["frame_hash"]] * len(looks), looks)
    assert len(set(source)) == len(looks)
