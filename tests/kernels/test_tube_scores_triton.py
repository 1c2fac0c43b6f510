"""The Triton twin of the tube scores, in the interpreter."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tube_cases import CASES, SHIPPED, make_boxes, make_members, shipped

pytest.importorskip("triton")

from aosa_fast.kernels import reference, tube_scores_triton


def launch(name: str) -> Any:
    (B, _, T, H, W), _ = SHIPPED[name]
    return tube_scores_triton.tube_scores(torch.rand(B, T, H, W), *shipped(name))


# What test_compile.py compiles.
LAUNCHES = {name: partial(launch, name) for name in SHIPPED}


@pytest.mark.parametrize(("shape", "K", "kind"), CASES)
def test_matches_the_reference(shape: tuple[int, ...], K: int, kind: str) -> None:
    B, N, T, H, W = shape
    boxes, members = make_boxes(*shape, kind), make_members(B, N, K)
    field = torch.randn(B, T, H, W, generator=torch.Generator().manual_seed(2))
    result, expected = (
        tube_scores_triton.tube_scores(field, boxes, members),
        reference.tube_scores(field, boxes, members),
    )
    assert (result.dtype, result.shape) == (torch.float32, (B, N))
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-4)


def operands() -> tuple[Tensor, Tensor, Tensor]:
    shape = (2, 12, 5, 19, 23)
    field = torch.randn(2, 5, 19, 23, generator=torch.Generator().manual_seed(3))
    members = make_members(2, 12, 3)
    members[:, ::2, 2:] = -1  # in the second clip, what lies before its boxes are those of the first
    return field, make_boxes(*shape, "dying"), members


def test_the_same_bits_from_run_to_run_and_clip_by_clip() -> None:
    field, boxes, members = operands()
    expected = tube_scores_triton.tube_scores(field, boxes, members)
    torch.testing.assert_close(expected.double(), reference.tube_scores(field, boxes, members), rtol=0, atol=1e-4)
    assert torch.equal(tube_scores_triton.tube_scores(field, boxes, members), expected)
    for b in range(2):
        alone = tube_scores_triton.tube_scores(*(t[b : b + 1] for t in (field, boxes, members)))
        assert torch.equal(alone[0], expected[b])
    turned = [t.transpose(1, -1).contiguous().transpose(1, -1) for t in (field, boxes, members)]
    assert not turned[0].is_contiguous()
    assert torch.equal(tube_scores_triton.tube_scores(*turned), expected)


def test_strips_add_up_by_hand() -> None:
    # Ones over three strips of 16 rows: a box's score is its area, and the carry of the strips above does not leak in.
    field = torch.ones(1, 1, 40, 24)
    boxes = torch.tensor([[0, 0, 24, 40], [3, 15, 5, 17], [3, 31, 5, 33], [0, 0, 1, 1], [23, 39, 24, 40]])
    members = torch.arange(5, dtype=torch.int32).reshape(1, 5, 1)
    scores = tube_scores_triton.tube_scores(field, boxes.int().reshape(1, 5, 1, 4), members)
    assert scores[0].tolist() == [960, 4, 4, 1, 1]


def test_what_is_out_of_range_is_cut_or_left_out() -> None:
    field = torch.ones(1, 1, 6, 7)
    boxes = torch.tensor([[-5, -5, 99, 99], [2, 2, 4, 4], [9, 9, 12, 12], [5, 1, 2, 4]]).int().reshape(1, 4, 1, 4)
    members = torch.tensor([[0, 7], [1, -3], [2, -1], [3, 1]], dtype=torch.int32)[None]
    assert tube_scores_triton.tube_scores(field, boxes, members)[0].tolist() == [42, 4, 0, 4]


def test_nothing_to_do_and_too_much() -> None:
    field, boxes, members = operands()
    none = tube_scores_triton.tube_scores(field, boxes[:, :0], members[:, :0])
    assert none.shape == (2, 0)
    assert not tube_scores_triton.tube_scores(field, boxes, members[:, :, :0]).any()
    with pytest.raises(ValueError, match=r"^members must have at most 32 columns on a GPU; got 33$"):
        tube_scores_triton.tube_scores(field, boxes, members[:, :, :1].expand(2, 12, 33))
