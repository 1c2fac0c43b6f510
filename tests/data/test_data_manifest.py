from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aosa_fast.data import open_dataset
from aosa_fast.data.boxes import Boxes
from aosa_fast.errors import InputError
from numbered_clips import write_clip
from small_nets import make_preprocessing

ROWS: list[dict[str, Any]] = [
    {"path": "a.mp4", "label": "Jump", "start": 3.0, "end": 9.5, "boxes": [[4, 1.5, 2, 30, 44], [6, 0, 0, 9, 9]]},
    {"path": "sub dir/b.avi", "label": "run, fast", "start": None, "end": None, "boxes": None},
    {"path": "c", "label": None, "start": 1.25, "end": None, "boxes": [[0, 5, 5, 9, 9], [0, 1, 1, 2, 2]]},
    {"path": "a.mp4", "label": "Jump", "start": None, "end": 2.0, "boxes": None},
]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def flat(sample: Any) -> tuple[Any, ...]:
    boxes = sample.boxes
    if isinstance(boxes, Boxes):
        boxes = boxes.at(range(12), 48, 64).tolist()
    return (sample.id, sample.path, sample.label, sample.start, sample.end, boxes)


def test_a_csv_with_mark_quotes_and_windows_lines(tmp_path: Path):
    text = (
        "\ufeffLabel, path ,start,end,boxes,group\r\n"
        'Jump,a.mp4,3,1.5,"[[4, 1.5, 2, 30, 44]]",x\r\n'
        "\r\n"
        '"run, ""fast""",sub dir/b.avi,,12s,,\r\n'
        " ,/abs/c,0.5s,,null,\r\n"
        'Jump,"line\r\nbreak.mp4",,,"[null, [1, 2, 3, 4]]",é\r\n'
    )
    dataset = open_dataset(written(tmp_path / "my clips.csv", text))
    assert dataset.name == "my clips"
    assert dataset.class_names == ("Jump", 'run, "fast"')
    a, b, c, d = (flat(sample) for sample in dataset.samples)
    assert a[:5] == ("a.mp4@3-1.5s", str(tmp_path / "a.mp4"), 0, 3, 1.5)
    assert (type(a[3]), type(a[4])) == (int, float)
    assert [sample.group for sample in dataset.samples] == ["x", None, None, "é"]
    assert a[5][4] == [[1.5, 2, 30, 44]]
    assert b == ("sub dir/b.avi@-12s", str(tmp_path / "sub dir/b.avi"), 1, None, 12.0, None)
    assert c[:5] == ("/abs/c@0.5s-", "/abs/c", None, 0.5, None)
    assert d[:3] == ("line\r\nbreak.mp4", str(tmp_path / "line\r\nbreak.mp4"), 0)
    assert [row for row in range(12) if np.any(d[5][row])] == [1]


def test_parquet_is_the_same_as_csv(tmp_path: Path):
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(tmp_path / "m.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(ROWS[0]))
        table.writeheader()
        table.writerows({key: json.dumps(v) if isinstance(v, list) else v for key, v in row.items()} for row in ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "nested.parquet")
    texts = [{**row, "boxes": None if row["boxes"] is None else json.dumps(row["boxes"])} for row in ROWS]
    coded = pa.Table.from_pylist(texts)
    column = coded.column_names.index("label")
    coded = coded.set_column(column, "Label", coded["label"].dictionary_encode())
    pq.write_table(coded, tmp_path / "texts.PARQUET")
    from_csv = open_dataset(tmp_path / "m.csv")
    assert len(from_csv) == 4
    assert from_csv.class_names == ("Jump", "run, fast")
    for name in ("nested.parquet", "manifest:texts.PARQUET"):
        kind, _, rest = name.rpartition(":")
        other = open_dataset(f"{kind}:{tmp_path / rest}" if kind else tmp_path / rest)
        assert other.class_names == from_csv.class_names
        assert [flat(sample) for sample in other.samples] == [flat(sample) for sample in from_csv.samples]


def test_parquet_numbers_are_frames_if_whole_and_gaps_are_gaps(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"path": ["a", "b"], "label": [4.0, float("nan")], "start": [7, 0], "end": [float("nan"), 2.5]}
    pq.write_table(pa.table({**columns, "id": [1, 2]}), tmp_path / "m.parquet")
    a, b = open_dataset(tmp_path / "m.parquet").samples
    assert (a.id, a.label, a.start, a.end) == ("1", 4, 7, None)
    assert (b.id, b.label, b.start, b.end) == ("2", None, 0, 2.5)
    assert isinstance(a.start, int)


def test_labels_that_are_all_numbers_are_the_models_own(tmp_path: Path):
    dataset = open_dataset(written(tmp_path / "m.csv", "path,label\na,7\nb,\nc,0\n"))
    assert dataset.class_names is None
    assert [sample.label for sample in dataset.samples] == [7, None, 0]
    mixed = open_dataset(written(tmp_path / "m.csv", "path,label\na,7\nb,seven\n"))
    assert mixed.class_names == ("7", "seven")
    assert [sample.label for sample in mixed.samples] == [0, 1]


def test_the_window_lies_in_the_middle_of_the_part_and_boxes_follow(tmp_path: Path):
    write_clip(tmp_path / "a.mp4", 30)
    # 25 frames a second: frames 6 to 20. A span of 7 in 14 frames begins at 6 + (14 - 7) // 2 = 9.
    boxes = [[i, 10 + i, 2 * i, 40, 44] for i in range(30)]
    text = f'path,label,start,end,boxes\na.mp4,x,0.24,0.8,"{boxes}"\n'
    dataset = open_dataset(written(tmp_path / "m.csv", text))
    clip = dataset.read(dataset.samples[0], make_preprocessing(4, 2))
    assert clip.indices.tolist() == [9, 11, 13, 15]
    # 48 of 64 columns, from 8 on.
    assert clip.boxes[:, 0].tolist() == [[2 + i, 2 * i, 32, 44] for i in (9, 11, 13, 15)]


def test_a_long_field_is_no_limit(tmp_path: Path):
    import csv

    before = csv.field_size_limit()
    boxes = [[i, 0, 0, 5, 5] for i in range(20_000)]
    dataset = open_dataset(written(tmp_path / "m.csv", f'path,label,boxes\na,b,"{boxes}"\n'))
    assert dataset.samples[0].boxes.at([19_999], 9, 9)[0, 0].tolist() == [0, 0, 5, 5]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.csv: must have the columns path, label; path, label missing, got none$"),
        ("path,class\na,b\n", "m.csv: must have the columns path, label; label missing, got path, class$"),
        ("path;label\na;b\n", "m.csv: must have the columns path, label; path, label missing, got path;label$"),
        ("path,label,Path\na,b,c\n", "m.csv: must have each column once; got path twice$"),
        ("path,label\n", "m.csv: must have at least one row; got none$"),
        ("path,label\na,b\na,b,c\n", "m.csv, line 3: must have 2 fields, as the header; got 3$"),
        ("path,label\na\n", "m.csv, line 2: must have 2 fields, as the header; got 1$"),
        ("path,label\na,b\n,b\n", "m.csv, line 3: path must not be empty$"),
        ("path,label\na,1\nb,-3\n", "m.csv, line 3: label must be a name or a number from 0 on; got -3$"),
        ('path,label\na,"b\n', "m.csv, line 2: must be comma-separated values in UTF-8; got unexpected end of data$"),
        ('path,label\n"a\nb",c\n\nd,e\nd,f\n', "m.csv, line 6: id must be unique; d is also that of .*m.csv, line 5$"),
        ("path,label,id\na,b,1\nc,d,1\n", "m.csv, line 3: id must be unique; 1 is also that of .*m.csv, line 2$"),
        ("path,label,start\na,b,soon\n", "m.csv, line 2: start must be a frame number like 12, or .*; got 'soon'$"),
        ("path,label,end\na,b,-1\n", "m.csv, line 2: end must be a frame number like 12, or .*; got '-1'$"),
        ("path,label,end\na,b,inf\n", "m.csv, line 2: end must be a frame number like 12, or .*; got 'inf'$"),
        ("path,label,start,end\na,b,5,5\n", "m.csv, line 2: end must be behind start=5; got 5$"),
        ("path,label,start,end\na,b,2.5,1s\n", "m.csv, line 2: end must be behind start=2.5; got 1.0$"),
        ("path,label,boxes\na,b,[1\n", "m.csv, line 2: boxes must be JSON; got "),
        (
            'path,label,boxes\na,b,"[1, 2]"\n',
            r"m.csv, line 2: boxes must be \[frame, x0, y0, x1, y1\] lists, or .*; got 1$",
        ),
        ("path,label,boxes\na,b,{}\n", r"m.csv, line 2: boxes must be \[frame, .*; got {}$"),
        ("path,label,boxes\na,b," + "[" * 100_000 + "\n", "m.csv, line 2: boxes must be JSON; got "),
    ],
)
def test_a_bad_row_is_one_line_with_its_number(tmp_path: Path, text: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(written(tmp_path / "m.csv", text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_files_that_are_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "m.csv").write_bytes(b"path,label\na,\xff\xfe\n")
    with pytest.raises(InputError, match=r"m\.csv: must be comma-separated values in UTF-8; got "):
        open_dataset(tmp_path / "m.csv")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(InputError, match=r"m\.parquet: must be a Parquet file in one piece; [^\n]*$"):
        open_dataset(tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"no\.parquet: must be readable; got No such file"):
        open_dataset(tmp_path / "no.parquet")
    with pytest.raises(InputError, match=r"m\.txt: a manifest must end in \.csv or \.parquet$"):
        open_dataset(f"manifest:{tmp_path / 'm.txt'}")
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(InputError, match=r"dir\.csv: must be readable; got Is a directory"):
        open_dataset(f"manifest:{tmp_path / 'dir.csv'}")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"a Parquet file must have pyarrow; it is missing: pip install .aosa-fast"):
        open_dataset(tmp_path / "m.parquet")
    assert len(open_dataset(written(tmp_path / "m.csv", "path,label\na,b\n"))) == 1


def test_a_parquet_row_is_named(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"path": ["a", "b"], "label": ["x", "y"], "boxes": [[[1, 2]], [[1]]]}), tmp_path / "m.parquet"
    )
    with pytest.raises(InputError, match=r"m\.parquet, row 1: boxes must be \[frame, x0, y0, x1, y1\] lists"):
        open_dataset(tmp_path / "m.parquet")
    pq.write_table(pa.table({"path": ["a", "b"]}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"m\.parquet: must have the columns path, label; label missing, got path$"):
        open_dataset(tmp_path / "m.parquet")


MEASURES = """
import sys, tracemalloc
from aosa_fast.data import open_dataset
open_dataset(sys.argv[1])  # what is imported once
tracemalloc.start()
dataset = open_dataset(sys.argv[1])
chosen = dataset.select(per_class=2_000)
print(*tracemalloc.get_traced_memory())
"""


def test_a_long_manifest_takes_a_few_bytes_a_clip_and_can_still_be_chosen_from(tmp_path: Path):
    count = 20_000
    lines = [f"class {i % 7}/a clip of some length {i:09}.mp4,class {i % 7}\n" for i in range(count)]
    path = written(tmp_path / "m.csv", "path,label\n" + "".join(lines))
    # In a process of its own: the table of the texts that Python shares grows when it likes, by megabytes.
    done = subprocess.run([sys.executable, "-P", "-c", MEASURES, path], capture_output=True, check=True)
    kept, peak = map(int, done.stdout.split())
    assert kept < 25 * count + (1 << 20)  # places in the file 8 bytes, labels 4, the choice 8
    assert peak < 80 * count + (1 << 20)
    dataset = open_dataset(path)
    chosen = dataset.select(per_class=2_000)
    assert len(dataset) == count
    assert dataset.samples[-1].id == "class 0/a clip of some length 000019999.mp4"
    assert [sample.id for sample in dataset.samples[3:5]] == [sample.id for sample in list(dataset.samples)[3:5]]
    plain = replace(dataset, samples=tuple(dataset.samples))
    assert list(chosen.samples) == list(plain.select(per_class=2_000).samples)
    assert chosen.count_labels() == dict.fromkeys(range(7), 2_000)
    with pytest.raises(IndexError):
        dataset.samples[count]
    few = dataset.select(limit=3)
    assert list(pickle.loads(pickle.dumps(few)).samples) == list(few.samples)  # for the workers of a DataLoader
