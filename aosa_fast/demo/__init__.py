"""Two small classifiers and a clip with a known right explanation, all shipped with the package.

The six classes differ only by the motion of one object, so the right explanation is that object's boxes
(`demo_truth()["boxes"]`). Importing this module loads neither torch nor scikit-image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosa_fast.lazy import lazy

if TYPE_CHECKING:
    from aosa_fast.demo.attention import DemoAttention, load_demo_attention
    from aosa_fast.demo.network import DemoNet, load_demo_network, to_input
    from aosa_fast.demo.render import RenderedClip, render_clip
    from aosa_fast.demo.truth import CLASS_NAMES, demo_clip_path, demo_truth

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

__getattr__ = lazy(
    __name__,
    {
        "CLASS_NAMES": "truth",
        "demo_clip_path": "truth",
        "demo_truth": "truth",
        "DemoAttention": "attention",
        "load_demo_attention": "attention",
        "DemoNet": "network",
        "load_demo_network": "network",
        "to_input": "network",
        "RenderedClip": "render",
        "render_clip": "render",
    },
)
