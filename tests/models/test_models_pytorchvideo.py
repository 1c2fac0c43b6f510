from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.models import load
from aosa_fast.models.pytorchvideo_models import SAMPLING, PackedPathways

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore calls torch.jit.script as it is imported
    hub = pytest.importorskip("pytorchvideo.models.hub")


def pool_everything(network: nn.Module) -> nn.Module:
    """Pools over all of the clip, as the fixed windows do at the size of training, so that small clips go through."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool3d):
                setattr(module, name, nn.AdaptiveAvgPool3d(1))
    return network


def wake(network: nn.Module) -> nn.Module:
    """Weights as after some training: those of the last normalisation in a block start at 0, which hides the block."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            for values, middle in ((module.weight, 0.7), (module.running_var, 1.0)):
                nn.init.uniform_(values, middle - 0.3, middle + 0.3)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


def slow_and_fast(video: Tensor) -> list[Tensor]:
    """8 frames: of torch.linspace(0, 7, 2), the first and the last."""
    return [video[:, :, [0, 7]], video]


@pytest.mark.parametrize("name", SAMPLING)
def test_family_gives_the_logits_of_its_own_network(name: str, tmp_path: Path):
    torch.manual_seed(1)
    original = wake(getattr(hub, name)(model_num_class=6))
    path = tmp_path / "X.pyth"
    torch.save({"epoch": 5, "model_state": original.state_dict(), "optimizer_state": {}, "cfg": "A: 1"}, path)
    loaded = load(f"pytorchvideo:{name}:{path}")
    path.unlink()
    network = loaded.network
    assert isinstance(network, nn.Module)
    assert not network.training
    assert loaded.class_names is None
    assert loaded.anatomy is not None
    inner = network.network if isinstance(network, PackedPathways) else network
    assert isinstance(inner, nn.Module)
    state = inner.state_dict()
    for key, value in original.state_dict().items():
        assert torch.equal(state[key], value), key

    pool_everything(original)
    pool_everything(network)
    video = torch.randn(1, 3, 8, 32, 40, requires_grad=True)
    logits = network(video)
    with torch.no_grad():
        expected = original(slow_and_fast(video) if name.startswith("slowfast") else video)
    assert logits.shape == (1, 6)
    if name.startswith(("x3d", "r2plus1d")):  # their own end in softmax
        torch.testing.assert_close(expected.sum(), torch.tensor(1.0))
        torch.testing.assert_close(logits.log_softmax(dim=1), expected.log(), rtol=1e-4, atol=1e-4)
    else:
        assert torch.equal(logits, expected)
    (gradient,) = torch.autograd.grad(logits[0, 3], video)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().amax(dim=(0, 1, 3, 4)).min() > 0  # every frame counts


def test_sizes_as_documented_go_through():
    """X3D-XS on the 4x182x182 of its example: four windows of the pool, averaged; and 30 frames a second."""
    loaded = load("pytorchvideo:x3d_xs:random")
    p = loaded.preprocessing
    assert (p.frames, p.stride, p.size, p.crop) == (4, 12, 182, (182, 182))
    with torch.no_grad():
        logits = loaded.network(torch.randn(1, 3, p.frames, *p.crop))
    assert logits.shape == (1, 400)
    assert logits.min() < 0


class Pathways(nn.Module):
    """Keeps what it is given, and adds it up."""

    seen: list[Tensor]

    def forward(self, pathways: list[Tensor]) -> Tensor:
        self.seen = pathways
        slow, fast = pathways
        return torch.stack([slow.sum(dim=(1, 2, 3, 4)), fast.sum(dim=(1, 2, 3, 4))], dim=1)


def test_a_clip_is_occluded_once_and_then_packed():
    network = PackedPathways(Pathways())
    frames = [0, 4, 8, 13, 17, 22, 26, 31]  # of 32: torch.linspace(0, 31, 8), cut to whole numbers, by hand
    video = torch.arange(1, 2 * 3 * 32 * 2 * 5 + 1, dtype=torch.float32).reshape(2, 3, 32, 2, 5)
    for t in range(32):
        occluded = video.clone()
        occluded[:, :, t, 1, 2:4] = 0
        network(occluded)
        slow, fast = network.network.seen
        assert torch.equal(fast, occluded)
        assert torch.equal(slow, occluded[:, :, frames])
        assert int((slow == 0).sum()) == (2 * 3 * 2 if t in frames else 0)

    leaf = video.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((network(leaf) * torch.tensor([10.0, 1.0])).sum(), leaf)
    expected = torch.ones_like(video)
    expected[:, :, frames] = 11
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("frames", [0, 3, 30])
def test_pathways_want_a_multiple_of_4_frames(frames: int):
    with pytest.raises(InputError, match=f"video must have a multiple of 4 frames for SlowFast; got {frames}"):
        PackedPathways(Pathways())(torch.zeros(1, 3, frames, 4, 4))


def test_weights_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"
    for name, file in {"slowfast_r50": "SLOWFAST_8x8_R50.pyth", "r2plus1d_r50": "R2PLUS1D_16x4_R50.pyth"}.items():
        with pytest.raises(InputError, match=f"must have its weights at {tmp_path}/.*/{file}; download .* {url}{file}"):
            load(f"pytorchvideo:{name}")
    folder, names = tmp_path / "hub" / "checkpoints", tmp_path / "kinetics_classnames.json"
    folder.mkdir(parents=True)
    torch.save({"model_state": hub.x3d_xs().state_dict()}, folder / "X3D_XS.pyth")
    assert load("pytorchvideo:x3d_xs").class_names is None
    names.write_text("{" + ", ".join(f'"\\"class {i}\\"": {i}' for i in reversed(range(400))) + "}")
    loaded = load(f"pytorchvideo:x3d_xs::{names}")
    assert loaded.class_names == tuple(f"class {i}" for i in range(400))


def test_what_does_not_fit(tmp_path: Path):
    with pytest.raises(InputError, match=r"must name one of slow_r50, .*x3d_m; got x3d_xxl"):
        load("pytorchvideo:x3d_xxl")
    with pytest.raises(InputError, match=r"must name a checkpoint file or random; got none.pyth"):
        load("pytorchvideo:x3d_s:none.pyth")
    path = tmp_path / "X.pyth"
    torch.save({"model_state": hub.x3d_xs(model_num_class=3).state_dict()}, path)
    with pytest.raises(InputError, match=r"X.pyth: must fit Net; "):
        load(f"pytorchvideo:slow_r50:{path}")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"X.pyth: must be a PyTorch checkpoint of plain tensors; "):
        load(f"pytorchvideo:x3d_xs:{path}")
