"""Tubes of disjoint pieces: masks that are cut into rectangles, of which each is scored and drawn alone.

Any mask is, frame by frame, a set of rectangles that do not overlap. Where there are more rows of boxes than tubes, a
row is such a piece, of one tube alone: what is summed over a tube is the sum over its pieces. No union has to be found,
so the cost grows with their number, and there may be any number of them on a GPU too.
"""

import torch
from torch import Tensor

from aosa_fast.kernels.checks import check_device, check_dtype, check_shapes, check_tensors


def has_pieces(boxes: Tensor, members: Tensor) -> bool:
    """Whether boxes (B, M, T, 4) are pieces of tubes (B, N, K1): there are more of them than tubes."""
    check_tensors(boxes=boxes, members=members)
    if boxes.ndim != 4 or members.ndim != 3 or len(boxes) != len(members) or boxes.shape[1] <= members.shape[1]:
        return False  # the operators say what is wrong
    check_dtype(torch.int32, members=members)
    check_device(boxes=boxes, members=members)
    return True


def alone(boxes: Tensor) -> Tensor:
    """(B, M, 1) int32: members of as many tubes as there are boxes, of one box each."""
    rows = torch.arange(boxes.shape[1], dtype=torch.int32, device=boxes.device)
    return rows.expand(boxes.shape[0], -1).unsqueeze(2).contiguous()


def summed(values: Tensor, members: Tensor) -> Tensor:
    """(B, N) float32: the sums of values (B, M) of the pieces over each tube's members, in float64."""
    index = _rows(members, values.shape[1])
    padded = torch.nn.functional.pad(values.double(), (0, 1))
    return padded.gather(1, index.flatten(1)).view(index.shape).sum(2).float()


def paired(values: Tensor, members: Tensor) -> Tensor:
    """(B, N, N) float32: the sums of values (B, M, M) of pairs of pieces over the members of both tubes, in float64."""
    index = _rows(members, values.shape[1])
    owners = values.new_zeros((*members.shape[:2], values.shape[1] + 1), dtype=torch.float64)
    owners = owners.scatter_(2, index, 1.0)[..., :-1]
    return (owners @ values.double() @ owners.mT).float()


def spread(values: Tensor, members: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Values (B, N) of the tubes at their pieces (B, M), and the members (B, M, 1) of these; -1 of no tube's."""
    check_shapes(values=(values, "B N"), members=(members, "B N K1"))
    check_device(values=values, members=members)
    count = boxes.shape[1]
    index = _rows(members, count).flatten(1)
    pieces = values.new_zeros(len(values), count + 1)
    owned = torch.zeros_like(pieces, dtype=torch.bool)
    pieces.scatter_(1, index, values.unsqueeze(2).expand(members.shape).flatten(1))
    owned.scatter_(1, index, True)
    kept = torch.where(owned[:, :count].unsqueeze(2), alone(boxes), -1)
    return pieces[:, :count].contiguous(), kept


def _rows(members: Tensor, count: int) -> Tensor:
    """The members as indices of `count` boxes and one more, which stands for padding."""
    known = (members >= 0) & (members < count)
    # On a GPU an error would have to wait for the device.
    if members.device.type == "cpu" and bool((~known & (members != -1)).any()):
        raise ValueError("members must be rows of boxes, or -1")
    return torch.where(known, members, count).long()
