"""What the benchmarks run on: a moving clip, a smooth random flow, and the tubes that follow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from aosa_fast.kernels.partners import select_partners
from aosa_fast.kernels.pictures import normalize_frames
from aosa_fast.kernels.tracking import rasterize_boxes, track_anchors

FRAMES, SIDE = 16, 112  # the paper's R3D input
CELL = 4  # side of the cells in which overlaps of tubes are counted, pixels
MEAN, STD = (0.43, 0.40, 0.38), (0.23, 0.22, 0.22)  # of a Kinetics model; only their order of magnitude matters


@dataclass(frozen=True)
class Operands:
    """The operands of every operator, B = 1; shapes as in the operators."""

    video: Tensor
    grad: Tensor
    flow: Tensor
    tracks: Tensor
    alive: Tensor
    boxes: Tensor
    members: Tensor
    stride: int
    box: int


def moving_frames(frames: int = FRAMES, side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """(1, T, H, W, 3) uint8: a smooth texture that pans by 1.3 px a frame, and an object that goes its own way."""
    draw = torch.Generator().manual_seed(seed)
    margin = 3 * frames
    ground = _texture(side + margin, draw)
    thing = _texture(side // 3, draw)
    clip = torch.empty(3, frames, side, side)
    for t in range(frames):
        whole = 1.3 * t
        left, part = int(whole), whole - int(whole)
        view = ground[:, left // 2 : left // 2 + side]
        clip[:, t] = (1 - part) * view[:, :, left : left + side] + part * view[:, :, left + 1 : left + 1 + side]
        top, start = min(side // 6 + t, side - side // 3), max(side // 2 - 2 * t, 0)
        clip[:, t, top : top + side // 3, start : start + side // 3] = thing
    return (clip * 255).to(torch.uint8).permute(1, 2, 3, 0)[None].contiguous().numpy()


def normalised(frames: NDArray[np.uint8]) -> Tensor:
    """(B, T, H, W, 3) uint8 to (B, 3, T, H, W) float32, as a model takes it."""
    return normalize_frames(torch.from_numpy(frames), torch.tensor(MEAN), torch.tensor(STD))


def smooth_flow(frames: int = FRAMES, side: int = SIDE, seed: int = 0) -> Tensor:
    """(1, T-1, H, W, 2) float32: random, 1 px root mean square, up to 7 px, smooth over some 16 px and over time."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 2, max(2, frames // 4), 7, 7, generator=draw) * 2.0
    fine = interpolate(coarse, size=(frames - 1, side, side), mode="trilinear", align_corners=True)
    return fine.permute(0, 2, 3, 4, 1).contiguous()


def operands(
    stride: int,
    box: int = 16,
    partners: int = 3,
    flow: Tensor | None = None,
    seed: int = 0,
    frames: int = FRAMES,
    side: int = SIDE,
) -> Operands:
    """Operands of all operators for one stride."""
    draw = torch.Generator().manual_seed(seed)
    video = normalised(moving_frames(frames, side, seed))
    grad = torch.randn(video.shape, generator=draw) * 1e-3
    flow = smooth_flow(frames, side, seed) if flow is None else flow
    tracks, alive = track_anchors(flow, stride)
    boxes = rasterize_boxes(tracks, alive, (box, box), *flow.shape[2:4])
    members = select_partners(tracks, partners)
    return Operands(video, grad, flow, tracks, alive, boxes, members, stride, box)


def cell_weights(field: Tensor) -> Tensor:
    """(B, T, H', W') float32: weights of cells for the overlaps of tubes, from a field (B, T, H, W)."""
    cells = avg_pool2d(field.abs(), CELL, ceil_mode=True)
    return 0.05 + 0.95 * cells / cells.mean()


def random_tracks(count: int, frames: int = 32, seed: int = 0) -> Tensor:
    """(1, N, T, 2) float32 random walks with a drift of their own."""
    draw = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, frames, 2, generator=draw) + 2 * torch.randn(count, 1, 2, generator=draw)
    steps[:, 0] = torch.rand(count, 2, generator=draw) * SIDE
    return steps.cumsum(1)[None].contiguous()


def _texture(side: int, draw: torch.Generator) -> Tensor:
    """(3, side, side) float32 in [0, 1]: three octaves of noise."""
    total = torch.zeros(1, 3, side, side)
    for octave in (4, 8, 16):
        noise = torch.rand(1, 3, side // octave + 2, side // octave + 2, generator=draw)
        total += interpolate(noise, size=(side, side), mode="bicubic", align_corners=True)
    return (total / 3).clamp(0, 1)[0]
