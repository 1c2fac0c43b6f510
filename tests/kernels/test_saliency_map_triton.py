"""The Triton twin of the saliency map, in the interpreter."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tube_cases import CASES, SHIPPED, make_boxes, make_members, shipped

pytest.importorskip("triton")

from aosa_fast.kernels import reference, saliency_map_triton


def launch(name: str) -> Any:
    (B, N, _, H, W), _ = SHIPPED[name]
    return saliency_map_triton.saliency_map(torch.rand(B, N), *shipped(name), H, W)


# What test_compile.py compiles.
LAUNCHES = {name: partial(launch, name) for name in SHIPPED}


@pytest.mark.parametrize(("shape", "K", "kind"), CASES)
def test_matches_the_reference(shape: tuple[int, ...], K: int, kind: str) -> None:
    B, N, _, H, W = shape
    boxes, members = make_boxes(*shape, kind), make_members(B, N, K)
    scores = torch.randn(B, N, generator=torch.Generator().manual_seed(2))
    saliency, coverage = saliency_map_triton.saliency_map(scores, boxes, members, H, W)
    expected, count = reference.saliency_map(scores, boxes, members, H, W)
    assert torch.equal(coverage, count)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(saliency.double(), expected, rtol=0, atol=1e-6)


def operands() -> tuple[Tensor, Tensor, Tensor]:
    shape = (2, 12, 5, 19, 23)
    scores = torch.randn(2, 12, generator=torch.Generator().manual_seed(3))
    members = make_members(2, 12, 3)
    members[:, ::2, 2:] = -1  # in the second clip, what lies before its boxes are those of the first
    return scores, make_boxes(*shape, "dying"), members


def saliency_map(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    return saliency_map_triton.saliency_map(*arguments, 19, 23)


def test_the_same_bits_from_run_to_run_and_clip_by_clip() -> None:
    scores, boxes, members = operands()
    expected = saliency_map(scores, boxes, members)
    assert torch.equal(expected[1], reference.saliency_map(scores, boxes, members, 19, 23)[1])
    assert all(torch.equal(a, b) for a, b in zip(saliency_map(scores, boxes, members), expected, strict=True))
    for b in range(2):
        alone = saliency_map(*(t[b : b + 1] for t in (scores, boxes, members)))
        assert all(torch.equal(one[0], both[b]) for one, both in zip(alone, expected, strict=True))
    turned = [t.transpose(0, -1).contiguous().transpose(0, -1) for t in (scores, boxes, members)]
    assert not turned[1].is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(saliency_map(*turned), expected, strict=True))


def test_the_order_of_the_tubes_does_not_change_a_bit() -> None:
    scores, boxes, members = operands()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    place = order.argsort().int()
    moved = torch.where(members[:, order] >= 0, place[members[:, order].clamp(min=0)], -1)
    permuted = saliency_map(scores[:, order], boxes[:, order], moved)
    assert all(torch.equal(a, b) for a, b in zip(permuted, saliency_map(scores, boxes, members), strict=True))


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30, 3e38])
def test_scores_of_any_size(scale: float) -> None:
    scores, boxes, members = operands()
    scores = scores / scores.abs().max() * scale
    scores[0, 3] = 0
    saliency, _ = saliency_map(scores[:, :4], boxes[:, :4], members[:, :4].clamp(max=3))
    expected, _ = reference.saliency_map(scores[:, :4], boxes[:, :4], members[:, :4].clamp(max=3), 19, 23)
    fits = expected.abs() < 3e38
    assert fits.float().mean() > 0.9
    torch.testing.assert_close(saliency.double()[fits] / scale, expected[fits] / scale, rtol=0, atol=1e-6)


def test_small_scores_beside_large_ones_are_kept() -> None:
    boxes = torch.tensor([[0, 0, 2, 1], [3, 0, 5, 1]]).int().reshape(1, 2, 1, 4)
    scores, members = torch.tensor([[1.0, -1e-9]]), torch.tensor([[[0], [1]]], dtype=torch.int32)
    saliency, coverage = saliency_map_triton.saliency_map(scores, boxes, members, 1, 6)
    assert saliency.flatten()[[0, 1, 2, 5]].tolist() == [1, 1, 0, 0]
    torch.testing.assert_close(saliency.flatten()[3:5], torch.full((2,), -1e-9), rtol=1e-6, atol=0)
    assert coverage.flatten().tolist() == [1, 1, 0, 1, 1, 0]


def test_every_bit_of_a_sum_is_used() -> None:
    boxes, members = torch.tensor([0, 0, 2, 1]).int().expand(1, 3, 1, 4), torch.arange(3).int().reshape(1, 3, 1)
    # Of three scores, each is a multiple of 2^-58 of the power of two below the largest, and their sum still fits.
    for scores in ([1.0, -1.0, 2.0**-58], [-1.0, 1.0, -(2.0**-58)], [1.99, 1.99, 1.99], [-1.99, -1.99, -1.99]):
        saliency, coverage = saliency_map_triton.saliency_map(torch.tensor([scores]), boxes, members, 1, 3)
        assert saliency.flatten().tolist() == pytest.approx([sum(scores), sum(scores), 0], rel=1e-6, abs=0)
        assert coverage.flatten().tolist() == [3, 3, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_spoils_its_clip_alone(bad: float) -> None:
    scores, boxes, members = operands()
    expected, coverage = saliency_map(scores, boxes, members)
    spoilt = scores.clone()
    spoilt[1, 5] = bad
    saliency, count = saliency_map(spoilt, boxes, members)
    assert torch.equal(count, coverage)
    assert torch.equal(saliency[0], expected[0])
    assert torch.equal(saliency[1].isnan(), coverage[1] > 0)
    assert not saliency[1][coverage[1] == 0].any()


def test_what_is_out_of_range_is_cut_or_left_out() -> None:
    boxes = torch.tensor([[-5, -5, 99, 99], [2, 2, 4, 4], [9, 9, 12, 12]]).int().reshape(1, 3, 1, 4)
    members = torch.tensor([[0, 7], [1, -3], [2, -1]], dtype=torch.int32)[None]
    saliency, coverage = saliency_map_triton.saliency_map(torch.tensor([[1.0, 2.0, 4.0]]), boxes, members, 6, 7)
    expected = torch.ones(6, 7)
    expected[2:4, 2:4] = 3
    assert torch.equal(saliency[0, 0], expected)
    assert torch.equal(coverage[0, 0], (expected + 1).int() // 2)


def test_nothing_to_do_and_too_much() -> None:
    scores, boxes, members = operands()
    for K1 in (0, 1):
        saliency, coverage = saliency_map(scores[:, :0], boxes[:, :0], members[:, :0, :K1])
        assert not saliency.any()
        assert not coverage.any()
    assert saliency_map(scores[:0], boxes[:0], members[:0])[0].shape == (0, 5, 19, 23)
    with pytest.raises(ValueError, match=r"^members must have at most 32 columns on a GPU; got 33$"):
        saliency_map(scores, boxes, members[:, :, :1].expand(2, 12, 33))
