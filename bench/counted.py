"""The process whose instructions `instructions.py` counts: every operator once, between two marks, without torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from aosa_fast import _C
from aosa_fast.kernels.farneback_numpy import farneback
from aosa_fast.kernels.partners_numba import select
from aosa_fast.kernels.tracking_numba import track_clip

T, H, W, STRIDE, BOX, PARTNERS = 8, 64, 64, 8, 12, 3


def operators() -> dict[str, Callable[[], object]]:
    """Each on inputs of its own, as the pipeline calls it, on one thread."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    side = np.arange(STRIDE // 2, H, STRIDE)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2).astype(np.float32)
    count = len(grid)
    corners = np.clip(grid[None, :, None] + rng.integers(-8, 9, (1, 1, T, 2)), 0, H - BOX)
    boxes = np.concatenate([corners, corners + BOX], -1).astype(np.int32)
    members = np.stack([np.arange(count), *(rng.integers(0, count, count) for _ in range(PARTNERS))], -1)
    members = members.astype(np.int32)
    video, field = floats(1, 3, T, H, W), floats(1, T, H, W)
    pictures = np.cumsum(rng.integers(0, 3, (1, T, H, W, 3)), axis=3).astype(np.uint8)
    clips, rows = np.zeros(8, np.int32), members[:8]
    mean = np.zeros(3, np.float32)
    depth = 2 * (T - 1)
    directions = rng.standard_normal(((depth + 3) // 4 * 4, count))
    bytes_ = video.reshape(1, 3 * T, H, W, 1).view(np.uint8)
    return {
        "grey_frames": partial(_C.grey_frames, pictures, np.empty((1, T, H, W), np.uint8), 1),
        "normalize_frames": partial(_C.normalize_frames, pictures, mean, mean + 1, np.empty_like(video), 1),
        "farneback": partial(farneback, pictures[..., 0].copy(), np.empty((1, T - 1, H, W, 2), np.float32), threads=1),
        "track_anchors": partial(
            track_clip, floats(T - 1, H, W, 2), grid, T, np.empty((count, T, 2), np.float32), np.empty((count, T), bool)
        ),
        "select_partners": partial(
            select, directions, np.zeros(count, bool), grid.astype(np.float64), members.copy(), 1
        ),
        "conditional_mean": partial(_C.conditional_mean, video, np.empty_like(video), 2, 1),
        "field": partial(_C.field, video, floats(1, 3, T, H, W), mean, np.empty_like(field), 0, 0, 1),
        "tube_scores": partial(_C.tube_scores, field, boxes, members[None], np.empty((1, count), np.float32), 1),
        "saliency_map": partial(
            _C.saliency_map, floats(1, count), boxes, members[None], np.empty_like(field),
            np.empty(field.shape, np.int32), 1,
        ),
        "tube_overlaps": partial(
            _C.tube_overlaps, field, boxes, members[None], np.empty((1, count, count), np.float32), 1, 1
        ),
        "occlude": partial(
            _C.occlude, bytes_, np.zeros_like(bytes_), boxes, rows, clips,
            np.empty((8, *bytes_.shape[1:]), np.uint8), T, 1,
        ),
        "occlude_sampled": partial(
            _C.occlude_sampled, video, video, boxes, rows, clips, floats(8, T, 5, 5),
            np.empty((8, 3, T, H, W), np.float32), 2, 1,
        ),
    }  # fmt: skip


def main() -> None:
    """Names the operators on stdout, in their order."""
    for name, run in operators().items():
        run()  # whatever is found out once
        _C.simd_level()  # at which counts are written down, and begin anew
        run()
        _C.simd_level()
        print(name, flush=True)


if __name__ == "__main__":
    main()
