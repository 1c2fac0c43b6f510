"""Pictures as decoders give them: to a model's input, and to the grey levels that optical flow looks at."""

import torch
from torch import Tensor

from aosa_fast import _C
from aosa_fast.kernels.checks import check_device, check_dtype, check_shapes, check_tensors, threads
from aosa_fast.kernels.registry import operator


def normalize_frames(
    frames: Tensor,  # (B, T, H, W, 3)
    mean: Tensor,  # (3,)
    std: Tensor,  # (3,)
) -> Tensor:
    """(x / 255 - mean) / std, in one pass from interleaved bytes to planes.

    Args:
        frames: (B, T, H, W, 3) uint8, RGB.
        mean: (3,) float32, of pixels in [0, 1].
        std: (3,) float32, positive.

    Returns:
        (B, 3, T, H, W) float32; the same bits on every device.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes or devices that do not fit.
    """
    check_tensors(frames=frames, mean=mean, std=std)
    return _normalize_frames(frames, mean, std)


def grey_frames(
    frames: Tensor,  # (B, T, H, W, 3)
) -> Tensor:
    """The luma of OpenCV's RGB to grey: (9798 R + 19235 G + 3735 B + 2^14) / 2^15, rounded down.

    Args:
        frames: (B, T, H, W, 3) uint8, RGB.

    Returns:
        (B, T, H, W) uint8; the same on every device.

    Raises:
        TypeError: `frames` is not uint8.
        ValueError: a wrong shape.
    """
    check_tensors(frames=frames)
    return _grey_frames(frames)


def _check_normalize(frames: Tensor, mean: Tensor, std: Tensor) -> None:
    check_shapes(frames=(frames, "B T H W 3"), mean=(mean, "3"), std=(std, "3"))
    check_dtype(torch.uint8, frames=frames)
    check_dtype(torch.float32, mean=mean, std=std)
    check_device(frames=frames, mean=mean, std=std)


def _check_grey(frames: Tensor) -> None:
    check_shapes(frames=(frames, "B T H W 3"))
    check_dtype(torch.uint8, frames=frames)


def _normalize_frames_fake(frames: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    b, t, h, w, _ = frames.shape
    return frames.new_empty((b, 3, t, h, w), dtype=torch.float32)


@operator("normalize_frames", check=_check_normalize, fake=_normalize_frames_fake)
def _normalize_frames(frames: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    b, t, h, w, _ = frames.shape
    video = torch.empty((b, 3, t, h, w), dtype=torch.float32, device="cpu")
    frames, mean, std = frames.contiguous(), mean.detach().contiguous(), std.detach().contiguous()
    _C.normalize_frames(frames.numpy(), mean.numpy(), std.numpy(), video.numpy(), threads())
    return video


def _grey_frames_fake(frames: Tensor) -> Tensor:
    return frames.new_empty(frames.shape[:-1])


@operator("grey_frames", check=_check_grey, fake=_grey_frames_fake)
def _grey_frames(frames: Tensor) -> Tensor:
    grey = torch.empty(frames.shape[:-1], dtype=torch.uint8, device="cpu")
    _C.grey_frames(frames.contiguous().numpy(), grey.numpy(), threads())
    return grey
