"""What an evaluation measures, and the columns that this gives rows, files and tables; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aosa_fast.registry import Registry

Row = dict[str, Any]  # of one clip and method: values of plain types, by the columns' keys


@dataclass(frozen=True)
class Column:
    """A quantity of the rows, of the tables, or of both.

    Attributes:
        key: its name.
        kind: what a row holds: "text", "whole" (a whole number), "truth", "real", or a list, "reals" or "texts". Rates
            are in tables only: "micro", hits over frames of all clips together, or "macro", the mean of the classes'.
        meaning: and unit.
        heading: in the table (of curves: in the picture), with an arrow to the better side; "" leaves it out.
        better: 1 where larger is better, -1 where smaller is.
        decimals: None gives the mean three digits.
        parts: of a rate, the columns of its hits and its frames.
    """

    key: str
    kind: str
    meaning: str
    heading: str = ""
    better: int = 0
    decimals: int | None = 3
    parts: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Metric:
    """What explanations are measured by.

    Attributes:
        name: as in `evaluate --metrics`.
        help: one sentence.
        measure: "module:function" of an `evaluation.measure.Explained`, which returns what is added to each clip's row.
        columns: all that may be added, and the rates of it.
        title: of a table of its own, of the columns with a heading, or of the lists, whose heads are its "texts"; ""
            puts the columns into the table that all such metrics share, where rates are always.
        libraries: what it needs of the extra "evaluate".
        checks: whether it reads exact scores of some tubes, `Settings.taylor_tubes`, from the self-check.
    """

    name: str
    help: str
    measure: str
    columns: tuple[Column, ...]
    title: str = ""
    libraries: tuple[str, ...] = ()
    checks: bool = False


_HOME = "aosa_fast.evaluation.columns"
_POINTED = ("spt_hits", "spt_frames")

FACTS = (
    Column("clip", "text", "the clip's id"),
    Column("method", "text", "as it was asked for, with its options"),
    Column("path", "text", "of the clip's file or folder"),
    Column("sample", "text", "hash of the clip's path, part, class and boxes"),
    Column("status", "text", "ok or error"),
    Column("error", "text", "why the clip has no values"),
    Column("label", "whole", "the model's index of the true class"),
    Column("target", "whole", "index of the explained class"),
    Column("prediction", "whole", "index of the model's best class"),
    Column("looped_frames", "whole", "frames repeated because the clip is short"),
    Column("damaged_packets", "whole", "packets of the video that could not be decoded"),
    Column("saturated", "truth", "whether the probability is too near 1 for a gradient"),
    Column("probability", "real", "of the explained class"),
    Column("seconds", "real", "for the map, a clip's part of its block", "s/clip ↓", -1, decimals=None),
)
"""What every row has, whatever is measured; not all of it where the clip failed."""

DEFAULT_METRICS = ("object-importance", "deletion", "pointing")
MAIN_COLUMNS = ("importance_pearson", "overall_fill", "overall", "spt_micro", "energy")
"""Those in which methods are ranked, and held against the controls."""

METRICS = Registry(
    "metrics",
    (
        Metric(
            "object-importance",
            "Whether the map gives each part of a clip what the model's score owes to it, where the data can render "
            "the clip without it.",
            "aosa_fast.evaluation.importance:measure_importance",
            (
                Column(
                    "importance_pearson", "real", "Pearson's, over parts, of the map's sum and the drop without one",
                    "Object importance (Pearson) ↑", 1,
                ),
                Column("importance_rank", "real", "Spearman's, of the same", "Object importance (rank) ↑", 1),
                Column(
                    "importance_top", "real", "whether the part with the most of the map has the largest drop",
                    "Object importance (top) ↑", 1,
                ),
                Column(
                    "importance_stopped", "real", "Pearson's, over movers, with the drop where one stands still",
                    "Object importance (stopped) ↑", 1,
                ),
                Column("parts", "texts", "what the clip is rendered from"),
                Column("part_mass", "reals", "sum of the map over each part"),
                Column("part_drop", "reals", "drop of the score without each part"),
                Column("part_stopped", "reals", "the same where the part stands still; none of what does not move"),
            ),
        ),
        Metric(
            "deletion",
            "The model's score as the most salient voxels are removed, and as they are put back (insertion).",
            f"{_HOME}:measure_causal",
            (
                Column("curve_score", "text", "what the curves are of: prob, sigmoid or logit"),
                Column("deletion", "real", "area under its curve", "Deletion ↓", -1),
                Column("insertion", "real", "area under its curve", "Insertion (blur) ↑", 1),
                Column("overall", "real", "insertion less deletion", "Over-all (blur) ↑", 1),
                Column("insertion_fill", "real", "area under its curve", "Insertion (fill) ↑", 1),
                Column("overall_fill", "real", "insertion_fill less deletion", "Over-all (fill) ↑", 1),
                Column("deletion_curve", "reals", "voxels removed, most salient first (%)", "Deletion ↓", -1),
                Column(
                    "insertion_curve", "reals", "voxels put back, most salient first (%)",
                    "Insertion into the blurred clip ↑", 1,
                ),
                Column(
                    "insertion_fill_curve", "reals", "voxels put back, most salient first (%)",
                    "Insertion into the fill ↑", 1,
                ),
            ),
        ),
        Metric(
            "pointing",
            "Whether the map lies on the boxes, where the data have some: pointing game (S-PT), energy and IoU.",
            f"{_HOME}:measure_pointing",
            (
                Column("spt_frames", "whole", "frames with a box"),
                Column("spt_hits", "real", "of these, where the map's maximum is on a box; shares where it is tied"),
                Column("spt_micro", "micro", "hits over frames", "S-PT (micro) ↑", 1, parts=_POINTED),
                Column("spt_macro", "macro", "the same, mean over classes", "S-PT (macro) ↑", 1, parts=_POINTED),
                Column("energy", "real", "share of the positive saliency in boxes", "Energy ↑", 1),
                Column("energy_chance", "real", "share of the voxels in boxes"),
                Column("iou", "real", "of the boxes and as many of the most salient voxels", "IoU ↑", 1),
            ),
        ),
        Metric(
            "other-class",
            "What the map of the runner-up, the best class but the explained one, gives the boxes.",
            f"{_HOME}:measure_other_class",
            (
                Column("mass_true", "real", "of the explained class' map", "explained class ↑", 1),
                Column("mass_other", "real", "of the runner-up's map", "runner-up ↓", -1),
                Column("other_rank", "real", "rank correlation of both maps", "Spearman of both maps ↓", -1),
            ),
            title="Another class: what is in the boxes, over the absolute values in the frames with boxes",
        ),
        Metric(
            "taylor",
            "How far first-order scores of tubes are from exact occlusion, for the methods that have them.",
            f"{_HOME}:measure_taylor",
            (
                Column("taylor_error", "real", "mean error over mean exact drop", "mean error / mean exact drop", -1),
                Column("taylor_correlation", "real", "Pearson's, over tubes", "correlation", 1),
            ),
            title="First-order scores of tubes against exact ones",
            checks=True,
        ),
        Metric(
            "sanity",
            "What is left of the map as the model's layers are randomised, from the last to the first.",
            f"{_HOME}:measure_sanity",
            (
                Column("sanity_spearman", "reals", "rank correlation with the trained model's map, by stage"),
                Column("sanity_ssim", "reals", "structural similarity with that map, by stage"),
                Column("sanity_stages", "texts", "the layers randomised last; trained before any were"),
                Column("random_hits", "real", "spt_hits of the map of the network with all weights random"),
                Column("random_frames", "whole", "frames with a box"),
                Column(
                    "random_spt", "micro", "hits over frames, all weights random", "S-PT, random weights",
                    parts=("random_hits", "random_frames"),
                ),
            ),
            title="Sanity check: Spearman / SSIM against the map of the trained model, layers randomised from the last "
            "on",
            libraries=("skimage",),
        ),
    ),
)  # fmt: skip
"""What can be measured, by name."""
