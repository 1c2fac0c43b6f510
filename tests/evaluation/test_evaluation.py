from __future__ import annotations

import json
import math
import os
import re
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from aosa_fast import Config, InputError, explain
from aosa_fast.data import open_dataset
from aosa_fast.evaluation import METRICS, Settings, evaluate, parse_entries, write_results
from aosa_fast.evaluation.entries import split_names
from aosa_fast.evaluation.journal import FILE, Journal
from aosa_fast.metrics import (
    box_iou,
    box_share,
    causal_metrics,
    deletion,
    energy_pointing,
    find_protocol,
    spatial_pointing,
    spearman,
)
from aosa_fast.models import Classifier
from evaluation_cases import CLASSES, PREPROCESSING, Memory, Net, classifier, memory, twin

BASE = Config(stride=5, box=6)
METHODS = ["aosa-approx", "aosa:partners=0", "random"]
SETTINGS = Settings(block=3, radius=2.0)


def run(out, methods=METHODS, data=None, settings=SETTINGS, progress=None, model=None):
    entries = parse_entries(methods, BASE)
    return evaluate(data or memory(), model or classifier(), entries, out, settings, progress=progress)


def values(evaluation):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in evaluation.rows]


def test_rows_hold_what_the_metrics_say(tmp_path):
    found = run(tmp_path)
    assert [(row["clip"], row["method"]) for row in found.rows] == [(str(i), m) for i in range(7) for m in METHODS]
    data, model = memory(), classifier()
    for begin, end in ((0, 3), (3, 6), (6, 7)):  # the blocks
        clips = [data.read(sample, PREPROCESSING) for sample in data.samples[begin:end]]
        pictures = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        video = torch.cat([PREPROCESSING.to_input(clip.frames) for clip in clips])
        target = torch.tensor([sample.label for sample in data.samples[begin:end]])
        for place, config in enumerate(({}, {"method": "aosa", "partners": 0}, {"method": "random"})):
            maps = explain(model, pictures, target, stride=5, box=6, **config).saliency
            causal = causal_metrics(model.network, video, maps, target)
            boxes = [clip.boxes for clip in clips]
            pointing = spatial_pointing(maps, boxes, radius=2.0)
            for b in range(end - begin):
                row = found.rows[(begin + b) * 3 + place]
                assert row["overall"] == float(causal["aosa-28"].area[b])
                assert row["overall_fill"] == float(causal["aosa-28-fill"].area[b])
                assert row["insertion_fill_curve"] == causal["aosa-28-fill"].insertion.scores[b].tolist()
                assert row["deletion"] == float(causal["aosa-28"].deletion.area[b])
                assert (row["spt_hits"], row["spt_frames"]) == (float(pointing.hits[b]), int(pointing.frames[b]))
                energy = float(energy_pointing(maps, boxes)[b])  # NaN: nothing in the map is positive
                assert row["energy"] == (None if math.isnan(energy) else pytest.approx(energy))
                assert row["energy_chance"] == pytest.approx(float(box_share(maps, boxes)[b]))
                assert row["iou"] == pytest.approx(float(box_iou(maps, boxes)[b]))
                assert row["target"] == row["label"] == (begin + b) % 3
                assert row["status"] == "ok"
                assert row["seconds"] > 0
    assert len({row["overall"] for row in found.rows}) > 15


@pytest.mark.parametrize("stop", range(9))
def test_an_interrupted_run_goes_on_to_the_same_values(tmp_path, stop):
    whole = values(run(tmp_path / "whole"))

    def interrupt(done, total, what):
        assert total == 9
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", progress=interrupt)
    lines = (tmp_path / "parts" / FILE).read_text().splitlines()
    assert len(lines) == 1 + stop
    asked = []
    again = run(tmp_path / "parts", progress=lambda done, total, what: asked.append(total))
    assert asked == [9 - stop] * (9 - stop)
    assert json.dumps(values(again)) == json.dumps(whole)
    assert (tmp_path / "parts" / FILE).read_text().splitlines()[: 1 + stop] == lines


@pytest.mark.parametrize(("end", "score", "kind"), [(None, "sigmoid", "sigmoid"), ("softmax", "prob", "logit")])
def test_curves_of_models_without_a_softmax(tmp_path, end, score, kind):
    data, model = memory(), classifier()
    if end:
        model = replace(model, network=nn.Sequential(model.network, nn.Softmax(-1)))
    with pytest.warns(UserWarning, match="^the model returns probabilities") if end else nullcontext():
        found = evaluate(data, model, parse_entries(["random"], replace(BASE, score=score)), tmp_path, SETTINGS)
    clip = data.read(data.samples[0], PREPROCESSING)
    maps = explain(model, torch.from_numpy(clip.frames[None]), 0, method="random").saliency
    protocol = replace(find_protocol("aosa-28"), score=kind)
    curve = deletion(model.network, PREPROCESSING.to_input(clip.frames), maps, 0, protocol=protocol)
    assert found.rows[0]["curve_score"] == kind
    assert found.rows[0]["deletion_curve"] == pytest.approx(curve.scores[0].tolist(), abs=1e-6)


def test_a_folder_from_before_there_was_a_choice_of_resizing_goes_on(tmp_path):
    run(tmp_path, ["random"])
    lines = (tmp_path / FILE).read_text().splitlines()
    begun = json.loads(lines[0])
    assert begun["identity"]["preprocessing"].pop("resize") == "short"
    (tmp_path / FILE).write_text("\n".join([json.dumps(begun), *lines[1:], ""]))
    run(tmp_path, ["random"])


def test_a_line_cut_short_is_written_again(tmp_path):
    whole = values(run(tmp_path))
    path = tmp_path / FILE
    content = path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for length in (last + 1, (last + len(content)) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert json.dumps(values(run(tmp_path))) == json.dumps(whole)
        assert len(path.read_bytes().splitlines()) == 10


def test_methods_and_clips_may_be_added_later(tmp_path):
    run(tmp_path, methods=["random@3"], data=memory(3))
    asked = []
    found = run(tmp_path, methods=["random", "centre@4"], progress=lambda done, total, what: asked.append(what))
    assert asked == [
        "centre, clip 1 of 7", "random, clip 4 of 7", "centre, clip 4 of 7", "random, clip 7 of 7",
    ]  # fmt: skip
    assert [row["clip"] for row in found.rows if row["method"] == "centre"] == ["0", "1", "2", "3"]
    fresh = run(tmp_path / "fresh", methods=["random", "centre@4"])
    assert values(found) == values(fresh)


def test_a_block_that_was_shorter_is_made_again(tmp_path):
    run(tmp_path, methods=["random"], data=memory(5))
    assert values(run(tmp_path, methods=["random"])) == values(run(tmp_path / "fresh", methods=["random"]))


def test_clips_that_cannot_be_read_are_reported_and_skipped(tmp_path):
    found = run(tmp_path, data=memory(7, broken=("0", "4", "6")))
    for row in found.rows:
        if row["clip"] in ("0", "4", "6"):
            assert row["status"] == "error"
            assert row["error"] == f"{row['clip']}: must be a video; it is none"
        else:
            assert row["status"] == "ok"
    assert len(found.rows) == 21
    files = write_results(found, tmp_path, "the command")
    assert "3 clips left out: 0 (0: must be a video; it is none); 4 (" in files["table"].read_text()


def test_a_model_that_fails_on_some_clips_fails_on_those_only(tmp_path):
    class Picky(Net):
        def forward(self, video):
            if (video.mean((1, 2, 3, 4)) > 2).any():
                raise InputError("video must be darker")
            return super().forward(video)

    class Bright(Memory):
        def read(self, sample, preprocessing):
            clip = super().read(sample, preprocessing)
            if sample.id == "4":
                clip.frames[:] = 255
            return clip

    found = run(
        tmp_path,
        methods=["random"],
        data=Bright("memory", CLASSES, memory().samples),
        model=Classifier(Picky().eval(), PREPROCESSING, CLASSES),
    )
    assert [row["status"] for row in found.rows] == ["ok"] * 4 + ["error"] + ["ok"] * 2
    assert found.rows[4]["error"] == "video must be darker"


def test_a_method_that_cannot_explain_the_model_stops_the_run(tmp_path):
    with pytest.raises(InputError, match="attention-rollout"):
        run(tmp_path, methods=["random", "attention-rollout"])
    assert len((tmp_path / FILE).read_text().splitlines()) == 2  # the random map of the first block is kept


def test_another_run_is_refused(tmp_path):
    run(tmp_path, methods=["random"])
    before = (tmp_path / FILE).read_bytes()
    other = Classifier(Net().eval(), PREPROCESSING, CLASSES)
    with torch.no_grad():
        other.network.head.bias += 1
    for change, word in (
        ({"model": other}, "weights"),
        ({"settings": Settings(block=2, radius=2.0)}, "settings"),
        ({"data": type(memory())("else", CLASSES, memory().samples)}, "data"),
    ):
        with pytest.raises(InputError, match=f"must hold the same {word}; it holds "):
            run(tmp_path, methods=["random"], **change)
    with pytest.raises(InputError, match="must hold random with the same options; it holds it with others"):
        evaluate(memory(), classifier(), parse_entries(["random"], Config(stride=6)), tmp_path, SETTINGS)
    assert (tmp_path / FILE).read_bytes() == before


def test_two_runs_in_one_folder_are_kept_apart(tmp_path):
    first = Journal(tmp_path, {"format": 1})
    with pytest.raises(InputError, match=r"must not be in use; another run writes to its journal.jsonl"):
        Journal(tmp_path, {"format": 1})
    first.close()
    Journal(tmp_path, {"format": 1}).close()


@pytest.mark.parametrize(
    "line", ["[]", "{}", "3", '{"entry": 1}', "[" * 100_000, '{"entry": "a", "config": "", "block": 0, "rows": [1]}']
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_line_that_is_none_of_ours(tmp_path, line, place):
    lines = ['{"identity": {}}', line][1 - place :]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=f"line {place + 1}: must be a record of an evaluation; got "):
        Journal(tmp_path, {})


def test_what_was_changed_is_measured_again(tmp_path):
    run(tmp_path, methods=["random"])
    data = memory()
    other = type(data)("memory", CLASSES, tuple(replace(s, label=(s.label + (s.id == "4")) % 3) for s in data.samples))
    asked = []
    found = run(tmp_path, methods=["random"], data=other, progress=lambda done, total, what: asked.append(what))
    assert asked == ["random, clip 4 of 7"]
    assert [row["label"] for row in found.rows] == [0, 1, 2, 0, 2, 2, 0]


def test_clips_that_failed_are_tried_again_if_wanted(tmp_path):
    broken, whole = memory(7, broken=("4",)), memory(7)
    run(tmp_path, methods=["random"], data=broken)
    assert [row["status"] for row in run(tmp_path, methods=["random"]).rows].count("error") == 1
    entries = parse_entries(["random"], BASE)
    again = evaluate(whole, classifier(), entries, tmp_path, SETTINGS, retry=True)
    assert values(again) == values(run(tmp_path / "fresh", methods=["random"]))


def test_a_model_without_class_names_must_have_as_many_classes(tmp_path):
    nameless = Classifier(Net().eval(), PREPROCESSING)
    assert [row["label"] for row in run(tmp_path / "a", methods=["random"], model=nameless).rows] == [
        0, 1, 2, 0, 1, 2, 0,
    ]  # fmt: skip
    data = type(memory())("memory", ("sit", "walk"), tuple(replace(s, label=s.label % 2) for s in memory().samples))
    rule = "model must have class names for memory, which has 2 classes; it has 3 without names"
    with pytest.raises(InputError, match=rule):
        run(tmp_path / "b", methods=["random"], data=data, model=nameless)
    with pytest.warns(UserWarning, match="^7 clips have a label that the model does not know"):
        found = run(tmp_path / "c", data=data, model=nameless, settings=Settings(block=3, target="pred"))
    assert all(row["label"] is None and row["status"] == "ok" for row in found.rows)


def test_one_bad_clip_at_the_start_is_not_the_methods_fault(tmp_path):
    data = memory()
    wild = type(data)("memory", None, (replace(data.samples[0], label=99), *data.samples[1:]))
    with pytest.warns(UserWarning, match=r"^1 clip has a label that the model does not know.*: 99 \(1\)$"):
        found = run(tmp_path, methods=["random"], data=wild)
    assert [row["status"] for row in found.rows] == ["error"] + ["ok"] * 6


def test_predictions_need_no_labels(tmp_path):
    data = memory()
    bare = type(data)("memory", None, tuple(type(s)(s.id, None, None) for s in data.samples))
    with pytest.raises(InputError, match=r"^memory: must have labels, or be evaluated with target=pred; it has none$"):
        run(tmp_path / "a", data=bare)
    found = run(tmp_path / "b", data=bare, settings=Settings(block=3, target="pred"))
    assert all(row["target"] == row["prediction"] and row["label"] is None for row in found.rows)


def test_labels_that_the_model_does_not_know_are_said_and_not_counted(tmp_path):
    known = type(memory())("memory", ("sit", "walking", "walk"), memory().samples)
    said = "2 clips have a label that the model does not know, and no accuracy counts them: walking (2, like walk)"
    with pytest.warns(UserWarning, match=f"^{re.escape(said)}$"):
        found = run(tmp_path, methods=["random"], data=known, settings=Settings(block=3, target="pred"))
    assert [row["label"] for row in found.rows] == [0, None, 2, 0, None, 2, 0]
    table = write_results(found, tmp_path, "a command")["table"].read_text()
    assert f"- {said}\n" in table
    assert "of 5 clips with a label that it knows" in table


def test_labels_are_matched_by_name(tmp_path):
    data = memory()
    turned = type(data)("memory", ("Walk", "sit", "STAND"), data.samples)
    found = run(tmp_path, methods=["random"], data=turned)
    assert [row["label"] for row in found.rows] == [(2, 0, 1)[i % 3] for i in range(7)]


def test_taylor_and_sanity(tmp_path):
    settings = Settings(metrics=("taylor", "sanity"), block=3, taylor_tubes=4)
    found = run(tmp_path, methods=["aosa-approx", "aosa-path", "random"], settings=settings, data=memory(3))
    for row in found.rows:
        assert len(row["sanity_stages"]) == len(row["sanity_spearman"]) == len(row["sanity_ssim"]) >= 2
        if row["method"] == "random":
            assert row["sanity_spearman"] == pytest.approx([1.0] * len(row["sanity_stages"]))
            assert "taylor_error" not in row
        else:
            assert row["taylor_error"] > 0
            assert row["sanity_stages"][0] == "trained"
            assert row["sanity_spearman"][0] == pytest.approx(1.0)
            assert min(row["sanity_spearman"]) < 0.9999
        assert row["random_frames"] == 6
    random = [row for row in found.rows if row["method"] == "random"]
    data = memory(3)
    for row, sample in zip(random, data.samples, strict=True):  # which no weights change
        clip = data.read(sample, PREPROCESSING)
        maps = explain(classifier(), torch.from_numpy(clip.frames[None]), 0, method="random").saliency
        assert row["random_hits"] == float(spatial_pointing(maps, [clip.boxes], radius=7.0).hits[0])
    text = write_results(found, tmp_path, "c")["table"].read_text()
    assert "## First-order scores of tubes against exact ones" in text
    assert "## Sanity check" in text


def test_deletion_asks_the_judge(tmp_path):
    settings = replace(SETTINGS, metrics=("deletion",), judge="python:evaluation_cases:twin")
    found = run(tmp_path, ["random"], memory(1), settings)
    clip = memory(1).read(memory(1).samples[0], PREPROCESSING)
    maps = explain(classifier(), torch.from_numpy(clip.frames[None]), 0, method="random").saliency
    own, others = (
        causal_metrics(model.network, PREPROCESSING.to_input(clip.frames), maps, 0)["aosa-28-fill"]
        for model in (classifier(), twin())
    )
    assert found.rows[0]["deletion_curve"] == pytest.approx(others.deletion.scores[0].tolist(), abs=1e-5)
    assert found.rows[0]["overall_fill"] == pytest.approx(float(others.area[0]), abs=1e-5)
    assert float((others.deletion.scores - own.deletion.scores).abs().max()) > 0.05
    text = write_results(found, tmp_path, "c")["table"].read_text()
    assert "- deletion and insertion ask python:evaluation_cases:twin, not the explained network\n" in text
    with pytest.raises(InputError, match="must hold the same settings"):
        run(tmp_path, ["random"], memory(1), replace(settings, judge=""))


@pytest.mark.parametrize(
    ("judge", "rule"),
    [("demo", "classes, "), ("python:evaluation_cases:stranger", "preprocessing, ")],
)
def test_a_judge_must_be_the_models_like(tmp_path, judge, rule):
    with pytest.raises(InputError, match=f"^judge={judge} must have the model's {rule}.*; got "):
        run(tmp_path, ["random"], memory(1), replace(SETTINGS, judge=judge))


def test_the_map_of_the_runner_up(tmp_path):
    found = run(tmp_path, ["input-x-gradient", "random"], memory(3), replace(SETTINGS, metrics=("other-class",)))
    data, model = memory(3), classifier()
    pictures = torch.from_numpy(np.stack([data.read(sample, PREPROCESSING).frames for sample in data.samples]))
    for row in found.rows:
        b = int(row["clip"])
        logits = explain(model, pictures, 0, method="random").logits[b].tolist()
        runner_up = max((c for c in range(3) if c != row["target"]), key=lambda c: logits[c])
        x, y, *_ = data.read(data.samples[b], PREPROCESSING).boxes[:, 0].T
        both = [explain(model, pictures, c, method=row["method"]).saliency[b] for c in (row["target"], runner_up)]
        for key, values in zip(("mass_true", "mass_other"), both, strict=True):
            inside = sum(values[t, y[t] : y[t] + 5, x[t] : x[t] + 6].sum() for t in range(6))
            assert row[key] == pytest.approx(float(inside / values.abs().sum()), rel=1e-3)
        assert row["other_rank"] == pytest.approx(float(spearman(*both)), abs=1e-4)
        assert (row["other_rank"] == 1) == (row["method"] == "random")
    assert "| explained class ↑ | runner-up ↓ |" in write_results(found, tmp_path, "c")["table"].read_text()


def test_results_can_be_read_without_us(tmp_path):
    import pyarrow.parquet

    found = run(tmp_path, settings=replace(SETTINGS, metrics=tuple(METRICS), taylor_tubes=4))
    files = write_results(found, tmp_path, "aosa-fast evaluate memory")
    table = pyarrow.parquet.read_table(files["rows"])
    for read, row in zip(table.to_pylist(), found.rows, strict=True):
        assert {name: value for name, value in read.items() if value is not None} == {
            name: value for name, value in row.items() if value is not None
        }
    empty = {name for name in table.column_names if table[name].null_count == len(table)}
    parts = {column.key for column in METRICS["object-importance"].columns}
    assert empty == {"path", "error"} | parts  # of clips in memory, none of which failed or was rendered
    assert json.loads(table.schema.metadata[b"aosa_fast"])["model"] == "Net"
    configs = json.loads(table.schema.metadata[b"configs"])
    assert configs["aosa:partners=0"]["partners"] == 0
    text = files["table"].read_text()
    assert "`aosa-fast evaluate memory`" in text
    assert "7 clips, seed 0" in text
    assert files["curves"].read_bytes()[:4] == b"\x89PNG"


def test_entries():
    first, second, third = parse_entries(
        ["aosa:partners=0:aggregate=mean", "step@24:areas=0.05+0.1:steps=7", "osa:box=4x6:noise=0.5"], BASE
    )
    assert (first.config.method, first.config.partners, first.config.aggregate) == ("aosa", 0, "mean")
    assert (first.config.stride, first.clips, first.name) == (5, None, "aosa:partners=0:aggregate=mean")
    assert (second.name, second.clips, second.config.areas) == ("step:areas=0.05+0.1:steps=7", 24, (0.05, 0.1))
    assert (third.config.box, third.config.noise) == ((4, 6), 0.5)
    assert len({first.identity, second.identity, third.identity}) == 3
    assert split_names(["a,b c", "d"]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "method must be one of aosa-approx, "),
        ("aosa@", "methods must have a number of clips after @, such as aosa@24; got aosa@"),
        ("aosa@0", "methods must have a number of clips after @"),
        ("aosa@\u00b2", "methods must have a number of clips after @"),
        ("aosa:box=big", "box must be a side or HEIGHTxWIDTH in pixels"),
        ("aosa:partners", "methods must have options FIELD=VALUE of "),
        ("aosa:method=osa", "methods must have options FIELD=VALUE of "),
        ("aosa:partners=many", "partners must be a number; got many"),
        ("aosa:partners=-1", "partners must be at least 0; got -1"),
    ],
)
def test_wrong_entries(text, message):
    with pytest.raises(InputError) as caught:
        parse_entries([text], BASE)
    assert str(caught.value).startswith(message)


def test_entries_must_differ():
    with pytest.raises(InputError, match=r"^methods must differ; got random twice$"):
        parse_entries(["random", "random@3"], BASE)
    with pytest.raises(InputError, match=r"^methods must differ; got aosa:partners=0 twice$"):
        parse_entries(["aosa::partners=0", "aosa:partners=0:"], BASE)
    with pytest.raises(InputError, match=r"^methods must name at least one; got none$"):
        parse_entries([], BASE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metrics": ()},
            "metrics must be one of object-importance, deletion, pointing, other-class, taylor, sanity; got none",
        ),
        (
            {"metrics": ("speed",)},
            "metrics must be one of object-importance, deletion, pointing, other-class, taylor, sanity; got speed",
        ),
        ({"target": "best"}, "target must be label or pred; got best"),
        ({"metrics": ("pointing",), "judge": "demo"}, "judge must come with deletion among the metrics; got pointing"),
        ({"block": 0}, "block must be at least 1, and finite; got 0"),
        ({"radius": float("inf")}, "radius must be at least 0, and finite; got inf"),
        ({"radius": -1.0}, "radius must be at least 0, and finite; got -1.0"),
    ],
)
def test_wrong_settings(change, message):
    with pytest.raises(InputError) as caught:
        Settings(**change)
    assert str(caught.value) == message


def test_files_that_cannot_be_read_are_rows(tmp_path):
    pictures = [Image.fromarray(np.full((20, 20, 3), 20 * i, np.uint8)) for i in range(8)]
    for name in ("several", "pipe", "link"):
        (tmp_path / name).mkdir()
    for i, picture in enumerate(pictures):
        for kind in ("img", "flow_x"):
            picture.save(tmp_path / "several" / f"{kind}_{i}.png")
    os.mkfifo(tmp_path / "pipe" / "1.png")
    (tmp_path / "link" / "1.png").symlink_to("gone.png")
    pictures[0].copy().save(tmp_path / "cut.tif")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "cut.tif").read_bytes()[:600])
    errors = {
        "several/img_*.png": None,
        "several": "must be one series of images; it has 2: ",
        "several/depth_*.png": "must exist, or be a pattern for images ",
        "pipe": "1.png: must be readable; got a pipe or a device",
        "link": "1.png: must be readable; got a link to a file that is missing",
        "cut.tif": "cut.tif: must be an image in one piece; got ",
    }
    (tmp_path / "clips.csv").write_text("path,label\n" + "".join(f"{name},sit\n" for name in errors))
    found = run(tmp_path / "out", ["random"], open_dataset(tmp_path / "clips.csv"))
    assert [row["clip"] for row in found.rows] == list(errors)
    for row in found.rows:
        message = errors[row["clip"]]
        assert row["status"] == ("error" if message else "ok")
        assert message is None or message in row["error"]
