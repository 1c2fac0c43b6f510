"""Read clips from video files and frame folders, write videos and pictures, paint saliency over frames.

Names are imported when first used: who lists files or reads clips needs a part of the libraries only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosa_fast.files import atomic_path
from aosa_fast.lazy import lazy

if TYPE_CHECKING:
    from aosa_fast.video.clip import VideoClip
    from aosa_fast.video.overlay import render_overlay
    from aosa_fast.video.read import read_clip
    from aosa_fast.video.sheet import contact_sheet
    from aosa_fast.video.writer import write_image, write_video

__all__ = [
    "VideoClip",
    "atomic_path",
    "contact_sheet",
    "read_clip",
    "render_overlay",
    "write_image",
    "write_video",
]

__getattr__ = lazy(
    __name__,
    {
        "VideoClip": "clip",
        "contact_sheet": "sheet",
        "read_clip": "read",
        "render_overlay": "overlay",
        "write_image": "writer",
        "write_video": "writer",
    },
)
