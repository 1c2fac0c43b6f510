"""Metrics against their definitions, written down with NumPy and SciPy, on any maps and boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from aosa_fast import Config, explain, metrics
from drawn import boxes_in, maps, order_of
from small_nets import make_net, make_video


class Sum(nn.Module):
    """Two logits: the sum of all voxels, times `slope`, and 0."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, video: Tensor) -> Tensor:
        total = self.slope * video.flatten(1).sum(1)
        return torch.stack([total, torch.zeros_like(total)], 1)


@given(maps().flatmap(lambda map: st.tuples(st.just(map), boxes_in(map.shape))), st.integers(0, 4))
def test_pointing(drawn: tuple[np.ndarray, np.ndarray], radius: int) -> None:
    saliency, boxes = drawn
    inside = np.zeros(saliency.shape, bool)
    for t, m in np.ndindex(boxes.shape[:2]):
        x0, y0, x1, y1 = boxes[t, m]
        inside[t, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    annotated = np.flatnonzero(inside.any((1, 2)))
    hits = 0.0
    for t in annotated:
        there = np.argwhere(inside[t])
        maxima = np.argwhere(saliency[t] == saliency[t].max())
        near = [min(((there - place) ** 2).sum(1)) <= radius**2 for place in maxima]
        hits += np.mean(near)
    found = metrics.spatial_pointing(saliency, boxes, radius=radius)
    assert isinstance(found, metrics.Pointing)
    assert found.hits.tolist() == [pytest.approx(hits)]
    assert found.frames.tolist() == [len(annotated)]
    assert metrics.pool_pointing(found.hits.tolist(), found.frames.tolist())[0] == pytest.approx(
        found.micro, nan_ok=True
    )
    kept, there = saliency[annotated].astype(np.float64), inside[annotated]
    positive = np.maximum(kept, 0)
    shares = {
        metrics.energy_pointing: (positive[there].sum(), positive.sum()),
        metrics.box_mass: (kept[there].sum(), np.abs(kept).sum()),
        metrics.box_share: (there.sum(), there.size),
    }
    for function, (part, whole) in shares.items():
        assert function(saliency, boxes).item() == pytest.approx(part / whole if whole else np.nan, nan_ok=True)
    chosen = np.zeros(kept.size, bool)
    chosen[np.argsort(-kept.ravel(), kind="stable")[: there.sum()]] = True
    both = (chosen & there.ravel()).sum()
    expected = both / (2 * there.sum() - both) if there.any() else np.nan
    assert metrics.box_iou(saliency, boxes).item() == pytest.approx(expected, nan_ok=True)


@given(maps(), st.randoms(use_true_random=False))
def test_similarity(first: np.ndarray, random: object) -> None:
    second = first.ravel()[order_of(first.size, random)].reshape(first.shape)
    with np.errstate(all="ignore"):
        expected = np.nan if np.ptp(first) == 0 else stats.spearmanr(first.ravel(), second.ravel()).statistic
    assert metrics.spearman(first, second).item() == pytest.approx(expected, nan_ok=True, abs=1e-9)
    assert metrics.spearman(first, np.arctan(second)).item() == pytest.approx(expected, nan_ok=True, abs=1e-9)
    if min(first.shape[1:]) >= 3 and np.ptp(first) > 0:
        assert metrics.ssim(first, first).item() == pytest.approx(1)
        assert metrics.ssim(first, second).item() == pytest.approx(metrics.ssim(second, first).item())
        assert -1 <= metrics.ssim(first, second).item() <= 1


@given(
    st.lists(
        st.tuples(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0]), st.floats(-4, 4, width=32)), min_size=1, max_size=9
    )
)
def test_errors_of_first_order_scores(scores: list[tuple[float, float]]) -> None:
    exact, approximate = np.array(scores).T
    found = metrics.taylor_error(approximate, exact)
    assert isinstance(found, metrics.TaylorError)
    size, error = np.abs(exact).mean(), np.abs(approximate - exact).mean()
    assert found.mean_absolute_error.item() == pytest.approx(error)
    assert found.relative_error.item() == pytest.approx(error / size if size else np.nan, nan_ok=True)
    assert found.sign_agreement.item() == pytest.approx((np.sign(exact) == np.sign(approximate)).mean())
    assert metrics.taylor_error(exact, exact).mean_absolute_error.item() == 0


@given(maps(), st.integers(2, 12), st.floats(-0.25, 0.25, width=32), st.sampled_from(sorted(metrics.PROTOCOLS)))
@settings(max_examples=10)
def test_curves_of_a_model_that_adds_up(saliency: np.ndarray, steps: int, slope: float, name: str) -> None:
    protocol = replace(metrics.find_protocol(name), name="drawn", steps=steps)
    assert isinstance(protocol, metrics.Protocol)
    video, model = torch.rand(1, 2, *saliency.shape), Sum(slope)
    found = metrics.overall(model, video, saliency, 0, protocol=protocol)
    assert isinstance(found, metrics.Overall)
    for curve, alone in [(found.insertion, metrics.insertion), (found.deletion, metrics.deletion)]:
        assert isinstance(curve, metrics.Curve)
        assert torch.equal(curve.scores, alone(model, video, saliency, 0, protocol=protocol).scores)
        scores = curve.scores[0].double()
        # Voxels are positive: the score rises or falls all the way, as the slope says, whatever the map.
        steps_up = scores.diff() * np.sign(slope) * (1 if curve is found.insertion else -1)
        assert curve is found.insertion or bool((steps_up >= -1e-6).all())
        assert curve.area.item() == pytest.approx(((scores[1:] + scores[:-1]) / 2).mean().item(), abs=1e-6)
    clean = torch.softmax(model(video), 1)[0, 0].item()
    assert found.deletion.scores[0, 0].item() == pytest.approx(clean, abs=1e-6)
    assert found.deletion.scores[0, -1].item() == pytest.approx(0.5, abs=1e-6)
    assert found.insertion.scores[0, -1].item() == pytest.approx(clean, abs=1e-6)
    assert found.area.item() == pytest.approx(found.insertion.area.item() - found.deletion.area.item(), abs=1e-6)
    several = metrics.causal_metrics(model, video, saliency, 0, protocols=(protocol, *metrics.PROTOCOLS))
    assert torch.equal(several["drawn"].area, found.area)
    assert list(several) == ["drawn", *metrics.PROTOCOLS]


@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 99))
@settings(max_examples=8)
def test_scores_of_a_linear_model_have_no_error(tubes: int, partners: int, seed: int) -> None:
    torch.manual_seed(seed)
    model, video = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 8 * 8, 3)).eval(), torch.randn(2, 3, 4, 8, 8)
    flow = torch.zeros(2, 3, 8, 8, 2)
    config = Config(method="aosa-path", score="logit", stride=4, box=4, partners=partners, steps=1)
    explanation = explain(model, video, 1, config=config, flow=flow, frames=torch.zeros(2, 4, 8, 8, 3).byte())
    found = metrics.taylor_error_of(model, video, explanation, tubes=min(tubes, 4))
    assert found.mean_absolute_error.max() < 1e-5


@given(st.integers(0, 5), st.sampled_from([1, -1]))
@settings(max_examples=4)
def test_a_map_that_does_not_ask_the_model_passes_no_sanity_check(seed: int, sign: int) -> None:
    model, video = make_net(), make_video(T=2)
    before = [parameter.clone() for parameter in model.parameters()]
    names = metrics.default_stages(model)
    stages = metrics.sanity_check(model, video, 1, lambda network, clip, target: sign * clip[:, 0], seed=seed)
    assert all(isinstance(stage, metrics.SanityStage) for stage in stages)
    assert [stage.stage for stage in stages] == ["", *names]
    assert all(stage.spearman.item() == pytest.approx(1) for stage in stages)
    assert all(map(torch.equal, before, model.parameters()))
