"""Resize modes: the model's pixels, boxes and what people are shown must be the same places of the source."""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aosa_fast import InputError, explain
from aosa_fast.models import Classifier, Preprocessing, load
from aosa_fast.video.overlay import render_overlay
from small_nets import make_preprocessing

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
FRAMES = 4
preprocessing = partial(make_preprocessing, FRAMES, crop=(32, 64), size=32, mean=MEAN, std=STD, resize="exact")


def marked(height: int, width: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    frames = np.full((FRAMES, height, width, 3), 90, np.uint8)
    x0, y0, x1, y1 = box
    frames[:, y0:y1, x0:x1] = 250
    return frames


def bounds(seen: NDArray[np.bool_]) -> list[int]:
    ys, xs = np.nonzero(seen)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize("resize", ["short", "exact", "letterbox"])
@pytest.mark.parametrize("crop", [(64, 64), (32, 64), (64, 32), (48, 40)], ids=str)
@pytest.mark.parametrize("source", [(120, 160), (160, 120), (30, 20), (64, 64), (41, 97)], ids=str)
def test_a_marker_is_where_the_boxes_and_the_shown_frames_say(source, crop, resize):
    p = preprocessing(crop=crop, size=64, resize=resize)
    height, width = source
    box = (width * 3 // 8, height // 2, width * 5 // 8, height * 3 // 4)
    frames = marked(*source, box)
    cropped = p.crop_frames(frames)
    assert cropped.shape == (FRAMES, *crop, 3)
    mapped = p.map_boxes(np.array(box), height, width)
    assert np.abs(bounds(cropped[0, ..., 0] > 170) - mapped).max() <= 1
    # A map that is hot on the marker is hot on the marker of the frames that are shown.
    saliency = (cropped[..., 0] > 170).astype(np.float32)
    shown = p.display_frames(frames)
    painted = render_overlay(shown, saliency)[0].astype(int)
    factor = painted.shape[0] / shown.shape[1]
    coloured = np.array(bounds(np.ptp(painted, axis=-1) > 60)) / factor
    scale = np.array([shown.shape[2] / crop[1], shown.shape[1] / crop[0]] * 2)  # pixels shown per pixel of the map
    assert (np.abs(coloured - bounds(shown[0, ..., 0] > 170)) <= 1 + scale).all()


def test_exact_squeezes_the_whole_frame_and_letterbox_keeps_its_proportion():
    ramp = np.zeros((1, 120, 160, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.linspace(1, 255, 160), np.linspace(1, 255, 120)[:, None]
    exact = preprocessing().crop_frames(ramp)[0]
    assert np.array_equal(exact, cv2.resize(ramp[0], (64, 32), interpolation=cv2.INTER_AREA))
    assert preprocessing().source_window(120, 160) == (0, 0, 160, 120)
    boxed = preprocessing(resize="letterbox").crop_frames(ramp)[0]  # 32 x 43 of 32 x 64: 10 and 11 columns of bars
    assert np.array_equal(boxed[:, 11:54], cv2.resize(ramp[0], (43, 32), interpolation=cv2.INTER_AREA))
    assert not boxed[:, :11].any()
    assert not boxed[:, 54:].any()
    # One side shrinks, the other grows: nothing is skipped on the way.
    rows = np.random.default_rng(0).integers(0, 256, 160, dtype=np.uint8)
    lines = np.broadcast_to(rows[:, None, None], (1, 160, 16, 3)).copy()
    squeezed = preprocessing(crop=(32, 64)).crop_frames(lines)[0]
    assert np.abs(squeezed - rows.reshape(32, 5).mean(1)[:, None, None]).max() <= 1


def test_the_short_side_is_the_default_and_cannot_hold_a_wider_crop():
    assert Preprocessing(4, 1, 64, (48, 56), MEAN, STD).resize == "short"
    with pytest.raises(InputError, match=r"^crop must be two numbers, height and width; got 48$"):
        preprocessing(crop=48)
    with pytest.raises(InputError, match=r"^crop must be at most size=32 .* unless resize is exact or letterbox; got"):
        preprocessing(resize="short")
    with pytest.raises(InputError, match=r"^resize must be one of short, exact, letterbox; got stretch$"):
        preprocessing(resize="stretch")


@dataclass(frozen=True)
class Mirrored(Preprocessing):
    """One that a user made."""

    def crop_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return super().crop_frames(frames)[:, :, ::-1]


class Prepared(Mirrored):
    """One with a constructor of its own."""

    def __init__(self, gain: float):
        super().__init__(FRAMES, 1, 32, (32, 32), MEAN, STD)
        object.__setattr__(self, "gain", gain)


def test_what_json_keeps_of_it():
    p = preprocessing(resize="letterbox")
    plain = json.loads(json.dumps(p.as_dict()))
    assert plain["resize"] == "letterbox"
    assert Preprocessing.from_dict(plain) == p
    old = {name: value for name, value in preprocessing(size=64).as_dict().items() if name != "resize"}
    assert Preprocessing.from_dict(old) == preprocessing(size=64, resize="short")
    assert Preprocessing.from_dict(p.for_audits().as_dict()) == p.for_audits() != p
    assert "decoder_scales" not in plain  # files from before say the same
    own = Prepared(2.0).as_dict()
    assert own["class"].endswith("test_preprocess_resize.Prepared")
    with pytest.raises(InputError, match=r"^preprocessing must be of the base class to be read again; got .*Prepared$"):
        Preprocessing.from_dict(own)
    with pytest.raises(InputError, match=r"^preprocessing must be that of a model; .*shutter"):
        Preprocessing.from_dict({**plain, "shutter": 1})


def test_changing_a_field_keeps_the_class_and_what_is_its_own():
    other = Prepared(2.0).changed(frames=8, size=40, crop=(40, 40))
    assert (type(other), other.frames, other.crop, other.gain) == (Prepared, 8, (40, 40), 2.0)
    with pytest.raises(InputError, match="crop must be at most size=32"):
        other.changed(size=32)


def test_a_users_class_reaches_a_process_that_does_not_search_its_folder(tmp_path, monkeypatch):
    (tmp_path / "users_own").mkdir()
    (tmp_path / "users_own" / "__init__.py").write_text("")
    (tmp_path / "users_own" / "part.py").write_text(
        "from aosa_fast.models import Preprocessing\nclass Own(Preprocessing):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("users_own.part").Own(FRAMES, 1, 32, (32, 32), MEAN, STD)
    code = "import pickle, sys; p = pickle.load(sys.stdin.buffer); print(type(p).__name__, p.crop, len(sys.path))"
    before = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; print(len(sys.path))"], capture_output=True, check=True
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], input=pickle.dumps(own), capture_output=True, check=True)
    assert done.stdout.split() == [b"Own", b"(32,", b"32)", before.stdout.strip()]
    assert pickle.loads(pickle.dumps(preprocessing())) == preprocessing()


class Sized(torch.nn.Module):
    """Says what size it was given, and what it saw there."""

    def __init__(self):
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        self.seen.append(video.detach().clone())
        return torch.stack([video[..., : video.shape[-1] // 2].mean((1, 2, 3, 4)), video.mean((1, 2, 3, 4))], 1)


@pytest.mark.parametrize(
    "own",
    [preprocessing(), preprocessing(resize="letterbox"), Prepared(1.0)],
    ids=lambda p: type(p).__name__ + p.resize,
)
@pytest.mark.parametrize("method", ["aosa-approx", "aosa", "input-x-gradient"])
def test_pictures_go_through_the_models_preprocessing(method, own):
    classifier = Classifier(Sized(), own, {"left": 0, "all": 1})
    pictures = np.random.default_rng(0).integers(0, 256, (2, FRAMES, 90, 120, 3), dtype=np.uint8)
    found = explain(classifier, torch.from_numpy(pictures), "left", method=method)
    cropped = np.stack([own.crop_frames(clip) for clip in pictures])
    assert found.saliency.shape == cropped.shape[:4]
    assert np.array_equal(found.frames, cropped)
    expected = torch.cat([own.to_input(clip) for clip in cropped])
    assert all(torch.isin(batch[0], expected).all() for batch in classifier.network.seen[:1])
    # Pictures that are prepared already stay as they are.
    again = explain(classifier, torch.from_numpy(cropped), "left", method=method)
    assert torch.equal(again.saliency, found.saliency)
    assert torch.equal(explain(classifier, expected, "left", method=method).scores, found.scores)


def test_another_number_of_frames_is_refused_with_the_way_out():
    classifier = load("demo")
    pictures = torch.zeros(1, 20, 80, 96, 3, dtype=torch.uint8)
    with pytest.raises(InputError, match=r"^video must have the 16 frames of this model or more; got 12: .*changed\("):
        explain(classifier, pictures[:, :12])
    slower = classifier.preprocessing.changed(stride=2)
    with pytest.raises(InputError, match=r"^video must have the 16 frames of .*, or 31 and more, 2 apart; got 20: "):
        explain(classifier, pictures, preprocessing=slower)
    longer = replace(classifier, preprocessing=classifier.preprocessing.changed(frames=20))
    assert explain(longer, pictures).saliency.shape == (1, 20, 64, 64)
    with pytest.raises(InputError, match=r"^flow must have shape \(1, 15, 64, 64, 2\)"):
        explain(classifier, pictures[:, :16], flow=torch.zeros(1, 15, 80, 96, 2))


IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor], ids=lambda kind: kind.__name__)
def test_mean_and_std_of_pixels_up_to_255_are_refused(kind):
    mean, std = map(kind, IMAGENET)
    rule = r"must be of pixels in \[0, 1\], so at most 1: divide mean and std by 255 .*; got \["
    pictures = torch.zeros(1, FRAMES, 32, 32, 3, dtype=torch.uint8)
    for video in (pictures, torch.zeros(1, 3, FRAMES, 32, 32)):
        with pytest.raises(InputError, match=f"^mean {rule}123.675, "):
            explain(Sized(), video, 0, mean=mean, std=std)
        with pytest.raises(InputError, match=f"^std {rule}58.395, "):
            explain(Sized(), video, 0, mean=[0, 0, 0], std=std)
    with pytest.raises(InputError, match=f"^mean {rule}"):
        preprocessing(mean=mean, std=std)
    with pytest.raises(InputError, match=r"^std must be finite and positive; got"):
        preprocessing(std=(0.2, 0.0, 0.2))
    for given in ("grey", ["0.5", "x", "0.5"], [[0.5], [0.5, 0.5]], None):
        with pytest.raises(InputError, match=r"^mean must be (a number, or a sequence of numbers|finite); got"):
            preprocessing(mean=given)
    assert preprocessing(mean=0.5).mean == (0.5, 0.5, 0.5)
    assert preprocessing(mean=kind([0.5, 0.25, 1]), std=kind([1, 0.5, 0.25])).mean == (0.5, 0.25, 1)


NAMES = ("walk", "run", "jump")


@pytest.mark.parametrize(
    "names",
    [
        {2: "jump", 0: "walk", 1: "run"},
        {"0": "walk", "2": "jump", "1": "run"},
        {"jump": 2, "run": 1, "walk": 0},
        {"jump": np.int64(2), "run": np.int64(1), "walk": np.int64(0)},
        {"jump": "2", "run": "1", "walk": "0"},
        np.array(NAMES),
        dict(enumerate(NAMES)).values(),
    ],
    ids=["id2label", "text indices", "label2id", "NumPy indices", "label2id of text", "array", "values"],
)
def test_names_by_any_mapping(names):
    assert Classifier(Sized(), preprocessing(), names).class_names == NAMES
    video = torch.randn(1, 3, 4, 32, 40, generator=torch.Generator().manual_seed(0))

    def net(x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3, 4)) * torch.tensor([1.0, 50.0, -50.0])

    for target in ("run", 1):
        assert explain(net, video, target, class_names=names).metadata["target"] == ["run"]


def test_names_that_are_numbers_are_no_indices():
    assert Classifier(Sized(), preprocessing(), {"1": 0, "0": 1}).class_names == ("1", "0")
    assert Classifier(Sized(), preprocessing(), {0: "1", 1: "0"}).class_names == ("1", "0")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({0: "walk", 2: "jump"}, "must have every index from 0 to 1 once; got 0, 2"),
        ({1: "walk", 2: "jump"}, "must have every index from 0 to 1 once; got 1, 2"),
        ({"walk": 1, "jump": 1}, "must have every index from 0 to 1 once; got 1, 1"),
        ({"walk": "jump"}, "must map index to name or name to index; got"),
        ({"walk": 0.5}, "must map index to name or name to index; got"),
        ({0: 1, 1: 0}, "must be text; got 1"),
        (["walk", 3], "must be text; got 3"),
        (["walk", None], "must be text; got None"),
        ("walk", "must be a list of names, or a mapping of them; got str"),
        ({"walk", "jump"}, "must be a list of names, or a mapping of them; got set"),
        ({0: "walk", 1: "jump", 2: "run", 3: "sit"}, "must be one per class, 2; got 4"),
    ],
    ids=str,
)
def test_names_that_cannot_be(names, message):
    with pytest.raises(InputError, match=f"^class_names {message}"):
        explain(Sized(), torch.zeros(1, 3, 4, 32, 32), 0, class_names=names)
