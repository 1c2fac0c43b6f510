"""Data sets and labels: every row comes back, a part is a part, and names are found however they are written."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aosa_fast import InputError, data
from aosa_fast.data import Boxes, Clip, Dataset, Sample
from evaluation_cases import PREPROCESSING, memory

names = st.text(st.characters(categories=("L", "N"), codec="utf-8"), min_size=1, max_size=6).filter(
    lambda text: not text.isascii() or text.strip("0123456789") != ""
)
rows = st.lists(st.tuples(names, names, st.none() | st.integers(0, 99)), min_size=1, max_size=12)


@given(rows, st.integers(1, 5), st.integers(1, 12), st.integers(0, 9))
def test_a_manifest_and_a_part_of_it(
    tmp_path: Path, drawn: list[tuple[str, str, int | None]], per_class: int, limit: int, seed: int
) -> None:
    path = tmp_path / "clips.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "label", "start"])
        for number, (name, label, start) in enumerate(drawn):
            writer.writerow([f"clip {number}", f"{name}.mp4", label, "" if start is None else start])
    dataset = data.open_dataset(path)
    assert isinstance(dataset, Dataset)
    assert dataset.class_names is not None
    assert [dataset.class_names[sample.label or 0] for sample in dataset.samples] == [label for _, label, _ in drawn]
    assert [sample.start for sample in dataset.samples] == [start for _, _, start in drawn]
    assert all(isinstance(sample, Sample) for sample in dataset.samples)
    part = dataset.select(per_class, limit, seed)
    again = dataset.select(per_class, limit, seed)
    ids = [sample.id for sample in part.samples]
    assert ids == [sample.id for sample in again.samples]
    assert len(ids) == len(set(ids)) <= limit
    assert set(ids) <= {sample.id for sample in dataset.samples}
    assert max(part.count_labels().values()) <= per_class
    # What is taken for a limit is the beginning of what is taken for a larger one.
    longer = dataset.select(per_class, limit + 1, seed)
    assert ids == [sample.id for sample in longer.samples][: len(ids)]


@given(
    st.lists(names, min_size=1, max_size=8, unique_by=lambda name: name.casefold()), st.randoms(use_true_random=False)
)
def test_labels_are_found_by_their_names(known: list[str], random: object) -> None:
    shuffled = [*known]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = data.match_labels(shuffled, known)
    assert [known[index] for index in found] == shuffled
    assert data.match_labels(known, None) == [*range(len(known))]
    with pytest.raises(InputError) as caught:
        data.match_labels([*shuffled, "?!"], known)
    assert "\n" not in str(caught.value)
    assert data.describe_unknown({}, known) == ""
    assert "3 clips" in data.describe_unknown({"?!": 3}, known)


@given(st.integers(1, 9), st.integers(1, 3))
def test_clips_whose_label_the_model_does_not_know_are_counted(count: int, labels: int) -> None:
    dataset = memory(count)
    unknown = [sample for sample in dataset.samples if (sample.label or 0) >= labels]
    if not unknown:
        assert data.unknown_labels(dataset, {i: i for i in range(labels)}, dataset.class_names) == ""
        return
    with pytest.warns(UserWarning, match=f"^{len(unknown)} clip"):
        assert data.unknown_labels(dataset, {i: i for i in range(labels)}, dataset.class_names)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 5), st.integers(1, 90), st.integers(1, 90))
def test_boxes_are_those_of_the_frames(frames: list[int], first: int, height: int, width: int) -> None:
    corners = np.array([[n, n + 1, n + 2, n + 3] for n in range(len(frames))], np.float64)
    tracks = np.array([frames[:n].count(frame) for n, frame in enumerate(frames)])
    boxes = Boxes(np.array(frames), tracks, corners, int(tracks.max()) + 1, (width, height))
    indices = np.arange(first, first + 6)
    found = boxes.at(indices, height, width)
    for n, frame in enumerate(frames):
        if frame in indices:
            assert np.array_equal(found[frame - first, tracks[n]], corners[n])
    assert (found != 0).any(-1).sum() == sum(frame in indices for frame in frames)


@given(st.integers(0, 6), st.sampled_from([kind for kind in data.list_datasets() if "rendered" in kind][:1]))
def test_rendered_clips_are_as_the_model_wants_them(place: int, kind: str) -> None:
    assert kind
    dataset = data.open_dataset("rendered:3").select(limit=7)
    clip = dataset.read(dataset.samples[place], PREPROCESSING)
    assert isinstance(clip, Clip)
    assert clip.frames.shape == (PREPROCESSING.frames, *PREPROCESSING.crop, 3)
    assert clip.boxes is not None
    assert (clip.boxes[..., 2:] <= np.array(PREPROCESSING.crop[::-1])).all()
