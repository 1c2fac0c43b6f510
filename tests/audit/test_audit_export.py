"""Exports of a made-up audit: two clips of a 96x48 source, one rendered, one that failed, and one finding."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aosa_fast.audit.exports.registry import EXPORTS
from aosa_fast.audit.exports.run import export_audit
from aosa_fast.audit.findings.tables import FINDINGS
from aosa_fast.audit.store.compact import pack_map
from aosa_fast.audit.store.parts import PartWriter
from aosa_fast.audit.store.run_folder import open_run
from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing
from audit_rows import fake_failure, fake_row
from cli_runs import Done, one_line_error
from numbered_clips import write_clip

# 96x48 becomes 64x32, of which the middle is seen: x of the source is 24 + 1.5 x, and y is 1.5 y.
PREPROCESSING = Preprocessing(4, 2, 32, (32, 32), (0.5,), (0.2,))
BOXES = {0: [30.0, 6.0, 42.0, 18.0], 1: [54.0, 6.0, 66.0, 18.0]}  # of the tubes that are strong enough
SEEN = [3, 5, 7]  # frames of the source; the fourth repeats the first


def row_of(id: str, **columns: Any) -> dict[str, Any]:
    """Four tubes apart, each a box of 8x8: two strong ones, a weak one, and one that counts against the class."""
    tracks = np.repeat(np.array([[8, 8], [24, 8], [8, 24], [24, 24]], np.float32)[:, None], 4, 1)
    alive = np.ones((4, 4), bool)
    alive[1, 2:] = False
    members = np.array([[0, -1], [1, -1], [2, 3], [3, 2]], np.int32)  # those of 2 and 3 lie apart
    scores = np.array([1.0, 0.75, 0.25, -3.0], np.float32)
    packed = pack_map(tracks, alive, members, scores, Config(box=(8, 8), aggregate="mean"), 32, 32)
    grid = np.zeros((8, 8, 8))
    grid[7] = 1 / 64
    facts = {
        "frames": 4, "height": 32, "width": 32, "first_frame": 3, "looped": 1, "label": 1, "label_name": "run",
        "prediction": 0, "prediction_name": "sit", "probability": 0.75, "target": 0, "top5": [0, 1],
        "top5_names": ["sit", "run"], "top5_probabilities": [0.75, 0.25], "grid": grid.ravel().tolist(),
    }  # fmt: skip
    return fake_row(id, **packed, **facts, **columns)


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    (root / "clips").mkdir()
    clip = write_clip(root / "clips" / "a <&> é.mp4", 12, size=(96, 48))
    known = {"source_height": 48, "source_width": 96, "source_fps": 10.0, "source_frames": 20}
    rows = [
        row_of("run/told", path=str(root / "clips" / "gone.mp4"), **known),
        row_of("run/asked <&> é", path=str(clip)),  # of an audit that did not tell the source: it is opened
        row_of("rendered/7", path=None, seed=7),
        fake_failure("bad/none", label_name="run"),
    ]
    folder = root / "audit"
    identity = {"data": "clips", "model": "mine", "preprocessing": PREPROCESSING.as_dict()}
    open_run(folder, identity, {"class_names": ["sit", "run"], "clips": 4}, (1, 1)).close()
    with PartWriter(folder, (1, 1), rows=2) as writer:
        for row in rows:
            writer.add([row])
    finding = {"rank": 1, "kind": "shortcut", "where": "time", "class_name": "sit", "text": "At the end.", "count": 2}
    label = {"rank": 2, "kind": "label", "where": "", "class_name": "run", "text": "It may be sit.", "count": 1}
    found = [{**finding, "clips": ["run/told"], "frames": []}, {**label, "clips": ["run/told"], "frames": []}]
    pq.write_table(pa.Table.from_pylist(found, FINDINGS), folder / "findings.parquet")
    return folder


@pytest.fixture
def export(audit: Path, tmp_path: Path) -> Callable[[str], Path]:
    def run(to: str) -> Path:
        # CVAT has a file for each clip with a map, FiftyOne no clip without a file.
        assert export_audit(audit, to, tmp_path / to) == {"cvat": 3, "fiftyone": 3}.get(to, 4)
        return tmp_path / to

    return run


def test_cvat_has_strong_tubes_as_tracks(export: Callable[[str], Path]):
    folder = export("cvat")
    with (folder / "files.csv").open(encoding="utf-8", newline="") as file:
        files = list(csv.DictReader(file))
    assert [row["id"] for row in files] == ["run/told", "run/asked <&> é", "rendered/7"]
    assert files[0]["tags"] == "shortcut:time|label|mismatch"
    root = ElementTree.parse(folder / files[0]["file"]).getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    task = root.find("meta/task")
    assert task is not None
    facts = ("name", "size", "mode", "start_frame", "stop_frame", "original_size/width", "original_size/height")
    assert [task.findtext(fact) for fact in facts] == ["run/told", "20", "interpolation", "0", "19", "96", "48"]
    assert [label.findtext("name") for label in task.iter("label")] == ["sit"]
    tracks = root.findall("track")
    assert [track.attrib for track in tracks] == [{"id": str(i), "label": "sit", "source": "auto"} for i in (0, 1)]
    names = ("xtl", "ytl", "xbr", "ybr")
    for number, (track, frames) in enumerate(zip(tracks, ([3, 5, 7, 8], [3, 5, 6]), strict=True)):
        assert [int(box.attrib["frame"]) for box in track] == frames
        assert [box.attrib["outside"] for box in track] == ["0"] * (len(frames) - 1) + ["1"]
        for box in track:
            assert [float(box.attrib[name]) for name in names] == BOXES[number]
            assert {"occluded": "0", "keyframe": "1"}.items() <= box.attrib.items()
        assert [float(value.text or "") for value in track.iter("attribute")] == [[1.0, 0.75][number]] * len(frames)
    # The same boxes where the file had to be asked; a rendered clip is its own source.
    asked, rendered = (ElementTree.parse(folder / row["file"]).getroot() for row in files[1:])
    assert [box.attrib for box in asked.findall("track")[0]] == [box.attrib for box in tracks[0]]
    assert asked.findtext("meta/task/size") == "12"
    box = rendered.find("track/box")
    assert box is not None
    assert [float(box.attrib[name]) for name in names] == [4, 4, 12, 12]


def test_coco_has_videos_images_and_instances(export: Callable[[str], Path]):
    folder = export("coco")
    assert (folder / "images").is_dir()
    made = json.loads((folder / "annotations" / "instances_default.json").read_bytes())
    assert [video["name"] for video in made["videos"]] == ["run/told", "run/asked <&> é", "rendered/7", "bad/none"]
    assert made["videos"][0]["tags"] == ["shortcut:time", "label", "mismatch"]
    assert made["categories"] == [{"id": 1, "name": "sit", "supercategory": ""}]
    images = {image["id"]: image for image in made["images"]}
    assert sorted(images) == list(range(1, 10))
    first = [image for image in images.values() if image["video_id"] == 1]
    assert [(image["frame_id"], image["width"], image["height"]) for image in first] == [(i, 96, 48) for i in SEEN]
    assert first[0]["file_name"] == "run/told/000003.jpg"
    own = [entry for entry in made["annotations"] if entry["video_id"] == 1]
    shown = [(entry["instance_id"], images[entry["image_id"]]["frame_id"]) for entry in own]
    assert shown == [(1, 3), (1, 5), (1, 7), (2, 3), (2, 5)]
    assert own[3]["bbox"] == [54.0, 6.0, 12.0, 12.0]
    assert (own[3]["area"], own[3]["score"], own[3]["iscrowd"], own[3]["category_id"]) == (144.0, 0.75, 0, 1)
    assert len({entry["id"] for entry in made["annotations"]}) == len(made["annotations"])


def test_label_studio_has_predictions_and_an_interface_that_knows_them(export: Callable[[str], Path]):
    folder = export("labelstudio")
    tasks = json.loads((folder / "tasks.json").read_bytes())
    assert [task["data"]["id"] for task in tasks] == ["run/told", "run/asked <&> é", "rendered/7", "bad/none"]
    data = tasks[0]["data"]
    assert (data["label"], data["tags"]) == ("run", "shortcut:time, label, mismatch")
    assert data["findings"] == "At the end.\nIt may be sit."
    (prediction,) = tasks[0]["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("mine", 0.75)
    choice, one, other = prediction["result"]
    assert (choice["type"], choice["value"]) == ("choices", {"choices": ["sit"]})
    assert (one["type"], one["score"], one["value"]["labels"]) == ("videorectangle", 1.0, ["sit"])
    assert (one["value"]["framesCount"], one["value"]["duration"]) == (20, 2.0)
    sequence = one["value"]["sequence"]
    # Frames count from 1, and places are percent.
    assert [(step["frame"], step["enabled"]) for step in sequence] == [(4, True), (6, True), (8, False)]
    assert {"x": 31.25, "y": 12.5, "width": 12.5, "height": 25.0, "rotation": 0}.items() <= sequence[0].items()
    assert sequence[0]["time"] == pytest.approx(0.3)
    assert len(other["value"]["sequence"]) == 2
    assert "predictions" not in tasks[3]
    view = ElementTree.parse(folder / "config.xml").getroot()
    names = {element.attrib.get("name"): element for element in view}
    assert {result[key] for result in prediction["result"] for key in ("from_name", "to_name")} <= names.keys()
    for name in ("class", "tube"):
        assert [one.attrib["value"] for one in names[name]] == ["run", "sit"]
    texts = {value[1:] for element in view if (value := element.attrib.get("value"))}
    assert texts <= data.keys()


def test_fiftyone_has_labels_times_and_signed_heatmaps(export: Callable[[str], Path]):
    folder = export("fiftyone")
    about = json.loads((folder / "metadata.json").read_bytes())
    samples = json.loads((folder / "samples.json").read_bytes())["samples"]
    frames = json.loads((folder / "frames.json").read_bytes())["frames"]
    assert about["media_type"] == "video"
    fields = {field["name"]: field for field in about["sample_fields"]}
    for sample in samples:
        assert sample.keys() - {"_id", "_media_type", "_rand"} <= fields.keys()
        for name in sample.keys() & fields.keys():
            if isinstance(sample[name], dict):
                assert fields[name]["embedded_doc_type"].endswith(f".{sample[name]['_cls']}")
    told, asked, failed = samples
    assert told["tags"] == ["shortcut:time", "label", "mismatch"]
    assert failed["tags"] == ["error"]
    assert (told["ground_truth"]["label"], told["prediction"]["label"]) == ("run", "sit")
    assert told["prediction"]["confidence"] == 0.75
    assert (failed["prediction"], failed["time_findings"]) == (None, None)
    # The last eighth of three frames is the third, 7, which is the eighth from 1 on.
    (time,) = told["time_findings"]["detections"]
    assert (time["_cls"], time["label"], time["support"]) == ("TemporalDetection", "shortcut:time", [8, 8])
    video = told["metadata"]
    assert (video["frame_width"], video["frame_height"], video["frame_rate"]) == (96, 48, 10.0)
    assert asked["metadata"]["total_frame_count"] == 12
    own = [frame for frame in frames if frame["_sample_id"] == told["_id"]]
    assert [frame["frame_number"] for frame in own] == [4, 6, 8]
    assert len(frames) == 6
    for frame in own:
        heatmap = frame["heatmap"]
        values = np.load(io.BytesIO(zlib.decompress(base64.b64decode(heatmap["map"]["$binary"]["base64"]))))
        # The whole frame, 64x32, with the crop in its middle; tubes 2 and 3 hide each other's boxes too.
        assert (values.shape, values.dtype) == ((32, 64), np.float32)
        assert heatmap["range"][0] == -heatmap["range"][1] <= values.min() < 0 < values.max() <= heatmap["range"][1]
        assert values[8, 16 + 8] == 1.0
        assert values[24, 16 + 24] == (0.25 - 3) / 2
        assert not values[:, :16].any()
        assert not values[:, 48:].any()
    ids = [entry["_id"]["$oid"] for entry in (*samples, *frames)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{24}", id) for id in ids)


def test_csv_is_one_table_without_maps(export: Callable[[str], Path]):
    with (export("csv") / "clips.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["run/told", "run/asked <&> é", "rendered/7", "bad/none"]
    assert (rows[0]["probability"], rows[0]["top5_names"]) == ("0.75", "sit|run")
    assert (rows[0]["tags"], rows[3]["tags"]) == ("shortcut:time|label|mismatch", "error")
    assert rows[0]["findings"] == "At the end.|It may be sit."
    assert float(rows[0]["share_border"]) > 0
    assert rows[3]["share_border"] == ""
    assert not [name for name in rows[0] if name.startswith(("map_", "grid"))]


def test_hugging_face_has_a_table_that_refers_to_the_videos(export: Callable[[str], Path]):
    folder = export("hf")
    table = pq.read_table(folder / "data")
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ["run/told", "run/asked <&> é", "rendered/7", "bad/none"]
    assert rows[1]["video"]["path"].endswith("a <&> é.mp4")
    assert rows[2]["video"] is None
    assert rows[0]["findings"] == ["At the end.", "It may be sit."]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features.keys() == set(table.schema.names)
    assert features["video"] == {"_type": "Video"}


def test_datasets_loads_the_hugging_face_folder(export: Callable[[str], Path], tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(export("hf")), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.num_rows == 4
    assert isinstance(found.features["video"], datasets.Video)
    first = found.cast_column("video", datasets.Video(decode=False))[0]
    assert (first["label_name"], first["top5_names"], first["probability"]) == ("run", ["sit", "run"], 0.75)
    assert first["video"]["path"].endswith("gone.mp4")


@pytest.mark.parametrize(
    ("damage", "message"),
    [(("map_scores", b"123"), "map_scores must be 16 bytes"), (("frames", 5), "map_shape must be of its 5 x 32 x 32")],
)
def test_an_export_is_whole_or_not_there(audit: Path, tmp_path: Path, damage: tuple[str, Any], message: str):
    out = tmp_path / "out"
    export_audit(audit, "csv", out)
    export_audit(audit, "coco", out)  # in the place of the other one
    names = {path.name for path in out.rglob("*.*")}
    assert names == {"instances_default.json", ".aosa-fast-export"}
    damaged = tmp_path / "damaged"
    identity = {"preprocessing": PREPROCESSING.as_dict(), "model": "mine"}
    open_run(damaged, identity, {}, (1, 1)).close()
    with PartWriter(damaged, (1, 1)) as writer:
        writer.add([row_of("a", path=None), row_of("b", path=None) | {damage[0]: damage[1]}])
    with pytest.raises(InputError, match=f"^b: {message}"):
        export_audit(damaged, "cvat", out)
    assert {path.name for path in out.rglob("*.*")} == names
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match=f"^out must be a new folder, or one that an export made; {tmp_path}/mine is"):
        export_audit(audit, "csv", tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "mine", "out"]


def test_a_model_with_preprocessing_of_its_own_has_no_boxes(tmp_path: Path):
    identity = {"preprocessing": {**PREPROCESSING.as_dict(), "class": "mine.Flip"}, "model": "mine"}
    open_run(tmp_path / "audit", identity, {}, (1, 1)).close()
    with PartWriter(tmp_path / "audit", (1, 1)) as writer:
        writer.add([row_of("a", path="/data/a.mp4")])
    assert export_audit(tmp_path / "audit", "coco", tmp_path / "coco") == 1
    made = json.loads((tmp_path / "coco" / "annotations" / "instances_default.json").read_bytes())
    assert (len(made["videos"]), made["annotations"]) == (1, [])


def test_the_command_says_where_the_export_is_and_how_it_is_opened(
    aosa: Callable[..., Done], audit: Path, tmp_path: Path
):
    done = aosa("audit-export", audit, "--to", "hf", "--out", tmp_path / "made")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "clips            4",
        f"folder           {tmp_path}/made",
        f'open             datasets.load_dataset("{tmp_path}/made", split="train")',
    ]
    message = one_line_error(aosa("audit-export", audit, "--to", "cvt"))
    assert message == f"error: to must be one of {', '.join(EXPORTS)}; got cvt (did you mean cvat or csv?)"
    assert "it has no run.json" in one_line_error(aosa("audit-export", tmp_path, "--to", "csv"))
    assert "labelstudio" in aosa("list", "exports").stdout
