"""The relevance field e and the conditional mean (paper III-C, III-D; Eq. 7 and 8)."""

from typing import Literal

import torch
from torch import Tensor

from aosa_fast import _C
from aosa_fast.kernels import pieces
from aosa_fast.kernels.checks import check_device, check_dtype, check_numbers, check_shapes, check_tensors, threads
from aosa_fast.kernels.registry import operator
from aosa_fast.kernels.tube_scores import _tube_scores

Relu = Literal["element", "channel", "none", "eq8-literal"]
RELU_MODES: tuple[Relu, ...] = ("element", "channel", "none", "eq8-literal")


def conditional_mean(
    video: Tensor,  # (B, C, T, H, W)
    radius: int = 4,
) -> Tensor:
    """Mean of every pixel's neighbours within `radius` in its frame, the pixel itself left out (paper III-C).

    This is the mean of all shifts of an occluded patch by at most `radius` pixels, in closed form: it does not depend
    on the patch. Neighbours outside the frame do not count; a pixel without neighbours keeps its value.

    Args:
        video: (B, C, T, H, W) float32, any unit.
        radius: largest shift, pixels, at least 0.

    Returns:
        (B, C, T, H, W) float32, in the unit of `video`.

    Raises:
        TypeError: `video` is not float32.
        ValueError: a wrong shape, or a negative radius.
    """
    check_tensors(video=video)
    return _conditional_mean(video, radius)


def field(
    video: Tensor,  # (B, C, T, H, W)
    grad: Tensor,  # (B, C, T, H, W)
    fill: Tensor | None = None,  # (B, C, T, H, W) or (C,)
    *,
    radius: int = 4,
    relu: Relu = "element",
) -> Tensor:
    """First-order drop of the score by replacing each voxel alone: e = sum over channels of ReLU(-J (fill - x)).

    Eq. 8 with the sign that its text asks for: what is kept lowers the score. A tube's importance is the integral of
    this one field over the tube, so it is computed once per clip, in one pass, the conditional mean by running sums.

    Args:
        video: (B, C, T, H, W) float32, the model's input x.
        grad: (B, C, T, H, W) float32, gradient J of the score by `video`.
        fill: replacement values in the unit of `video`, one per voxel or one per channel; None: the conditional mean.
        radius: radius of the conditional mean, pixels.
        relu: "element" on each input element (Eq. 8), "channel" after the channel sum, "none" (Eq. 7), or
            "eq8-literal", the equation as printed, which keeps what raises the score (for audit).

    Returns:
        (B, T, H, W) float32, units of the score.

    Raises:
        TypeError: an argument is not float32.
        ValueError: shapes or devices that do not fit, an unknown `relu`, or a negative radius.

    Note:
        Values are not checked for NaN or infinity.
    """
    _check_options(video, grad, fill, relu)
    return _field(video, grad, fill, radius, RELU_MODES.index(relu))


def field_scores(
    video: Tensor,  # (B, C, T, H, W)
    grad: Tensor,  # (B, C, T, H, W)
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (B, N, K1)
    fill: Tensor | None = None,  # (B, C, T, H, W) or (C,)
    *,
    radius: int = 4,
    relu: Relu = "element",
) -> tuple[Tensor, Tensor]:
    """`field`, and `tube_scores` of it: on a GPU the field and the table that the scores need are written in one pass.

    Args:
        video: see `field`; so are grad, fill, radius and relu.
        grad: see `field`.
        boxes: see `tube_scores`.
        members: see `tube_scores`.
        fill: see `field`.
        radius: see `field`.
        relu: see `field`.

    Returns:
        The field (B, T, H, W) and the scores (B, N), float32, units of the score.

    Raises:
        TypeError: as `field` and `tube_scores`.
        ValueError: as `field` and `tube_scores`.
    """
    _check_options(video, grad, fill, relu)
    check_tensors(boxes=boxes, members=members)
    if pieces.has_pieces(boxes, members):
        own = pieces.alone(boxes)
        out, scores = _field_scores(video, grad, fill, boxes, own, radius, RELU_MODES.index(relu))
        return out, pieces.summed(scores, members)
    return _field_scores(video, grad, fill, boxes, members, radius, RELU_MODES.index(relu))


def _check_options(video: Tensor, grad: Tensor, fill: Tensor | None, relu: str) -> None:
    check_tensors(video=video, grad=grad, **({} if fill is None else {"fill": fill}))
    if relu not in RELU_MODES:
        raise ValueError(f"relu must be one of {', '.join(RELU_MODES)}; got {relu!r}")


def _check_mean(video: Tensor, radius: int) -> None:
    check_shapes(video=(video, "B C T H W"))
    check_dtype(torch.float32, video=video)
    check_numbers(0, radius=radius)


def _check_field(video: Tensor, grad: Tensor, fill: Tensor | None, radius: int, relu: int) -> None:
    tensors = {"video": video, "grad": grad}
    check_shapes(video=(video, "B C T H W"), grad=(grad, "B C T H W"))
    if fill is not None:
        tensors["fill"] = fill
        pattern = "C" if fill.ndim == 1 else "B C T H W"
        check_shapes(video=(video, "B C T H W"), fill=(fill, pattern))
    check_dtype(torch.float32, **tensors)
    check_device(**tensors)
    check_numbers(0, radius=radius)
    if not 0 <= relu < len(RELU_MODES):
        raise ValueError(f"relu must be an index of {', '.join(RELU_MODES)}; got {relu}")


def _check_field_scores(
    video: Tensor, grad: Tensor, fill: Tensor | None, boxes: Tensor, members: Tensor, radius: int, relu: int
) -> None:
    _check_field(video, grad, fill, radius, relu)
    check_shapes(video=(video, "B C T H W"), boxes=(boxes, "B N T 4"), members=(members, "B N K1"))
    check_dtype(torch.int32, boxes=boxes, members=members)
    check_device(video=video, boxes=boxes, members=members)


def _conditional_mean_fake(video: Tensor, radius: int) -> Tensor:
    return video.new_empty(video.shape)


@operator("conditional_mean", check=_check_mean, fake=_conditional_mean_fake)
def _conditional_mean(video: Tensor, radius: int) -> Tensor:
    mean = torch.empty(video.shape, dtype=torch.float32, device="cpu")
    _C.conditional_mean(video.detach().contiguous().numpy(), mean.numpy(), radius, threads())
    return mean


def _field_fake(video: Tensor, grad: Tensor, fill: Tensor | None, radius: int, relu: int) -> Tensor:
    b, _, *rest = video.shape
    return video.new_empty((b, *rest))


@operator("field", check=_check_field, fake=_field_fake)
def _field(video: Tensor, grad: Tensor, fill: Tensor | None, radius: int, relu: int) -> Tensor:
    b, _, *rest = video.shape
    out = torch.empty((b, *rest), dtype=torch.float32, device="cpu")
    values = None if fill is None else fill.detach().contiguous().numpy()
    video, grad = video.detach().contiguous(), grad.detach().contiguous()
    _C.field(video.numpy(), grad.numpy(), values, out.numpy(), radius, relu, threads())
    return out


def _field_scores_fake(
    video: Tensor, grad: Tensor, fill: Tensor | None, boxes: Tensor, members: Tensor, radius: int, relu: int
) -> tuple[Tensor, Tensor]:
    return _field_fake(video, grad, fill, radius, relu), video.new_empty(boxes.shape[:2])


@operator("field_scores", check=_check_field_scores, fake=_field_scores_fake)
def _field_scores(
    video: Tensor, grad: Tensor, fill: Tensor | None, boxes: Tensor, members: Tensor, radius: int, relu: int
) -> tuple[Tensor, Tensor]:
    out = _field(video, grad, fill, radius, relu)
    return out, _tube_scores(out, boxes, members)
