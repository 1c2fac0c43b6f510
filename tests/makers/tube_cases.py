"""Tubes of every kind, for the tests of the tube scores and of the map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


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

# Name: (B, N, T, H, W), K: sizes that ship, for test_compile.py.
SHIPPED = {
    "paper": ((1, 784, 16, 112, 112), 3),
    "slowfast": ((2, 60, 32, 256, 256), 3),
    "odd": ((1, 7, 3, 37, 53), 2),
    "single": ((1, 9, 8, 224, 224), 0),
    "many": ((1, 9, 2, 60, 320), 15),
    "most": ((1, 40, 2, 60, 320), 31),
    "large": ((1, 9, 2, 20, 1920), 3),
    "one": ((1, 1, 1, 1, 1), 0),  # Triton compiles an argument that is 1 as a constant
}


def shipped(name: str) -> tuple[Tensor, Tensor]:
    """Boxes and members of a case of SHIPPED."""
    shape, K = SHIPPED[name]
    members = torch.arange(shape[0] * shape[1] * (K + 1)) % shape[1]
    return make_boxes(*shape), members.reshape(*shape[:2], K + 1).int()
