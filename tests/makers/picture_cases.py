"""Pictures, and what they become, for the tests of the optical flow and of the operators on pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

MEAN, STD = torch.tensor([0.4345, 0.4051, 0.3775]), torch.tensor([0.2768, 0.2713, 0.2737])
SHAPES = [(1, 4, 12, 17, 3), (2, 1, 33, 35, 3), (1, 1, 1, 1, 3), (0, 2, 3, 4, 3)]


def pictures(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


SHIFT = (1.5, -1.0)
PAPER = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2}

# Name: shape (B, T, H, W), parameters that are not the paper's.
FLOWS = [
    pytest.param((1, 3, 112, 112), {}, id="paper-like"),
    pytest.param((1, 2, 63, 97), {}, id="odd-one-level"),
    pytest.param((2, 3, 65, 70), {}, id="batch-two-levels"),
    pytest.param((1, 2, 20, 30), {}, id="below-the-pyramid"),
    pytest.param((1, 2, 12, 41), {}, id="narrower-than-the-window"),
    pytest.param((1, 2, 10, 10), {}, id="border-factors-everywhere"),
    pytest.param((1, 2, 140, 133), {"levels": 5}, id="three-levels"),
    pytest.param((1, 2, 70, 66), {"levels": 1}, id="one-coarser-level"),
    pytest.param((1, 2, 70, 66), {"levels": 0}, id="no-coarser-level"),
    pytest.param((1, 2, 48, 56), {"winsize": 5}, id="winsize-5"),
    pytest.param((1, 2, 48, 56), {"winsize": 21}, id="winsize-21"),
    pytest.param((1, 2, 48, 56), {"winsize": 14}, id="even-winsize"),
    pytest.param((1, 2, 48, 56), {"winsize": 101}, id="winsize-larger-than-the-frame"),
    pytest.param((1, 2, 48, 56), {"iterations": 1}, id="one-iteration"),
    pytest.param((1, 2, 48, 56), {"iterations": 7}, id="many-iterations"),
    pytest.param((1, 2, 48, 56), {"poly_n": 7, "poly_sigma": 1.5}, id="poly-7"),
    pytest.param((1, 2, 48, 56), {"poly_n": 1, "poly_sigma": 0.5}, id="poly-1"),
    pytest.param((1, 2, 48, 56), {"poly_n": 60, "poly_sigma": 3.0}, id="poly-larger-than-the-frame"),
    pytest.param((1, 2, 90, 64), {"pyr_scale": 0.8}, id="pyr-scale-0.8"),
    pytest.param((1, 2, 130, 128), {"pyr_scale": 0.3}, id="pyr-scale-0.3"),
]


def moving_texture(*shape: int, shift: tuple[float, float] = SHIFT, seed: int = 0) -> Tensor:
    """(B, T, H, W) uint8: smooth noise that moves by `shift` a frame, another one in every clip."""
    B, T, H, W = shape
    clips = []
    for b in range(B):
        noise = np.random.default_rng(seed + b).integers(0, 256, (H + 32, W + 32)).astype(np.float32)
        texture = cv2.GaussianBlur(noise, (0, 0), 2.0)
        texture = (texture - texture.min()) / (texture.max() - texture.min()) * 255
        moves = [np.float32([[1, 0, shift[0] * t - 16], [0, 1, shift[1] * t - 16]]) for t in range(T)]
        clips.append([cv2.warpAffine(texture, move, (W, H)) for move in moves])
    return torch.from_numpy(np.array(clips).round().astype(np.uint8))
