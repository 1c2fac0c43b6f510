"""Clips, gradients and fills, for the tests of the field and of its Triton twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

# Name: shape (B, C, T, H, W), radius.
CASES = [
    pytest.param((1, 3, 4, 40, 56), 4, id="paper-like"),
    pytest.param((2, 3, 4, 17, 23), 4, id="batch-odd"),
    pytest.param((1, 3, 1, 40, 56), 4, id="one-frame"),
    pytest.param((1, 1, 4, 19, 21), 1, id="one-channel-radius-1"),
    pytest.param((1, 5, 3, 16, 24), 0, id="radius-0"),
    pytest.param((2, 2, 2, 13, 11), 3, id="radius-3"),
    pytest.param((1, 3, 2, 9, 13), 5, id="radius-5"),
    pytest.param((1, 2, 2, 9, 13), 7, id="radius-7"),
    pytest.param((1, 2, 2, 8, 12), 8, id="radius-of-the-height"),
    pytest.param((1, 3, 2, 8, 12), 30, id="radius-larger-than-the-frame"),
    pytest.param((1, 3, 2, 1, 1), 4, id="one-pixel-frame"),
    pytest.param((1, 3, 2, 1, 33), 4, id="one-row"),
    pytest.param((1, 3, 2, 33, 1), 4, id="one-column"),
    pytest.param((1, 3, 2, 1, 2), 1, id="two-pixels"),
]


def clip(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A clip with a slope, so that neighbours differ unequally, and a gradient."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(shape, generator=generator) + torch.linspace(-2, 3, shape[-1])
    return video, torch.randn(shape, generator=generator)


def fills(video: Tensor) -> dict[str, Tensor | None]:
    return {"conditional": None, "voxel": video.flip(-1) * 0.5 + 0.1, "channel": torch.arange(video.shape[1]) - 0.7}
