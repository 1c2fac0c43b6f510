from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa_fast import explain
from aosa_fast.kernels import reference
from aosa_fast.methods.fills import blur
from aosa_fast.methods.flow import optical_flow
from aosa_fast.targets import class_scores

MEAN, STD = [0.4, 0.45, 0.5], [0.2, 0.25, 0.3]
METHODS = ("aosa", "aosa-approx", "aosa-path")


def make_net(channels: int = 3, classes: int = 6, seed: int = 0) -> nn.Sequential:
    """Smooth: at the kink of a ReLU, the gradient in float32 may be on the other side than in float64."""
    torch.manual_seed(seed)
    body = [nn.Conv3d(channels, 8, 3, (1, 3, 3), 1), nn.SiLU(), nn.AdaptiveAvgPool3d((1, 3, 3)), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(72, classes)).eval()
    net[-1].weight.data *= 10
    return net


def make_video(B: int = 1, C: int = 3, T: int = 8, H: int = 48, W: int = 56, seed: int = 0) -> Tensor:
    """Textured frames of which each half moves its own way."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(B, C, H // 4 + 8, W // 4 + 8, generator=generator)
    texture = nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    frames = []
    for t in range(T):
        left, right = texture[..., t : t + H, t : t + W // 2], texture[..., 12 - t : 12 - t + H, W // 2 : W]
        frames.append(torch.cat([left, right], -1))
    return torch.stack(frames, 2)


def score_of(net: nn.Module, target: int, score: str = "prob"):
    net = copy.deepcopy(net).double().requires_grad_(False)
    return lambda clips: class_scores(net(clips), score)[:, target]


def expected_tubes(result, video: Tensor, options: dict) -> tuple[Tensor, Tensor]:
    flow = optical_flow(result.frames)
    tracks, alive = reference.track_anchors(flow, options.get("stride", 8), options.get("reseed", 0))
    reach = options.get("min_motion", 2.0) if options.get("partners_rule") == "motion-aware" else 0.0
    members = reference.select_partners(tracks.float(), options.get("partners", 3), reach)
    box = options.get("box", 16)
    box = box if isinstance(box, tuple) else (box, box)
    return reference.rasterize_boxes(tracks.float(), alive, box, *video.shape[3:]), members


def expected_fill(name: str, video: Tensor) -> Tensor:
    if name == "conditional":
        return reference.conditional_mean(video)
    if name == "blur":
        return blur(video).double()
    value = -torch.tensor(MEAN).double() / torch.tensor(STD).double() if name == "black" else torch.zeros(3).double()
    return value.reshape(-1, 1, 1, 1).expand_as(video)


def assert_near(actual: Tensor, expected: Tensor, share: float = 2e-5) -> None:
    """Worst error measured in these tests: 4e-6 of the largest value."""
    limit = float(expected.abs().max())
    assert limit > 0
    torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=share * limit)


def assert_map(result, scores: Tensor, boxes: Tensor, members: Tensor) -> None:
    sums, coverage = reference.saliency_map(scores, boxes, members, *result.saliency.shape[2:])
    assert torch.equal(result.coverage, coverage)
    assert_near(result.saliency, sums / scores.shape[1])


CASES = {
    "plain": ((1, 3, 8, 40, 48), {}),
    "odd sizes": ((1, 3, 5, 37, 43), {"box": (7, 11)}),
    "two clips": ((2, 3, 3, 32, 40), {}),
    "single masks": ((1, 3, 4, 32, 40), {"partners": 0}),
    "more partners than tubes": ((1, 3, 4, 24, 24), {"partners": 20, "stride": 12}),
    "box larger than the frame": ((1, 3, 4, 32, 40), {"box": 200}),
    "one anchor": ((1, 3, 4, 32, 40), {"stride": 63}),
    "one frame": ((1, 3, 1, 40, 48), {}),
    "reseed": ((1, 3, 5, 32, 40), {"reseed": 2}),
    "motion-aware": ((1, 3, 6, 40, 48), {"partners_rule": "motion-aware", "min_motion": 3.5}),
    "logit": ((1, 3, 4, 32, 40), {"score": "logit"}),
    "logprob": ((1, 3, 4, 32, 40), {"score": "logprob"}),
    "margin": ((1, 3, 4, 32, 40), {"score": "margin"}),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case, method):
    shape, options = CASES[case]
    video, net, f = make_video(*shape), make_net(), score_of(make_net(), 2, options.get("score", "prob"))
    result = explain(net, video, 2, method=method, **options)
    boxes, members = expected_tubes(result, video, options)
    assert torch.equal(result.boxes, boxes)
    assert torch.equal(result.members, members)
    fill = torch.zeros_like(video).double()
    if method == "aosa":
        scores = reference.aosa(f, video.double(), boxes, members, fill)
    elif method == "aosa-path":
        scores, relevance = reference.aosa_path(f, video.double(), boxes, members, fill)
        assert_near(result.relevance, relevance)
    else:
        scores = reference.aosa_approx(f, video.double(), boxes, members)
    assert_near(result.scores, scores)
    assert_map(result, scores, boxes, members)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fill", ["mean", "black", "blur", "conditional", "tensor"])
def test_every_fill_equals_the_reference(fill, method):
    video, net = make_video(T=4, H=32, W=40), make_net()
    f = score_of(net, 1)
    tensor = torch.linspace(-1, 1, 40).expand(3, 1, 1, 40)
    values = tensor.double().expand_as(video) if fill == "tensor" else expected_fill(fill, video)
    chosen = tensor if fill == "tensor" else fill
    result = explain(net, video, 1, method=method, fill=chosen, mean=MEAN, std=STD, steps=5, partners=2)
    boxes, members = expected_tubes(result, video, {"partners": 2})
    if method == "aosa":
        scores = reference.aosa(f, video.double(), boxes, members, values)
    elif method == "aosa-path":
        scores = reference.aosa_path(f, video.double(), boxes, members, values, steps=5)[0]
    else:
        scores = reference.aosa_approx(f, video.double(), boxes, members, values)
    assert_near(result.scores, scores)
    assert_map(result, scores, boxes, members)


@pytest.mark.parametrize("relu", ["element", "channel", "none", "eq8-literal"])
def test_every_relu_equals_the_reference(relu):
    video, net = make_video(T=4, H=32, W=40), make_net()
    result = explain(net, video, 1, relu=relu)
    scores = reference.aosa_approx(score_of(net, 1), video.double(), result.boxes, result.members, relu=relu)
    assert_near(result.scores, scores)
    # Eq. 8 as printed keeps what raises the score, with a minus.
    assert (scores <= 0).all() or relu != "eq8-literal"
    assert (scores >= 0).all() or relu in ("none", "eq8-literal")


def test_the_radius_of_the_conditional_mean_reaches_the_scores():
    video, net = make_video(T=4, H=32, W=40), make_net()
    result = explain(net, video, 1, radius=2)
    fill = reference.conditional_mean(video, 2)
    scores = reference.aosa_approx(score_of(net, 1), video.double(), result.boxes, result.members, fill)
    assert_near(result.scores, scores)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", ["sum", "mean", "eq2"])
def test_every_aggregate_equals_its_formula(rule, method):
    video, net = make_video(T=4, H=32, W=40), make_net()
    result = explain(net, video, 4, method=method, aggregate=rule)
    masks = reference.tube_masks(result.boxes, result.members, 32, 40).double()
    scores, count = result.scores.double(), result.scores.shape[1]
    covered = torch.einsum("bn,bnthw->bthw", scores, masks)
    if rule == "sum":
        expected = covered / count
    elif rule == "mean":
        expected = covered / masks.sum(1).clamp(min=1)
    else:
        kept_scores = result.clean_scores[:, 4].double()[:, None] - scores
        expected = torch.einsum("bn,bnthw->bthw", kept_scores, 1 - masks) / count
    assert_near(result.saliency, expected)
    if method == "aosa":
        assert torch.equal(result.for_target(4).saliency, result.saliency)


@pytest.mark.parametrize("fill", ["mean", "black", "blur", "conditional"])
def test_all_methods_agree_on_a_linear_model(fill):
    video = make_video(T=4, H=32, W=40)
    torch.manual_seed(1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(video[0].numel(), 4))
    options = {"score": "logit", "fill": fill, "mean": MEAN, "std": STD}
    exact = explain(linear, video, 3, method="aosa", **options)
    approx = explain(linear, video, 3, relu="none", **options)
    path = explain(linear, video, 3, method="aosa-path", steps=3, **options)
    for other in (approx, path):
        assert_near(other.scores, exact.scores)
        assert_near(other.saliency, exact.saliency)


def test_path_field_sums_to_the_drop_by_filling_everything():
    video = make_video(B=2, T=4, H=32, W=40)
    torch.manual_seed(1)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(video[0].numel(), 8), nn.Tanh(), nn.Linear(8, 4))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(video[0].numel(), 4))
    for net, steps, share in ((linear, 1, 1e-5), (smooth, 128, 1e-3)):
        result = explain(net, video, 3, method="aosa-path", score="logit", steps=steps, batch_size=50)
        with torch.no_grad():
            drop = (net(video) - net(torch.zeros_like(video)))[:, 3]
        assert drop.abs().min() > 0.01
        assert_near(result.relevance.double().sum((1, 2, 3)), drop, share)


class SeesRed(nn.Module):
    """Class 1 rises with every bright red voxel; nothing else counts."""

    def forward(self, video: Tensor) -> Tensor:
        red = (video[:, 0] - 0.5).clamp(min=0).square().sum((1, 2, 3)) / 100
        return torch.stack([torch.ones_like(red), red], 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("partners", [0, 3])
def test_finds_a_planted_moving_object(method, partners):
    generator = np.random.default_rng(0)
    video = torch.from_numpy(generator.random((1, 3, 8, 48, 56), dtype=np.float32)) * 0.3
    for t in range(8):
        patch = torch.from_numpy(generator.random((3, 10, 10), dtype=np.float32)) * 0.1
        video[0, :, t, 14:24, 6 + 4 * t : 16 + 4 * t] = patch
        video[0, 0, t, 14:24, 6 + 4 * t : 16 + 4 * t] += 0.9
    flow = torch.zeros(1, 7, 48, 56, 2)
    for t in range(7):
        flow[0, t, 8:30, 4 * t : 22 + 4 * t, 0] = 4
    result = explain(SeesRed(), video, 1, method=method, score="logit", box=8, stride=4, partners=partners, flow=flow)
    for t, frame in enumerate(result.saliency[0]):
        y, x = divmod(int(frame.argmax()), 56)
        assert 14 - 8 <= y < 24 + 8, (t, x, y)
        assert 6 + 4 * t - 8 <= x < 16 + 4 * t + 8, (t, x, y)
