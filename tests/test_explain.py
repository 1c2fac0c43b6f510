from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa_fast import Config, Difference, Explanation, explain
from aosa_fast.config import FLOWS
from aosa_fast.kernels import reference
from aosa_fast.kernels.field import field
from aosa_fast.kernels.saliency_map import saliency_map
from aosa_fast.kernels.tube_scores import tube_scores

METHODS = ("aosa", "aosa-approx", "aosa-path")


class Counting(nn.Module):
    """A small network that keeps the shape and the format of every batch it sees."""

    def __init__(self, channels: int = 3, classes: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv3d(channels, 8, 3, (1, 3, 3), 1), nn.ReLU(), nn.AdaptiveAvgPool3d((1, 2, 2)))
        self.head = nn.Linear(32, classes)
        self.head.weight.data *= 5
        self.batches: list[Tensor] = []

    def forward(self, video: Tensor) -> Tensor:
        self.batches.append(video.detach())
        logits: Tensor = self.head(self.body(video).flatten(1))
        return logits


def make_video(B: int = 1, C: int = 3, T: int = 6, H: int = 40, W: int = 48, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    texture = nn.functional.interpolate(torch.randn(B, C, 20, 20, generator=generator), scale_factor=4, mode="bilinear")
    return torch.stack([texture[..., t : t + H, 2 * t : 2 * t + W] for t in range(T)], 2)


def same(a: Explanation, b: Explanation) -> bool:
    names = ("saliency", "scores", "tracks", "alive", "boxes", "members", "coverage", "clean_scores")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.parametrize("method", METHODS)
def test_shapes_dtypes_and_what_is_there(method):
    video = make_video(B=2)
    result = explain(Counting(), video, method=method)
    N, K1 = 30, 4
    assert (result.saliency.shape, result.saliency.dtype) == ((2, 6, 40, 48), torch.float32)
    assert (result.scores.shape, result.scores.dtype) == ((2, N), torch.float32)
    assert (result.tracks.shape, result.tracks.dtype) == ((2, N, 6, 2), torch.float32)
    assert (result.alive.shape, result.alive.dtype) == ((2, N, 6), torch.bool)
    assert (result.boxes.shape, result.boxes.dtype) == ((2, N, 6, 4), torch.int32)
    assert (result.members.shape, result.members.dtype) == ((2, N, K1), torch.int32)
    assert (result.coverage.shape, result.coverage.dtype) == ((2, 6, 40, 48), torch.int32)
    assert (result.frames.shape, result.frames.dtype) == ((2, 6, 40, 48, 3), np.uint8)
    exact = method == "aosa"
    assert (result.class_scores is not None) == (result.class_score_samples is not None) == exact
    assert (result.relevance is None) == exact
    if result.class_scores is not None and result.class_score_samples is not None:
        assert result.class_score_samples.shape == (2, N, 1, 6)
        assert result.class_scores.shape == (2, N, 6)
    assert result.standard_error is None
    for tensor in (result.saliency, result.scores):
        assert not tensor.requires_grad
        assert float(tensor.abs().max()) > 1e-4
    assert torch.equal(result.target.index, result.clean_scores.argmax(1))


def test_forwards_and_backwards_are_as_few_as_promised():
    video, net = make_video(), Counting()
    explain(net, video, 0)  # what is asked of a model that is new
    assert [len(batch) for batch in net.batches] == [1, 1]
    explain(net, video, 0, method="aosa-path", steps=1)
    assert [len(batch) for batch in net.batches] == [1, 1, 1, 2, 1, 1]
    net.batches.clear()
    backwards = []
    net.head.register_full_backward_hook(lambda *_: backwards.append(1))
    result = explain(net, video, [0, 2, Difference(3, 1)], method="aosa", batch_size=7)
    assert [len(batch) for batch in net.batches] == [1, 7, 7, 7]
    result[0].for_target(5)
    assert len(net.batches) == 4
    assert not backwards
    net.batches.clear()
    explain(net, video, [0, 2, Difference(3, 1)], method="aosa-approx")
    assert [len(batch) for batch in net.batches] == [1]
    assert len(backwards) == 3
    net.batches.clear()
    backwards.clear()
    explain(net, video, [0, 2], method="aosa-path", steps=5, batch_size=3)
    assert [len(batch) for batch in net.batches] == [1, 3, 2]
    assert len(backwards) == 4


@pytest.mark.parametrize("value", [None, 1])
def test_an_option_that_there_is_not_is_refused_whatever_it_is_set_to(value):
    with pytest.raises(TypeError, match="unexpected keyword argument 'strides'"):
        explain(Counting(), make_video(), strides=value)


@pytest.mark.parametrize("samples", [0, 3])
def test_the_sweep_goes_on_from_clip_to_clip(samples):
    net, seen = Counting(), []
    explain(net, make_video(B=2), 0)
    net.batches.clear()
    options = {"fill": "conditional", "samples": samples} if samples else {"partners": 0}
    options |= {"batch_size": 7, "route": "as-is"}
    explain(net, make_video(B=2), 0, method="aosa", progress=lambda *step: seen.append(step), **options)
    rows = 2 * 30 * max(1, samples)
    assert [len(batch) for batch in net.batches] == [2, *[7] * (rows // 7), rows % 7]
    assert seen == [(min(end, rows) // max(1, samples), 60) for end in range(7, rows + 7, 7)]


@pytest.mark.parametrize("check", [0, 30])
def test_tubes_with_the_same_members_are_run_once(check):
    net, seen, video = Counting(), [], make_video(B=2)
    explain(net, video, 0)
    net.batches.clear()
    options = {"method": "aosa-approx", "check": check} if check else {"method": "aosa"}
    result = explain(net, video, 0, fill="mean", route="as-is", progress=lambda *step: seen.append(step), **options)
    members = [[tuple(sorted(tube)) for tube in clip] for clip in result.members.tolist()]
    assert sum(map(len, net.batches)) == 2 + sum(len(set(tubes)) for tubes in members) < 50
    assert check or seen[-1] == (60, 60)
    scores = result.scores
    if check:
        reports = result.metadata["self_check"]["exact"]
        scores = [torch.tensor(r["exact"])[torch.tensor(r["tubes"]).argsort()] for r in reports]
    masks = reference.tube_masks(result.boxes, result.members, 40, 48).unsqueeze(2)
    for clip, hidden, clean, found in zip(video, masks, result.clean_scores[:, 0], scores, strict=True):
        with torch.no_grad():
            exact = clean - net(clip.masked_fill(hidden, 0.0)).softmax(-1)[:, 0]
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("score", ["prob", "logit", "logprob", "margin"])
@pytest.mark.parametrize("method", METHODS)
def test_several_targets_equal_the_single_ones(method, score):
    video, net = make_video(B=2), Counting()
    targets = ["pred", 3, torch.tensor([1, 4]), Difference(2, torch.tensor([5, 0]))]
    together = explain(net, video, targets, method=method, score=score)
    for one, target in zip(together, targets, strict=True):
        alone = explain(net, video, target, method=method, score=score)
        assert same(one, alone)
        assert one.metadata["target"] == alone.metadata["target"]
    difference = explain(net, video, 2, method=method, score=score, relu="none").scores - torch.stack(
        [explain(net, video, t, method=method, score=score, relu="none").scores[b] for b, t in enumerate((5, 0))]
    )
    both = explain(net, video, targets[3], method=method, score=score, relu="none")
    torch.testing.assert_close(both.scores, difference, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("target", [3, "pred", Difference(2, 4), torch.tensor([1, 5])])
def test_for_target_equals_explaining_that_target(target):
    video, net = make_video(B=2), Counting()
    first = explain(net, video, 0, method="aosa", score="logit")
    again, direct = first.for_target(target), explain(net, video, target, method="aosa", score="logit")
    assert same(again, direct)
    assert (again.target.minus is None) == (direct.target.minus is None)


def test_for_target_tells_what_explaining_that_target_tells():
    video, net = make_video(B=2), Counting()
    for score in ("prob", "logit", "margin"):
        first = explain(net, video, 0, method="aosa", score=score)
        for target in (3, Difference(2, 4)):
            told, expected = (
                {**result.metadata, "seconds": None}
                for result in (first.for_target(target), explain(net, video, target, method="aosa", score=score))
            )
            torch.testing.assert_close(told.pop("probability"), expected.pop("probability"))
            assert told == expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_batch_of_clips_equals_the_clips_one_by_one(method, batch_size):
    video, net = make_video(B=3), Counting()
    target = torch.tensor([2, 0, 5])
    together = explain(net, video, target, method=method, batch_size=batch_size)
    for b in range(3):
        alone = explain(net, video[b : b + 1], target[b : b + 1], method=method)
        for name in ("tracks", "alive", "boxes", "members", "coverage"):
            assert torch.equal(getattr(together, name)[b], getattr(alone, name)[0]), name
        for name in ("scores", "saliency", "clean_scores"):
            torch.testing.assert_close(getattr(together, name)[b], getattr(alone, name)[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_clip_gives_the_same_bits(method):
    net, a, b = Counting(), make_video(seed=1), make_video(seed=2)
    first, other, again = (explain(net, clip, 1, method=method) for clip in (a, b, a))
    assert same(first, again)
    assert not torch.equal(first.saliency, other.saliency)


def test_any_number_of_threads_gives_the_same():
    video, net = make_video(T=8, H=48, W=56), Counting()
    before, results = torch.get_num_threads(), []
    grad = torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            result = explain(net, video, 1, stride=4)
            relevance = field(video, grad, None)
            scores = tube_scores(relevance, result.boxes, result.members)
            operators = [relevance, scores, *saliency_map(scores, result.boxes, result.members, 48, 56)]
            results.append((result, [*operators, result.tracks, result.boxes, result.members]))
            assert result.metadata["threads"] == threads
    finally:
        torch.set_num_threads(before)
    for result, operators in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(operators, results[0][1], strict=True))
        torch.testing.assert_close(result.saliency, results[0][0].saliency, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("options", [{"config": Config(stride=12, score="logit")}, {"stride": 12, "score": "logit"}])
def test_options_and_config_are_one(options):
    net, video = Counting(), make_video()
    result = explain(net, video, 0, partners=2, **options)
    assert (result.config.stride, result.config.score, result.config.partners) == (12, "logit", 2)
    assert same(result, explain(net, video, 0, partners=2, stride=12, score="logit"))


def test_metadata_tells_everything_in_plain_types():
    names = [f"name {i}" for i in range(6)]
    result = explain(Counting(), make_video(B=2), Difference("name 3", "pred"), class_names=names, flow="dis-fast")
    told = json.loads(json.dumps(result.metadata))
    assert told == result.metadata
    assert set(told["config"]) == set(Config().as_dict())
    assert (told["config"]["flow"], told["config"]["fill"], told["config"]["box"]) == (
        "dis-fast",
        "conditional",
        [16, 16],
    )
    assert told["config"]["flow"] in FLOWS
    assert told["target"][0].startswith("name 3 - name ")
    assert told["minus_index"] == result.clean_scores.argmax(1).tolist()
    torch.testing.assert_close(torch.tensor(told["probability"]), result.clean_scores[:, 3])
    torch.testing.assert_close(torch.tensor(told["prediction_probability"]), result.clean_scores.amax(1))
    assert told["class_names"] == names
    assert told["shape"] == {"B": 2, "T": 6, "H": 40, "W": 48}
    stages = {"flow", "tracking", "partners", "boxes", "model", "field and scores", "map", "total"}
    assert set(told["seconds"]) == stages
    assert all(seconds >= 0 for seconds in told["seconds"].values())
    assert {"aosa_fast", "python", "torch", "numpy", "numba", "opencv"} <= set(told["versions"])
    assert set(told["self_check"]) == {
        "uncovered_share",
        "saturated",
        "exact",
        "output",
        "repeat_difference",
        "batch_difference",
    }
