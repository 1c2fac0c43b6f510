from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from aosa_fast.data import Dataset, Sample, match_labels, open_dataset
from aosa_fast.demo import CLASS_NAMES, render_clip
from aosa_fast.demo.planted import make_plan, render_planted
from aosa_fast.errors import InputError
from small_nets import make_preprocessing


def fake(counts: dict[str, int]) -> Dataset:
    names = tuple(counts)
    samples = [Sample(f"{name}/{i}", name, label) for label, name in enumerate(names) for i in range(counts[name])]
    return Dataset("fake", names, tuple(samples))


def ids(dataset: Dataset, name: str = "") -> list[str]:
    return [sample.id for sample in dataset.samples if sample.id.startswith(name)]


def test_per_class_is_seeded_and_each_class_has_its_own_stream():
    small = fake({"b": 30, "d": 30})
    large = fake({"a": 9, "b": 30, "c": 2, "d": 30})
    chosen = small.select(per_class=5, seed=3)
    assert Counter(name.split("/")[0] for name in ids(chosen)) == {"b": 5, "d": 5}
    assert ids(chosen) == ids(small.select(per_class=5, seed=3))
    assert ids(chosen, "b") != ids(small.select(per_class=5, seed=4), "b")
    # The two streams differ, too.
    assert [name[2:] for name in ids(chosen, "b")] != [name[2:] for name in ids(chosen, "d")]
    of_large = large.select(per_class=5, seed=3)
    for name in "bd":
        assert ids(of_large, name) == ids(chosen, name)
    assert len(ids(of_large, "c")) == 2
    mixed = replace(small, samples=tuple(reversed(small.samples)))
    assert ids(mixed.select(per_class=5, seed=3)) == ids(chosen)
    assert ids(small.select(per_class=7, seed=3), "d")[:5] == ids(chosen, "d")
    assert of_large.class_names == large.class_names
    # Every sample has its turn: no seed prefers the first ones.
    taken = Counter(name for seed in range(300) for name in ids(small.select(per_class=5, seed=seed), "b"))
    assert len(taken) == 30
    assert min(taken.values()) > 25
    assert max(taken.values()) < 85


def test_a_limit_spreads_over_the_classes():
    dataset = fake({"a": 40, "b": 3, "c": 40, "d": 40})
    for limit in (1, 3, 4, 10, 12, 30, 123, 500):
        chosen = dataset.select(limit=limit, seed=1)
        counts = Counter(name[0] for name in ids(chosen))
        assert len(chosen) == min(limit, 123)
        full = [counts[name] for name in "acd"]
        assert max(full) - min(full) <= 1
        # A class of three takes its turns as long as it can.
        assert counts["b"] == 3 if limit > 12 else max(*full, counts["b"]) - min(*full, counts["b"]) <= 1
        assert ids(chosen) == ids(dataset.select(limit=200, seed=1))[:limit]
    both = dataset.select(per_class=2, limit=7, seed=1)
    assert sorted(Counter(name[0] for name in ids(both)).values()) == [1, 2, 2, 2]
    # Which classes a small limit meets is drawn, not alphabetical.
    assert {ids(dataset.select(limit=1, seed=seed))[0][0] for seed in range(40)} == set("abcd")
    assert ids(dataset.select()) == ids(dataset)


def test_selection_without_names_and_labels():
    numbers = Dataset("n", None, tuple(Sample(f"s{i}", "x", i % 3) for i in range(30)))
    assert Counter(sample.label for sample in numbers.select(per_class=4).samples) == {0: 4, 1: 4, 2: 4}
    unlabelled = Dataset("u", None, tuple(Sample(f"s{i}", "x", None) for i in range(30)))
    assert len(unlabelled.select(per_class=4)) == 4
    for options in ({"per_class": 0}, {"limit": 0}, {"limit": -1}):
        for dataset in (numbers, open_dataset("rendered")):
            with pytest.raises(InputError, match=r"^(per_class|limit) must be at least 1; got"):
                dataset.select(**options)


def test_labels_match_by_name():
    model = ["arm wrestling", "Archery", "archery", "tap_dancing", "playing cards (not poker)"]
    assert match_labels(["archery", "Archery"], model) == [2, 1]
    assert match_labels(["ArmWrestling", "TapDancing"], model) == [0, 3]
    assert match_labels(["arm_wrestling", "ARM-WRESTLING", "Playing Cards not Poker"], model) == [0, 0, 4]
    assert match_labels(["Straße", "++"], ["strasse", "++", "--"]) == [0, 1]
    assert match_labels(["b", "a"], ["a", "b"]) == [1, 0]
    assert match_labels(["x", "y", "z"], None) == [0, 1, 2]


def test_labels_that_do_not_match_are_listed():
    model = ["arm wrestling", "Archery", "archery"]
    with pytest.raises(InputError, match=r"^classes of the data must be classes of the model; 2 of 3 are not: x, y y$"):
        match_labels(["x", "ArmWrestling", "y y"], model)
    # Two of the model's names fit, and neither exactly.
    with pytest.raises(InputError, match=r"1 of 1 are not: ARCHERY$"):
        match_labels(["ARCHERY"], model)
    with pytest.raises(InputError, match=r"25 of 25 are not: c0, c1, .*, c9, \.\.\.$"):
        match_labels([f"c{i}" for i in range(25)], model)


def test_the_rendered_set():
    dataset = open_dataset("rendered")
    assert (dataset.name, dataset.class_names, len(dataset)) == ("rendered", CLASS_NAMES, 200)
    sample = dataset.samples[13]
    assert (sample.id, sample.seed, sample.label, sample.path) == ("rendered/0000013", 13, 1, None)
    p = make_preprocessing(5, crop=(40, 40))
    clip = dataset.read(sample, p)
    expected = render_clip(13, label=1, frames=5, size=40, distractors=6, spread=0.35)
    assert np.array_equal(clip.frames, expected.frames)
    assert (clip.boxes.shape, clip.boxes.dtype) == ((5, 1, 4), np.int32)
    assert np.array_equal(clip.boxes[:, 0], expected.boxes)
    assert clip.indices.tolist() == [0, 1, 2, 3, 4]
    assert (clip.looped, clip.damaged, clip.replaced) == (0, 0, 0)


def test_a_rendered_set_with_options():
    dataset = open_dataset("rendered:2:size=80:pan=0.4:noise=9:distractors=5:spread=0.1")
    sample = dataset.samples[0]
    assert sample.id == "rendered/2000000"
    clip = dataset.read(sample, make_preprocessing(3, crop=(30, 40)))
    expected = render_clip(
        2_000_000, label=sample.label, frames=3, size=80, pan=0.4, noise=9.0, distractors=5, spread=0.1
    )
    # Half the size, and 5 rows cut above and below.
    for box, other in zip(clip.boxes[:, 0].tolist(), expected.boxes.tolist(), strict=True):
        x0, y0, x1, y1 = other
        by_hand = [x0 // 2, max(y0 // 2 - 5, 0), -(-x1 // 2), min(-(-y1 // 2) - 5, 30)]
        assert box == by_hand
    assert clip.frames.shape == (3, 30, 40, 3)
    train = open_dataset("rendered:2", split="train").read(sample, make_preprocessing(3, crop=(40, 40)))
    same = render_clip(2_000_000, label=sample.label, frames=3, size=40, split="train", distractors=6, spread=0.35)
    assert np.array_equal(train.frames, same.frames)


def test_the_rendered_set_has_any_number_of_balanced_clips():
    dataset = open_dataset("rendered:1")
    chosen = dataset.select(per_class=50)
    assert len(chosen) == 300
    assert Counter(sample.label for sample in chosen.samples) == dict.fromkeys(range(6), 50)
    assert ids(dataset.select(limit=400))[:300] == ids(chosen)
    assert len(set(ids(dataset.select(limit=400)))) == 400
    assert ids(chosen.select(limit=10)) == [f"rendered/{1_000_000 + i:07d}" for i in range(10)]
    assert len(dataset.select(per_class=2, limit=7)) == 7
    assert len(dataset.select()) == 200
    assert not set(ids(dataset)) & set(ids(open_dataset("rendered:2")))
    with pytest.raises(InputError, match=r"^a rendered set must have at most 1000000 clips; got 1000001"):
        dataset.select(limit=1_000_001)


def test_the_planted_set():
    dataset = open_dataset("planted:3:wrong=0.3")
    assert (dataset.name, dataset.class_names, len(dataset)) == ("planted:3:wrong=0.3", CLASS_NAMES, 300)
    sample = dataset.samples[13]
    assert (sample.id, sample.seed) == ("planted/3/000013", 6_003_000_013)
    wrong = [sample for sample in dataset.samples if sample.label != sample.seed % 6]
    assert 0.2 < len(wrong) / 300 < 0.4
    clip = dataset.read(wrong[0], make_preprocessing(16, crop=(64, 64)))
    expected = render_planted(make_plan(3), wrong[0].seed, label=wrong[0].seed % 6)
    assert np.array_equal(clip.frames, expected.frames)
    assert np.array_equal(clip.boxes[:, 0], expected.boxes)
    assert ids(dataset.select(per_class=2))[:12] == ids(dataset)[:12]
    with pytest.raises(InputError, match=r"^model must see 16 frames for planted clips; got 4$"):
        dataset.read(sample, make_preprocessing(4))
