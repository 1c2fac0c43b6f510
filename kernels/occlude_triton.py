"""The occluded batch on the GPU: one launch for all rows, which reads and writes in memory order."""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements of a block: 8 for each of 128 threads, 16 bytes of half precision; a few rows of a frame, which most boxes
# miss. One clip of 16x112x112 makes 588 blocks for 132 multiprocessors.
BLOCK = 1024
# Fewer where one covered element makes the whole block go through all shifts. With 8 for each thread, some sizes spill
# 8 to 16 bytes.
SAMPLED_BLOCK = 512


def occlude(
    video: Tensor,  # (B, C, T, H, W)
    fill: Tensor,  # (B, C, T, H, W)
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (n, K1)
    clips: Tensor,  # (n,)
    out: Tensor,  # (n, C, T, H, W)
) -> None:
    """See `aosa_fast.kernels.occlude`."""
    memory_format, planes, pixel = memory_order(out)
    B, N, T = boxes.shape[:3]
    H, W = out.shape[3:]
    if out.numel():
        _occlude[(len(out) * planes * triton.cdiv(H * W * pixel, BLOCK),)](
            video.contiguous(memory_format=memory_format),
            fill.contiguous(memory_format=memory_format),
            *(boxes.contiguous(), members.contiguous(), clips.contiguous(), out),
            *(B, N, members.shape[1], planes, T, H),
            W=W,
            PIXEL=pixel,
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )


def occlude_sampled(
    video: Tensor,  # (B, C, T, H, W)
    mean: Tensor,  # (B, C, T, H, W)
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (n, K1)
    clips: Tensor,  # (n,)
    noise: Tensor,  # (n, T, 2r+1, 2r+1)
    out: Tensor,  # (n, C, T, H, W)
) -> None:
    """See `aosa_fast.kernels.occlude`.

    Sums are in float32, in the order of the shifts: for values up to 7, at most 6.5e-7 from the float64 reference at
    r = 1, and 2.6e-6 at r = 9 (tests/test_occlude_triton.py).
    """
    memory_format, planes, pixel = memory_order(out)
    B, N, T = boxes.shape[:3]
    H, W = out.shape[3:]
    if out.numel():
        _occlude_sampled[(len(out) * planes * triton.cdiv(H * W * pixel, SAMPLED_BLOCK),)](
            video.contiguous(memory_format=memory_format),
            mean.contiguous(memory_format=memory_format),
            *(boxes.contiguous(), members.contiguous(), clips.contiguous(), noise.contiguous(), out),
            *(B, N, members.shape[1], planes, T, H, noise.shape[-1] // 2),
            W=W,
            PIXEL=pixel,
            BLOCK=SAMPLED_BLOCK,
            enable_fp_fusion=False,
        )


def memory_order(out: Tensor) -> tuple[torch.memory_format, int, int]:
    """Its memory format, and what that makes of a clip: how many planes, of how many elements for each of H x W pixels.

    Contiguous clips are C * T planes of single values, channels-last ones T planes of C values. Plane p shows frame
    p % T either way.
    """
    C, T = out.shape[1:3]
    return (torch.contiguous_format, C * T, 1) if out.is_contiguous() else (torch.channels_last_3d, T, C)


@triton.jit
def covered_by(
    boxes,  # (N, T, 4) int32 of one clip
    members,  # (count,) int32 of one row
    count,
    t,  # frame, int64
    start,  # first element of the block
    N,
    T,
    H,
    W: tl.constexpr,
    PIXEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """(BLOCK,) int1: whether the union of the members' boxes holds an element; none after the frame's last."""
    element = start + tl.arange(0, BLOCK)
    y, x = element // (W * PIXEL), element % (W * PIXEL)
    first, last = start // (W * PIXEL), (start + BLOCK - 1) // (W * PIXEL)
    covered = y < 0
    for k in range(count):
        member = tl.load(members + k)
        valid = (member >= 0) & (member < N)
        box = boxes + (member.to(tl.int64) * T + t) * 4
        x0 = tl.maximum(tl.load(box, mask=valid, other=0), 0) * PIXEL
        y0 = tl.load(box + 1, mask=valid, other=0)
        x1 = tl.minimum(tl.load(box + 2, mask=valid, other=0), W) * PIXEL
        y1 = tl.minimum(tl.load(box + 3, mask=valid, other=0), H)
        if (y0 <= last) & (y1 > first):
            covered = covered | ((y >= y0) & (y < y1) & (x >= x0) & (x < x1))
    return covered


@triton.jit
def load_block(
    video,  # (B, planes, H, W, PIXEL)
    boxes,  # (B, N, T, 4) int32
    members,  # (n, K1) int32
    clips,  # (n,) int32
    B,
    N,
    K1,
    planes,
    T,
    H,
    W: tl.constexpr,
    PIXEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """This program's block of a plane of a row, before anything is replaced.

    Returns:
        Row and plane, int64; the block's elements (BLOCK,) of the plane, where they are in `video`, whether they are
        covered, and their values; NaN, and nothing covered, for a clip that there is not.
    """
    size = H * W * PIXEL
    blocks = (size + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    row, plane = (program // blocks // planes).to(tl.int64), (program // blocks % planes).to(tl.int64)
    clip = tl.load(clips + row).to(tl.int64)
    known = (clip >= 0) & (clip < B)
    count, readable = tl.where(known, K1, 0), tl.where(known, size, 0)
    start = program % blocks * BLOCK
    boxes += clip * N * T * 4
    covered = covered_by(boxes, members + row * K1, count, plane % T, start, N, T, H, W, PIXEL, BLOCK)
    element = start + tl.arange(0, BLOCK)
    source = (clip * planes + plane) * size + element
    # Masking the video by ~covered as well would save a tenth of the reads, but split them into single elements.
    values = tl.load(video + source, mask=element < readable, other=float("nan"))
    return row, plane, element, source, covered, values


@triton.jit
def _occlude(
    video,  # (B, planes, H, W, PIXEL)
    fill,  # (B, planes, H, W, PIXEL)
    boxes,  # (B, N, T, 4) int32
    members,  # (n, K1) int32
    clips,  # (n,) int32
    out,  # (n, planes, H, W, PIXEL)
    B,
    N,
    K1,
    planes,
    T,
    H,
    W: tl.constexpr,
    PIXEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    size = H * W * PIXEL
    row, plane, element, source, covered, values = load_block(
        video, boxes, members, clips, B, N, K1, planes, T, H, W, PIXEL, BLOCK
    )
    values = tl.where(covered, tl.load(fill + source, mask=covered, other=0.0), values)
    tl.store(out + (row * planes + plane) * size + element, values, mask=element < size)


@triton.jit
def _occlude_sampled(
    video,  # (B, planes, H, W, PIXEL) float32
    mean,  # (B, planes, H, W, PIXEL) float32
    boxes,  # (B, N, T, 4) int32
    members,  # (n, K1) int32
    clips,  # (n,) int32
    noise,  # (n, T, 2 radius + 1, 2 radius + 1) float32
    out,  # (n, planes, H, W, PIXEL)
    B,
    N,
    K1,
    planes,
    T,
    H,
    radius,
    W: tl.constexpr,
    PIXEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    size = H * W * PIXEL
    row, plane, element, source, covered, values = load_block(
        video, boxes, members, clips, B, N, K1, planes, T, H, W, PIXEL, BLOCK
    )
    if tl.max(covered.to(tl.int32), axis=0) > 0:
        y, x = element // (W * PIXEL), element % (W * PIXEL) // PIXEL
        side = 2 * radius + 1
        centre = noise + ((row * T + plane % T) * side + radius) * side + radius
        mu = tl.load(mean + source, mask=covered, other=0.0)
        total = tl.zeros((BLOCK,), tl.float32)
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                neighbour = covered & (y + dy >= 0) & (y + dy < H) & (x + dx >= 0) & (x + dx < W)
                # Not dy != 0: in an interpreter that would be Python's bool, which that of Triton 3.2 does not take.
                neighbour = neighbour & ((y + dy != y) | (x + dx != x))
                shifted = tl.load(video + source + (dy * W + dx) * PIXEL, mask=neighbour, other=0.0)
                total += tl.where(neighbour, tl.load(centre + dy * side + dx) * (shifted - mu), 0.0)
        rows = tl.minimum(y + radius, H - 1) - tl.maximum(y - radius, 0) + 1
        columns = tl.minimum(x + radius, W - 1) - tl.maximum(x - radius, 0) + 1
        # Neighbours - 1. One neighbour is the mean itself: no spread.
        degrees = rows * columns - 2
        spread = tl.div_rn(total, tl.sqrt_rn(tl.maximum(degrees, 1).to(tl.float32)))
        values = tl.where(covered, mu + tl.where(degrees > 0, spread, 0.0), values)
    tl.store(out + (row * planes + plane) * size + element, values.to(out.dtype.element_ty), mask=element < size)
