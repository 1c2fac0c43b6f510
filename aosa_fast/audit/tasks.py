"""What the processes of an audit hand to each other: clips made ready for the model, and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.boundary import reading
from aosa_fast.data import Clip, Sample
from aosa_fast.data.manifest import read_place, written_place

Row = dict[str, Any]
OK, ERROR, QUARANTINED = "ok", "error", "quarantined"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A clip, ready for the model.

    Attributes:
        sample: which it is.
        clip: its frames (T, H, W, 3) and boxes, as the model sees them.
        flow: (T-1, H, W, 2) float32, (dx, dy), pixels.
        moving: (T, H, W) bool, pixels that move against the camera's motion.
        static: (H, W) bool, pixels that never change.
        letterbox: (H, W) bool, static bars along the frame's sides.
        camera: mean length of the camera's motion, pixels per frame.
        content_hash: of the file or the folder's files; of the frames for a rendered clip.
        seconds: of each step: "read", "flow", "motion".
    """

    sample: Sample
    clip: Clip
    flow: NDArray[np.float32]
    moving: NDArray[np.bool_]
    static: NDArray[np.bool_]
    letterbox: NDArray[np.bool_]
    camera: float
    content_hash: str
    seconds: dict[str, float]


def describe_sample(sample: Sample, label_name: str | None = None) -> Row:
    """The columns of a row that say which clip it is about."""
    return {
        "id": row_id(sample),
        "path": None if sample.path is None else plain_text(sample.path),
        "start": None if sample.start is None else written_place(sample.start),
        "end": None if sample.end is None else written_place(sample.end),
        "seed": sample.seed,
        "group": None if sample.group is None else plain_text(sample.group),
        "data_label": sample.label,
        "label_name": None if label_name is None else plain_text(label_name),
    }


def sample_of(row: Row) -> Sample:
    """The sample that a row is about, without its boxes; from the columns id, path, start, end, seed, data_label."""
    with reading(row["id"], "must have a start and an end as an audit writes them"):
        start, end = read_place(row["start"]), read_place(row["end"])
    return Sample(row["id"], row["path"], row["data_label"], start, end, seed=row["seed"])


def failed_row(sample: Sample, stage: str, error: object, *, status: str = ERROR, attempts: int = 1) -> Row:
    """The row of a clip that could not be read or explained.

    Args:
        sample: the clip.
        stage: "read" or "explain".
        error: what went wrong.
        status: "error", or "quarantined" for a clip whose processes died.
        attempts: how often it was tried.
    """
    message = " ".join(plain_text(str(error)).split())
    return {**describe_sample(sample), "status": status, "stage": stage, "error": message, "attempts": attempts}


def row_id(sample: Sample) -> str:
    """The id of a clip's row: the sample's, as far as UTF-8 can hold it."""
    return plain_text(sample.id)


def plain_text(value: str) -> str:
    """Without what UTF-8 cannot hold: names of files may be any bytes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
