"""Overlaps of tubes on the GPU: the pixels that each tube covers of each cell, then their products, in blocks."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from aosa_fast.kernels.unions_triton import load_box

# Pixels that a block of `_cover` looks at, and tubes and cells of a block of `_products`.
PIXELS = 2048
SIDE = 32


def tube_overlaps(
    weights: Tensor,  # (B, T, H', W')
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (B, N, K1)
    cell: int = 4,
) -> Tensor:
    """See `aosa_fast.kernels.tube_overlaps`; boxes are cut to the frame, and members out of range count as padding."""
    B, T, H, W = weights.shape
    N, K1 = members.shape[1:]
    overlaps = torch.empty((B, N, N), dtype=torch.float32, device=weights.device)
    weights, boxes, members = weights.contiguous(), boxes.contiguous(), members.contiguous()
    area = triton.next_power_of_2(cell * cell)
    cells = max(min(PIXELS // area, triton.next_power_of_2(max(H * W, 1))), 1)
    if not N:
        return overlaps
    # A clip at a time: with a row of cells for each tube this is what takes memory.
    pixels = torch.empty((N, T, H, W), dtype=torch.float32, device=weights.device)
    for b in range(B):
        if pixels.numel():
            _cover[(N, T, triton.cdiv(H * W, cells))](
                *(boxes[b], members[b], pixels, N, K1, T, H, W, cell),
                CELLS=cells,
                AREA=area,
                enable_fp_fusion=False,
            )
        _products[(triton.cdiv(N, SIDE), triton.cdiv(N, SIDE))](
            *(pixels, weights[b], overlaps[b], N, T * H * W, 1 / cell**4),
            SIDE=SIDE,
            enable_fp_fusion=False,
        )
    return overlaps


@triton.jit
def _cover(
    boxes,  # (N, T, 4) int32
    members,  # (N, K1) int32
    pixels,  # (N, T, H, W) float32
    N,
    K1,
    T,
    H,
    W,
    cell,
    CELLS: tl.constexpr,
    AREA: tl.constexpr,
):
    n, t = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    place = tl.program_id(2) * CELLS + tl.arange(0, CELLS)
    pixel = tl.arange(0, AREA)[None, :]
    y = place[:, None] // W * cell + pixel // cell
    x = place[:, None] % W * cell + pixel % cell
    covered = tl.zeros((CELLS, AREA), tl.int32)
    for k in range(K1):
        x0, y0, x1, y1 = load_box(boxes, members, n, t, k, True, N, K1, T, H * cell, W * cell)
        covered |= ((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)).to(tl.int32)
    count = tl.sum(tl.where(pixel < cell * cell, covered, 0), axis=1)
    tl.store(pixels + (n * T + t) * H * W + place, count.to(tl.float32), mask=place < H * W)


@triton.jit
def _products(
    pixels,  # (N, cells) float32
    weights,  # (cells,) float32
    overlaps,  # (N, N) float32
    N,
    cells,
    scale,
    SIDE: tl.constexpr,
):
    if tl.program_id(0) <= tl.program_id(1):
        i = tl.program_id(0) * SIDE + tl.arange(0, SIDE)[:, None]
        j = tl.program_id(1) * SIDE + tl.arange(0, SIDE)[None, :]
        total = tl.zeros((SIDE, SIDE), tl.float32)
        for first in range(0, cells, SIDE):
            across, down = first + tl.arange(0, SIDE)[None, :], first + tl.arange(0, SIDE)[:, None]
            weight = tl.load(weights + across, mask=across < cells, other=0.0)
            own = tl.load(pixels + i.to(tl.int64) * cells + across, mask=(i < N) & (across < cells), other=0.0)
            other = tl.load(pixels + j.to(tl.int64) * cells + down, mask=(j < N) & (down < cells), other=0.0)
            total += tl.dot(weight * own, other, input_precision="ieee")
        total *= scale
        # One half of the matrix, written twice: it is symmetric to the last bit.
        upper = (i <= j) & (j < N)
        tl.store(overlaps + i.to(tl.int64) * N + j, total, mask=upper)
        tl.store(overlaps + j.to(tl.int64) * N + i, total, mask=upper)
