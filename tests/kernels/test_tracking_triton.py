"""The Triton twins of the tracks and the boxes, in the interpreter: the CPU's bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from track_cases import TRACKS, make_flow

pytest.importorskip("triton")

from aosa_fast.kernels import reference, tracking, tracking_triton


def launch_tracks(shape: tuple[int, int, int, int], stride: int, reseed: int = 0) -> Any:
    B, T, H, W = shape
    return tracking_triton.track_anchors(torch.zeros(B, T - 1, H, W, 2), stride, reseed)


def launch_boxes(count: int, T: int, box: tuple[int, int], H: int, W: int) -> Any:
    alive = torch.zeros(1, count, T, dtype=torch.bool)
    return tracking_triton.rasterize_boxes(torch.zeros(1, count, T, 2), alive, *box, H, W)


# What test_compile.py compiles.
LAUNCHES = {
    "paper": lambda: (launch_tracks((1, 16, 112, 112), 8), launch_boxes(196, 16, (16, 16), 112, 112)),
    "dense": lambda: (launch_tracks((1, 16, 112, 112), 4), launch_boxes(784, 16, (8, 8), 112, 112)),
    "slowfast": lambda: (launch_tracks((2, 32, 256, 256), 10), launch_boxes(676, 32, (20, 20), 256, 256)),
    "x3d": lambda: (launch_tracks((1, 8, 224, 224), 16, 4), launch_boxes(196, 8, (32, 32), 224, 224)),
    "odd": lambda: (launch_tracks((3, 5, 17, 23), 4, 2), launch_boxes(7, 3, (5, 99), 17, 23)),
    "one": lambda: (launch_tracks((1, 1, 1, 1), 1, 1), launch_boxes(1, 1, (1, 1), 1, 1)),
}


def same(results: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    """Equal in every bit, shape and dtype."""
    pairs = zip(results, expected, strict=True)
    return all(a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("flow", "stride", "reseed"), TRACKS)
def test_tracks_have_the_bits_of_the_cpu(flow: Tensor, stride: int, reseed: int) -> None:
    results = tracking_triton.track_anchors(flow, stride, reseed)
    assert same(results, tracking.track_anchors(flow, stride, reseed))


@pytest.mark.parametrize("seed", range(4))
def test_tracks_through_noise_have_the_bits_of_the_cpu(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    flow = torch.randn(2, 9, 31, 27, 2, generator=generator) * 3
    results, expected = tracking_triton.track_anchors(flow, 3, 0), tracking.track_anchors(flow, 3)
    assert same(results, expected)
    assert 0.05 < expected[1][:, :, -1].float().mean() < 0.95
    # The bits depend on a product and a sum that are rounded apart, and on float64.
    assert (expected[0].diff(dim=2) != 0).float().mean() > 0.3


def test_on_the_last_row_and_column_nothing_beyond_is_read() -> None:
    flow = torch.full((1, 2, 5, 5, 2), torch.nan)
    flow[:, :, 4, 4] = 0
    assert tracking_triton.track_anchors(flow, 8, 0)[1].all()


def test_every_rounding_is_the_cpus() -> None:
    # One anchor in each of 16 clips. Two steps, a step back, then two that take away what float32 holds of its place:
    # what is left are the roundings of the look-up that stepped back.
    flow = torch.rand(16, 5, 16, 16, 2, generator=torch.Generator().manual_seed(0))
    flow[:, 2] -= 8
    for t in (3, 4):
        tracks, _ = tracking.track_anchors(flow[:, :t], 16)
        flow[:, t] = -tracks[:, 0, t].nextafter(torch.tensor(0.0))[:, None, None]
    results, expected = tracking_triton.track_anchors(flow, 16, 0), tracking.track_anchors(flow, 16)
    assert expected[1].all()
    assert 1e-16 < expected[0][:, :, 5].median() < 1e-12
    assert same(results, expected)


def test_tracks_of_other_memory_orders_of_one_clip_and_again() -> None:
    flow = make_flow(3, 5, 17, 23, 0.7)
    results = tracking_triton.track_anchors(flow, 4, 2)
    assert same(results, tracking_triton.track_anchors(flow, 4, 2))
    turned = flow.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    assert not turned.is_contiguous()
    assert same(results, tracking_triton.track_anchors(turned, 4, 2))
    assert not torch.equal(results[0][0], results[0][1])
    for b in range(3):
        single = tracking_triton.track_anchors(flow[b : b + 1], 4, 2)
        assert same(single, (results[0][b : b + 1], results[1][b : b + 1]))
    assert tracking_triton.track_anchors(flow[:0], 4, 2)[1].shape == (0, *results[1].shape[1:])


@pytest.mark.parametrize("box", [(1, 1), (2, 3), (16, 8), (99, 5), (5, 99)], ids=str)
def test_boxes_equal_the_cpus(box: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    tracks = torch.rand(2, 30, 4, 2, generator=generator) * torch.tensor([22.0, 16.0])
    tracks[:, ::2] = (tracks[:, ::2] * 2).round() / 2  # whole and half pixels
    alive = torch.rand(2, 30, 4, generator=generator) < 0.8
    boxes = tracking_triton.rasterize_boxes(tracks, alive, *box, 17, 23)
    assert torch.equal((boxes[..., 2:] > boxes[..., :2]).all(-1), alive)
    tracks[0, 0], alive[0, 0] = torch.tensor([[-9.0, 99], [3e38, -3e38], [torch.nan, 5], [torch.inf, 2.0**31]]), True
    boxes = tracking_triton.rasterize_boxes(tracks, alive, *box, 17, 23)
    assert boxes.dtype == torch.int32
    assert torch.equal(boxes, tracking.rasterize_boxes(tracks, alive, box, 17, 23))
    assert torch.equal(boxes, reference.rasterize_boxes(tracks, alive, box, 17, 23))
    turned = tracks.transpose(1, 2).contiguous().transpose(1, 2), alive.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(boxes, tracking_triton.rasterize_boxes(*turned, *box, 17, 23))


def test_halves_round_to_even() -> None:
    # Every half up to 300, and its neighbours in float32.
    halves = torch.arange(600.0) / 2
    beside = [halves.nextafter(torch.tensor(value)) for value in (-1.0, 1e9)]
    tracks = torch.cat([halves, *beside]).clamp(min=0).reshape(1, 1, -1, 1).expand(1, 1, -1, 2)
    alive = torch.ones(tracks.shape[:3], dtype=torch.bool)
    boxes = tracking_triton.rasterize_boxes(tracks, alive, 1, 1, 400, 400)
    assert torch.equal(boxes[0, 0, :, :2], tracks[0, 0].round().int())
    assert torch.equal(boxes, tracking.rasterize_boxes(tracks, alive, (1, 1), 400, 400))


def test_no_anchors_make_no_boxes() -> None:
    tracks, alive = torch.zeros(1, 0, 4, 2), torch.zeros(1, 0, 4, dtype=torch.bool)
    assert tracking_triton.rasterize_boxes(tracks, alive, 4, 4, 8, 9).shape == (1, 0, 4, 4)
