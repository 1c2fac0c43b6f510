"""Segments of the user's own: scored as plain masks are in float64, whatever they were given as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aosa_fast import Explainer, Explanation, InputError, explain
from aosa_fast.kernels import reference
from small_nets import make_net, make_video

B, T, H, W = SHAPE = (2, 4, 32, 40)


def labels() -> tuple[Any, Tensor]:
    """Speckles, discs that move, and a label that the second clip lacks."""
    given = np.random.default_rng(0).integers(0, 2, SHAPE) * 9
    y, x = np.mgrid[:H, :W]
    for t in range(T):
        given[:, t][:, np.hypot(y - 9 - t, x - 12 - 3 * t) < 9] = 500
    given[0, 2, 20:, 5:11] = 4
    return given, torch.from_numpy(np.stack([given == name for name in (4, 9, 500)], 1))


def boxes() -> tuple[Any, Tensor]:
    """Beyond the frame, between the pixels, upside down, and missing."""
    given = torch.tensor([[[-9.0, 3.4, 5.6, 99.0], [2, 2, 2, 9], [30, 20, 20, 30], [1, 1, 2, 2]]]).repeat(3, 1, 1)
    given[1, :2], given[2, :, 2] = torch.nan, torch.inf
    masks = torch.zeros(B, 3, T, H, W, dtype=torch.bool)
    masks[:, 0, 0, 3:, :6] = masks[:, 2, 0, 3:, :] = masks[:, :, 3, 1, 1] = True
    masks[:, 2, 1, 2:9, 2:] = masks[:, 2, 2, 20:30, 30:] = masks[:, 2, 3, 1, 1:] = True
    return given, masks


def tracks() -> tuple[Any, Tensor]:
    """Of boxes of 6 x 4 pixels: from the middle out of the frame, and missing."""
    given = torch.tensor([[[20.2, 10], [39, 31], [39.5, 10], [0, 0]], [[5, 5]] * 4]).repeat(B, 1, 1, 1)
    given[1, 1, 1:3] = torch.nan
    masks = torch.zeros(B, 2, T, H, W, dtype=torch.bool)
    masks[:, 0, 0, 7:13, 18:22] = masks[:, 0, 1, 28:, 37:] = masks[:, 0, 3, :3, :2] = True
    masks[:, 1, :, 2:8, 3:7] = True
    masks[1, 1, 1:3] = False
    return given, masks


KINDS = {"labels": labels, "boxes": boxes, "tracks": tracks}


@pytest.mark.parametrize("kind", KINDS)
def test_within_a_budget_all_of_them_are_exact(kind: str) -> None:
    given, _ = KINDS[kind]()
    net, video = make_net(scale=5), make_video(B)
    exact, within = (explain(net, video, 2, segments=given, method="aosa", **o) for o in ({}, {"budget_ms": 1e6}))
    assert within.exact is not None
    assert within.exact.all()
    torch.testing.assert_close(within.scores, exact.scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["aosa", "aosa-approx", "aosa-path"])
def test_scores_and_map_are_those_of_plain_masks(method: str, kind: str) -> None:
    given, masks = KINDS[kind]()
    net, video = make_net(scale=5), make_video(B)
    found = explain(net, video, 2, segments=given, method=method, fill="mean", box=(6, 4))
    assert torch.equal(reference.tube_masks(found.boxes, found.members, H, W), masks)
    net, clips = make_net(scale=5).double(), video.double()

    def score(batch: Tensor) -> Tensor:
        return net(batch).softmax(-1)[:, 2]

    if method == "aosa":
        hidden = masks.unsqueeze(2)
        with torch.no_grad():
            scores = torch.stack([score(x) - score(x * ~m) for x, m in zip(clips[:, None], hidden, strict=True)])
    else:
        points = (torch.arange(8) + 0.5) / 8 if method == "aosa-path" else torch.ones(1)
        grad = sum(reference.gradient(score, clips * float(point)) for point in points) / len(points)
        relu = "none" if method == "aosa-path" else "element"
        field = reference.field(clips, grad, torch.zeros_like(clips), relu=relu)
        scores = (masks * field.unsqueeze(1)).sum((2, 3, 4))
    assert scores.abs().max() > 3e-4
    torch.testing.assert_close(found.scores.double(), scores, rtol=0, atol=1e-6)
    drawn = (masks * scores[:, :, None, None, None]).sum(1) / masks.shape[1]
    torch.testing.assert_close(found.saliency.double(), drawn, rtol=0, atol=1e-6)
    assert torch.equal(found.coverage, masks.sum(1, dtype=torch.int32))


def test_what_is_known_of_the_tubes(tmp_path: Path) -> None:
    given, masks = labels()
    net, video = make_net(), make_video(B)
    found = explain(net, video, 2, segments=torch.from_numpy(given), method="aosa")
    assert found.metadata["segments"] == {"kind": "labels", "labels": [4, 9, 500]}
    assert (found.metadata["config"]["flow"], found.config.partners) == ("none", 0)
    assert torch.equal(found.alive, masks.any(-1).any(-1))
    assert found.scores[1, 0] == pytest.approx(0, abs=1e-6)  # the label that this clip lacks
    y, x = np.nonzero(given[1, 2] == 500)
    assert found.tracks[1, 2, 2].tolist() == pytest.approx([x.mean(), y.mean()], abs=1e-4)
    assert torch.equal(found.tracks[0, 0], found.tracks[0, 0, 2:3].expand(T, 2))  # it rests where it is not alive
    found.save(tmp_path / "own.npz")
    read = Explanation.load(tmp_path / "own.npz")
    assert read.metadata == found.metadata
    other, expected = read.for_target(4), explain(net, video, 4, segments=given, method="aosa")
    torch.testing.assert_close(other.saliency, expected.saliency)
    again = explain(net, video, 2, segments=given, check=3, fill="mean").metadata["self_check"]["exact"]
    assert [r["exact"][r["tubes"].index(2)] for r in again] == pytest.approx(found.scores[:, 2].tolist(), abs=1e-6)


def test_segments_of_one_clip_serve_all_and_clips_may_have_their_own() -> None:
    given, _ = labels()
    net, video = make_net(), make_video(B)
    both = explain(net, video, 2, segments=given[0])
    for own in (given[:1], np.stack([given[0]] * 2)):
        clips = video[: len(own)]
        torch.testing.assert_close(explain(net, clips, 2, segments=own).scores, both.scores[: len(own)])
    assert explain(net, video[:1], 2, segments=given[0] > 0).metadata["segments"]["labels"] == [1]


def test_motion_tubes_take_segments_too() -> None:
    given, masks = labels()
    found = explain(make_net(), make_video(B), 2, segments=given, method="motion-tubes")
    assert found.relevance is not None
    expected = (masks * found.relevance.double().unsqueeze(1)).sum((2, 3, 4))
    torch.testing.assert_close(found.scores.double(), expected, rtol=1e-6, atol=0)


LABELS = labels()[0]
REFUSED: list[tuple[Callable[[], Any], dict[str, Any], str]] = [
    (lambda: [1], {}, "segments must be integer labels .* or tracks .*; got list$"),
    (
        lambda: LABELS[:, :3],
        {},
        r"segments must be integer labels .*, B=2, T=4, H=32, W=40; got int64 \(2, 3, 32, 40\)$",
    ),
    (lambda: LABELS * 0.5, {}, "segments must be integer labels .*; got float64"),
    (lambda: LABELS[:1], {}, r"segments must be of every clip, B=2; got \(1, 4, 32, 40\)$"),
    (lambda: LABELS - 1, {}, "segments must be labels from 0 on, 0 for none; got -1$"),
    (lambda: LABELS * 0, {}, "segments must have at least one label that is not 0; got none$"),
    (lambda: np.ones((3, 5, 4)), {}, r"segments must have the clip's frames, T=4; got 5 of \(3, 5, 4\)$"),
    (lambda: np.ones((0, 4, 2)), {}, r"segments must have at least one tube; got \(0, 4, 2\)$"),
    (lambda: np.ones((3, 4, 4)), {}, r"segments must have at least one tube that is in the frame; got none in"),
    (
        labels,
        {"method": "aosa-dual"},
        "segments must come with a method whose .*: aosa-approx, aosa, .*; got aosa-dual$",
    ),
    (labels, {"method": "grad-cam"}, "segments must come with a method whose tubes .*; got grad-cam$"),
    (labels, {"partners": 3}, "partners must be 0 or left out where segments are given; got 3$"),
    (labels, {"flow": "farneback"}, "flow must be left out where segments are given; got both$"),
]


@pytest.mark.parametrize(("given", "options", "message"), REFUSED)
def test_refuses(given: Callable[[], Any], options: dict[str, Any], message: str) -> None:
    segments = given()
    with pytest.raises(InputError, match=f"^{message}") as caught:
        explain(
            make_net(), make_video(B), 2, segments=segments[0] if isinstance(segments, tuple) else segments, **options
        )
    assert "\n" not in str(caught.value)


def test_a_warm_explainer_takes_segments_too() -> None:
    given, _ = labels()
    video = make_video(B)
    with Explainer(make_net(), frames=T, size=(H, W)) as explainer:
        found = explainer(video, 2, segments=given)
        plain = explain(make_net(), video, 2, segments=given, config=explainer.config)
    assert torch.equal(found.saliency, plain.saliency)
