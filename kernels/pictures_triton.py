"""Pictures on the GPU: bytes are read once, and become planes there."""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Pixels that a program handles: 8 for each of 128 threads.
PIXELS = 1024


def normalize_frames(
    frames: Tensor,  # (B, T, H, W, 3)
    mean: Tensor,  # (3,)
    std: Tensor,  # (3,)
) -> Tensor:
    """See `aosa_fast.kernels.pictures`."""
    B, T, H, W, _ = frames.shape
    video = torch.empty((B, 3, T, H, W), dtype=torch.float32, device=frames.device)
    if video.numel():
        _normalize_frames[(B, triton.cdiv(T * H * W, PIXELS))](
            *(frames.contiguous(), mean.contiguous(), std.contiguous(), video, T * H * W),
            PIXELS=PIXELS,
            enable_fp_fusion=False,
        )
    return video


def grey_frames(
    frames: Tensor,  # (B, T, H, W, 3)
) -> Tensor:
    """See `aosa_fast.kernels.pictures`."""
    grey = torch.empty(frames.shape[:-1], dtype=torch.uint8, device=frames.device)
    if grey.numel():
        _grey_frames[(triton.cdiv(grey.numel(), PIXELS),)](
            frames.contiguous(), grey, grey.numel(), PIXELS=PIXELS, enable_fp_fusion=False
        )
    return grey


@triton.jit
def _normalize_frames(
    frames,  # (B, voxels, 3) uint8
    mean,  # (3,) float32
    std,  # (3,) float32
    video,  # (B, 3, voxels) float32
    voxels,
    PIXELS: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    voxel = tl.program_id(1).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    inside = voxel < voxels
    for c in tl.static_range(3):
        level = tl.load(frames + (b * voxels + voxel) * 3 + c, mask=inside, other=0).to(tl.float32)
        value = tl.div_rn(tl.div_rn(level, 255.0) - tl.load(mean + c), tl.load(std + c))
        tl.store(video + (b * 3 + c) * voxels + voxel, value, mask=inside)


@triton.jit
def _grey_frames(
    frames,  # (pixels, 3) uint8
    grey,  # (pixels,) uint8
    pixels,
    PIXELS: tl.constexpr,
):
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < pixels
    red = tl.load(frames + pixel * 3, mask=inside, other=0).to(tl.int32)
    green = tl.load(frames + pixel * 3 + 1, mask=inside, other=0).to(tl.int32)
    blue = tl.load(frames + pixel * 3 + 2, mask=inside, other=0).to(tl.int32)
    tl.store(grey + pixel, ((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15).to(tl.uint8), mask=inside)
