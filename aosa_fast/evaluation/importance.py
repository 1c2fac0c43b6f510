"""What a map says each part of a clip is worth, against what the model says of the clip rendered without it.

Nothing is filled: a hole that moves as the object did still shows the motion, and a model may never have seen one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aosa_fast.evaluation.bootstrap import Floats
from aosa_fast.evaluation.columns import curve_score, number
from aosa_fast.evaluation.measure import Explained, Item
from aosa_fast.evaluation.metrics import Row
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.behaviour import study
from aosa_fast.inference.call import clean_logits, evaluating
from aosa_fast.inference.precision import model_device, precision
from aosa_fast.methods.inputs import upload
from aosa_fast.metrics.similarity import correlation, rank_correlation
from aosa_fast.targets import class_scores

# Below this largest drop of the probability the model cares for no part of the clip, and the truth is noise.
LEAST = 0.05


def measure_importance(explained: Explained) -> list[Row]:
    """Correlations, over a clip's parts, of the map's sum over a part with the true drop of the class's probability.

    A clip has no value where there are fewer than two parts, where the sums or the drops are all equal, and where no
    drop is larger than `LEAST`. Regions may overlap; the sum is signed, and over voxels of all frames.
    """
    if not any(item.parts for item in explained.items):
        return [{} for _ in explained.items]
    pictures, owners = [], []
    for b, item in enumerate(explained.items):
        own = [item.clip.frames, *(part.absent for part in item.parts)]
        own += [part.stopped for part in item.parts if part.stopped is not None]
        pictures += own
        owners += [b] * len(own)
    scores = _scores(explained, torch.cat([explained.classifier.preprocessing.to_input(clip) for clip in pictures]))
    values = explained.found.target.take(owners).pick(scores).double().cpu().numpy()
    rows = []
    for b, item in enumerate(explained.items):
        clean, *others = values[np.array(owners) == b]
        saliency = explained.found.saliency[b].double().cpu().numpy()
        rows.append(_row(item, saliency, clean - np.array(others)) if item.parts else {})
    return rows


def _row(item: Item, saliency: Floats, drops: Floats) -> Row:
    """Of one clip, from the drops without each part, and then those where each mover stands still."""
    masses = np.array([saliency[part.region].sum() for part in item.parts])
    moves = np.array([part.stopped is not None for part in item.parts])
    absent, stopped = np.split(drops, [len(masses)])
    stills = np.full(len(masses), np.nan)
    stills[moves] = stopped
    row: Row = {
        "parts": [part.name for part in item.parts],
        "part_mass": masses.tolist(),
        "part_drop": absent.tolist(),
        "part_stopped": [number(value) for value in stills],
    }
    if _can_be_compared(masses, absent):
        row |= {
            "importance_pearson": number(correlation(masses, absent)),
            "importance_rank": number(rank_correlation(masses, absent)),
            "importance_top": float((absent[masses == masses.max()] == absent.max()).mean()),
        }
    if _can_be_compared(masses[moves], stopped):
        row["importance_stopped"] = number(correlation(masses[moves], stopped))
    return row


def _can_be_compared(masses: Floats, drops: Floats) -> bool:
    varied = len(drops) > 1 and all(float(np.ptp(values)) > 0 for values in (masses, drops))
    return varied and float(np.abs(drops).max()) >= LEAST


def _scores(explained: Explained, video: Tensor) -> Tensor:
    """(N, n_classes): what the model says of other clips than the explained ones."""
    network, config = explained.classifier.network, explained.entry.config
    device = model_device(network, video.device)
    clips = upload(video, device)
    with evaluating(network), precision(config.dtype, device):
        seen = study(network, clips, batched=config.batch_size != 1, dtype=config.dtype)
        batches = BatchSize(seen.batch_size(config.batch_size), device)
        return class_scores(clean_logits(network, clips, batches, config.dtype), curve_score(explained))
