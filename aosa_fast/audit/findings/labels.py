"""Labels that look wrong: the model is sure of another class, for the same reasons as on clips of that class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips, PlainClips
from aosa_fast.audit.findings.clusters import features
from aosa_fast.audit.findings.types import LABEL, Finding

_LEAST_CLIPS = 5  # correct clips of the predicted class
_SURE = 10  # percentile of the correct clips' probabilities that a suspect must reach
_TOLD = ("id", "label", "prediction")  # of a suspect
_ALIKE = 99  # percentile of the correct clips' distances, and areas, that a suspect must not exceed by half
_SLACK = 1.5
_LEAST_STRENGTH = 0.2


def find_labels(clips: Clips) -> list[Finding]:
    """Per label, the clips that look mislabelled.

    A clip is suspect when (1) the prediction is not its label; (2) its probability reaches the 10 % point of those of
    the predicted class' correctly labelled clips (a threshold per class, as in confident learning: Northcutt et al.,
    JAIR 2021); and (3) its map is as concentrated as theirs, and as near to their mean map, both within their 99 %
    point and half more, which of few clips is their largest. (3) needs the map of the prediction; with maps of the
    labels, the first two decide.

    How sure that is, a clip's *strength*: its probability less that of its label, times how often clips that are
    predicted so are labelled so. Where a network takes one class for another, a disagreement says little. Clips of a
    strength below 0.2 are not named.
    """
    search = LabelSearch(clips)
    search.add(clips)
    return search.findings(clips)


class LabelSearch:
    """`find_labels` where the clips come a few at a time.

    Args:
        clips: that say how correct clips of each class are: all, or a sample.
    """

    def __init__(self, clips: Clips) -> None:
        predictions = clips["prediction"].astype(np.int64)
        values = features(clips, "frame")
        classes, means, limits = [], [values[:0].sum(0)], [(np.inf, 0.0, 0.0, 0.0)]  # the first: of too few clips
        for c in np.unique(predictions):
            correct = np.flatnonzero((predictions == c) & (clips["label"] == c))
            if len(correct) < _LEAST_CLIPS:
                continue
            mean = values[correct].mean(0)
            distances = np.linalg.norm(values[correct] - mean, axis=1)
            area = np.nan_to_num(clips["effective_area"][correct], nan=1.0)
            sure = np.percentile(clips["probability"][correct], _SURE)
            wide, far = _SLACK * np.percentile(area, _ALIKE), _SLACK * np.percentile(distances, _ALIKE)
            right = len(correct) / int(((predictions == c) & np.isfinite(clips["label"])).sum())
            classes.append(c)
            means.append(mean)
            limits.append((float(sure), float(wide), float(far), right))
        self._place = {int(c): place for place, c in enumerate(classes, 1)}
        self._means, self._limits = np.stack(means), np.array(limits)
        self._found: list[dict[str, NDArray[Any]]] = []

    def add(self, clips: Clips) -> None:
        """Looks at more clips."""
        known = np.isfinite(clips["label"])
        wrong = np.flatnonzero(known & (clips["label"] != clips["prediction"]))
        predictions = clips["prediction"][wrong].astype(np.int64)
        place = np.array([self._place.get(c, 0) for c in predictions.tolist()], np.int64)
        sure, wide, far, right = self._limits[place].T
        distances = np.linalg.norm(features(clips, "frame", wrong) - self._means[place], axis=1)
        alike = (clips["effective_area"][wrong] <= wide) & (distances <= far)
        suspect = (clips["probability"][wrong] >= sure) & (alike | (clips.target[wrong] != predictions))
        doubt = clips["probability"][wrong] - np.nan_to_num(clips["label_probability"][wrong])
        strength = doubt * right
        suspect &= strength >= _LEAST_STRENGTH
        told = {name: clips[name][wrong[suspect]] for name in _TOLD}
        self._found.append({**told, "strength": strength[suspect]})

    def findings(self, rows: PlainClips) -> list[Finding]:
        """Of the suspects so far; `rows` are all clips."""
        suspects = PlainClips({name: np.concatenate([found[name] for found in self._found]) for name in self._found[0]})
        return _by_label(rows, suspects)


def _by_label(rows: PlainClips, suspects: PlainClips) -> list[Finding]:
    names = rows.names
    labelled, counts = np.unique(rows["label"], return_counts=True)
    totals = dict(zip(labelled.tolist(), counts.tolist(), strict=True))
    strengths = suspects["strength"]
    findings = []
    for label in np.unique(suspects["label"]):
        own = np.flatnonzero(suspects["label"] == label)
        own = own[np.argsort(-strengths[own], kind="stable")]
        seen, counts = np.unique(suspects["prediction"][own].astype(np.int64), return_counts=True)
        looks = ", ".join(names[int(c)] for c in seen[np.argsort(-counts, kind="stable")][:3])
        total = totals[float(label)]
        verbs = ("is", "looks") if len(own) == 1 else ("are", "look")
        findings.append(
            Finding(
                kind=LABEL,
                class_index=int(label),
                class_name=names[int(label)],
                text=f"{len(own)} of {total} clips {verbs[0]} labelled so, and {verbs[1]} like {looks}.",
                effect=float(strengths[own[0]]),
                effect_name="strength of the clearest clip: its probability less its label's, times how often the "
                "prediction is right",
                count=len(own),
                clips=suspects.ids(own, len(own)),
                strengths=tuple(strengths[own].tolist()),
            )
        )
    return sorted(findings, key=lambda finding: -finding.effect)
