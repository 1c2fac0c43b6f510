"""What the names on the page mean: kinds of findings and measures."""

from __future__ import annotations

from aosa_fast.audit.findings.types import LABEL, OUTLIER, SHORTCUT, UNEXPLAINED, ClassSummary
from aosa_fast.audit.measures import MEASURES, Measure
from aosa_fast.audit.report.text import number, percent

KINDS = {
    SHORTCUT: "The maps of a class gather at one place or time, whatever its clips show.",
    OUTLIER: "Clips whose measures are far from those of their class.",
    LABEL: "The model disagrees with the label, and its map is as concentrated as a correct clip's.",
    UNEXPLAINED: "Maps that fail their self-check: do not trust them.",
}


def known_kind(kind: str) -> str:
    """The kind of a finding, or "other" for one that the page does not know."""
    return kind if kind in KINDS else "other"


def decided(count: int) -> str:
    """How many clips verdicts leave out, as a sentence."""
    clips, are = ("clip was", "is") if count == 1 else ("clips were", "are")
    return f"{count} {clips} decided by a person and {are} left out"


def measures_of(classes: tuple[ClassSummary, ...], *, table: bool = False) -> list[Measure]:
    """The measures that some class has, known ones first; with `table`, those that classes are compared by."""
    present = {name: None for one in classes for name in one.measures}
    known = [measure for measure in MEASURES.values() if measure.name in present and measure.kind != "area"]
    if table:
        return [one for one in known if one.compared and any(quartiles(one, summary) for summary in classes)]
    return known + [Measure(name, name, "") for name in present if name not in MEASURES]


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
