"""Rendered scenes in which what moves most is not the answer, and what they can be rendered without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aosa_fast.data import open_dataset
from aosa_fast.demo import render_clip
from aosa_fast.demo.kinds import KINDS
from aosa_fast.errors import InputError
from aosa_fast.models import load


def ways(scene):
    """By name, how far each thing goes in each half of the clip, in sides of the frame."""
    halves = {}
    for thing in scene.things:
        steps = np.abs(np.diff(thing.path, axis=0)).sum(1)
        middle = len(steps) // 2
        halves[thing.name] = (steps[:middle].sum(), steps[middle + 1 :].sum())
    return halves


@pytest.mark.parametrize(("kind", "movers"), [("one", 1), ("colour", 3), ("shape", 3), ("still", 2)])
def test_so_many_things_move(kind, movers):
    scene = render_clip(5, kind=kind, distractors=2).scene
    assert sum(min(way) > 0.05 for way in ways(scene).values()) == movers
    assert scene.things[scene.answer].moves == (kind != "still")


def test_things_move_one_after_the_other():
    clip = render_clip(5, kind="order", distractors=2)
    moving = ways(clip.scene)
    assert moving["mover 0"][0] > 0.2 > moving["mover 0"][1] == 0
    assert moving["mover 1"][1] > 0.2 > moving["mover 1"][0] == 0
    assert clip.scene.answer == 0


def test_the_same_seed_differs_by_the_answer_alone():
    first, second = (render_clip(9, kind="still", label=label, noise=0.0) for label in (0, 3))
    boxes = [clip.scene.boxes(clip.scene.answer)[0] for clip in (first, second)]
    np.testing.assert_array_equal(*boxes)
    assert (first.frames != second.frames).any()


def test_a_thing_can_stand_still():
    scene = render_clip(2, kind="colour", distractors=0, noise=0.0).scene
    for number in range(3):
        scene = scene.stopped(number)
    frames = scene.render()
    np.testing.assert_array_equal(frames, np.broadcast_to(frames[:1], frames.shape))


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("rendered:3:kind=shape:pan=0.2", ["mover 0", "mover 1", "mover 2", "still 0", "still 1"]),
        ("planted:0", ["mover 0", "still 0", "still 1", "still 2"]),
    ],
)
def test_a_part_is_where_the_clip_changes_without_it(data, names):
    preprocessing = load("demo").preprocessing
    dataset = open_dataset(data)
    cues = set()
    for sample in dataset.samples[:6]:
        clip = dataset.read(sample, preprocessing)
        assert clip.parts is not None
        parts = clip.parts()
        assert [part.name for part in parts][: len(names)] == names
        cues |= {part.name for part in parts[len(names) :]}
        for part in parts:
            assert part.region.shape == clip.frames.shape[:3]
            np.testing.assert_array_equal((part.absent != clip.frames).any(3), part.region)
            assert (part.stopped is None) != part.name.startswith("mover")
    assert cues == ({"logo", "border", "flash", "object"} if data.startswith("planted") else set())


@pytest.mark.parametrize("kind", ["colour", "order", "still"])
def test_the_networks_know_their_scenes(kind):
    classifier, dataset = load(f"demo-scene:{kind}"), open_dataset(f"rendered:5:kind={kind}")
    assert classifier.class_names == dataset.class_names == KINDS[kind].classes
    clips = [dataset.read(sample, classifier.preprocessing).frames for sample in dataset.samples[:24]]
    with torch.no_grad():
        answers = classifier.network(torch.cat([classifier.preprocessing.to_input(clip) for clip in clips])).argmax(1)
    assert np.mean(answers.numpy() == [sample.label for sample in dataset.samples[:24]]) > 0.85


def test_unknown_kinds_are_refused():
    with pytest.raises(InputError, match="kind must be one of one, colour, shape, order, still; got cube"):
        render_clip(0, kind="cube")
    with pytest.raises(InputError, match=r"kind of rendered:kind=cube must be one of one, .*; got 'cube'"):
        open_dataset("rendered:kind=cube")
    with pytest.raises(InputError, match=r"model=demo-scene:cube must be demo-scene:KIND, KIND one of colour, "):
        load("demo-scene:cube")
