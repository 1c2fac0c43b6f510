"""R3D-50, the paper's network: a ResNet-50 with 3-D convolutions, randomly initialised (paper IV-A).

Speed and memory do not depend on the weights, so the benchmarks need no download.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EXPANSION = 4  # a bottleneck's output has four times the channels of its 3x3x3 convolution


def conv(inside: int, outside: int, size: int, stride: int = 1) -> nn.Conv3d:
    """A padded convolution without bias: batch normalisation follows."""
    return nn.Conv3d(inside, outside, size, stride=stride, padding=size // 2, bias=False)


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3, 1x1x1 convolutions around a shortcut; the middle one has the stride."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = width * EXPANSION
        self.body = nn.Sequential(
            conv(inside, width, 1),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
            conv(width, width, 3, stride),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
            conv(width, outside, 1),
            nn.BatchNorm3d(outside),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(conv(inside, outside, 1, stride), nn.BatchNorm3d(outside))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, t, h, w) to (B, 4 width, t/stride, h/stride, w/stride)."""
        return self.relu(self.body(x) + self.shortcut(x))


class R3D50(nn.Module):
    """Maps (B, 3, T, H, W) to (B, classes) logits: 46 M parameters, 10 G multiply-adds at 16x112x112."""

    def __init__(self, classes: int = 101) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False),
            nn.BatchNorm3d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        inside = 64
        for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(depth):
                blocks.append(Bottleneck(inside, width, stride if i == 0 else 1))
                inside = width * EXPANSION
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(inside, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, classes)."""
        return self.fc(self.pool(self.blocks(self.stem(x))).flatten(1))


def r3d50(classes: int = 101, seed: int = 0) -> R3D50:
    """A seeded R3D-50 in evaluation mode, with the initialisation of ReLU networks (He, fan out)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = R3D50(classes)
        for module in model.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.eval()
