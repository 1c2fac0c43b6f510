from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aosa_fast.demo import demo_clip_path, demo_truth, to_input
from aosa_fast.errors import InputError
from aosa_fast.models import Classifier, Preprocessing, load
from aosa_fast.video import read_clip


def preprocessing(**changes: object) -> Preprocessing:
    values: dict = {"frames": 4, "stride": 1, "size": 64, "crop": (48, 56), "mean": (0.5, 0.4, 0.3), "std": (0.2,) * 3}
    return Preprocessing(**{**values, **changes})


@pytest.mark.parametrize("shape", [(64, 64), (48, 100), (240, 320), (101, 77), (10, 12)])
def test_crop_is_the_centre_and_keeps_proportions(shape: tuple[int, int]):
    ramp = np.zeros((2, *shape, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, shape[1])
    ramp[..., 1] = np.linspace(0, 255, shape[0])[:, None]
    p = preprocessing()
    out = p.crop_frames(ramp)
    assert out.shape == (2, 48, 56, 3)
    # The centre of the crop shows the centre of the frame, and one source pixel has one scale in both axes.
    assert abs(out[0, 23:25, 27:29, :2].mean() - 127.5) < 5
    x0, y0, x1, y1 = p.source_window(*shape)
    assert abs((x1 - x0) / 56 - (y1 - y0) / 48) < 0.02 * (x1 - x0) / 56
    last_centre = x1 - 0.5 * (x1 - x0) / 56
    assert out[0, 24, -1, 0] == pytest.approx((last_centre - 0.5) / (shape[1] - 1) * 255, abs=4)


def test_boxes_follow_the_frames():
    frames = np.zeros((1, 120, 200, 3), np.uint8)
    frames[0, 50:70, 90:130] = 255
    p = preprocessing()
    box = p.map_boxes(np.array([[90, 50, 130, 70]], np.int32), 120, 200)[0]
    inside = p.crop_frames(frames)[0, ..., 0] > 127
    ys, xs = np.nonzero(inside)
    assert np.abs(box - [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).max() <= 1
    outside = p.map_boxes(np.array([[0, 0, 5, 5]], np.int32), 120, 200)[0]
    assert outside[0] >= outside[2] or outside[1] >= outside[3]


def test_input_is_normalised_and_channels_first():
    frames = np.full((4, 48, 56, 3), 51, np.uint8)
    frames[..., 1] = 102
    video = preprocessing().to_input(frames)
    assert video.shape == (1, 3, 4, 48, 56)
    assert video.dtype == torch.float32
    torch.testing.assert_close(video[0, :, 0, 0, 0], torch.tensor([(0.2 - 0.5) / 0.2, 0.0, (0.2 - 0.3) / 0.2]))


def test_bad_preprocessing_is_refused():
    with pytest.raises(InputError, match="frames, stride, size and crop must be at least 1"):
        preprocessing(frames=0)
    with pytest.raises(InputError, match="crop must be at most size=64"):
        preprocessing(crop=(65, 64))


def test_demo_preprocessing_is_the_one_it_was_trained_with():
    classifier = load("demo")
    clip = read_clip(demo_clip_path(), 16)
    mine = classifier.preprocessing.to_input(classifier.preprocessing.crop_frames(clip.frames))
    torch.testing.assert_close(mine, to_input(clip.frames), rtol=0, atol=1e-6)
    with torch.no_grad():
        assert classifier.class_names is not None
        assert classifier.class_names[int(classifier.network(mine).argmax())] == demo_truth()["class_name"]


def test_torchvision_checkpoint_file_with_dataparallel_prefix(tmp_path: Path):
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model("mc3_18", num_classes=7).eval()
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}, path)
    loaded = load(f"torchvision:mc3_18:{path}")
    video = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(video), network(video))
    assert loaded.class_names is None
    assert loaded.preprocessing.crop == (112, 112)
    with pytest.raises(InputError, match="must fit VideoResNet"):
        load(f"torchvision:r2plus1d_18:{path}")


def test_a_checkpoint_with_code_is_refused(tmp_path: Path):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {"a": Path("x")}}, path)
    with pytest.raises(InputError, match="must be a PyTorch checkpoint of plain tensors"):
        load(f"torchvision:r3d_18:{path}")
    path.write_bytes(b"junk")
    with pytest.raises(InputError, match="must be a PyTorch checkpoint of plain tensors"):
        load(f"torchvision:r3d_18:{path}")


def test_a_function_may_return_a_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_classifier.py").write_text(
        "import torch\nfrom aosa_fast.models import Classifier, Preprocessing\n"
        "def make():\n"
        "    return Classifier(torch.nn.Identity(), Preprocessing(8, 2, 32, (32, 32), (0,)*3, (1,)*3), ('a',))\n"
    )
    monkeypatch.chdir(tmp_path)
    made = load("python:own_classifier:make")
    assert isinstance(made, Classifier)
    assert made.class_names == ("a",)


def test_area_averaging_when_smaller():
    frames = np.zeros((1, 256, 256, 3), np.uint8)
    frames[0, ::2] = 200
    p = preprocessing(size=64, crop=(64, 64))
    expected = cv2.resize(frames[0], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.array_equal(p.crop_frames(frames)[0], expected)
