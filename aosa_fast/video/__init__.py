"""Read clips from video files and frame folders, write videos and pictures, paint saliency over frames."""

from __future__ import annotations

from aosa_fast.files import atomic_path
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
