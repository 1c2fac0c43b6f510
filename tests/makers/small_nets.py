"""A small network and clips for it, for the tests of what needs some model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def make_net(classes: int = 6, scale: float = 1.0) -> nn.Sequential:
    """Clips of any size to logits, in evaluation mode; `scale` multiplies the weights of the last layer."""
    torch.manual_seed(0)
    body = [nn.Conv3d(3, 8, 3, (1, 3, 3), 1), nn.ReLU(), nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(32, classes)).eval()
    net[-1].weight.data *= scale
    return net


def make_video(B: int = 1, C: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(B, C, 4, 32, 40, generator=torch.Generator().manual_seed(seed))
