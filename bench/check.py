"""Every operator against the float64 reference, at the sizes that are timed; no figure without this."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

import aosa_fast
from aosa_fast.bench.baselines import cosines, dense_scores_and_map, dense_whole, numpy_partners
from aosa_fast.bench.inputs import MEAN, STD, Operands, cell_weights, moving_frames, normalised, operands, random_tracks
from aosa_fast.kernels import reference
from aosa_fast.kernels.field import conditional_mean, field
from aosa_fast.kernels.occlude import occlude
from aosa_fast.kernels.partners import select_partners
from aosa_fast.kernels.saliency_map import saliency_map
from aosa_fast.kernels.tracking import rasterize_boxes
from aosa_fast.kernels.tube_overlaps import tube_overlaps
from aosa_fast.kernels.tube_scores import tube_scores


class MismatchError(Exception):
    """An operator does not do what its reference does: timing it would mean nothing."""


def close(name: str, got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    """The largest error within `tolerance` of the largest value; NaN never is, and a trivial reference neither."""
    scale = wanted.double().abs().max().item()
    error = (got.double() - wanted.double()).abs().max().item() / scale if scale > 0 else float("nan")
    if got.shape != wanted.shape or not error <= tolerance:
        raise MismatchError(f"{name}: error {error:.2e} of the largest value, must be at most {tolerance:.0e}")
    print(f"  {name:46} error {error:.1e} of the largest value")


def equal(name: str, got: Tensor, wanted: Tensor) -> None:
    """Bit for bit, with something in it."""
    if got.shape != wanted.shape or not torch.equal(got, wanted.to(got.dtype)) or not wanted.any():
        raise MismatchError(f"{name}: must equal the reference")
    print(f"  {name:46} equal")


def check_operators(quick: bool) -> None:
    """Raises MismatchError at the first operator that is wrong."""
    strides = (8,) if quick else (8, 4)
    print("\nChecks against the float64 reference")
    for stride in strides:
        _verify_operators(operands(stride), f"s={stride}")
        _verify_dense(operands(stride), f"s={stride}")
    _verify_partners()
    _verify_explain()


def _verify_operators(o: Operands, label: str) -> None:
    height, width = o.flow.shape[2:4]
    tracks, alive = reference.track_anchors(o.flow, o.stride)
    close(f"track_anchors {label}", o.tracks, tracks, 1e-6)
    equal(f"track_anchors alive {label}", o.alive, alive)
    equal(
        f"rasterize_boxes {label}",
        rasterize_boxes(o.tracks, o.alive, (o.box, o.box), height, width),
        reference.rasterize_boxes(o.tracks, o.alive, (o.box, o.box), height, width),
    )
    members = o.members.shape[2] - 1
    equal(f"select_partners {label}", o.members, reference.select_partners(o.tracks, members))
    close(f"conditional_mean {label}", conditional_mean(o.video), reference.conditional_mean(o.video))
    relevance = reference.field(o.video, o.grad)
    close(f"field {label}", field(o.video, o.grad), relevance)
    scores = reference.tube_scores(relevance.float(), o.boxes, o.members)
    close(f"tube_scores {label}", tube_scores(relevance.float(), o.boxes, o.members), scores)
    weights = cell_weights(relevance.float())
    wanted = reference.tube_overlaps(weights, o.boxes, o.members, 4)
    close(f"tube_overlaps {label}", tube_overlaps(weights, o.boxes, o.members), wanted)
    sums, coverage = saliency_map(scores.float(), o.boxes, o.members, height, width)
    wanted, count = reference.saliency_map(scores.float(), o.boxes, o.members, height, width)
    close(f"saliency_map {label}", sums, wanted)
    equal(f"coverage {label}", coverage, count)
    fill = conditional_mean(o.video)
    batch = torch.full((8, *o.video.shape[1:]), float("nan"))
    occlude(o.video, fill, o.boxes, o.members[0, -8:], torch.zeros(8, dtype=torch.int32), batch)
    rows = torch.full_like(o.members, -1)  # the reference makes a mask of every row: empty but for the timed ones
    rows[:, :8] = o.members[:, -8:]
    masks = reference.tube_masks(o.boxes, rows, height, width)[0, :8]
    equal(f"occlude {label}", batch, torch.where(masks.unsqueeze(1), fill, o.video))


def _verify_dense(o: Operands, label: str) -> None:
    relevance = field(o.video, o.grad)
    scores = tube_scores(relevance, o.boxes, o.members)
    sums = saliency_map(scores, o.boxes, o.members, *relevance.shape[2:])[0]
    ways: list[tuple[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]]] = [
        ("chunked", dense_scores_and_map),
        ("whole", dense_whole),
    ]
    for name, way in ways:
        dense_scores, dense_map = way(relevance[0], o.boxes[0], o.members[0])
        close(f"dense masks, {name}: scores {label}", dense_scores, scores[0], 1e-4)  # float32 sums
        close(f"dense masks, {name}: map {label}", dense_map, sums[0], 1e-4)


def _verify_partners() -> None:
    """At N = 784 against the reference; at 4096 against NumPy's choice, up to cosines that differ by a rounding."""
    tracks = random_tracks(784)
    equal("select_partners N=784 T=32", select_partners(tracks, 3), reference.select_partners(tracks, 3))
    for count in (784, 4096):
        tracks = random_tracks(count)
        ours, plain = select_partners(tracks, 3)[0].numpy(), numpy_partners(tracks[0].numpy(), 3)
        got, wanted = (torch.from_numpy(cosines(tracks[0].numpy(), m)) for m in (ours, plain))
        close(f"NumPy's partners N={count}: cosines", got, wanted, 1e-6)
        print(f"  {'':46} {np.mean(ours == plain):.2%} the same members")


def _verify_explain() -> None:
    """The whole of AOSA-approx on a network small enough for float64 references."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    frames = moving_frames()
    video = normalised(frames)
    found = aosa_fast.explain(model, video, method="aosa-approx", frames=frames, mean=MEAN, std=STD, stride=8)
    target = int(model(video).argmax())
    scores = reference.aosa_approx(lambda x: model(x).softmax(-1)[:, target], video, found.boxes, found.members)
    close("explain, AOSA-approx: scores", found.scores, scores)
    sums, coverage = reference.saliency_map(scores, found.boxes, found.members, *video.shape[3:])
    close("explain, AOSA-approx: map", found.saliency, reference.aggregate(sums, coverage, scores.shape[1]))
