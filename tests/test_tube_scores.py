from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.tube_scores import tube_scores


def make_boxes(B: int, N: int, T: int, H: int, W: int, kind: str = "any", seed: int = 0) -> Tensor:
    """(B, N, T, 4) int32: rectangles of every size, or of a named kind."""
    generator = torch.Generator().manual_seed(seed)
    shape, frame = (B, N, T, 2), torch.tensor([W, H])
    low = (torch.rand(shape, generator=generator) * frame).long()
    high = low + 1 + (torch.rand(shape, generator=generator) * (frame - low)).long().clamp(max=frame - low - 1)
    if kind == "paper":  # 16x16 of 112x112, clipped
        low, high = (low - 4).clamp(min=0), torch.minimum(low + 4, frame)
    if kind == "one-pixel":
        high = low + 1
    if kind == "frame":
        low, high = torch.zeros_like(low), frame.expand(shape)
    if kind == "same":
        low, high = low[:, :1].expand(shape), high[:, :1].expand(shape)
    boxes = torch.cat([low, high], dim=-1)
    if kind == "dying":
        boxes[torch.rand(shape[:3], generator=generator) < 0.4] = 0
        boxes[:, ::3] = 0
    return boxes.int()


def make_members(B: int, N: int, K: int, seed: int = 0) -> Tensor:
    """(B, N, K+1) int32: the tube itself, then K others in random order; -1 pads."""
    generator = torch.Generator().manual_seed(seed)
    members = torch.full((B, N, K + 1), -1)
    for b in range(B):
        for n in range(N):
            others = [j for j in torch.randperm(N, generator=generator).tolist() if j != n]
            chosen = [n, *others[:K]]
            members[b, n, : len(chosen)] = torch.tensor(chosen)
    return members.int()


# Name: (B, N, T, H, W), K, kind of boxes.
CASES = [
    pytest.param((1, 49, 8, 40, 56), 3, "paper", id="paper-like"),
    pytest.param((2, 20, 4, 17, 23), 3, "any", id="batch-odd"),
    pytest.param((1, 150, 1, 7, 9), 5, "any", id="one-frame-every-overlap"),
    pytest.param((1, 30, 2, 12, 12), 15, "any", id="sixteen-members"),
    pytest.param((1, 1, 3, 9, 8), 0, "any", id="one-tube"),
    pytest.param((1, 1, 3, 9, 8), 4, "any", id="one-tube-padded"),
    pytest.param((2, 12, 4, 17, 23), 0, "any", id="no-partners"),
    pytest.param((1, 4, 4, 17, 23), 7, "any", id="more-partners-than-tubes"),
    pytest.param((1, 20, 3, 17, 23), 3, "one-pixel", id="box-of-one-pixel"),
    pytest.param((1, 9, 3, 11, 13), 3, "frame", id="box-larger-than-the-frame"),
    pytest.param((1, 9, 3, 11, 13), 3, "same", id="full-overlap"),
    pytest.param((2, 24, 6, 17, 23), 3, "dying", id="dead-tracks"),
    pytest.param((1, 3, 2, 1, 1), 2, "any", id="one-pixel-frame"),
    pytest.param((1, 9, 2, 1, 31), 3, "any", id="one-row"),
]


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
        ((FIELD, BOXES, MEMBERS[:, :1]), ValueError, "members must have shape (B, N, K1) with B=1, N=2; got (1, 1, 1)"),
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
