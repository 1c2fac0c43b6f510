"""What each metric adds to the rows of some clips: the functions that the records of `evaluation.metrics` name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.evaluation.measure import Explained, explain_quietly, stack_pictures
from aosa_fast.evaluation.metrics import Row
from aosa_fast.metrics import (
    box_iou,
    box_mass,
    box_share,
    causal_metrics,
    energy_pointing,
    find_protocol,
    sanity_check,
    spatial_pointing,
    spearman,
    taylor_error,
)

PROTOCOL_SUFFIXES = {"aosa-28": "", "aosa-28-fill": "_fill"}


def measure_causal(explained: Explained) -> list[Row]:
    """Areas and curves of deletion, and of insertion by both protocols."""
    found, config = explained.found, explained.entry.config
    score = curve_score(explained)
    results = causal_metrics(
        explained.judge.network,
        explained.video,
        found.saliency,
        found.target.index,
        protocols=[replace(find_protocol(name), score=score) for name in PROTOCOL_SUFFIXES],
        batch_size=config.batch_size,
        dtype=config.dtype,
    )
    rows: list[Row] = [{} for _ in explained.items]
    for b, row in enumerate(rows):
        for name, suffix in PROTOCOL_SUFFIXES.items():
            row[f"insertion{suffix}"] = float(results[name].insertion.area[b])
            row[f"overall{suffix}"] = float(results[name].area[b])
            row[f"insertion{suffix}_curve"] = results[name].insertion.scores[b].tolist()
        shared = results["aosa-28"].deletion  # the protocols delete alike
        row |= {"curve_score": score, "deletion": float(shared.area[b]), "deletion_curve": shared.scores[b].tolist()}
    return rows


def curve_score(explained: Explained) -> str:
    """What deletion, insertion and drops are of: a probability, whatever the method explains.

    The paper's curves are of the softmax, which models of several labels, or that return probabilities, lack.
    """
    several = explained.entry.config.score_name == "sigmoid"
    return "sigmoid" if several else "prob" if explained.found.output == "logits" else "logit"


def measure_pointing(explained: Explained) -> list[Row]:
    """S-PT, energy and overlap of the clips that have boxes."""
    rows: list[Row] = []
    for item, saliency in zip(explained.items, explained.found.saliency, strict=True):
        if item.clip.boxes is None:
            rows.append({})
            continue
        case = saliency[None], [item.clip.boxes]
        pointing = spatial_pointing(*case, radius=explained.settings.radius)
        rows.append(
            {
                "spt_hits": float(pointing.hits[0]),
                "spt_frames": int(pointing.frames[0]),
                "energy": number(energy_pointing(*case)[0]),
                "energy_chance": number(box_share(*case)[0]),
                "iou": number(box_iou(*case)[0]),
            }
        )
    return rows


def measure_other_class(explained: Explained) -> list[Row]:
    """Signed mass in the boxes of the map, and of the runner-up's by the same method; of the clips that have boxes."""
    found, boxes = explained.found, [item.clip.boxes for item in explained.items]
    if all(own is None for own in boxes) or found.logits.shape[1] < 2:
        return [{} for _ in boxes]
    target = found.target.index.to(found.logits.device)
    runner_up = found.logits.scatter(1, target.unsqueeze(1), -torch.inf).argmax(1)
    pictures = stack_pictures(explained.items)
    other = explain_quietly(explained.classifier, pictures, runner_up, explained.entry.config).saliency
    both = box_mass(found.saliency, boxes), box_mass(other, boxes), spearman(found.saliency, other)
    keys = "mass_true", "mass_other", "other_rank"
    return [
        {} if own is None else {key: number(values[b]) for key, values in zip(keys, both, strict=True)}
        for b, own in enumerate(boxes)
    ]


def measure_taylor(explained: Explained) -> list[Row]:
    """First-order scores against the exact ones of the self-check, where the method has one."""
    checks = explained.found.metadata["self_check"]["exact"]
    if not checks:
        return [{} for _ in explained.items]
    errors = taylor_error(*(np.array([check[name] for check in checks]) for name in ("approximate", "exact")))
    return [
        {"taylor_error": number(error), "taylor_correlation": number(pearson)}
        for error, pearson in zip(errors.relative_error, errors.pearson, strict=True)
    ]


def measure_sanity(explained: Explained) -> list[Row]:
    """Likeness with the trained model's map, as its layers are randomised one after the other.

    And whether the last of these maps, of a network that has learnt nothing, still points at the boxes.
    """
    classifier = explained.classifier

    def remake(model: Any, clips: Tensor, target: Any) -> Tensor:
        return explain_quietly(replace(classifier, network=model), clips, target, explained.entry.config).saliency

    if not isinstance(classifier.network, nn.Module):
        raise InputError(f"metrics must be without sanity for a {type(classifier.network).__name__}: it has no layers")
    target = explained.found.target.index
    stages = sanity_check(classifier.network, explained.video, target, remake, seed=explained.settings.seed)
    rows: list[Row] = [
        {
            "sanity_stages": [stage.stage or "trained" for stage in stages],
            "sanity_spearman": [number(stage.spearman[b]) for stage in stages],
            "sanity_ssim": [number(stage.ssim[b]) for stage in stages],
        }
        for b in range(len(explained.items))
    ]
    for item, saliency, row in zip(explained.items, stages[-1].saliency, rows, strict=True):
        if item.clip.boxes is not None:
            pointing = spatial_pointing(saliency[None], [item.clip.boxes], radius=explained.settings.radius)
            row |= {"random_hits": float(pointing.hits[0]), "random_frames": int(pointing.frames[0])}
    return rows


def number(value: Any) -> float | None:
    """A real number, or None where there is none."""
    real = float(value)
    return real if np.isfinite(real) else None
