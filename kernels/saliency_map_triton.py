"""The saliency map on the GPU: corners of a difference array in integers, then one running sum.

Sums of integers do not depend on their order, so the corners may be added by atomics, and the map has the same bits
from run to run. A tube's score is held as a multiple of 2^-k of the clip's largest, k = 42 for 784 tubes, finer than
float32; in the bits below it, the same additions count the tubes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from aosa_fast.kernels.unions_triton import blocks, union_corners

# Elements of the block of rows that is summed at once: 16 for each of 128 threads, two registers each.
CELLS = 2048
# Scores that a program reads at once to find the largest.
SCORES = 1024


def saliency_map(
    scores: Tensor,  # (B, N)
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (B, N, K1)
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    """See `aosa_fast.kernels.saliency_map`; boxes are cut to the frame, and members out of range count as padding.

    A clip with a score that is not finite has NaN wherever a tube is.
    """
    scores, boxes, members = scores.contiguous(), boxes.contiguous(), members.contiguous()
    (B, N, T, _), K1 = boxes.shape, members.shape[2]
    saliency = torch.empty((B, T, height, width), dtype=torch.float32, device=scores.device)
    coverage = torch.empty((B, T, height, width), dtype=torch.int32, device=scores.device)
    if not saliency.numel():
        return saliency, coverage
    difference = torch.zeros((B, T, height, width), dtype=torch.int64, device=scores.device)
    unit = torch.empty((B,), dtype=torch.float64, device=scores.device)
    count_bits = N.bit_length()
    # The sign, the count, and the sum of N scores, each at most 2^score_bits.
    score_bits = 63 - 2 * count_bits
    _unit[(B,)](scores, unit, N, SCORE_BITS=score_bits, SCORES=SCORES, enable_fp_fusion=False)
    lanes, rows, slots = blocks(members)
    if N * K1:
        _add_corners[(B, triton.cdiv(N * T, lanes))](
            *(scores, unit, boxes, members, difference),
            *(N, K1, T, height, width),
            COUNT_BITS=count_bits,
            LANES=lanes,
            ROWS=rows,
            SLOTS=slots,
            enable_fp_fusion=False,
        )
    columns = triton.next_power_of_2(width)
    _integrate[(B * T,)](
        *(difference, unit, saliency, coverage, T, height, width),
        COUNT_BITS=count_bits,
        ROWS=max(CELLS // columns, 1),
        COLUMNS=columns,
        num_warps=min(max(columns // 32, 4), 16),
        enable_fp_fusion=False,
    )
    return saliency, coverage


@triton.jit
def _unit(
    scores,  # (B, N) float32
    unit,  # (B,) float64: what the least bit of a score means, a power of two
    N,
    SCORE_BITS: tl.constexpr,
    SCORES: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    largest = tl.zeros((SCORES,), tl.int32)
    for start in range(0, N, SCORES):
        n = start + tl.arange(0, SCORES)
        # Without their sign, floats are in the order of their bits; infinity and NaN come last.
        bits = tl.load(scores + b * N + n, mask=n < N, other=0.0).to(tl.int32, bitcast=True) & 0x7FFFFFFF
        largest = tl.maximum(largest, bits)
    exponent = (tl.max(largest, axis=0) >> 23) - 126  # the largest is below 2^exponent
    bits = (exponent - SCORE_BITS + 1023).to(tl.int64) << 52
    power = bits.to(tl.float64, bitcast=True)
    tl.store(unit + b, tl.where(exponent > 128, float("nan"), power))


@triton.jit
def _add_corners(
    scores,  # (B, N) float32
    unit,  # (B,) float64
    boxes,  # (B, N, T, 4) int32
    members,  # (B, N, K1) int32
    difference,  # (B, T, H, W) int64, zeros
    N,
    K1,
    T,
    H,
    W,
    COUNT_BITS: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1).to(tl.int64) * LANES + tl.arange(0, LANES)
    n, t = lane // T, lane % T
    valid = n < N
    one = tl.load(unit + b)
    score = tl.load(scores + b * N + n, mask=valid, other=0.0).to(tl.float64)
    # Rounded to the nearest; NaN units make every sum NaN in the end, whatever is added here.
    steps = tl.where(one == one, score / one, 0.0)
    value = (tl.floor(steps + 0.5).to(tl.int64) << COUNT_BITS) + 1
    for first in range(0, 2 * K1, ROWS):
        y, x, corner = union_corners(
            boxes + b * N * T * 4, members + b * N * K1, n, t, valid, first, N, K1, T, H, W, ROWS, SLOTS
        )
        cell = difference + ((b * T + t)[:, None, None] * H + y) * W + x
        wanted = (corner != 0) & (y < H) & (x < W)
        tl.atomic_add(cell, corner * value[:, None, None], mask=wanted, sem="relaxed")


@triton.jit
def _integrate(
    difference,  # (B * T, H, W) int64
    unit,  # (B,) float64
    saliency,  # (B * T, H, W) float32
    coverage,  # (B * T, H, W) int32
    T,
    H,
    W,
    COUNT_BITS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    frame = tl.program_id(0).to(tl.int64)
    offset = frame * H * W
    one = tl.load(unit + frame // T)
    row, x = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    above = tl.zeros((COLUMNS,), tl.int64)
    for first in range(0, H, ROWS):
        inside = (first + row < H) & (x < W)
        cell = (first + row) * W + x
        down = tl.cumsum(tl.load(difference + offset + cell, mask=inside, other=0), axis=0) + above[None, :]
        above = tl.sum(tl.where(row == ROWS - 1, down, 0), axis=0)
        sums = tl.cumsum(down, axis=1)
        count = sums & ((1 << COUNT_BITS) - 1)
        value = (sums >> COUNT_BITS).to(tl.float64) * one
        # Where no tube is, the sum is 0 but for a unit that is NaN.
        tl.store(saliency + offset + cell, tl.where(count > 0, value, 0.0).to(tl.float32), mask=inside)
        tl.store(coverage + offset + cell, count.to(tl.int32), mask=inside)
