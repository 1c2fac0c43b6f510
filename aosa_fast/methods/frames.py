"""Between a model's normalised input and the pictures that people and optical flow look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import normalisation


def channel_values(name: str, values: Sequence[float] | Tensor, channels: int) -> Tensor:
    """`mean` or `std` as a (C,) float32 tensor, checked."""
    return torch.tensor(normalisation(name, values, channels), dtype=torch.float32, device="cpu")


def to_frames(
    video: Tensor,  # (B, C, T, H, W)
    mean: Sequence[float] | Tensor | None = None,
    std: Sequence[float] | Tensor | None = None,
) -> Tensor:
    """Turns a model's input back into pictures.

    Args:
        video: (B, C, T, H, W) float32. Three channels are taken as RGB, any other number is averaged to grey.
        mean: of the normalisation, in units of [0, 1] pixels, one per channel.
        std: likewise. Without both, each clip is stretched so that its least value is black and its largest white;
            optical flow hardly depends on that.

    Returns:
        (B, T, H, W, 3) uint8, RGB, on the device of `video`.
    """
    pixels = video.detach().float()
    if mean is not None and std is not None:
        channels = video.shape[1]
        scale, offset = (
            channel_values(name, v, channels).to(video.device) for name, v in (("std", std), ("mean", mean))
        )
        pixels = pixels.mul(255 * scale.reshape(-1, 1, 1, 1)).add_(255 * offset.reshape(-1, 1, 1, 1))
    else:
        low, high = pixels.amin((1, 2, 3, 4), keepdim=True), pixels.amax((1, 2, 3, 4), keepdim=True)
        pixels = pixels.sub(low).div_((high - low).clamp(min=torch.finfo(torch.float32).tiny)).mul_(255)
    if pixels.shape[1] != 3:
        pixels = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1, -1).clone()
    levels = pixels.round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 4, 1).contiguous()


def check_frames(frames: NDArray[np.uint8] | Tensor, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Pictures given by the user, as (B, T, H, W, 3) uint8; `shape` is (B, T, H, W)."""
    array = frames.cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
    if array.dtype != np.uint8:
        raise InputError(f"frames must be uint8; got {array.dtype}")
    if array.ndim == 4 and shape[0] == 1:
        array = array[None]
    if array.shape != (*shape, 3):
        raise InputError(f"frames must have shape {(*shape, 3)}; got {array.shape}")
    return np.ascontiguousarray(array)
