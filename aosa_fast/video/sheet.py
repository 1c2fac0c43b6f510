"""A picture for people: frames above their overlays, with captions and a scale in the units of the saliency."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aosa_fast.errors import InputError
from aosa_fast.video.drawing import (
    FAINT,
    INK,
    MAX_FRAMES,
    PAPER,
    cell_size,
    color_bar,
    font,
    spread,
    value_label,
    write_line,
)
from aosa_fast.video.overlay import check_maps, color_limit, color_range, render_overlay, resize_image

_MARGIN = 20
_GAP = 6
_CAPTION = 20
_BAR = 16
_MIN_WIDTH = 560


def contact_sheet(
    frames: NDArray[np.uint8],
    saliency: NDArray[np.float32],
    *,
    title: str,
    units: str,
    limit: float | None = None,
    boxes: NDArray[np.int32] | None = None,
    columns: int = 8,
    captions: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """Lay out up to 16 evenly chosen frames, each above its overlay, under a title and over a colour scale.

    Args:
        frames: (T, H, W, 3) uint8, RGB.
        saliency: (T, h, w) floating point.
        title: one line; cut short where it does not fit.
        units: what the numbers of the colour scale measure, for example "drop of p".
        limit: |saliency| of the strongest colour; None for the 99.5th percentile over all T frames.
        boxes: (T, 4) x0, y0, x1, y1, pixels of `saliency`, half-open; outlined in the overlays.
        columns: most frames in a row.
        captions: T texts under the frames; None for the frame numbers.

    Returns:
        (H2, W2, 3) uint8.

    Raises:
        InputError: as `render_overlay`; `columns` below 1; captions that are not T.
    """
    check_maps(frames, saliency, boxes)
    T, H, W = frames.shape[:3]
    if columns < 1:
        raise InputError(f"columns must be at least 1; got {columns}")
    if captions is not None and len(captions) != T:
        raise InputError(f"captions must have one text per frame, T={T}; got {len(captions)}")
    texts = [f"frame {t}" for t in range(T)] if captions is None else [*captions]
    limit = color_limit(saliency, limit)
    chosen = spread(T, MAX_FRAMES)
    count = len(chosen)
    rows = math.ceil(count / columns)
    columns = math.ceil(count / rows)
    # Fewer columns make room for larger frames.
    h, w = cell_size(H, W, 196 if columns > 4 else 260)
    sources = np.stack([resize_image(frames[t], h, w) for t in chosen])
    overlays = render_overlay(
        sources, saliency[chosen], limit=limit, boxes=None if boxes is None else boxes[chosen], min_side=1
    )
    width = max(_MIN_WIDTH, 2 * _MARGIN + columns * (w + _GAP) - _GAP)
    row_height = 2 * h + 2 + _CAPTION + _GAP
    top = _MARGIN + 34
    sheet = Image.new("RGB", (width, top + rows * row_height + 62 + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    write_line(draw, (_MARGIN, _MARGIN), title, 20, width - 2 * _MARGIN, INK)
    for i, t in enumerate(chosen):
        x, y = _MARGIN + i % columns * (w + _GAP), top + i // columns * row_height
        sheet.paste(Image.fromarray(sources[i]), (x, y))
        sheet.paste(Image.fromarray(overlays[i]), (x, y + h + 2))
        write_line(draw, (x, y + 2 * h + 5), texts[t], 13, w, FAINT)
    _scale(sheet, draw, top + rows * row_height + 12, *color_range(saliency, limit), limit, units)
    return np.asarray(sheet)


def _scale(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, y: int, low: float, high: float, limit: float, units: str
) -> None:
    """Draw the colours from `low` to `high` over mid grey, with ticks and the units."""
    if low == high:
        write_line(
            draw,
            (_MARGIN, y),
            f"no colour: the map is constant or the limit 0 ({units})",
            14,
            sheet.width - 2 * _MARGIN,
            INK,
        )
        return
    length = min(420, sheet.width - 2 * _MARGIN)
    sheet.paste(Image.fromarray(color_bar(low, high, limit, length, _BAR)), (_MARGIN, y))
    # From the outer ticks inwards, so that a crowded scale drops the less telling ones.
    taken: list[tuple[float, float]] = []
    for value in (high, low, 0.0, high / 2, low / 2):
        label = value_label(value)
        x = _MARGIN + (value - low) / (high - low) * (length - 1)
        half = draw.textlength(label, font=font(14)) / 2
        at = min(max(x, _MARGIN + half), _MARGIN + length - half)
        if any(abs(at - other) < half + other_half + 8 for other, other_half in taken):
            continue
        taken.append((at, half))
        draw.line([(x, y + _BAR), (x, y + _BAR + 4)], fill=INK)
        draw.text((at - half, y + _BAR + 5), label, font=font(14), fill=INK)
    if length + 2 * _MARGIN + 80 < sheet.width:
        write_line(draw, (_MARGIN + length + 14, y), units, 14, sheet.width - length - 2 * _MARGIN - 14, INK)
    else:
        write_line(draw, (_MARGIN, y + _BAR + 24), units, 14, sheet.width - 2 * _MARGIN, INK)
