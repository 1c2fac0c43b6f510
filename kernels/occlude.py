"""The occluded batch of exact AOSA, written straight into the model's input (paper III-A to III-C)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast import _C
from aosa_fast.kernels.checks import check_device, check_dtype, check_shapes, check_tensors, threads
from aosa_fast.kernels.registry import operator


def occlude(
    video: Tensor,  # (B, C, T, H, W)
    fill: Tensor,  # (B, C, T, H, W)
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (n, K1)
    clips: Tensor,  # (n,)
    out: Tensor,  # (n, C, T, H, W)
) -> None:
    """Writes n rows of occluded clips into `out`: x outside of each row's tube, `fill` inside.

    Args:
        video: (B, C, T, H, W), the model's input, of `out`'s dtype; read fastest in `out`'s memory format.
        fill: (B, C, T, H, W), replacement values, of `out`'s dtype; likewise.
        boxes: (B, N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open, inside the frame; empty where not alive.
        members: (n, K1) int32, rows of the clip's boxes joined into each row's tube; -1 pads.
        clips: (n,) int32, the clip of each row.
        out: (n, C, T, H, W), the model's input buffer, contiguous or channels_last_3d; every element is written.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes or devices that do not fit, another memory format, a box, member or clip out of range.

    Note:
        On a GPU, boxes are cut to the frame, members out of range count as padding, and a row whose clip is out of
        range becomes NaN: an error would have to wait for the device.
    """
    check_tensors(video=video, fill=fill, boxes=boxes, members=members, clips=clips, out=out)
    _occlude(video, fill, boxes, members, clips, out)


def occlude_sampled(
    video: Tensor,  # (B, C, T, H, W)
    mean: Tensor,  # (B, C, T, H, W)
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (n, K1)
    clips: Tensor,  # (n,)
    noise: Tensor,  # (n, T, 2r+1, 2r+1)
    out: Tensor,  # (n, C, T, H, W)
) -> None:
    """Conditional sampling: n rows of occluded clips, each tube filled by a draw from its neighbourhood (III-C).

    A draw is mu + sum over shifts d of noise_d (x(q + d) - mu) / sqrt(n(q) - 1), over the n(q) shifts of at most r
    pixels that stay inside the frame, d = 0 left out: exactly a sample of the normal distribution with the mean and
    the covariance of the shifted patches, without forming that covariance.

    Args:
        video: (B, C, T, H, W) float32.
        mean: (B, C, T, H, W) float32, `conditional_mean` of the same radius.
        boxes: (B, N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open, inside the frame; empty where not alive.
        members: (n, K1) int32, rows of the clip's boxes joined into each row's tube; -1 pads.
        clips: (n,) int32, the clip of each row.
        noise: (n, T, 2r+1, 2r+1) float32, standard normal, indexed by (dy + r, dx + r); the centre is not used.
        out: (n, C, T, H, W) of a floating-point dtype, to which draws are rounded; otherwise like `occlude`'s.

    Raises:
        TypeError: a wrong dtype.
        ValueError: as `occlude`.

    Note:
        As `occlude`. Sums are in float64 on a CPU, in float32 on a GPU.
    """
    check_tensors(video=video, mean=mean, boxes=boxes, members=members, clips=clips, noise=noise, out=out)
    _occlude_sampled(video, mean, boxes, members, clips, noise, out)


def _check(video: Tensor, fill: Tensor, boxes: Tensor, members: Tensor, clips: Tensor, out: Tensor) -> None:
    check_shapes(
        video=(video, "B C T H W"),
        fill=(fill, "B C T H W"),
        boxes=(boxes, "B N T 4"),
        members=(members, "n K1"),
        clips=(clips, "n"),
        out=(out, "n C T H W"),
    )
    check_dtype(out.dtype, video=video, fill=fill)
    check_dtype(torch.int32, boxes=boxes, members=members, clips=clips)
    check_device(video=video, fill=fill, boxes=boxes, members=members, clips=clips, out=out)
    _check_format(out)


def _check_sampled(
    video: Tensor, mean: Tensor, boxes: Tensor, members: Tensor, clips: Tensor, noise: Tensor, out: Tensor
) -> None:
    sizes = check_shapes(
        video=(video, "B C T H W"),
        mean=(mean, "B C T H W"),
        boxes=(boxes, "B N T 4"),
        members=(members, "n K1"),
        clips=(clips, "n"),
        noise=(noise, "n T D D"),
        out=(out, "n C T H W"),
    )
    if sizes["D"] % 2 == 0:
        raise ValueError(f"noise must have an odd window 2r+1; got {sizes['D']}")
    check_dtype(torch.float32, video=video, mean=mean, noise=noise)
    check_dtype(torch.int32, boxes=boxes, members=members, clips=clips)
    if not out.is_floating_point():
        raise TypeError(f"out must be floating-point; got {out.dtype}")
    check_device(video=video, mean=mean, boxes=boxes, members=members, clips=clips, noise=noise, out=out)
    _check_format(out)


def _check_format(out: Tensor) -> None:
    if not (out.is_contiguous() or out.is_contiguous(memory_format=torch.channels_last_3d)):
        raise ValueError(f"out must be contiguous or channels_last_3d; got strides {out.stride()}")


def _occlude_fake(video: Tensor, fill: Tensor, boxes: Tensor, members: Tensor, clips: Tensor, out: Tensor) -> None:
    return None


@operator("occlude", check=_check, fake=_occlude_fake, mutates=("out",))
def _occlude(video: Tensor, fill: Tensor, boxes: Tensor, members: Tensor, clips: Tensor, out: Tensor) -> None:
    B, C, T, H, W = video.shape
    if out.is_contiguous():
        order, view = (0, 1, 2, 3, 4), (B, C * T, H, W, out.itemsize)
    else:
        order, view = (0, 2, 3, 4, 1), (B, T, H, W, C * out.itemsize)
    _C.occlude(
        _bytes(video.permute(order)).reshape(view),
        _bytes(fill.permute(order)).reshape(view),
        boxes.contiguous().numpy(),
        members.contiguous().numpy(),
        clips.contiguous().numpy(),
        _bytes(out.permute(order)).reshape(len(out), *view[1:]),
        T,
        threads(),
    )


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """A tensor's memory: one path for every dtype, bfloat16 included, which NumPy does not have."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()


def _occlude_sampled_fake(
    video: Tensor, mean: Tensor, boxes: Tensor, members: Tensor, clips: Tensor, noise: Tensor, out: Tensor
) -> None:
    return None


@operator("occlude_sampled", check=_check_sampled, fake=_occlude_sampled_fake, mutates=("out",))
def _occlude_sampled(
    video: Tensor, mean: Tensor, boxes: Tensor, members: Tensor, clips: Tensor, noise: Tensor, out: Tensor
) -> None:
    direct = out.dtype == torch.float32 and out.is_contiguous()
    rows = out.detach() if direct else torch.empty(out.shape, dtype=torch.float32, device="cpu")
    _C.occlude_sampled(
        video.detach().contiguous().numpy(),
        mean.detach().contiguous().numpy(),
        boxes.contiguous().numpy(),
        members.contiguous().numpy(),
        clips.contiguous().numpy(),
        noise.detach().contiguous().numpy(),
        rows.numpy(),
        noise.shape[-1] // 2,
        threads(),
    )
    if not direct:
        out.detach().copy_(rows)
