"""The measures of an audit, one record each: the rows' columns, the page, and what findings say of them.

What a measure is computed from stands in `audit.clip.measures`, whose results have these names.
"""

from __future__ import annotations

from dataclasses import dataclass

from aosa_fast.registry import Registry


@dataclass(frozen=True)
class Measure:
    """A number of each clip, null where it has no meaning.

    Attributes:
        name: of its column, float64.
        heading: of its column on the page.
        help: what it says, one sentence.
        kind: how it is written: "number", "percent", or "lift", over the `area` that it belongs to; "area" for what a
            lift is over, which is not shown by itself.
        area: name of the measure that a lift is over.
        compared: whether classes are compared by it on the page.
        outlier: words for it in a finding, where clips that are far from their class in it are one; else "".
    """

    name: str
    heading: str
    help: str
    kind: str = "number"
    area: str = ""
    compared: bool = False
    outlier: str = ""


def _lift(name: str, where: str, outlier: str = "") -> tuple[Measure, Measure]:
    """The share of the map in a region, and the share of the voxels that the region has: 1 for a flat map."""
    share = Measure(f"share_{name}", name, f"Share {where}.", "lift", f"area_{name}", True, outlier)
    return share, Measure(f"area_{name}", name, "Share of the voxels.", "area")


# In the order of the rows' columns. All are of the field that tubes integrate; with method=aosa of the map itself.
MEASURES = Registry(
    "measure",
    (
        *_lift("border", "of the map on a ring along the frame's border, over the ring's area", "share on the border"),
        *_lift("letterbox", "on static bars along the sides, over their area"),
        *_lift("static", "on pixels that never change, over their area", "share on pixels that never change"),
        *_lift("moving", "on what moves against the camera's motion, over its area", "share on what moves"),
        *_lift("boxes", "in the annotated boxes, over their area"),
        Measure(
            "best_frame_share",
            "best frame",
            "Share of the frame that has most of the map.",
            "percent",
            compared=True,
            outlier="share of the best frame",
        ),
        Measure("effective_frames", "frames", "Effective number of frames that the map is spread over.", compared=True),
        Measure(
            "effective_area",
            "area",
            "Effective share of the frame that the map is spread over.",
            "percent",
            compared=True,
            outlier="effective area",
        ),
        Measure(
            "centroid_x",
            "centroid x",
            "Centre of the map, from the left (0) to the right (1).",
            outlier="place of the map, from left to right",
        ),
        Measure(
            "centroid_y",
            "centroid y",
            "Centre of the map, from the top (0) to the bottom (1).",
            outlier="place of the map, from top to bottom",
        ),
        Measure("centroid_t", "centroid t", "Centre of the map, from the beginning of the clip (0) to its end (1)."),
        Measure(
            "spread",
            "spread",
            "Root mean square distance of the map from its centre, in sides of the frame.",
            compared=True,
            outlier="spread of the map",
        ),
        Measure(
            "static_probability",
            "one frame",
            "Probability of the class on a clip of the middle frame, repeated: what needs no motion. Of a sample.",
            "percent",
            compared=True,
        ),
        Measure("camera_motion", "camera", "Mean motion of the camera, pixels per frame.", compared=True),
        Measure(
            "agreement",
            "agreement",
            "Correlation of the map of the label with that of the prediction.",
            compared=True,
        ),
    ),
)
