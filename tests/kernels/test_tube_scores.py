from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.tube_scores import tube_scores
from tube_cases import CASES, make_boxes, make_members


@pytest.mark.parametrize(("shape", "K", "kind"), CASES)
def test_matches_the_reference(shape: tuple[int, int, int, int, int], K: int, kind: str) -> None:
    B, N, T, H, W = shape
    field = torch.rand(B, T, H, W, generator=torch.Generator().manual_seed(1)) - 0.3
    boxes, members = make_boxes(*shape, kind), make_members(B, N, K)
    expected = reference.tube_scores(field, boxes, members)
    assert expected.abs().max() > 0.01
    # Worst measured: 6.0e-8, the rounding of the result to float32.
    result = tube_scores(field, boxes, members)
    torch.testing.assert_close(result.double(), expected, rtol=3e-7, atol=1e-12)


@pytest.mark.parametrize(("shape", "K", "kind"), CASES)
def test_a_field_of_ones_counts_the_pixels_of_the_union(
    shape: tuple[int, int, int, int, int], K: int, kind: str
) -> None:
    B, N, T, H, W = shape
    boxes, members = make_boxes(*shape, kind), make_members(B, N, K)
    pixels = reference.tube_masks(boxes, members, H, W).sum(dim=(2, 3, 4))
    assert pixels.any()
    assert torch.equal(tube_scores(torch.ones(B, T, H, W), boxes, members), pixels.float())


def test_by_hand() -> None:
    field = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]).reshape(1, 1, 2, 3)
    boxes = torch.tensor([[0, 0, 2, 2], [1, 1, 3, 2], [2, 0, 3, 1], [0, 0, 0, 0], [1, 0, 2, 2]], dtype=torch.int32)
    members = torch.tensor([[0, -1, -1], [1, 2, -1], [0, 1, -1], [3, 2, 1], [4, 1, 0]], dtype=torch.int32)
    scores = tube_scores(field, boxes.reshape(1, 5, 1, 4), members[None])
    # 1+2+8+16; 16+32 and 4; 27 and 32 (16 once); nothing, 4 and 48; a column 18, +32, +1+8.
    assert scores.tolist() == [[27.0, 52.0, 59.0, 52.0, 59.0]]


def test_frames_add_up_and_clips_do_not_mix() -> None:
    field = torch.tensor([1.0, 10.0, 100.0, 1000.0]).reshape(2, 2, 1, 1).expand(2, 2, 3, 3).contiguous()
    boxes = torch.zeros(2, 1, 2, 4, dtype=torch.int32)
    boxes[0, 0] = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 2]])
    boxes[1, 0] = torch.tensor([[0, 0, 3, 1], [0, 0, 2, 2]])
    members = torch.zeros(2, 1, 1, dtype=torch.int32)
    assert tube_scores(field, boxes, members).tolist() == [[21.0], [4300.0]]


def test_order_repeats_and_place_of_padding_do_not_matter() -> None:
    field = torch.ones(1, 3, 17, 23)
    boxes = make_boxes(1, 6, 3, 17, 23)
    tubes = [[0, 1, 2, -1], [2, 1, 0, 0], [-1, 2, 0, 1], [1, -1, 0, 2], [1, 1, 2, 0], [-1, -1, -1, -1]]
    scores = tube_scores(field, boxes, torch.tensor([tubes], dtype=torch.int32))[0].tolist()
    assert scores[:5] == [scores[0]] * 5
    assert scores[0] > 0
    assert scores[5] == 0


def test_empty_boxes_add_nothing() -> None:
    field = torch.ones(1, 1, 9, 9)
    empty = [[5, 5, 5, 9], [2, 3, 7, 3], [6, 2, 3, 5], [2, 6, 5, 3], [9, 9, 9, 9]]
    boxes = torch.tensor([*empty, [1, 1, 8, 8]], dtype=torch.int32).reshape(1, 6, 1, 4)
    members = torch.tensor([[[n, -1] for n in range(5)] + [[5, 0]]], dtype=torch.int32)
    assert tube_scores(field, boxes, members).tolist() == [[0, 0, 0, 0, 0, 49]]
    members[0, :, 1] = 5
    assert tube_scores(field, boxes, members).tolist() == [[49.0] * 6]


def test_a_sum_of_many_is_made_in_float64() -> None:
    field = torch.full((1, 4, 200, 300), 0.1)
    field[0, 0, 0, 0] = 2.0**24
    boxes = torch.tensor([0, 0, 300, 200], dtype=torch.int32).expand(1, 1, 4, 4)
    expected = reference.tube_scores(field, boxes, torch.zeros(1, 1, 1, dtype=torch.int32))
    result = tube_scores(field, boxes, torch.zeros(1, 1, 1, dtype=torch.int32))
    torch.testing.assert_close(result.double(), expected, rtol=6e-8, atol=0)


FIELD = torch.zeros(1, 3, 5, 6)
BOXES = torch.zeros(1, 2, 3, 4, dtype=torch.int32)
MEMBERS = torch.zeros(1, 2, 1, dtype=torch.int32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((FIELD[0], BOXES, MEMBERS), ValueError, "field must have shape (B, T, H, W); got (3, 5, 6)"),
        ((FIELD, BOXES[:, :, :2], MEMBERS), ValueError, "boxes must have shape (B, N, T, 4) with B=1, N=2, T=3; got"),
        ((FIELD, BOXES[..., :3], MEMBERS), ValueError, "boxes must have shape (B, N, T, 4)"),
        ((FIELD, BOXES, MEMBERS[:, :1, 0]), ValueError, "members must have shape (B, N, K1)"),
        ((FIELD, BOXES[:, :1], MEMBERS), ValueError, "members must have shape (B, N, K1) with B=1, N=1; got (1, 2, 1)"),
        ((FIELD.double(), BOXES, MEMBERS), TypeError, "field must be torch.float32; got torch.float64"),
        ((FIELD, BOXES.long(), MEMBERS), TypeError, "boxes must be torch.int32; got torch.int64"),
        ((FIELD, BOXES, MEMBERS.long()), TypeError, "members must be torch.int32; got torch.int64"),
        ((FIELD, BOXES, None), TypeError, "members must be a torch.Tensor; got NoneType"),
        ((FIELD, BOXES.to("meta"), MEMBERS), ValueError, "arguments must be on one device; got {'field': 'cpu'"),
        ((FIELD, BOXES, MEMBERS + 2), ValueError, "members must be rows of boxes, or -1"),
        ((FIELD, BOXES, MEMBERS - 2), ValueError, "members must be rows of boxes, or -1"),
    ],
)
def test_refuses(arguments: tuple[Tensor, Tensor, Tensor], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        tube_scores(*arguments)


@pytest.mark.parametrize("box", [[-1, 0, 2, 2], [0, -1, 2, 2], [0, 0, 7, 2], [0, 0, 2, 6], [7, 0, 0, 0], [0, 6, 0, 0]])
def test_refuses_a_box_outside_of_the_frame(box: list[int]) -> None:
    boxes = BOXES.clone()
    boxes[0, 1, 2] = torch.tensor(box)
    with pytest.raises(ValueError, match="boxes must lie inside the frame"):
        tube_scores(FIELD, boxes, MEMBERS)
