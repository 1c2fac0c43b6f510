"""What is written into folders that others have filled, and under which names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.store.parts import PartWriter, read_rows
from aosa_fast.audit.store.run_folder import open_run
from aosa_fast.audit.workers.attempts import Attempts
from aosa_fast.cli.names import file_names
from aosa_fast.data import open_dataset
from aosa_fast.demo import demo_clip_path
from aosa_fast.errors import InputError
from aosa_fast.evaluation.journal import Journal
from cli_runs import Run, one_line_error

SECRET = "not ours"


def write_audit(folder: Path) -> None:
    with open_run(folder, {"model": "demo"}, {}, (1, 1)) as run:
        with Attempts(folder, (1, 1)) as attempts:
            attempts.record(["a"], "read", "SIGSEGV")
        with PartWriter(folder, (1, 1)) as parts:
            parts.add([{"id": "a", "status": "ok"}])
        run.finish({"finished": True})


def write_dense(folder: Path) -> None:
    pytest.importorskip("zarr")
    import numpy as np

    from aosa_fast.audit.store.dense import DenseWriter

    with DenseWriter(folder, (1, 1), (2, 4, 4)) as dense:
        dense.append("a", np.ones((2, 4, 4), np.float32))


def write_journal(folder: Path) -> None:
    journal = Journal(folder, {"data": "x"})
    journal.add("aosa", "", 0, [])
    journal.close()


WRITERS = {
    ".run-1of1.tmp": write_audit,
    "shards": write_audit,
    "shards/1of1.lock": write_audit,
    "shards/1of1.json": write_audit,
    "shards/.1of1.tmp": write_audit,
    "attempts": write_audit,
    "attempts/1of1.jsonl": write_audit,
    "clips": write_audit,
    "clips/part-1of1-000000.parquet": write_audit,
    ".part-1of1-000000.tmp": write_audit,
    "dense": write_dense,
    "dense/1of1.zarr": write_dense,
    "dense/1of1.zarr/zarr.json": write_dense,
    "dense/1of1.zarr/values": write_dense,
    "dense/1of1.zarr/values/c.0.0.0.0": write_dense,
    "journal.jsonl": write_journal,
}


@pytest.mark.parametrize("dangling", [False, True], ids=["link", "link to nothing"])
@pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)
def test_no_link_in_an_output_folder_is_followed(
    tmp_path: Path, name: str, write: Callable[[Path], None], dangling: bool
) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "real"
    outside.mkdir()
    folder.mkdir()
    (tmp_path / "out").symlink_to(folder)  # the folder itself, which its user names, may be one
    target = outside / ("nothing" if dangling else "file")
    if not dangling:
        target.mkdir() if "." not in Path(name).name.removesuffix(".zarr") else target.write_text(SECRET)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(target)
    try:
        write(tmp_path / "out")
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - some are replaced, others refused
    if dangling:
        assert not os.path.lexists(target)
    elif target.is_dir():
        assert not list(target.iterdir())
    else:
        assert target.read_text() == SECRET


@pytest.mark.parametrize("name", ["shards/1of1.json", "clips/part-1of1-000000.parquet", "attempts/1of1.jsonl"])
def test_a_pipe_in_an_output_folder_keeps_nobody_waiting(tmp_path: Path, name: str) -> None:
    write_audit(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=re.escape(name)) as caught:
        write_audit(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_reads_parquet_gives_no_object_of_pythons_to_other_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whose last reference may go in a thread of pyarrow's while the interpreter ends: that aborted 3 of 15 commands.
    write_audit(tmp_path)
    pq.write_table(pa.table({"path": ["a.mp4"], "label": ["a"]}), tmp_path / "clips.parquet")
    (tmp_path / "a.mp4").touch()
    sources: list[object] = []

    class Recorder(pq.ParquetFile):
        def __init__(self, source: object, **options: Any) -> None:
            sources.append(source)
            super().__init__(source, **options)

    monkeypatch.setattr(pq, "ParquetFile", Recorder)
    monkeypatch.setattr(pq, "read_table", lambda *_, **__: pytest.fail("reads past `open_parquet`"))
    assert len(read_rows(tmp_path)) == len(list(find_rows(tmp_path, ["a"], ["id"]))) == 1
    assert len(open_dataset(tmp_path / "clips.parquet")) == 1
    assert len(sources) == 3
    assert all(isinstance(source, pa.OSFile) for source in sources)


def test_results_replace_links_in_their_places(aosa: Run, tmp_path: Path) -> None:
    names = ("overlay.mp4", "sheet.png", "explanation.npz", "report.json")
    (tmp_path / "outside").write_text(SECRET)
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).symlink_to(tmp_path / "outside")
    done = aosa("explain", demo_clip_path(), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outside").read_text() == SECRET
    assert not any((tmp_path / "out" / name).is_symlink() for name in names)


TEXTS = [
    "C++", "C", "c", "C#", "???", "!!!", "", ".", "..", ".hidden", "-x", "a/b", "a\\b", "C:", "con", "NUL.txt",
    "new\nline", "é" * 300, "é" * 301, unicodedata.normalize("NFD", "é" * 300), "x" * 100_000, "\ud800", "\udce9",
    "\u202egpj.exe", "a", "a", "a-2", "arm wrestling", " - ", "\0", "日本 語", "x. ",
]  # fmt: skip


def test_names_are_unique_bounded_and_can_be_files_anywhere(tmp_path: Path) -> None:
    names = file_names(TEXTS)
    assert names == file_names(iter(TEXTS))
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(TEXTS)
    for name in names:
        full = f"{name}.explanation.npz"
        assert len(os.fsencode(full)) <= 143, name
        assert name[0] not in ".-", name
        assert name[-1] not in ". ", name
        assert not set(name) & set('/\\:*?"<>|\n\0 '), name
        assert name.split(".")[0].lower() not in ("con", "nul"), name
        (tmp_path / full).touch(exist_ok=False)
    assert names[:5] == ["C++", "C", "c-2", "C#", "unnamed"]
    assert file_names(["arm wrestling"]) == ["arm-wrestling"]


def test_targets_that_look_alike_have_results_of_their_own(aosa: Run, tmp_path: Path) -> None:
    done = aosa("explain", demo_clip_path(), "--target", "left", "--target", "pred", "--target", "0", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.explanation.npz"))) == 3


@pytest.mark.parametrize("name", ["...mp4", ".mp4", "x" * 240 + ".mp4"], ids=["dots", "hidden", "long"])
@pytest.mark.parametrize("command", ["explain", "compare"])
def test_results_of_a_clip_stay_in_the_folder_of_results(
    aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).symlink_to(demo_clip_path())
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / name).write_bytes(demo_clip_path().read_bytes())
    done = aosa(command, Path("clips") / name, *(["--methods", "random"] if command == "compare" else []))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {name, "clips", "out"}
    assert [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("too long", ("explain", "--out", "x" * 300)),
        ("too long", ("explain", "--out", "y/" * 3000)),
        ("too long", ("compare", "--out", "x" * 300 + ".png")),
        ("report.json: must be a file name; it is a folder", ("explain", "--out", "taken")),
        ("a.png: must be a file name; it is a device", ("compare", "--out", "taken/a.png")),
    ],
    ids=["folder", "path", "picture", "result", "device"],
)
def test_names_that_cannot_be_are_refused_before_the_work(
    aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, command: tuple[str, ...]
) -> None:
    (tmp_path / "taken" / "report.json").mkdir(parents=True)
    os.mkfifo(tmp_path / "taken" / "a.png")
    there = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aosa_fast.cli.run_explain.load_on", lambda *_: pytest.fail("began to work"))
    monkeypatch.setattr("aosa_fast.cli.run_evaluate.load_on", lambda *_: pytest.fail("began to work"), raising=False)
    assert message in one_line_error(aosa(command[0], demo_clip_path(), *command[1:]))
    assert sorted(tmp_path.rglob("*")) == there
