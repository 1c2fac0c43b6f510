from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import small_nets
from aosa_fast import InputError, explain
from aosa_fast.kernels.reference import tube_masks
from aosa_fast.metrics import taylor_error, taylor_error_of
from small_nets import make_video


def make_net() -> nn.Sequential:
    """In training mode, with a layer that shows it."""
    return small_nets.make_net(scale=10).insert(4, nn.Dropout()).train()


def test_numbers_by_hand():
    result = taylor_error([[1.0, 2.0, 0.0, -1.0], [2.0, 4.0, 6.0, 9.0]], np.array([[2, 2, 0, 4], [1, 2, 3, 5]]))
    assert result.tubes == 4
    assert result.mean_absolute_error.tolist() == pytest.approx([(1 + 0 + 0 + 5) / 4, (1 + 2 + 3 + 4) / 4])
    assert result.relative_error.tolist() == pytest.approx([6 / 8, 10 / 11])
    assert result.sign_agreement.tolist() == [0.75, 1.0]
    first, second = np.corrcoef([1, 2, 0, -1], [2, 2, 0, 4])[0, 1], np.corrcoef([2, 4, 6, 9], [1, 2, 3, 5])[0, 1]
    assert result.pearson.tolist() == pytest.approx([first, second])
    # Ranks 3, 4, 2, 1 and 2.5, 2.5, 1, 4: 0 + 0 + (-0.5)(-1.5) + (-1.5)(1.5), over sqrt(5 * 4.5).
    assert result.spearman.tolist() == pytest.approx([-1.5 / 22.5**0.5, 1])


def test_correlations_of_numbers_of_any_size():
    first, second = np.array([1.0, 2, 0, -1]), np.array([2.0, 2, 0, 4])
    expected = float(taylor_error(first, second).pearson)
    assert float(taylor_error(1e-200 * first, 1e200 * second).pearson) == pytest.approx(expected)
    assert float(taylor_error(2.0**52 + first, second).pearson) == pytest.approx(expected)
    many = np.random.default_rng(0).standard_normal((300, 5))  # rounding alone would lead beyond 1
    assert float(taylor_error(many, 3 * many).pearson.max()) <= 1
    assert float(taylor_error(many, -3 * many).pearson.min()) >= -1


def test_what_is_not_defined_is_nan():
    result = taylor_error(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 0.0]))
    assert result.mean_absolute_error.tolist() == [0.5]
    assert result.relative_error.isnan().all()
    assert result.pearson.isnan().all()
    assert result.spearman.isnan().all()
    assert result.sign_agreement.tolist() == [0.0]


def test_against_the_sweep_and_against_masks():
    net, video = make_net(), make_video(2)
    approx = explain(net, video, 3, fill="mean", relu="none")
    exact = explain(net, video, 3, method="aosa", fill="mean")
    assert torch.equal(approx.members, exact.members)
    expected = taylor_error(approx.scores, exact.scores)
    result = taylor_error_of(net, video, approx)
    assert net.training
    assert result.tubes == 20
    for name in ("mean_absolute_error", "relative_error", "pearson", "spearman", "sign_agreement"):
        torch.testing.assert_close(getattr(result, name), getattr(expected, name), atol=1e-6, rtol=1e-4)
    masks = tube_masks(approx.boxes, approx.members, 32, 40)[1]
    net.eval()
    with torch.no_grad():
        probability = net(video[1:]).softmax(1)[0, 3]
        drops = [probability - net(video[1:].masked_fill(mask, 0.0)).softmax(1)[0, 3] for mask in masks]
    error = (torch.stack(drops) - approx.scores[1]).abs().mean()
    assert float(result.mean_absolute_error[1]) == pytest.approx(float(error), rel=1e-4)
    assert 0.05 < float(result.relative_error[1]) < 5


def test_exact_scores_and_linear_models_have_no_error():
    net, video = make_net(), make_video()
    own = taylor_error_of(net, video, explain(net, video, 1, method="aosa", score="logit"))
    assert float(own.relative_error) < 1e-6
    torch.manual_seed(1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(video[0].numel(), 4))
    for options in ({"relu": "none"}, {"method": "aosa-path"}, {"relu": "none", "fill": "blur"}):
        result = taylor_error_of(linear, video, explain(linear, video, 3, score="logit", **options), tubes=7)
        assert result.tubes == 7
        assert float(result.relative_error) < 1e-4
        assert float(result.pearson) == pytest.approx(1, abs=1e-6)
    relu = taylor_error_of(linear, video, explain(linear, video, 3, score="logit"))
    assert float(relu.relative_error) > 0.5


def test_a_black_fill_needs_the_normalisation():
    net, video = make_net(), make_video()
    norm = {"mean": [0.4, 0.45, 0.5], "std": [0.2, 0.25, 0.3]}
    explanation = explain(net, video, 1, method="aosa", fill="black", **norm)
    assert float(taylor_error_of(net, video, explanation, **norm).relative_error) < 1e-6
    with pytest.raises(InputError, match=r"^fill=black must come with the mean and std"):
        taylor_error_of(net, video, explanation)


@pytest.mark.parametrize(
    ("approximate", "exact", "message"),
    [
        (
            torch.zeros(2, 3),
            torch.zeros(2, 4),
            r"^approximate and exact must have one shape; got \(2, 3\) and \(2, 4\)$",
        ),
        (torch.zeros(2, 0), torch.zeros(2, 0), r"^approximate must have shape \(B, N\) or \(N,\), .*; got \(2, 0\)$"),
        (torch.zeros(2, 3), torch.tensor([[0, torch.inf, 0]] * 2), r"^exact must be finite; got NaN or infinity$"),
    ],
    ids=["shapes", "no tubes", "infinite"],
)
def test_bad_scores_get_one_line(approximate, exact, message):
    with pytest.raises(InputError, match=message):
        taylor_error(approximate, exact)


def test_explanations_without_tubes_or_of_other_clips():
    net, video = make_net(), make_video()
    explanation = explain(net, video, 1)
    with pytest.raises(InputError, match=r"^explanation must be of these clips; got maps \(1, 4, 32, 40\) for a video"):
        taylor_error_of(net, make_video(2), explanation)
    explanation.scores = explanation.scores[:, :0]
    with pytest.raises(InputError, match=r"^explanation must have tubes; method=aosa-approx has none$"):
        taylor_error_of(net, video, explanation)
