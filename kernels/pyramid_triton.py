"""What `farneback_triton` does to single frames: their pyramid and its polynomial expansions, and the tiles of both.

Every program takes a tile of one plane: windows reach far along both axes, and a tile finds in its cache what a run of
pixels would read again and again.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from aosa_fast.kernels.pyramid import Axis, expansion_weights, pyramid

# A warp reads one run of 32 pixels. With windows of 15 rows, 16 rows read each value twice; more rows would read it
# fewer times, but leave too few programs for the coarse levels of one clip. Two pixels a thread.
TILE = {"ROWS": 16, "COLUMNS": 32, "num_warps": 8}

# Of one axis: index (taps, size) int32 and weight (taps, size) float32, see `kernels.pyramid.Axis`.
Taps = tuple[Tensor, Tensor]


@functools.lru_cache(maxsize=16)
def pyramid_tables(
    device: torch.device, H: int, W: int, pyr_scale: float, levels: int
) -> list[tuple[Taps, Taps, Taps, Taps]]:
    """Of every level, coarsest first: from the frame's rows and columns, from the coarser flow's rows and columns."""

    def move(axis: Axis) -> Taps:
        return torch.tensor(axis.index, device=device), torch.tensor(axis.weight, device=device)

    return [
        (move(level.rows), move(level.columns), move(level.flow_rows), move(level.flow_columns))
        for level in pyramid(H, W, pyr_scale, levels)
    ]


@functools.lru_cache(maxsize=16)
def expansion_tables(device: torch.device, poly_n: int, poly_sigma: float) -> tuple[Tensor, Tensor]:
    """`expansion_weights` (3, 2 poly_n + 1) and (4,)."""
    weights, inverse = expansion_weights(poly_n, poly_sigma)
    return torch.tensor(weights, device=device), torch.tensor(inverse, device=device)


def programs(planes: int, h: int, w: int) -> tuple[int]:
    """The grid: tiles of all planes."""
    return (planes * triton.cdiv(h, TILE["ROWS"]) * triton.cdiv(w, TILE["COLUMNS"]),)


def expand_frames(frames: Tensor, rows: Taps, columns: Taps, weights: Tensor, inverse: Tensor) -> Tensor:
    """Expansions (5, count, h, w) of frames (count, H, W), contiguous, at one level of their pyramid."""
    count, H, W = frames.shape
    h, w = rows[0].shape[1], columns[0].shape[1]
    image = torch.empty((count, h, w), dtype=torch.float32, device=frames.device)
    expansion = torch.empty((5, count, h, w), dtype=torch.float32, device=frames.device)
    _pyramid_image[programs(count, h, w)](
        *(frames, *rows, *columns, image, len(rows[0]), len(columns[0]), H, W, h, w), **TILE, enable_fp_fusion=False
    )
    _expand[programs(count, h, w)](
        *(image, weights, inverse, expansion, count, h, w),
        RADIUS=weights.shape[1] // 2,
        **TILE,
        enable_fp_fusion=False,
    )
    return expansion


@triton.jit
def tile(h, w, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Plane of this program, int64, and its y (ROWS, 1) and x (1, COLUMNS)."""
    program = tl.program_id(0)
    across, down = tl.cdiv(w, COLUMNS), tl.cdiv(h, ROWS)
    y = program // across % down * ROWS + tl.arange(0, ROWS)[:, None]
    x = program % across * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return (program // (across * down)).to(tl.int64), y, x


@triton.jit
def load_planes(first, plane, inside):
    """The pixels `first` of five planes, of `plane` pixels each."""
    a = tl.load(first, mask=inside, other=0.0)
    b = tl.load(first + plane, mask=inside, other=0.0)
    c = tl.load(first + 2 * plane, mask=inside, other=0.0)
    d = tl.load(first + 3 * plane, mask=inside, other=0.0)
    e = tl.load(first + 4 * plane, mask=inside, other=0.0)
    return a, b, c, d, e


@triton.jit
def store_planes(first, plane, inside, a, b, c, d, e):
    """The reverse of `load_planes`."""
    tl.store(first, a, mask=inside)
    tl.store(first + plane, b, mask=inside)
    tl.store(first + 2 * plane, c, mask=inside)
    tl.store(first + 3 * plane, d, mask=inside)
    tl.store(first + 4 * plane, e, mask=inside)


@triton.jit
def _pyramid_image(
    frames,  # (count, H, W) uint8
    row_index,  # (row_taps, h) int32
    row_weight,  # (row_taps, h) float32
    column_index,  # (column_taps, w) int32
    column_weight,  # (column_taps, w) float32
    image,  # (count, h, w) float32
    row_taps,
    column_taps,
    H,
    W,
    h,
    w,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    frame, y, x = tile(h, w, ROWS, COLUMNS)
    inside = (y < h) & (x < w)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in range(row_taps):
        source = tl.load(row_index + i * h + y, mask=y < h, other=0).to(tl.int64) * W
        row = tl.zeros((ROWS, COLUMNS), tl.float32)
        for j in range(column_taps):
            column = tl.load(column_index + j * w + x, mask=x < w, other=0)
            value = tl.load(frames + frame * H * W + source + column, mask=inside, other=0)
            row += tl.load(column_weight + j * w + x, mask=x < w, other=0.0) * value.to(tl.float32)
        total += tl.load(row_weight + i * h + y, mask=y < h, other=0.0) * row
    tl.store(image + frame * h * w + y.to(tl.int64) * w + x, total, mask=inside)


@triton.jit
def _expand(
    image,  # (count, h, w) float32
    weights,  # (3, 2 RADIUS + 1) float32: g, x g, x² g
    inverse,  # (4,) float32
    expansion,  # (5, count, h, w) float32: coefficients of y, x, y², x², xy
    count,
    h,
    w,
    RADIUS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    WINDOW: tl.constexpr = 2 * RADIUS + 1
    frame, y, x = tile(h, w, ROWS, COLUMNS)
    inside = (y < h) & (x < w)
    image += frame * h * w
    # Moments of 1, y, x, y², x² and xy.
    one = tl.zeros((ROWS, COLUMNS), tl.float32)
    by, bx, yy, xx, xy = one, one, one, one, one
    for j in range(WINDOW):
        column = tl.minimum(tl.maximum(x + j - RADIUS, 0), w - 1)
        # Moments of 1, y and y² along this column.
        source = image + column
        here = tl.load(source + y.to(tl.int64) * w, mask=inside, other=0.0)
        row = tl.load(weights + RADIUS) * here
        row_y = tl.zeros((ROWS, COLUMNS), tl.float32)
        row_yy = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(1, RADIUS + 1):
            low, high = tl.maximum(y - k, 0), tl.minimum(y + k, h - 1)
            above = tl.load(source + low.to(tl.int64) * w, mask=inside, other=0.0)
            below = tl.load(source + high.to(tl.int64) * w, mask=inside, other=0.0)
            row += tl.load(weights + RADIUS + k) * (below + above)
            row_y += tl.load(weights + WINDOW + RADIUS + k) * (below - above)
            row_yy += tl.load(weights + 2 * WINDOW + RADIUS + k) * (below + above)
        g, xg, xxg = tl.load(weights + j), tl.load(weights + WINDOW + j), tl.load(weights + 2 * WINDOW + j)
        one += g * row
        by += g * row_y
        bx += xg * row
        yy += g * row_yy
        xx += xxg * row
        xy += xg * row_y
    expansion += frame * h * w + y.to(tl.int64) * w + x
    plane = (tl.zeros_like(frame) + count) * h * w
    linear, constant, square, mixed = tl.load(inverse), tl.load(inverse + 1), tl.load(inverse + 2), tl.load(inverse + 3)
    yy, xx = constant * one + square * yy, constant * one + square * xx
    store_planes(expansion, plane, inside, linear * by, linear * bx, yy, xx, mixed * xy)
