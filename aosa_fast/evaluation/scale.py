"""Lengths that are meant for the paper's inputs, for inputs of another size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SIDE = 112  # of most of the paper's inputs, pixels
STRIDE, BOX = 8, 16  # for these


def scaled(pixels: int, size: Sequence[int], side: int = SIDE) -> int:
    """A length that is meant for inputs of `side` pixels, as large against one of `size` (H, W); at least 1."""
    return max(1, round(pixels * (min(size) / side)))


def scaled_grid(
    size: Sequence[int], stride: int | None = None, box: int | tuple[int, int] | None = None
) -> dict[str, Any]:
    """`stride` and `box` of a `Config`: the paper's, scaled to inputs of `size` (H, W), where they are not given."""
    return {
        "stride": scaled(STRIDE, size) if stride is None else stride,
        "box": scaled(BOX, size) if box is None else box,
    }
