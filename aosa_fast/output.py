"""The files that show one explanation, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aosa_fast.explanation import Explanation
from aosa_fast.video import atomic_path

FILES = {
    "overlay": "overlay.mp4",
    "contact sheet": "sheet.png",
    "raw result": "explanation.npz",
    "report": "report.json",
}


def write_explanation(
    explanation: Explanation,
    out: Path,
    prefix: str = "",
    *,
    boxes: NDArray[np.int32] | None = None,
    fps: float = 8.0,
) -> dict[str, Path]:
    """Writes overlay, contact sheet, raw result and report to a folder, and returns their paths by name.

    Args:
        explanation: of one clip.
        out: the folder.
        prefix: of the files' names.
        boxes: (T, 4) in pixels of the map, drawn into the overlay.
        fps: frames per second of the overlay.
    """
    files = {kind: out / f"{prefix}{name}" for kind, name in FILES.items()}
    for name in ("overlay", "contact sheet"):
        explanation.save_overlay(files[name], boxes=boxes, fps=fps)
    explanation.save(files["raw result"])
    with atomic_path(files["report"]) as temporary:
        temporary.write_text(json.dumps(explanation.metadata, indent=2) + "\n", encoding="utf-8")
    return files
