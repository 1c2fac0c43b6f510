"""Sizes of the GPU benchmark's operators."""

from __future__ import annotations

from dataclasses import dataclass

Size = tuple[int, int, int, int, int, int]  # B, T, H, W, stride, box


@dataclass(frozen=True)
class Plan:
    """Sizes, and how often each is timed."""

    frames: int = 16
    side: int = 112
    box: int = 16
    radius: int = 4
    channels: int = 3  # of field and conditional mean; the others have 3
    strides: tuple[int, int] = (8, 4)
    batches: tuple[int, ...] = (1, 8, 32)  # the first with both strides, the others with the last
    rows: int = 32  # of an occluded batch
    walks: tuple[int, int] = (4096, 32)  # N, T of the largest choice of partners
    flows: tuple[tuple[int, int, int], ...] = ((1, 16, 112), (1, 32, 256), (8, 16, 112))  # B, T, side
    # Checked, not timed: the paper's other networks, and odd sizes.
    others: tuple[Size, ...] = ((1, 32, 256, 256, 10, 20), (1, 8, 224, 224, 8, 16))
    odd: tuple[Size, ...] = ((2, 5, 37, 53, 5, 9), (1, 2, 20, 130, 7, 12))
    repeats: int = 100
    replays: int = 20


FULL = Plan()
QUICK = Plan(repeats=20, replays=5)
REHEARSAL = Plan(
    frames=2,
    side=14,
    box=5,
    radius=1,
    channels=1,
    batches=(1, 2),
    rows=2,
    walks=(20, 3),
    flows=((1, 2, 8), (1, 2, 9), (2, 2, 8)),
    others=(),
    odd=((1, 2, 11, 13, 5, 5),),
    repeats=1,
    replays=1,
)
