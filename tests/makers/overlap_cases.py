"""Weights of cells, for the tests of the overlaps."""

from __future__ import annotations

import torch
from torch import Tensor


def cells_of(shape: tuple[int, ...], cell: int) -> Tensor:
    """(B, T, H', W') float32 in [0.05, 1.05), for tubes of shape (B, N, T, H, W)."""
    B, _, T, H, W = shape
    generator = torch.Generator().manual_seed(cell)
    return 0.05 + torch.rand(B, T, -(-H // cell), -(-W // cell), generator=generator)
