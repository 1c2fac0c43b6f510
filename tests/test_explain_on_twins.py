"""A whole explanation by the Triton twins in the interpreter, against the one by the CPU's operators."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("triton")

from aosa_fast import explain, pipeline
from small_nets import make_net

TWINS = {
    "farneback": ["farneback"],
    "field": ["conditional_mean", "field_scores"],
    "occlude": ["occlude", "occlude_sampled"],
    "partners": ["select_partners"],
    "pictures": ["grey_frames", "normalize_frames"],
    "saliency_map": ["saliency_map"],
    "tracking": ["rasterize_boxes", "track_anchors"],
}
for module in TWINS:  # before a fixture puts those that are imported on a GPU
    importlib.import_module(f"aosa_fast.kernels.{module}_triton")
# More pieces than a union may have members.
LABELS = torch.randint(0, 3, (3, 33, 40), generator=torch.Generator().manual_seed(2))
LABELS[:, 8:] = 0
# Motion that differs from place to place.
FLOW = 3 * torch.randn(1, 2, 33, 40, 2, generator=torch.Generator().manual_seed(1)).cumsum(2).div(6)


class Inline:
    """Runs the flow before the model, not beside it: Triton's interpreter knows one thread."""

    def __init__(self, workers: int) -> None: ...

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *error: object) -> None: ...

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function())
        return done


def run(**options: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    shades = torch.rand(1, 3, 1, 12, 14, generator=generator)
    picture = nn.functional.interpolate(shades, size=(1, 40, 52), mode="trilinear")[0, :, 0]
    pictures = torch.stack([picture[:, t : t + 33, 2 * t : 2 * t + 40] for t in range(3)]).permute(0, 2, 3, 1)
    pictures = (255 * pictures).to(torch.uint8)[None]
    net = make_net(5)
    options = {"stride": 8, "box": 9, "score": "logit"} | options
    return explain(net, pictures, 2, mean=[0.4] * 3, std=[0.2] * 3, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "aosa", "flow": FLOW},
        {"method": "aosa", "flow": FLOW, "fill": "conditional", "samples": 2, "radius": 1, "stride": 16},
        {"segments": LABELS},
        {"segments": LABELS, "method": "aosa"},
        {"method": "aosa-path", "flow": FLOW, "aggregate": "mean", "reseed": 2, "partners_rule": "motion-aware"},
    ],
    ids=["approx", "exact", "sampled", "masks", "masks-exact", "path"],
)
def test_the_twins_explain_alike(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(**options)
    called: set[str] = set()
    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", Inline)
    for module, names in TWINS.items():
        twins = importlib.import_module(f"aosa_fast.kernels.{module}_triton")
        for name in names:
            function = getattr(twins, name)

            def twin(*arguments: Any, name: str = name, function: Any = function) -> Any:
                called.add(name)
                return function(*arguments)

            monkeypatch.setattr(importlib.import_module(f"aosa_fast.kernels.{module}"), f"_{name}", twin)
    result = run(**options)
    follows = set() if "segments" in options else {"track_anchors", "rasterize_boxes", "select_partners"}
    assert {"normalize_frames", "saliency_map"} | follows < called
    assert ("farneback" in called) == ("flow" not in options and "segments" not in options)  # it takes seconds
    assert expected.tracks.diff(dim=2).abs().max() > 0.5 or not follows
    torch.testing.assert_close(result.tracks, expected.tracks, rtol=0, atol=1e-3)
    assert torch.equal(result.members, expected.members)
    assert torch.equal(result.boxes, expected.boxes)
    assert torch.equal(result.coverage, expected.coverage)
    for name in ("scores", "saliency"):
        ours, theirs = getattr(result, name), getattr(expected, name)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))
