"""What a method is asked, and what it answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.call import Model
from aosa_fast.inference.timing import Timings
from aosa_fast.methods.inputs import Values
from aosa_fast.methods.tubes import Tubes
from aosa_fast.progress import Progress
from aosa_fast.targets import ResolvedTarget, Target, resolve_target, target_of_clips


@dataclass(frozen=True)
class Job:
    """What is asked of a method: `explain`'s arguments, checked."""

    model: Model
    video: Tensor
    targets: list[Target]
    config: Config
    mean: Values | None
    std: Values | None
    names: tuple[str, ...] | None
    progress: Progress | None
    timings: Timings
    start: float = field(default_factory=time.perf_counter)  # of the whole call, what a budget counts from

    def resolve(self, logits: Tensor, part: tuple[int, int] | None = None) -> list[ResolvedTarget]:
        """The class indices of every target, given the clean clips' logits (B, n_classes).

        With `part`, (begin, end), of these clips alone: `logits` are theirs, and a target's tensor is cut.
        """
        begin, end = part or (0, len(self.video))
        wanted = [target_of_clips(target, begin, end, len(self.video)) for target in self.targets]
        return [resolve_target(target, logits, self.names) for target in wanted]


@dataclass(frozen=True)
class Result:
    """What a method finds for one target; shapes as in `Explanation`."""

    target: ResolvedTarget
    tubes: Tubes
    scores: Tensor
    saliency: Tensor
    coverage: Tensor
    logits: Tensor
    samples: Tensor | None = None
    relevance: Tensor | None = None
    check: list[dict[str, Any]] | None = None
    detail: list[str] | None = None
    exact: Tensor | None = None
    errors: Tensor | None = None

    def to(self, device: torch.device) -> Result:
        """Every tensor on `device`, but for the target's indices."""
        names = ("scores", "saliency", "coverage", "logits", "samples", "relevance", "exact", "errors")
        moved: dict[str, Any] = {name: None if (t := getattr(self, name)) is None else t.to(device) for name in names}
        return replace(self, tubes=self.tubes.to(device), **moved)
