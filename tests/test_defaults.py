"""torch's default device and dtype are for what the caller makes: they change no result."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from aosa_fast import Explanation, explain, metrics
from aosa_fast.methods.registry import METHODS
from aosa_fast.models import load

SETTINGS = {"attention-rollout": {}, "legrad": {}, "step": {"steps": 2}, "smoothgrad": {"noise_samples": 2}}
MODELS = dict.fromkeys(("attention-rollout", "legrad"), "demo-attention")


@pytest.fixture(params=["meta", "float64"])
def other_defaults(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "meta":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def pictures(count: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 16, 64, 64, 3), dtype=np.uint8))


def explained(method: str) -> Explanation:
    model, settings = load(MODELS.get(method, "demo")), SETTINGS.get(method, {"stride": 16, "check": 0})
    count = 1 + METHODS[method].whole_batch
    return explain(model, pictures(count), "pred", method=method, **settings)


@pytest.fixture(scope="module")
def usual() -> dict[str, Explanation]:
    return {method: explained(method) for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_maps(method: str, usual: dict[str, Explanation], other_defaults: None) -> None:
    found, expected = explained(method), usual[method]
    assert found.saliency.dtype == torch.float32
    for name in ("saliency", "scores", "coverage", "logits", "boxes"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


OPTIONS = {
    "check": {"method": "aosa-approx", "check": 2},
    "flow": {"flow": np.zeros((2, 15, 64, 64, 2), np.float32)},
    "compat": {"method": "aosa-approx", "compat": "authors2022"},
    "difference": {"method": "gradient"},
    "samples": {"method": "aosa", "fill": "conditional", "samples": 2, "stride": 32},
    "budget": {"method": "aosa", "budget_ms": 1e9, "stride": 32},
    "blur": {"fill": "blur"},
    "black": {"fill": "black"},
    "partners": {"partners_rule": "motion-aware", "reseed": 4},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str, other_defaults: None) -> None:
    found = explain(load(), pictures(2), [1, "pred"], **{"stride": 16, **OPTIONS[name]})
    assert all(one.saliency.device.type == "cpu" for one in found)
    assert all(torch.isfinite(one.saliency).all() for one in found)


def test_metrics(usual: dict[str, Explanation], other_defaults: None) -> None:
    model, found = load(), usual["aosa"]
    video, saliency = model.preprocessing.to_input(pictures()[0].numpy()), found.saliency
    curves = metrics.overall(model.network, video, saliency, found.target.index, protocol="aosa-28-fill")
    boxes = np.tile(np.array([8, 8, 40, 40]), (1, 16, 1, 1))
    values = [
        curves.area, metrics.spearman(saliency, saliency), metrics.ssim(saliency, saliency),
        metrics.energy_pointing(saliency, boxes), metrics.box_share(saliency, boxes), metrics.box_iou(saliency, boxes),
        metrics.spatial_pointing(saliency, boxes, radius=4.0).hits,
        metrics.taylor_error(found.scores, found.scores).spearman,
    ]  # fmt: skip
    assert all(np.isfinite(np.asarray(value)).all() for value in values)
    stages = metrics.sanity_check(model.network, video, "pred", lambda network, clips, target: clips.sum(1))
    assert all(torch.isfinite(stage.saliency).all() for stage in stages)
