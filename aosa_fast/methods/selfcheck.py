"""What every explanation says about its own trustworthiness."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import Model
from aosa_fast.methods.sweep import occlusion_sweep
from aosa_fast.methods.tubes import Tubes
from aosa_fast.targets import ResolvedTarget, probabilities

SATURATED = 0.999
PROBABILITIES = ("prob", "sigmoid")  # scores whose gradient vanishes at 1


def uncovered_share(coverage: Tensor) -> list[float]:
    """Per clip, the share of voxels that no tube ever hides: the map says nothing about them."""
    return (coverage == 0).float().mean((1, 2, 3)).tolist()


def is_saturated(logits: Tensor, target: ResolvedTarget, config: Config, output: str) -> list[bool]:
    """Per clip, whether the probability of the explained class is so near 1 that its gradient vanishes.

    Arguments as `probabilities`.
    """
    return [value > SATURATED for value in _probability(logits, target, config, output)]


def _probability(logits: Tensor, target: ResolvedTarget, config: Config, output: str) -> list[float]:
    found: list[float] = ResolvedTarget(target.index).pick(probabilities(logits, config.score_name, output)).tolist()
    return found


def warn_saturated(logits: Tensor, target: ResolvedTarget, config: Config, output: str) -> None:
    """Warns of an explanation whose map is mostly rounding: its score's gradient all but vanishes."""
    if not (config.record.saturates and config.score_name in PROBABILITIES):
        return
    largest = max(_probability(logits, target, config, output))
    if largest > SATURATED:
        warnings.warn(
            f"the explained class has probability {largest:.6f}: its gradient nearly vanishes; "
            "use score='logit' (--score logit), or method='aosa-path'",
            stacklevel=4,
        )


def exact_check(
    model: Model,
    video: Tensor,
    fill: Tensor,
    tubes: Tubes,
    scores: Tensor,
    clean: Tensor,
    target: ResolvedTarget,
    config: Config,
) -> list[dict[str, Any]]:
    """Holds some tubes' first-order scores against exact occlusion with the same fill.

    Args:
        model: see `call_model`.
        video: (B, C, T, H, W) float32.
        fill: (B, C, T, H, W) float32, what the scores assume inside a hidden tube.
        tubes: of all clips.
        scores: (B, N) float32, the scores in question.
        clean: (B, n_classes) scores of the whole clips.
        target: what is explained.
        config: gives `check`, the number of tubes; they are spread evenly over the ranking of the scores.

    Returns:
        Per clip: the tubes, both scores, the mean absolute difference, and Pearson's correlation (None if undefined).
    """
    count = min(config.check, scores.shape[1])
    places = torch.linspace(0, scores.shape[1] - 1, count, dtype=torch.float32, device="cpu").round().long()
    chosen = [own.argsort(descending=True)[places].tolist() for own in scores]
    batches = BatchSize(config.batch_size, video.device)
    swept = occlusion_sweep(model, video, fill, tubes, config, batches, anchors=chosen).mean(2)
    drops = target.pick(clean).unsqueeze(1) - target.pick(swept)
    reports = []
    for exact, approximate, anchors in zip(drops, scores, chosen, strict=True):
        mine = approximate[anchors]
        both = torch.stack([exact, mine]).double()
        defined = count > 1 and bool((both.std(dim=1) > 0).all())
        reports.append(
            {
                "tubes": anchors,
                "exact": exact.tolist(),
                "approximate": mine.tolist(),
                "mean_absolute_error": float((exact - mine).abs().mean()),
                "correlation": float(torch.corrcoef(both)[0, 1]) if defined else None,
            }
        )
    return reports
