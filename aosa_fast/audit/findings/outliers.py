"""Clips that are unlike their class, and maps that nobody should trust."""

from __future__ import annotations

import numpy as np

from aosa_fast.audit.findings.clips import PlainClips
from aosa_fast.audit.findings.types import OUTLIER, UNEXPLAINED, Finding
from aosa_fast.audit.measures import MEASURES

_COMPARED = {measure.name: measure.outlier for measure in MEASURES.values() if measure.outlier}
_LEAST_CLIPS = 12
_FAR = 6.0  # robust standard deviations
_LEAST_STEP = 0.02  # a robust standard deviation is at least this: measures are shares of 1
_UNCOVERED = 0.5
_LEAST_POSITIVE = 0.1
_LEAST_CORRELATION = 0.0


def find_outliers(clips: PlainClips) -> list[Finding]:
    """For each class, the clips with a measure more than 6 robust standard deviations from the class' median.

    A robust standard deviation is 1.4826 times the median distance from the median (MAD), and at least 0.02. Classes
    with fewer than 12 clips are left out.
    """
    findings = []
    has_map = clips.has_map
    for label, members in clips.members.items():
        own = members[has_map[members]]
        if len(own) < _LEAST_CLIPS:
            continue
        values = np.stack([clips[measure][own] for measure in _COMPARED], axis=1).astype(np.float64)
        middles = np.nanmedian(np.where(np.isfinite(values).any(0), values, 0.0), axis=0)
        steps = np.maximum(1.4826 * np.nanmedian(np.abs(np.nan_to_num(values - middles)), axis=0), _LEAST_STEP)
        distances = np.nan_to_num(np.abs(values - middles) / steps)
        worst, far = distances.argmax(1), distances.max(1)
        order = [i for i in np.argsort(-far, kind="stable") if far[i] > _FAR]
        if not order:
            continue
        first = order[0]
        measure = list(_COMPARED)[worst[first]]
        text = (
            f"{len(order)} of {len(own)} clips are unlike their class; the farthest by its {_COMPARED[measure]}: "
            f"{values[first, worst[first]]:.2f}, where the class' median is {middles[worst[first]]:.2f}."
        )
        findings.append(
            Finding(
                kind=OUTLIER,
                class_index=label,
                class_name=clips.names[label],
                text=text,
                effect=float(far[first]),
                effect_name="robust standard deviations from the class' median, of the farthest clip",
                count=len(order),
                clips=clips.ids(own[order]),
            )
        )
    return sorted(findings, key=lambda finding: -finding.effect)


def find_unexplained(clips: PlainClips) -> list[Finding]:
    """Clips whose map fails its self-check, by reason."""
    with np.errstate(invalid="ignore"):
        reasons = {
            "nothing in the clip lowers the score when it is hidden: the map is empty": ~clips.has_map,
            "the probability is above 0.999, so that its gradient all but vanishes (explain the logit instead)": (
                clips["saturated"] == 1
            ),
            "no tube ever covers more than half of the voxels": clips["uncovered_share"] > _UNCOVERED,
            "less than a tenth of the map is positive: it says what speaks against the class": (
                clips.has_map & (clips["positive_share"] < _LEAST_POSITIVE)
            ),
            "first-order scores do not go with exact ones (of the clips that were held against them)": (
                clips["taylor_correlation"] <= _LEAST_CORRELATION
            ),
        }
    findings = [
        Finding(
            kind=UNEXPLAINED,
            class_index=None,
            class_name="",
            text=f"{len(where)} of {len(clips)} maps are not to be trusted: {reason}.",
            effect=len(where) / len(clips),
            effect_name="share of all clips",
            count=len(where),
            clips=clips.ids(where),
        )
        for reason, failed in reasons.items()
        if len(where := np.flatnonzero(failed))
    ]
    return sorted(findings, key=lambda finding: -finding.effect)
