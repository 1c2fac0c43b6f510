"""Tube scores on the GPU: a summed-area table in strips, then the corners of every union."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from aosa_fast.kernels.unions_triton import blocks, union_corners

# Frames that a block takes at once.
FRAMES = 16


def tube_scores(
    field: Tensor,  # (B, T, H, W)
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (B, N, K1)
) -> Tensor:
    """See `aosa_fast.kernels.tube_scores`; boxes are cut to the frame, and members out of range count as padding."""
    table, last = strip_tables(field.contiguous())
    return scores_from_tables(table, last, boxes, members)


def strip_shape(W: int) -> dict[str, int]:
    """Rows and columns of a strip, and its warps: whole rows, and a thread for every column up to 512 of them.

    A thread then holds all rows of its column, at most 16 values, and sums down a column stay in its registers.
    """
    width = triton.next_power_of_2(max(W, 1))
    return {"STRIP": max(min(4096 // width, 16), 1), "WIDTH": width, "num_warps": min(max(width // 32, 1), 16)}


def empty_tables(B: int, T: int, H: int, W: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Room for what `store_table` writes: table (B, T, H, W), and the strips' last rows (B, T, strips, W), float32."""
    table = torch.empty((B, T, H, W), dtype=torch.float32, device=device)
    return table, torch.empty((B, T, triton.cdiv(H, strip_shape(W)["STRIP"]), W), dtype=torch.float32, device=device)


def strip_tables(field: Tensor) -> tuple[Tensor, Tensor]:
    """The summed-area table of every strip of a field (B, T, H, W), contiguous; see `empty_tables`."""
    B, T, H, W = field.shape
    table, last = empty_tables(B, T, H, W, field.device)
    if field.numel():
        _strip_tables[(B * T, last.shape[2])](field, table, last, H, W, **strip_shape(W), enable_fp_fusion=False)
    return table, last


def scores_from_tables(table: Tensor, last: Tensor, boxes: Tensor, members: Tensor) -> Tensor:
    """(B, N) float32: sums over the unions, given the tables of the strips."""
    B, T, H, W = table.shape
    N, K1 = members.shape[1:]
    scores = torch.empty((B, N), dtype=torch.float32, device=table.device)
    above = torch.empty(last.shape, dtype=torch.float64, device=table.device)
    if not scores.numel():
        return scores
    lanes, rows, slots = blocks(members)
    columns = min(triton.next_power_of_2(max(W, 1)), 128)
    if table.numel():
        _carry[(B * T, triton.cdiv(W, columns))](last, above, last.shape[2], W, COLUMNS=columns, enable_fp_fusion=False)
    frames = min(triton.next_power_of_2(max(T, 1)), FRAMES, lanes)
    tubes = lanes // frames
    _tube_scores[(B, triton.cdiv(N, tubes))](
        *(table, above, boxes.contiguous(), members.contiguous(), scores),
        *(N, K1, T, H, W),
        TUBES=tubes,
        FRAMES=frames,
        ROWS=rows,
        SLOTS=slots,
        STRIP=strip_shape(W)["STRIP"],
        enable_fp_fusion=False,
    )
    return scores


@triton.jit
def store_table(
    values,  # (STRIP, WIDTH), the field of one strip, 0 outside of the frame
    table,  # (H, W) float32 of one frame
    last,  # (strips, W) float32 of one frame
    strip,
    H,
    W,
    STRIP: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Writes the summed-area table of one strip, and its last row again where the next strips find it."""
    row, x = tl.arange(0, STRIP)[:, None], tl.arange(0, WIDTH)[None, :]
    sums = tl.cumsum(tl.cumsum(values, axis=0), axis=1)
    y = strip * STRIP + row
    tl.store(table + y * W + x, sums, mask=(y < H) & (x < W))
    tl.store(last + strip * W + x + row * 0, sums, mask=(row == STRIP - 1) & (x < W))


@triton.jit
def _strip_tables(
    field,  # (B * T, H, W) float32
    table,  # (B * T, H, W) float32
    last,  # (B * T, strips, W) float32
    H,
    W,
    STRIP: tl.constexpr,
    WIDTH: tl.constexpr,
):
    frame, strip = tl.program_id(0).to(tl.int64), tl.program_id(1)
    y, x = strip * STRIP + tl.arange(0, STRIP)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (y < H) & (x < W)
    values = tl.load(field + frame * H * W + y * W + x, mask=inside, other=0.0)
    store_table(values, table + frame * H * W, last + frame * tl.num_programs(1) * W, strip, H, W, STRIP, WIDTH)


@triton.jit
def _carry(
    last,  # (B * T, strips, W) float32
    above,  # (B * T, strips, W) float64: what the strips above add
    strips,
    W,
    COLUMNS: tl.constexpr,
):
    x = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    offset = tl.program_id(0).to(tl.int64) * strips * W
    total = tl.zeros((COLUMNS,), tl.float64)
    for strip in range(strips):
        tl.store(above + offset + strip * W + x, total, mask=x < W)
        total += tl.load(last + offset + strip * W + x, mask=x < W, other=0.0).to(tl.float64)


@triton.jit
def _tube_scores(
    table,  # (B, T, H, W) float32, summed-area tables of strips
    above,  # (B, T, strips, W) float64, what the strips above add
    boxes,  # (B, N, T, 4) int32
    members,  # (B, N, K1) int32
    scores,  # (B, N) float32
    N,
    K1,
    T,
    H,
    W,
    TUBES: tl.constexpr,
    FRAMES: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    STRIP: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, TUBES * FRAMES)
    n = (tl.program_id(1) * TUBES + lane // FRAMES).to(tl.int64)
    boxes += b * N * T * 4
    members += b * N * K1
    strips = (H + STRIP - 1) // STRIP
    total = tl.zeros((TUBES * FRAMES,), tl.float64)
    for start in range(0, T, FRAMES):
        t = (start + lane % FRAMES).to(tl.int64)
        valid = (n < N) & (t < T)
        for first in range(0, 2 * K1, ROWS):
            y, x, corner = union_corners(boxes, members, n, t, valid, first, N, K1, T, H, W, ROWS, SLOTS)
            # The table counts what is left of x and above y; on the frame's edge that is nothing.
            wanted = (corner != 0) & (x > 0) & (y > 0)
            frame = (b * T + t)[:, None, None]
            # Bases in 64 bits, what is added within a frame in 32: half the registers for the many corners of a tube.
            here = tl.load(table + frame * H * W + ((y - 1) * W + x - 1), mask=wanted, other=0.0).to(tl.float64)
            carried = tl.load(above + frame * strips * W + ((y - 1) // STRIP * W + x - 1), mask=wanted, other=0.0)
            total += tl.sum(tl.sum(corner * (here + carried), axis=2), axis=1)
    sums = tl.sum(tl.reshape(total, (TUBES, FRAMES)), axis=1)
    tube = tl.program_id(1) * TUBES + tl.arange(0, TUBES)
    tl.store(scores + b * N + tube, sums.to(tl.float32), mask=tube < N)
