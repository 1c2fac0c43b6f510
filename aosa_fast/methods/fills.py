"""What stands in for the occluded voxels (paper III-C; method: section 3)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.call import is_finite
from aosa_fast.kernels.field import conditional_mean
from aosa_fast.libraries import cv2
from aosa_fast.methods import compat
from aosa_fast.methods.frames import channel_values

# The blur of the deletion and insertion protocols: 11 pixels wide, sigma 5.
BLUR_KERNEL, BLUR_SIGMA = 11, 5.0


def channel_fill(
    config: Config, video: Tensor, mean: Sequence[float] | Tensor | None, std: Sequence[float] | Tensor | None
) -> Tensor | None:
    """(C,) float32, on the device of `video` (B, C, T, H, W), for the fills with one value per channel, else None.

    Raises:
        InputError: fill="black" without the mean and std of the normalisation.
    """
    channels = video.shape[1]
    if config.fill_name == "mean":
        return video.new_zeros(channels)
    if config.fill_name != "black":
        return None
    if mean is None or std is None:
        raise InputError("fill=black must come with the mean and std of the model's normalisation; got none")
    return (-channel_values("mean", mean, channels) / channel_values("std", std, channels)).to(video.device)


def make_fill(
    video: Tensor,
    config: Config,
    mean: Sequence[float] | Tensor | None = None,
    std: Sequence[float] | Tensor | None = None,
) -> Tensor:
    """The fill of every voxel.

    Args:
        video: (B, C, T, H, W) float32, the model's input.
        config: names the fill, or holds a tensor that broadcasts to `video`.
        mean: of the normalisation, one value per channel; only for "black".
        std: likewise.

    Returns:
        (B, C, T, H, W) float32, contiguous, in the unit of `video`.

    Raises:
        InputError: a tensor that does not broadcast or is not finite, or "black" without mean and std.
    """
    per_channel = channel_fill(config, video, mean, std)
    if per_channel is not None:
        return per_channel.reshape(-1, 1, 1, 1).expand_as(video).contiguous()
    if isinstance(config.fill, Tensor):
        return _user_fill(config.fill, video)
    if config.fill_name == "blur":
        return blur(video)
    if config.compat:
        return compat.neighbourhood_mean(video, config.radius)
    return conditional_mean(video, config.radius)


def blur(video: Tensor) -> Tensor:
    """Gaussian blur of every frame, 11 pixels wide with sigma 5, borders reflected; like `video`."""
    planes = video.contiguous().cpu().numpy().reshape(-1, *video.shape[-2:])
    blurred = np.stack([cv2.GaussianBlur(plane, (BLUR_KERNEL, BLUR_KERNEL), BLUR_SIGMA) for plane in planes])
    return torch.from_numpy(blurred.reshape(tuple(video.shape))).to(video.device)


def temporal_median(video: Tensor) -> Tensor:
    """What stands still in a clip: (B, C, 1, H, W), the median of each pixel's values; the lower of the middle two."""
    return video.median(2, keepdim=True).values


def content_hash(video: Tensor) -> int:
    """CRC-32 of a clip's values, the same on every device."""
    return zlib.crc32(video.contiguous().cpu().numpy().tobytes())


def conditional_noise(clip: int, frames: int, anchor: int, config: Config) -> Tensor:
    """Standard normal coefficients of the random fills, seeded by the clip's content and the anchor.

    The same clip and anchor get the same draws, whatever the batch they come in, and whatever the device.

    Args:
        clip: `content_hash` of the clip.
        frames: T.
        anchor: its index.
        config: gives `seed`, `samples` (S) and `radius` (r).

    Returns:
        (S, T, 2r+1, 2r+1) float32, in main memory.
    """
    side = 2 * config.radius + 1
    generator = np.random.default_rng((config.seed, clip, anchor))
    return torch.from_numpy(generator.standard_normal((config.samples, frames, side, side), dtype=np.float32))


def _user_fill(fill: Tensor, video: Tensor) -> Tensor:
    try:
        values = fill.detach().to(video.device, torch.float32).expand_as(video).contiguous()
    except RuntimeError:
        raise InputError(f"fill must broadcast to {tuple(video.shape)}; got {tuple(fill.shape)}") from None
    if not is_finite(values):
        raise InputError("fill must be finite; got NaN or infinity")
    return values
