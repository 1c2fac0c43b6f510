"""The Triton twin of the tube scores, in the interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from tube_cases import CASES, make_boxes, make_members

pytest.importorskip("triton")

from aosa_fast.kernels import reference, tube_scores_triton


def launch(shape: tuple[int, ...], K: int) -> Any:
    B, N, T, H, W = shape
    members = (torch.arange(B * N * (K + 1)) % N).reshape(B, N, K + 1).int()
    return tube_scores_triton.tube_scores(torch.rand(B, T, H, W), make_boxes(*shape), members)


# What test_compile.py compiles.
LAUNCHES = {
    "paper": lambda: launch((1, 784, 16, 112, 112), 3),
    "slowfast": lambda: launch((2, 60, 32, 256, 256), 3),
    "odd": lambda: launch((1, 7, 3, 37, 53), 2),
    "single": lambda: launch((1, 9, 8, 224, 224), 0),
    "many": lambda: launch((1, 9, 2, 60, 320), 15),
    "most": lambda: launch((1, 40, 2, 60, 320), 31),
    "large": lambda: launch((1, 9, 2, 20, 1920), 3),
}


@pytest.mark.parametrize(("shape", "K", "kind"), CASES)
def test_matches_the_reference(shape: tuple[int, ...], K: int, kind: str) -> None:
    B, N, T, H, W = shape
    boxes, members = make_boxes(*shape, kind), make_members(B, N, K)
    field = torch.randn(B, T, H, W, generator=torch.Generator().manual_seed(2))
    result, expected = tube_scores_triton.tube_scores(field, boxes, members), reference.tube_scores(field, boxes, members)
    assert (result.dtype, result.shape) == (torch.float32, (B, N))
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-4)
