"""Occlusion sensitivity analysis with cuboids that stand still (paper IV-A; Zeiler and Fergus, extended to video)."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.methods.tubes import Tubes


def cuboids(video: Tensor, config: Config) -> Tubes:
    """Cuboids on a regular grid, as tubes that do not move and live for some of the frames only.

    Their centres start at half a step in time and in space, and what stands out of the clip is cut off. At 16x112x112
    the defaults give 8 frames x 16 x 16 pixels, every 2 frames and 8 pixels: 8 x 14 x 14 = 1568 cuboids.

    Args:
        video: (B, C, T, H, W).
        config: gives `cuboid_area`, `cuboid_frames`, `cuboid_step` and, for the step in space, `stride`.

    Returns:
        N tubes, ordered by time, row and column; members are single.

    Raises:
        InputError: a step that leaves no centre within the clip.
    """
    clips, _, T, H, W = video.shape
    side = max(1, round(sqrt(config.cuboid_area * H * W)))
    length = config.cuboid_frames or max(1, T // 2)
    for name, step, extent in (("cuboid_step", config.cuboid_step, T), ("stride", config.stride, min(H, W))):
        if step // 2 >= extent:
            raise InputError(f"{name} must be at most {2 * extent - 1} for clips of {T}x{H}x{W}; got {step}")
    grid = [
        torch.arange(step // 2, end, step, device="cpu")
        for step, end in ((config.cuboid_step, T), (config.stride, H), (config.stride, W))
    ]
    when, row, column = (axis.reshape(-1, 1) for axis in torch.meshgrid(*grid, indexing="ij"))
    frame = torch.arange(T, device="cpu")
    alive = (frame >= when - length // 2) & (frame < when - length // 2 + length)
    x0, y0 = column - side // 2, row - side // 2
    corners = torch.cat([x0.clamp(min=0), y0.clamp(min=0), (x0 + side).clamp(max=W), (y0 + side).clamp(max=H)], 1)
    boxes = corners.unsqueeze(1) * alive.unsqueeze(2)
    tracks = torch.cat([column, row], 1).float().unsqueeze(1).expand(-1, T, -1)
    members = torch.arange(len(boxes), device="cpu").unsqueeze(1)

    def batch(values: Tensor) -> Tensor:
        return values.expand(clips, *values.shape).contiguous().to(video.device)

    return Tubes(batch(tracks), batch(alive), batch(boxes.int()), batch(members.int()))
