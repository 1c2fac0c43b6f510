from __future__ import annotations

import pytest
import torch
from torch import nn

from aosa_fast import AOSA, AOSAApprox, AOSADual, AOSAPath, InputError, explain

KINDS = {"aosa": AOSA, "aosa-approx": AOSAApprox, "aosa-path": AOSAPath, "aosa-dual": AOSADual}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, (1, 3, 3), 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 6)
    )


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    return torch.randn(2, 3, 4, 32, 40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("target", [3, [3, 1], torch.tensor([3, 1]), torch.tensor(3)], ids=str)
def test_gives_the_map_on_every_channel(method, target, net, inputs):
    attributor = KINDS[method](net, stride=12, score="logit")
    result = attributor.attribute(inputs, target)
    classes = torch.tensor(target) if isinstance(target, list) else target
    expected = explain(net, inputs, classes, method=method, stride=12, score="logit")
    assert (result.shape, result.dtype, result.device) == (inputs.shape, inputs.dtype, inputs.device)
    assert result.is_contiguous()
    for c in range(3):
        assert torch.equal(result[:, c], expected.saliency)
    assert attributor.explanation is not None
    assert torch.equal(attributor.explanation.scores, expected.scores)
    assert float(result.abs().max()) > 0


@pytest.mark.parametrize("method", KINDS)
def test_baselines_are_the_fill(method, net, inputs):
    attributor = KINDS[method](net)
    pattern = torch.linspace(-1, 1, 40)
    for baselines, fill in (
        (0, torch.zeros(1)),
        (0.7, torch.tensor(0.7)),
        (pattern, pattern),
        (inputs + 1, inputs + 1),
    ):
        expected = explain(net, inputs, 2, method=method, fill=fill)
        assert torch.equal(attributor.attribute(inputs, 2, baselines=baselines)[:, 0], expected.saliency)
    default = explain(net, inputs, 2, method=method)
    assert torch.equal(attributor.attribute(inputs, target=2)[:, 1], default.saliency)


def test_steps_and_further_arguments_arrive(net, inputs):
    flow = torch.zeros(2, 3, 32, 40, 2)
    result = AOSAPath(net, steps=3).attribute(inputs, 1, flow=flow)
    expected = explain(net, inputs, 1, method="aosa-path", steps=3, flow=flow)
    assert torch.equal(result[:, 0], expected.saliency)
    assert not torch.equal(result, AOSAPath(net, steps=4).attribute(inputs, 1, flow=flow))


def test_bad_choices_are_refused(net, inputs):
    with pytest.raises(TypeError, match="strides"):
        AOSA(net, strides=3)
    with pytest.raises(InputError, match=r"^stride must be at least 1; got 0$"):
        AOSA(net, stride=0)
    with pytest.raises(InputError, match=r"^fill must broadcast to \(2, 3, 4, 32, 40\); got \(7,\)$"):
        AOSA(net).attribute(inputs, 0, baselines=torch.zeros(7))
    with pytest.raises(InputError, match=r"^target must be integer class indices; got torch.float32$"):
        AOSA(net).attribute(inputs, [0.5, 1.0])
