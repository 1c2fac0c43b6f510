"""AOSA within a time: counts of forwards by a clock that only the model moves."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from aosa_fast import Explanation, InputError, explain
from small_nets import make_net, make_video

ALL = 1e9  # milliseconds


class Slow(nn.Module):
    """A network whose forward takes 10 ms a clip, by the clock of these tests."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.clips, self.now = make_net(scale=20.0), 0, 0.0

    def forward(self, video: Tensor) -> Tensor:
        self.clips += len(video)
        self.now += 0.01 * len(video)
        return self.net(video)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    model = Slow()
    monkeypatch.setattr(time, "perf_counter", lambda: model.now)
    run(model, budget_ms=0)  # what is asked of a model once is asked here
    model.clips = 0
    return model


def run(model: nn.Module, B: int = 1, target: object = "pred", **options: object) -> Explanation:
    return explain(model, make_video(B), target, **{"method": "aosa", "stride": 8, "box": 12, "partners": 0, **options})


def test_all_tubes_make_exact_aosa() -> None:
    model = make_net(scale=20.0)
    exact, found = run(model, B=2), run(model, B=2, budget_ms=ALL)
    assert exact.scores.abs().max() > 0.01
    torch.testing.assert_close(found.scores, exact.scores, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.saliency, exact.saliency, rtol=0, atol=1e-6)
    assert found.exact.all()
    assert not found.standard_error.any()
    assert found.agreement.tolist() == [1.0, 1.0]
    torch.testing.assert_close(found.for_target(2).scores, exact.for_target(2).scores, rtol=0, atol=1e-6)
    assert (exact.exact, exact.standard_error, exact.agreement) == (None, None, None)


@pytest.mark.parametrize("fill", ["mean", "conditional", torch.ones(2, 3, 4, 32, 40)], ids=["mean", "mu", "tensor"])
def test_no_time_leaves_the_signed_first_order(fill: str | Tensor) -> None:
    model = make_net(scale=20.0)
    found = run(model, B=2, budget_ms=0, fill=fill, route="as-is")
    first = run(model, B=2, method="aosa-approx", relu="none", fill=fill, route="as-is")
    assert torch.equal(found.scores, first.scores)
    assert torch.equal(found.saliency, first.saliency)
    assert not found.exact.any()
    assert found.standard_error.isnan().all()
    assert found.agreement.isnan().all()
    none = {"exact_tubes": 0, "tubes": 20, "agreement": None}
    assert found.metadata["self_check"]["budget"] == [none, none]
    with pytest.raises(
        InputError, match=r"^for_target must have exact scores of all tubes; budget_ms=0 left 40 of 40 "
    ):
        found.for_target(1)


# The gradient takes 10 ms, and a batch of four tubes 40; before the first it is taken for 20.
@pytest.mark.parametrize(("budget", "batches"), [(29, 0), (30, 1), (129, 2), (130, 3), (200, 4), (1000, 5)])
def test_a_batch_is_begun_only_where_it_fits(slow: Slow, budget: float, batches: int) -> None:
    start = slow.now
    found = run(slow, budget_ms=budget)
    assert slow.clips == 1 + 4 * batches
    assert found.exact.sum() == 4 * batches
    assert slow.now - start <= budget / 1e3 + 0.04
    assert found.metadata["self_check"]["budget"][0]["exact_tubes"] == 4 * batches


def test_clips_share_the_time(slow: Slow) -> None:
    # 20 ms of gradients, then five batches.
    assert run(slow, B=2, budget_ms=220).exact.sum(1).tolist() == [12, 8]


def test_targets_share_the_forwards(slow: Slow) -> None:
    found = run(slow, target=[0, 1], budget_ms=100)
    assert slow.clips == 1 + 8
    assert torch.equal(found[0].exact, found[1].exact)
    exact = run(slow)
    for k, own in enumerate(found):
        wanted = exact.for_target(k).scores
        known = own.exact
        torch.testing.assert_close(own.scores[known], wanted[known], rtol=0, atol=1e-6)
        assert own.standard_error[~known].gt(0).all()
        assert not own.standard_error[known].any()


def test_answers_bring_the_rest_nearer() -> None:
    model = make_net(scale=20.0)
    wanted = run(model, stride=4).scores[0]

    def miss(found: Explanation) -> float:
        return float((found.scores[0] - wanted)[~found.exact[0]].abs().mean())

    slow = Slow()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: slow.now)
        run(slow, stride=4, budget_ms=0)
        none, some = (run(slow, stride=4, budget_ms=budget) for budget in (0, 250))
    assert some.exact.sum() == 24
    assert miss(some) < 0.5 * miss(none)
    errors = (some.scores[0] - wanted).abs() / some.standard_error[0]
    assert errors[~some.exact[0]].lt(1.96).float().mean() > 0.8


def test_tubes_of_the_same_members_are_asked_once(slow: Slow) -> None:
    found = run(slow, partners=19, budget_ms=ALL)  # of 20 tubes: each is the union of all
    assert slow.clips == 1 + 1
    assert found.exact.all()
    assert len(found.scores[0].unique()) == 1
    torch.testing.assert_close(found.scores, run(slow, partners=19).scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "osa"},
        {"method": "aosa-approx"},
        {"fill": "conditional", "samples": 2},
        {"compat": "authors2022"},
    ],
)
def test_refuses_what_has_no_estimate(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"^budget_ms must come with method=aosa, and without samples and compat; got"):
        run(make_net(), budget_ms=10, **options)


def test_a_model_without_a_gradient_is_refused() -> None:
    net, words = (
        make_net(),
        "budget_ms must have a model with a gradient, which method=aosa without budget_ms needs not",
    )
    with pytest.raises(InputError, match=f"^{words}: model must be differentiable"):
        run(lambda video: net(video.detach()), budget_ms=10)
