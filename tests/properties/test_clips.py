"""Files, pictures and preprocessing: what is written can be read, and what is painted has the size it should have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import aosa_fast
from aosa_fast import InputError, VideoError, models, video
from aosa_fast.models import Classifier, Preprocessing
from drawn import maps, pictures_of


@given(pictures_of(frames=(1, 6), side=(2, 40)), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=15)
def test_videos_are_read_as_they_were_written(
    tmp_path: Path, frames: np.ndarray, count: int, stride: int, start: int
) -> None:
    flat = np.broadcast_to(frames[:, :1, :1] // 32 * 32, frames.shape)  # what no codec loses
    path = tmp_path / "clip.mkv"
    video.write_video(path, flat, fps=10)
    span = (count - 1) * stride + 1
    if start + span > len(frames):
        with pytest.raises(VideoError) as caught:
            video.read_clip(path, count, stride=stride, start=start)
        assert "\n" not in str(caught.value)
        return
    clip = video.read_clip(path, count, stride=stride, start=start)
    assert isinstance(clip, video.VideoClip)
    assert (clip.total_frames, clip.indices) == (len(frames), (*range(start, start + span, stride),))
    level = flat[list(clip.indices), 0, 0].astype(int)
    assert np.abs(clip.frames[:, 0, 0].astype(int) - level).max() <= 12


@given(maps(frames=5, side=24), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99))
def test_overlays_and_sheets_of_any_size(
    tmp_path: Path, saliency: np.ndarray, height: int, width: int, alpha: float, seed: int
) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (len(saliency), height, width, 3), np.uint8)
    painted = video.render_overlay(frames, saliency, alpha=alpha, min_side=1)
    assert (painted.shape, painted.dtype) == (frames.shape, np.dtype(np.uint8))
    assert np.array_equal(video.render_overlay(frames, saliency * 0, alpha=alpha, min_side=1), frames)
    sheet = video.contact_sheet(frames, saliency, title="a < b", units="drop")
    assert sheet.dtype == np.uint8
    video.write_image(tmp_path / "sheet.png", sheet)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheet)


@given(st.binary(max_size=64), st.booleans())
def test_a_file_is_whole_or_not_there(tmp_path: Path, content: bytes, fails: bool) -> None:
    path = tmp_path / "result.bin"
    path.write_bytes(b"before")
    try:
        with video.atomic_path(path) as temporary:
            temporary.write_bytes(content)
            if fails:
                raise RuntimeError
    except RuntimeError:
        pass
    assert path.read_bytes() == (b"before" if fails else content)
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.bin"]


def _preprocessing(fields: dict[str, Any]) -> Preprocessing:
    return Preprocessing(frames=2, stride=1, size=max(fields["crop"]), mean=(0.5,), std=(0.25,), **fields)


preprocessings = st.fixed_dictionaries(
    {
        "crop": st.tuples(st.integers(1, 24), st.integers(1, 24)),
        "resize": st.sampled_from(["short", "exact", "letterbox"]),
    }
).map(_preprocessing)


@given(preprocessings, pictures_of(side=(1, 40)), st.tuples(*[st.floats(-10, 60, width=32)] * 4))
def test_preprocessing_of_frames_and_boxes(made: Preprocessing, frames: np.ndarray, box: tuple[float, ...]) -> None:
    height, width = frames.shape[1:3]
    cropped = made.cropped(frames)
    assert (cropped.shape, cropped.dtype) == ((len(frames), *made.crop, 3), np.dtype(np.uint8))
    assert made.to_input(cropped).shape == (1, 3, len(frames), *made.crop)
    x0, y0, x1, y1 = made.map_boxes(np.array(box), height, width)
    assert 0 <= x0 <= x1 <= made.crop[1]
    assert 0 <= y0 <= y1 <= made.crop[0]
    assert (x1 > x0) == (y1 > y0)
    assert models.Preprocessing.from_dict(made.as_dict()) == made
    with pytest.raises(InputError):
        made.changed(frames=0)


@given(st.sampled_from(["demo", "demo-attention", "demo-r2plus1d", "demo-scene:order"]), st.integers(0, 9))
@settings(max_examples=4)
def test_embedded_models_load_alike_each_time(spec: str, seed: int) -> None:
    first, second = models.load(spec), models.load(spec)
    assert isinstance(first, Classifier)
    shape = (first.preprocessing.frames, *first.preprocessing.crop, 3)
    clip = first.preprocessing.to_input(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
    assert first.network(clip).equal(second.network(clip))
    assert first.class_names is not None
    assert first.network(clip).shape == (1, len(first.class_names))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12))
def test_a_model_that_there_is_not_is_refused_in_one_line(spec: str) -> None:
    named = [known.partition(":")[0] for known in aosa_fast.list_models()]
    if spec.partition(":")[0] in named:
        return
    with pytest.raises(InputError) as caught:
        models.load(spec)
    assert "\n" not in str(caught.value)
