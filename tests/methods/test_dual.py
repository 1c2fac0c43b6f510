"""AOSA-dual against the float64 reference, and what it does in scenes whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aosa_fast import Difference, explain
from aosa_fast.kernels import reference
from small_nets import make_net, make_video

SIZES = {"stride": 8, "box": 7}


class Sums(nn.Module):
    """Two logits: the sum of a part of the clip times weights, and nothing."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, video: Tensor) -> Tensor:
        first = (video * self.weights).flatten(1).sum(1)
        return torch.stack([first, 0 * first], 1)


def drifting(frames: int = 6, size: int = 24, step: int = 2) -> tuple[Tensor, Tensor]:
    """A clip (1, 3, T, H, W) whose whole picture moves to the left, and its flow."""
    wide = torch.rand(3, size, size + step * frames, generator=torch.Generator().manual_seed(3))
    video = torch.stack([wide[:, :, t * step : t * step + size] for t in range(frames)], 1)[None]
    flow = torch.zeros(1, frames - 1, size, size, 2)
    flow[..., 0] = -step
    return video, flow


@pytest.mark.parametrize("detail", ["voxel", "both", "tube"])
def test_equals_the_reference(detail):
    net, video = make_net(), make_video(B=2)
    flow = torch.randn(2, video.shape[2] - 1, *video.shape[3:], 2, generator=torch.Generator().manual_seed(5))
    found = explain(net, video, 1, method="aosa-dual", detail=detail, flow=flow, steps=5, score="logit", **SIZES)
    half = found.boxes.shape[1] // 2
    families = [
        (found.boxes[:, :half], found.members[:, :half]),
        (found.boxes[:, half:], found.members[:, half:] - half),
    ]
    stopped = video.double().median(2, keepdim=True).values.expand_as(video)
    exact = reference.aosa_dual(
        lambda clip: net.double()(clip)[:, 1],
        video.double(),
        families,
        [torch.zeros_like(stopped), stopped],
        (2, 3),
        detail,
    )
    torch.testing.assert_close(found.saliency.double(), exact, rtol=2e-3, atol=1e-5 * float(exact.abs().max()))
    # The second family stands still, and is wide enough for the way of an object.
    sides = found.boxes[:, half:].diff(dim=2).abs().max(), found.boxes[0, half + 1, 0]
    assert sides[0] == 0
    assert (sides[1][2] - sides[1][0]).item() == 13
    assert found.metadata["self_check"]["detail"] == [detail] * 2


def test_the_detail_is_the_one_that_the_model_answers_to_best():
    net, video = make_net(scale=300), make_video(B=2)
    maps = {
        detail: explain(net, video, 2, method="aosa-dual", detail=detail, **SIZES).saliency
        for detail in ("voxel", "both", "tube")
    }
    chosen = explain(net, video, 2, method="aosa-dual", **SIZES)
    for b in range(2):
        gains = {}
        for detail, saliency in maps.items():
            values = saliency[b].flatten()
            top = torch.zeros_like(values, dtype=torch.bool)
            top[values.sort(descending=True, stable=True).indices[: round(len(values) / 7)]] = True
            top = top.view(saliency[b].shape)
            put, hidden = (net(video[b : b + 1] * part).softmax(1)[0, 2].item() for part in (top, ~top))
            gains[detail] = put - hidden
        best = max(gains, key=gains.__getitem__)
        assert chosen.metadata["self_check"]["detail"][b] == best
        torch.testing.assert_close(chosen.saliency[b], maps[best][b])


def test_a_clip_that_moves_with_the_camera_has_no_motion_of_its_own():
    video, flow = drifting()
    weights = torch.randn(3, *video.shape[2:], generator=torch.Generator().manual_seed(1))
    weights -= video[0] * (weights * video[0]).sum() / video.square().sum()
    # The fill takes nothing from this score: all that is left is the way to the clip without its motion.
    net = Sums(weights)
    options = {"method": "aosa-dual", "detail": "voxel", "score": "logit", "stride": 4, "box": 5}
    found, standing = (explain(net, video, 0, flow=own, **options) for own in (flow, torch.zeros_like(flow)))
    # Places that most frames show are where they were, once the camera's way is taken off.
    middle = (slice(None), slice(2, 4), slice(None), slice(8, 16))
    assert found.relevance[middle].abs().max() < 1e-3 < 0.1 < standing.relevance[middle].abs().mean()
    half = found.tracks.shape[1] // 2
    assert (found.tracks[:, half:].diff(dim=2)[found.alive[:, half:, 1:]] == torch.tensor([-2.0, 0.0])).all()


@pytest.mark.parametrize("frames", [1, 4])
def test_a_still_clip_is_explained_by_the_fill_alone(frames):
    video = make_video()[:, :, :1].repeat(1, 1, frames, 1, 1)
    net = Sums(torch.randn(3, *video.shape[2:], generator=torch.Generator().manual_seed(2)))
    found = explain(net, video, 0, method="aosa-dual", score="logit", **SIZES)
    torch.testing.assert_close(found.relevance, (video * net.weights.detach()).sum(1))
    assert torch.isfinite(found.saliency).all()


def test_targets_and_batches_are_independent():
    net, video = make_net(scale=30), make_video(B=2)
    wanted = [1, Difference(2, 4)]
    together = explain(net, video, wanted, method="aosa-dual", **SIZES)
    for target, found in zip(wanted, together, strict=True):
        for b in range(2):
            alone = explain(net, video[b : b + 1], target, method="aosa-dual", **SIZES)
            torch.testing.assert_close(found.saliency[b : b + 1], alone.saliency, rtol=1e-3, atol=1e-7)
            assert found.metadata["self_check"]["detail"][b] == alone.metadata["self_check"]["detail"][0]
