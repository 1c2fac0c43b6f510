"""The saliency map: the adjoint of the tube scores (paper III-B, Eq. 2 in its difference form)."""

import torch
from torch import Tensor

from aosa_fast import _C
from aosa_fast.kernels import pieces
from aosa_fast.kernels.checks import check_device, check_dtype, check_numbers, check_shapes, check_tensors, threads
from aosa_fast.kernels.registry import operator


def saliency_map(
    scores: Tensor,  # (B, N)
    boxes: Tensor,  # (B, N, T, 4), or (B, M, T, 4) of M pieces
    members: Tensor,  # (B, N, K1)
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    """Spreads tube scores back over their tubes: every voxel gets the sum of S_i over the tubes that cover it.

    The same boxes as in `tube_scores` add S_i at their corners of a difference array; one running sum per frame makes
    the map. The cost does not depend on the box size.

    Args:
        scores: (B, N) float32, units of the score.
        boxes: (B, N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open, inside the frame; empty where not alive. More of
            them than tubes are disjoint pieces, each of one tube: see `pieces`.
        members: (B, N, K1) int32, rows of `boxes` joined into each tube; -1 pads.
        height: H, pixels.
        width: W, pixels.

    Returns:
        The sums (B, T, H, W) float32, exactly 0 where no tube is, and the coverage (B, T, H, W) int32: how many tubes
        cover each voxel.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes or devices that do not fit, a box outside the frame, a member outside of [-1, N).

    Note:
        On a GPU, boxes are cut to the frame and members out of range count as padding: an error would have to wait for
        the device.
    """
    check_tensors(scores=scores, boxes=boxes, members=members)
    if pieces.has_pieces(boxes, members):
        scores, members = pieces.spread(scores, members, boxes)
    return _saliency_map(scores, boxes, members, height, width)


def _check(scores: Tensor, boxes: Tensor, members: Tensor, height: int, width: int) -> None:
    check_shapes(scores=(scores, "B N"), boxes=(boxes, "B N T 4"), members=(members, "B N K1"))
    check_dtype(torch.float32, scores=scores)
    check_dtype(torch.int32, boxes=boxes, members=members)
    check_device(scores=scores, boxes=boxes, members=members)
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1; got {height} and {width}")
    check_numbers(1, height=height, width=width)


def _saliency_map_fake(
    scores: Tensor, boxes: Tensor, members: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    shape = (boxes.shape[0], boxes.shape[2], height, width)
    return scores.new_empty(shape), boxes.new_empty(shape)


@operator("saliency_map", check=_check, fake=_saliency_map_fake)
def _saliency_map(scores: Tensor, boxes: Tensor, members: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    shape = (boxes.shape[0], boxes.shape[2], height, width)
    saliency = torch.empty(shape, dtype=torch.float32, device="cpu")
    coverage = torch.empty(shape, dtype=torch.int32, device="cpu")
    scores, boxes, members = scores.detach().contiguous(), boxes.contiguous(), members.contiguous()
    _C.saliency_map(scores.numpy(), boxes.numpy(), members.numpy(), saliency.numpy(), coverage.numpy(), threads())
    return saliency, coverage
