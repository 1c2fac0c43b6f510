from __future__ import annotations

import hashlib
import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

import aosa_fast
import audit_models
from aosa_fast import pipeline
from aosa_fast.audit.clip import explainer as module
from aosa_fast.audit.clip.explainer import Explainer, is_checked
from aosa_fast.audit.clip.measures import agreement, measure
from aosa_fast.audit.settings import AuditSettings, Setup
from aosa_fast.audit.store.compact import load_map
from aosa_fast.audit.store.dense import restore
from aosa_fast.audit.store.schema import MEASURES, SCHEMA
from aosa_fast.audit.tasks import Prepared, Row
from aosa_fast.config import Config
from aosa_fast.data import Clip, Sample, open_dataset
from aosa_fast.demo import CLASS_NAMES
from aosa_fast.demo.network import PREPROCESSING
from aosa_fast.errors import InputError
from aosa_fast.explanation import Explanation
from aosa_fast.methods.flow import optical_flow
from aosa_fast.models import Classifier, Preprocessing, load

TIMES = [name for name in SCHEMA.names if name.startswith("seconds_")]
MAP = [name for name in SCHEMA.names if name.startswith("map_")]


def prepared(clip: Clip, sample: Sample) -> Prepared:
    """What a reader would hand over; what moves is made up, and the flow is not the one that `explain` would make."""
    frames, (height, width) = clip.frames, clip.frames.shape[1:3]
    moving = np.zeros(frames.shape[:3], bool)
    moving[:, height // 4 : height // 2, width // 3 :] = True
    return Prepared(
        sample=sample,
        clip=clip,
        flow=optical_flow(frames[None], workers=1)[0].numpy() * 1.5,
        moving=moving,
        static=np.zeros((height, width), bool),
        letterbox=np.zeros((height, width), bool),
        camera=0.25,
        content_hash=hashlib.sha256(frames.tobytes()).hexdigest()[:32],
        seconds={"read": 0.5, "flow": 0.25, "motion": 0.125},
    )


@pytest.fixture(scope="module")
def rendered() -> list[Prepared]:
    """Five rendered clips of the demo's classes 0 to 4."""
    dataset = open_dataset("rendered")
    return [prepared(dataset.read(sample, PREPROCESSING), sample) for sample in dataset.samples[:5]]


def labelled(clip: Prepared, label: int | None) -> Prepared:
    return replace(clip, sample=replace(clip.sample, label=label))


def setup(
    model: str = "demo",
    names: tuple[str, ...] | None = CLASS_NAMES,
    used: tuple[int, ...] = tuple(range(len(CLASS_NAMES))),
    **settings: Any,
) -> Setup:
    settings = {"config": Config(score="logit"), "check_share": 0.0, "static_share": 0.0, **settings}
    return Setup(model, AuditSettings(**settings), names, used, "clips", device="cpu")


def directly(clips: Sequence[Prepared], target: Any = "pred") -> Explanation:
    """What the demo's explanation of these clips is without an audit, with stride and box of 64 pixels."""
    return aosa_fast.explain(
        load("demo"),
        torch.from_numpy(np.stack([clip.clip.frames for clip in clips])),
        target,
        config=Config(score="logit", stride=5, box=9, route="onednn"),  # 8 and 16 of 112 pixels, at 64
        flow=torch.from_numpy(np.stack([clip.flow for clip in clips])),
    )


def untimed(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def as_table(rows: list[Row]) -> list[Row]:
    """The rows, through Arrow and back."""
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    table.validate(full=True)
    return table.to_pylist()


class Small(nn.Module):
    """Two classes, by how red and how blue a clip is; what a test puts in `spoil` happens to the logits."""

    def __init__(self, spoil: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3)[[0, 2]] * 3)
        self.spoil = spoil

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        logits = video.mean((2, 3, 4)) @ self.weight.T
        return logits if self.spoil is None else self.spoil(video, logits)


SMALL = Preprocessing(frames=4, stride=1, size=24, crop=(24, 24), mean=(0.0,) * 3, std=(1.0,) * 3)


def coloured(name: str, red: int, blue: int, label: int | None = 0) -> Prepared:
    frames = np.random.default_rng(red).integers(0, 20, (4, 24, 24, 3), dtype=np.uint8)
    frames[:, 4:12, 4:12, 0] = red
    frames[:, 12:20, 12:20, 2] = blue
    return prepared(
        Clip(frames, None, np.arange(4) * 2 + 7, looped=1, damaged=2, replaced=3), Sample(name, None, label)
    )


def with_model(
    monkeypatch: pytest.MonkeyPatch, network: Any, names: tuple[str, ...] | None = ("red", "blue"), **changes: Any
) -> Explainer:
    monkeypatch.setattr(module, "load_on", lambda spec, device: Classifier(network, SMALL, names))
    changes = {"names": names, "used": (0, 1), "stride": 4, "box": 6, **changes}  # of the data: the model's or others
    return Explainer(setup("made here", **changes))


COLOURS = [coloured("a", 250, 60), coloured("b", 60, 250), coloured("c", 200, 40), coloured("d", 10, 220, label=1)]


def test_rows_hold_what_a_direct_explanation_says(rendered: list[Prepared]) -> None:
    rows = Explainer(setup()).explain(rendered)
    found = directly(rendered)
    probabilities = torch.softmax(found.logits.double(), 1).numpy()
    for b, (row, clip) in enumerate(zip(rows, rendered, strict=True)):
        assert set(row) == set(SCHEMA.names)
        assert (row["id"], row["status"], row["stage"], row["error"], row["attempts"]) == (
            clip.sample.id, "ok", None, None, 1,
        )  # fmt: skip
        assert (row["path"], row["seed"], row["content_hash"]) == (None, clip.sample.seed, clip.content_hash)
        assert [row[name] for name in ("frames", "height", "width", "first_frame")] == [16, 64, 64, 0]
        order = np.argsort(-found.logits[b].numpy())[:5].tolist()
        assert (row["data_label"], row["label"], row["label_name"]) == (b, b, CLASS_NAMES[b])
        assert (row["prediction"], row["prediction_name"]) == (order[0], CLASS_NAMES[order[0]])
        assert (row["top5"], row["top5_names"]) == (order, [CLASS_NAMES[i] for i in order])
        np.testing.assert_allclose(row["top5_probabilities"], probabilities[b][order], rtol=1e-5)
        assert row["probability"] == pytest.approx(probabilities[b][order[0]], rel=1e-5)
        assert row["label_probability"] == pytest.approx(probabilities[b][b], rel=1e-5)
        assert (row["target"], row["score"]) == (order[0], float(found.logits[b, order[0]]))
        assert row["uncovered_share"] == pytest.approx(float((found.coverage[b] == 0).double().mean()), rel=1e-5)
        assert row["saturated"] is False
        assert torch.equal(torch.from_numpy(load_map(row)), found.saliency[b])
        assert found.relevance is not None  # the field that tubes integrate, which knows times
        values = measure(found.relevance[b].numpy(), clip)
        assert {name: row[name] for name in values} == values
        assert set(values) >= set(MEASURES) - {"agreement", "static_probability"}
        assert (row["agreement"], row["map_scores_label"], row["dense_index"]) == (None, None, None)
        assert (row["seconds_read"], row["seconds_flow"], row["seconds_motion"]) == (0.5, 0.25, 0.125)
        assert row["seconds_model"] == rows[0]["seconds_model"] > 0
        assert row["seconds_measures"] > 0


def test_rows_go_through_arrow_as_they_are(rendered: list[Prepared]) -> None:
    clip = labelled(rendered[0], 3)
    clip = replace(clip, clip=replace(clip.clip, source=(240, 320, 29.97, 300)))
    rows = Explainer(setup(target="both", check_share=1.0, check_tubes=4, static_share=1.0)).explain([clip])
    (back,) = as_table(rows)
    (row,) = rows
    assert [row[f"source_{name}"] for name in ("height", "width", "fps", "frames")] == [240, 320, 29.97, 300]
    assert [name for name, value in row.items() if value is None] == [
        "path", "start", "end", "group", "stage", "error", *[n for n in MEASURES if row[n] is None], "dense_index",
        "strip",
    ]  # fmt: skip
    for name, value in row.items():
        rounds = value is not None and SCHEMA.field(name).type in (pa.float32(), pa.list_(pa.float32()))
        assert back[name] == (pytest.approx(value, rel=1e-6) if rounds else value), name
        # Rows go to a process that has no torch, and need not have NumPy's numbers either.
        plain = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
        assert all(type(item) in (int, float, str, bytes, bool, type(None)) for item in plain), name
    assert np.array_equal(load_map(back), load_map(row))
    assert np.array_equal(load_map(back, "label"), load_map(row, "label"))


def test_one_repeated_frame_is_asked_about_too(rendered: list[Prepared]) -> None:
    clips = rendered[:3]
    frames = np.stack([np.repeat(clip.clip.frames[8:9], 16, axis=0) for clip in clips])
    still = aosa_fast.explain(load("demo"), torch.from_numpy(frames), config=Config(score="logit"))
    rows = Explainer(setup(static_share=1.0)).explain(clips)
    for b, row in enumerate(rows):
        assert row["static_probability"] == pytest.approx(float(still.probabilities[b, row["target"]]), rel=1e-4)
        assert row["static_prediction"] == int(still.logits[b].argmax())
    assert any(row["static_probability"] < 0.5 < row["probability"] for row in rows)  # these classes are of motion
    assert Explainer(setup()).explain(clips)[0]["static_probability"] is None


def test_true_explains_the_label(rendered: list[Prepared]) -> None:
    clips = [labelled(rendered[0], 4), labelled(rendered[1], None), labelled(rendered[2], 2), labelled(rendered[3], 9)]
    rows = Explainer(setup(target="true")).explain(clips)
    found = directly(clips[::2], torch.tensor([4, 2]))
    for b, i in enumerate((0, 2)):
        assert (rows[i]["status"], rows[i]["target"], rows[i]["label"]) == ("ok", (4, 2)[b], (4, 2)[b])
        assert rows[i]["score"] == float(found.logits[b, (4, 2)[b]])
        assert np.array_equal(load_map(rows[i]), found.saliency[b].numpy())
        assert np.array_equal(load_map(rows[i], "label"), found.saliency[b].numpy())
        assert rows[i]["agreement"] is None
    assert rows[0]["prediction"] == 0
    for i, name in ((1, "none"), (3, "9")):
        assert (rows[i]["status"], rows[i]["stage"], rows[i]["id"]) == ("error", "explain", clips[i].sample.id)
        assert rows[i]["error"] == (
            f"{clips[i].sample.id}: must have a label that the model knows, or be audited with target=pred; got {name}"
        )
        assert rows[i]["content_hash"] == clips[i].content_hash
    assert [row["status"] for row in as_table(rows)] == ["ok", "error", "ok", "error"]


def test_both_explains_the_label_too_where_it_is_not_the_prediction(
    rendered: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = []

    def recorded(classifier: Classifier, pictures: torch.Tensor, target: Any, *rest: Any, **more: Any) -> Any:
        explained.append((len(pictures), target if isinstance(target, str) else target.tolist()))
        return pipeline.run(classifier, pictures, target, *rest, **more)

    monkeypatch.setattr(module, "run", recorded)
    clips = [rendered[0], labelled(rendered[1], 3), labelled(rendered[2], None), labelled(rendered[3], 5)]
    rows = Explainer(setup(target="both")).explain(clips)
    assert explained == [(4, "pred"), (2, [3, 5])]
    assert [row["prediction"] for row in rows] == [row["target"] for row in rows] == [0, 1, 2, 3]
    wrong = directly(clips[1::2], torch.tensor([3, 5]))
    for i, b in ((1, 0), (3, 1)):
        label = wrong.saliency[b].numpy()
        assert np.array_equal(load_map(rows[i], "label"), label)
        assert rows[i]["agreement"] == agreement(load_map(rows[i]), label)
        assert rows[i]["agreement"] < 0.999
    assert (rows[0]["agreement"], rows[0]["map_scores_label"]) == (1.0, None)
    assert np.array_equal(load_map(rows[0], "label"), load_map(rows[0]))
    assert (rows[2]["agreement"], rows[2]["map_scores_label"], rows[2]["label"]) == (None, None, None)
    with pytest.raises(InputError, match=r"must have a map of its label"):
        load_map(rows[2], "label")
    assert rows[1]["seconds_model"] == rows[3]["seconds_model"] > rows[0]["seconds_model"] == rows[2]["seconds_model"]
    # What is measured is the prediction's map.
    alone = Explainer(setup()).explain(clips)
    for row, other in zip(untimed(rows), untimed(alone), strict=True):
        assert {**row, "agreement": None, "map_scores_label": None} == other


def test_labels_of_the_data_are_found_by_name_in_another_order(rendered: list[Prepared]) -> None:
    turned = tuple(reversed([name.upper().replace(" ", "_") for name in CLASS_NAMES]))
    clips = [labelled(rendered[i], len(CLASS_NAMES) - 1 - i) for i in (0, 3)]
    explainer = Explainer(setup(names=turned, used=(5, 2), target="true"))
    assert explainer.ready.labels == {5: 0, 2: 3}
    rows = explainer.explain(clips)
    assert [row["data_label"] for row in rows] == [5, 2]
    assert [row["label"] for row in rows] == [row["target"] for row in rows] == [0, 3]
    assert [row["label_name"] for row in rows] == [turned[5], turned[2]]


def test_classes_that_the_model_does_not_know_are_refused_or_left_out(rendered: list[Prepared]) -> None:
    names = (CLASS_NAMES[2], "something else")
    with pytest.raises(InputError, match=r"1 of 2 are not: something else"):
        Explainer(setup(names=names, used=(0, 1), target="both"))
    rows = Explainer(setup(names=names, used=(0, 1))).explain([labelled(rendered[0], 1), labelled(rendered[2], 0)])
    assert [(row["label"], row["label_name"]) for row in rows] == [(None, "something else"), (2, CLASS_NAMES[2])]
    assert [row["label_probability"] is None for row in rows] == [True, False]
    for target in ("true", "both"):
        with pytest.raises(InputError, match=r"^clips: must have labels, or be audited with target=pred; it has none$"):
            Explainer(setup(used=(), target=target))


def test_without_names_labels_are_the_models_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer = with_model(monkeypatch, Small(), names=None, target="both")
    clips = [coloured("a", 250, 60, label=0), coloured("b", 250, 60, label=1), coloured("c", 250, 60, label=7)]
    rows = explainer.explain(clips)
    assert explainer.ready.labels == {0: 0, 1: 1}
    assert explainer.ready.class_names is None
    assert [row["label"] for row in rows] == [0, 1, None]  # there is no class 7
    assert [row["data_label"] for row in rows] == [0, 1, 7]
    assert [row["agreement"] is None for row in rows] == [False, False, True]
    for row in rows:
        assert row["prediction_name"] is row["label_name"] is row["top5_names"] is None
        assert row["top5"] == [0, 1]
        assert sum(row["top5_probabilities"]) == pytest.approx(1)
    as_table(rows)
    rows = with_model(monkeypatch, Small(), names=None, target="true").explain(clips)
    assert [row["status"] for row in rows] == ["ok", "ok", "error"]
    assert rows[2]["error"] == "c: must have a label that the model knows, or be audited with target=pred; got 7"


def test_names_of_the_model_serve_where_the_data_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_on", lambda spec, device: Classifier(Small(), SMALL, ("red", "blue")))
    explainer = Explainer(setup("made here", names=None, used=(0, 1, 7), target="true", stride=4, box=6))
    rows = explainer.explain([coloured("a", 250, 60, label=1), coloured("b", 250, 60, label=7)])
    assert (rows[0]["label"], rows[0]["label_name"]) == (1, "blue")
    assert rows[1]["error"].endswith("got 7")


def test_names_of_the_data_serve_where_the_model_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_on", lambda spec, device: Classifier(Small(), SMALL, None))
    explainer = Explainer(setup("made here", names=("rot", "blau"), used=(0, 1), target="true", stride=4, box=6))
    (row,) = explainer.explain([coloured("a", 250, 60, label=1)])
    assert (row["label"], row["label_name"], row["prediction_name"], row["target"]) == (1, "blau", None, 1)
    with pytest.raises(InputError, match="model must have class names for clips"):
        Explainer(setup("made here", names=("a", "b", "c"), used=(0,), target="true"))


def marked(video: torch.Tensor) -> torch.Tensor:
    """(B,): whether a clip is "c" of `COLOURS`."""
    return (video[:, 0, 0, 6, 6] * 255).round() == 200


def test_one_clip_that_fails_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(video: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        if marked(video).any():
            raise KeyError("in the\nmodel")
        return logits

    rows = with_model(monkeypatch, Small(fails)).explain(COLOURS)
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok"]
    bad = rows[2]
    assert (bad["id"], bad["stage"], bad["attempts"]) == ("c", "explain", 1)
    assert bad["error"] == r"KeyError: 'in the\nmodel'"
    assert (bad["first_frame"], bad["looped"], bad["damaged"], bad["replaced"]) == (7, 1, 2, 3)
    assert (bad["label_name"], bad["data_label"], bad["seconds_read"]) == ("red", 0, 0.5)
    good = with_model(monkeypatch, Small()).explain(COLOURS)
    for i in (0, 1, 3):
        assert rows[i]["score"] == pytest.approx(good[i]["score"], rel=1e-6)
        np.testing.assert_allclose(load_map(rows[i]), load_map(good[i]), rtol=1e-4, atol=1e-8)
    assert [row["status"] for row in as_table(rows)] == ["ok", "ok", "error", "ok"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error_of_their_clip(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    def broken(video: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return torch.where(marked(video)[:, None], value, logits)

    rows = with_model(monkeypatch, Small(broken)).explain(COLOURS)
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok"]
    assert rows[2]["error"] == "model must return finite logits; got 2 NaN or infinite"


def test_a_measure_that_fails_is_an_error_of_its_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(saliency: Any, clip: Prepared) -> Row:
        if clip.sample.id == "b":
            raise ZeroDivisionError("no pixels")
        return measure(saliency, clip)

    monkeypatch.setattr(module, "measure", fails)
    rows = with_model(monkeypatch, Small()).explain(COLOURS)
    assert [row["error"] for row in rows] == [None, "ZeroDivisionError: no pixels", None, None]


def test_a_batch_too_large_for_the_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def tight(classifier: Classifier, pictures: torch.Tensor, *rest: Any, **more: Any) -> Any:
        sizes.append(len(pictures))
        if len(pictures) > 2 or marked(pictures.permute(0, 4, 1, 2, 3).float() / 255).any():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")
        return pipeline.run(classifier, pictures, *rest, **more)

    monkeypatch.setattr(module, "run", tight)
    rows = with_model(monkeypatch, Small()).explain([*COLOURS, coloured("e", 180, 70)])
    assert sizes == [5, 2, 2, 1, 1, 1]
    assert [row["id"] for row in rows] == ["a", "b", "c", "d", "e"]
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok", "ok"]
    assert rows[2]["error"].startswith("OutOfMemoryError: CUDA out of memory")


@pytest.mark.parametrize(
    "error",
    [
        audit_models.AcceleratorError("device-side assert triggered"),  # as torch names it from 2.8 on
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    ],
)
def test_a_device_that_fails_ends_the_process_not_the_clip(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    def fails(video: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        raise error if len(video) == 1 else RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    with pytest.raises(RuntimeError) as caught:
        with_model(monkeypatch, Small(fails)).explain(COLOURS[:2])
    assert caught.value is error


def test_saturated_clips_are_marked_and_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def confident(video: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return logits * torch.where(marked(video), 400.0, 1.0)[:, None]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = with_model(monkeypatch, Small(confident), config=Config(score="prob")).explain(COLOURS)
    assert [row["saturated"] for row in rows] == [False, False, True, False]
    assert not caught


def test_the_taylor_error_is_that_of_exact_occlusion(rendered: list[Prepared]) -> None:
    clips = rendered[:2]
    rows = Explainer(setup(check_share=1.0, check_tubes=6, stride=9)).explain(clips)
    classifier = load("demo")
    for row, clip in zip(rows, clips, strict=True):
        pictures, flow = torch.from_numpy(clip.clip.frames[None]), torch.from_numpy(clip.flow[None])
        common: dict[str, Any] = {"score": "logit", "stride": 9, "box": 9, "fill": "conditional", "flow": flow}
        exact = aosa_fast.explain(classifier, pictures, method="aosa", **common).scores[0].double().numpy()
        first = aosa_fast.explain(classifier, pictures, method="aosa-approx", **common).scores[0].double().numpy()
        # Spread evenly over the ranking, both ends included.
        ranking = np.argsort(-first, kind="stable")
        tubes = ranking[np.rint(np.linspace(0, len(first) - 1, 6)).astype(int)]
        error = np.abs(exact[tubes] - first[tubes]).mean() / np.abs(exact[tubes]).mean()
        assert row["taylor_error"] == pytest.approx(error, rel=1e-3)
        assert row["taylor_correlation"] == pytest.approx(np.corrcoef(exact[tubes], first[tubes])[0, 1], rel=1e-3)


def test_a_check_of_tubes_that_change_nothing_has_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def constant(video: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return logits * 0 + torch.tensor([1.0, 0.0])

    rows = with_model(monkeypatch, Small(constant), check_share=1.0).explain(COLOURS[:1])
    assert (rows[0]["status"], rows[0]["taylor_error"], rows[0]["taylor_correlation"]) == ("ok", None, None)
    as_table(rows)


def test_only_the_chosen_clips_are_checked_and_only_first_order_ones(
    rendered: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [is_checked(clip.sample.id, 3, 0.5) for clip in COLOURS]
    assert True in chosen
    assert False in chosen
    rows = with_model(monkeypatch, Small(), check_share=0.5, seed=3).explain(COLOURS)
    assert [row["taylor_error"] is not None for row in rows] == chosen
    rows = with_model(monkeypatch, Small(), check_share=1.0, config=Config(method="aosa")).explain(COLOURS)
    assert [(row["status"], row["taylor_error"]) for row in rows] == [("ok", None)] * 4


def test_the_choice_of_checked_clips_is_even_and_depends_on_seed_and_name_alone() -> None:
    names = [f"v_{i:05d}.avi" for i in range(20_000)]
    first = {name for name in names if is_checked(name, 0, 0.05)}
    second = {name for name in names if is_checked(name, 1, 0.05)}
    assert abs(len(first) - 1000) < 4 * math.sqrt(950)
    assert abs(len(second) - 1000) < 4 * math.sqrt(950)
    assert len(first & second) < 100  # 50 are expected of independent choices
    assert {name for name in names if is_checked(name, 0, 0.02)} < first  # a larger share adds clips
    assert all(is_checked(name, 0, 1.0) for name in names[:100])
    assert not any(is_checked(name, 0, 0.0) for name in names[:100])
    assert is_checked("\udcff", 0, 1.0)


def test_the_same_clips_give_the_same_rows(rendered: list[Prepared]) -> None:
    clips = [rendered[0], labelled(rendered[1], 3)]
    one, other = (Explainer(setup(target="both", check_share=1.0, check_tubes=3)).explain(clips) for _ in range(2))
    assert pickle.dumps(untimed(one)) == pickle.dumps(untimed(other))


def test_summary_keeps_no_maps_and_dense_adds_them_whole(rendered: list[Prepared]) -> None:
    clips = [labelled(rendered[1], 3)]
    (row,) = Explainer(setup(target="both", maps="summary", dense=True)).explain(clips)
    (kept,) = Explainer(setup(target="both")).explain(clips)
    assert not set(row) & set(MAP)
    assert row["agreement"] == kept["agreement"]
    dense = row.pop("dense")
    assert np.abs(restore(dense.values, dense.scale, dense.offset) - load_map(kept)).max() <= dense.scale / 2 * 1.00001
    assert "dense" not in kept
    assert [as_table([row])[0][name] for name in MAP] == [None] * len(MAP)


def test_hello_says_what_the_rows_depend_on(rendered: list[Prepared]) -> None:
    ready = Explainer(setup(config=Config(score="logit", check=9, partners=2), seed=11)).ready
    assert ready.preprocessing == PREPROCESSING.for_audits()
    assert ready.class_names == CLASS_NAMES
    assert ready.labels == {i: i for i in range(6)}
    assert (ready.config.stride, ready.config.box, ready.config.partners) == (5, 9, 2)
    assert (ready.config.check, ready.config.seed) == (0, 11)
    assert ready.device == "cpu"
    assert ready.weights is not None
    assert len(ready.weights) == 16
    assert set(ready.versions) == {"aosa_fast", "torch", "numpy", "opencv", "python"}
    assert all(type(version) is str for version in ready.versions.values())
    set_by_hand = Explainer(setup(stride=7, box=(3, 12))).ready.config
    assert (set_by_hand.stride, set_by_hand.box) == (7, (3, 12))


def test_rows_can_be_read_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    message = pickle.dumps(with_model(monkeypatch, Small(), dense=True).explain(COLOURS[:1]))
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], input=message, timeout=60, check=False).returncode == 0


def test_a_stride_that_leaves_no_anchor_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="stride must be at most 127 for frames of 64x64; got 128"):
        Explainer(setup(stride=128))
    assert Explainer(setup(stride=127)).explain([]) == []


def test_threads_are_set_where_they_are_given() -> None:
    before = torch.get_num_threads()
    try:
        Explainer(replace(setup(), threads=before + 1))
        assert torch.get_num_threads() == before + 1
        Explainer(setup())
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
