from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.inference.call import call_model, evaluating
from aosa_fast.models import Classifier, load
from aosa_fast.models.classifier import KINETICS
from aosa_fast.models.exported import ExportedNetwork

SHAPE = (3, 4, 10, 12)  # channels, frames, height, width


class Small(nn.Module):
    """Five classes, with what differs between training and evaluation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm3d(6)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3, 4))))
        return logits


class WithLogits(Small):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(x)}


class Two(Small):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x) + super().forward(y)


def export(path: Path, network: nn.Module, *inputs: Tensor, **options: Any) -> str:
    torch.export.save(torch.export.export(network, inputs, **options), path)
    return str(path)


def script(path: Path, how: str) -> str:
    network = Small().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, which is the user's to know
        saved = torch.jit.script(network) if how == "scripted" else torch.jit.trace(network, torch.randn(1, *SHAPE))
        torch.jit.save(torch.jit.freeze(saved) if how == "frozen" else saved, path)
    return str(path)


def check(classifier: Classifier, batch: int):
    """Logits and gradient are the original's, clip by clip."""
    network, original = classifier.network, Small().eval()
    assert isinstance(network, nn.Module)
    video = torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(batch))
    mine, theirs = video.clone().requires_grad_(), video.clone().requires_grad_()
    with evaluating(network):
        logits = call_model(network, mine)
    expected = original(theirs)
    torch.testing.assert_close(logits, expected)
    weights = torch.randn(batch, 5)
    (gradient,) = torch.autograd.grad((logits * weights).sum(), mine)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), theirs)
    torch.testing.assert_close(gradient, wanted)
    assert gradient.flatten(1).abs().amax(dim=1).min() > 0
    with torch.inference_mode():
        torch.testing.assert_close(call_model(network, video), expected)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_program_for_a_fixed_batch_takes_any(batch: int, tmp_path: Path):
    path = export(tmp_path / "model.pt2", Small().eval(), torch.randn(batch, *SHAPE))
    loaded = load(path)
    assert isinstance(loaded.network, ExportedNetwork)
    assert loaded.network.batch == (batch, batch)
    for clips in (1, 2, 3, 4, 7):
        check(loaded, clips)
    p = loaded.preprocessing
    assert (p.frames, p.size, p.crop) == (4, 12, (10, 12))
    assert (p.stride, p.mean, p.std) == (KINETICS.stride, KINETICS.mean, KINETICS.std)
    assert loaded.class_names is None
    assert loaded.anatomy is None
    with pytest.raises(
        InputError, match=r"video must be \(B, 3, 4, 10, 12\), which .* exported for; got \(1, 3, 8, 10, 12\)"
    ):
        loaded.network(torch.zeros(1, 3, 8, 10, 12))


def test_fewer_and_more_clips_than_a_program_takes(tmp_path: Path):
    sizes = {0: torch.export.Dim("batch", min=2, max=4), 3: torch.export.Dim.DYNAMIC, 4: torch.export.Dim.DYNAMIC}
    path = export(tmp_path / "model.pt2", Small().eval(), torch.randn(3, *SHAPE), dynamic_shapes={"x": sizes})
    loaded = load(path)
    assert isinstance(loaded.network, ExportedNetwork)
    assert loaded.network.batch == (2, 4)
    seen: list[int] = []
    loaded.network.program.register_forward_pre_hook(lambda *call: seen.append(len(call[1][0])))
    for clips in (1, 2, 5):
        check(loaded, clips)
    assert seen == [2, 2, 2, 2, 4, 2, 4, 2]
    p = loaded.preprocessing  # any size goes in: the default's
    assert (p.frames, p.size, p.crop) == (4, KINETICS.size, KINETICS.crop)
    assert loaded.network(torch.zeros(1, 3, 4, 6, 6)).shape == (1, 5)


def test_a_program_for_any_batch_gets_it_whole(tmp_path: Path):
    sizes = {0: torch.export.Dim.DYNAMIC}
    path = export(tmp_path / "model.pt2", WithLogits().eval(), torch.randn(3, *SHAPE), dynamic_shapes={"x": sizes})
    loaded = load(path)
    assert isinstance(loaded.network, ExportedNetwork)
    assert loaded.network.batch[1] is None
    seen: list[int] = []
    loaded.network.program.register_forward_pre_hook(lambda *call: seen.append(len(call[1][0])))
    check(loaded, 9)
    assert seen == [9, 9]


@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
@pytest.mark.parametrize("suffix", ["pt", "pth", "ts", "PT"])
def test_torchscript(how: str, suffix: str, tmp_path: Path):
    loaded = load(script(tmp_path / f"model.{suffix}", how))
    assert loaded.preprocessing == KINETICS
    for clips in (1, 1, 3, 2):  # TorchScript optimises after some calls
        check(loaded, clips)


def test_json_beside_the_file(tmp_path: Path):
    path = script(tmp_path / "model.pt", "traced")
    described = {
        "frames": 8,
        "stride": 3,
        "size": 40,
        "crop": [32, 36],
        "mean": [0.5, 0.4, 0],
        "std": [1, 0.5, 0.25],
        "class_names": ["a", "b"],
    }
    beside = tmp_path / "model.json"
    beside.write_text(json.dumps(described))
    loaded = load(path)
    p = loaded.preprocessing
    assert (p.frames, p.stride, p.size, p.crop) == (8, 3, 40, (32, 36))
    assert (p.mean, p.std, loaded.class_names) == ((0.5, 0.4, 0), (1, 0.5, 0.25), ("a", "b"))
    beside.write_text(json.dumps({"crop": [32, 64], "resize": "letterbox", "class_names": {"b": 1, "a": 0}}))
    loaded = load(path)
    assert (loaded.preprocessing.crop, loaded.preprocessing.resize) == ((32, 64), "letterbox")
    assert loaded.class_names == ("a", "b")
    for content, size, crop in [
        ({"size": 40}, 40, (40, 40)),
        ({"crop": [32, 36]}, 36, (32, 36)),
        ({}, KINETICS.size, KINETICS.crop),
    ]:
        beside.write_text(json.dumps(content))
        assert (load(path).preprocessing.size, load(path).preprocessing.crop) == (size, crop)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be readable JSON"),
        ("[1]", "must hold an object with any of frames, .*; got list"),
        ('{"clip": 3}', "must hold an object with any of frames, .*; got clip"),
        ('{"frames": "8"}', "frames must be a whole number; got 8"),
        ('{"frames": true}', "frames must be a whole number; got True"),
        ('{"size": [8, 8]}', r"size must be a whole number; got \[8, 8\]"),
        ('{"crop": 8}', "crop must be a list of 2 numbers; got 8"),
        ('{"mean": [1, 2]}', r"mean must be a list of 3 numbers; got \[1, 2\]"),
        ('{"std": null}', "std must be a list of 3 numbers; got None"),
        ('{"class_names": ["a", 3]}', "class_names must be text; got 3"),
        ('{"size": 8, "crop": [9, 8]}', "crop must be at most size=8"),
        ('{"resize": "stretch"}', "resize must be one of short, exact, letterbox; got stretch"),
        ('{"resize": 3}', "resize must be one of short, exact, letterbox; got 3"),
        (
            '{"mean": [123.7, 116.3, 103.5]}',
            r"mean must be of pixels in \[0, 1\], so at most 1: divide mean and std by",
        ),
        ('{"class_names": {"0": "a", "2": "b"}}', "class_names must have every index from 0 to 1 once; got 0, 2"),
        ('{"frames": 0}', "frames, stride, size and crop must be at least 1"),
    ],
)
def test_json_that_says_something_else(content: str, message: str, tmp_path: Path):
    path = script(tmp_path / "model.pt", "traced")
    Path(f"{path}.json").write_text(content)
    with pytest.raises(InputError, match=rf"model.pt.json: {message}"):
        load(path)


def test_the_json_of_the_whole_file_name_goes_before_that_of_the_name(tmp_path: Path):
    path = script(tmp_path / "model.pt", "traced")
    (tmp_path / "model.json").write_text('{"frames": 8}')
    Path(f"{path}.json").write_text('{"frames": 9}')
    assert load(path).preprocessing.frames == 9
    Path(f"{path}.json").unlink()
    assert load(path).preprocessing.frames == 8
    (tmp_path / "model.json").write_text('{"frames": "8"}')
    with pytest.raises(InputError, match=r"model.json: frames must be a whole number; got 8"):
        load(path)


def test_programs_that_cannot_be_explained(tmp_path: Path):
    path = tmp_path / "model.pt2"
    with pytest.raises(InputError, match=r"model.pt2: must be readable; got No such file"):
        load(str(path))
    with pytest.raises(
        InputError, match=r"must be exported in evaluation mode, after network.eval\(\); aten.batch_norm"
    ):
        load(export(path, Small().train(), torch.randn(2, *SHAPE)))
    network = Small().train()
    network.norm.eval()
    with pytest.raises(InputError, match=r"must be exported in evaluation mode, after network.eval\(\); aten.dropout"):
        load(export(path, network, torch.randn(2, *SHAPE)))
    with pytest.raises(InputError, match=r"must take one tensor \(B, 3, T, H, W\); its input is \(2, 3, .*\), \(2, 3"):
        load(export(path, Two().eval(), torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(27, 3)).eval()
    with pytest.raises(InputError, match=r"must take one tensor \(B, 3, T, H, W\); its input is \(2, 3, 9\)"):
        load(export(path, flat, torch.randn(2, 3, 9)))


def test_weights_alone_are_no_program(tmp_path: Path):
    path = tmp_path / "weights.pth"
    for zipped in (True, False):
        torch.save(Small().state_dict(), path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            InputError, match=r"weights.pth: must be a program .*; weights alone go to torchvision:, pyt"
        ):
            load(str(path))
