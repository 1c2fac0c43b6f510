from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.saliency_map import saliency_map
from aosa_fast.kernels.tube_scores import tube_scores
from tube_cases import CASES, make_boxes, make_members


@pytest.mark.parametrize(("shape", "K", "kind"), CASES)
def test_matches_the_reference(shape: tuple[int, int, int, int, int], K: int, kind: str) -> None:
    B, N, _, H, W = shape
    scores = torch.randn(B, N, generator=torch.Generator().manual_seed(1))
    boxes, members = make_boxes(*shape, kind), make_members(B, N, K)
    saliency, coverage = saliency_map(scores, boxes, members, H, W)
    expected, covering = reference.saliency_map(scores, boxes, members, H, W)
    assert expected.abs().max() > 0.01
    # Worst measured: 9.4e-7, the rounding of the result to float32.
    torch.testing.assert_close(saliency.double(), expected, rtol=0, atol=3e-6)
    assert torch.equal(coverage, covering)
    assert torch.equal(coverage, reference.tube_masks(boxes, members, H, W).sum(1).int())
    assert not saliency[coverage == 0].any()


@pytest.mark.parametrize(("shape", "K", "kind"), CASES)
def test_is_the_adjoint_of_the_tube_scores(shape: tuple[int, int, int, int, int], K: int, kind: str) -> None:
    B, N, T, H, W = shape
    generator = torch.Generator().manual_seed(2)
    scores, field = torch.rand(B, N, generator=generator), torch.rand(B, T, H, W, generator=generator)
    boxes, members = make_boxes(*shape, kind), make_members(B, N, K)
    left = (tube_scores(field, boxes, members).double() * scores.double()).sum()
    right = (field.double() * saliency_map(scores, boxes, members, H, W)[0].double()).sum()
    assert left > 0.01
    # Worst measured: 6.0e-8 (all terms are positive).
    torch.testing.assert_close(left, right, rtol=5e-7, atol=0)


def test_by_hand() -> None:
    boxes = torch.tensor([[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 0, 0], [3, 0, 4, 3]], dtype=torch.int32)
    members = torch.tensor([[0, -1], [1, 0], [2, -1], [3, -1]], dtype=torch.int32)
    scores = torch.tensor([[1.0, -8.0, 64.0, 0.5]])
    saliency, coverage = saliency_map(scores, boxes.reshape(1, 4, 1, 4), members[None], 3, 4)
    assert saliency[0, 0].tolist() == [[-7.0, -7.0, 0.0, 0.5], [-7.0, -7.0, -8.0, 0.5], [0.0, -8.0, -8.0, 0.5]]
    assert coverage[0, 0].tolist() == [[2, 2, 0, 1], [2, 2, 1, 1], [0, 1, 1, 1]]


def test_order_repeats_and_place_of_padding_do_not_matter() -> None:
    boxes = make_boxes(1, 3, 3, 17, 23)
    maps = []
    for tube in ([0, 1, 2, -1], [2, 1, 0, 0], [-1, 2, 0, 1], [1, -1, 0, 2], [1, 1, 2, 0]):
        members = torch.tensor([[tube, [-1] * 4, [-1] * 4]], dtype=torch.int32)
        maps.append(saliency_map(torch.ones(1, 3), boxes, members, 17, 23))
    assert maps[0][1].max() == 1
    for saliency, coverage in maps:
        assert torch.equal(saliency, maps[0][0])
        assert torch.equal(coverage, maps[0][1])


def test_frames_and_clips_do_not_mix() -> None:
    boxes, members = make_boxes(2, 12, 3, 17, 23), make_members(2, 12, 2)
    scores = torch.rand(2, 12, generator=torch.Generator().manual_seed(2)) + 0.1
    both, coverage = saliency_map(scores, boxes, members, 17, 23)
    for b in range(2):
        for t in range(3):
            here = boxes[b : b + 1, :, t : t + 1].contiguous()
            one, covering = saliency_map(scores[b : b + 1], here, members[b : b + 1], 17, 23)
            assert torch.equal(one[0, 0], both[b, t])
            assert torch.equal(covering[0, 0], coverage[b, t])


@pytest.mark.parametrize("scale", [0.1, -0.3, 1e-30, 1e30])
def test_voxels_without_tubes_are_exactly_zero(scale: float) -> None:
    boxes, members = make_boxes(1, 40, 4, 31, 33, "paper"), make_members(1, 40, 3)
    boxes[..., 0::2].clamp_(6, 29)
    # So far apart that the sums of float64 are not exact, and corners do not cancel.
    scores = scale * 10 ** torch.linspace(-6, 6, 40)[torch.randperm(40, generator=torch.Generator().manual_seed(3))]
    scores = scores[None]
    saliency, coverage = saliency_map(scores, boxes, members, 31, 33)
    assert (coverage == 0).sum() > 100
    assert torch.equal(saliency[coverage == 0], torch.zeros(int((coverage == 0).sum())))
    assert (saliency[coverage > 0].sign() == torch.tensor(scale).sign()).all()


def test_all_dead_gives_zeros() -> None:
    boxes = torch.zeros(1, 5, 2, 4, dtype=torch.int32)
    saliency, coverage = saliency_map(torch.ones(1, 5), boxes, make_members(1, 5, 2), 9, 11)
    assert saliency.shape == coverage.shape == (1, 2, 9, 11)
    assert not saliency.any()
    assert not coverage.any()


SCORES = torch.zeros(1, 2)
BOXES = torch.zeros(1, 2, 3, 4, dtype=torch.int32)
MEMBERS = torch.zeros(1, 2, 1, dtype=torch.int32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((SCORES[0], BOXES, MEMBERS, 5, 6), ValueError, "scores must have shape (B, N); got (2,)"),
        ((SCORES, BOXES[:, :1], MEMBERS, 5, 6), ValueError, "boxes must have shape (B, N, T, 4) with B=1, N=2; got"),
        ((SCORES, BOXES, MEMBERS[:, :1], 5, 6), ValueError, "members must have shape (B, N, K1) with B=1, N=2; got"),
        ((SCORES.double(), BOXES, MEMBERS, 5, 6), TypeError, "scores must be torch.float32; got torch.float64"),
        ((SCORES, BOXES.long(), MEMBERS, 5, 6), TypeError, "boxes must be torch.int32; got torch.int64"),
        ((SCORES, BOXES, MEMBERS.long(), 5, 6), TypeError, "members must be torch.int32; got torch.int64"),
        ((SCORES, BOXES.to("meta"), MEMBERS, 5, 6), ValueError, "arguments must be on one device"),
        ((SCORES, BOXES, MEMBERS, 0, 6), ValueError, "height and width must be at least 1; got 0 and 6"),
        ((SCORES, BOXES, MEMBERS, 5, 0), ValueError, "height and width must be at least 1; got 5 and 0"),
        ((SCORES, BOXES + 7, MEMBERS, 5, 6), ValueError, "boxes must lie inside the frame"),
        ((SCORES, BOXES - 1, MEMBERS, 5, 6), ValueError, "boxes must lie inside the frame"),
        ((SCORES, BOXES, MEMBERS + 2, 5, 6), ValueError, "members must be rows of boxes, or -1"),
        ((SCORES, BOXES, MEMBERS - 2, 5, 6), ValueError, "members must be rows of boxes, or -1"),
    ],
)
def test_refuses(arguments: tuple[Tensor, Tensor, Tensor, int, int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        saliency_map(*arguments)


def test_pieces_are_drawn_and_summed_alone() -> None:
    # More boxes than tubes: 36 pixels in 35 pieces of the first tube, in any order; one of the second; one of none.
    boxes = torch.zeros(1, 37, 2, 4, dtype=torch.int32)
    for k in range(35):
        boxes[0, k, 0] = torch.tensor([k % 6, k // 6, k % 6 + 1, k // 6 + 1])
    boxes[0, 35, 1], boxes[0, 36, 1] = torch.tensor([0, 0, 3, 1]), torch.tensor([0, 1, 3, 2])
    members = torch.full((1, 2, 35), -1, dtype=torch.int32)
    members[0, 0], members[0, 1, 3] = torch.arange(35).flip(0), 35
    sums, coverage = saliency_map(torch.tensor([[2.0, 5.0]]), boxes, members, 6, 6)
    expected = torch.zeros(1, 2, 6, 6)
    expected[0, 0], expected[0, 0, 5, 5], expected[0, 1, 0, :3] = 2, 0, 5
    assert torch.equal(sums, expected)
    assert torch.equal(coverage, (expected > 0).int())
    assert tube_scores(torch.ones(1, 2, 6, 6), boxes, members).tolist() == [[35, 3]]
    with pytest.raises(ValueError, match=r"^members must be rows of boxes, or -1$"):
        tube_scores(torch.ones(1, 2, 6, 6), boxes, members + 2)
