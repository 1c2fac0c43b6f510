from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.models import load
from aosa_fast.models.resnet3d import PREPROCESSING, ResNet3D

# Every convolution of the checkpoints: name, shape. Written by hand from the layout of the 3D-ResNets tools.
# layer{a,b} stands for both; R(2+1)D has 64*64*27 // (64*9 + 64*3) = 144 channels in the middle, and so on.
R3D50 = """
conv1 64 3 7 7 7
layer1.0.conv1 64 64 1 1 1
layer1.{1,2}.conv1 64 256 1 1 1
layer1.{0,1,2}.conv2 64 64 3 3 3
layer1.{0,1,2}.conv3 256 64 1 1 1
layer1.0.downsample.0 256 64 1 1 1
layer2.0.conv1 128 256 1 1 1
layer2.{1,2,3}.conv1 128 512 1 1 1
layer2.{0,1,2,3}.conv2 128 128 3 3 3
layer2.{0,1,2,3}.conv3 512 128 1 1 1
layer2.0.downsample.0 512 256 1 1 1
layer3.0.conv1 256 512 1 1 1
layer3.{1,2,3,4,5}.conv1 256 1024 1 1 1
layer3.{0,1,2,3,4,5}.conv2 256 256 3 3 3
layer3.{0,1,2,3,4,5}.conv3 1024 256 1 1 1
layer3.0.downsample.0 1024 512 1 1 1
layer4.0.conv1 512 1024 1 1 1
layer4.{1,2}.conv1 512 2048 1 1 1
layer4.{0,1,2}.conv2 512 512 3 3 3
layer4.{0,1,2}.conv3 2048 512 1 1 1
layer4.0.downsample.0 2048 1024 1 1 1
"""
# In R(2+1)D the convolutions that look at more than one pixel are pairs, with these channels between the two.
MIDDLE = {"conv1": 110, "layer1": 144, "layer2": 288, "layer3": 576, "layer4": 1152}


def factorised(line: str) -> str:
    name, outputs, inputs, *sides = line.split()
    if sides == ["1", "1", "1"]:
        return line
    middle, side = MIDDLE[name.partition(".")[0]], sides[0]
    return f"{name}_s {middle} {inputs} 1 {side} {side}\n{name}_t {outputs} {middle} {side} 1 1"


TABLES = {"r3d50": R3D50, "r2plus1d50": "\n".join(factorised(line) if line else "" for line in R3D50.split("\n"))}


def layout(table: str, n_classes: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (n_classes, 2048), "fc.bias": (n_classes,)}
    for line in table.split("\n")[1:-1]:
        pattern, *sides = line.split()
        before, _, rest = pattern.partition("{")
        choices, _, after = rest.partition("}")
        for choice in choices.split(","):
            name = before + choice + after
            norm = name.replace("downsample.0", "downsample.1").replace("conv", "bn")
            shapes[f"{name}.weight"] = tuple(map(int, sides))
            for entry in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{norm}.{entry}"] = (int(sides[0]),)
            shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes


def random_state(table: str, n_classes: int) -> dict[str, Tensor]:
    """Weights from the table alone, such that values stay near 1 through the network."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in layout(table, n_classes).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1234)
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(shape, generator=generator)
        elif len(shape) > 1:
            inputs = torch.Size(shape[1:]).numel()
            state[name] = torch.randn(shape, generator=generator) * (2 / inputs) ** 0.5
        else:
            state[name] = 1 * name.endswith("weight") + 0.1 * torch.randn(shape, generator=generator)
    return state


def save_as_the_tools_do(state: dict[str, Tensor], path: Path):
    head = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    head(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [50, 100, 150])
    content = {
        "epoch": 200,
        "arch": "resnet-50",
        "state_dict": {f"module.{name}": value for name, value in state.items()},
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)  # as PyTorch did then


def reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network from functions alone, as in the papers' tables; pairs of convolutions where the state has them."""

    def convolution(name: str, x: Tensor, stride: int | tuple[int, int, int]) -> Tensor:
        weight = state[f"{name}.weight"]
        norm = name.replace("downsample.0", "downsample.1").replace("conv", "bn")
        entries = (state[f"{norm}.{entry}"] for entry in ("running_mean", "running_var", "weight", "bias"))
        return nn.functional.batch_norm(
            nn.functional.conv3d(x, weight, None, stride, [side // 2 for side in weight.shape[2:]]), *entries
        )

    def layer(name: str, x: Tensor, stride: tuple[int, int]) -> Tensor:
        time, space = stride
        if f"{name}.weight" in state:
            return convolution(name, x, (time, space, space))
        x = nn.functional.relu(convolution(f"{name}_s", x, (1, space, space)))
        return convolution(f"{name}_t", x, (time, 1, 1))

    x = nn.functional.max_pool3d(nn.functional.relu(layer("conv1", x, (1, 2))), 3, 2, 1)
    for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = nn.functional.relu(convolution(f"{name}.conv1", x, 1))
            y = nn.functional.relu(layer(f"{name}.conv2", y, (stride, stride)))
            y = convolution(f"{name}.conv3", y, 1)
            x = nn.functional.relu(y + (convolution(f"{name}.downsample.0", x, stride) if block == 0 else x))
    return nn.functional.linear(x.mean(dim=(2, 3, 4)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("name", TABLES)
def test_checkpoint_of_the_tools(name: str, tmp_path: Path):
    state = random_state(TABLES[name], 5)
    path, names = tmp_path / "save_200.pth", tmp_path / "ucf101_01.json"
    save_as_the_tools_do(state, path)
    names.write_text('{"labels": ["a", "b", "c", "d", "e"], "database": {}}')
    loaded = load(f"resnet3d:{name}:{path}:{names}")
    path.unlink()
    network = loaded.network
    assert isinstance(network, ResNet3D)
    assert not network.training
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == layout(TABLES[name], 5)
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert loaded.class_names == ("a", "b", "c", "d", "e")
    assert loaded.preprocessing == PREPROCESSING
    assert loaded.anatomy.layer == "layer4"

    video = torch.randn(2, 3, 5, 37, 45, requires_grad=True)
    logits = network(video)
    with torch.no_grad():
        expected = reference(state, video)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert logits.shape == (2, 5)
    assert logits.std() > 0.01
    (gradient,) = torch.autograd.grad(logits[0, 3], video)
    assert torch.isfinite(gradient).all()
    assert gradient[0].abs().max() > 0
    assert not gradient[1].any()  # clips do not see each other


def test_stages_are_those_of_torchvision():
    """Its R3D-18 has the same blocks after another stem."""
    torch.manual_seed(0)
    theirs = torchvision.models.get_model("r3d_18").eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    mine = ResNet3D(18, False, 7).eval()
    parts = {"conv1.0": "conv1", "conv1.1": "bn1", "conv2.0": "conv2", "conv2.1": "bn2"}
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        state = theirs.get_submodule(stage).state_dict()
        for old, new in parts.items():
            state = {key.replace(f".{old}.", f".{new}."): value for key, value in state.items()}
        mine.get_submodule(stage).load_state_dict(state)
    x = torch.randn(1, 64, 5, 9, 12)
    y = x
    with torch.no_grad():
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x, y = theirs.get_submodule(stage)(x), mine.get_submodule(stage)(y)
            torch.testing.assert_close(y, x)


# The stem, those of the blocks, and the shortcuts': 2 + 32 + 3, 1 + 32 + 3, 1 + 99 + 4.
@pytest.mark.parametrize(("name", "convolutions"), [("r2plus1d18", 37), ("r3d34", 36), ("r3d101", 104)])
def test_other_depths(name: str, convolutions: int):
    loaded = load(f"resnet3d:{name}:random")
    assert isinstance(loaded.network, ResNet3D)
    found = [module for module in loaded.network.modules() if isinstance(module, torch.nn.Conv3d)]
    assert len(found) == convolutions
    assert loaded.class_names is None
    with torch.no_grad():
        assert torch.isfinite(loaded.network(torch.randn(1, 3, 4, 32, 40))).all()
    if name == "r2plus1d18":  # 64*128*27 // (64*9 + 128*3), and 128*128*27 // (128*9 + 128*3)
        assert loaded.network.get_parameter("layer2.0.conv1_s.weight").shape == (230, 64, 1, 3, 3)
        assert loaded.network.get_parameter("layer2.0.conv2_t.weight").shape == (128, 288, 3, 1, 1)


def test_files_that_do_not_fit(tmp_path: Path):
    path = tmp_path / "save_200.pth"
    with pytest.raises(
        InputError, match=r"must have its weights in a file, r3d50:FILE; the paper's are those of https"
    ):
        load("resnet3d:r3d50")
    with pytest.raises(InputError, match=r"README links to them; got .*/save_200.pth$"):
        load(f"resnet3d:r3d50:{path}")
    with pytest.raises(InputError, match=r"must name one of r3d18, r3d34, r3d50, r3d101, r2plus1d18, .*; got resnet50"):
        load("resnet3d:resnet50:x.pth")
    save_as_the_tools_do(ResNet3D(18, False, 3).state_dict(), path)
    whole = path.read_bytes()
    with pytest.raises(InputError, match=r"must fit ResNet3D; .*Missing key"):
        load(f"resnet3d:r2plus1d18:{path}")
    with pytest.raises(InputError, match=r"must fit ResNet3D; .*"):
        load(f"resnet3d:r3d50:{path}")
    names = tmp_path / "names.txt"
    names.write_text("a\nb\n")
    with pytest.raises(InputError, match=r"names.txt: must name the 3 classes"):
        load(f"resnet3d:r3d18:{path}:{names}")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"save_200.pth: must be a PyTorch checkpoint of plain tensors; "):
        load(f"resnet3d:r3d18:{path}")
