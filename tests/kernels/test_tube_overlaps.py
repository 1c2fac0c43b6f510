from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from overlap_cases import cells_of

from aosa_fast.kernels import reference
from aosa_fast.kernels.tube_overlaps import tube_overlaps
from tube_cases import CASES, make_boxes, make_members


@pytest.mark.parametrize("cell", [1, 3, 4])
@pytest.mark.parametrize(("shape", "K", "kind"), CASES)
def test_matches_the_reference(shape: tuple[int, int, int, int, int], K: int, kind: str, cell: int) -> None:
    boxes, members = make_boxes(*shape, kind), make_members(*shape[:2], K)
    weights = cells_of(shape, cell)
    expected = reference.tube_overlaps(weights, boxes, members, cell)
    assert expected.abs().max() > 1e-3
    result = tube_overlaps(weights, boxes, members, cell)
    # Worst measured: 4e-7 of the largest value.
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-6 * float(expected.abs().max()))
    assert torch.equal(result, result.mT)


def test_by_hand() -> None:
    # One frame of 2 x 1 cells of 2 px. Tube 0 hides half of the first cell, tube 1 all of both, tube 2 is their union.
    boxes = torch.tensor([[0, 0, 1, 2], [0, 0, 4, 2]], dtype=torch.int32).repeat(2, 1)[:3].reshape(1, 3, 1, 4)
    members = torch.tensor([[[0, -1], [1, -1], [1, 0]]], dtype=torch.int32)
    overlaps = tube_overlaps(torch.tensor([8.0, 1.0]).reshape(1, 1, 1, 2), boxes, members, 2)
    assert overlaps[0].tolist() == [[2.0, 4.0, 4.0], [4.0, 9.0, 9.0], [4.0, 9.0, 9.0]]


def test_hundreds_of_members_are_one_tube() -> None:
    # A segment of another tracker is the union of many boxes: here every pixel of a frame, one by one.
    pixels = torch.tensor([[x, y, x + 1, y + 1] for y in range(12) for x in range(20)], dtype=torch.int32)
    members = torch.full((1, 240, 240), -1, dtype=torch.int32)
    members[0, 0], members[0, 1, :120] = torch.arange(240), torch.arange(120)
    overlaps = tube_overlaps(torch.ones(1, 1, 3, 5), pixels.reshape(1, 240, 1, 4), members)
    # 15 cells; the upper half of the frame covers 5 cells and half of 5 more.
    assert overlaps[0, :2, :2].tolist() == [[15.0, 7.5], [7.5, 6.25]]
    assert not overlaps[0, 2:].any()


def test_pieces_of_tubes_are_added_up() -> None:
    # More boxes than tubes: rectangles of masks that do not overlap.
    corners = [[0, 0, 3, 2], [3, 0, 8, 1], [0, 2, 8, 6], [8, 0, 12, 8], [3, 1, 8, 2]]
    boxes = torch.tensor(corners, dtype=torch.int32).reshape(1, 5, 1, 4)
    members = torch.tensor([[[0, 1, -1], [2, 3, 4]]], dtype=torch.int32)
    weights = torch.tensor([1.0, 2, 3, 4, 5, 6]).reshape(1, 1, 2, 3)
    cover = torch.zeros(2, 8, 12)
    for tube, row in enumerate(members[0].tolist()):
        for x0, y0, x1, y1 in (corners[k] for k in row if k >= 0):
            cover[tube, y0:y1, x0:x1] = 1
    shares = torch.nn.functional.avg_pool2d(cover, 4).flatten(1)
    torch.testing.assert_close(tube_overlaps(weights, boxes, members)[0], shares * weights.flatten() @ shares.T)


WEIGHTS, BOXES, MEMBERS = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 3, 4).int(), torch.zeros(1, 2, 1).int()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((WEIGHTS[0], BOXES, MEMBERS), ValueError, "weights must have shape (B, T, H, W); got (3, 2, 2)"),
        ((WEIGHTS.double(), BOXES, MEMBERS), TypeError, "weights must be torch.float32; got torch.float64"),
        ((WEIGHTS, BOXES + torch.tensor([0, 0, 9, 1]).int(), MEMBERS), ValueError, "boxes must lie inside the frame"),
        ((WEIGHTS, BOXES, MEMBERS + 2), ValueError, "members must be rows of boxes, or -1"),
        ((WEIGHTS, BOXES, MEMBERS, 0), ValueError, "cell must be at least 1; got 0"),
        ((WEIGHTS, BOXES, MEMBERS, 2**30), ValueError, "cell must be at least 1, and the frame's sides less than 2^31"),
    ],
)
def test_refuses(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        tube_overlaps(*arguments)
