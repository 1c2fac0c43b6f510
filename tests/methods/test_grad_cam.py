from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from tiny_transformers import tiny_clips, tiny_network, tiny_swin
from torch import Tensor, nn

from aosa_fast import Difference, explain
from aosa_fast.config import Config
from aosa_fast.demo.network import load_demo_network, to_input
from aosa_fast.demo.render import render_clip
from aosa_fast.errors import InputError, ModelError
from aosa_fast.inference.precision import precision
from aosa_fast.methods.grad_cam import grad_cam
from aosa_fast.models import Classifier, Preprocessing
from aosa_fast.models.anatomy import Anatomy, find_anatomy
from aosa_fast.models.token_layout import TokenLayout
from aosa_fast.targets import ResolvedTarget
from small_nets import hooks, linear_along, resolver

SHAPE = (2, 3, 6, 12, 20)  # the grid is 3 x 4 x 5


def config(**choices: Any) -> Config:
    return Config(method="grad-cam", **choices)


class Timed(nn.Module):
    """Scores that are linear in the features, and weigh frames differently: gradients can be written down."""

    frame_weights = (1.0, -0.5, 2.0)

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv3d(3, 5, (2, 3, 4), (2, 3, 4))
        self.head = nn.Linear(5, classes)

    def forward(self, video: Tensor) -> Tensor:
        frames = self.features(video).mean((3, 4)) * torch.tensor(self.frame_weights)
        return self.head(frames.sum(2))


@pytest.mark.parametrize("weights", ["frame", "global"])
def test_closed_form_of_a_linear_head(weights: str):
    network, video = Timed(), torch.randn(SHAPE)
    _, _, (saliency,) = grad_cam(network, video, config(layer="features", cam_weights=weights), resolver(1))
    with torch.no_grad():
        activations = network.features(video).numpy()
    frames = np.array(network.frame_weights) / 20
    if weights == "global":
        frames = np.full(3, frames.mean())
    channels = network.head.weight[1].detach().numpy()
    cells = np.maximum(np.einsum("bcthw,c,t->bthw", activations, channels, frames), 0)
    expected = linear_along(linear_along(linear_along(cells, 1, 6), 2, 12), 3, 20)
    assert saliency.shape == (2, 6, 12, 20)
    assert saliency.dtype == torch.float32
    np.testing.assert_allclose(saliency, expected, rtol=1e-4, atol=1e-6)
    assert (saliency > 0).any()


def captum_maps(network: nn.Module, layer: nn.Module, video: Tensor, target: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import LayerAttribution, LayerGradCam

        cam = LayerGradCam(network, layer).attribute(video, target=target, relu_attributions=True)
        return LayerAttribution.interpolate(cam, tuple(video.shape[2:]), "trilinear").squeeze(1)


def demo_clips() -> Tensor:
    return torch.cat([to_input(render_clip(seed, size=64, split="test").frames) for seed in range(2)])


@pytest.mark.parametrize("layer", [None, "features.2", "features.3", "features.7"])
def test_captum_agrees_on_global_weights(layer: str | None):
    network, video = load_demo_network(), demo_clips()
    logits, targets, (saliency,) = grad_cam(network, video, config(layer=layer, cam_weights="global"), resolver("pred"))
    expected = captum_maps(network, network.get_submodule(layer or "features"), video, targets[0].index)
    torch.testing.assert_close(saliency, expected.detach(), rtol=1e-4, atol=1e-7)
    assert (expected.amax((1, 2, 3)) > 1e-5).all()
    with torch.no_grad():
        torch.testing.assert_close(logits, network(video))


def test_weights_per_frame_are_not_the_global_ones():
    network, video = load_demo_network(), demo_clips()
    frame, overall = (
        grad_cam(network, video, config(layer="features.7", cam_weights=weights), resolver("pred"))[2][0]
        for weights in ("frame", "global")
    )
    assert (frame - overall).abs().max() > 0.1 * overall.max()


@pytest.mark.parametrize("weights", ["frame", "global"])
@pytest.mark.parametrize("family", ["timesformer", "timesformer-joint", "videomae", "vivit"])
def test_tokens_are_weighted_and_placed_as_by_hand(family: str, weights: str):
    network, video = tiny_network(family, 3.0), tiny_clips(family)
    anatomy = find_anatomy(network)
    assert anatomy is not None
    seen: list[Tensor] = []
    handle = network.get_submodule(anatomy.layer).register_forward_hook(lambda _m, _i, output: seen.append(output))
    score = network(video)[:, 3].sum()
    handle.remove()
    (grad,) = torch.autograd.grad(score, seen[0])
    values = seen[0].detach()
    patch = (1, 8, 8) if family.startswith("timesformer") else (2, 8, 4)
    T, H, W = (size // side for size, side in zip(video.shape[2:], patch, strict=True))
    first = 0 if family == "videomae" else 1

    def token(of: Tensor, b: int, t: int, y: int, x: int) -> Tensor:
        if family == "timesformer":
            return of[b * T + t, first + y * W + x]
        if family == "timesformer-joint":
            return of[b, first + (y * W + x) * T + t]
        return of[b, first + (t * H + y) * W + x]

    cells = np.zeros((2, T, H, W))
    for b in range(2):
        by_frame = [sum(token(grad, b, t, y, x) for y in range(H) for x in range(W)) / (H * W) for t in range(T)]
        for t in range(T):
            weight = by_frame[t] if weights == "frame" else sum(by_frame) / T
            for y in range(H):
                for x in range(W):
                    cells[b, t, y, x] = max(float(weight @ token(values, b, t, y, x)), 0)
    size = video.shape[2:]
    expected = linear_along(linear_along(linear_along(cells, 1, size[0]), 2, size[1]), 3, size[2])
    _, _, (saliency,) = grad_cam(network, video, config(cam_weights=weights), resolver(3))
    np.testing.assert_allclose(saliency, expected, rtol=1e-3, atol=1e-5 * expected.max())
    assert expected.max() > 0


class InPlace(nn.Module):
    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.relu = nn.ReLU(inplace=in_place)
        self.head = nn.Linear(4, 3)

    def forward(self, video: Tensor) -> Tensor:
        hidden = self.norm(self.conv(video))
        hidden += 0.1  # as a residual connection does
        return self.head((self.relu(hidden) ** 2).mean((2, 3, 4)))


@pytest.mark.parametrize("layer", ["conv", "norm", "relu"])
def test_what_overwrites_the_layers_output_changes_nothing(layer: str):
    video = torch.randn(SHAPE)
    choices = config(layer=layer, cam_weights="global")
    _, _, (saliency,) = grad_cam(InPlace(in_place=True).eval(), video, choices, resolver(2))
    network = InPlace(in_place=False).eval()
    seen: list[Tensor] = []
    network.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.extend([output, output.clone()]))
    (grad,) = torch.autograd.grad(network(video)[:, 2].sum(), seen[0])
    expected = (grad.mean((2, 3, 4), keepdim=True) * seen[1]).sum(1).relu().detach()
    torch.testing.assert_close(saliency, expected)
    assert saliency.max() > 0


@pytest.mark.parametrize("grads", [True, False], ids=["parameters-with-gradients", "frozen"])
def test_the_network_is_left_as_it_was(grads: bool):
    network, video = tiny_network("vivit", 3.0).requires_grad_(grads), tiny_clips("vivit")
    before, clip = {k: v.clone() for k, v in network.state_dict().items()}, video.clone()
    _, _, (saliency,) = grad_cam(network, video, config(), resolver("pred"))
    assert hooks(network) == 0
    assert all(p.grad is None and p.requires_grad is grads for p in network.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert torch.equal(video, clip)
    assert not video.requires_grad
    assert not saliency.requires_grad
    assert torch.is_grad_enabled()


def test_hooks_are_gone_after_a_failure():
    network = Timed()
    with pytest.raises(ModelError, match="it raised RuntimeError: Given groups=1"):
        grad_cam(network, torch.randn(2, 4, 6, 12, 20), config(layer="features"), resolver(1))
    assert hooks(network) == 0

    def fail(logits: Tensor) -> list[ResolvedTarget]:
        raise ValueError("no target")

    with pytest.raises(ValueError, match="no target"):
        grad_cam(network, torch.randn(SHAPE), config(layer="features"), fail)
    assert hooks(network) == 0
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("family", ["timesformer", "vivit"])
def test_a_batch_is_its_clips_and_targets_are_apart(family: str):
    network, video = tiny_network(family, 3.0), tiny_clips(family, clips=3)
    wanted = resolver(0, torch.tensor([4, 1, 2]), Difference(3, 5))
    calls = []

    def once(logits: Tensor) -> list[ResolvedTarget]:
        calls.append(logits)
        return wanted(logits)

    logits, targets, maps = grad_cam(network, video, config(), once)
    assert len(calls) == 1
    assert not calls[0].requires_grad
    assert len(targets) == len(maps) == 3
    for i in range(3):
        alone = resolver(0, torch.tensor([4, 1, 2])[i : i + 1], Difference(3, 5))
        own_logits, _, own = grad_cam(network, video[i : i + 1], config(), alone)
        torch.testing.assert_close(own_logits[0], logits[i], rtol=1e-4, atol=1e-6)
        for mine, all_clips in zip(own, maps, strict=True):
            torch.testing.assert_close(mine[0], all_clips[i], rtol=1e-3, atol=1e-6)
    assert (maps[0] - maps[2]).abs().max() > 1e-4


def test_the_score_is_the_logit_unless_asked_otherwise():
    network, video = Timed(), torch.randn(SHAPE)
    plain, logit, prob = (
        grad_cam(network, video, config(layer="features", **choice), resolver(1))[2][0]
        for choice in ({}, {"score": "logit"}, {"score": "prob"})
    )
    assert torch.equal(plain, logit)
    assert (plain - prob).abs().max() > 0.01 * plain.max()


def test_another_depth_of_the_same_layer_has_the_same_layout():
    network, video = tiny_network("timesformer", 3.0), tiny_clips("timesformer")
    first = config(layer="model.timesformer.encoder.layer.0.layernorm_before")
    assert grad_cam(network, video, first, resolver(0))[2][0].shape == (2, 3, 48, 32)


def test_swin_puts_channels_last_but_its_convolution_does_not():
    network, video = tiny_swin(), torch.randn(1, 3, 4, 24, 40)
    maps = {
        name: grad_cam(network, video, config(layer=name, cam_weights="global"), resolver(1))[2][0]
        for name in ("norm", "features.0", "patch_embed.proj")
    }
    expected = captum_maps(network, network.patch_embed.proj, video, 1).detach()
    torch.testing.assert_close(maps["patch_embed.proj"], expected, rtol=1e-3, atol=1e-7)
    seen: list[Tensor] = []
    network.features[0].register_forward_hook(lambda _m, _i, output: seen.append(output))
    (grad,) = torch.autograd.grad(network(video)[:, 1].sum(), seen[0])
    cells = torch.einsum("bthwc,c->bthw", seen[0], grad.mean((0, 1, 2, 3))).relu().detach().numpy()
    expected = linear_along(linear_along(linear_along(cells, 1, 4), 2, 24), 3, 40)
    np.testing.assert_allclose(maps["features.0"], expected, rtol=1e-3, atol=1e-7)


def test_wrapped_and_bfloat16_networks():
    network, video = load_demo_network(), demo_clips()
    plain = grad_cam(network, video, config(), resolver("pred"))[2][0]
    wrapped = grad_cam(nn.DataParallel(torch.compile(network)), video, config(), resolver("pred"))[2][0]
    assert torch.equal(plain, wrapped)
    with precision("bfloat16", video.device):
        coarse = grad_cam(network, video, config(dtype="bfloat16"), resolver("pred"))[2][0]
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, plain, rtol=0.1, atol=0.05 * float(plain.max()))


def test_two_threads_do_not_see_each_others_clips():
    network = load_demo_network()
    videos = list(demo_clips().split(1))
    expected = [grad_cam(network, video, config(), resolver("pred"))[2][0] for video in videos]
    wrong: list[int] = []

    def explain(i: int) -> None:
        for _ in range(8):
            saliency = grad_cam(network, videos[i], config(), resolver("pred"))[2][0]
            if (saliency - expected[i]).abs().max() > 1e-3 * expected[i].max():
                wrong.append(i)

    threads = [threading.Thread(target=explain, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert hooks(network) == 0


class Odd(nn.Module):
    """Layers that Grad-CAM can't take."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv3d(3, 3, 1)
        self.unused = nn.Conv3d(3, 3, 1)
        self.aside = nn.Conv3d(3, 3, 1)
        self.pair = Pair()
        self.head = nn.Linear(3, 2)

    def forward(self, video: Tensor) -> Tensor:
        self.aside(video)
        video = self.pair(self.twice(self.twice(video)))[0]
        return self.head(video.mean((2, 3, 4)))


class Pair(nn.Module):
    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        return video, video


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (None, r"layer must be given for grad-cam with Odd, .*; got None: layers that give .* are aside$"),
        ("twise", "layer must be a module of Odd, such as twice, aside; got twise"),
        ("zzz", "layer must be a module of Odd, such as twice, unused, aside, pair, head; got zzz"),
        ("", "layer must be a module of Odd|layer must be given"),
        ("unused", "layer must be called once in the model's forward; unused was called 0 times"),
        ("twice", "layer must be called once in the model's forward; twice was called 2 times"),
        ("pair", "layer must give one tensor of numbers; got tuple from pair"),
        ("aside", "layer must be one whose output the score depends on; got aside"),
        ("head", "grad-cam doesn't know the layout of head"),
    ],
)
def test_layers_that_will_not_do(layer: str | None, message: str):
    network = Odd()
    with pytest.raises(InputError, match=message) as caught:
        grad_cam(network, torch.randn(SHAPE), config(layer=layer), resolver(1))
    assert "\n" not in str(caught.value)
    assert hooks(network) == 0


def test_exported_programs_hide_their_layers():
    network = nn.Sequential(nn.Conv3d(3, 4, 2), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    video = torch.randn(SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        script, program = torch.jit.script(network), torch.export.export(network, (video,)).module()
    assert grad_cam(network, video, config(layer="0"), resolver(1))[2][0].max() > 0
    with pytest.raises(InputError, match="TorchScript doesn't show what its layers give; got 0"):
        grad_cam(script, video, config(layer="0"), resolver(1))
    with pytest.raises(InputError, match=r"0 was called 0 times .*exported programs"):
        grad_cam(program, video, config(layer="0"), resolver(1))


def test_other_refusals():
    with pytest.raises(InputError, match=r"model must be a torch.nn.Module for grad-cam; got function"):
        grad_cam(lambda video: video.mean((2, 3, 4)), torch.randn(SHAPE), config(layer="x"), resolver(1))
    network = Timed()
    with torch.no_grad():
        network.head.weight.fill_(3e38)
    with pytest.raises(InputError, match="finite"):
        grad_cam(network, 1e4 * torch.randn(SHAPE), config(layer="features"), resolver(1))
    broken = tiny_network("vivit")
    after = config(layer="model.vivit.layers.1.mlp.fc1")
    with pytest.raises(InputError, match=r"grad-cam doesn't know the layout of model.vivit.layers.1.mlp.fc1"):
        grad_cam(broken, tiny_clips("vivit"), after, resolver(1))


def test_a_classifier_may_say_the_anatomy_of_a_network_of_ones_own():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.first = nn.Conv3d(3, 5, 3, padding=1)
            self.head = nn.Linear(5, 3)

        def forward(self, video: torch.Tensor) -> torch.Tensor:
            return self.head(self.first(video).relu().mean((2, 3, 4)))

    preprocessing = Preprocessing(frames=4, stride=1, size=9, crop=(9, 9), mean=(0, 0, 0), std=(1, 1, 1))
    video = torch.randn(2, 3, 4, 9, 11, generator=torch.Generator().manual_seed(1))
    known = Classifier(Own(), preprocessing, anatomy=Anatomy("first", TokenLayout("channels-first")))
    named = explain(Own(), video, 1, method="grad-cam", layer="first").saliency
    assert torch.equal(explain(known, video, 1, method="grad-cam").saliency, named)
