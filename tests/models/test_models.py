from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.video import mvit

from aosa_fast.demo import demo_clip_path, demo_truth, to_input
from aosa_fast.errors import InputError
from aosa_fast.models import Classifier, load, torchvision_models
from aosa_fast.models.anatomy import find_anatomy
from aosa_fast.models.checkpoints import read_state
from aosa_fast.models.classifier import read_class_names
from aosa_fast.video import read_clip
from small_nets import make_preprocessing


def test_input_is_normalised_and_channels_first():
    frames = np.full((4, 48, 56, 3), 51, np.uint8)
    frames[..., 1] = 102
    video = make_preprocessing(crop=(48, 56), mean=(0.5, 0.4, 0.3)).to_input(frames)
    assert video.shape == (1, 3, 4, 48, 56)
    assert video.dtype == torch.float32
    torch.testing.assert_close(video[0, :, 0, 0, 0], torch.tensor([(0.2 - 0.5) / 0.2, 0.0, (0.2 - 0.3) / 0.2]))


def test_demo_preprocessing_is_the_one_it_was_trained_with():
    classifier = load("demo")
    clip = read_clip(demo_clip_path(), 16)
    mine = classifier.preprocessing.to_input(classifier.preprocessing.crop_frames(clip.frames))
    torch.testing.assert_close(mine, to_input(clip.frames), rtol=0, atol=1e-6)
    with torch.no_grad():
        assert classifier.class_names[int(classifier.network(mine).argmax())] == demo_truth()["class_name"]


# Small clips, as (T, H, W).
TORCHVISION = {
    "r3d_18": (3, 24, 32),
    "mc3_18": (4, 32, 24),
    "r2plus1d_18": (3, 32, 24),
    "s3d": (8, 40, 32),
    "mvit_v1_b": (4, 64, 64),
    "mvit_v2_s": (4, 64, 64),
    "swin3d_t": (3, 40, 32),
}


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch):
    """MViT for 4x64x64 and S3D for any size, which both are built for 224x224 pixels."""
    made, pooled = mvit._mvit, torchvision.models.video.S3D.forward

    def small_mvit(**options: Any) -> torch.nn.Module:
        return made(**{**options, "spatial_size": (64, 64), "temporal_size": 4})

    def small_s3d(network: Any, video: torch.Tensor) -> torch.Tensor:
        network.avgpool = torch.nn.AdaptiveAvgPool3d(1)
        return pooled(network, video)

    monkeypatch.setattr(mvit, "_mvit", small_mvit)
    monkeypatch.setattr(torchvision.models.video.S3D, "forward", small_s3d)


@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_family_with_its_own_number_of_classes(name: str, tmp_path: Path):
    torch.manual_seed(1)
    network = torchvision.models.get_model(name, num_classes=7).eval()
    path = tmp_path / "mine.pth"
    # As torchvision's own training script saves, and with the classifier at the head of the list.
    state = dict(reversed(network.state_dict().items()))
    torch.save({"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 3}, path)
    loaded = load(f"torchvision:{name}:{path}")
    path.unlink()
    assert isinstance(loaded.network, torch.nn.Module)
    assert type(loaded.network) is type(network)
    assert not loaded.network.training
    weights = loaded.network.state_dict()
    for key, value in network.state_dict().items():
        assert torch.equal(weights[key], value), key
    assert (loaded.class_names, loaded.anatomy) == (None, find_anatomy(network))
    video = torch.randn(1, 3, *TORCHVISION[name], requires_grad=True)
    logits = loaded.network(video)
    with torch.no_grad():
        assert torch.equal(logits, network(video))
    assert logits.shape == (1, 7)
    (gradient,) = torch.autograd.grad(logits[0, 3], video)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models.video))
def test_torchvision_preprocessing_is_that_of_the_weights(name: str):
    for entry in torchvision.models.get_model_weights(name):
        transform = entry.transforms()
        p = torchvision_models._preprocessing(name, transform)
        # Frames of a shape that the weights' own transform does not distort, smooth, since it does not antialias.
        height, width = (360, 480) if name.endswith("_18") else (360, 360)
        y, x = np.mgrid[:height, :width] / 60
        frames = np.stack([127 + 60 * np.sin(x + c) + 60 * np.cos(y - c + t) for t in range(2) for c in range(3)])
        frames = frames.reshape(2, 3, height, width).transpose(0, 2, 3, 1).round().astype(np.uint8)
        expected = transform(torch.from_numpy(frames.transpose(0, 3, 1, 2)))
        mine = p.to_input(p.crop_frames(frames))[0]
        assert mine.shape == expected.shape
        # Of values from -2 to 2. 112 of 171 columns are half a pixel beside the middle, on one side or the other;
        # a crop that is 3 pixels off gives 0.2, or 0.09.
        assert (mine - expected).abs().max() < (0.1 if name.endswith("_18") else 0.03)
        documented = re.search(r"frame_rate=([\d.]+)`.*`clip_len=(\d+)", entry.meta["_docs"])
        assert documented
        assert p.stride == 30 / float(documented[1])
        assert p.frames == {128: 64}.get(int(documented[2]), int(documented[2]))  # S3D's training, not its test


def test_torchvision_downloaded_weights_have_class_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=f"{tmp_path}.*mc3_18-a90a0ba3.pth; download them from https://download.pyt"):
        load("torchvision:mc3_18")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(torchvision.models.get_model("mc3_18").state_dict(), folder / "mc3_18-a90a0ba3.pth")
    for spec in ("torchvision:mc3_18", "torchvision:mc3_18:KINETICS400_V1"):
        loaded = load(spec)
        assert (loaded.class_names[0], loaded.class_names[-1]) == ("abseiling", "zumba")
    (folder / "mc3_18-a90a0ba3.pth").unlink()
    with pytest.raises(InputError, match="must name a checkpoint file, random, or one of KINETICS400_V1"):
        load("torchvision:mc3_18:KINETICS600")


def test_random_weights_are_the_same_each_time_and_draw_nothing():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = load("torchvision:mc3_18:random").network
    assert torch.equal(torch.rand(3), expected)
    second = load("torchvision:mc3_18:random").network
    assert isinstance(first, torch.nn.Module)
    assert isinstance(second, torch.nn.Module)
    assert torch.equal(first.get_parameter("fc.weight"), second.get_parameter("fc.weight"))


def test_checkpoints_that_do_not_fit(tmp_path: Path):
    path = tmp_path / "mine.pth"
    state = torchvision.models.get_model("mc3_18", num_classes=7).state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    assert load(f"torchvision:mc3_18:{path}").preprocessing.crop == (112, 112)
    with pytest.raises(InputError, match=r"must fit VideoResNet; .*Missing key"):
        load(f"torchvision:r2plus1d_18:{path}")
    with pytest.raises(InputError, match=r"must fit SwinTransformer3d; it has no head.weight"):
        load(f"torchvision:swin3d_t:{path}")
    torch.save({"epoch": 3}, path)
    with pytest.raises(InputError, match="must hold a state dict of tensors; got dict"):
        load(f"torchvision:mc3_18:{path}")
    torch.save([torch.zeros(2)], path)
    with pytest.raises(InputError, match="must hold a state dict of tensors; got list"):
        load(f"torchvision:mc3_18:{path}")
    with pytest.raises(InputError, match="must be readable; got No such file"):
        read_state(str(tmp_path / "none.pth"))


class Evil:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_code_is_refused(zipped: bool, tmp_path: Path):
    path = tmp_path / "evil.pth"
    content = {"state_dict": {"a": torch.zeros(1)}, "extra": Evil(tmp_path / "done")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError,
        match=r"must be a PyTorch checkpoint of plain tensors; got Unsupported global: GLOBAL (builtins\.)?getattr$",
    ):
        load(f"torchvision:r3d_18:{path}")
    assert not (tmp_path / "done").exists()
    torch.load(path, weights_only=False)  # the file does what it was made for
    assert (tmp_path / "done").exists()


def test_class_names_from_files(tmp_path: Path):
    def names(name: str, text: str) -> tuple[str, ...]:
        path = tmp_path / name
        path.write_text(text)
        return read_class_names(str(path), 3)

    expected = ("10 metres", "b c", "d")
    assert names("a.txt", "10 metres\nb c\r\nd\n\n") == expected
    assert names("classInd.txt", "1 10 metres\n2 b c\n3 d\n") == expected
    assert names("races.txt", "10 metres\n20 metres\n30 metres\n") == ("10 metres", "20 metres", "30 metres")
    assert names("a.json", '["10 metres", "b c", "d"]') == expected
    assert names("index.json", '{"d": 2, "\\"b c\\"": 1, "10 metres": 0}') == expected
    assert names("annotation.json", '{"labels": ["10 metres", "b c", "d"], "database": {}}') == expected
    assert names("id2label.json", '{"2": "d", "0": "10 metres", "1": "b c"}') == expected
    with pytest.raises(InputError, match=r"a.json: class_names must have every index from 0 to 2 once; got 0, 2, 3$"):
        names("a.json", '{"a": 0, "b": 2, "c": 3}')
    for text in ("[1, 2, 3]", "3", '["a", "b", ""]', "null"):
        with pytest.raises(
            InputError, match="must name the 3 classes of the network, one per line or in JSON; got none"
        ):
            names("a.json", text)
    with pytest.raises(InputError, match="must name the 3 classes of the network, one per line or in JSON; got 2"):
        names("a.txt", "a\nb")
    for bad in ("{", "\udcff"):
        (tmp_path / "b.json").write_bytes(bad.encode(errors="surrogateescape"))
        with pytest.raises(InputError, match="must be a readable file of class names"):
            read_class_names(str(tmp_path / "b.json"), 3)
    with pytest.raises(InputError, match="must be readable; got No such file"):
        read_class_names(str(tmp_path / "none.txt"), 3)


def test_torchvision_names_file(tmp_path: Path):
    path, names = tmp_path / "mine.pth", tmp_path / "names.txt"
    torch.save(torchvision.models.get_model("mc3_18", num_classes=2).state_dict(), path)
    names.write_text("walk\nrun\n")
    assert load(f"torchvision:mc3_18:{path}:{names}").class_names == ("walk", "run")


@pytest.mark.parametrize(
    "spec", ["demonstration", "torchvision:", "nothing:r3d_18", "hf:", "resnet3d:", "pytorchvideo:"]
)
def test_an_unknown_spec_lists_all(spec: str):
    rule = (
        "model must be one of demo, demo-attention, demo-r2plus1d, demo-scene:KIND, demo-planted:SEED, torchvision:NAME"
    )
    with pytest.raises(InputError, match=f"{rule}.*; got {spec}"):
        load(spec)


@pytest.mark.parametrize(
    ("module", "spec", "library"),
    [
        ("torchvision.models", "torchvision:r3d_18", "torchvision"),
        ("pytorchvideo.models", "pytorchvideo:x3d_s", "pytorchvideo"),
        ("transformers", "hf:me/tiny", "transformers"),
    ],
)
def test_a_missing_library_is_named(module: str, spec: str, library: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"must have {library}; it is missing: pip install .aosa-fast\\[models\\]."):
        load(spec)


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
    assert made.anatomy is None
