from __future__ import annotations

from math import exp

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa_fast import explain
from aosa_fast.config import Config
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import clean_logits
from aosa_fast.methods.baselines import centre_blob, random_map
from aosa_fast.methods.fills import content_hash
from aosa_fast.targets import resolve_target


class Net(nn.Module):
    """Overwrites its input, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.sizes = nn.Linear(2 * 3 * 6 * 9, 4), []

    def forward(self, video: Tensor) -> Tensor:
        self.sizes.append(len(video))
        return self.linear(video.mul_(2).flatten(1))


def make_video(B: int = 3) -> Tensor:
    return torch.randn(B, 2, 3, 6, 9, generator=torch.Generator().manual_seed(0))


def run(comparator, video: Tensor, **options) -> tuple[Tensor, list[Tensor], Net]:
    net = Net()
    config = Config(method="random", **options)
    logits, targets, maps = comparator(net, video, config, lambda z: [resolve_target(t, z) for t in ("pred", 2)])
    assert targets[0].index.tolist() == logits.argmax(1).tolist()
    for saliency in maps:
        assert saliency.shape == (len(video), 3, 6, 9)
        assert saliency.dtype == torch.float32
    assert torch.equal(maps[0], maps[1])
    assert maps[0].data_ptr() != maps[1].data_ptr()  # writing to one leaves the other
    return logits, maps, net


@pytest.mark.parametrize("comparator", [random_map, centre_blob])
def test_asks_the_model_for_logits_only(comparator):
    video = make_video()
    before = video.clone()
    logits, _, net = run(comparator, video, batch_size=2)
    assert net.sizes == [2, 1]
    assert torch.equal(video, before)
    with torch.no_grad():
        torch.testing.assert_close(logits, net(video.clone()))
    assert not logits.requires_grad


def test_random_maps_are_numpys():
    video = make_video()
    _, (saliency, _), _ = run(random_map, video, seed=7)
    for clip, noise in zip(video, saliency, strict=True):
        expected = np.random.default_rng((7, content_hash(clip))).random((3, 6, 9), dtype=np.float32)
        assert np.array_equal(noise.numpy(), expected)
    assert 0 <= float(saliency.min()) < 0.1
    assert 0.9 < float(saliency.max()) < 1


def test_random_maps_depend_on_the_clip_and_the_seed_but_not_on_the_batch():
    video = make_video()
    _, (together, _), _ = run(random_map, video)
    _, (alone, _), _ = run(random_map, video[1:2])
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(run(random_map, video, seed=1)[1][0], together)


def test_the_blob_is_in_the_centre_of_every_frame():
    _, (saliency, _), _ = run(centre_blob, make_video())
    assert torch.equal(saliency, saliency[:1, :1].expand_as(saliency))
    frame = saliency[0, 0]
    assert torch.equal(frame, frame.flip(0))
    assert torch.equal(frame, frame.flip(1))
    # The middle of 6 x 9 pixels is (2.5, 4); the deviations are 1.5 and 2.25 pixels.
    assert frame[2, 4] == frame.max()
    assert frame[2, 4] == pytest.approx(exp(-0.5 * (0.5 / 1.5) ** 2))
    assert frame[1, 4] == pytest.approx(exp(-0.5))  # a deviation away
    assert frame[5, 0] == pytest.approx(exp(-0.5 * ((2.5 / 1.5) ** 2 + (4 / 2.25) ** 2)))


def test_clean_logits_take_the_models_own_dtype():
    net = Net().double()
    logits = clean_logits(net, make_video(), BatchSize(0, torch.device("cpu")))
    assert logits.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(logits, net(make_video().double()).float())


def test_motion_is_the_distance_from_the_median_over_time():
    """A spot that shows in two of five frames stands out there, and a picture that stands still nowhere."""
    video = torch.randn(1, 2, 1, 12, 16, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 5, 1, 1)
    video[0, 0, 1:3, 4:6, 7:9] += 2
    video[0, 1, 1:3, 4:6, 7:9] -= 1
    expected = torch.zeros(2, 5, 12, 16)
    expected[0, 1:3, 4:6, 7:9] = 3
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 5 * 12 * 16, 4))
    found = explain(net, video, 1, method="motion", frames=torch.zeros(2, 5, 12, 16, 3, dtype=torch.uint8))
    torch.testing.assert_close(found.saliency, expected)
    # Single tubes that stand still: each one's score is the sum over its box, and voxels get those of their boxes.
    options = {"flow": torch.zeros(2, 4, 12, 16, 2), "stride": 4, "box": 4, "partners": 0}
    tubes = explain(net, video, [1, 2], method="motion-tubes", **options)
    assert torch.equal(tubes[0].saliency, tubes[1].saliency)
    torch.testing.assert_close(tubes[0].relevance, expected)
    sums = expected.sum(1).unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4)).flatten(1)
    torch.testing.assert_close(tubes[0].scores, sums)
    cells = sums.reshape(2, 1, 3, 4).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 5, -1, -1)
    torch.testing.assert_close(tubes[0].saliency, cells / 12)
