"""A small R(2+1)D: convolutions over space and over time in turn, with shortcuts (Tran et al., CVPR 2018).

Unlike `DemoNet` it starts from nothing, and is trained on whole clips only.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from aosa_fast.demo.network import LOGIT_LIMIT
from aosa_fast.demo.truth import CLASS_NAMES


class Residual(nn.Module):
    """Two pairs of convolutions, over space and then over time, on top of the input.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the first pair, in time, height and width.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*pair(inputs, outputs, stride), nn.ReLU(), *pair(outputs, outputs, 1))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))
        self.relu = nn.ReLU()

    def forward(self, video: Tensor) -> Tensor:
        """(B, inputs, T, H, W) to (B, outputs, T', H', W')."""
        return cast(Tensor, self.relu(self.body(video) + self.shortcut(video)))


class R2Plus1D(nn.Module):
    """Classes from clips of any size; `features` ends in a (B, C, T/4, H/16, W/16) map for Grad-CAM.

    Args:
        classes: how many.
        widths: channels of the stem and of the three stages.
    """

    def __init__(self, classes: int = len(CLASS_NAMES), widths: tuple[int, int, int, int] = (24, 32, 48, 64)) -> None:
        super().__init__()
        stem, first, second, third = widths
        self.features = nn.Sequential(
            nn.Conv3d(3, stem, (1, 7, 7), (1, 4, 4), (0, 3, 3), bias=False),
            nn.BatchNorm3d(stem),
            nn.ReLU(),
            nn.Conv3d(stem, stem, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(stem),
            nn.ReLU(),
            Residual(stem, first, 1),
            Residual(first, second, 2),
            Residual(second, third, 2),
        )
        self.head = nn.Linear(third, classes)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) float32, normalised, to logits (B, classes), between -3 and 3 as those of `DemoNet`."""
        logits = cast(Tensor, self.head(self.features(video).mean(dim=(2, 3, 4))))
        return LOGIT_LIMIT * torch.tanh(logits / LOGIT_LIMIT)


def pair(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    """A convolution over space, and one over time, each with its norm."""
    return (
        nn.Conv3d(inputs, outputs, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(),
        nn.Conv3d(outputs, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        nn.BatchNorm3d(outputs),
    )
