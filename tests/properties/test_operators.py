"""Every operator does what its float64 reference says, on whatever shapes and numbers there may be."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aosa_fast.kernels import (
    farneback,
    field,
    occlude,
    partners,
    pictures,
    reference,
    saliency_map,
    tracking,
    tube_overlaps,
    tube_scores,
)
from drawn import clips, integers, pictures_of, tubes


@given(clips(), st.integers(0, 5))
def test_the_conditional_mean(video: Tensor, radius: int) -> None:
    expected = reference.conditional_mean(video, radius)
    torch.testing.assert_close(field.conditional_mean(video, radius).double(), expected, rtol=1e-5, atol=1e-5)


@given(clips(count=3), st.integers(0, 4), st.sampled_from(["element", "channel", "none", "eq8-literal"]), st.booleans())
def test_the_field(drawn: Tensor, radius: int, relu: str, filled: bool) -> None:
    video, grad, fill = drawn
    given_fill = fill if filled else None
    expected = reference.field(video, grad, given_fill, radius=radius, relu=relu)
    found = field.field(video, grad, given_fill, radius=radius, relu=relu)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@given(tubes(), st.randoms(use_true_random=False))
def test_scores_and_the_map(drawn: tuple[Tensor, Tensor, int, int], random: object) -> None:
    boxes, members, height, width = drawn
    B, N, T = boxes.shape[:3]
    relevance, scores = integers((B, T, height, width), random), integers((B, N), random)
    assert torch.equal(
        tube_scores.tube_scores(relevance, boxes, members).double(), reference.tube_scores(relevance, boxes, members)
    )
    total, coverage = saliency_map.saliency_map(scores, boxes, members, height, width)
    expected, covering = reference.saliency_map(scores, boxes, members, height, width)
    torch.testing.assert_close(total.double(), expected, rtol=1e-6, atol=1e-6 * float(scores.abs().max()) * N)
    assert torch.equal(coverage, covering)


@given(tubes(), st.randoms(use_true_random=False), st.sampled_from(["element", "none"]))
def test_field_and_scores_in_one(drawn: tuple[Tensor, Tensor, int, int], random: object, relu: str) -> None:
    boxes, members, height, width = drawn
    video, grad = integers((2, len(boxes), 2, boxes.shape[2], height, width), random)
    found, scores = field.field_scores(video, grad, boxes, members, relu=relu)
    expected, sums = reference.field_scores(video, grad, boxes, members, relu=relu)
    scale = float(expected.abs().max()) + 1e-6
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5 * scale)
    torch.testing.assert_close(scores.double(), sums, rtol=1e-4, atol=1e-5 * scale * height * width)


@given(tubes(side=8), st.sampled_from([1, 2, 4]), st.randoms(use_true_random=False))
def test_overlaps(drawn: tuple[Tensor, Tensor, int, int], cell: int, random: object) -> None:
    boxes, members, height, width = drawn
    cells = (-(-height // cell), -(-width // cell))
    weights = integers((len(boxes), boxes.shape[2], *cells), random).abs()
    expected = reference.tube_overlaps(weights, boxes, members, cell)
    found = tube_overlaps.tube_overlaps(weights, boxes, members, cell)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@given(tubes(), st.randoms(use_true_random=False), st.integers(0, 2))
def test_occlusion(drawn: tuple[Tensor, Tensor, int, int], random: object, radius: int) -> None:
    boxes, members, height, width = drawn
    (B, N, T), rows = boxes.shape[:3], members.flatten(0, 1)
    video, fill = integers((2, B, 2, T, height, width), random)
    owner = torch.arange(B).repeat_interleave(N).int()
    found, expected = torch.full((2, B * N, 2, T, height, width), torch.nan)
    occlude.occlude(video, fill, boxes, rows, owner, found)
    reference.occlude(video, fill, boxes, rows, owner, expected)
    assert torch.equal(found, expected)
    noise = integers((B * N, T, 2 * radius + 1, 2 * radius + 1), random) / 8
    mean = reference.conditional_mean(video, radius).float()
    occlude.occlude_sampled(video, mean, boxes, rows, owner, noise, found)
    reference.occlude_sampled(video, mean, boxes, rows, owner, noise, expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@given(pictures_of(), st.floats(-1, 2, width=32), st.floats(0.125, 2, width=32))
def test_pictures(frames: np.ndarray, mean: float, std: float) -> None:
    images = torch.from_numpy(frames[None])
    values = torch.tensor([mean, 0.5, 0.0]), torch.tensor([std, 1.0, 0.25])
    found = pictures.normalize_frames(images, *values)
    torch.testing.assert_close(found.double(), reference.normalize_frames(images, *values), rtol=1e-6, atol=1e-6)
    assert torch.equal(pictures.grey_frames(images), reference.grey_frames(images))


@given(
    st.integers(2, 4), st.integers(4, 20), st.integers(4, 20), st.integers(1, 6), st.integers(0, 3),
    st.floats(0, 12, width=32), st.randoms(use_true_random=False),
)  # fmt: skip
def test_tracks_boxes_and_partners(
    T: int, height: int, width: int, stride: int, reseed: int, speed: float, random: object
) -> None:
    flow = integers((2, T - 1, height, width, 2), random) * speed / 8
    tracks, alive = tracking.track_anchors(flow, stride, reseed)
    expected, living = reference.track_anchors(flow, stride, reseed)
    assert torch.equal(alive, living)
    torch.testing.assert_close(tracks.double(), expected, rtol=1e-6, atol=1e-5)
    boxes = tracking.rasterize_boxes(tracks, alive, (5, 4), height, width)
    assert torch.equal(boxes, reference.rasterize_boxes(tracks, alive, (5, 4), height, width))
    assert torch.equal(partners.select_partners(tracks, 3, 0.5), reference.select_partners(tracks, 3, 0.5))


@given(pictures_of(frames=(2, 3), side=(32, 48)), st.sampled_from([5, 7, 9]), st.integers(1, 3))
def test_the_flow(frames: np.ndarray, winsize: int, levels: int) -> None:
    grey = pictures.grey_frames(torch.from_numpy(frames[None]))
    found = farneback.farneback(grey, winsize=winsize, levels=levels)
    expected = reference.farneback(grey, winsize=winsize, levels=levels)
    # Where a picture has no texture the equations are singular: the median pixel says whether the flow is the same.
    assert float((found.double() - expected).abs().median()) < 1e-3
    assert torch.isfinite(found).all()
