"""What the property tests draw: small clips, pictures, tubes and maps of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor


def integers(shape: tuple[int, ...], random: Any) -> Tensor:
    """Whole numbers from -8 to 8 as float32, whose sums are exact."""
    generator = torch.Generator().manual_seed(random.randrange(2**31))
    return torch.randint(-8, 9, shape, generator=generator).float()


@st.composite
def clips(draw: st.DrawFn, count: int = 0, side: int = 12, batch: int = 2) -> Any:
    """(B, C, T, H, W) float32, or `count` of them of one shape, by whose first axis they can be unpacked."""
    shape = tuple(draw(st.integers(1, most)) for most in (batch, 3, 3, side, side))
    random = draw(st.randoms(use_true_random=False))
    scale = draw(st.sampled_from([1e-3, 0.25, 1.0, 64.0]))
    return integers((count, *shape) if count else shape, random) * scale


def pictures_of(frames: tuple[int, int] = (1, 4), side: tuple[int, int] = (1, 16)) -> st.SearchStrategy[np.ndarray]:
    """(T, H, W, 3) uint8."""
    sizes = st.tuples(st.integers(*frames), st.integers(*side), st.integers(*side), st.just(3))
    return sizes.flatmap(lambda shape: st.integers(0, 2**31).map(lambda seed: _pictures(shape, seed)))


def _pictures(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@st.composite
def tubes(draw: st.DrawFn, side: int = 12) -> tuple[Tensor, Tensor, int, int]:
    """Boxes (B, N, T, 4) and members (B, N, K1), as every tube has them, in frames of a height and a width."""
    B, N, T, K = (draw(st.integers(1, most)) for most in (2, 5, 3, 3))
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    random = draw(st.randoms(use_true_random=False))
    generator = torch.Generator().manual_seed(random.randrange(2**31))
    frame = torch.tensor([width, height])
    corners = (torch.rand(B, N, T, 2, 2, generator=generator) * (frame + 1)).long().clamp(max=frame)
    boxes = torch.cat([corners.amin(3), corners.amax(3)], dim=-1)
    boxes[(boxes[..., :2] == boxes[..., 2:]).any(-1)] = 0
    members = torch.randint(-1, N, (B, N, K), generator=generator)
    return boxes.int(), torch.cat([torch.arange(N).expand(B, N).unsqueeze(-1), members], -1).int(), height, width


def maps(frames: int = 3, side: int = 10) -> st.SearchStrategy[np.ndarray]:
    """(T, H, W) float32, with zeros and ties among their values."""
    sizes = st.tuples(st.integers(1, frames), st.integers(2, side), st.integers(2, side))
    values = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, 2.0, 1e-6, -3.0])
    return sizes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=values))


@st.composite
def boxes_in(draw: st.DrawFn, shape: tuple[int, ...]) -> np.ndarray:
    """(T, M, 4) int, x0, y0, x1, y1, some of them empty, some beyond the frame of maps of this shape."""
    T, H, W = shape
    M = draw(st.integers(1, 2))
    corner = st.tuples(st.integers(-2, W), st.integers(-2, H), st.integers(0, W + 2), st.integers(0, H + 2))
    return np.array([[draw(corner) for _ in range(M)] for _ in range(T)])


def order_of(count: int, random: Any) -> np.ndarray:
    """The numbers from 0 in any order."""
    places = [*range(count)]
    random.shuffle(places)
    return np.array(places)
