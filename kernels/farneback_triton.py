"""Farnebäck's optical flow on the GPU: all pairs of all clips at once, level by level of the pyramid.

All sums are float32. Where a window holds one straight edge and nothing else, the determinant cancels: on a lone edge
across 96x96 pixels the flow is off by up to 0.5 pixels (OpenCV's by 0.2); on real frames it is as near to float64 as
OpenCV's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from aosa_fast.kernels.pyramid_triton import (
    TILE,
    Taps,
    expand_frames,
    expansion_tables,
    load_planes,
    programs,
    pyramid_tables,
    store_planes,
    tile,
)

# Trust in the expansion 0 or 1, and 2 to 4 pixels from a border.
OUTER = tl.constexpr(0.14)
INNER = tl.constexpr(0.4472)
# Added to the determinant: where there is no texture, the flow is 0.
REGULARISER = tl.constexpr(1e-3)


def farneback(
    frames: Tensor,  # (B, T, H, W)
    pyr_scale: float,
    levels: int,
    winsize: int,
    iterations: int,
    poly_n: int,
    poly_sigma: float,
) -> Tensor:
    """See `aosa_fast.kernels.farneback`."""
    B, T, H, W = frames.shape
    flow = torch.empty((B, T - 1, H, W, 2), dtype=torch.float32, device=frames.device)
    if not flow.numel():
        return flow
    stacked = frames.contiguous().flatten(0, 1)
    weights, inverse = expansion_tables(frames.device, poly_n, poly_sigma)
    coarser = flow.new_empty((B * (T - 1), 0, 0, 2))
    for rows, columns, flow_rows, flow_columns in pyramid_tables(frames.device, H, W, pyr_scale, levels):
        expansion = expand_frames(stacked, rows, columns, weights, inverse)
        _, _, h, w = expansion.shape
        # The finest level leaves its flow in the result.
        target = flow.flatten(0, 1) if (h, w) == (H, W) else flow.new_empty((B * (T - 1), h, w, 2))
        refine(target, coarser, flow_rows, flow_columns, expansion, T - 1, winsize, iterations)
        coarser = target
    return flow


def refine(
    flow: Tensor,  # (pairs, h, w, 2), written to
    coarser: Tensor,  # (pairs, ., ., 2)
    rows: Taps,
    columns: Taps,
    expansion: Tensor,  # (5, count, h, w)
    steps: int,
    winsize: int,
    iterations: int,
) -> None:
    """The flow at one level of the pyramid from that of the next coarser one; `steps` pairs make a clip."""
    pairs, h, w, _ = flow.shape
    count = expansion.shape[1]
    M = flow.new_empty((5, pairs, h, w))
    sums = flow.new_empty((5, pairs, h, w))
    _start[programs(pairs, h, w)](
        *(coarser, *rows, *columns, expansion, M, steps, count, pairs, coarser.shape[1], coarser.shape[2], h, w),
        TAPS=len(rows[0]),
        **TILE,
        enable_fp_fusion=False,
    )
    for iteration in range(iterations):
        _sum_rows[programs(5 * pairs, h, w)](M, sums, h, w, RADIUS=winsize // 2, **TILE, enable_fp_fusion=False)
        _update[programs(pairs, h, w)](
            *(sums, expansion, M, flow, 1 / winsize**2, steps, count, pairs, h, w),
            RADIUS=winsize // 2,
            LAST=iteration == iterations - 1,
            **TILE,
            enable_fp_fusion=False,
        )


@triton.jit
def border_trust(i, size):
    """Trust in the expansion at i, by the two borders of one axis."""
    j = size - 1 - i
    low = tl.where(i < 2, OUTER, tl.where(i < 5, INNER, 1.0))
    return low * tl.where(j < 2, OUTER, tl.where(j < 5, INNER, 1.0))


@triton.jit
def sample(plane, w, there, w00, w01, w10, w11):
    """Bilinear: from the pixel at `plane`, its right neighbour, and the two below; 0 where not `there`."""
    value = w00 * tl.load(plane, mask=there, other=0.0) + w01 * tl.load(plane + 1, mask=there, other=0.0)
    below = w10 * tl.load(plane + w, mask=there, other=0.0) + w11 * tl.load(plane + w + 1, mask=there, other=0.0)
    return tl.where(there, value + below, 0.0)


@triton.jit
def store_matrices(
    expansion,  # (5, count, h, w)
    M,  # (5, pairs, h, w)
    pair,  # int64
    y,
    x,
    dx,  # (ROWS, COLUMNS)
    dy,
    steps,  # pairs of a clip
    count,
    pairs,
    h,
    w,
):
    """What each pixel says about its displacement: G11, G12, G22, h1, h2, with G (dy, dx) = h."""
    inside = (y < h) & (x < w)
    pixel = y.to(tl.int64) * w + x
    frame = pair + pair // steps
    first = expansion + frame * h * w + pixel
    plane = (tl.zeros_like(pair) + count) * h * w
    by, bx, yy, xx, xy = load_planes(first, plane, inside)

    # Compared before they become integers: a flow that is not finite leads nowhere.
    px, py = x + dx, y + dy
    there = inside & (px >= 0) & (px < w - 1) & (py >= 0) & (py < h - 1)
    px, py = tl.where(there, px, 0.0), tl.where(there, py, 0.0)
    x0, y0 = px.to(tl.int32), py.to(tl.int32)
    ax, ay = px - x0, py - y0
    w00, w01, w10, w11 = (1 - ax) * (1 - ay), ax * (1 - ay), (1 - ax) * ay, ax * ay
    second = expansion + (frame + 1) * h * w + y0.to(tl.int64) * w + x0

    # A point that leaves the image has no second polynomial: a constant second frame, of the first's curvature.
    share = tl.where(there, 0.5, 1.0)
    by = (by - sample(second, w, there, w00, w01, w10, w11)) * 0.5
    bx = (bx - sample(second + plane, w, there, w00, w01, w10, w11)) * 0.5
    yy = (yy + sample(second + 2 * plane, w, there, w00, w01, w10, w11)) * share
    xx = (xx + sample(second + 3 * plane, w, there, w00, w01, w10, w11)) * share
    xy = (xy + sample(second + 4 * plane, w, there, w00, w01, w10, w11)) * share * 0.5
    by += yy * dy + xy * dx
    bx += xy * dy + xx * dx
    trust = border_trust(y, h) * border_trust(x, w)
    by, bx, yy, xx, xy = by * trust, bx * trust, yy * trust, xx * trust, xy * trust

    M += pair * h * w + pixel
    plane = (tl.zeros_like(pair) + pairs) * h * w
    G11, G12, G22 = yy * yy + xy * xy, (yy + xx) * xy, xx * xx + xy * xy
    store_planes(M, plane, inside, G11, G12, G22, yy * by + xy * bx, xy * by + xx * bx)


@triton.jit
def _start(
    coarser,  # (pairs, coarser_h, coarser_w, 2) float32; not read where TAPS is 0
    row_index,  # (TAPS, h) int32
    row_weight,  # (TAPS, h) float32
    column_index,  # (TAPS, w) int32
    column_weight,  # (TAPS, w) float32
    expansion,  # (5, count, h, w) float32
    M,  # (5, pairs, h, w) float32
    steps,
    count,
    pairs,
    coarser_h,
    coarser_w,
    h,
    w,
    TAPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    pair, y, x = tile(h, w, ROWS, COLUMNS)
    dx = tl.zeros((ROWS, COLUMNS), tl.float32)
    dy = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in tl.static_range(TAPS):
        row = tl.load(row_index + i * h + y, mask=y < h, other=0).to(tl.int64)
        row_share = tl.load(row_weight + i * h + y, mask=y < h, other=0.0)
        for j in tl.static_range(TAPS):
            column = tl.load(column_index + j * w + x, mask=x < w, other=0)
            share = row_share * tl.load(column_weight + j * w + x, mask=x < w, other=0.0)
            source = coarser + 2 * ((pair * coarser_h + row) * coarser_w + column)
            dx += share * tl.load(source)
            dy += share * tl.load(source + 1)
    store_matrices(expansion, M, pair, y, x, dx, dy, steps, count, pairs, h, w)


@triton.jit
def _sum_rows(
    M,  # (planes, h, w) float32
    sums,  # (planes, h, w) float32: over the 2 RADIUS + 1 rows around each
    h,
    w,
    RADIUS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    plane, y, x = tile(h, w, ROWS, COLUMNS)
    inside = (y < h) & (x < w)
    M += plane * h * w
    total = tl.load(M + y.to(tl.int64) * w + x, mask=inside, other=0.0)
    for k in range(1, RADIUS + 1):
        low, high = tl.maximum(y - k, 0), tl.minimum(y + k, h - 1)
        above = tl.load(M + low.to(tl.int64) * w + x, mask=inside, other=0.0)
        total += above + tl.load(M + high.to(tl.int64) * w + x, mask=inside, other=0.0)
    tl.store(sums + plane * h * w + y.to(tl.int64) * w + x, total, mask=inside)


@triton.jit
def _update(
    sums,  # (5, pairs, h, w) float32: sums of the columns of every window
    expansion,  # (5, count, h, w) float32
    M,  # (5, pairs, h, w) float32, written unless LAST
    flow,  # (pairs, h, w, 2) float32, written if LAST
    scale,  # 1 / winsize²
    steps,
    count,
    pairs,
    h,
    w,
    RADIUS: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    pair, y, x = tile(h, w, ROWS, COLUMNS)
    inside = (y < h) & (x < w)
    plane = (tl.zeros_like(pair) + pairs) * h * w
    sums += pair * h * w + y.to(tl.int64) * w
    G11, G12, G22, h1, h2 = load_planes(sums + x, plane, inside)
    for k in range(1, RADIUS + 1):
        a11, a12, a22, a1, a2 = load_planes(sums + tl.maximum(x - k, 0), plane, inside)
        b11, b12, b22, b1, b2 = load_planes(sums + tl.minimum(x + k, w - 1), plane, inside)
        G11, G12, G22, h1, h2 = G11 + (a11 + b11), G12 + (a12 + b12), G22 + (a22 + b22), h1 + (a1 + b1), h2 + (a2 + b2)
    G11, G12, G22, h1, h2 = G11 * scale, G12 * scale, G22 * scale, h1 * scale, h2 * scale
    determinant = G11 * G22 - G12 * G12 + REGULARISER
    dx = tl.div_rn(G11 * h2 - G12 * h1, determinant)
    dy = tl.div_rn(G22 * h1 - G12 * h2, determinant)
    if LAST:
        flow += 2 * (pair * h * w + y.to(tl.int64) * w + x)
        tl.store(flow, dx, mask=inside)
        tl.store(flow + 1, dy, mask=inside)
    else:
        store_matrices(expansion, M, pair, y, x, dx, dy, steps, count, pairs, h, w)
