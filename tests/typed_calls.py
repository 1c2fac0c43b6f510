"""Calls that type checkers must take, and calls that they must refuse: `make check` runs mypy on this file.

Each `type: ignore` names the error that is wanted; where there is none, mypy says that the comment is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from torch import Tensor, nn

import aosa_fast
from aosa_fast import Comparison, Config, Difference, Explainer, Explanation
from aosa_fast.models import Classifier, Preprocessing, load


def calls_that_work(net: nn.Module, video: Tensor, pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """One target, one explanation; a list of them, a list; files have a start, and clips have frames."""
    own = Preprocessing(16, 2, 128, (112, 112), (0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
    assert_type(aosa_fast.explain("demo", "clip.mp4"), Explanation)
    assert_type(aosa_fast.explain(load(), Path("clip.mp4"), start=2.5), Explanation)
    assert_type(aosa_fast.explain(net, "clip.mp4", "pred", preprocessing=own, start="center"), Explanation)
    assert_type(aosa_fast.explain(net, "clip.mp4", ["pred", 3], preprocessing=own), list[Explanation])
    assert_type(aosa_fast.explain(Classifier(net, own), pictures, [3, Difference(3, 7)]), list[Explanation])
    assert_type(aosa_fast.explain(net, pictures, 3, mean=(0.45,), std=(0.225,)), Explanation)
    assert_type(aosa_fast.explain(net, video, 3, frames=pictures, flow="dis-fast"), Explanation)
    assert_type(aosa_fast.explain(lambda clips: clips.mean((2, 3, 4)), video, torch.tensor([1])), Explanation)
    assert_type(aosa_fast.explain(net, video, config=Config(method="aosa"), stride=4, box=(16, 24)), Explanation)
    assert_type(aosa_fast.explain(net, video, method="step", areas=(0.05, 0.1), score="logit", fill=None), Explanation)
    with Explainer(net, preprocessing=own, method="aosa", flow="farneback", budget_ms=80) as explainer:
        explainer.warmup("clip.mp4", progress=True)
        assert_type(explainer("clip.mp4", start=12, progress=False), Explanation)
        assert_type(explainer(video, [1, 2], frames=pictures), list[Explanation])
    attributor = aosa_fast.AOSAApprox(net, stride=4, relu="none", flow="farneback")
    assert_type(attributor.attribute(video, [3, 1], 0.5, additional_forward_args=video), Tensor)
    assert_type(attributor.attribute((video, video), "pred", (0.5, None), flow="dis-fast"), tuple[Tensor, ...])
    assert_type(
        aosa_fast.compare(net, pictures, "aosa", Difference(3, 7), mean=(0.45,), std=(0.225,)).sheet().ndim, int
    )
    found = aosa_fast.compare("demo", Path("clip.mp4"), ["aosa", "grad-cam"], start=2.5, stride=4, fill="blur")
    assert_type(found, Comparison[Explanation])
    assert_type(found.explanations["aosa"].compare([found.explanations["grad-cam"]]), Comparison[Explanation])
    aosa_fast.explain(net, video, progress=lambda done, total: print(done / total))  # noqa: T201


def calls_that_do_not(net: nn.Module, video: Tensor) -> None:
    """An option that there is not, a value of another type or not among its choices, what belongs to files only."""
    aosa_fast.explain(net, video, strid=4)  # type: ignore[call-overload]
    aosa_fast.explain(net, video, stride="4")  # type: ignore[call-overload]
    aosa_fast.explain(net, video, score="probability")  # type: ignore[call-overload]
    aosa_fast.explain(net, video, start=2.5)  # type: ignore[call-overload]
    aosa_fast.explain(net, "clip.mp4", frames=video)  # type: ignore[call-overload]
    aosa_fast.explain(net, [video])  # type: ignore[call-overload]
    aosa_fast.explain(net, video, 0.5)  # type: ignore[call-overload]
    aosa_fast.explain(net, video, progress="bar")  # type: ignore[call-overload]
    aosa_fast.explain(3, video)  # type: ignore[call-overload]
    aosa_fast.explain(net, video, "pred", 4)  # type: ignore[call-overload]
    Explainer(net, strid=4)  # type: ignore[call-arg]
    Explainer(net, dtype="float16")  # type: ignore[arg-type]
    Explainer(net)(video, start=2.5)  # type: ignore[call-overload]
    aosa_fast.AOSA(net, strid=4)  # type: ignore[call-arg]
    aosa_fast.AOSA(net).attribute([video], 3)  # type: ignore[call-overload]
    one: list[Explanation] = aosa_fast.explain(net, video, 3)  # type: ignore[assignment]
    several: Explanation = aosa_fast.explain(net, video, [3])  # type: ignore[assignment]
    del one, several
