from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.occlude import occlude, occlude_sampled
from occlude_cases import BOXES, CASES, CLIPS, COMMON, DTYPES, FORMATS, LIKE, MEMBERS, OUT, VIDEO, Shape, make_rows


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "N", "K", "largest"), CASES)
def test_every_bit_is_the_reference(
    shape: Shape, N: int, K: int, largest: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(1)
    video, fill = torch.randn(2, *shape, generator=generator).to(dtype)
    boxes, members, clips = make_rows(shape[0], N, *shape[2:], K, largest)
    nan = torch.full((len(members), *shape[1:]), torch.nan, dtype=dtype)
    out, expected = nan.clone(memory_format=memory_format), nan
    occlude(video, fill, boxes, members, clips, out)
    reference.occlude(video, fill, boxes, members, clips, expected)
    assert (expected != video[clips]).any()
    assert torch.equal(out, expected)
    assert out.is_contiguous(memory_format=memory_format)


def test_by_hand() -> None:
    video = torch.arange(24.0).reshape(2, 1, 2, 2, 3)
    still = [[0, 0, 0, 0], [0, 0, 0, 0]]
    first = [[[1, 0, 3, 1], [0, 0, 0, 0]], [[0, 1, 1, 2], [2, 0, 3, 2]]]
    boxes = torch.tensor([first, [still, [[0, 0, 0, 0], [0, 0, 2, 1]]]], dtype=torch.int32)
    members = torch.tensor([[-1, 0, -1], [1, -1, 0], [0, 1, 0], [0, -1, -1]], dtype=torch.int32)
    clips = torch.tensor([0, 0, 1, 1], dtype=torch.int32)
    out = torch.full((4, 1, 2, 2, 3), torch.nan)
    occlude(video, -video - 100, boxes, members, clips, out)
    assert out[0].flatten().tolist() == [0, -101, -102, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert out[1].flatten().tolist() == [0, -101, -102, -103, 4, 5, 6, 7, -108, 9, 10, -111]
    assert out[2].flatten().tolist() == [12, 13, 14, 15, 16, 17, -118, -119, 20, 21, 22, 23]
    assert torch.equal(out[3], video[1])


def test_inputs_of_any_layout_and_part_of_the_rows() -> None:
    video, fill = torch.randn(2, 2, 3, 4, 17, 23, generator=torch.Generator().manual_seed(1))
    boxes, members, clips = make_rows(2, 4, 4, 17, 23, 3, 9)
    expected = torch.empty(9, 3, 4, 17, 23)
    turned = video.permute(2, 4, 3, 0, 1).contiguous().permute(3, 4, 0, 2, 1)
    flat = fill[:, :, :1].expand_as(fill)
    strided, pairs = torch.stack([boxes, boxes + 1], dim=-1)[..., 0], torch.stack([clips, clips + 1], dim=-1)
    buffer = torch.full((9, 3, 4, 17, 23), torch.nan).contiguous(memory_format=torch.channels_last_3d)
    for begin in (0, 4, 8):  # a sweep fills the buffer in parts
        part = slice(begin, begin + 4)
        occlude(turned, flat, strided, members.t().contiguous().t()[part], pairs[part, 0], buffer[part])
    reference.occlude(video, flat, boxes, members, clips, expected)
    assert torch.equal(buffer, expected)


def test_special_values_are_copied_bit_for_bit() -> None:
    bits = torch.randint(-(2**31), 2**31 - 1, (2, 2, 3, 2, 9, 8), generator=torch.Generator().manual_seed(1))
    video, fill = bits.int().view(torch.float32)  # NaN payloads, infinities, subnormals, -0
    boxes, members, clips = make_rows(2, 5, 2, 9, 8, 1, 5)
    out, expected = torch.zeros(11, 3, 2, 9, 8), torch.zeros(11, 3, 2, 9, 8)
    occlude(video, fill, boxes, members, clips, out)
    reference.occlude(video, fill, boxes, members, clips, expected)
    assert torch.equal(out.view(torch.int32), expected.view(torch.int32))


def test_empty_boxes_hide_nothing() -> None:
    empty = [[5, 1, 5, 4], [1, 3, 6, 3], [6, 1, 2, 4], [2, 4, 5, 1], [7, 5, 7, 5]]
    boxes, members = torch.tensor(empty, dtype=torch.int32)[None, :, None], torch.arange(5).int()[:, None]
    video, clips = torch.randn(1, 2, 1, 5, 7, generator=torch.Generator().manual_seed(1)), torch.zeros(5).int()
    out = torch.full((5, 2, 1, 5, 7), torch.nan)
    occlude(video, video + 1, boxes, members, clips, out)
    assert torch.equal(out, video.expand_as(out))
    out.fill_(torch.nan)
    occlude_sampled(video, video + 1, boxes, members, clips, torch.ones(5, 1, 3, 3), out)
    assert torch.equal(out, video.expand_as(out))


def test_no_rows_are_no_work() -> None:
    video, boxes, none = torch.ones(1, 2, 1, 5, 7), torch.zeros(1, 3, 1, 4).int(), torch.zeros(0).int()
    out = torch.empty(0, 2, 1, 5, 7)
    occlude(video, video, boxes, none.reshape(0, 1), none, out)
    occlude_sampled(video, video, boxes, none.reshape(0, 1), none, torch.ones(0, 1, 3, 3), out)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        *COMMON,
        ("fill", VIDEO[:, :1], ValueError, f"fill {LIKE}"),
        ("video", VIDEO.half(), TypeError, "video must be torch.float32; got torch.float16"),
        ("fill", VIDEO.double(), TypeError, "fill must be torch.float32; got torch.float64"),
    ],
)
def test_occlude_refuses(name: str, value: Tensor, error: type[Exception], message: str) -> None:
    arguments = {"video": VIDEO, "fill": VIDEO, "boxes": BOXES, "members": MEMBERS, "clips": CLIPS, "out": OUT}
    with pytest.raises(error, match=re.escape(message)):
        occlude(**arguments | {name: value})
