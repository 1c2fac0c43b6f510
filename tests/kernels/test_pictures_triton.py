"""The Triton twins of the operators on pictures, in the interpreter."""

from __future__ import annotations

import pytest
import torch

from picture_cases import MEAN, SHAPES, STD, pictures

pytest.importorskip("triton")

from aosa_fast.kernels import pictures_triton
from aosa_fast.kernels.pictures import grey_frames, normalize_frames

# What test_compile.py compiles.
LAUNCHES = {
    f"{name}-{size}": lambda launch=launch, shape=shape: launch(torch.zeros(shape, dtype=torch.uint8))
    for size, shape in {"paper": (1, 16, 112, 112, 3), "odd": (1, 3, 37, 53, 3), "one": (1, 1, 1, 1, 3)}.items()
    for name, launch in {
        "normalize": lambda frames: pictures_triton.normalize_frames(frames, MEAN, STD),
        "grey": pictures_triton.grey_frames,
    }.items()
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gives_the_bits_of_the_cpu(shape: tuple[int, ...]) -> None:
    frames = pictures(shape)
    assert torch.equal(pictures_triton.normalize_frames(frames, MEAN, STD), normalize_frames(frames, MEAN, STD))
    assert torch.equal(pictures_triton.grey_frames(frames), grey_frames(frames))
    turned = frames.transpose(1, 3).contiguous().transpose(1, 3)
    assert torch.equal(pictures_triton.normalize_frames(turned, MEAN, STD), normalize_frames(frames, MEAN, STD))
    assert torch.equal(pictures_triton.grey_frames(turned), grey_frames(frames))
