"""Two small classifiers and a clip with a known right explanation, all shipped with the package.

The six classes differ only by the motion of one object, so the right explanation is that object's boxes
(`demo_truth()["boxes"]`). Importing this module loads neither torch nor scikit-image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aosa_fast.lazy import lazy

if TYPE_CHECKING:
    from aosa_fast.demo.attention import DemoAttention, load_demo_attention
    from aosa_fast.demo.network import DemoNet, load_demo_network, to_input
    from aosa_fast.demo.render import RenderedClip, render_clip

__all__ = [
    "CLASS_NAMES",
    "DemoAttention",
    "DemoNet",
    "RenderedClip",
    "demo_clip_path",
    "demo_truth",
    "load_demo_attention",
    "load_demo_network",
    "render_clip",
    "to_input",
]

CLASS_NAMES: tuple[str, ...] = ("left", "right", "up", "down", "clockwise", "counter-clockwise")

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


__getattr__ = lazy(
    __name__,
    {
        "DemoAttention": "attention",
        "load_demo_attention": "attention",
        "DemoNet": "network",
        "load_demo_network": "network",
        "to_input": "network",
        "RenderedClip": "render",
        "render_clip": "render",
    },
)
