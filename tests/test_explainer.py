"""A warm explainer: the maps of `explain`, by the way that was measured to be the fastest of those that are right."""

from __future__ import annotations

import dataclasses
import gc
import os
import threading

import pytest
import torch
from torch import Tensor, nn

from aosa_fast import Explainer, InputError, explain, models
from small_nets import make_net, make_video


@pytest.mark.parametrize("method", ["aosa-approx", "aosa", "aosa-path", "osa", "grad-cam", "random"])
def test_maps_are_those_of_explain_with_the_same_choices(method):
    classifier = models.load("demo")
    pictures = torch.randint(256, (1, 16, 80, 72, 3), dtype=torch.uint8)
    options = {"stride": 32, "box": 9} | ({"cuboid_area": 0.2, "cuboid_step": 16} if method == "osa" else {})
    with Explainer(classifier, method=method, **options) as explainer:
        found = explainer.warmup(pictures)
        ours = explainer(pictures, target=[2, "pred"])
        plain = explain(classifier, pictures, [2, "pred"], config=explainer.config)
    assert explainer.config.route == found.route != "auto"
    assert found.route in {way.route for way in found.tried}
    for one, other in zip(ours, plain, strict=True):
        assert torch.equal(one.saliency, other.saliency)
        assert torch.equal(one.scores, other.scores)


def test_what_was_tried_is_said():
    with Explainer(models.load("demo"), clips=2) as explainer:
        lines = str(explainer.warmup()).splitlines()
    found = explainer.found
    assert found.batch_size in (1, 2)
    assert lines[0] == (
        f"{found.route}, in batches of {found.batch_size}: the fastest forward and backward that gives the same scores"
    )
    assert len(lines) == 1 + len(found.tried)
    assert {way.route for way in found.tried} == {"as-is", "onednn", "folded"}
    taken = [way for way in found.tried if (way.route, way.batch) == (found.route, found.batch_size)]
    assert taken[0].milliseconds == min(way.milliseconds for way in found.tried)


class Wrong(nn.Module):
    """Answers otherwise as soon as it is copied, as by folding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv3d(3, 8, 3, (1, 3, 3)), nn.BatchNorm3d(8), nn.ReLU())
        self.head = nn.Linear(8, 5)
        self.factor = 1.0

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.body(video).mean((2, 3, 4))) * self.factor

    def __deepcopy__(self, memo: object) -> Wrong:
        other = Wrong().eval()
        other.factor = 1.5
        return other


def test_a_way_that_gives_other_scores_is_refused():
    with Explainer(Wrong().eval(), frames=4, size=32) as explainer:
        found = explainer.warmup()
    refused = {way.route: way for way in found.tried if way.remark}
    assert found.route != "folded"
    # It is only looked at where it would be the fastest.
    assert set(refused) <= {"folded"}
    assert all(way.difference > 0.1 and way.remark.startswith("refused: ") for way in refused.values())


def test_several_threads_get_their_own_maps():
    net, clips = make_net(), [make_video(seed=seed) for seed in range(6)]
    found: dict[int, Tensor] = {}
    with Explainer(net, frames=4, size=(32, 40)) as explainer:
        explainer.warmup()
        alone = [explainer(clip).saliency for clip in clips]

        def call(place: int) -> None:
            for _ in range(3):
                found[place] = explainer(clips[place]).saliency

        threads = [threading.Thread(target=call, args=(place,)) for place in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(found[place], alone[place]) for place in range(6))


def test_nothing_piles_up():
    with Explainer(make_net(), frames=4, size=(32, 40)) as explainer:
        explainer.warmup()
        clip = make_video()

        def held() -> tuple[int, int, int]:
            gc.collect()
            tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
            return tensors, len(os.listdir("/proc/self/fd")), threading.active_count()

        explainer(clip)
        before = held()
        for _ in range(20):
            explainer(clip)
        after = held()
        assert after[:2] == before[:2]
        assert after[2] <= before[2] + 1  # the pool has two threads, and starts the other where the first is still busy


def test_a_clip_and_its_shape_are_known_or_asked_for():
    net = make_net()
    with Explainer(net) as explainer, pytest.raises(InputError, match=r"^frames and size must be given, or a clip to"):
        explainer.warmup()
    with Explainer(net) as explainer:
        explainer.warmup(make_video())
    with pytest.raises(InputError, match=r"^clips must be at least 1; got 0$"):
        Explainer(net, clips=0)


def test_a_way_and_a_batch_that_are_given_are_taken():
    with Explainer(make_net(), frames=4, size=32, route="as-is", batch_size=3, method="aosa") as explainer:
        found = explainer.warmup()
    assert [dataclasses.astuple(way)[:2] for way in found.tried] == [("as-is", 3)]
    assert (found.route, found.batch_size) == ("as-is", 3)
