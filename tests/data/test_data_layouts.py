"""Data as other tools lay them out: Hugging Face folders, images by class, WebDataset; and what a DataLoader takes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from aosa_fast.audit.clip.prepare import Preparer
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.data import Dataset, open_dataset
from aosa_fast.data.content import content_id
from aosa_fast.errors import InputError
from numbered_clips import numbered, write_clip
from small_nets import make_preprocessing


def listed(dataset: Dataset) -> list[tuple[str, int | None]]:
    return [(sample.id, sample.label) for sample in dataset.samples]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_image(path: Path, i: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbered(i)).save(path)


def test_a_hugging_face_folder_with_one_table(tmp_path: Path):
    root = tmp_path / "set"
    write(root / "metadata.csv", "file_name,label,note\nclips/a.mp4,run,x\nb.mp4,,\n")
    dataset = open_dataset(root)
    assert (dataset.name, dataset.class_names) == ("set", ("run",))
    assert listed(dataset) == [("clips/a.mp4", 0), ("b.mp4", None)]
    assert dataset.samples[0].path == str(root / "clips/a.mp4")
    (root / "metadata.csv").unlink()
    rows = [{"file_name": "a.mp4", "category": 3}, {"file_name": "b.mp4", "category": 0}, {"file_name": "c.mp4"}]
    write(root / "metadata.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert listed(open_dataset(root)) == [("a.mp4", 3), ("b.mp4", 0), ("c.mp4", None)]
    (root / "metadata.jsonl").unlink()
    pq.write_table(pa.Table.from_pylist(rows), root / "metadata.parquet")
    assert open_dataset(root).class_names is None
    assert listed(open_dataset(root))[0] == ("a.mp4", 3)
    with pytest.raises(InputError, match=r"^split must be left out for data=.*set; got test$"):
        open_dataset(root, split="test")


def test_a_hugging_face_folder_with_splits(tmp_path: Path):
    write(tmp_path / "train/metadata.csv", "file_name,label\na.mp4,sit\n")
    write(tmp_path / "val/metadata.csv", "file_name,label\na.mp4,run\n")
    assert listed(open_dataset(tmp_path)) == [("train/a.mp4", 1), ("val/a.mp4", 0)]
    found = open_dataset(tmp_path, split="validation")
    assert (found.name, listed(found)) == (f"{tmp_path.name}:validation", [("val/a.mp4", 0)])
    assert found.samples[0].path == str(tmp_path / "val/a.mp4")


def test_folders_of_splits_with_a_folder_per_class(tmp_path: Path):
    for name in ("train/run/a.mp4", "train/sit/b.mp4", "test/sit/c.mp4"):
        write(tmp_path / name, "")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("run", "sit")
    assert listed(dataset) == [("test/sit/c.mp4", 1), ("train/run/a.mp4", 0), ("train/sit/b.mp4", 1)]
    assert listed(open_dataset(tmp_path, split="test")) == [("test/sit/c.mp4", 0)]
    with pytest.raises(InputError, match=f"^split must be one of test, train in {tmp_path}; got val$"):
        open_dataset(tmp_path, split="val")
    # A class that is called like a split is one.
    for name in ("other/dev/a.mp4", "other/test/b.mp4"):
        write(tmp_path / name, "")
    assert open_dataset(tmp_path / "other").class_names == ("dev", "test")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "metadata.jsonl",
            '{"file_name": "a.mp4"}\n[1]\n',
            "metadata.jsonl, line 2: must be an object of JSON; got list",
        ),
        ("metadata.jsonl", "{\n", "metadata.jsonl, line 1: must be an object of JSON; got "),
        ("metadata.csv", "file_name,label\na.mp4,x\na.mp4,y\n", "line 3: file_name must be unique; got a.mp4 twice"),
        ("metadata.csv", "file_name,label\na.mp4,x\n,y\n", "metadata.csv, line 3: file_name must not be empty"),
        ("metadata.csv", "file_name,label\na.mp4,-1\n", "line 2: label must be a name or a number from 0 on; got -1"),
    ],
)
def test_a_table_that_breaks_its_format_is_one_line(tmp_path: Path, name: str, text: str, message: str):
    write(tmp_path / name, text)
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path)


def test_images_by_class_are_clips_of_one_frame(tmp_path: Path):
    for name, i in (("cat/1.png", 1), ("cat/2.png", 2), ("dog/1.png", 3)):
        write_image(tmp_path / name, i)
    dataset, preprocessing = open_dataset(f"images:{tmp_path}"), make_preprocessing(4, size=48)
    assert dataset.class_names == ("cat", "dog")
    assert listed(dataset) == [("cat/1.png", 0), ("cat/2.png", 0), ("dog/1.png", 1)]
    clip = dataset.read(dataset.samples[1], preprocessing)
    assert (clip.indices.tolist(), clip.looped) == ([0, 0, 0, 0], 3)
    # Nothing moves in it, and an audit can tell.
    ready = Preparer(dataset, preprocessing, AuditSettings()).prepare(dataset.samples[1])
    assert not ready.moving.any()
    # Without images: it is what it always was, one clip for each folder.
    assert listed(open_dataset(tmp_path)) == [("cat", None), ("dog", None)]
    with pytest.raises(InputError, match=r"must hold one folder of images per class; it holds none$"):
        open_dataset(f"images:{tmp_path / 'cat'}")


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{i}.mp4", 12, first=20 * i).read_bytes() for i in range(3)]


def test_webdataset_shards_are_read_where_they_lie(tmp_path: Path, clips: list[bytes]):
    picture = io.BytesIO()
    Image.fromarray(numbered(77)).save(picture, "PNG")
    pack(tmp_path / "data-000.tar", {"x/a.mp4": clips[0], "x/a.cls": b"run\n", "b.flow.npy": b"1", "b.mp4": clips[1]})
    more = {
        "c.json": b'{"caption": "", "label": "sit"}',
        "c.mp4": clips[2],
        "d.png": picture.getvalue(),
        "d.txt": b"run",
    }
    pack(tmp_path / "data-001.tar", more)
    dataset = open_dataset(str(tmp_path / "data-{000..001}.tar"))
    assert (dataset.name, dataset.class_names) == ("data", ("run", "sit"))
    assert listed(dataset) == [("data-000/x/a", 0), ("data-000/b", None), ("data-001/c", 1), ("data-001/d", 0)]
    preprocessing = make_preprocessing(2, size=48)
    shown = [dataset.read(sample, preprocessing.changed(crop=(48, 48))).frames[0] for sample in dataset.samples]
    expected = [open_dataset(write_one(tmp_path, clip)) for clip in clips]
    for frame, other in zip(shown, expected, strict=False):
        assert np.array_equal(frame, other.read(other.samples[0], preprocessing).frames[0])
    # Ids of content are those of the files, and every member has its own.
    ids = [content_id(sample.path) for sample in dataset.samples if sample.path]
    (tmp_path / "same.mp4").write_bytes(clips[1])
    assert ids[1] == content_id(str(tmp_path / "same.mp4"))
    assert len(set(ids)) == 4


def write_one(folder: Path, clip: bytes) -> Path:
    one = folder / f"one-{len(clip)}"
    one.mkdir(exist_ok=True)
    (one / "clip.mp4").write_bytes(clip)
    return one


def test_webdataset_at_an_address_and_numbers_as_classes(tmp_path: Path, clips: list[bytes]):
    memory = fsspec.filesystem("memory")
    shard = pack(tmp_path / "s.tar", {"a.mp4": clips[0], "a.cls": b"3", "b.mp4": clips[1], "b.cls": b"0"})
    memory.pipe("/s.tar", shard.read_bytes())
    dataset, local = open_dataset("memory://s.tar"), open_dataset(shard)
    assert dataset.class_names is None
    assert listed(dataset) == listed(local) == [("s/a", 3), ("s/b", 0)]
    for one, other in zip(dataset.samples, local.samples, strict=True):
        ours, theirs = (d.read(s, make_preprocessing(4)) for d, s in ((dataset, one), (local, other)))
        assert np.array_equal(ours.frames, theirs.frames)
    assert len({content_id(sample.path) for sample in dataset.samples if sample.path}) == 2


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ("none.tar", "none.tar: must be readable; got No such file"),
        ("text.tar", "text.tar: must be a tar file in one piece, not compressed; got "),
        ("{a..b}.tar", r"must have braces like \{000..009\} or \{a,b\}; got \{a..b\}$"),
        ("{9..1}.tar", r"must count up, to at most 1000000; got \{9..1\}$"),
        ("empty.tar", "empty.tar: must hold videos or images; got none$"),
        ("twice.tar", "twice.tar, a.json: must be JSON; got "),
    ],
)
def test_shards_that_cannot_be_read_are_one_line(tmp_path: Path, shards: str, message: str):
    (tmp_path / "text.tar").write_text("text" * 500)
    pack(tmp_path / "empty.tar", {"a.txt": b"x"})
    pack(tmp_path / "twice.tar", {"a.mp4": b"x", "a.json": b"{"})
    with pytest.raises(InputError, match=message):
        open_dataset(str(tmp_path / shards))


def test_a_data_loader_reads_clips_in_its_workers(tmp_path: Path):
    for label, name in enumerate(("run", "sit")):
        (tmp_path / name).mkdir()
        for i in range(2):
            write_clip(tmp_path / name / f"{i}.mp4", 8, first=10 * label + 4 * i)
    plain, preprocessing = open_dataset(tmp_path), make_preprocessing(4, size=48)
    dataset = plain.for_model(preprocessing)
    assert len(dataset) == 4
    item = dataset[3]
    assert (item["frames"].shape, item["frames"].dtype) == ((4, 48, 48, 3), np.uint8)
    (batch,) = DataLoader(dataset, batch_size=4, num_workers=2)
    assert batch["frames"].shape == (4, 4, 48, 48, 3)
    assert batch["frames"].dtype == torch.uint8
    assert batch["label"].tolist() == [0, 0, 1, 1]
    assert batch["id"] == ["run/0.mp4", "run/1.mp4", "sit/0.mp4", "sit/1.mp4"]
    assert np.array_equal(batch["frames"][3].numpy(), item["frames"])
    with pytest.raises(InputError, match=r"must know the model to read clips for it: dataset.for_model\(classifier\)$"):
        plain[0]
    with pytest.raises(IndexError):
        dataset[4]


def test_data_sets_do_not_load_torch_or_fsspec(tmp_path: Path):
    write_image(tmp_path / "cat/1.png", 1)
    code = f"""
import sys
from aosa_fast.data import open_dataset
assert len(open_dataset("images:{tmp_path}")) == 1
assert not {{"torch", "fsspec"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=120)
