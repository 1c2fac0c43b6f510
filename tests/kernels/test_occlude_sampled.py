from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.field import conditional_mean
from aosa_fast.kernels.occlude import occlude_sampled
from occlude_cases import (
    BOXES,
    CASES,
    CLIPS,
    COMMON,
    DTYPES,
    FORMATS,
    LIKE,
    MEMBERS,
    OUT,
    VIDEO,
    Shape,
    sampled_inputs,
    sampled_reference,
)

NOISE = torch.zeros(4, 2, 3, 3)


@pytest.mark.parametrize("radius", [0, 1, 2, 4, 9])
@pytest.mark.parametrize(("shape", "N", "K", "largest"), CASES)
def test_matches_the_reference(shape: Shape, N: int, K: int, largest: int, radius: int) -> None:
    arguments = sampled_inputs(shape, N, K, largest, radius)
    video, _, boxes, members, clips, _ = arguments
    expected = sampled_reference(*arguments)
    result = torch.full_like(expected, torch.nan, dtype=torch.float32)
    occlude_sampled(*arguments, result)
    # Worst measured: 4.8e-7, the rounding of the result to float32.
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=4e-6)
    masks = reference.tube_masks(boxes[clips], members.unsqueeze(1), *video.shape[3:]).expand_as(result)
    assert torch.equal(result[~masks], video[clips][~masks])


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_draws_are_rounded_to_the_output(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    arguments = sampled_inputs((2, 3, 3, 17, 23), 7, 2, 99, 2)
    expected = torch.empty(len(arguments[4]), *arguments[0].shape[1:])
    occlude_sampled(*arguments, expected)
    out = torch.full_like(expected, torch.nan, dtype=dtype, memory_format=memory_format)
    occlude_sampled(*arguments, out)
    assert torch.equal(out, expected.to(dtype))
    assert out.is_contiguous(memory_format=memory_format)


def test_by_hand() -> None:
    # Three pixels in a row, radius 1. The middle has two neighbours, 1 and 5, and mean 3: the draw is
    # 3 + (a (1 - 3) + b (5 - 3)) / sqrt(2 - 1). The others have one neighbour, so no spread: their mean.
    video = torch.tensor([[9.0, 9.0, 9.0], [1.0, 9.0, 5.0]]).reshape(2, 1, 1, 1, 3)
    noise = torch.full((2, 1, 3, 3), 1e6)
    noise[0, 0, 1] = torch.tensor([0.5, 1e6, 2.0])
    noise[1, 0, 1] = torch.tensor([1.0, 1e6, 0.0])
    boxes, members = torch.tensor([[0, 0, 3, 1]]).int().expand(2, 1, 1, 4), torch.zeros(2, 1).int()
    mean, clips, out = conditional_mean(video, 1), torch.ones(2).int(), torch.full((2, 1, 1, 1, 3), torch.nan)
    assert mean[1].flatten().tolist() == [9.0, 3.0, 9.0]
    occlude_sampled(video, mean, boxes, members, clips, noise, out)
    assert out.reshape(2, 3).tolist() == [[9.0, 3 - 1 + 4, 9.0], [9.0, 3 - 2, 9.0]]


def test_the_draws_have_the_mean_and_covariance_of_the_shifted_patches() -> None:
    S = 4000
    generator = torch.Generator().manual_seed(5)
    video = torch.randn(1, 2, 1, 6, 7, generator=generator)
    mean = conditional_mean(video, 1)
    boxes, members, clips = torch.tensor([[[[1, 1, 6, 5]]]]).int(), torch.zeros(S, 1).int(), torch.zeros(S).int()
    noise = torch.randn(S, 1, 3, 3, generator=generator)
    out = torch.empty(S, 2, 1, 6, 7)
    occlude_sampled(video, mean, boxes, members, clips, noise, out)
    video, draws = video[0], out[:, :, 0].double()
    assert torch.equal(draws[:, :, 0].float(), video[:, 0, 0].expand(S, 2, 7))
    # Every pixel of the box has all eight neighbours; rows of `patches` are the shifted copies of the box.
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    patches = torch.stack([video[:, 0, 1 + dy : 5 + dy, 1 + dx : 6 + dx].flatten() for dy, dx in shifts]).double()
    drawn = draws[:, :, 1:5, 1:6].flatten(1)
    covariance = torch.cov(patches.T)
    variance = covariance.diagonal()
    assert (variance > 0.05).all()
    # Five standard errors.
    assert ((drawn.mean(0) - patches.mean(0)).abs() <= 5 * (variance / S).sqrt()).all()
    error = ((variance[:, None] * variance + covariance.square()) / S).sqrt()
    assert ((torch.cov(drawn.T) - covariance).abs() <= 5 * error).all()


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        *COMMON,
        ("mean", VIDEO[:, :1], ValueError, f"mean {LIKE}"),
        ("noise", NOISE[:3], ValueError, "noise must have shape (n, T, D, D) with n=4"),
        ("noise", NOISE[..., :2], ValueError, "noise must have shape (n, T, D, D) with n=4, T=2, D=3"),
        ("noise", NOISE[..., :2, :2], ValueError, "noise must have an odd window 2r+1; got 2"),
        ("video", VIDEO.half(), TypeError, "video must be torch.float32; got torch.float16"),
        ("mean", VIDEO.half(), TypeError, "mean must be torch.float32; got torch.float16"),
        ("noise", NOISE.double(), TypeError, "noise must be torch.float32; got torch.float64"),
        ("out", OUT.int(), TypeError, "out must be floating-point; got torch.int32"),
    ],
)
def test_refuses(name: str, value: Tensor, error: type[Exception], message: str) -> None:
    arguments = {"video": VIDEO, "mean": VIDEO, "boxes": BOXES, "members": MEMBERS, "clips": CLIPS}
    arguments |= {"noise": NOISE, "out": OUT}
    with pytest.raises(error, match=re.escape(message)):
        occlude_sampled(**arguments | {name: value})
