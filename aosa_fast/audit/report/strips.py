"""Filmstrips: which clips get one, and how it is drawn."""

from __future__ import annotations

import io
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.audit.findings.types import AuditSummary
from aosa_fast.video.overlay import color_limit, render_overlay, resize_image

FRAMES = 6  # of a strip
SIDE = 96  # height of a frame, pixels
PER_FINDING = 4
_WIDTHS = (48, 176)  # least and most of a frame
_GAP = 2
_DARK = 24  # grey level between the frames
_QUALITY = 68  # of WebP: 15 to 25 kB a strip


def choose_strips(summary: AuditSummary, most: int) -> tuple[list[str], int]:
    """The ids that get a filmstrip, at most `most`, and how many more would have had one.

    Findings, classes and groups take turns, the first clip of each before the second of any, so that a large audit
    shows something of everything.
    """
    lists = [finding.clips[:PER_FINDING] for finding in summary.findings]
    lists += [ids for one in summary.classes for ids in (one.typical, one.strangest)]
    lists += [group.clips[:1] for one in summary.classes for group in one.groups]
    wanted = list(dict.fromkeys(id for turn in zip_longest(*lists) for id in turn if id is not None))
    return wanted[:most], max(0, len(wanted) - most)


def draw_strip(frames: NDArray[np.uint8], saliency: NDArray[np.float32] | None) -> bytes:
    """Six frames spread evenly over a clip, below each its plain picture, above it the same under its map.

    Args:
        frames: (T, H, W, 3) uint8, RGB; T may be less than six.
        saliency: (T, h, w) float32; None draws the plain frames alone. Colours are scaled to the clip.

    Returns:
        A WebP picture.

    Raises:
        InputError: a map that does not fit to the frames.
    """
    T, H, W = frames.shape[:3]
    chosen = np.rint(np.linspace(0, T - 1, min(FRAMES, T))).astype(int)
    width = min(max(round(SIDE * W / H), _WIDTHS[0]), _WIDTHS[1])
    plain = np.stack([resize_image(frames[t], SIDE, width) for t in chosen])
    rows = [plain]
    if saliency is not None:
        rows.insert(0, render_overlay(plain, saliency[chosen], limit=color_limit(saliency), min_side=1))
    sheet = np.full((len(rows) * (SIDE + _GAP) - _GAP, len(chosen) * (width + _GAP) - _GAP, 3), _DARK, np.uint8)
    for r, row in enumerate(rows):
        for i, picture in enumerate(row):
            y, x = r * (SIDE + _GAP), i * (width + _GAP)
            sheet[y : y + SIDE, x : x + width] = picture
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", quality=_QUALITY, method=4)
    return file.getvalue()
