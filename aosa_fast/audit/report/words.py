"""What the names on the page mean: kinds of findings and measures."""

from __future__ import annotations

from dataclasses import dataclass

from aosa_fast.audit.findings.types import LABEL, OUTLIER, SHORTCUT, UNEXPLAINED, ClassSummary
from aosa_fast.audit.report.text import number, percent

KINDS = {
    SHORTCUT: "The maps of a class gather at one place or time, whatever its clips show.",
    OUTLIER: "Clips whose measures are far from those of their class.",
    LABEL: "The model disagrees with the label, and its map is as concentrated as a correct clip's.",
    UNEXPLAINED: "Maps that fail their self-check: do not trust them.",
}


@dataclass(frozen=True)
class Measure:
    """How a measure is shown.

    Attributes:
        name: its key in `ClassSummary.measures`.
        short: heading of its column.
        meaning: one sentence.
        kind: "lift", where it is divided by `area`; "percent" or "number".
        area: key of the area that a share belongs to.
    """

    name: str
    short: str
    meaning: str
    kind: str = "number"
    area: str = ""


MEASURES = (
    Measure(
        "share_border", "border", "Share of the map on a ring along the frame's border, over the ring's area.",
        "lift", "area_border",
    ),
    Measure(
        "share_letterbox", "letterbox", "Share on static bars along the sides, over their area.",
        "lift", "area_letterbox",
    ),
    Measure("share_static", "static", "Share on pixels that never change, over their area.", "lift", "area_static"),
    Measure(
        "share_moving", "moving", "Share on what moves against the camera's motion, over its area.",
        "lift", "area_moving",
    ),
    Measure("share_boxes", "boxes", "Share in the annotated boxes, over their area.", "lift", "area_boxes"),
    Measure("best_frame_share", "best frame", "Share of the frame that has most of the map.", "percent"),
    Measure("effective_frames", "frames", "Effective number of frames that the map is spread over."),
    Measure("effective_area", "area", "Effective share of the frame that the map is spread over.", "percent"),
    Measure("centroid_x", "centroid x", "Centre of the map, from the left (0) to the right (1)."),
    Measure("centroid_y", "centroid y", "Centre of the map, from the top (0) to the bottom (1)."),
    Measure("centroid_t", "centroid t", "Centre of the map, from the beginning of the clip (0) to its end (1)."),
    Measure("spread", "spread", "Root mean square distance of the map from its centre, in sides of the frame."),
    Measure("camera_motion", "camera", "Mean motion of the camera, pixels per frame."),
    Measure("agreement", "agreement", "Correlation of the map of the label with that of the prediction."),
)  # fmt: skip
_IN_TABLE = (
    "share_border", "share_letterbox", "share_static", "share_moving", "share_boxes", "best_frame_share",
    "effective_frames", "effective_area", "spread", "camera_motion", "agreement",
)  # fmt: skip


def measures_of(classes: tuple[ClassSummary, ...], *, table: bool = False) -> list[Measure]:
    """The measures that some class has, known ones first; with `table`, those that classes are compared by."""
    present = {name: None for one in classes for name in one.measures}
    areas = {measure.area for measure in MEASURES}
    known = [measure for measure in MEASURES if measure.name in present]
    if table:
        compared = [measure for measure in known if measure.name in _IN_TABLE]
        return [measure for measure in compared if any(quartiles(measure, one) for one in classes)]
    names = {measure.name for measure in MEASURES}
    return known + [Measure(name, name, "") for name in present if name not in names and name not in areas]


def quartiles(measure: Measure, one: ClassSummary) -> tuple[float, float, float] | None:
    """Lower quartile, median and upper quartile as they are shown; None where the class has none.

    A lift is the quartiles of the share over the median of the area.
    """
    values = one.measures.get(measure.name)
    if values is None or not measure.area:
        return values
    area = one.measures.get(measure.area)
    if area is None or not area[1] > 0:
        return None
    return values[0] / area[1], values[1] / area[1], values[2] / area[1]


def written(measure: Measure, value: float | None) -> str:
    """A value of a measure as it is shown."""
    if measure.kind == "percent":
        return percent(value)
    if measure.kind == "lift" and value is not None and value < 100:
        return f"{value:.2f}"
    return number(value)
