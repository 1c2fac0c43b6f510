"""How far first-order tube scores are from exact occlusion (paper III-D; method: section 9)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.errors import InputError
from aosa_fast.explanation import Explanation
from aosa_fast.inference.call import Model, evaluating
from aosa_fast.inference.precision import model_device, precision
from aosa_fast.methods.fills import make_fill
from aosa_fast.methods.inputs import Values, upload
from aosa_fast.methods.selfcheck import exact_check
from aosa_fast.methods.tubes import Tubes
from aosa_fast.metrics.causal import check_video
from aosa_fast.metrics.similarity import correlation, per_clip, rank_correlation

Scores = Tensor | NDArray[Any]


@dataclass(frozen=True, eq=False)
class TaylorError:
    """How approximate scores of tubes differ from the exact ones, per clip: (B,) float64 in main memory each.

    Attributes:
        mean_absolute_error: in units of the score.
        relative_error: the same over the mean size of the exact scores; NaN where all of these are 0.
        pearson: correlation; NaN where either scores are all equal.
        spearman: rank correlation, ties by their average rank; NaN likewise.
        sign_agreement: the share of tubes on which both say more, less, or nothing at all.
        tubes: how many tubes were compared.
    """

    mean_absolute_error: Tensor
    relative_error: Tensor
    pearson: Tensor
    spearman: Tensor
    sign_agreement: Tensor
    tubes: int


def taylor_error(approximate: Scores, exact: Scores) -> TaylorError:
    """Compares two kinds of scores of the same tubes, (B, N), or (N,) for one clip, of any real dtype.

    Raises:
        InputError: different shapes, no tubes, or NaN or infinity.
    """
    first, second = _read("approximate", approximate), _read("exact", exact)
    if first.shape != second.shape:
        raise InputError(f"approximate and exact must have one shape; got {first.shape} and {second.shape}")
    error = np.abs(first - second).mean(1)
    size = np.abs(second).mean(1)
    return TaylorError(
        mean_absolute_error=torch.from_numpy(error),
        relative_error=torch.from_numpy(np.divide(error, size, out=np.full(len(size), np.nan), where=size > 0)),
        pearson=per_clip(map(correlation, first, second)),
        spearman=per_clip(map(rank_correlation, first, second)),
        sign_agreement=torch.from_numpy((np.sign(first) == np.sign(second)).mean(1)),
        tubes=first.shape[1],
    )


def taylor_error_of(
    model: Model,
    video: Tensor,  # (B, C, T, H, W)
    explanation: Explanation,
    *,
    tubes: int = 0,
    mean: Values | None = None,
    std: Values | None = None,
) -> TaylorError:
    """Hides tubes of an explanation one by one, with its own fill, and compares its scores with what the model says.

    Args:
        model: the explained one; it is left as it was.
        video: (B, C, T, H, W) float32, the explained clips.
        explanation: of these clips, with tubes.
        tubes: how many, spread evenly over the ranking of each clip's scores; 0: all of them.
        mean: of the normalisation, for fill="black" alone.
        std: likewise.

    Raises:
        InputError: an explanation without tubes or of other clips, or as `aosa_fast.explain`.
        TypeError: `video` is not a float32 tensor.
    """
    check_video(video)
    scores = explanation.scores
    if not scores.shape[1]:
        raise InputError(f"explanation must have tubes; method={explanation.config.method} has none")
    if explanation.saliency.shape != (len(video), *video.shape[2:]):
        shape = tuple(explanation.saliency.shape)
        raise InputError(f"explanation must be of these clips; got maps {shape} for a video {tuple(video.shape)}")
    device = model_device(model, video.device)
    clips = upload(video.detach(), device)
    config = replace(explanation.config, check=tubes or scores.shape[1])
    parts = Tubes(explanation.tracks, explanation.alive, explanation.boxes, explanation.members).to(device)
    with evaluating(model), precision(config.dtype, device):
        fill = make_fill(clips, config, mean, std)
        clean, target = explanation.clean_scores.to(device), explanation.target
        reports = exact_check(model, clips, fill, parts, scores.to(device), clean, target, config)
    return taylor_error(*(np.array([report[name] for report in reports]) for name in ("approximate", "exact")))


def _read(name: str, scores: Scores) -> NDArray[np.float64]:
    array = scores.detach().cpu().double().numpy() if isinstance(scores, Tensor) else np.asarray(scores, np.float64)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise InputError(f"{name} must have shape (B, N) or (N,), nothing empty; got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite; got NaN or infinity")
    return array[None] if array.ndim == 1 else array
