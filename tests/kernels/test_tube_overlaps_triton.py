"""The Triton twin of the overlaps, in the interpreter."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from overlap_cases import cells_of

from tube_cases import CASES, SHIPPED, make_boxes, make_members, shipped

pytest.importorskip("triton")

from aosa_fast.kernels import reference, tube_overlaps_triton


def launch(name: str, cell: int) -> Any:
    return tube_overlaps_triton.tube_overlaps(cells_of(SHIPPED[name][0], cell), *shipped(name), cell)


# What test_compile.py compiles.
LAUNCHES = {f"{name}, cells of {cell}": partial(launch, name, cell) for name in SHIPPED for cell in (1, 4)}


# But for the largest, which takes the interpreter a minute.
@pytest.mark.parametrize(("shape", "K", "kind"), CASES[1:])
def test_matches_the_reference(shape: tuple[int, int, int, int, int], K: int, kind: str) -> None:
    cell = 3 if kind == "dying" else 4
    boxes, members = make_boxes(*shape, kind), make_members(*shape[:2], K)
    weights = cells_of(shape, cell)
    result, expected = (
        function(weights, boxes, members, cell)
        for function in (tube_overlaps_triton.tube_overlaps, reference.tube_overlaps)
    )
    assert (result.dtype, result.shape) == (torch.float32, expected.shape)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-6 * float(expected.abs().max()))
    assert torch.equal(result, result.mT)
    assert torch.equal(tube_overlaps_triton.tube_overlaps(weights[:1], boxes[:1], members[:1], cell), result[:1])


def test_what_is_out_of_range_is_cut_or_left_out() -> None:
    boxes = torch.tensor([[-5, -5, 99, 99], [2, 2, 4, 4]]).int().reshape(1, 2, 1, 4)
    members = torch.tensor([[[0, 7], [1, -3]]], dtype=torch.int32)
    overlaps = tube_overlaps_triton.tube_overlaps(torch.ones(1, 1, 2, 3), boxes, members, 4)
    assert overlaps[0].tolist() == [[6.0, 0.25], [0.25, 0.0625]]


def test_nothing_to_do() -> None:
    boxes, members = make_boxes(1, 3, 2, 8, 8), make_members(1, 3, 1)
    weights = torch.ones(1, 2, 2, 2)
    assert tube_overlaps_triton.tube_overlaps(weights, boxes[:, :0], members[:, :0]).shape == (1, 0, 0)
    assert not tube_overlaps_triton.tube_overlaps(weights, boxes, members[:, :, :0]).any()
    assert not tube_overlaps_triton.tube_overlaps(weights[:, :0], boxes[:, :, :0], members).any()
