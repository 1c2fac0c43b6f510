from __future__ import annotations

from functools import partial

import cv2
import pytest
import torch
from torch import Tensor, nn

import small_nets
from aosa_fast import Config, InputError, explain
from aosa_fast.kernels import reference
from aosa_fast.methods.fills import blur, channel_fill, conditional_noise, content_hash, make_fill

MEAN, STD = [0.4, 0.45, 0.5], [0.2, 0.25, 0.3]


make_net, make_video = partial(small_nets.make_net, scale=5), partial(small_nets.make_video, B=2)


def test_one_value_per_channel():
    video = make_video()
    mean = make_fill(video, Config(fill="mean"))
    black = make_fill(video, Config(fill="black"), MEAN, torch.tensor(STD))
    assert torch.equal(mean, torch.zeros_like(video))
    for c in range(3):
        torch.testing.assert_close(black[:, c], torch.full_like(video[:, c], -MEAN[c] / STD[c]))
    torch.testing.assert_close(black * torch.tensor(STD).reshape(-1, 1, 1, 1) + torch.tensor(MEAN).reshape(-1, 1, 1, 1),
                               torch.zeros_like(video), atol=1e-6, rtol=0)  # fmt: skip
    assert black.is_contiguous()
    assert channel_fill(Config(fill="blur"), make_video(), None, None) is None
    assert channel_fill(Config(), make_video(), None, None) is None


def test_conditional_is_the_reference_at_any_radius():
    video = make_video()
    for radius in (0, 1, 4):
        expected = reference.conditional_mean(video, radius)
        torch.testing.assert_close(make_fill(video, Config(radius=radius)).double(), expected, rtol=0, atol=1e-6)
    assert not torch.equal(make_fill(video, Config()), make_fill(video, Config(radius=3)))


def test_blur_is_per_frame_eleven_wide_sigma_five():
    video = make_video()
    blurred = blur(video)
    assert blurred.shape == video.shape
    kernel = torch.from_numpy(cv2.getGaussianKernel(11, 5.0)).float().flatten()
    padded = nn.functional.pad(video[0], (5, 5, 5, 5), mode="reflect")
    rows = (padded.unfold(-1, 11, 1) * kernel).sum(-1)
    torch.testing.assert_close(blurred[0], (rows.unfold(-2, 11, 1) * kernel).sum(-1), rtol=0, atol=1e-6)
    assert torch.equal(blur(video.transpose(3, 4).contiguous().transpose(3, 4)), blurred)


def test_a_tensor_is_broadcast_and_never_shared():
    video, values = make_video(), torch.arange(3.0).reshape(3, 1, 1, 1)
    fill = make_fill(video, Config(fill=values))
    assert torch.equal(fill, values.expand_as(video))
    assert make_fill(video, Config(fill=values.double().requires_grad_())).requires_grad is False
    for bad, message in (
        (torch.zeros(7), r"^fill must broadcast to \(2, 3, 4, 32, 40\); got \(7,\)$"),
        (torch.zeros(3, 3, 4, 32, 40), r"^fill must broadcast to .*; got \(3, 3, 4, 32, 40\)$"),
        (torch.full((1,), torch.nan), r"^fill must be finite; got NaN or infinity$"),
    ):
        with pytest.raises(InputError, match=message):
            make_fill(video, Config(fill=bad))


@pytest.mark.parametrize("given", [{}, {"mean": MEAN}, {"std": STD}])
@pytest.mark.parametrize("method", ["aosa", "aosa-approx", "aosa-path"])
def test_black_needs_mean_and_std(given, method):
    rule = "mean and std must be given together; got only" if given else "fill=black must come with the mean and std of"
    with pytest.raises(InputError, match=f"^{rule}"):
        explain(make_net(), make_video(), fill="black", method=method, **given)


def stacked_noise(video: Tensor, anchors, config: Config) -> Tensor:
    return torch.stack([conditional_noise(content_hash(video), video.shape[1], anchor, config) for anchor in anchors])


def test_noise_depends_on_seed_clip_and_anchor_only():
    video, config = make_video(), Config(method="aosa", fill="conditional", samples=3, radius=2)
    noise = stacked_noise(video[0], [0, 5, 9], config)
    assert (noise.shape, noise.dtype) == ((3, 3, 4, 5, 5), torch.float32)
    assert torch.equal(stacked_noise(video[0], [5], config)[0], noise[1])
    assert torch.equal(stacked_noise(video[0].clone(), [9, 0], config), noise[[2, 0]])
    other_seed = Config(method="aosa", fill="conditional", samples=3, radius=2, seed=1)
    unlike = [
        noise[0],
        noise[1],
        stacked_noise(video[1], [0], config)[0],
        stacked_noise(video[0], [0], other_seed)[0],
    ]
    for i, a in enumerate(unlike):
        for b in unlike[i + 1 :]:
            assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.25
    many = stacked_noise(video[0], list(range(40)), config)
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02


def test_random_fills_give_the_mean_over_their_scores():
    video, net = make_video(B=1), make_net()
    config = Config(method="aosa", fill="conditional", samples=4, stride=16)
    result = explain(net, video, 1, config=config, batch_size=3)
    N = result.scores.shape[1]
    assert result.class_score_samples.shape == (1, N, 4, 6)
    noise = stacked_noise(video[0], range(N), config)
    mean = reference.conditional_mean(video)
    boxes, members = result.boxes[0], result.members[0]
    for i in range(N):
        rows = boxes[members[i].long()]  # its members, as the whole set of boxes
        own = torch.arange(len(rows), dtype=torch.int32)
        masks = reference.tube_masks(rows[None].expand(1, -1, -1, -1), own.expand(1, len(own), -1), 32, 40)[0, :1]
        full = _draw(video, mean, torch.tensor([0, 0, 40, 32]).expand(1, 1, 4, 4), noise[i])
        expected = torch.where(masks, full, video[0].double())
        one_box = reference.tube_masks(rows[None, :1], own[None, :1, None], 32, 40)[0]
        drawn = _draw(video, mean, rows[None, :1], noise[i])
        torch.testing.assert_close(torch.where(one_box, full, video[0].double()), drawn)
        with torch.no_grad():
            scores = net(expected.float()).softmax(-1)
        torch.testing.assert_close(result.class_score_samples[0, i], scores, rtol=0, atol=1e-6)
    drops = result.clean_scores[:, 1:2] - result.class_score_samples[..., 1].mean(2)
    torch.testing.assert_close(result.scores, drops)


def _draw(video: Tensor, mean: Tensor, boxes: Tensor, noise: Tensor) -> Tensor:
    """(S, C, T, H, W): the draws of the reference, for one clip and one tube of one box."""
    rows, out = torch.zeros(len(noise), dtype=torch.int32), torch.empty(len(noise), *video.shape[1:]).double()
    reference.occlude_sampled(video, mean, boxes, rows[:, None], rows, noise, out)
    return out


def test_random_fills_are_reproducible_and_independent_of_the_batch():
    video, net = make_video(), make_net()
    options = {"method": "aosa", "fill": "conditional", "samples": 3, "stride": 16, "target": 1}
    both = explain(net, video, **options)
    assert torch.equal(both.scores, explain(net, video, **options).scores)
    assert not torch.equal(both.scores, explain(net, video, seed=1, **options).scores)
    for b in (0, 1):
        alone = explain(net, video[b : b + 1], batch_size=2, **options)
        torch.testing.assert_close(alone.scores[0], both.scores[b], rtol=0, atol=1e-6)


def test_standard_error_says_how_far_the_mean_may_be_off():
    video, net = make_video(), make_net()
    options = {"method": "aosa", "fill": "conditional", "stride": 16, "target": 1}
    few, many = explain(net, video, samples=10, **options), explain(net, video, samples=60, seed=5, **options)
    assert few.standard_error.shape == few.scores.shape
    expected = few.class_score_samples[..., 1].var(2, correction=1).div(10).sqrt()
    torch.testing.assert_close(few.standard_error, expected)
    distance = (few.scores - many.scores) / (few.standard_error**2 + many.standard_error**2).sqrt()
    assert 0.5 < float(distance.square().mean().sqrt()) < 2
    assert explain(net, video, samples=1, **options).standard_error is None
