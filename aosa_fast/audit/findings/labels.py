"""Labels that look wrong: the model is sure of another class, for the same reasons as on clips of that class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.findings.clusters import features
from aosa_fast.audit.findings.types import LABEL, Finding

_LEAST_CLIPS = 5  # correct clips of the predicted class
_SURE = 10  # percentile of the correct clips' probabilities that a suspect must reach
_ALIKE = 99  # percentile of the correct clips' distances, and areas, that a suspect must not exceed
_MOST_CLIPS = 50


@dataclass(frozen=True, eq=False)
class _Correct:
    """What clips are like whose label and prediction agree on a class."""

    sure: float
    centre: NDArray[np.float64]
    far: float
    wide: float


def find_labels(clips: Clips) -> list[Finding]:
    """Per label, the clips that look mislabelled.

    A clip is suspect when (1) the prediction is not its label; (2) its probability reaches the 10 % point of those of
    the predicted class' correctly labelled clips (a threshold per class, as in confident learning: Northcutt et al.,
    JAIR 2021); and (3) its map is as concentrated as theirs, and as near to their mean map, both within their 99 %
    point. (3) needs the map of the prediction; with maps of the labels, the first two decide.
    """
    known = np.isfinite(clips["label"])
    labels = np.where(known, clips["label"], -1).astype(np.int64)
    predictions = clips["prediction"].astype(np.int64)
    maps_of_predictions = clips.target == predictions
    values = features(clips, "frame")
    correct = {
        int(c): summary
        for c in np.unique(predictions)
        if (summary := _describe_correct(clips, values, np.flatnonzero((labels == c) & (predictions == c)))) is not None
    }
    suspects = []
    for i in np.flatnonzero(known & (labels != predictions)):
        usual = correct.get(int(predictions[i]))
        if usual is None or clips["probability"][i] < usual.sure:
            continue
        alike = (
            clips["effective_area"][i] <= usual.wide and float(np.linalg.norm(values[i] - usual.centre)) <= usual.far
        )
        if alike or not maps_of_predictions[i]:
            suspects.append(i)
    return _by_label(clips, labels, np.array(suspects, np.int64))


def _describe_correct(clips: Clips, values: NDArray[np.float64], own: NDArray[np.int64]) -> _Correct | None:
    if len(own) < _LEAST_CLIPS:
        return None
    centre = values[own].mean(0)
    distances = np.linalg.norm(values[own] - centre, axis=1)
    return _Correct(
        sure=float(np.percentile(clips["probability"][own], _SURE)),
        centre=centre,
        far=float(np.percentile(distances, _ALIKE)),
        wide=float(np.nanpercentile(np.nan_to_num(clips["effective_area"][own], nan=1.0), _ALIKE)),
    )


def _by_label(clips: Clips, labels: NDArray[np.int64], suspects: NDArray[np.int64]) -> list[Finding]:
    names = clips.names
    doubt = clips["probability"] - np.nan_to_num(clips["label_probability"])
    findings = []
    for label in np.unique(labels[suspects]):
        own = suspects[labels[suspects] == label]
        own = own[np.argsort(-doubt[own], kind="stable")]
        seen, counts = np.unique(clips["prediction"][own].astype(np.int64), return_counts=True)
        looks = ", ".join(names[int(c)] for c in seen[np.argsort(-counts, kind="stable")][:3])
        total = int((labels == label).sum())
        verbs = ("is", "looks") if len(own) == 1 else ("are", "look")
        findings.append(
            Finding(
                kind=LABEL,
                class_index=int(label),
                class_name=names[int(label)],
                where="",
                text=f"{len(own)} of {total} clips {verbs[0]} labelled so, and {verbs[1]} like {looks}.",
                effect=float(doubt[own[0]]),
                effect_name="probability of the prediction less that of the label, of the clearest clip",
                p_value=None,
                count=len(own),
                clips=tuple(str(clips["id"][i]) for i in own[:_MOST_CLIPS]),
            )
        )
    return sorted(findings, key=lambda finding: (-finding.count, -finding.effect))
