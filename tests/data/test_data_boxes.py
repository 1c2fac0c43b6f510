from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aosa_fast.data import open_dataset
from aosa_fast.data.boxes import boxes_from_lists, boxes_from_tubes
from aosa_fast.data.ucf101_24 import CLASSES, read_boxes
from aosa_fast.errors import InputError
from small_nets import make_preprocessing


def test_boxes_stored_in_bytes_do_not_overflow():
    tubes = [
        (2, np.array([[200, 10, 100, 60], [201, 11, 90, 250]], np.uint8)),
        (3, np.array([[5, 6, 7, 8]], np.int32)),
    ]
    boxes = boxes_from_tubes(tubes, (320, 240))
    at = boxes.at([1, 2, 3, 4, 3], 240, 320)
    nothing = [0, 0, 0, 0]
    assert at.tolist() == [
        [nothing, nothing],
        [[200, 10, 300, 70], nothing],
        [[201, 11, 291, 261], [5, 6, 12, 14]],
        [nothing, nothing],
        [[201, 11, 291, 261], [5, 6, 12, 14]],
    ]
    assert boxes_from_tubes(tubes[:1], (320, 240)).at([3], 240, 320).tolist() == [[[201, 11, 291, 261]]]
    # Frames stored at half the width and three quarters of the height.
    assert boxes.at([2], 180, 160)[0, 0].tolist() == [100, 7.5, 150, 52.5]
    assert boxes_from_tubes([], (320, 240)).at([0, 1], 240, 320).shape == (2, 0, 4)


def test_boxes_of_a_manifest_in_either_form():
    a, b, c = [1, 2, 30, 40], [5.5, 6, 70, 80], [9, 10, 11, 12]
    rows = boxes_from_lists([[3, *b], [0, *a], [3, *c]])
    entries = boxes_from_lists([a, None, [], [b, c]])
    for boxes in (rows, entries):
        at = boxes.at([0, 1, 2, 3, 4], 48, 64)
        assert at.shape == (5, 2, 4)
        assert at[0].tolist() == [a, [0] * 4]
        assert at[3].tolist() == [b, c]
        assert not at[[1, 2, 4]].any()
    for nothing in ([], [None, None], [[]]):
        assert boxes_from_lists(nothing).at([0, 1], 48, 64).shape == (2, 0, 4)


@pytest.mark.parametrize(
    "content",
    [
        {},
        "text",
        [[1, 2, 3]],
        [[[1, 2, 3, 4, 5]]],
        [["a", 1, 2, 3]],
        [[True, 1, 2, 3]],
        [[0, 1, 2, float("nan")]],
        [[0, 1, 2, 10**400]],
        [[-1, 0, 0, 5, 5]],
        [[0.5, 0, 0, 5, 5]],
    ],
    ids=str,
)
def test_boxes_of_another_form_are_refused(content: Any):
    with pytest.raises(InputError, match=r"^must be \[frame, x0, y0, x1, y1\] lists, or per frame null"):
        boxes_from_lists(content)


def test_the_24_classes():
    assert len(set(CLASSES)) == 24
    assert tuple(sorted(CLASSES)) == CLASSES
    assert (CLASSES[0], CLASSES[3], CLASSES[15], CLASSES[23]) == (
        "Basketball",
        "CliffDiving",
        "SkateBoarding",
        "WalkingWithDog",
    )


def ucf(folder: Path, entry: dict[str, Any], size: tuple[int, int] = (320, 240), count: int = 12) -> Path:
    """A tree like UCF101-24 with one video of black frames, in which each box is painted white."""
    key = "CliffDiving/v_CliffDiving_g01_c01"
    frames = folder / key
    frames.mkdir(parents=True)
    for i in range(count):
        image = np.zeros((240, 320, 3), np.uint8)
        for tube in entry["annotations"]:
            if 0 <= i - tube["sf"] < len(tube["boxes"]):
                x, y, w, h = (int(value) for value in tube["boxes"][i - tube["sf"]])
                image[y : y + h, x : x + w] = 255
        Image.fromarray(image).resize(size).save(frames / f"image_{i + 1:05d}.png")
    (folder / "pyannot.pkl").write_bytes(pickle.dumps({key: entry}))
    return folder


@pytest.mark.parametrize("size", [(320, 240), (256, 192), (171, 128)], ids=str)
@pytest.mark.parametrize(("frames", "stride", "start"), [(5, 2, None), (4, 1, 1), (16, 1, None)])
def test_boxes_follow_the_frames_through_sampling_resize_and_crop(
    tmp_path: Path, size: tuple[int, int], frames: int, stride: int, start: int | None
):
    # The box moves and grows from frame to frame, so that no other frame's box fits.
    rows = np.array([[90 + 11 * i, 30 + 9 * i, 30 + 4 * i, 20 + 6 * i] for i in range(8)], np.uint16)
    entry = {"label": 3, "numf": 12, "annotations": [{"label": 3, "sf": 2, "ef": 10, "boxes": rows}]}
    dataset = open_dataset(f"ucf101-24:{ucf(tmp_path, entry, size)}")
    p = make_preprocessing(frames, stride, (112, 112))
    clip = dataset.read(replace(dataset.samples[0], start=start), p)
    assert (clip.boxes.shape, clip.boxes.dtype) == ((frames, 1, 4), np.int32)
    assert clip.looped == max(0, frames - 12)
    for t, index in enumerate(clip.indices):
        box = clip.boxes[t, 0]
        if not 2 <= index < 10:
            assert not box.any()
            assert clip.frames[t].max() < 128
            continue
        ys, xs = np.nonzero(clip.frames[t, ..., 0] > 127)
        painted = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(box - painted).max() <= 1, (index, box, painted)


def test_objects_of_another_class_are_left_out(tmp_path: Path):
    rows = np.full((2, 4), 9)
    tubes = [{"label": label, "sf": 0, "boxes": rows} for label in (3, "CliffDiving", 4, "Diving", np.uint8(3))]
    path = tmp_path / "boxes.pkl"
    path.write_bytes(pickle.dumps({"CliffDiving/a": {"annotations": tubes}, "Diving/b": {"annotations": []}}))
    boxes = read_boxes(path)
    assert {key: value.count for key, value in boxes.items()} == {"CliffDiving/a": 3, "Diving/b": 0}


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {"A/v": 3},
        {3: {"annotations": []}},
        {"A/v": {}},
        {"A/v": {"annotations": [{"label": 99, "sf": 0, "boxes": np.zeros((1, 4))}]}},
        {"Diving/v": {"annotations": [{"label": 5, "sf": 0, "boxes": np.zeros((1, 3))}]}},
        {"Diving/v": {"annotations": [{"label": 5, "sf": 0, "boxes": [[1, 2, 3, 4]]}]}},
        {"Diving/v": {"annotations": [{"label": 5, "sf": "x", "boxes": np.zeros((1, 4))}]}},
        {"Diving/v": {"annotations": [{"label": 5, "sf": 0, "boxes": np.full((1, 4), np.nan)}]}},
    ],
    ids=str,
)
def test_a_pickle_of_another_layout_is_refused(content: Any, tmp_path: Path):
    path = tmp_path / "boxes.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(
        InputError, match=r"^[^\n]*boxes.pkl(, [^\n]*)?: must (map Class/video to|be) annotations with boxes \(n, 4\)"
    ):
        read_boxes(path)


def test_the_real_sample_of_ucf101_24(shared_data: Path):
    root = shared_data / "ucf101"
    dataset = open_dataset(f"ucf101-24:{root}", annotations=root / "pyannot_sample.pkl")
    (sample,) = dataset.samples
    assert (sample.id, sample.label, dataset.missing) == ("CliffDiving/v_CliffDiving_g01_c01", 3, 0)
    p = make_preprocessing(16, 1, (112, 112))
    clip = dataset.read(sample, p)
    assert clip.indices.tolist() == list(range(24, 40))
    raw = pickle.loads((root / "pyannot_sample.pkl").read_bytes())[sample.id]["annotations"][0]["boxes"]
    x, y, w, h = (float(value) for value in raw[30])
    by_hand = [(x * 149 / 320 - 18), y * 112 / 240, (x + w) * 149 / 320 - 18, (y + h) * 112 / 240]
    assert clip.boxes[6, 0].tolist() == [int(np.floor(v)) for v in by_hand[:2]] + [int(np.ceil(v)) for v in by_hand[2:]]
    # In frames 19 to 24 the diver is alone against the sky: the annotation fits what is dark best as it is.
    q = make_preprocessing(6, 1, (240, 240))
    alone = dataset.read(replace(sample, start=19), q)
    dark = alone.frames.max(-1)[:, 42:180, :200] < 170
    edges = np.array([np.quantile(np.argwhere(frame), (0.01, 0.99), axis=0)[:, ::-1].ravel() for frame in dark])
    error = {}
    for shift in range(-4, 5):
        boxes = q.map_boxes(sample.boxes.at(alone.indices + shift, 240, 320), 240, 320)[:, 0] - [0, 42, 0, 42]
        error[shift] = np.abs(boxes - edges).mean()
    assert abs(min(error, key=error.__getitem__)) <= 1, error
    assert error[0] < 0.8 * min(error[-4], error[4]), error
