"""The Triton twins of the occluded batch, in the interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from occlude_cases import CASES, DTYPES, FORMATS, Shape, make_rows, sampled_inputs, sampled_reference

pytest.importorskip("triton")

from aosa_fast.kernels import occlude_triton as twins
from aosa_fast.kernels import reference


def tubes(n: int, shape: Shape, K: int, box: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of one size, members, and clips for n rows."""
    B, _, T, H, W = shape
    low = (torch.rand(B, 9, T, 2) * torch.tensor([W - box + 1, H - box + 1])).int()
    members = (torch.arange(n * (K + 1)) % 9).reshape(n, K + 1).int()
    return torch.cat([low, low + box], dim=-1), members, (torch.arange(n) % B).int()


def launch(n: int, shape: Shape, K: int, box: int, form: list[object], radius: int | None = None) -> None:
    memory_format, dtype = form
    out = torch.empty((n, *shape[1:]), dtype=dtype, memory_format=memory_format)
    if radius is None:
        video = torch.zeros(shape, dtype=dtype)
        return twins.occlude(video, video, *tubes(n, shape, K, box), out)
    video, noise = torch.zeros(shape), torch.zeros(n, shape[2], 2 * radius + 1, 2 * radius + 1)
    return twins.occlude_sampled(video, video, *tubes(n, shape, K, box), noise, out)


FLOATS = [torch.contiguous_format, torch.float32]
HALVES = [torch.channels_last_3d, torch.bfloat16]
# What test_compile.py compiles.
LAUNCHES = {
    "paper": lambda: launch(8, (1, 3, 16, 112, 112), 3, 16, FLOATS),
    "slowfast": lambda: launch(2, (2, 3, 32, 256, 256), 3, 20, HALVES),
    "timesformer": lambda: launch(2, (1, 3, 8, 224, 224), 3, 16, [torch.channels_last_3d, torch.float16]),
    "doubles": lambda: launch(2, (1, 3, 8, 224, 224), 3, 16, [torch.contiguous_format, torch.float64]),
    "odd": lambda: launch(2, (2, 3, 3, 37, 53), 2, 9, HALVES),
    "smallest": lambda: launch(1, (1, 1, 1, 1, 1), 0, 1, FLOATS),
    "sampled": lambda: launch(8, (1, 3, 16, 112, 112), 3, 16, FLOATS, 4),
    "sampled-slowfast": lambda: launch(2, (2, 3, 32, 256, 256), 3, 20, HALVES, 4),
    "sampled-timesformer": lambda: launch(2, (1, 3, 8, 224, 224), 3, 16, [torch.channels_last_3d, torch.float16], 4),
    "sampled-odd": lambda: launch(2, (2, 3, 3, 37, 53), 2, 9, HALVES, 20),
    "sampled-smallest": lambda: launch(1, (1, 1, 1, 1, 1), 0, 1, FLOATS, 1),
    "sampled-by-nothing": lambda: launch(1, (1, 3, 1, 37, 53), 0, 1, FLOATS, 0),
}


# The interpreter is slow, 10 ms for a program and 2 ms for each shift of a draw: a case has two rows here, and there is
# one case for other dtypes than float32 and for larger radii.
COPIED = [pytest.param(*case.values, torch.float32, id=case.id) for case in CASES]
COPIED += [pytest.param((2, 3, 1, 9, 8), 5, 1, 4, dtype, id=str(dtype)) for dtype in DTYPES]
SAMPLED = [pytest.param(*case.values, 1, id=case.id) for case in CASES]
SAMPLED += [pytest.param((1, 2, 1, 14, 16), 2, 0, 99, radius, id=f"radius-{radius}") for radius in (0, 2, 4, 9)]


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels-last"])
@pytest.mark.parametrize(("shape", "N", "K", "largest", "dtype"), COPIED)
def test_every_bit_is_the_reference(
    shape: Shape, N: int, K: int, largest: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(1)
    video, fill = torch.randn(2, *shape, generator=generator).to(dtype)
    boxes, members, clips = make_rows(shape[0], N, *shape[2:], K, largest)
    members, clips = members[:2], clips[:2]
    expected = torch.full((len(clips), *shape[1:]), torch.nan, dtype=dtype)
    out = expected.clone(memory_format=memory_format)
    twins.occlude(video, fill, boxes, members, clips, out)
    reference.occlude(video, fill, boxes, members, clips, expected)
    assert (expected != video[clips]).any()
    assert torch.equal(out, expected)
    assert out.is_contiguous(memory_format=memory_format)


def test_special_values_are_copied_bit_for_bit() -> None:
    bits = torch.randint(-(2**31), 2**31 - 1, (2, 2, 3, 2, 9, 8), generator=torch.Generator().manual_seed(1))
    video, fill = bits.int().view(torch.float32)  # NaN payloads, infinities, subnormals, -0
    boxes, members, clips = make_rows(2, 5, 2, 9, 8, 1, 5)
    out, expected = torch.zeros(11, 3, 2, 9, 8), torch.zeros(11, 3, 2, 9, 8)
    twins.occlude(video, fill, boxes, members, clips, out)
    reference.occlude(video, fill, boxes, members, clips, expected)
    assert torch.equal(out.view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels-last"])
@pytest.mark.parametrize(("shape", "N", "K", "largest", "radius"), SAMPLED)
def test_sampled_matches_the_reference(
    shape: Shape, N: int, K: int, largest: int, radius: int, memory_format: torch.memory_format
) -> None:
    video, mean, boxes, members, clips, noise = sampled_inputs(shape, N, K, largest, radius)
    members, clips, noise = members[:2], clips[:2], noise[:2]
    expected = sampled_reference(video, mean, boxes, members, clips, noise)
    result = torch.full_like(expected, torch.nan, dtype=torch.float32, memory_format=memory_format)
    twins.occlude_sampled(video, mean, boxes, members, clips, noise, result)
    # Worst measured: 2.6e-6 at radius 9, 6.5e-7 at radius 1, for values up to 7.
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)
    masks = reference.tube_masks(boxes[clips], members.unsqueeze(1), *video.shape[3:]).expand_as(result)
    assert torch.equal(result[~masks], video[clips][~masks])


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sampled_draws_are_rounded_to_the_output(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    arguments = sampled_inputs((1, 2, 1, 9, 11), 1, 0, 6, 1)
    expected = torch.empty(len(arguments[4]), *arguments[0].shape[1:])
    twins.occlude_sampled(*arguments, expected)
    out = torch.full_like(expected, torch.nan, dtype=dtype, memory_format=memory_format)
    twins.occlude_sampled(*arguments, out)
    # To bfloat16, a GPU rounds to the nearest, as torch does, but the interpreter cuts off: one unit in the last place.
    torch.testing.assert_close(out, expected.to(dtype), rtol=2**-7 if dtype == torch.bfloat16 else 0, atol=0)


@pytest.mark.parametrize("y", [33, 34, 35])
def test_a_box_on_the_edge_of_a_block_is_filled_whole(y: int) -> None:
    # 1024 and 512 elements end in row 34 and in row 17.
    video, boxes = torch.zeros(1, 1, 1, 40, 30), torch.tensor([[[[0, y, 30, y + 1]], [[0, y // 2, 30, y // 2 + 1]]]])
    members, clips = torch.tensor([[0, 1]]).int(), torch.zeros(1).int()
    expected = torch.zeros_like(video)
    expected[..., [y, y // 2], :] = 1
    for operator, extra in ((twins.occlude, []), (twins.occlude_sampled, [torch.zeros(1, 1, 1, 1)])):
        out = torch.full_like(video, torch.nan)
        operator(video, video + 1, boxes.int(), members, clips, *extra, out)
        assert torch.equal(out, expected)


def test_the_centre_of_the_noise_is_not_used() -> None:
    *arguments, noise = sampled_inputs((1, 2, 1, 5, 6), 2, 0, 9, 1)
    results = []
    for centre in (0.0, torch.nan):
        noise[..., 1, 1] = centre
        results.append(torch.full((3, 2, 1, 5, 6), torch.nan))
        twins.occlude_sampled(*arguments, noise, results[-1])
    assert torch.equal(*results)
    assert not torch.isnan(results[0]).any()


def test_any_layout_gives_the_same_bits_and_so_does_a_row_alone() -> None:
    video, mean, boxes, *rows = sampled_inputs((2, 2, 1, 9, 11), 2, 2, 6, 1)
    members, clips, noise = (a[:3] for a in rows)
    assert clips.unique().tolist() == [0, 1]
    turned = [a.transpose(0, -1).contiguous().transpose(0, -1) for a in (video, mean, boxes, members, noise)]
    pairs = torch.stack([clips, clips + 1], dim=-1)[:, 0]
    assert not any(a.is_contiguous() for a in (*turned, pairs))
    shape = (len(clips), *video.shape[1:])
    for memory_format in FORMATS:
        for operator, extra in ((twins.occlude, []), (twins.occlude_sampled, [noise])):
            outs = [torch.full(shape, torch.nan).clone(memory_format=memory_format) for _ in range(4)]
            operator(video, mean, boxes, members, clips, *extra, outs[0])
            operator(video, mean, boxes, members, clips, *extra, outs[1])
            operator(*turned[:4], pairs, *turned[4:][: len(extra)], outs[2])
            for i, b in enumerate(clips.tolist()):
                own, row = slice(b, b + 1), slice(i, i + 1)
                alone = [a[own] for a in (video, mean, boxes)]
                operator(*alone, members[row], clips[row] * 0, *(a[row] for a in extra), outs[3][row])
            assert not torch.equal(outs[0], video[clips])
            assert all(torch.equal(outs[0], other) for other in outs[1:])


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels-last"])
def test_nothing_outside_of_the_arguments_is_used(memory_format: torch.memory_format) -> None:
    B, C, T, H, W = shape = (1, 2, 1, 5, 6)
    video, fill = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[-9, -1, 3, 2], [2, 3, 99, 2**31 - 1], [-(2**30) - 1, 4, 2**31 - 1, 5]]).int()
    boxes = boxes[None, :, None].expand(B, 3, T, 4)
    members = torch.tensor([[0, 3], [1, 2**30], [2, -9], [0, 1], [0, 1]]).int()
    clips = torch.tensor([0, 0, 0, 1, -1]).int()
    noise = torch.randn(5, T, 3, 3, generator=torch.Generator().manual_seed(2))
    inside = torch.tensor([[0, 0, 3, 2], [2, 3, 6, 5], [0, 4, 6, 5]]).int()[None, :, None].expand(B, 3, T, 4)
    good = (inside, torch.tensor([[0], [1], [2]]).int(), clips[:3])
    for operator, extra in ((twins.occlude, []), (twins.occlude_sampled, [noise])):
        out = torch.zeros(5, C, T, H, W).contiguous(memory_format=memory_format)
        expected = torch.zeros_like(out[:3])
        operator(video, fill, boxes, members, clips, *extra, out)
        operator(video, fill, *good, *(a[:3] for a in extra), expected)
        assert torch.equal(out[:3], expected)
        assert (expected != video).flatten(1).any(1).all()
        assert torch.isnan(out[3:]).all()


@pytest.mark.parametrize("shape", [(0, 2, 1, 5, 7), (3, 0, 1, 5, 7), (3, 2, 1, 0, 7)], ids=str)
def test_nothing_to_write_is_no_launch(shape: Shape) -> None:
    n, C, T, H, W = shape
    video, out = torch.zeros(1, C, T, H, W), torch.empty(shape)
    boxes, members, clips = torch.zeros(1, 3, T, 4).int(), torch.zeros(n, 1).int(), torch.zeros(n).int()
    twins.occlude(video, video, boxes, members, clips, out)
    twins.occlude_sampled(video, video, boxes, members, clips, torch.zeros(n, T, 3, 3), out)


def test_no_tubes_hide_nothing() -> None:
    video = torch.randn(1, 2, 1, 5, 7, generator=torch.Generator().manual_seed(1))
    none, clips = torch.zeros(2, 0).int(), torch.zeros(2).int()
    for members in (none, torch.full((2, 3), -1).int(), torch.zeros(2, 1).int()):
        for operator, extra in ((twins.occlude, []), (twins.occlude_sampled, [torch.ones(2, 1, 3, 3)])):
            out = torch.full((2, 2, 1, 5, 7), torch.nan)
            operator(video, video + 1, torch.zeros(1, 0, 1, 4).int(), members, clips, *extra, out)
            assert torch.equal(out, video.expand_as(out))
