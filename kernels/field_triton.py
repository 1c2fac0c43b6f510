"""The relevance field and the conditional mean on the GPU, in strips of rows."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from aosa_fast.kernels.tube_scores_triton import empty_tables, scores_from_tables, store_table, strip_shape

# What stands in for a voxel: FILL of the kernel.
CONDITIONAL, PER_VOXEL, PER_CHANNEL = 0, 1, 2
# Radius up to which the window's loops are unrolled.
UNROLLED = tl.constexpr(4)


def conditional_mean(
    video: Tensor,  # (B, C, T, H, W)
    radius: int,
) -> Tensor:
    """See `aosa_fast.kernels.field`; sums in float32, where the CPU's are in float64."""
    video = video.contiguous()
    H, W = video.shape[-2:]
    mean = torch.empty_like(video)
    strip = strip_shape(W)
    if video.numel():
        _conditional_mean[(video.numel() // (H * W), triton.cdiv(H, strip["STRIP"]))](
            *(video, mean, H, W), RADIUS=min(radius, max(H, W)), **strip, enable_fp_fusion=False
        )
    return mean


def field(
    video: Tensor,  # (B, C, T, H, W)
    grad: Tensor,  # (B, C, T, H, W)
    fill: Tensor | None,  # (B, C, T, H, W) or (C,)
    radius: int,
    relu: int,
) -> Tensor:
    """See `aosa_fast.kernels.field`; sums in float32, where the CPU's window sums are in float64."""
    return _launch(video, grad, fill, radius, relu, tables=False)[0]


def field_scores(
    video: Tensor,  # (B, C, T, H, W)
    grad: Tensor,  # (B, C, T, H, W)
    fill: Tensor | None,  # (B, C, T, H, W) or (C,)
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (B, N, K1)
    radius: int,
    relu: int,
) -> tuple[Tensor, Tensor]:
    """See `aosa_fast.kernels.field`: the tables that the scores need are written with the field, in one pass."""
    out, table, last = _launch(video, grad, fill, radius, relu, tables=True)
    return out, scores_from_tables(table, last, boxes, members)


def _launch(
    video: Tensor, grad: Tensor, fill: Tensor | None, radius: int, relu: int, *, tables: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The field, and with `tables` what `empty_tables` describes (else the field again, which is not read)."""
    video, grad = video.contiguous(), grad.contiguous()
    B, C, T, H, W = video.shape
    out = torch.empty((B, T, H, W), dtype=torch.float32, device=video.device)
    table, last = empty_tables(B, T, H, W, video.device) if tables else (out, out)
    mode = CONDITIONAL if fill is None else PER_CHANNEL if fill.ndim == 1 else PER_VOXEL
    strip = strip_shape(W)
    if out.numel():
        _field[(B * T, triton.cdiv(H, strip["STRIP"]))](
            *(video, grad, video if fill is None else fill.contiguous(), out, table, last),
            *(C, T, H, W),
            RADIUS=min(radius, max(H, W)) if fill is None else 0,
            FILL=mode,
            RELU=relu,
            TABLES=tables,
            **strip,
            enable_fp_fusion=False,
        )
    return out, table, last


@triton.jit
def _window_row(line, first, shift, row, x, H, W, RADIUS: tl.constexpr, WIDTH: tl.constexpr):
    """What the row at `line`, `shift` below the strip's first, adds to the windows of the strip, (STRIP, WIDTH)."""
    width = tl.where((first + shift >= 0) & (first + shift < H), W, 0)
    window = tl.zeros((WIDTH,), tl.float32)
    if RADIUS <= UNROLLED:
        for dx in tl.static_range(-RADIUS, RADIUS + 1):
            window += tl.load(line + dx, mask=(x + dx >= 0) & (x + dx < width), other=0.0)
    else:
        for dx in range(-RADIUS, RADIUS + 1):
            window += tl.load(line + dx, mask=(x + dx >= 0) & (x + dx < width), other=0.0)
    return tl.where(((row >= shift - RADIUS) & (row <= shift + RADIUS))[:, None], window[None, :], 0.0)


@triton.jit
def _window_mean(
    plane,  # (H, W) float32
    first,  # the first row of the strip
    H,
    W,
    RADIUS: tl.constexpr,
    STRIP: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """A strip and the mean of its neighbours within RADIUS, (STRIP, WIDTH): a row's window sums serve all its rows."""
    row, x = tl.arange(0, STRIP), tl.arange(0, WIDTH)
    total = tl.zeros((STRIP, WIDTH), tl.float32)
    # A pointer that moves on: all offsets from the plane would be kept in registers from one channel to the next.
    line = plane + (first - RADIUS) * W + x
    if RADIUS <= UNROLLED:
        # Many loads at once; a thread holds whole columns, so that which row is near is known to the compiler.
        for shift in tl.static_range(-RADIUS, STRIP + RADIUS):
            total += _window_row(line, first, shift, row, x, H, W, RADIUS, WIDTH)
            line += W
    else:
        for shift in range(-RADIUS, STRIP + RADIUS):
            total += _window_row(line, first, shift, row, x, H, W, RADIUS, WIDTH)
            line += W
    y = first + row
    rows = tl.minimum(y + RADIUS, H - 1) - tl.maximum(y - RADIUS, 0) + 1
    columns = tl.minimum(x + RADIUS, W - 1) - tl.maximum(x - RADIUS, 0) + 1
    neighbours = (rows[:, None] * columns[None, :] - 1).to(tl.float32)
    inside = (y[:, None] < H) & (x[None, :] < W)
    values = tl.load(plane + y[:, None] * W + x[None, :], mask=inside, other=0.0)
    return values, tl.where(neighbours > 0, (total - values) / tl.maximum(neighbours, 1.0), values)


@triton.jit
def _conditional_mean(
    video,  # (planes, H, W) float32
    mean,  # (planes, H, W) float32
    H,
    W,
    RADIUS: tl.constexpr,
    STRIP: tl.constexpr,
    WIDTH: tl.constexpr,
):
    offset = tl.program_id(0).to(tl.int64) * H * W
    first = tl.program_id(1) * STRIP
    y, x = first + tl.arange(0, STRIP)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (y < H) & (x < W)
    _, result = _window_mean(video + offset, first, H, W, RADIUS, STRIP, WIDTH)
    tl.store(mean + offset + y * W + x, result, mask=inside)


@triton.jit
def _field(
    video,  # (B, C, T, H, W) float32
    grad,  # (B, C, T, H, W) float32
    fill,  # like video, or (C,), float32; not read if FILL is CONDITIONAL
    out,  # (B, T, H, W) float32
    table,  # (B, T, H, W) float32, not written without TABLES
    last,  # (B, T, strips, W) float32, likewise
    C,
    T,
    H,
    W,
    RADIUS: tl.constexpr,
    FILL: tl.constexpr,
    RELU: tl.constexpr,
    TABLES: tl.constexpr,
    STRIP: tl.constexpr,
    WIDTH: tl.constexpr,
):
    frame, strip = tl.program_id(0).to(tl.int64), tl.program_id(1)
    b, t = frame // T, frame % T
    first = strip * STRIP
    y, x = first + tl.arange(0, STRIP)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (y < H) & (x < W)
    total = tl.zeros((STRIP, WIDTH), tl.float32)
    for c in range(C):
        offset = ((b * C + c) * T + t) * H * W
        if FILL == 0:
            value, other = _window_mean(video + offset, first, H, W, RADIUS, STRIP, WIDTH)
        else:
            value = tl.load(video + offset + y * W + x, mask=inside, other=0.0)
            if FILL == 1:  # noqa: SIM108 - a constant condition, of which one branch is compiled
                other = tl.load(fill + offset + y * W + x, mask=inside, other=0.0)
            else:
                other = tl.load(fill + c)
        slope = tl.load(grad + offset + y * W + x, mask=inside, other=0.0)
        drop = slope * (value - other)
        if RELU == 0:
            drop = tl.maximum(drop, 0.0)
        elif RELU == 3:  # as Eq. 8 is printed: keeps what raises the score
            drop = tl.minimum(drop, 0.0)
        total += drop
    if RELU == 1:
        total = tl.maximum(total, 0.0)
    total = tl.where(inside, total, 0.0)
    tl.store(out + frame * H * W + y * W + x, total, mask=inside)
    if TABLES:
        store_table(total, table + frame * H * W, last + frame * tl.num_programs(1) * W, strip, H, W, STRIP, WIDTH)
