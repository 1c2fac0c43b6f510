"""One method on a few clips: its maps, and what every metric says of them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.evaluation.entries import Entry
from aosa_fast.evaluation.metrics import DEFAULT_METRICS, METRICS, Row
from aosa_fast.explanation import Explanation
from aosa_fast.models import Classifier
from aosa_fast.pipeline import explain
from aosa_fast.registry import import_object

if TYPE_CHECKING:
    from aosa_fast.data.dataset import Clip, Part, Sample


@dataclass(frozen=True)
class Settings:
    """What holds for every row.

    Attributes:
        metrics: names of `METRICS`.
        target: "label", the true class, or "pred", the model's best.
        radius: of the pointing game's disk, pixels.
        taylor_tubes: on how many tubes of each clip the Taylor error is measured.
        block: clips explained together. It is a part of what the values depend on: other batches round differently.
        seed: of the choice of clips, of the intervals, and of the sanity check.
        judge: spec of the network that deletion and insertion ask instead of the explained one; "" for none. A twin
            that was fine-tuned with random masks has seen clips with holes, so what a hole does to its score is what is
            missing, not how strange it looks (the idea of F-Fidelity, arXiv 2410.02970).
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    target: str = "label"
    radius: float = 7.0
    taylor_tubes: int = 32
    block: int = 4
    seed: int = 0
    judge: str = ""

    def __post_init__(self) -> None:
        for name in self.metrics or ("none",):
            METRICS.find(name)
        if self.target not in ("label", "pred"):
            raise InputError(f"target must be label or pred; got {self.target}")
        if self.judge and "deletion" not in self.metrics:
            raise InputError(f"judge must come with deletion among the metrics; got {', '.join(self.metrics)}")
        for name, least in (("radius", 0), ("taylor_tubes", 2), ("block", 1), ("seed", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least {least}, and finite; got {getattr(self, name)}")


@dataclass(frozen=True)
class Item:
    """A clip that could be read: where it comes from, its pictures and boxes, and the model's index of its class."""

    sample: Sample
    clip: Clip
    label: int | None

    @cached_property
    def parts(self) -> Sequence[Part]:
        """What the clip is rendered from, made once for all methods; nothing of a clip that is not rendered."""
        return self.clip.parts() if self.clip.parts else ()


@dataclass(frozen=True, eq=False)
class Explained:
    """What a metric is given: some clips, and the maps that one method made of them.

    Attributes:
        classifier: the model.
        items: the clips, explained in one batch.
        entry: the method.
        settings: of the evaluation.
        found: the maps.
        judge: the network that deletion and insertion ask.
    """

    classifier: Classifier
    items: Sequence[Item]
    entry: Entry
    settings: Settings
    found: Explanation
    judge: Classifier

    @property
    def video(self) -> Tensor:
        """(B, 3, T, H, W): the model's input, for the metrics that change it."""
        return torch.cat([self.classifier.preprocessing.to_input(item.clip.frames) for item in self.items])


def measure(
    classifier: Classifier, items: Sequence[Item], entry: Entry, settings: Settings, judge: Classifier | None = None
) -> list[Row]:
    """Explains some clips with one method, and holds the maps against every metric: a row per clip.

    Raises:
        InputError: the method cannot explain this model, or these clips.
    """
    metrics = [metric for name, metric in METRICS.items() if name in settings.metrics]
    config = entry.config
    if any(metric.checks for metric in metrics) and config.record.has_check:
        config = replace(config, check=settings.taylor_tubes)
    target: Any = "pred"
    if settings.target == "label":
        target = torch.tensor([item.label for item in items], device="cpu")
    start = time.perf_counter()
    found = explain_quietly(classifier, stack_pictures(items), target, config)
    # The check is a metric, not a part of the method.
    seconds = (time.perf_counter() - start - found.metadata["seconds"].get("check", 0.0)) / len(items)
    rows = [{**_facts(item, found, b), "method": entry.name, "seconds": seconds} for b, item in enumerate(items)]
    explained = Explained(classifier, items, entry, settings, found, judge or classifier)
    for metric in metrics:
        known = {column.key for column in metric.columns}
        for row, more in zip(rows, import_object(metric.measure)(explained), strict=True):
            assert more.keys() <= known, f"{metric.name} must have a column for {more.keys() - known}"
            row |= more
    return rows


def stack_pictures(items: Sequence[Item]) -> Tensor:
    """(B, T, H, W, 3) uint8: what is explained."""
    return torch.from_numpy(np.stack([item.clip.frames for item in items]))


def explain_quietly(classifier: Classifier, video: Tensor, target: Any, config: Config) -> Explanation:
    """`explain`, without what it would say of every clip and rows have as a column: it would bury the rest."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the explained class has probability")
        return explain(classifier, video, target, config=config)


def _facts(item: Item, found: Explanation, b: int) -> Row:
    return {
        "clip": item.sample.id,
        "path": item.sample.path,
        "label": item.label,
        "status": "ok",
        "error": None,
        "target": int(found.target.index[b]),
        "probability": found.metadata["probability"][b],
        "prediction": int(found.logits[b].argmax()),
        "saturated": found.metadata["self_check"]["saturated"][b],
        "looped_frames": item.clip.looped,
        "damaged_packets": item.clip.damaged,
    }
