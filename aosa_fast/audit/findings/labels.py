"""Labels that look wrong: the model is sure of another class, for the same reasons as on clips of that class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.findings.clusters import features
from aosa_fast.audit.findings.types import LABEL, Finding

_LEAST_CLIPS = 5  # correct clips of the predicted class
_SURE = 10  # percentile of the correct clips' probabilities that a suspect must reach
_ALIKE = 99  # percentile of the correct clips' distances, and areas, that a suspect must not exceed


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
    suspects = [np.array([], np.int64)]
    for c in np.unique(predictions):
        here = np.flatnonzero(predictions == c)
        correct = labels[here] == c
        if correct.sum() < _LEAST_CLIPS:
            continue
        probability, area = clips["probability"][here], clips["effective_area"][here]
        distances = np.linalg.norm(values[here] - values[here[correct]].mean(0), axis=1)
        wide = np.percentile(np.nan_to_num(area[correct], nan=1.0), _ALIKE)
        alike = (area <= wide) & (distances <= np.percentile(distances[correct], _ALIKE))
        sure = probability >= np.percentile(probability[correct], _SURE)
        suspects.append(here[known[here] & ~correct & sure & (alike | ~maps_of_predictions[here])])
    return _by_label(clips, labels, np.sort(np.concatenate(suspects)))


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
                text=f"{len(own)} of {total} clips {verbs[0]} labelled so, and {verbs[1]} like {looks}.",
                effect=float(doubt[own[0]]),
                effect_name="probability of the prediction less that of the label, of the clearest clip",
                count=len(own),
                clips=clips.ids(own),
            )
        )
    return sorted(findings, key=lambda finding: (-finding.count, -finding.effect))
