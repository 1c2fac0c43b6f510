"""Tracks of anchors and their boxes on the GPU: a thread follows an anchor, with the bits of the CPU's tracks."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from aosa_fast.kernels.tracking import grids_in

# Anchors of a block, one for each thread of a warp: a track waits for memory in every frame, so that what counts is
# how many of them are under way on all multiprocessors; the paper's 784 anchors make 25 blocks.
ANCHORS = 32
# Coordinates of boxes that a block writes, 4 for each of 128 threads.
COORDINATES = 512
# Here the distance of two float64 is 1: adding and subtracting it rounds to whole numbers, half to even.
ROUNDING = tl.constexpr(1.5 * 2**52)


def track_anchors(
    flow: Tensor,  # (B, T-1, H, W, 2)
    stride: int,
    reseed: int,
) -> tuple[Tensor, Tensor]:
    """See `aosa_fast.kernels.track_anchors`."""
    B, steps, H, W, _ = flow.shape
    columns = len(range(stride // 2, W, stride))
    anchors = columns * len(range(stride // 2, H, stride))
    N, T = anchors * grids_in(steps + 1, reseed), steps + 1
    tracks = torch.empty((B, N, T, 2), dtype=torch.float32, device=flow.device)
    alive = torch.empty((B, N, T), dtype=torch.bool, device=flow.device)
    if alive.numel():
        _track_anchors[(B, triton.cdiv(N, ANCHORS))](
            *(flow.contiguous(), tracks, alive),
            *(N, T, H, W, anchors, columns, stride, reseed),
            ANCHORS=ANCHORS,
            num_warps=ANCHORS // 32,
            enable_fp_fusion=False,
        )
    return tracks, alive


def rasterize_boxes(
    tracks: Tensor,  # (B, N, T, 2)
    alive: Tensor,  # (B, N, T)
    box_height: int,
    box_width: int,
    height: int,
    width: int,
) -> Tensor:
    """See `aosa_fast.kernels.rasterize_boxes`."""
    boxes = torch.empty((*alive.shape, 4), dtype=torch.int32, device=tracks.device)
    if boxes.numel():
        _rasterize_boxes[(triton.cdiv(boxes.numel(), COORDINATES),)](
            *(tracks.contiguous(), alive.contiguous(), boxes),
            *(alive.numel(), box_height, box_width, height, width),
            COORDINATES=COORDINATES,
            enable_fp_fusion=False,
        )
    return boxes


@triton.jit
def look_up(
    flow,  # (H, W, 2) float32 of one frame, from dx or dy on
    row,
    below,
    column,
    right,
    ax,
    ay,
    W,
    moving,
):
    """One component of the flow, bilinearly, in float64; 0 where not `moving`."""
    here, there = flow + row * W * 2, flow + below * W * 2
    near = (1 - ax) * tl.load(here + column * 2, mask=moving, other=0.0).to(tl.float64)
    near += ax * tl.load(here + right * 2, mask=moving, other=0.0).to(tl.float64)
    far = (1 - ax) * tl.load(there + column * 2, mask=moving, other=0.0).to(tl.float64)
    far += ax * tl.load(there + right * 2, mask=moving, other=0.0).to(tl.float64)
    return (1 - ay) * near + ay * far


@triton.jit
def _track_anchors(
    flow,  # (B, T-1, H, W, 2) float32
    tracks,  # (B, N, T, 2) float32
    alive,  # (B, N, T) bool
    N,
    T,
    H,
    W,
    anchors,  # in a grid
    columns,  # of a grid
    stride,
    reseed,
    ANCHORS: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * ANCHORS + tl.arange(0, ANCHORS)
    exists = n < N
    birth, index = n // anchors * reseed, n % anchors
    x = (stride // 2 + stride * (index % columns)).to(tl.float64)
    y = (stride // 2 + stride * (index // columns)).to(tl.float64)
    living = exists
    for t in range(T):
        moving = living & (t > birth)
        # x and y are inside [0, W-1] x [0, H-1], so only the far neighbour needs a limit.
        column, row = x.to(tl.int64), y.to(tl.int64)
        ax, ay = x - column.to(tl.float64), y - row.to(tl.float64)
        right, below = tl.minimum(column + 1, W - 1), tl.minimum(row + 1, H - 1)
        frame = flow + (b * (T - 1) + t - 1) * H * W * 2
        to_x = x + look_up(frame, row, below, column, right, ax, ay, W, moving)
        to_y = y + look_up(frame + 1, row, below, column, right, ax, ay, W, moving)
        # Written so that NaN ends the track.
        inside = (to_x >= 0) & (to_x <= W - 1) & (to_y >= 0) & (to_y <= H - 1)
        x, y = tl.where(moving & inside, to_x, x), tl.where(moving & inside, to_y, y)
        living = living & (inside | (t <= birth))
        place = (b * N + n) * T + t
        tl.store(tracks + place * 2, x.to(tl.float32), mask=exists)
        tl.store(tracks + place * 2 + 1, y.to(tl.float32), mask=exists)
        tl.store(alive + place, living & (t >= birth), mask=exists)


@triton.jit
def _rasterize_boxes(
    tracks,  # (count, 2) float32
    alive,  # (count,) bool
    boxes,  # (count, 4) int32
    count,
    box_height,
    box_width,
    height,
    width,
    COORDINATES: tl.constexpr,
):
    # A thread for each coordinate x0, y0, x1 or y1, so that neighbours write neighbouring words.
    place = tl.program_id(0).to(tl.int64) * COORDINATES + tl.arange(0, COORDINATES)
    i, corner = place // 4, place % 4
    axis = corner % 2
    size, frame = tl.where(axis == 0, box_width, box_height), tl.where(axis == 0, width, height)
    position = tl.load(tracks + i * 2 + axis, mask=i < count, other=0.0).to(tl.float64)
    # In float64, which holds all that float32 and int32 hold: what is far away does not wrap around.
    start = position + ROUNDING - ROUNDING - (size // 2).to(tl.float64)
    edge = tl.where(corner < 2, start, start + size.to(tl.float64))
    living = (tl.load(alive + i, mask=i < count, other=0) != 0) & (edge == edge)
    inside = tl.minimum(tl.maximum(tl.where(living, edge, 0.0), 0.0), frame.to(tl.float64))
    tl.store(boxes + place, inside.to(tl.int32), mask=i < count)
