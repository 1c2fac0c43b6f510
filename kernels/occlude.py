"""The occluded batch of exact AOSA, written straight into the model's input (paper III-A to III-C)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast import _C
from aosa_fast.kernels.checks import check_device, check_dtype, check_shapes, threads
from aosa_fast.kernels.registry import operator


def occlude(
    video: Tensor,  # (C, T, H, W)
    fill: Tensor,  # (C, T, H, W)
    boxes: Tensor,  # (N, T, 4)
    members: Tensor,  # (n, K1)
    out: Tensor,  # (n, C, T, H, W)
) -> None:
    """Writes one clip, occluded by each of n tubes, into `out`: x outside of the tube, `fill` inside.

    Args:
        video: (C, T, H, W), the model's input, of `out`'s dtype.
        fill: (C, T, H, W), replacement values, of `out`'s dtype.
        boxes: (N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open, inside the frame; empty where not alive.
        members: (n, K1) int32, rows of `boxes` joined into each tube; -1 pads.
        out: (n, C, T, H, W), the model's input buffer, contiguous or channels_last_3d; every element is written.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes or devices that do not fit, another memory format, a box or member out of range.
    """
    check_shapes(
        video=(video, "C T H W"),
        fill=(fill, "C T H W"),
        boxes=(boxes, "N T 4"),
        members=(members, "n K1"),
        out=(out, "n C T H W"),
    )
    check_dtype(out.dtype, video=video, fill=fill)
    check_dtype(torch.int32, boxes=boxes, members=members)
    check_device(video=video, fill=fill, boxes=boxes, members=members, out=out)
    if not (out.is_contiguous() or out.is_contiguous(memory_format=torch.channels_last_3d)):
        raise ValueError(f"out must be contiguous or channels_last_3d; got strides {out.stride()}")
    _occlude(video, fill, boxes, members, out)


def occlude_sampled(
    video: Tensor,  # (C, T, H, W)
    mean: Tensor,  # (C, T, H, W)
    boxes: Tensor,  # (N, T, 4)
    members: Tensor,  # (n, K1)
    noise: Tensor,  # (n, S, T, 2r+1, 2r+1)
) -> Tensor:
    """Conditional sampling: one clip, occluded by n tubes, each filled by S draws from its neighbourhood (III-C).

    A draw is mu + sum over shifts d of noise_d (x(q + d) - mu) / sqrt(n(q) - 1), over the n(q) shifts of at most r
    pixels that stay inside the frame, d = 0 left out: exactly a sample of the normal distribution with the mean and
    the covariance of the shifted patches, without forming that covariance.

    Args:
        video: (C, T, H, W) float32.
        mean: (C, T, H, W) float32, `conditional_mean` of the same radius.
        boxes: (N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open, inside the frame; empty where not alive.
        members: (n, K1) int32, rows of `boxes` joined into each tube; -1 pads.
        noise: (n, S, T, 2r+1, 2r+1) float32, standard normal, indexed by (dy + r, dx + r); the centre is not used.

    Returns:
        (n, S, C, T, H, W) float32.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes or devices that do not fit, a box or member out of range.
    """
    sizes = check_shapes(
        video=(video, "C T H W"),
        mean=(mean, "C T H W"),
        boxes=(boxes, "N T 4"),
        members=(members, "n K1"),
        noise=(noise, "n S T D D"),
    )
    if sizes["D"] % 2 == 0:
        raise ValueError(f"noise must have an odd window 2r+1; got {sizes['D']}")
    check_dtype(torch.float32, video=video, mean=mean, noise=noise)
    check_dtype(torch.int32, boxes=boxes, members=members)
    check_device(video=video, mean=mean, boxes=boxes, members=members, noise=noise)
    return _occlude_sampled(video, mean, boxes, members, noise)


def _occlude_fake(video: Tensor, fill: Tensor, boxes: Tensor, members: Tensor, out: Tensor) -> None:
    return None


@operator("occlude", fake=_occlude_fake, mutates=("out",))
def _occlude(video: Tensor, fill: Tensor, boxes: Tensor, members: Tensor, out: Tensor) -> None:
    channels, frames, height, width = video.shape
    order = (0, 1, 2, 3) if out.is_contiguous() else (1, 2, 3, 0)
    planes = channels * frames if out.is_contiguous() else frames
    _C.occlude(
        _bytes(video.permute(order)).reshape(planes, height, width, -1),
        _bytes(fill.permute(order)).reshape(planes, height, width, -1),
        boxes.contiguous().numpy(),
        members.contiguous().numpy(),
        _bytes(out if out.is_contiguous() else out.permute(0, 2, 3, 4, 1)),
        frames,
        threads(),
    )


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """A tensor's memory: one path for every dtype, bfloat16 included, which NumPy does not have."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()


def _occlude_sampled_fake(video: Tensor, mean: Tensor, boxes: Tensor, members: Tensor, noise: Tensor) -> Tensor:
    return video.new_empty((*noise.shape[:2], *video.shape))


@operator("occlude_sampled", fake=_occlude_sampled_fake)
def _occlude_sampled(video: Tensor, mean: Tensor, boxes: Tensor, members: Tensor, noise: Tensor) -> Tensor:
    out = torch.empty((*noise.shape[:2], *video.shape), dtype=torch.float32)
    _C.occlude_sampled(
        video.detach().contiguous().numpy(),
        mean.detach().contiguous().numpy(),
        boxes.contiguous().numpy(),
        members.contiguous().numpy(),
        noise.detach().contiguous().numpy(),
        out.numpy(),
        noise.shape[-1] // 2,
        threads(),
    )
    return out
