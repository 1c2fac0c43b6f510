"""A small network and clips for it, for the tests of what needs some model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast.models.preprocess import Preprocessing


def make_net(classes: int = 6, scale: float = 1.0) -> nn.Sequential:
    """Clips of any size to logits, in evaluation mode; `scale` multiplies the weights of the last layer."""
    torch.manual_seed(0)
    body = [nn.Conv3d(3, 8, 3, (1, 3, 3), 1), nn.ReLU(), nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(32, classes)).eval()
    net[-1].weight.data *= scale
    return net


def make_video(B: int = 1, C: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(B, C, 4, 32, 40, generator=torch.Generator().manual_seed(seed))


def make_preprocessing(
    frames: int = 4,
    stride: int = 1,
    crop: tuple[int, int] = (48, 48),
    size: int | None = None,
    mean: Any = (0.5,) * 3,
    std: Any = (0.2,) * 3,
    resize: str = "short",
) -> Preprocessing:
    """`size` None is the longer side of the crop."""
    return Preprocessing(frames, stride, max(crop) if size is None else size, crop, mean, std, resize)


def silence(*modules: nn.Module) -> None:
    """Sets all weights to 0."""
    for module in modules:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
