"""Rows of occluded clips of every kind, for the tests of both operators and of their Triton twins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.field import conditional_mean

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
FORMATS = [torch.contiguous_format, torch.channels_last_3d]


def make_rows(B: int, N: int, T: int, H: int, W: int, K: int, largest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (B, N, T, 4) of at most `largest` pixels a side, a sixth of them empty; members (n, K+1), padded, and
    clips (n,): a row for each tube of each clip, in random order, and one twice.
    """
    generator = torch.Generator().manual_seed(B)
    frame = torch.tensor([W, H])
    low = (torch.rand(B, N, T, 2, generator=generator) * frame).long()
    high = torch.minimum(low + 1 + torch.randint(largest, low.shape, generator=generator), frame)
    boxes = torch.cat([low, high], dim=-1)
    boxes[torch.rand(B, N, T, generator=generator) < 1 / 6] = 0
    boxes[:, 0, 0] = torch.tensor([0, 0, W, H])
    boxes[:, -1, -1] = torch.tensor([W - 1, H - 1, W, H])
    members = torch.stack([torch.randperm(N, generator=generator) for _ in range(B * N)])[:, : K + 1]
    members = torch.nn.functional.pad(members, (0, max(0, K + 1 - N)), value=-1)
    order = torch.randperm(B * N, generator=generator)
    order = torch.cat([order, order[:1]])
    return boxes.int(), members[order].int(), (order % B).int()


# Name: (B, C, T, H, W), N, K, largest box.
CASES = [
    pytest.param((1, 3, 4, 40, 56), 12, 3, 8, id="paper-like"),
    pytest.param((2, 3, 3, 17, 23), 7, 2, 99, id="odd"),
    pytest.param((3, 3, 1, 9, 8), 5, 1, 4, id="one-frame"),
    pytest.param((2, 1, 4, 9, 8), 5, 0, 4, id="one-channel-no-partners"),
    pytest.param((1, 2, 3, 9, 8), 1, 0, 3, id="one-tube"),
    pytest.param((2, 2, 3, 9, 8), 3, 6, 3, id="padded"),
    pytest.param((2, 2, 3, 9, 8), 6, 3, 1, id="box-of-one-pixel"),
    pytest.param((2, 3, 2, 1, 1), 2, 1, 3, id="one-pixel-frame"),
    pytest.param((2, 3, 1, 1, 1), 2, 1, 3, id="one-voxel"),
    pytest.param((2, 3, 2, 1, 19), 4, 1, 5, id="one-row"),
    pytest.param((2, 3, 2, 19, 1), 4, 1, 5, id="one-column"),
]
Shape = tuple[int, int, int, int, int]


def sampled_inputs(shape: Shape, N: int, K: int, largest: int, radius: int) -> tuple[Tensor, ...]:
    """The arguments of `occlude_sampled` but for `out`, of a case made smaller."""
    shape = (*(min(size, limit) for size, limit in zip(shape, (3, 2, 2, 14, 16), strict=True)),)
    generator = torch.Generator().manual_seed(radius)
    video = torch.randn(shape, generator=generator) + torch.linspace(-2, 3, shape[-1])
    boxes, members, clips = make_rows(shape[0], min(N, 2), *shape[2:], K, largest)
    noise = torch.randn(len(members), shape[2], 2 * radius + 1, 2 * radius + 1, generator=generator)
    return video, conditional_mean(video, radius), boxes, members, clips, noise


def sampled_reference(*arguments: Tensor) -> Tensor:
    """float64, after a look that it is not trivial."""
    video, clips = arguments[0], arguments[4]
    expected = torch.full((len(clips), *video.shape[1:]), torch.nan, dtype=torch.float64)
    reference.occlude_sampled(*arguments, expected)
    assert expected.abs().max() > 0.1
    if arguments[5].shape[-1] > 1 and max(video.shape[3:]) > 2:
        assert (expected - video[clips]).abs().max() > 0.1
    return expected


# What both refuse: argument, value, error, message.
VIDEO, BOXES = torch.zeros(2, 3, 2, 5, 6), torch.zeros(2, 2, 2, 4, dtype=torch.int32)
MEMBERS, CLIPS = torch.zeros(4, 1, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
OUT = torch.zeros(4, 3, 2, 5, 6)
COMMON = [
    ("video", VIDEO[0], ValueError, "video must have shape (B, C, T, H, W); got (3, 2, 5, 6)"),
    ("boxes", BOXES[:, :, :1], ValueError, "boxes must have shape (B, N, T, 4) with"),
    ("boxes", BOXES[:1], ValueError, "boxes must have shape (B, N, T, 4) with"),
    ("members", MEMBERS[0], ValueError, "members must have shape (n, K1); got (1,)"),
    ("clips", CLIPS[:3], ValueError, "clips must have shape (n) with n=4; got (3,)"),
    ("out", OUT[:3], ValueError, "out must have shape (n, C, T, H, W) with n=4, C=3, T=2, H=5, W=6; got (3, 3"),
    ("boxes", BOXES.long(), TypeError, "boxes must be torch.int32; got torch.int64"),
    ("members", MEMBERS.long(), TypeError, "members must be torch.int32; got torch.int64"),
    ("clips", CLIPS.long(), TypeError, "clips must be torch.int32; got torch.int64"),
    ("boxes", BOXES - 1, ValueError, "boxes must lie inside the frame"),
    ("boxes", BOXES + 6, ValueError, "boxes must lie inside the frame"),
    ("members", MEMBERS + 2, ValueError, "members must be rows of boxes, or -1"),
    ("members", MEMBERS - 2, ValueError, "members must be rows of boxes, or -1"),
    ("clips", CLIPS + 2, ValueError, "clips must be rows of video"),
    ("clips", CLIPS - 1, ValueError, "clips must be rows of video"),
    ("boxes", BOXES.to("meta"), ValueError, "arguments must be on one device"),
    ("out", OUT.mT.contiguous().mT, ValueError, "out must be contiguous or channels_last_3d; got strides (180,"),
]
LIKE = "must have shape (B, C, T, H, W) with B=2, C=3, T=2, H=5, W=6; got (2, 1, 2, 5, 6)"
