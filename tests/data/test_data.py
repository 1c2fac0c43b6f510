from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aosa_fast.data import Boxes, Dataset, Sample, open_dataset
from aosa_fast.data.window import read_window
from aosa_fast.errors import InputError, VideoError
from numbered_clips import B_FRAMES, damage, number, set_matrix, write_clip, write_frames, write_intra
from small_nets import make_preprocessing


def one(path: Path, **part: int | float) -> Dataset:
    return Dataset("one", None, (Sample("a", str(path), None, **part),))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same 20 frames, at 25 a second, as a folder, a video with time stamps, and two without true ones."""
    folder = tmp_path_factory.mktemp("sources")
    return [
        write_frames(folder / "frames", 20),
        write_clip(folder / "a.mp4", 20),
        write_clip(folder / "a.h264", 20),
        write_clip(folder / "a.avi", 20, options=B_FRAMES),
    ]


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("frames", "stride", "part", "expected"),
    [
        (4, 2, {}, [6, 8, 10, 12]),  # span 7, (20 - 7) // 2
        (20, 1, {}, list(range(20))),
        (10, 2, {}, list(range(0, 20, 2))),  # span 19
        (4, 2, {"start": 3}, [3, 5, 7, 9]),
        (4, 2, {"start": 0.4}, [10, 12, 14, 16]),
        (3, 2, {"start": 4, "end": 12}, [5, 7, 9]),  # 8 frames, span 5
        (3, 2, {"start": 0.16, "end": 0.48}, [5, 7, 9]),
        (3, 2, {"end": 9}, [2, 4, 6]),
        (3, 2, {"start": 10, "end": 1000}, [12, 14, 16]),
        (3, 2, {"start": 11, "end": 0.8}, [13, 15, 17]),  # the end of the last frame, 20 / 25 s: 9 frames
        (3, 2, {"start": 11, "end": 0.76}, [12, 14, 16]),  # its beginning: 8
        (3, 2, {"start": 10, "end": 99.0}, [12, 14, 16]),
        (4, 1, {"start": 16}, [16, 17, 18, 19]),
        (2, 1, {"start": 0.0, "end": 1.0}, [9, 10]),
        # Those that are too short are looped from their beginning.
        (24, 1, {}, [*range(20), 0, 1, 2, 3]),
        (12, 2, {}, [*range(0, 20, 2), 0, 2]),
        (4, 9, {}, [0, 9, 18, 0]),
        (3, 50, {}, [0, 0, 0]),
        (6, 1, {"start": 16}, [16, 17, 18, 19, 16, 17]),
        (6, 2, {"start": 0.64}, [16, 18, 16, 18, 16, 18]),
        (6, 2, {"start": 3, "end": 8}, [3, 5, 7, 3, 5, 7]),
        (2, 1, {"start": 19, "end": 500}, [19, 19]),
    ],
    ids=str,
)
def test_the_window(
    sources: list[Path], kind: int, frames: int, stride: int, part: dict[str, int | float], expected: list[int]
):
    dataset, p = one(sources[kind], **part), make_preprocessing(frames, stride)
    clip = dataset.read(dataset.samples[0], p)
    assert clip.frames.shape == (frames, 48, 48, 3)
    assert clip.indices.tolist() == expected
    assert clip.looped == frames - len(set(expected))
    assert clip.boxes is None
    # The pictures are those of the indices.
    source = read_window(str(sources[kind]), frames, stride, **part)
    shown = [number(image) for image in source.frames]
    assert shown == list(source.indices) == expected[: len(shown)]
    assert np.array_equal(clip.frames, p.crop_frames(source.frames)[np.arange(frames) % len(shown)])


@pytest.mark.parametrize("kind", ["h264", "full range", "10 bits", "turned", "alpha", "small", "grey"])
def test_the_decoder_scales_as_the_model_would(kind: str, tmp_path: Path):
    name, codec, pix_fmt = {
        "full range": ("a.avi", "mjpeg", "yuvj420p"),
        "10 bits": ("a.mp4", "libx264", "yuv420p10"),
        "alpha": ("a.mov", "qtrle", "argb"),
        "grey": ("a.mkv", "ffv1", "gray"),
    }.get(kind, ("a.mp4", "libx264", "yuv420p"))
    size = (24, 20) if kind == "small" else (160, 120)
    options = {"crf": "12"} if codec == "libx264" else {}
    path = write_clip(tmp_path / name, 6, codec, pix_fmt, options, size)
    if kind == "turned":
        set_matrix(path, 0, 1, -1, 0)
    data = one(path)
    sample = replace(data.samples[0], boxes=Boxes(np.array([1]), np.array([0]), np.array([[3.0, 4, 19, 18]]), 1))
    for resize in ("short", "exact", "letterbox"):
        plain = make_preprocessing(frames=4, size=40, crop=(32, 36), resize=resize)
        afterwards, at_once = (data.read(sample, own) for own in (plain, plain.for_audits()))
        assert at_once.frames.shape == afterwards.frames.shape
        # What must grow, grows afterwards.
        assert np.abs(at_once.frames.astype(int) - afterwards.frames).mean() < (1e-9 if kind == "small" else 2)
        assert np.array_equal(at_once.boxes, afterwards.boxes)
        assert np.array_equal(at_once.indices, afterwards.indices)


def test_a_part_without_frames_is_a_video_error(sources: list[Path]):
    for path in sources:
        for part in ({"start": 20}, {"start": 5, "end": 5}, {"start": 9, "end": 4}, {"start": 30.0}, {"end": 0}):
            with pytest.raises(VideoError, match=f"^{path}: must "):
                read_window(str(path), 2, 1, **part)
        for part in ({"start": -1}, {"end": -0.5}, {"start": float("nan")}):
            with pytest.raises(InputError, match="not negative; got"):
                read_window(str(path), 2, 1, **part)


def test_real_clips_shorter_than_the_window(shared_data: Path):
    for name, total in (("video_90.mov", 3), ("unordered.mov", 4)):
        dataset = one(shared_data / "broken" / name)
        clip = dataset.read(dataset.samples[0], make_preprocessing(8))
        assert clip.indices.tolist() == [i % total for i in range(8)]
        assert clip.looped == 8 - total
        assert np.array_equal(clip.frames[:total], clip.frames[total : 2 * total][: 8 - total])


def test_damage_is_counted_without_a_warning(tmp_path: Path, shared_data: Path):
    path = write_intra(tmp_path / "a.mp4", 12, {})
    damage(path, [5])
    corners = [[i, 1, 2 + i, 40, 44] for i in range(12)]
    manifest = tmp_path / "m.csv"
    manifest.write_text(f'path,label,boxes\na.mp4,0,"{corners}"\n')
    dataset = open_dataset(manifest)
    with warnings.catch_warnings(record=True) as warned:
        clip = dataset.read(dataset.samples[0], make_preprocessing(4))
        real = one(shared_data / "broken" / "corrupted.mp4", start=29)
        found = real.read(real.samples[0], make_preprocessing(4))
    assert not warned
    assert (clip.indices.tolist(), clip.damaged, clip.replaced) == ([4, 5, 6, 7], 1, 1)
    assert np.array_equal(clip.frames[1], clip.frames[0])
    # The picture in the second place is another frame's: no box is true of it. 48 of 64 columns, from 8 on.
    assert clip.boxes[:, 0].tolist() == [[0, 6, 32, 44], [0, 0, 0, 0], [0, 8, 32, 44], [0, 9, 32, 44]]
    assert (found.damaged, found.replaced) == (1, 1)


def test_a_clip_that_cannot_be_read_is_a_video_error(tmp_path: Path):
    whole = write_clip(tmp_path / "a.mp4", 20).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "empty.avi").write_bytes(b"")
    (tmp_path / "no images").mkdir()
    for name in ("cut.mp4", "empty.avi", "no images", "missing.mp4"):
        for part in ({}, {"start": 1}, {"start": 0.1, "end": 0.4}):
            dataset = one(tmp_path / name, **part)
            with pytest.raises(VideoError, match=f"{name}: must "):
                dataset.read(dataset.samples[0], make_preprocessing(4))
