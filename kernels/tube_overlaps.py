"""Overlaps of tubes: how much of what two of them hide is the same (method: section 13)."""

import torch
from torch import Tensor

from aosa_fast import _C
from aosa_fast.kernels import pieces
from aosa_fast.kernels.checks import check_device, check_dtype, check_numbers, check_shapes, check_tensors, threads
from aosa_fast.kernels.registry import operator


def tube_overlaps(
    weights: Tensor,  # (B, T, H', W')
    boxes: Tensor,  # (B, N, T, 4)
    members: Tensor,  # (B, N, K1)
    cell: int = 4,
) -> Tensor:
    """K_ij = the sum over cells of w c_i c_j, where c_i is the share of the cell's area that tube i's union covers.

    No mask is made: a tube meets few cells, and only these are multiplied.

    Args:
        weights: (B, T, H', W') float32, of each cell; the frame is at most H' cell x W' cell pixels.
        boxes: (B, N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open, inside the frame; empty where not alive. More
            of them than tubes are pieces of tubes, see `aosa_fast.kernels.pieces`.
        members: (B, N, K1) int32, rows of `boxes` joined into each tube; -1 pads.
        cell: side of a cell, pixels.

    Returns:
        (B, N, N) float32, symmetric, in units of the weights.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes or devices that do not fit, a box outside the frame, a member outside of [-1, N).

    Note:
        On a GPU, boxes are cut to the frame and members out of range count as padding.
    """
    check_tensors(weights=weights, boxes=boxes, members=members)
    if not pieces.has_pieces(boxes, members):
        return _tube_overlaps(weights, boxes, members, cell)
    each = _tube_overlaps(weights, boxes, pieces.alone(boxes), cell)
    return pieces.paired(each, members)


def _check(weights: Tensor, boxes: Tensor, members: Tensor, cell: int) -> None:
    check_shapes(weights=(weights, "B T H W"), boxes=(boxes, "B N T 4"), members=(members, "B N K1"))
    check_dtype(torch.float32, weights=weights)
    check_dtype(torch.int32, boxes=boxes, members=members)
    check_device(weights=weights, boxes=boxes, members=members)
    check_numbers(1, cell=cell)


def _tube_overlaps_fake(weights: Tensor, boxes: Tensor, members: Tensor, cell: int) -> Tensor:
    return weights.new_empty(*boxes.shape[:2], boxes.shape[1])


@operator("tube_overlaps", check=_check, fake=_tube_overlaps_fake)
def _tube_overlaps(weights: Tensor, boxes: Tensor, members: Tensor, cell: int) -> Tensor:
    overlaps = torch.empty((*boxes.shape[:2], boxes.shape[1]), dtype=torch.float32, device="cpu")
    weights, boxes, members = weights.detach().contiguous(), boxes.contiguous(), members.contiguous()
    _C.tube_overlaps(weights.numpy(), boxes.numpy(), members.numpy(), overlaps.numpy(), cell, threads())
    return overlaps
