"""The embedded clip, and what is known about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

CLASS_NAMES: tuple[str, ...] = ("left", "right", "up", "down", "clockwise", "counter-clockwise")
COLOURS: tuple[str, ...] = ("red", "yellow", "green", "cyan", "blue", "magenta")  # by hue, a sixth of the circle apart

_HERE = Path(__file__).parent


def demo_clip_path() -> Path:
    """Path of the embedded clip (mp4, 16 frames, 256x256 pixels)."""
    return _HERE / "clip.mp4"


def demo_truth() -> dict[str, Any]:
    """What is known about the embedded clip.

    Returns:
        `label` int and `class_name` str, the true class; `boxes` (T, 4) int32, the moving object as
        `(x0, y0, x1, y1)`, half-open, pixels of the clip; `size` int, side of the clip in pixels; `frames` int;
        `fps` int; `seed` int, which `render_clip(seed, size=size, split="test")` turns into the same frames.
    """
    truth: dict[str, Any] = json.loads((_HERE / "clip.json").read_text(encoding="utf-8"))
    truth["boxes"] = np.asarray(truth["boxes"], dtype=np.int32).reshape(-1, 4)
    return truth
