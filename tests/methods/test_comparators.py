"""Comparators through `explain`: one interface, whatever the method. Each method's own tests are in its own file."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from aosa_fast import Difference, Explanation, InputError, explain
from aosa_fast.config import Config
from aosa_fast.methods.osa import cuboids
from aosa_fast.methods.registry import METHODS

VOXELWISE = [m.name for m in METHODS.values() if not m.occluders and m.name not in ("attention-rollout", "legrad")]


class Net(nn.Module):
    """A small network with a layer for Grad-CAM, and a class for it to tell from others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.body = nn.Sequential(nn.Conv3d(3, 6, 3, stride=(1, 2, 2), padding=1), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(video).mean((2, 3, 4)) * 9)


@pytest.fixture
def video() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 9, 21, 28, generator=generator)


def options(method: str) -> dict[str, object]:
    few = {"step": 6, "integrated-gradients": 5, "expected-gradients": 5}
    return {"method": method, "layer": "body", "steps": few.get(method), "noise_samples": 3}


@pytest.mark.parametrize("config", [{}, {"stride": 5, "cuboid_step": 3, "cuboid_frames": 3, "cuboid_area": 0.1}])
@pytest.mark.parametrize("clip", [0, 1])
def test_osa_is_a_cuboid_at_a_time(video, config, clip):
    net = Net().eval()
    whole = Config(method="osa", **config)
    found = explain(net, video[clip : clip + 1], 2, config=whole)
    T, H, W = video.shape[2:]
    side, length = round(math.sqrt(whole.cuboid_area * H * W)), whole.cuboid_frames or T // 2
    step = whole.cuboid_step, whole.stride, whole.stride
    centres = list(itertools.product(*(range(s // 2, end, s) for s, end in zip(step, (T, H, W), strict=True))))
    total = torch.zeros(T, H, W, dtype=torch.float64)
    with torch.no_grad():
        base = net(video[clip : clip + 1]).softmax(1)[0, 2]
        for centre in centres:
            sizes = (length, side, side)
            low = [max(0, c - size // 2) for c, size in zip(centre, sizes, strict=True)]
            high = [c - size // 2 + size for c, size in zip(centre, sizes, strict=True)]
            window = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
            hidden = video[clip].clone()
            hidden[(slice(None), *window)] = 0
            total[window] += (base - net(hidden[None]).softmax(1)[0, 2]).double()
    assert found.scores.shape == (1, len(centres))
    assert total.abs().max() > 1e-3
    torch.testing.assert_close(found.saliency[0].double(), total / len(centres), rtol=1e-4, atol=1e-8)
    assert found.metadata["config"]["flow"] == "none"


def test_osa_has_the_papers_number_of_cuboids():
    tubes = cuboids(torch.zeros(1, 3, 16, 112, 112), Config(method="osa"))
    assert tubes.boxes.shape == (1, 1568, 16, 4)
    inner = tubes.boxes[0, 14 * 14 * 4 + 14 * 7 + 7]
    assert inner.any(1).sum() == 8
    assert inner[inner.any(1)].unique(dim=0).tolist() == [[52, 52, 68, 68]]


def test_osa_answers_for_any_class_from_one_sweep(video):
    found = explain(Net(), video, 2, method="osa", cuboid_step=4)
    again = explain(Net(), video, Difference(1, 3), method="osa", cuboid_step=4)
    torch.testing.assert_close(found.for_target(Difference(1, 3)).saliency, again.saliency)


@pytest.mark.parametrize(("name", "value"), [("cuboid_step", 18), ("stride", 42)])
def test_osa_refuses_steps_beyond_the_clip(video, name, value):
    with pytest.raises(InputError, match=rf"^{name} must be at most \d+ for clips of 9x21x28; got {value}$"):
        explain(Net(), video, 0, **{"method": "osa", name: value})


@pytest.mark.parametrize("method", VOXELWISE)
def test_voxelwise_methods_have_a_map_and_no_tubes(video, method, tmp_path):
    net, before = Net(), video.clone()
    flags = {name: module.training for name, module in net.named_modules()}
    found = explain(net, video, torch.tensor([1, 3]), **options(method))
    assert found.saliency.shape == (2, 9, 21, 28)
    assert found.saliency.dtype == torch.float32
    assert found.saliency.isfinite().all()
    assert found.saliency.std((1, 2, 3)).min() > 0
    assert found.scores.shape == (2, 0)
    assert (found.coverage == 1).all()
    assert found.target.index.tolist() == [1, 3]
    assert torch.equal(video, before)
    assert {name: module.training for name, module in net.named_modules()} == flags
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    found.save(tmp_path / "e.npz")
    loaded = Explanation.load(tmp_path / "e.npz")
    assert torch.equal(loaded.saliency, found.saliency)
    assert loaded.config.as_dict() == found.config.as_dict()
    found.save_overlay(tmp_path / "e.png")
    assert (tmp_path / "e.png").stat().st_size > 1000


@pytest.mark.parametrize("method", [m for m in VOXELWISE if not METHODS[m].whole_batch])
def test_a_clip_alone_and_in_a_batch(video, method):
    both = explain(Net(), video, 1, **options(method)).saliency
    alone = torch.cat([explain(Net(), clip[None], 1, **options(method)).saliency for clip in video])
    torch.testing.assert_close(both, alone, rtol=1e-3, atol=1e-5 * float(both.abs().max()))


@pytest.mark.parametrize("method", [m for m in VOXELWISE if m not in ("step", "random", "centre", "motion")])
def test_several_targets_are_the_single_ones(video, method):
    first, second = explain(Net(), video, [1, 2], **options(method))
    for one, target in ((first, 1), (second, 2)):
        torch.testing.assert_close(one.saliency, explain(Net(), video, target, **options(method)).saliency)
    assert not torch.equal(first.saliency, second.saliency)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_its_unit(method):
    text = Config(method=method).unit
    assert text
    assert "{" not in text
    if METHODS[method].occluders and METHODS[method].knows_model:
        assert text == "drop of the probability"
        assert Config(method=method, score="margin").unit == "drop of the margin"
