"""A small network and clips for it, for the tests of what needs some model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.targets import ResolvedTarget, Target, resolve_target


def make_net(classes: int = 6, scale: float = 1.0) -> nn.Sequential:
    """Clips of any size to logits, in evaluation mode; `scale` multiplies the weights of the last layer."""
    torch.manual_seed(0)
    body = [nn.Conv3d(3, 8, 3, (1, 3, 3), 1), nn.ReLU(), nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(32, classes)).eval()
    net[-1].weight.data *= scale
    return net


def make_video(B: int = 1, C: int = 3, seed: int = 0, T: int = 4) -> Tensor:
    return torch.randn(B, C, T, 32, 40, generator=torch.Generator().manual_seed(seed))


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


def resolver(*targets: Target) -> Callable[[Tensor], list[ResolvedTarget]]:
    return lambda logits: [resolve_target(target, logits) for target in targets]


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules())


def linear_along(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Linear interpolation between the centres of cells; the outermost cells are continued to the border."""
    cells = values.shape[axis]
    centre = (np.arange(size) + 0.5) * cells / size - 0.5
    low = np.clip(np.floor(centre).astype(int), 0, cells - 1)
    high = np.minimum(low + 1, cells - 1)
    share = np.clip(centre - low, 0, 1)
    weights = np.zeros((size, cells))
    weights[np.arange(size), low] += 1 - share
    weights[np.arange(size), high] += share
    return np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
