"""Tables for `farneback`, made once for a size of frame: its image pyramid and its polynomial expansion.

Blur, resizing and borders are linear and separable, so that one table an axis says everything: output pixel i is the
sum over the taps k of weight[k, i] * input[index[k, i]].
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_SIDE = 32  # pixels; OpenCV makes no coarser levels


@dataclass(frozen=True)
class Axis:
    """One axis of a separable filter; borders are folded into the indices."""

    index: NDArray[np.int32]  # (taps, size): the input pixel of each tap of each output pixel
    weight: NDArray[np.float32]  # (taps, size)

    @property
    def size(self) -> int:
        """Pixels of the output."""
        return self.index.shape[1]


@dataclass(frozen=True)
class Level:
    """One size of the pyramid."""

    rows: Axis  # from the frame's rows: blurred and resized
    columns: Axis
    flow_rows: Axis  # from the rows of the next coarser level; no taps at the coarsest, whose flow starts at 0
    flow_columns: Axis  # with the flow's growth 1 / pyr_scale


@functools.lru_cache(maxsize=16)
def pyramid(height: int, width: int, pyr_scale: float, levels: int) -> tuple[Level, ...]:
    """Levels of a frame's pyramid, coarsest first, at most `levels` besides the frame's own size."""
    scales = [1.0]
    while len(scales) <= levels and min(height, width) * (scales[-1] * pyr_scale) >= LEAST_SIDE:
        scales.append(scales[-1] * pyr_scale)
    made: list[Level] = []
    for scale in reversed(scales):
        rows, columns = _image_axis(height, scale), _image_axis(width, scale)
        if made:
            flow_rows = _table(*_resize(made[-1].rows.size, rows.size))
            index, weight = _resize(made[-1].columns.size, columns.size)
            flow_columns = _table(index, weight / pyr_scale)
        else:
            flow_rows, flow_columns = (
                _table(np.zeros((0, axis.size), np.int64), np.zeros((0, axis.size))) for axis in (rows, columns)
            )
        made.append(Level(rows, columns, flow_rows, flow_columns))
    return tuple(made)


@functools.lru_cache(maxsize=16)
def expansion_weights(poly_n: int, poly_sigma: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights of the quadratic fit around a pixel.

    Args:
        poly_n: radius of the window, pixels.
        poly_sigma: standard deviation of its Gaussian g, pixels.

    Returns:
        (3, 2 poly_n + 1): g, x g and x² g, for x from -poly_n to poly_n; and (4,): with <f> the moment of the image
        times f under g, the coefficient of y is [0] <y>, of y² is [1] <1> + [2] <y²>, of xy is [3] <xy>.
    """
    x = np.arange(-poly_n, poly_n + 1, dtype=np.float64)
    g = np.exp(-(x**2) / (2 * poly_sigma**2))
    g /= g.sum()
    second, fourth = (g * x**2).sum(), (g * x**4).sum()
    # The inverse of the moments of 1, y, x, y², x², xy, whose only entries off the diagonal join 1, y² and x².
    spread = fourth - second**2
    inverse = [1 / second, -second / spread, 1 / spread, 1 / second**2]
    return _frozen(np.stack([g, x * g, x**2 * g]).astype(np.float32)), _frozen(np.array(inverse, np.float32))


def _image_axis(source: int, scale: float) -> Axis:
    """A Gaussian blur, mirrored at the centre of the border pixels, followed by bilinear resizing."""
    sigma = (1 / scale - 1) / 2
    radius = max(round(sigma * 5) | 1, 3) // 2
    offsets = np.arange(-radius, radius + 1)
    blur = np.exp(-(offsets**2) / (2 * sigma**2)) if sigma > 0 else np.array([1.0, 2.0, 1.0])
    blur /= blur.sum()
    (low, _), (low_weight, high_weight) = _resize(source, round(source * scale))
    # The two pixels that are mixed are neighbours, so that their windows share all taps but two.
    index = low + np.arange(-radius, radius + 2)[:, None]
    weight = np.append(blur, 0)[:, None] * low_weight + np.append(0, blur)[:, None] * high_weight
    period = max(2 * (source - 1), 1)
    index = np.abs(index) % period
    used = weight.any(axis=1)
    return _table(np.minimum(index, period - index)[used], weight[used])


def _resize(source: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Bilinear: (2, size) indices and weights; pixel centres at half-integers, border pixels continued."""
    position = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)
    low = position.astype(np.int64)
    part = position - low
    return np.stack([low, np.minimum(low + 1, source - 1)]), np.stack([1 - part, part])


def _table(index: NDArray[np.int64], weight: NDArray[np.float64]) -> Axis:
    return Axis(_frozen(index.astype(np.int32)), _frozen(weight.astype(np.float32)))


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)  # it is shared by all callers
    return array
