from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.tracking import anchor_grid, rasterize_boxes, track_anchors
from track_cases import BEYOND, SIDES, TRACKS, broken, constant


@pytest.mark.parametrize(("flow", "stride", "reseed"), TRACKS)
def test_tracks_match_the_reference(flow: Tensor, stride: int, reseed: int) -> None:
    tracks, alive = track_anchors(flow, stride, reseed)
    expected, living = reference.track_anchors(flow, stride, reseed)
    assert living.any()
    assert expected.diff(dim=2).any() == (living[:, :, 1:].any() and flow.any())
    # No position of these clips comes within 1e-9 of a border, or it is on it: what leaves is the same to the frame.
    assert torch.equal(alive, living)
    # Worst measured: 1.9e-6, the rounding of the result to float32.
    torch.testing.assert_close(tracks.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("H", "W", "stride", "count"), [(112, 112, 8, 196), (112, 112, 4, 784), (256, 256, 10, 676)])
def test_the_papers_grids(H: int, W: int, stride: int, count: int) -> None:
    grid = anchor_grid(H, W, stride)
    assert grid.dtype == np.float32
    assert len(grid) == count
    assert np.array_equal(grid, reference.anchor_grid(H, W, stride).numpy())


def test_grid_by_hand() -> None:
    assert anchor_grid(7, 11, 4).tolist() == [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6]]
    assert anchor_grid(2, 3, 1).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert anchor_grid(4, 4, 3).tolist() == [[1, 1]]
    with pytest.raises(ValueError, match="must be at least 1; got 4, 5 and 0"):
        anchor_grid(4, 5, 0)
    with pytest.raises(ValueError, match="must be at least 1; got 0, 5 and 2"):
        anchor_grid(0, 5, 2)
    for H, W in ((3, 9), (9, 3)):
        with pytest.raises(
            ValueError, match=f"stride must leave an anchor in the {H}x{W} frame, at stride // 2; got 6"
        ):
            anchor_grid(H, W, 6)


def test_integer_flow_by_hand() -> None:
    tracks, alive = track_anchors(constant(2.0, -1.0, 3, 5, 9), 4)
    assert tracks[0].tolist() == [
        [[2, 2], [4, 1], [6, 0], [6, 0]],  # the third step would leave at the top
        [[6, 2], [8, 1], [8, 1], [8, 1]],  # x = W-1 stays, the second step leaves on the right
    ]
    assert alive[0].tolist() == [[True, True, True, False], [True, True, False, False]]


def test_bilinear_look_up_by_hand() -> None:
    flow = torch.zeros(1, 2, 3, 4, 2)
    flow[0, 0] = torch.tensor([0.25, 0.5])
    flow[0, 1, 1, 1], flow[0, 1, 1, 2] = torch.tensor([0.5, 0.0]), torch.tensor([0.0, 1.0])
    flow[0, 1, 2, 1], flow[0, 1, 2, 2] = torch.tensor([0.0, -0.25]), torch.tensor([1.0, 0.0])
    tracks, _ = track_anchors(flow, 3)  # from (1, 1) to (1.25, 1.5): weights 3/8, 1/8, 3/8, 1/8
    assert tracks[0, 0].tolist() == [[1, 1], [1.25, 1.5], [1.25 + 3 / 16 + 1 / 8, 1.5 + 1 / 8 - 3 / 32]]


def test_slow_motion_is_followed() -> None:
    tracks, alive = track_anchors(constant(0.4, 0.0, 15, 20, 36), 8)
    assert alive.all()
    torch.testing.assert_close(tracks[:, :, -1, 0] - tracks[:, :, 0, 0], torch.full((1, 8), 6.0), rtol=0, atol=1e-5)
    boxes = rasterize_boxes(tracks, alive, (4, 4), 20, 36)
    assert boxes[0, 0, :, 0].tolist() == [2 + round(0.4 * t) for t in range(16)]


@pytest.mark.parametrize("rate", [0.1, -0.15])
def test_diverging_flow_has_a_closed_form(rate: float) -> None:
    ys, xs = torch.meshgrid(torch.arange(21.0) - 10, torch.arange(31.0) - 15, indexing="ij")
    flow = (rate * torch.stack([xs, ys], dim=-1)).expand(1, 6, 21, 31, 2)
    tracks, alive = track_anchors(flow, 6)
    growth = (1 + rate) ** torch.arange(7.0)[:, None]
    centre = torch.tensor([15.0, 10.0])
    expected = centre + (tracks[:, :, :1] - centre) * growth
    inside = ((expected >= 0) & (expected <= 2 * centre)).all(-1)
    assert torch.equal(alive, inside)
    assert inside[:, :, -1].any()
    assert inside.all() == (rate < 0)
    # Worst measured: 1.9e-6.
    torch.testing.assert_close(tracks[alive], expected[alive], rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_the_border_itself_is_inside(side: str) -> None:
    for distance, stays in ((4.0, True), (BEYOND, False)):
        dx, dy = (distance * axis for axis in SIDES[side])
        tracks, alive = track_anchors(constant(dx, dy, 2, 9, 9), 9)
        assert alive[0, 0].tolist() == [True, stays, False]
        last = [4 + dx, 4 + dy] if stays else [4, 4]
        assert tracks[0, 0].tolist() == [[4, 4], last, last]  # the dead keep their last position inside


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_flow_that_is_not_finite_ends_a_track_for_good(value: float, axis: int) -> None:
    tracks, alive = track_anchors(broken(value, axis), 10)
    assert alive[0].tolist() == [[True, True, False, False, False], [True] * 5]
    assert tracks[0, 0].tolist() == [[5, 5], [6, 5], [6, 5], [6, 5], [6, 5]]
    assert tracks[0, 1, :, 0].tolist() == [15, 16, 17, 18, 19]


def test_reseed_by_hand() -> None:
    tracks, alive = track_anchors(constant(1.0, 0.0, 4, 8, 8), 8, reseed=2)
    assert tracks[0, :, :, 0].tolist() == [[4, 5, 6, 7, 7], [4, 4, 4, 5, 6], [4, 4, 4, 4, 4]]
    living = [[True, True, True, True, False], [False, False, True, True, True], [False, False, False, False, True]]
    assert alive[0].tolist() == living
    assert track_anchors(constant(1.0, 0.0, 3, 8, 8), 8, reseed=2)[0].shape == (1, 2, 4, 2)


@pytest.mark.parametrize("box", [(1, 1), (2, 3), (16, 8), (99, 5), (5, 99)], ids=str)
def test_boxes_match_the_reference(box: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    tracks = torch.rand(2, 30, 4, 2, generator=generator) * torch.tensor([22.0, 16.0])
    tracks[:, ::2] = (tracks[:, ::2] * 2).round() / 2  # whole and half pixels
    alive = torch.rand(2, 30, 4, generator=generator) < 0.8
    boxes = rasterize_boxes(tracks, alive, box, 17, 23)
    assert boxes.dtype == torch.int32
    assert torch.equal(boxes, reference.rasterize_boxes(tracks, alive, box, 17, 23))
    assert torch.equal((boxes[..., 2:] > boxes[..., :2]).all(-1), alive)


def test_boxes_by_hand() -> None:
    points = [[5.5, 4.0], [6.5, 4.0], [5.49, 4.51], [0.0, 0.0], [11.0, 9.0], [0.5, 8.5]]
    tracks, alive = torch.tensor(points).reshape(1, 1, 6, 2), torch.ones(1, 1, 6, dtype=torch.bool)
    boxes = rasterize_boxes(tracks, alive, (4, 3), 10, 12)[0, 0].tolist()
    expected = [[5, 2, 8, 6], [5, 2, 8, 6], [4, 3, 7, 7], [0, 0, 2, 2], [10, 7, 12, 10], [0, 6, 2, 10]]
    assert boxes == expected
    assert not rasterize_boxes(tracks, ~alive, (4, 3), 10, 12).any()
    assert rasterize_boxes(tracks, alive, (50, 50), 10, 12)[0, 0].tolist() == [[0, 0, 12, 10]] * 6


def test_boxes_anywhere_are_clipped_to_the_frame() -> None:
    points = [[-9, 5], [-1, 5], [40, 5], [3e38, -3e38], [torch.inf, 5], [-torch.inf, 5], [torch.nan, 5], [2.0**31, 5]]
    tracks, alive = torch.tensor(points).reshape(1, 1, 8, 2), torch.ones(1, 1, 8, dtype=torch.bool)
    for box in ((4, 4), (4, 2**31 - 1)):
        boxes = rasterize_boxes(tracks, alive, box, 10, 12)
        assert torch.equal(boxes, reference.rasterize_boxes(tracks, alive, box, 10, 12))
        for x0, y0, x1, y1 in boxes[0, 0].tolist():
            assert 0 <= x0 <= x1 <= 12
            assert 0 <= y0 <= y1 <= 10
    assert rasterize_boxes(tracks, alive, (4, 4), 10, 12)[0, 0, :2].tolist() == [[0, 3, 0, 7], [0, 3, 1, 7]]


FLOW, TRACKS, ALIVE = torch.zeros(1, 3, 8, 9, 2), torch.zeros(1, 2, 4, 2), torch.ones(1, 2, 4, dtype=torch.bool)


def test_refuses() -> None:
    for shape in ((3, 8, 9, 2), (1, 3, 8, 9, 3)):
        with pytest.raises(ValueError, match=r"flow must have shape \(B, S, H, W, 2\).*; got " + re.escape(str(shape))):
            track_anchors(torch.zeros(shape), 4)
    with pytest.raises(TypeError, match=r"flow must be torch\.float32; got torch\.float64"):
        track_anchors(FLOW.double(), 4)
    with pytest.raises(ValueError, match="stride must leave an anchor in the 8x9 frame"):
        track_anchors(FLOW, 16)
    with pytest.raises(ValueError, match="reseed must be at least 0; got -1"):
        track_anchors(FLOW, 4, -1)
    with pytest.raises(
        ValueError, match=re.escape("alive must have shape (B, N, T) with B=1, N=2, T=4; got (1, 2, 3)")
    ):
        rasterize_boxes(TRACKS, ALIVE[..., :3], (4, 4), 8, 9)
    with pytest.raises(TypeError, match=r"tracks must be torch\.float32; got torch\.float64"):
        rasterize_boxes(TRACKS.double(), ALIVE, (4, 4), 8, 9)
    with pytest.raises(TypeError, match=r"alive must be torch\.bool; got torch\.uint8"):
        rasterize_boxes(TRACKS, ALIVE.byte(), (4, 4), 8, 9)
    with pytest.raises(ValueError, match="arguments must be on one device"):
        rasterize_boxes(TRACKS, ALIVE.to("meta"), (4, 4), 8, 9)
    for box in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match=re.escape(f"box must be at least 1 pixel high and wide; got {box}")):
            rasterize_boxes(TRACKS, ALIVE, box, 8, 9)
    for size, name in (((0, 9), "height"), ((8, 0), "width")):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
            rasterize_boxes(TRACKS, ALIVE, (4, 4), *size)
