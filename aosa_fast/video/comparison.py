"""One picture of several methods: the frames in a row, and below them a row of overlays per method."""

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
    wrap_lines,
    write_line,
)
from aosa_fast.video.overlay import check_maps, color_limit, color_range, render_overlay, resize_image

_MARGIN = 22
_GAP = 6
_LABEL = 214  # width of the column of names
_TEXT = _LABEL - 18
_LINE = 17
_BAR = 10
_LOWEST = 124  # height of a row: a name, three lines of units, the scale, the range
_LEGEND = (
    "Warm: positive; blue: negative; no colour: 0. Every row has a scale of its own: the strongest colour is the row's "
    "own largest |value| (99.5th percentile over the clip). Beside each row: the smallest and the largest value."
)


def comparison_sheet(
    frames: NDArray[np.uint8],
    maps: Sequence[tuple[str, NDArray[np.float32], str]],
    *,
    title: str,
    columns: int = 4,
    boxes: NDArray[np.int32] | None = None,
) -> NDArray[np.uint8]:
    """Lay out evenly spread frames, and below them the maps of each method painted over them (as Figs. 5 and 6).

    Args:
        frames: (T, H', W', 3) uint8, RGB; enlarged where they are small.
        maps: per row its name, the saliency (T, H, W) floating point, all of one size, and the units of it. Each is
            coloured by its own largest values (see `color_limit`), since methods have different units.
        title: one line; cut short where it does not fit, as are names and units.
        columns: frames shown, at most 16 and at most T; of several, the first and the last are among them.
        boxes: (T, 4) or (T, M, 4) x0, y0, x1, y1, pixels of the maps, half-open; outlined in the overlays. Empty ones
            are not drawn.

    Returns:
        (h, w, 3) uint8.

    Raises:
        InputError: no maps, maps of different sizes, `columns` out of range; shapes that do not fit together and
            values that are not finite, with the name of the map.
    """
    outlines = _check(frames, maps, columns, boxes)
    T, H, W = frames.shape[:3]
    chosen = spread(T, columns)
    count = len(chosen)
    h, w = cell_size(H, W, 180 if count > 4 else 220)
    sources = np.stack([resize_image(frames[t], h, w) for t in chosen])
    row_height = max(h, _LOWEST) + 2 * _GAP
    left, top = _MARGIN + _LABEL, _MARGIN + 60
    width = left + count * (w + _GAP) - _GAP + _MARGIN
    bottom = top + (1 + len(maps)) * row_height
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    note = _LEGEND + ("" if boxes is None else " Outlined: the given boxes.")
    legend = wrap_lines(measure, note, 13, width - 2 * _MARGIN, 8)
    sheet = Image.new("RGB", (width, bottom + len(legend) * _LINE + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    write_line(draw, (_MARGIN, _MARGIN), title, 20, width - 2 * _MARGIN, INK)
    for i, t in enumerate(chosen):
        write_line(draw, (left + i * (w + _GAP), top - 20), f"frame {t}", 13, w, FAINT)
    _paste_row(sheet, sources, left, top)
    write_line(draw, (_MARGIN, top), "clip", 18, _TEXT, INK)
    size = f"{T} frame{'s' if T > 1 else ''} of {W}x{H} pixels"
    write_line(draw, (_MARGIN, top + 25), size, 13, _TEXT, FAINT)
    for row, (name, saliency, units) in enumerate(maps, start=1):
        y = top + row * row_height
        _label(sheet, draw, y, name, saliency, units)
        overlays = render_overlay(sources, saliency[chosen], limit=color_limit(saliency), min_side=1)
        for outline in outlines:
            overlays = _outline(overlays, outline[chosen], saliency.shape[1:])
        _paste_row(sheet, overlays, left, y)
    for i, line in enumerate(legend):
        draw.text((_MARGIN, bottom + i * _LINE), line, font=font(13), fill=FAINT)
    return np.asarray(sheet)


def _check(
    frames: NDArray[np.uint8],
    maps: Sequence[tuple[str, NDArray[np.float32], str]],
    columns: int,
    boxes: NDArray[np.int32] | None,
) -> list[NDArray[np.int32]]:
    """Checks the arguments of `comparison_sheet`; returns the boxes as M arrays (T, 4)."""
    if not 1 <= columns <= MAX_FRAMES:
        raise InputError(f"columns must be within 1..{MAX_FRAMES}; got {columns}")
    if not maps:
        raise InputError("maps must have at least one row; got none")
    if boxes is not None and boxes.ndim not in (2, 3):
        raise InputError(f"boxes must have shape (T, 4) or (T, M, 4); got {boxes.shape}")
    outlines = [] if boxes is None else [boxes] if boxes.ndim == 2 else [boxes[:, m] for m in range(boxes.shape[1])]
    for name, saliency, _ in maps:
        try:
            check_maps(frames, saliency, None)
            for outline in outlines:
                check_maps(frames, saliency, outline)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        if saliency.shape != maps[0][1].shape:
            raise InputError(f"{name}: maps must have one size, {maps[0][1].shape}; got {saliency.shape}")
    return outlines


def _paste_row(sheet: Image.Image, images: NDArray[np.uint8], x: int, y: int) -> None:
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (x + i * (image.shape[1] + _GAP), y))


def _outline(images: NDArray[np.uint8], boxes: NDArray[np.int32], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The images with one box each, pixels of maps of `size`, outlined: painted with a map that has no colour."""
    nothing = np.zeros((len(images), *size), np.float32)
    return render_overlay(images, nothing, boxes=boxes, min_side=1)


def _label(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, y: int, name: str, saliency: NDArray[np.float32], units: str
) -> None:
    """What stands beside a row: the name, the units, the scale of the colours, the smallest and largest value."""
    write_line(draw, (_MARGIN, y), name, 18, _TEXT, INK)
    y += 25
    for line in wrap_lines(draw, units, 13, _TEXT, 3):
        draw.text((_MARGIN, y), line, font=font(13), fill=FAINT)
        y += _LINE
    y += 5
    least, most = float(saliency.min()), float(saliency.max())
    if least == most:
        text = f"{_range(least, most)[1]} everywhere: no colour"
    else:
        text = " .. ".join(_range(least, most))
        limit = color_limit(saliency)
        bar = color_bar(*color_range(saliency, limit), limit, _TEXT, _BAR)
        sheet.paste(Image.fromarray(bar), (_MARGIN, y))
        y += _BAR + 4
    write_line(draw, (_MARGIN, y), text, 13, _TEXT, INK)


def _range(least: float, most: float) -> tuple[str, str]:
    """Both with the decimals that give the larger of them two digits; what they leave nothing of is 0."""
    size = max(abs(least), abs(most))
    power = math.floor(math.log10(size)) if size else 0
    plain = -4 < power < 4
    texts = [f"{v:+.{max(0, 1 - power)}f}" if plain else f"{v / 10.0**power:+.1f}e{power}" for v in (least, most)]
    kept = [text if text.split("e")[0].strip("+-0.") else "0" for text in texts]
    return kept[0], kept[1]
