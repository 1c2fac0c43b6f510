from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from aosa_fast import Difference, explain
from aosa_fast.kernels.reference import tube_masks
from aosa_fast.methods.selfcheck import uncovered_share
from small_nets import make_net, make_video


def test_uncovered_share_by_hand():
    coverage = torch.zeros(2, 4, 10, 10, dtype=torch.int32)
    coverage[0, :2, :5] = 3
    coverage[1] = 1
    coverage[1, 0, 0, 0] = 0
    assert uncovered_share(coverage) == pytest.approx([0.75, 1 / 400])
    # One anchor at (19, 19) with a 10 x 10 box that stands still for 3 of 4 frames, then leaves.
    flow = torch.zeros(1, 3, 32, 40, 2)
    flow[:, 2] = 1000
    result = explain(make_net(), make_video(), 0, stride=38, box=10, flow=flow)
    assert result.metadata["self_check"]["uncovered_share"] == pytest.approx([1 - 3 * 100 / (4 * 32 * 40)])


@pytest.mark.parametrize("target", ["pred", Difference("pred", 0)], ids=["one", "difference"])
def test_saturation_warns_where_the_gradient_is_of_no_use(target):
    net, video = make_net(scale=50000), make_video()
    with pytest.warns(UserWarning, match="use score='logit'") as caught:
        result = explain(net, video, target)
    assert result.metadata["self_check"]["saturated"] == [True]
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({"score": "logit"}, {"method": "aosa-path"}, {"method": "aosa"}, {"score": "logprob"}):
            assert explain(net, video, target, **options).metadata["self_check"]["saturated"] == [True]


def test_no_warning_where_the_score_is_not_saturated():
    assert explain(make_net(), make_video(B=2)).metadata["self_check"]["saturated"] == [False, False]


@pytest.mark.parametrize("method", ["aosa-approx", "aosa-path"])
@pytest.mark.parametrize("fill", ["mean", "conditional", "blur"])
def test_check_holds_tubes_against_their_exact_scores(method, fill):
    net, video = make_net(), make_video(B=2)
    result = explain(net, video, torch.tensor([2, 5]), method=method, fill=fill, check=5)
    exact = explain(net, video, torch.tensor([2, 5]), method="aosa", fill=fill)
    reports = result.metadata["self_check"]["exact"]
    assert len(reports) == 2
    for b, report in enumerate(reports):
        tubes = report["tubes"]
        assert len(set(tubes)) == 5
        ranking = result.scores[b].argsort(descending=True).tolist()
        assert (tubes[0], tubes[-1]) == (ranking[0], ranking[-1])
        torch.testing.assert_close(torch.tensor(report["exact"]), exact.scores[b, tubes], rtol=1e-3, atol=2e-7)
        assert report["approximate"] == result.scores[b, tubes].tolist()
        errors = np.abs(np.subtract(report["exact"], report["approximate"]))
        assert report["mean_absolute_error"] == pytest.approx(errors.mean(), rel=1e-4)
        assert report["mean_absolute_error"] > 0
        expected = np.corrcoef(report["exact"], report["approximate"])[0, 1]
        assert report["correlation"] == pytest.approx(expected, abs=1e-6)


def test_check_equals_a_forward_of_the_occluded_clip():
    net, video = make_net(), make_video()
    result = explain(net, video, 2, fill="mean", check=3)
    (report,) = result.metadata["self_check"]["exact"]
    masks = tube_masks(result.boxes, result.members, 32, 40)[0]
    with torch.no_grad():
        clean = net(video).softmax(-1)[0, 2]
        for tube, exact in zip(report["tubes"], report["exact"], strict=True):
            occluded = video.masked_fill(masks[tube], 0.0)
            assert exact == pytest.approx(float(clean - net(occluded).softmax(-1)[0, 2]), abs=2e-7)


def test_check_of_a_linear_model_finds_no_error():
    torch.manual_seed(1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(make_video()[0].numel(), 4))
    for options in ({"relu": "none"}, {"method": "aosa-path"}):
        result = explain(linear, make_video(), 3, score="logit", check=6, **options)
        (report,) = result.metadata["self_check"]["exact"]
        assert report["mean_absolute_error"] < 1e-5 * float(result.scores.abs().max()) + 1e-6
        assert report["correlation"] == pytest.approx(1, abs=1e-6)


def test_check_of_more_tubes_than_there_are_takes_all_and_of_one_has_no_correlation():
    result = explain(make_net(), make_video(), 2, check=1000)
    (report,) = result.metadata["self_check"]["exact"]
    assert sorted(report["tubes"]) == list(range(20))
    (report,) = explain(make_net(), make_video(), 2, check=1).metadata["self_check"]["exact"]
    assert len(report["tubes"]) == 1
    assert report["correlation"] is None
    assert explain(make_net(), make_video(), 2).metadata["self_check"]["exact"] is None
