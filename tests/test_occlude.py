from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.field import conditional_mean
from aosa_fast.kernels.occlude import occlude, occlude_sampled

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
FORMATS = [torch.contiguous_format, torch.channels_last_3d]


def make_tubes(N: int, T: int, H: int, W: int, K: int, largest: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes (N, T, 4) of at most `largest` pixels a side, a sixth of them empty, and members (N, K+1), padded."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.tensor([W, H])
    low = (torch.rand(N, T, 2, generator=generator) * frame).long()
    high = torch.minimum(low + 1 + torch.randint(largest, low.shape, generator=generator), frame)
    boxes = torch.cat([low, high], dim=-1)
    boxes[torch.rand(N, T, generator=generator) < 1 / 6] = 0
    boxes[0, 0] = torch.tensor([0, 0, W, H])
    boxes[-1, -1] = torch.tensor([W - 1, H - 1, W, H])
    members = torch.stack([torch.randperm(N, generator=generator) for _ in range(N)])[:, : K + 1]
    members = torch.nn.functional.pad(members, (0, max(0, K + 1 - N)), value=-1)
    return boxes.int(), members.int()


# Name: (C, T, H, W), N, K, largest box.
CASES = [
    pytest.param((3, 4, 40, 56), 12, 3, 8, id="paper-like"),
    pytest.param((3, 3, 17, 23), 7, 2, 99, id="odd"),
    pytest.param((3, 1, 9, 8), 5, 1, 4, id="one-frame"),
    pytest.param((1, 4, 9, 8), 5, 0, 4, id="one-channel-no-partners"),
    pytest.param((2, 3, 9, 8), 1, 0, 3, id="one-tube"),
    pytest.param((2, 3, 9, 8), 3, 6, 3, id="padded"),
    pytest.param((2, 3, 9, 8), 6, 3, 1, id="box-of-one-pixel"),
    pytest.param((3, 2, 1, 1), 2, 1, 3, id="one-pixel-frame"),
    pytest.param((3, 1, 1, 1), 2, 1, 3, id="one-voxel"),
    pytest.param((3, 2, 1, 19), 4, 1, 5, id="one-row"),
    pytest.param((3, 2, 19, 1), 4, 1, 5, id="one-column"),
]
Shape = tuple[int, int, int, int]


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "N", "K", "largest"), CASES)
def test_every_bit_is_the_reference(
    shape: Shape, N: int, K: int, largest: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(1)
    video, fill = torch.randn(2, *shape, generator=generator).to(dtype)
    boxes, members = make_tubes(N, *shape[1:], K, largest)
    nan = torch.full((len(members), *shape), torch.nan, dtype=dtype)
    out, expected = nan.clone(memory_format=memory_format), nan
    occlude(video, fill, boxes, members, out)
    reference.occlude(video, fill, boxes, members, expected)
    assert (expected != video).any()
    assert torch.equal(out, expected)
    assert out.is_contiguous(memory_format=memory_format)


def test_by_hand() -> None:
    video = torch.arange(12.0).reshape(1, 2, 2, 3)
    boxes = torch.tensor([[[1, 0, 3, 1], [0, 0, 0, 0]], [[0, 1, 1, 2], [2, 0, 3, 2]]], dtype=torch.int32)
    members = torch.tensor([[-1, 0, -1], [1, -1, 0]], dtype=torch.int32)
    out = torch.full((2, 1, 2, 2, 3), torch.nan)
    occlude(video, -video - 100, boxes, members, out)
    assert out[0].flatten().tolist() == [0, -101, -102, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert out[1].flatten().tolist() == [0, -101, -102, -103, 4, 5, 6, 7, -108, 9, 10, -111]


def test_inputs_of_any_layout_and_part_of_the_tubes() -> None:
    video, fill = torch.randn(2, 3, 4, 17, 23, generator=torch.Generator().manual_seed(1))
    boxes, members = make_tubes(9, 4, 17, 23, 3, 9)
    expected = torch.empty(9, 3, 4, 17, 23)
    reference.occlude(video, fill, boxes, members, expected)
    turned = video.permute(1, 3, 2, 0).contiguous().permute(3, 0, 2, 1)
    strided = torch.stack([boxes, boxes + 1], dim=-1)[..., 0]
    buffer = torch.full((9, 3, 4, 17, 23), torch.nan).contiguous(memory_format=torch.channels_last_3d)
    for begin in (0, 4, 8):  # a sweep fills the buffer in parts
        part = members.t().contiguous().t()[begin : begin + 4]
        occlude(turned, fill[:, :1].expand_as(fill), strided, part, buffer[begin : begin + 4])
    reference.occlude(video, fill[:, :1].expand_as(fill), boxes, members, expected)
    assert torch.equal(buffer, expected)


def test_special_values_are_copied_bit_for_bit() -> None:
    bits = torch.randint(-(2**31), 2**31 - 1, (2, 3, 2, 9, 8), generator=torch.Generator().manual_seed(1))
    video, fill = bits.int().view(torch.float32)  # NaN payloads, infinities, subnormals, -0
    boxes, members = make_tubes(5, 2, 9, 8, 1, 5)
    out, expected = torch.zeros(5, 3, 2, 9, 8), torch.zeros(5, 3, 2, 9, 8)
    occlude(video, fill, boxes, members, out)
    reference.occlude(video, fill, boxes, members, expected)
    assert torch.equal(out.view(torch.int32), expected.view(torch.int32))


def test_empty_boxes_hide_nothing() -> None:
    empty = [[5, 1, 5, 4], [1, 3, 6, 3], [6, 1, 2, 4], [2, 4, 5, 1], [7, 5, 7, 5]]
    boxes, members = torch.tensor(empty, dtype=torch.int32)[:, None], torch.arange(5, dtype=torch.int32)[:, None]
    video = torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(1))
    out = torch.full((5, 2, 1, 5, 7), torch.nan)
    occlude(video, video + 1, boxes, members, out)
    assert torch.equal(out, video.expand_as(out))
    assert torch.equal(occlude_sampled(video, video + 1, boxes, members, torch.ones(5, 1, 1, 3, 3))[:, 0], out)


@pytest.mark.parametrize("radius", [0, 1, 2, 4, 9])
@pytest.mark.parametrize(("shape", "N", "K", "largest"), CASES)
def test_sampled_matches_the_reference(shape: Shape, N: int, K: int, largest: int, radius: int) -> None:
    shape = (min(shape[0], 2), min(shape[1], 2), min(shape[2], 14), min(shape[3], 16))
    N, S, side = min(N, 2), 2, 2 * radius + 1
    generator = torch.Generator().manual_seed(radius)
    video = torch.randn(shape, generator=generator) + torch.linspace(-2, 3, shape[-1])
    mean = conditional_mean(video[None], radius)[0]
    boxes, members = make_tubes(N, *shape[1:], K, largest)
    noise = torch.randn(N, S, shape[1], side, side, generator=generator)
    result = occlude_sampled(video, mean, boxes, members, noise)
    expected = reference.occlude_sampled(video, mean, boxes, members, noise)
    assert expected.abs().max() > 0.1
    if radius and max(shape[2:]) > 2:
        assert (expected - video).abs().max() > 0.1
    # Worst measured: 4.8e-7, the rounding of the result to float32.
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=4e-6)
    outside = ~reference.tube_masks(boxes[None], members[None], *shape[2:])[0][:, None, None].expand(result.shape)
    assert torch.equal(result[outside], video.expand_as(result)[outside])


def test_sampled_by_hand() -> None:
    # Three pixels in a row, radius 1. The middle has two neighbours, 1 and 5, and mean 3: the draw is
    # 3 + (a (1 - 3) + b (5 - 3)) / sqrt(2 - 1). The others have one neighbour, so no spread: their mean.
    video = torch.tensor([1.0, 9.0, 5.0]).reshape(1, 1, 1, 3)
    noise = torch.full((1, 1, 1, 3, 3), 1e6)
    noise[0, 0, 0, 1] = torch.tensor([0.5, 1e6, 2.0])
    boxes, members = torch.tensor([[[0, 0, 3, 1]]], dtype=torch.int32), torch.zeros(1, 1, dtype=torch.int32)
    mean = conditional_mean(video[None], 1)[0]
    assert mean.flatten().tolist() == [9.0, 3.0, 9.0]
    result = occlude_sampled(video, mean, boxes, members, noise)
    assert result.flatten().tolist() == [9.0, 3 - 1 + 4, 9.0]


def test_the_draws_have_the_mean_and_covariance_of_the_shifted_patches() -> None:
    S = 4000
    generator = torch.Generator().manual_seed(5)
    video = torch.randn(2, 1, 6, 7, generator=generator)
    mean = conditional_mean(video[None], 1)[0]
    boxes, members = torch.tensor([[[1, 1, 6, 5]]], dtype=torch.int32), torch.zeros(1, 1, dtype=torch.int32)
    noise = torch.randn(1, S, 1, 3, 3, generator=generator)
    draws = occlude_sampled(video, mean, boxes, members, noise)[0, :, :, 0].double()
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


CLIP, BOXES = torch.zeros(3, 2, 5, 6), torch.zeros(2, 2, 4, dtype=torch.int32)
MEMBERS, OUT, NOISE = torch.zeros(4, 1, dtype=torch.int32), torch.zeros(4, 3, 2, 5, 6), torch.zeros(4, 1, 2, 3, 3)
COMMON = [
    ("boxes", BOXES[:, :1], ValueError, "boxes must have shape (N, T, 4) with"),
    ("members", MEMBERS[0], ValueError, "members must have shape (n, K1); got (1,)"),
    ("boxes", BOXES.long(), TypeError, "boxes must be torch.int32; got torch.int64"),
    ("members", MEMBERS.long(), TypeError, "members must be torch.int32; got torch.int64"),
    ("boxes", BOXES - 1, ValueError, "boxes must lie inside the frame"),
    ("boxes", BOXES + 6, ValueError, "boxes must lie inside the frame"),
    ("members", MEMBERS + 2, ValueError, "members must be rows of boxes, or -1"),
    ("boxes", BOXES.to("meta"), ValueError, "arguments must be on one device"),
]


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        *COMMON,
        ("video", CLIP[0], ValueError, "video must have shape (C, T, H, W); got (2, 5, 6)"),
        ("fill", CLIP[:1], ValueError, "fill must have shape (C, T, H, W) with C=3, T=2, H=5, W=6; got (1, 2, 5, 6)"),
        ("out", OUT[:3], ValueError, "out must have shape (n, C, T, H, W) with n=4, C=3, T=2, H=5, W=6; got (3, 3"),
        ("video", CLIP.half(), TypeError, "video must be torch.float32; got torch.float16"),
        ("fill", CLIP.double(), TypeError, "fill must be torch.float32; got torch.float64"),
        ("out", OUT.mT.contiguous().mT, ValueError, "out must be contiguous or channels_last_3d; got strides (180,"),
    ],
)
def test_occlude_refuses(name: str, value: Tensor, error: type[Exception], message: str) -> None:
    arguments = {"video": CLIP, "fill": CLIP, "boxes": BOXES, "members": MEMBERS, "out": OUT} | {name: value}
    with pytest.raises(error, match=re.escape(message)):
        occlude(**arguments)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        *COMMON,
        ("mean", CLIP[:1], ValueError, "mean must have shape (C, T, H, W) with C=3, T=2, H=5, W=6; got (1, 2, 5, 6)"),
        ("noise", NOISE[:3], ValueError, "noise must have shape (n, S, T, D, D) with n=4"),
        ("noise", NOISE[..., :2], ValueError, "noise must have shape (n, S, T, D, D) with n=4, S=1, T=2, D=3"),
        ("noise", NOISE[..., :2, :2], ValueError, "noise must have an odd window 2r+1; got 2"),
        ("video", CLIP.half(), TypeError, "video must be torch.float32; got torch.float16"),
        ("mean", CLIP.half(), TypeError, "mean must be torch.float32; got torch.float16"),
        ("noise", NOISE.double(), TypeError, "noise must be torch.float32; got torch.float64"),
    ],
)
def test_sampled_refuses(name: str, value: Tensor, error: type[Exception], message: str) -> None:
    arguments = {"video": CLIP, "mean": CLIP, "boxes": BOXES, "members": MEMBERS, "noise": NOISE} | {name: value}
    with pytest.raises(error, match=re.escape(message)):
        occlude_sampled(**arguments)
