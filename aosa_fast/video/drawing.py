"""Text and colour scales, as the pictures for people share them."""

from __future__ import annotations

import bisect
import functools
import math

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

from aosa_fast.video.colormap import COLORS, LEVELS, OPACITY

Color = tuple[int, int, int]

INK: Color = (28, 28, 32)
FAINT: Color = (110, 110, 118)
PAPER: Color = (255, 255, 255)

MAX_FRAMES = 16
"""Most frames of a clip on one picture."""

_GREY = 150  # what the colours of a scale are painted over, as if it were a frame
_LONGEST = 4000  # characters of a text that are looked at; no line is as long


def cell_size(H: int, W: int, side: int) -> tuple[int, int]:
    """Height and width of a frame of H x W pixels on a picture: the area of a square of `side` pixels."""
    scale = math.sqrt(side**2 / (H * W))
    # Extreme shapes would otherwise make thin stripes, thousands of pixels long.
    return min(max(round(H * scale), 24), 480), min(max(round(W * scale), 72), 480)


def spread(T: int, count: int) -> NDArray[np.intp]:
    """Indices of up to `count` of T frames, evenly spread: the first and the last among them, or the middle one."""
    count = min(T, count)
    return np.rint(np.linspace(0, T - 1, count)).astype(int) if count > 1 else np.array([(T - 1) // 2])


def write_line(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, room: float, fill: Color
) -> None:
    """Write one line with its upper left corner at `at`, cut to `room` pixels."""
    draw.text(at, _cut(draw, _plain(text), font(size), room), font=font(size), fill=fill)


def wrap_lines(draw: ImageDraw.ImageDraw, text: str, size: int, room: float, most: int) -> list[str]:
    """The text in at most `most` lines of `room` pixels, broken at spaces; what is too long for them is cut."""
    words, lines = _plain(text).split(" "), [""]
    for i, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font(size)) <= room or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[i:]])
            break
    return [_cut(draw, line, font(size), room) for line in lines]


def color_bar(low: float, high: float, limit: float, length: int, height: int) -> NDArray[np.uint8]:
    """(height, length, 3) uint8: the colours from `low` to `high` over mid grey; `limit` has the strongest."""
    level = np.rint(np.linspace(low, high, length) / limit * LEVELS).astype(int) + LEVELS
    share = OPACITY[level, None]
    row = np.rint(_GREY * (1 - share) + COLORS[level] * share).astype(np.uint8)
    return np.repeat(row[None], height, axis=0)


def value_label(value: float) -> str:
    """A value of a map as it stands beside the colours."""
    return f"{value:+.3g}" if value else "0"


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which is there on every machine."""
    return ImageFont.load_default(size=size)


def _plain(text: str) -> str:
    """The text in one line, and no longer than any line can be; it may come from a file's name."""
    # Half of a surrogate pair, as undecodable file names have it, cannot be drawn.
    return " ".join(text[:_LONGEST].encode(errors="replace").decode().split())


def _cut(draw: ImageDraw.ImageDraw, line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    if draw.textlength(line, font=font) <= room:
        return line
    too_long = bisect.bisect(range(len(line)), False, key=lambda n: draw.textlength(line[:n] + "...", font=font) > room)
    return line[: max(0, too_long - 1)].rstrip() + "..."
