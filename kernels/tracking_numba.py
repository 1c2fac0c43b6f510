"""Tracks of anchors, compiled by Numba: what `tracking` does in NumPy, with the same bits."""

import numpy as np
from numpy.typing import NDArray

from aosa_fast.kernels.jit import jit


@jit("(float32[:,:,:,::1], float32[:,::1], int64, float32[:,:,::1], boolean[:,::1])")
def track_clip(
    flow: NDArray[np.float32],  # (T-1, H, W, 2)
    grid: NDArray[np.float32],  # (n, 2)
    reseed: int,
    tracks: NDArray[np.float32],  # (N, T, 2)
    alive: NDArray[np.bool_],  # (N, T)
) -> None:
    """Fills `tracks` and `alive`."""
    steps, height, width, _ = flow.shape
    count = tracks.shape[0]
    xs, ys = np.empty(count, dtype=np.float64), np.empty(count, dtype=np.float64)
    living = np.ones(count, dtype=np.bool_)
    for i in range(count):
        xs[i], ys[i] = grid[i % grid.shape[0], 0], grid[i % grid.shape[0], 1]
    # Frames outside, anchors inside: neighbours read the same lines of the flow, which halves the time from memory.
    for t in range(steps + 1):
        for i in range(count):
            birth = i // grid.shape[0] * reseed
            if living[i] and t > birth:
                # Bilinear look-up; x and y are inside [0, W-1] x [0, H-1], so only the far neighbour needs a limit.
                x, y = xs[i], ys[i]
                column, row = int(x), int(y)
                ax, ay = x - column, y - row
                right, below = min(column + 1, width - 1), min(row + 1, height - 1)
                here, there = flow[t - 1, row], flow[t - 1, below]
                dx = (1 - ay) * ((1 - ax) * here[column, 0] + ax * here[right, 0]) + ay * (
                    (1 - ax) * there[column, 0] + ax * there[right, 0]
                )
                dy = (1 - ay) * ((1 - ax) * here[column, 1] + ax * here[right, 1]) + ay * (
                    (1 - ax) * there[column, 1] + ax * there[right, 1]
                )
                # Written so that NaN ends the track.
                if 0 <= x + dx <= width - 1 and 0 <= y + dy <= height - 1:
                    xs[i] = x + dx
                    ys[i] = y + dy
                else:
                    living[i] = False
            tracks[i, t, 0] = xs[i]
            tracks[i, t, 1] = ys[i]
            alive[i, t] = living[i] and t >= birth
