"""Maps of a stream's windows: those of `explain`, at one pair of frames' flow per frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aosa_fast import Explanation, InputError, StreamingExplainer, explain, models
from aosa_fast.methods.flow import optical_flow
from aosa_fast.models import Classifier
from aosa_fast.streams.explainer import StreamWarning
from small_nets import make_net, make_preprocessing


def make_frames(count: int, height: int = 40, width: int = 56, seed: int = 0) -> NDArray[np.uint8]:
    """(count, H, W, 3): a texture that moves by a pixel or two per frame."""
    texture = np.random.default_rng(seed).integers(0, 256, (height + 2 * count, width + count, 3), np.uint8)
    return np.stack([texture[2 * t : 2 * t + height, t : t + width] for t in range(count)])


def small(**fields: Any) -> Classifier:
    return Classifier(make_net(), make_preprocessing(**{"frames": 5, "crop": (32, 32), **fields}))


def push_all(stream: StreamingExplainer, frames: NDArray[np.uint8]) -> dict[int, Explanation]:
    """The maps by the number of frames that had been pushed."""
    found = {count: stream.push(frame) for count, frame in enumerate(frames, 1)}
    return {count: explanation for count, explanation in found.items() if explanation is not None}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"flow": "dis-fast"},
        {"compat": "authors2022"},
        {"method": "aosa"},
        {"method": "osa", "cuboid_area": 0.3, "cuboid_step": 16},
        {"method": "grad-cam"},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "default",
)
def test_maps_are_those_of_explain_for_the_newest_frames(options):
    classifier, frames = models.load("demo"), make_frames(24, 80, 72)
    options = {"stride": 16, "box": 9, **options}
    with StreamingExplainer(classifier, hop=4, **options) as stream:
        maps = push_all(stream, frames)
        config = stream.explainer.config
    assert list(maps) == [16, 20, 24]
    for count, ours in maps.items():
        plain = explain(classifier, torch.from_numpy(frames[None, count - 16 : count]), config=config)
        for name in ("saliency", "scores", "tracks", "boxes", "members", "coverage", "logits"):
            assert torch.equal(getattr(ours, name), getattr(plain, name)), name
        assert ours.metadata["config"] == plain.metadata["config"]
        assert ours.metadata["source"]["frame_indices"] == [*range(count - 16, count)]
    assert not torch.equal(maps[16].saliency, maps[20].saliency)


def test_each_frame_costs_the_flow_of_one_pair():
    asked: list[int] = []

    def flow(pair: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(pair))
        return np.ones((1, *pair.shape[1:3], 2), np.float32)

    with StreamingExplainer(small(), hop=2, flow=flow, stride=8) as stream:
        maps = push_all(stream, make_frames(11))
    assert list(maps) == [5, 7, 9, 11]
    assert asked == [2] * 10
    assert maps[11].metadata["config"]["flow"] == "the caller's array"
    # Tubes begin in the first frame of each window, where the anchors are, and move by (1, 1) per frame.
    for explanation in maps.values():
        assert explanation.tracks[0, 0].tolist() == [[4.0 + t, 4.0 + t] for t in range(5)]


def test_a_model_of_one_frame_needs_no_flow():
    classifier, frames = small(frames=1), make_frames(4, 32, 32)
    with StreamingExplainer(classifier, hop=2, stride=8) as stream:
        maps = push_all(stream, frames)
        plain = explain(classifier, torch.from_numpy(frames[None, 2:3]), config=stream.explainer.config)
    assert list(maps) == [1, 3]
    assert torch.equal(maps[3].saliency, plain.saliency)


def test_frames_between_two_windows_cost_nothing():
    asked: list[int] = []

    def flow(pair: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(pair))
        return optical_flow(pair[None]).numpy()[0]

    classifier, frames = small(), make_frames(105, 32, 32)
    with StreamingExplainer(classifier, hop=100, flow=flow, stride=8) as stream:
        maps = push_all(stream, frames)
        plain = explain(classifier, torch.from_numpy(frames[None, 100:]), config=stream.explainer.config)
    assert list(maps) == [5, 105]
    assert len(asked) <= 4 + 5
    assert torch.equal(maps[105].saliency, plain.saliency)


def test_frames_that_the_model_does_not_see_cost_nothing():
    asked: list[int] = []

    def flow(pair: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(pair))
        return np.zeros((1, *pair.shape[1:3], 2), np.float32)

    classifier, frames = small(stride=3), make_frames(19)
    with StreamingExplainer(classifier, hop=2, flow=flow, stride=8) as stream:
        maps = push_all(stream, frames)
    assert list(maps) == [13, 19]
    assert len(asked) == 6
    plain = explain(classifier, torch.from_numpy(frames[None, 6:19:3]), flow=np.zeros((1, 4, 32, 32, 2)), stride=8)
    assert torch.equal(maps[19].saliency, plain.saliency)
    assert maps[19].metadata["source"]["frame_indices"] == [6, 9, 12, 15, 18]


def test_another_size_begins_a_new_window_and_is_said():
    first, second = make_frames(6), make_frames(5, 48, 64)
    with StreamingExplainer(small(), hop=1, stride=8) as stream:
        assert list(push_all(stream, first)) == [5, 6]
        with pytest.warns(StreamWarning, match=r"^the window begins anew: frames of 64x48 after 56x40$"):
            assert stream.push(second[0]) is None
        maps = push_all(stream, second[1:])
        assert list(maps) == [4]
        assert maps[4].metadata["source"]["frame_indices"] == [6, 7, 8, 9, 10]
        stream.restart()
        assert list(push_all(stream, first)) == [5, 6]


def test_the_caller_may_write_over_a_frame():
    frames, buffer = make_frames(5, 32, 32), np.empty((32, 32, 3), np.uint8)
    with StreamingExplainer(small(), stride=8) as stream:
        for frame in frames:
            buffer[:] = frame
            explanation = stream.push(buffer)
    assert explanation is not None
    assert np.array_equal(explanation.frames[0], frames)


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(InputError, match=r"^model must come with its preprocessing, .*; got Sequential$"):
        StreamingExplainer(make_net())
    for hop in (0, 2.5):
        with pytest.raises(InputError, match=rf"^hop must be an integer, at least 1; got {hop}$"):
            StreamingExplainer(small(), hop=hop)
    with StreamingExplainer(small()) as stream:
        with pytest.raises(InputError, match=r"^frame must be uint8 of shape \(H, W, 3\); got float32 \(8, 8, 3\)$"):
            stream.push(np.zeros((8, 8, 3), np.float32))
        with pytest.raises(InputError, match=r"^frame must not be empty; got \(0, 8, 3\)$"):
            stream.push(np.zeros((0, 8, 3), np.uint8))
