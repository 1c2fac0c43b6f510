"""Tube scores: the integral of one field over the union of each tube's boxes (paper III-B, III-D)."""

import torch
from torch import Tensor

from aosa_fast import _C
from aosa_fast.kernels import pieces
from aosa_fast.kernels.checks import check_device, check_dtype, check_shapes, check_tensors, threads
from aosa_fast.kernels.registry import operator


def tube_scores(
    field: Tensor,  # (B, T, H, W)
    boxes: Tensor,  # (B, N, T, 4), or (B, M, T, 4) of M pieces
    members: Tensor,  # (B, N, K1)
) -> Tensor:
    """Importance of each tube: S_i = the sum of `field` over the union of its members' boxes (Eq. 7 and 8).

    No mask is made: each frame's field becomes a summed-area table, each union a few disjoint boxes, so the cost does
    not depend on the box size. Overlap counts once.

    Args:
        field: (B, T, H, W) float32, units of the score.
        boxes: (B, N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open, inside the frame; empty where not alive. More of
            them than tubes are disjoint pieces, each of one tube: see `pieces`.
        members: (B, N, K1) int32, rows of `boxes` joined into each tube; -1 pads.

    Returns:
        (B, N) float32, units of the score; sums are made in float64.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes or devices that do not fit, a box outside the frame, a member outside of [-1, N).

    Note:
        On a GPU, boxes are cut to the frame and members out of range count as padding: an error would have to wait for
        the device.
    """
    check_tensors(field=field, boxes=boxes, members=members)
    if pieces.has_pieces(boxes, members):
        return pieces.summed(_tube_scores(field, boxes, pieces.alone(boxes)), members)
    return _tube_scores(field, boxes, members)


def _check(field: Tensor, boxes: Tensor, members: Tensor) -> None:
    check_shapes(field=(field, "B T H W"), boxes=(boxes, "B N T 4"), members=(members, "B N K1"))
    check_dtype(torch.float32, field=field)
    check_dtype(torch.int32, boxes=boxes, members=members)
    check_device(field=field, boxes=boxes, members=members)


def _tube_scores_fake(field: Tensor, boxes: Tensor, members: Tensor) -> Tensor:
    return field.new_empty(boxes.shape[:2])


@operator("tube_scores", check=_check, fake=_tube_scores_fake)
def _tube_scores(field: Tensor, boxes: Tensor, members: Tensor) -> Tensor:
    scores = torch.empty(boxes.shape[:2], dtype=torch.float32, device="cpu")
    field, boxes, members = field.detach().contiguous(), boxes.contiguous(), members.contiguous()
    _C.tube_scores(field.numpy(), boxes.numpy(), members.numpy(), scores.numpy(), threads())
    return scores
