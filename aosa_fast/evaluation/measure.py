"""One method on a few clips: its maps, and what every metric says of them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.evaluation.entries import Entry
from aosa_fast.evaluation.journal import Row
from aosa_fast.explanation import Explanation
from aosa_fast.metrics import (
    box_iou,
    box_share,
    causal_metrics,
    energy_pointing,
    find_protocol,
    sanity_check,
    spatial_pointing,
    taylor_error,
)
from aosa_fast.models import Classifier
from aosa_fast.pipeline import explain

if TYPE_CHECKING:
    from aosa_fast.data import Clip, Sample

METRICS = ("deletion", "pointing", "taylor", "sanity")
PROTOCOL_SUFFIXES = {"aosa-28": "", "aosa-28-fill": "_fill"}


@dataclass(frozen=True)
class Settings:
    """What holds for every row.

    Attributes:
        metrics: among `METRICS`: deletion (and insertion, by both protocols), pointing (S-PT, energy and IoU, where
            the data have boxes), taylor (first-order scores against exact ones), sanity (cascade randomisation).
        target: "label", the true class, or "pred", the model's best.
        radius: of the pointing game's disk, pixels.
        taylor_tubes: on how many tubes of each clip the Taylor error is measured.
        block: clips explained together. It is a part of what the values depend on: other batches round differently.
        seed: of the choice of clips, of the intervals, and of the sanity check.
    """

    metrics: tuple[str, ...] = ("deletion", "pointing")
    target: str = "label"
    radius: float = 7.0
    taylor_tubes: int = 32
    block: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise InputError(f"metrics must be among {', '.join(METRICS)}; got {', '.join(unknown) or 'none'}")
        if self.target not in ("label", "pred"):
            raise InputError(f"target must be label or pred; got {self.target}")
        for name, least in (("radius", 0), ("taylor_tubes", 2), ("block", 1), ("seed", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least {least}, and finite; got {getattr(self, name)}")


@dataclass(frozen=True)
class Item:
    """A clip that could be read.

    Attributes:
        sample: where it comes from.
        clip: its pictures and boxes.
        label: the model's index of its true class.
    """

    sample: Sample
    clip: Clip
    label: int | None


def measure(classifier: Classifier, items: Sequence[Item], entry: Entry, settings: Settings) -> list[Row]:
    """Explains some clips with one method, and holds the maps against every metric.

    Args:
        classifier: the model and its preprocessing.
        items: the clips; explained in one batch.
        entry: the method.
        settings: the metrics.

    Returns:
        A row per clip, in plain types.

    Raises:
        InputError: the method cannot explain this model, or these clips.
    """
    pictures = torch.from_numpy(np.stack([item.clip.frames for item in items]))
    target: Any = "pred"
    if settings.target == "label":
        target = torch.tensor([item.label for item in items], device="cpu")
    config = _config(entry, settings)
    start = time.perf_counter()
    found = _explain(classifier, pictures, target, config)
    # The check is a metric, not a part of the method.
    checking = found.metadata["seconds"].get("check", 0.0)
    seconds = (time.perf_counter() - start - checking) / len(items)
    rows = [{**_facts(item, found, b), "method": entry.name, "seconds": seconds} for b, item in enumerate(items)]
    if "deletion" in settings.metrics:
        _causal(rows, classifier, _video(classifier, items), found, config)
    if "pointing" in settings.metrics:
        _pointing(rows, items, found.saliency, settings)
    if "taylor" in settings.metrics and found.metadata["self_check"]["exact"]:
        checks = found.metadata["self_check"]["exact"]
        errors = taylor_error(*(np.array([check[name] for check in checks]) for name in ("approximate", "exact")))
        for b, row in enumerate(rows):
            row["taylor_error"] = _number(errors.relative_error[b])
            row["taylor_correlation"] = _number(errors.pearson[b])
    if "sanity" in settings.metrics:
        _sanity(rows, classifier, _video(classifier, items), found, entry, settings)
    return rows


def _video(classifier: Classifier, items: Sequence[Item]) -> Tensor:
    """(B, 3, T, H, W): the model's input, for the metrics that change it."""
    return torch.cat([classifier.preprocessing.to_input(item.clip.frames) for item in items])


def _config(entry: Entry, settings: Settings) -> Config:
    wanted = "taylor" in settings.metrics and entry.config.record.has_check
    return replace(entry.config, check=settings.taylor_tubes) if wanted else entry.config


def _explain(classifier: Classifier, video: Tensor, target: Any, config: Config) -> Explanation:
    with warnings.catch_warnings():
        # Said of every clip, it would bury the rest; the rows have it as a column.
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


def _causal(rows: list[Row], classifier: Classifier, video: Tensor, found: Explanation, config: Config) -> None:
    # The paper's curves are of the softmax, which models of several labels, or that return probabilities, lack.
    score = "sigmoid" if config.score_name == "sigmoid" else "prob" if found.output == "logits" else "logit"
    results = causal_metrics(
        classifier.network,
        video,
        found.saliency,
        found.target.index,
        protocols=[replace(find_protocol(name), score=score) for name in PROTOCOL_SUFFIXES],
        batch_size=config.batch_size,
        dtype=config.dtype,
    )
    for name, suffix in PROTOCOL_SUFFIXES.items():
        result = results[name]
        for b, row in enumerate(rows):
            row[f"insertion{suffix}"] = float(result.insertion.area[b])
            row[f"overall{suffix}"] = float(result.area[b])
            row[f"insertion{suffix}_curve"] = result.insertion.scores[b].tolist()
    shared = results["aosa-28"].deletion  # the protocols delete alike
    for b, row in enumerate(rows):
        row["curve_score"] = score
        row["deletion"] = float(shared.area[b])
        row["deletion_curve"] = shared.scores[b].tolist()


def _pointing(rows: list[Row], items: Sequence[Item], saliency: Tensor, settings: Settings) -> None:
    for row, item, own in zip(rows, items, saliency, strict=True):
        if item.clip.boxes is None:
            continue
        boxes: list[NDArray[np.int32]] = [item.clip.boxes]
        pointing = spatial_pointing(own[None], boxes, radius=settings.radius)
        row |= {
            "spt_hits": float(pointing.hits[0]),
            "spt_frames": int(pointing.frames[0]),
            "energy": _number(energy_pointing(own[None], boxes)[0]),
            "energy_chance": _number(box_share(own[None], boxes)[0]),
            "iou": _number(box_iou(own[None], boxes)[0]),
        }


def _sanity(
    rows: list[Row], classifier: Classifier, video: Tensor, found: Explanation, entry: Entry, settings: Settings
) -> None:
    def remake(model: Any, clips: Tensor, target: Any) -> Tensor:
        return _explain(replace(classifier, network=model), clips, target, entry.config).saliency

    if not isinstance(classifier.network, nn.Module):
        raise InputError(f"metrics must be without sanity for a {type(classifier.network).__name__}: it has no layers")
    stages = sanity_check(classifier.network, video, found.target.index, remake, seed=settings.seed)
    for b, row in enumerate(rows):
        row["sanity_stages"] = [stage.stage or "trained" for stage in stages]
        row["sanity_spearman"] = [_number(stage.spearman[b]) for stage in stages]
        row["sanity_ssim"] = [_number(stage.ssim[b]) for stage in stages]


def _number(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
