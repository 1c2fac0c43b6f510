"""A picture for people: frames above their overlays, with captions and a scale in the units of the saliency."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aosa_fast.errors import InputError
from aosa_fast.video.colormap import COLORS, LEVELS, OPACITY
from aosa_fast.video.overlay import check_maps, color_limit, render_overlay, resize_image

MAX_FRAMES = 16

_MARGIN = 20
_GAP = 6
_CAPTION = 20
_BAR = 16
_MIN_WIDTH = 560
_INK = (28, 28, 32)
_FAINT = (110, 110, 118)
_PAPER = (255, 255, 255)


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
    count = min(T, MAX_FRAMES)
    chosen = np.rint(np.linspace(0, T - 1, count)).astype(int)
    rows = math.ceil(count / columns)
    columns = math.ceil(count / rows)
    h, w = _cell(H, W, columns)
    sources = np.stack([resize_image(frames[t], h, w) for t in chosen])
    overlays = render_overlay(
        sources, saliency[chosen], limit=limit, boxes=None if boxes is None else boxes[chosen], min_side=1
    )
    width = max(_MIN_WIDTH, 2 * _MARGIN + columns * (w + _GAP) - _GAP)
    row_height = 2 * h + 2 + _CAPTION + _GAP
    top = _MARGIN + 34
    sheet = Image.new("RGB", (width, top + rows * row_height + 62 + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (_MARGIN, _MARGIN), title, 20, width - 2 * _MARGIN, _INK)
    for i, t in enumerate(chosen):
        x, y = _MARGIN + i % columns * (w + _GAP), top + i // columns * row_height
        sheet.paste(Image.fromarray(sources[i]), (x, y))
        sheet.paste(Image.fromarray(overlays[i]), (x, y + h + 2))
        _text(draw, (x, y + 2 * h + 5), texts[t], 13, w, _FAINT)
    low, high = min(0.0, float(saliency.min())), max(0.0, float(saliency.max()))
    _scale(sheet, draw, top + rows * row_height + 12, max(low, -limit), min(high, limit), limit, units)
    return np.asarray(sheet)


def _cell(H: int, W: int, columns: int) -> tuple[int, int]:
    """Height and width of a frame on the sheet: fewer columns make room for larger frames."""
    area = (196 if columns > 4 else 260) ** 2
    scale = math.sqrt(area / (H * W))
    # Extreme shapes would otherwise make a sheet of thin stripes, thousands of pixels long.
    return min(max(round(H * scale), 24), 480), min(max(round(W * scale), 72), 480)


def _scale(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, y: int, low: float, high: float, limit: float, units: str
) -> None:
    """Draw the colours from `low` to `high` over mid grey, with ticks and the units."""
    if low == high:
        _text(
            draw,
            (_MARGIN, y),
            f"no colour: the map is constant or the limit 0 ({units})",
            14,
            sheet.width - 2 * _MARGIN,
            _INK,
        )
        return
    length = min(420, sheet.width - 2 * _MARGIN)
    values = np.linspace(low, high, length)
    level = np.rint(values / limit * LEVELS).astype(int) + LEVELS
    share = OPACITY[level, None]
    bar = np.rint(150 * (1 - share) + COLORS[level] * share).astype(np.uint8)
    sheet.paste(Image.fromarray(np.repeat(bar[None], _BAR, axis=0)), (_MARGIN, y))
    font = _font(14)
    # From the outer ticks inwards, so that a crowded scale drops the less telling ones.
    taken: list[tuple[float, float]] = []
    for value in (high, low, 0.0, high / 2, low / 2):
        label = f"{value:+.3g}" if value else "0"
        x = _MARGIN + (value - low) / (high - low) * (length - 1)
        half = draw.textlength(label, font=font) / 2
        at = min(max(x, _MARGIN + half), _MARGIN + length - half)
        if any(abs(at - other) < half + other_half + 8 for other, other_half in taken):
            continue
        taken.append((at, half))
        draw.line([(x, y + _BAR), (x, y + _BAR + 4)], fill=_INK)
        draw.text((at - half, y + _BAR + 5), label, font=font, fill=_INK)
    if length + 2 * _MARGIN + 80 < sheet.width:
        _text(draw, (_MARGIN + length + 14, y), units, 14, sheet.width - length - 2 * _MARGIN - 14, _INK)
    else:
        _text(draw, (_MARGIN, y + _BAR + 24), units, 14, sheet.width - 2 * _MARGIN, _INK)


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, room: int, fill: tuple[int, int, int]
) -> None:
    """Write one line, cut to `room` pixels."""
    font = _font(size)
    line = " ".join(text.split())
    if draw.textlength(line, font=font) > room:
        too_long = bisect.bisect(
            range(len(line)), False, key=lambda n: draw.textlength(line[:n] + "...", font=font) > room
        )
        line = line[: max(0, too_long - 1)].rstrip() + "..."
    draw.text(at, line, font=font, fill=fill)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
