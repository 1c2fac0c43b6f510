from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from aosa_fast.data import Dataset, open_dataset
from aosa_fast.errors import InputError
from numbered_clips import write_clip, write_frames
from small_nets import make_preprocessing

SPLIT_CLASSES = ("ApplyEyeMakeup", "Archery", "CliffDiving")


def ucf_tree(root: Path, shared_data: Path) -> Path:
    """Links to real clips: avi files that are no avi inside, and frame folders."""
    kinetics = shared_data / "kinetics"
    for name in ("Archery/v_Archery_g01_c01", "Archery/v_Archery_g02_c01", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.avi").symlink_to(kinetics / "arm_wrestling.mp4")
    (root / "CliffDiving").mkdir()
    frames = shared_data / "ucf101/jpg/CliffDiving/v_CliffDiving_g01_c01"
    (root / "CliffDiving/v_CliffDiving_g01_c01").symlink_to(frames)
    (root / "CliffDiving/v_CliffDiving_g01_c01.avi").symlink_to(kinetics / "arm_wrestling.mp4")
    (root / "CliffDiving/.DS_Store").write_bytes(b"x")
    return root


def split_lists(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 CliffDiving\r\n3 Archery\r\n\r\n")
    (folder / "testlist01.txt").write_text(
        "CliffDiving/v_CliffDiving_g01_c01.avi\r\nArchery/v_Archery_g02_c01.avi\r\nArchery/v_Archery_g07_c01.avi\r\n"
    )
    (folder / "trainlist01.txt").write_text(
        "Archery/v_Archery_g01_c01.avi 3\nApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\n"
    )
    return folder


def shown(dataset: Dataset) -> list[tuple[str, str | None]]:
    names = dataset.class_names
    return [(s.id, None if s.label is None else names[s.label] if names else str(s.label)) for s in dataset.samples]


def test_ucf101_without_lists_is_everything_there(tmp_path: Path, shared_data: Path):
    dataset = open_dataset(f"ucf101:{ucf_tree(tmp_path, shared_data)}")
    assert dataset.class_names == SPLIT_CLASSES
    assert shown(dataset) == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup"),
        ("Archery/v_Archery_g01_c01", "Archery"),
        ("Archery/v_Archery_g02_c01", "Archery"),
        ("CliffDiving/v_CliffDiving_g01_c01", "CliffDiving"),
    ]
    assert [s.group for s in dataset.samples][2:] == ["v_Archery_g02", "v_CliffDiving_g01"]
    # Of a video and its frames, the frames: 64, of which 4 with stride 3 have a span of 10.
    clip = dataset.read(dataset.samples[3], make_preprocessing(4, 3))
    assert clip.indices.tolist() == [27, 30, 33, 36]
    assert dataset.read(dataset.samples[1], make_preprocessing(4)).indices.tolist() == [138, 139, 140, 141]
    write_frames(tmp_path / "Archery/v_2.5", 1)  # of a folder, what looks like a suffix is a part of the name
    assert "Archery/v_2.5" in [sample.id for sample in open_dataset(f"ucf101:{tmp_path}").samples]


@pytest.mark.parametrize("where", ["", "ucfTrainTestlist", "elsewhere"])
def test_ucf101_official_splits(tmp_path: Path, shared_data: Path, where: str):
    root = ucf_tree(tmp_path / "root", shared_data)
    lists = split_lists(tmp_path / "lists" if where == "elsewhere" else root / where)
    annotations = lists if where == "elsewhere" else None
    test = open_dataset(f"ucf101:{root}", annotations=annotations, split="test01")
    assert test.class_names == ("ApplyEyeMakeup", "CliffDiving", "Archery")
    assert test.name == "ucf101:test01"
    assert shown(test) == [
        ("CliffDiving/v_CliffDiving_g01_c01", "CliffDiving"),
        ("Archery/v_Archery_g02_c01", "Archery"),
    ]
    assert test.missing == 1
    train = open_dataset(f"ucf101:{root}", annotations=annotations, split="train1")
    assert shown(train) == [
        ("Archery/v_Archery_g01_c01", "Archery"),
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup"),
    ]
    direct = open_dataset(f"ucf101:{root}", annotations=lists / "testlist01.txt")
    assert shown(direct) == shown(test)
    whole = open_dataset(f"ucf101:{root}", annotations=annotations)
    assert (whole.class_names, len(whole)) == (test.class_names, 4)


def test_ucf101_json_of_the_3d_resnet_tools(tmp_path: Path, shared_data: Path):
    root = ucf_tree(tmp_path / "UCF101", shared_data)
    database = {
        "v_Archery_g01_c01": {"subset": "training", "annotations": {"label": "Archery", "segment": [1, 281]}},
        "v_CliffDiving_g01_c01": {"subset": "validation", "annotations": {"label": "CliffDiving", "segment": [1, 64]}},
        "v_Archery_g09_c01": {"subset": "validation", "annotations": {"label": "Archery"}},
    }
    path = tmp_path / "ucf101_01.json"
    path.write_text(json.dumps({"labels": ["CliffDiving", "Archery"], "database": database}))
    for split in ("validation", "test", "test01", "val"):
        dataset = open_dataset(f"ucf101:{tmp_path}", annotations=path, split=split)
        assert dataset.class_names == ("CliffDiving", "Archery")
        assert shown(dataset) == [("CliffDiving/v_CliffDiving_g01_c01", "CliffDiving")]
        assert dataset.missing == 1
    assert dataset.read(dataset.samples[0], make_preprocessing(4, 3)).indices.tolist() == [27, 30, 33, 36]
    assert shown(open_dataset(f"ucf101:{root}", annotations=path, split="train01")) == [
        ("Archery/v_Archery_g01_c01", "Archery")
    ]
    assert len(open_dataset(f"ucf101:{root}", annotations=path)) == 2
    with pytest.raises(InputError, match=r"split must be one of training, validation in [^\n]*json; got testlist"):
        open_dataset(f"ucf101:{root}", annotations=path, split="testlist")


def test_ucf101_24_takes_the_annotated_videos_of_the_split(tmp_path: Path, shared_data: Path):
    root = ucf_tree(tmp_path, shared_data)
    shutil.copy(shared_data / "ucf101/pyannot_sample.pkl", root / "pyannot.pkl")
    assert [s.id for s in open_dataset(f"ucf101-24:{root}").samples] == ["CliffDiving/v_CliffDiving_g01_c01"]
    (root / "splitfiles").mkdir()
    (root / "splitfiles/testlist01.txt").write_text(
        "Diving/v_Diving_g01_c01\nCliffDiving/v_CliffDiving_g01_c01\nCliffDiving/v_CliffDiving_g01_c02\nArchery/v_Archery_g01_c01\n"
    )
    dataset = open_dataset(f"ucf101-24:{root}", annotations=root, split="test01")
    assert [(s.id, s.label) for s in dataset.samples] == [("CliffDiving/v_CliffDiving_g01_c01", 3)]
    assert dataset.missing == 2  # not of the 24 classes: Archery
    assert len(dataset.class_names or ()) == 24
    with pytest.raises(InputError, match=r"^split=train02 must have its list: there is no trainlist02.txt in"):
        open_dataset(f"ucf101-24:{root}", split="train02")


def test_kinetics_by_folder_and_by_csv(tmp_path: Path, shared_data: Path):
    source = shared_data / "kinetics/arm_wrestling.mp4"
    ids = {
        "val/arm wrestling/-1_abc_DEFg_000012_000022.mp4",
        "val/arm wrestling/plainplain1.mkv",
        "val/flipping pancake/abcdefghijk_7_17.mp4",
        "train/flipping pancake/zzzzzzzzzzz_000001_000011.mp4",
    }
    for name in ids:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(source)
    (tmp_path / "val.csv").write_text(
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        'arm wrestling,-1_abc_DEFg,12,22,validate,0\n"arm wrestling",plainplain1,3.0,13.0,val,0\n'
        "flipping pancake,abcdefghijk,7,17,val,0\nflipping pancake,gonegonegon,1,11,val,0\n"
        "zumba,zumbazumbaz,1,11,val,1\nflipping pancake,zzzzzzzzzzz,1,11,train,0\n"
    )
    listed = open_dataset(f"kinetics:{tmp_path}", split="val")
    assert listed.class_names == ("arm wrestling", "flipping pancake", "zumba")
    assert shown(listed) == [
        ("arm wrestling/-1_abc_DEFg_000012_000022", "arm wrestling"),
        ("arm wrestling/plainplain1", "arm wrestling"),
        ("flipping pancake/abcdefghijk_000007_000017", "flipping pancake"),
    ]
    assert listed.missing == 2
    assert listed.read(listed.samples[2], make_preprocessing(4)).indices.tolist() == [138, 139, 140, 141]
    everything = open_dataset(f"kinetics:{tmp_path}", annotations=tmp_path / "val.csv")
    assert (len(everything), everything.missing) == (4, 2)
    (tmp_path / "val.csv").unlink()
    folders = open_dataset(f"kinetics:{tmp_path}", split="val")
    assert folders.class_names == ("arm wrestling", "flipping pancake")
    assert [s.label for s in folders.samples] == [0, 0, 1]
    assert len(open_dataset(f"kinetics:{tmp_path / 'train'}")) == 1


def test_kinetics_csv_errors_name_the_line(tmp_path: Path):
    (tmp_path / "a").mkdir()
    path = tmp_path / "k.csv"
    for text, message in (
        ("label,id\na,b\n", "k.csv: must have the columns label, youtube_id; youtube_id missing, got label, id"),
        ("label,youtube_id\n\na,\n", "k.csv, line 3: youtube_id must not be empty"),
        ("label,youtube_id,time_start,time_end\na,b,x,3\n", "k.csv, line 2: time_start and time_end must be seconds; "),
        ("label,youtube_id,time_start,time_end\na,b,,3\n", "k.csv, line 2: time_start and time_end must be seconds; "),
        ("label,youtube_id\na,b\n", "must hold the videos of .*k.csv; it holds none of 1"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            open_dataset(f"kinetics:{tmp_path}", annotations=path)


def test_plain_folders(tmp_path: Path):
    write_frames(tmp_path / "clips/b", 3)
    write_clip(tmp_path / "clips/a.MP4", 4)
    (tmp_path / "clips/notes.txt").write_text("x")
    (tmp_path / "clips/nothing").mkdir()
    flat = open_dataset(str(tmp_path / "clips"))
    assert (flat.name, flat.class_names) == ("clips", None)
    assert shown(flat) == [("a.MP4", None), ("b", None)]
    assert flat.read(flat.samples[1], make_preprocessing(4)).indices.tolist() == [0, 1, 2, 0]
    (tmp_path / "classes").mkdir()
    (tmp_path / "clips/nothing").rmdir()
    os.rename(tmp_path / "clips", tmp_path / "classes/run")
    write_frames(tmp_path / "classes/jump/a", 2)
    classes = open_dataset(tmp_path / "classes")
    assert classes.class_names == ("jump", "run")
    assert shown(classes) == [("jump/a", "jump"), ("run/a.MP4", "run"), ("run/b", "run")]
    write_clip(tmp_path / "classes/loose.mp4", 2)
    with pytest.raises(InputError, match=r"must hold either clips or one folder of clips per class; got both, such as"):
        open_dataset(tmp_path / "classes")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("ucf102:x", {}, r"^data must be rendered\[:SEED\].*; got ucf102:x, .* \(did you mean ucf101"),
        ("", {}, "^data must be rendered"),
        ("nowhere", {}, "got nowhere, which does not exist$"),
        ("nowhere.csv", {}, r"^nowhere\.csv: must be readable; got No such file"),
        ("manifest:", {}, "a manifest must end in .csv or .parquet$"),
        ("ucf101", {}, "^data must be ucf101:ROOT, ROOT the folder of its videos; got ucf101$"),
        ("kinetics:", {}, "^data must be kinetics:ROOT"),
        ("ucf101:nowhere", {}, "^nowhere: must be a folder; there is nothing of that name$"),
        ("kinetics:nowhere", {}, "^nowhere: must be a folder; there is nothing of that name$"),
        ("ucf101-24:nowhere", {}, "^annotations must name pyannot.pkl of UCF101-24; there is none in nowhere$"),
        ("ucf101-24:nowhere", {"annotations": "no.pkl"}, r"^no\.pkl: must be readable; got No such file"),
        ("ucf101:EMPTY", {}, "EMPTY: must hold one folder of videos or frame folders per class; it holds none$"),
        ("kinetics:EMPTY", {}, "EMPTY: must hold one folder of videos per class, or annotations must name a csv$"),
        ("kinetics:EMPTY", {"split": "val"}, "^split=val must have a folder val or a file val.csv in .*EMPTY$"),
        ("kinetics:EMPTY", {"split": "fall"}, "^split must be train, val or test; got fall$"),
        ("kinetics:EMPTY", {"annotations": "no.csv"}, r"^no\.csv: must be a csv file; there is none of that name$"),
        ("EMPTY", {}, "EMPTY: must hold videos, folders of frames, or one folder of these per class; got neither$"),
        ("EMPTY", {"split": "test"}, "^split must be left out for data=.*EMPTY; got test$"),
        ("EMPTY", {"annotations": "x"}, "^annotations must be left out for data=.*EMPTY; got x$"),
        ("ucf101:FULL", {"annotations": "no.txt"}, r"^no\.txt: must exist; there is no such file or folder$"),
        ("ucf101:FULL", {"split": "test4"}, "^split must be test01, test02, .*; got test4$"),
        ("ucf101:FULL", {"split": "test02"}, "^split=test02 must have its list: there is no testlist02.txt in .*FULL$"),
        ("ucf101:FULL", {"annotations": "LIST", "split": "test01"}, "^split must be left out where annotations is one"),
        (
            "ucf101:FULL",
            {"annotations": "LIST"},
            r"list.txt, line 2: must be Class/video.avi, with or without a number;",
        ),
        ("ucf101:FULL", {"annotations": "JSON"}, r'must hold "labels" and "database" .*; got KeyError: .database.$'),
        ("rendered:x", {}, r"must be rendered\[:SEED\]\[:key=value...\], keys kind, size, .*; got 'x'$"),
        ("rendered:1:pan=x", {}, "^pan of rendered:1:pan=x must be a number, at least 0.0; got 'x'$"),
        ("rendered:size=8", {}, "^size of rendered:size=8 must be a whole number, at least 16; got '8'$"),
        ("rendered:noise=nan", {}, "^noise of .* must be a number, at least 0.0; got 'nan'$"),
        ("rendered:pan=1:pan=2", {}, "got 'pan=2'$"),
        ("rendered", {"split": "test01"}, "^split must be test or train for the rendered set; got test01$"),
        ("rendered", {"annotations": "x"}, "^annotations must be left out for data=rendered; got x$"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(tmp_path: Path, data: str, options: dict[str, str], message: str):
    (tmp_path / "EMPTY").mkdir()
    write_frames(tmp_path / "FULL/A/a", 1)
    (tmp_path / "list.txt").write_text("A/a.avi\nnonsense\n")
    (tmp_path / "j.json").write_text('{"labels": []}')
    places = {"EMPTY": tmp_path / "EMPTY", "FULL": tmp_path / "FULL"}
    for name, path in places.items():
        data = data.replace(name, str(path))
    files = {"LIST": str(tmp_path / "list.txt"), "JSON": str(tmp_path / "j.json")}
    options = {key: files.get(value, value) for key, value in options.items()}
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(data, **options)
    assert "\n" not in str(caught.value)
