"""Gradients with the scale of normalisation layers taken as constant: `backward="libra"`."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from aosa_fast import InputError, explain
from small_nets import hooks

C, T, H, W = 3, 2, 4, 6


class OwnRMSNorm(nn.Module):
    """As large language models have it: its weight is kept less 1, and its epsilon has another name."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.zeros(size)), 1e-5

    def forward(self, tokens: Tensor) -> Tensor:
        scale = (tokens.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
        return tokens * scale * (1 + self.weight)


class OddLayerNorm(nn.LayerNorm):
    """Not what its name says."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens).square()


class Net(nn.Module):
    """Every voxel's channels are a token, which is normalised; class 0 weighs them with `weights`."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.norm = norm
        if getattr(norm, "weight", None) is not None:
            norm.weight.data = torch.rand(C, generator=generator) + 0.5
        self.weights = nn.Parameter(torch.randn(T, H, W, C, generator=generator))

    def forward(self, video: Tensor) -> Tensor:
        score = (self.norm(video.movedim(1, -1)) * self.weights).sum((1, 2, 3, 4))
        return torch.stack([score, torch.zeros_like(score)], 1)


def make_video() -> Tensor:
    return torch.randn(2, C, T, H, W, generator=torch.Generator().manual_seed(0)) + 0.5


def saliency(net, **options) -> Tensor:
    return explain(net, make_video(), 0, method="input-x-gradient", score="logit", **options).saliency


NORMS = {
    "layer": lambda: nn.LayerNorm(C),
    "layer without weights": lambda: nn.LayerNorm(C, elementwise_affine=False),
    "rms": lambda: nn.RMSNorm(C),
    "own rms": lambda: OwnRMSNorm(C),
}


@pytest.mark.parametrize("kind", NORMS)
def test_the_scale_of_a_norm_is_constant(kind):
    """Then the norm is linear in its input, and input x gradient is the input's own part of each token's output."""
    net, tokens = Net(NORMS[kind]()), make_video().movedim(1, -1)
    with torch.no_grad():
        inner = tokens - tokens.mean(-1, keepdim=True) if "layer" in kind else tokens
        factor = 1 if net.norm.weight is None else net.norm.weight + (kind == "own rms")
        spread = (inner.square().mean(-1, keepdim=True) + (0 if kind == "rms" else 1e-5)).sqrt()
        expected = (inner / spread * factor * net.weights).sum(-1)
    torch.testing.assert_close(saliency(net, backward="libra"), expected, rtol=1e-3, atol=1e-3)
    exact = saliency(net)
    assert (exact - expected).abs().max() > 0.1 * expected.abs().max()
    assert torch.equal(saliency(net), exact)
    assert hooks(net) == 0


def test_logits_are_the_same_and_what_has_no_such_layer_keeps_its_gradient():
    net = Net(nn.LayerNorm(C))
    found = [explain(net, make_video(), 0, method="gradient", backward=way) for way in ("exact", "libra")]
    assert torch.equal(found[0].logits, found[1].logits)
    for other in (Net(OddLayerNorm(C)), Net(nn.Identity())):
        assert torch.equal(saliency(other, backward="libra"), saliency(other))


@pytest.mark.parametrize("method", ["aosa-approx", "aosa-path", "integrated-gradients", "smoothgrad", "gradient"])
def test_every_method_of_gradients_has_it(method):
    net, options = Net(nn.LayerNorm(C)), {"flow": torch.zeros(2, T - 1, H, W, 2), "stride": 2, "box": 2, "steps": 2}
    options["score"] = "logit"
    exact, libra = (explain(net, make_video(), 0, method=method, backward=b, **options) for b in ("exact", "libra"))
    assert not torch.allclose(exact.saliency, libra.saliency, rtol=0.05)


def test_compiled_models_and_other_threads():
    net, video, seen = Net(nn.LayerNorm(C)), make_video().requires_grad_(), []
    expected = saliency(net, backward="libra")
    exact = torch.autograd.grad(net(video)[:, 0].sum(), video)[0]

    def meanwhile(*_: object) -> None:
        handle.remove()
        thread = threading.Thread(target=lambda: seen.append(torch.autograd.grad(net(video)[:, 0].sum(), video)[0]))
        thread.start()
        thread.join()

    handle = net.norm.register_forward_pre_hook(meanwhile)
    assert torch.equal(saliency(torch.compile(net, backend="eager"), backward="libra"), expected)
    assert torch.equal(seen[0], exact)


def test_functions_are_refused():
    net = Net(nn.LayerNorm(C))
    with pytest.raises(
        InputError, match=r"^backward must be exact for a model that is no torch.nn.Module; got function"
    ):
        saliency(lambda video: net(video), backward="libra")
