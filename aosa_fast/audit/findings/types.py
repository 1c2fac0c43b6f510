"""What an audit finds, in plain types that the page, the tables and a caller share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORTCUT, OUTLIER, LABEL, UNEXPLAINED = "shortcut", "outlier", "label", "unexplained"
PLACE, BORDER, TIME, BESIDE, OVERLAY = "place", "border", "time", "beside the motion", "static overlay"
ONE_FRAME = "one frame"
CONFIRMED, UNDECIDED, CORRELATION = "confirmed", "undecided", "correlation of maps only"


@dataclass(frozen=True)
class Confirmation:
    """What the model says of a finding's clips once what it is about is hidden from it.

    Attributes:
        verdict: `CONFIRMED`: the answers suffer, and more so than where as much is hidden elsewhere; `UNDECIDED`: they
            suffer, but hardly more so; `CORRELATION`: they hardly change.
        labelled: whether `accuracy` is held against labels, and not against the class that the maps explain.
        clips: how many were asked about, one of each source.
        accuracy: share of them that the model gives their class, whole.
        accuracy_hidden: with it hidden.
        accuracy_low: lower end of its 95 % interval.
        accuracy_high: upper end.
        accuracy_elsewhere: with as much hidden elsewhere.
        probability: mean probability of the class, whole; and likewise the next four.
    """

    verdict: str
    labelled: bool
    clips: int
    accuracy: float
    accuracy_hidden: float
    accuracy_low: float
    accuracy_high: float
    accuracy_elsewhere: float
    probability: float
    probability_hidden: float
    probability_low: float
    probability_high: float
    probability_elsewhere: float

    @property
    def text(self) -> str:
        """What happened, in one sentence for people, and another one where it shows nothing."""
        begin, falls, end = {
            CONFIRMED: ("Hidden", "falls", ""),
            UNDECIDED: ("Hidden", "falls", " That does much the same, so that this shows nothing."),
            CORRELATION: ("A correlation of maps only: hidden", "goes", ""),
        }[self.verdict]
        what = "accuracy" if self.labelled else "the share that is given this class"
        return (
            f"{begin}, {what} of {self.clips} of its clips {falls} from {100 * self.accuracy:.0f} to "
            f"{100 * self.accuracy_hidden:.0f} % (95 % interval {100 * self.accuracy_low:.0f}-"
            f"{100 * self.accuracy_high:.0f}), their mean probability from {self.probability:.2f} to "
            f"{self.probability_hidden:.2f} ({self.probability_low:.2f}-{self.probability_high:.2f}); hiding as much "
            f"elsewhere: {100 * self.accuracy_elsewhere:.0f} % and {self.probability_elsewhere:.2f}.{end}"
        )


@dataclass(frozen=True)
class Showing:
    """Which clips of a class show a shortcut: those with at least `least` of their map in some cells of a profile."""

    profile: str  # of `shortcuts.profiles`
    cells: tuple[int, ...]
    least: float


@dataclass(frozen=True)
class Finding:
    """Something that a person should look at.

    Attributes:
        kind: "shortcut", "outlier", "label" or "unexplained".
        class_index: the model's index of the class that it is about; None for the whole data set.
        class_name: its name, or its index as text; "" for the whole data set.
        text: one sentence, plain text: what, where, how much.
        effect: its size, and what findings of a kind are ranked by.
        effect_name: what `effect` is, such as "share of the map, above other classes".
        count: how many clips show it.
        clips: their ids, the clearest first; at most 50, but of a label finding all.
        strengths: how clearly each of `clips` shows it, 0 to 1; () where nothing measures it.
        where: for a shortcut: "place", "border", "time", "beside the motion" or "static overlay"; "one frame" of the
            whole data set; else "".
        p_value: of the permutation test, corrected for the number of classes and tests; None without a test.
        detail: further numbers by name.
        showing: for a shortcut of a class as a whole, which of its clips show it; else None.
        boxes: the cells of the 8 x 8 frame grid (row, column) that it is about, to be marked on the class' mean map.
        frames: the parts of the clip, in eighths, that it is about.
        offsets: for "beside the motion": the cells (row, column) of the 9 x 9 window round the motion.
        pictures: what a test of the pictures alone says of these cells, one sentence; "" without one.
        confirmed: what hiding it does to the model; None where that was not tried.
    """

    kind: str
    class_index: int | None
    class_name: str
    text: str
    effect: float
    effect_name: str
    count: int
    clips: tuple[str, ...]
    where: str = ""
    p_value: float | None = None
    detail: dict[str, float] = field(default_factory=dict)
    showing: Showing | None = None
    boxes: tuple[tuple[int, int], ...] = ()
    frames: tuple[int, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()
    pictures: str = ""
    confirmed: Confirmation | None = None
    strengths: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class ClusterSummary:
    """Clips of a class whose maps are alike: a cluster."""

    clips: tuple[str, ...]  # ids, the most typical first
    mean_map: NDArray[np.float32]  # (8, 8, 8), time, row, column; sums to 1
    share: float  # of the class' clips
    aligned: str  # "frame", or "motion" where the clustering looked at maps round the moving object


@dataclass(frozen=True, eq=False)
class ClassSummary:
    """A class, as the audit saw it: the clips whose map explains it.

    Attributes:
        index: the model's.
        name: or the index as text.
        clips: how many, explained.
        correct: how many of them are labelled so; None without labels.
        mean_probability: of the explained class.
        mean_map: (8, 8, 8) float32; sums to 1.
        mean_moving: the same of the moving pixels.
        mean_around: (9, 9) float32, the map round the moving object.
        measures: name -> (lower quartile, median, upper quartile).
        typical: ids of the clips nearest to the mean map, nearest first, at most 6.
        strangest: ids of those farthest from it, farthest first, at most 6.
        groups: clusters of its clips, largest first.
    """

    index: int
    name: str
    clips: int
    correct: int | None
    mean_probability: float
    mean_map: NDArray[np.float32]
    mean_moving: NDArray[np.float32]
    mean_around: NDArray[np.float32]
    measures: dict[str, tuple[float, float, float]]
    typical: tuple[str, ...]
    strangest: tuple[str, ...]
    groups: tuple[ClusterSummary, ...] = ()


@dataclass(frozen=True, eq=False)
class AuditSummary:
    """All that the page shows, but for pictures.

    Attributes:
        run: content of run.json, {"format", "identity", "facts"}.
        counts: clips by status: "ok", "error", "quarantined".
        findings: the most important first.
        classes: by index.
        errors: for the commonest error messages: (message, how many, ids of a few).
        accuracy: share of the clips with a label that the model knows whose prediction is it; None without such.
        mean_map: (8, 8, 8) float32, the mean over the classes' means.
        unknown: what is to be said of labels that the model does not know; nothing if it knows them all.
        warnings: what is to be said of the model, once for each kind of it.
        sample: what is to be said of where shortcuts were looked for; nothing if it was in all clips.
        unconfirmed: why findings were not confirmed by the model, and how they can be; "" if they were, or none asked.
        decided: how many clips are left out of the findings, as a person has decided about them.
    """

    run: dict[str, Any]
    counts: dict[str, int]
    findings: tuple[Finding, ...]
    classes: tuple[ClassSummary, ...]
    errors: tuple[tuple[str, int, tuple[str, ...]], ...]
    accuracy: float | None
    mean_map: NDArray[np.float32]
    unknown: str = ""
    warnings: tuple[str, ...] = ()
    sample: str = ""
    unconfirmed: str = ""
    decided: int = 0
