"""Flows, and walks of anchors, for the tests of the tracks and of the partners, of Numba and of the Triton twins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels.partners_numba import COLUMNS, ROWS


def make_flow(B: int, T: int, H: int, W: int, speed: float, seed: int = 0) -> Tensor:
    """Smooth flow (B, T-1, H, W, 2) of about `speed` pixels a frame, other in every clip and frame."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(B * (T - 1), 2, 4, 4, generator=generator) * speed
    if T == 1:
        return torch.zeros(B, 0, H, W, 2)
    if speed > 30:
        coarse = coarse.abs() + speed
    fine = torch.nn.functional.interpolate(coarse, (H, W), mode="bicubic", align_corners=True)
    return fine.permute(0, 2, 3, 1).reshape(B, T - 1, H, W, 2)


def constant(dx: float, dy: float, steps: int, H: int, W: int) -> Tensor:
    return torch.tensor([dx, dy]).expand(1, steps, H, W, 2)


def walks(B: int, N: int, T: int, seed: int = 0) -> Tensor:
    """Random walks (B, N, T, 2) from random places, some at rest, some that die half way."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(B, N, T, 2, generator=generator) * torch.rand(B, N, 1, 1, generator=generator)
    steps[:, ::7] = 0
    steps[:, 3::5, T // 2 + 1 :] = 0
    steps[:, :, 0] = torch.rand(B, N, 2, generator=generator) * 100
    return steps.cumsum(2)


def grid_walks(N: int, T: int, seed: int = 0) -> Tensor:
    """Anchors on a grid in four motions: nearly everything is a tie."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack([torch.arange(N) % 19 * 4.0, torch.arange(N) // 19 * 4.0], dim=-1)
    motions = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.25, 0.5]])
    steps = motions[torch.randint(4, (N,), generator=generator)]
    return (places[:, None] + torch.arange(T)[:, None] * steps[:, None])[None]


def one_row() -> Tensor:
    """A flow along the only row, slower and slower, and back."""
    flow = torch.zeros(1, 4, 1, 31, 2)
    flow[..., 0] = torch.linspace(-0.5, 0.5, 31)
    return flow


def broken(value: float, axis: int) -> Tensor:
    """To the right by a pixel a frame; of the anchors (5, 5) and (15, 5), the first meets `value` at (6, 5)."""
    flow = constant(1.0, 0.0, 4, 14, 20).clone()
    flow[0, 1, 5, 6, axis] = value
    return flow


BEYOND = 4 + 2**-21  # the next float32
SIDES = {"right": (1, 0), "left": (-1, 0), "bottom": (0, 1), "top": (0, -1)}
# Name: flow, stride, reseed.
TRACKS = [
    pytest.param(make_flow(1, 16, 40, 56, 1.0), 8, 0, id="paper-like"),
    pytest.param(make_flow(2, 5, 17, 23, 0.7), 4, 0, id="batch-odd"),
    pytest.param(make_flow(1, 1, 17, 23, 1.0), 4, 0, id="one-frame"),
    pytest.param(make_flow(1, 2, 17, 23, 3.0), 5, 0, id="two-frames"),
    pytest.param(make_flow(1, 6, 17, 23, 40.0), 4, 0, id="all-leave-at-once"),
    pytest.param(make_flow(1, 9, 17, 23, 1.5), 6, 4, id="reseed"),
    pytest.param(make_flow(2, 6, 12, 10, 1.0), 6, 1, id="reseed-every-frame"),
    pytest.param(make_flow(1, 4, 12, 10, 1.0), 6, 9, id="reseed-after-the-end"),
    pytest.param(make_flow(1, 5, 12, 10, 0.2), 1, 0, id="every-pixel-an-anchor"),
    pytest.param(make_flow(1, 4, 9, 11, 0.5), 15, 0, id="one-anchor"),
    pytest.param(make_flow(1, 4, 1, 1, 0.0), 1, 0, id="one-pixel-frame"),
    pytest.param(one_row(), 1, 0, id="one-row"),
    *(pytest.param(broken(value, 0), 10, 0, id=f"{value}") for value in (torch.nan, torch.inf, -torch.inf)),
    *(pytest.param(broken(value, 1), 10, 0, id=f"{value}-down") for value in (torch.nan, torch.inf, -torch.inf)),
    *(pytest.param(constant(4.0 * x, 4.0 * y, 2, 9, 9), 9, 0, id=f"to-the-{side}") for side, (x, y) in SIDES.items()),
    *(pytest.param(constant(BEYOND * x, BEYOND * y, 2, 9, 9), 9, 0, id=side) for side, (x, y) in SIDES.items()),
]


def translation(dx: float, dy: float) -> Tensor:
    """A grid of 49 anchors that all move alike in 10 frames, but for the last bits of their displacements."""
    places = torch.cartesian_prod(torch.arange(7), torch.arange(7)).flip(1).double() * 8 + 4
    return (places[:, None] + torch.arange(10)[:, None] * torch.tensor([dx, dy]).double()).float()[None]


# Name: tracks, K, min_motion.
PARTNERS = [
    pytest.param(walks(1, 49, 8), 3, 0.0, id="paper-like"),
    pytest.param(walks(2, 20, 5), 3, 0.0, id="batch"),
    pytest.param(walks(1, 300, 6), 5, 0.0, id="300-walks"),
    pytest.param(walks(1, COLUMNS + 18, 4), 4, 0.0, id="more-than-one-block"),
    pytest.param(walks(1, ROWS + 1, 16), 2, 0.0, id="one-row-over"),
    pytest.param(walks(1, 30, 1), 3, 0.0, id="one-frame"),
    pytest.param(walks(1, 30, 2), 3, 0.0, id="two-frames"),
    pytest.param(walks(1, 1, 4), 0, 0.0, id="one-anchor"),
    pytest.param(walks(1, 1, 4), 3, 0.0, id="one-anchor-padded"),
    pytest.param(walks(2, 12, 4), 0, 0.0, id="no-partners"),
    pytest.param(walks(2, 5, 4), 4, 0.0, id="all-others"),
    pytest.param(walks(2, 5, 4), 9, 0.0, id="more-partners-than-anchors"),
    pytest.param(walks(1, 60, 8), 3, 2.0, id="min-motion"),
    pytest.param(walks(1, 60, 8), 3, 1e9, id="min-motion-larger-than-all"),
    pytest.param(grid_walks(190, 4), 8, 0.0, id="ties"),
    pytest.param(grid_walks(190, 4), 8, 1.5, id="ties-min-motion"),
    pytest.param(grid_walks(COLUMNS + 7, 4), 3, 0.0, id="ties-over-two-blocks"),
    pytest.param(walks(1, 1, 1).expand(1, 20, 6, 2), 3, 0.0, id="all-at-one-place"),
    pytest.param(translation(0.37, -0.21), 3, 0.0, id="translation"),
]
