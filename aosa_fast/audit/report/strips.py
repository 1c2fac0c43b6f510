"""Filmstrips: which clips get one, and how it is drawn."""

from __future__ import annotations

import io
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.audit.findings.types import AuditSummary
from aosa_fast.audit.store.strip import shrink, spread
from aosa_fast.video.overlay import color_limit, render_overlay

PER_FINDING = 4
_MOVING = 16  # frames of an animation: 10 to 20 kB
_GAP = 2
_DARK = 24  # grey level between the frames
_QUALITY = 60  # of WebP: 10 to 25 kB a strip


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


def draw_strip(
    frames: NDArray[np.uint8], saliency: NDArray[np.float32] | None, field: NDArray[np.float32] | None = None
) -> bytes:
    """Six frames spread over a clip, one below the other under its field, under its map, and as they are.

    Args:
        frames: (T, H, W, 3) uint8, RGB, or those that `unpack_strip` gives; T may be less than six.
        saliency: (T, h, w) float32, the map; None leaves it out.
        field: (parts, rows, columns) float32, shares of the field; None leaves it out. Colours are scaled to the clip.

    Returns:
        A WebP picture.

    Raises:
        InputError: a map that does not fit to the frames.
    """
    total = len(frames) if saliency is None else len(saliency)
    chosen = spread(total)
    if len(frames) == total:
        chosen = chosen if field is None else _with_peak(chosen, field, total)
        frames = frames[chosen]
    plain = shrink(frames)
    rows = [plain]
    if saliency is not None:
        rows.insert(0, render_overlay(plain, saliency[chosen], limit=color_limit(saliency), min_side=1))
    if field is not None:
        rows.insert(0, render_overlay(plain, field[_part(chosen, field, total)], limit=color_limit(field), min_side=1))
    count, height, width = plain.shape[:3]
    sheet = np.full((len(rows) * (height + _GAP) - _GAP, count * (width + _GAP) - _GAP, 3), _DARK, np.uint8)
    for r, row in enumerate(rows):
        for i, picture in enumerate(row):
            y, x = r * (height + _GAP), i * (width + _GAP)
            sheet[y : y + height, x : x + width] = picture
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", quality=_QUALITY, method=4)
    return file.getvalue()


def draw_moving(frames: NDArray[np.uint8]) -> bytes:
    """At most 16 frames of a clip, (T, H, W, 3), as an animated WebP: two seconds, again and again."""
    count = min(len(frames), _MOVING)
    small = shrink(frames[np.linspace(0, len(frames) - 1, count).astype(int)])
    first, *rest = map(Image.fromarray, small)
    file = io.BytesIO()
    first.save(
        file, "WEBP", save_all=True, append_images=rest, duration=2000 // count, loop=0, quality=_QUALITY // 2, method=2
    )
    return file.getvalue()


def _part(frame: NDArray[np.int64], field: NDArray[np.float32], total: int) -> NDArray[np.int64]:
    """The part of a field that the middle of each frame lies in."""
    return (2 * frame + 1) * len(field) // (2 * total)


def _with_peak(chosen: NDArray[np.int64], field: NDArray[np.float32], total: int) -> NDArray[np.int64]:
    """The frames with one of the strongest part among them, in place of the nearest: a flash may lie between two."""
    peak = int(field.sum(axis=(1, 2)).argmax())
    if peak in _part(chosen, field, total):
        return chosen
    middle = (2 * peak + 1) * total // (2 * len(field))
    changed = chosen.copy()
    changed[np.abs(chosen - middle).argmin()] = middle
    return changed
