"""The colours of saliency: heat for positive values, blue for negative ones, nothing at zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 255
"""Steps of colour on each side of zero; `COLORS` and `OPACITY` have 2 * LEVELS + 1 rows, zero in the middle."""

# Lightness rises along both, so that more colour reads as more effect also in grey and for colour-blind eyes.
_HEAT = ((72, 12, 104), (140, 30, 104), (204, 52, 76), (240, 104, 36), (252, 172, 36), (252, 248, 148))
_BLUE = ((18, 28, 110), (20, 66, 172), (24, 116, 220), (64, 170, 242), (136, 214, 252), (206, 244, 255))

# Below 1, so that weak effects can still be seen over a busy frame.
_OPACITY_GAMMA = 0.75


def _ramp(controls: tuple[tuple[int, int, int], ...]) -> NDArray[np.float64]:
    """(LEVELS, 3) float64: the control colours, joined linearly, at 1 / LEVELS .. 1."""
    places = np.linspace(0, 1, len(controls))
    at = np.arange(1, LEVELS + 1) / LEVELS
    return np.stack([np.interp(at, places, channel) for channel in np.array(controls, float).T], axis=1)


def _build() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    middle = np.zeros((1, 3))
    colors = np.concatenate([_ramp(_BLUE)[::-1], middle, _ramp(_HEAT)])
    opacity = (np.abs(np.arange(-LEVELS, LEVELS + 1)) / LEVELS) ** _OPACITY_GAMMA
    return colors, opacity


COLORS, OPACITY = _build()


def blend_tables(alpha: float) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Tables for `(frame * keep[level] + add[level]) >> 8` in uint16, the frame with colour of opacity `alpha` over it.

    Returns:
        keep: (2 * LEVELS + 1,) uint16, the share of the frame in 1/256.
        add: (2 * LEVELS + 1, 3) uint16, the share of the colour, with the half that rounds.
    """
    share = np.rint(alpha * OPACITY * 256)
    # At most 255 * 256 + 128 together with the frame, which fits.
    return (256 - share).astype(np.uint16), np.rint(share[:, None] * COLORS + 128).astype(np.uint16)
