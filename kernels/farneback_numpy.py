"""The CPU's `farneback` of arrays, for processes that do without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aosa_fast import _C
from aosa_fast.kernels.pyramid import expansion_weights, pyramid


def farneback(
    frames: NDArray[np.uint8],  # (B, T, H, W), contiguous
    flow: NDArray[np.float32],  # (B, T-1, H, W, 2), written to
    pyr_scale: float = 0.5,
    levels: int = 3,
    winsize: int = 15,
    iterations: int = 3,
    poly_n: int = 5,
    poly_sigma: float = 1.2,
    *,
    threads: int,
) -> None:
    """As `aosa_fast.kernels.farneback.farneback`, whose arguments are checked there."""
    height, width = frames.shape[2:]
    tables = [
        tuple((axis.index, axis.weight) for axis in (level.rows, level.columns, level.flow_rows, level.flow_columns))
        for level in pyramid(height, width, pyr_scale, levels)
    ]
    weights, inverse = expansion_weights(poly_n, poly_sigma)
    _C.farneback(frames, flow, tables, weights, inverse, winsize, iterations, threads)
