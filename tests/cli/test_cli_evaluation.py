"""The commands that compare methods, as a user runs them, on the rendered set and on real clips."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from aosa_fast.demo import demo_clip_path
from aosa_fast.evaluation.journal import FILE
from aosa_fast.evaluation.paper import TABLES
from cli_runs import Run, one_line_error


def rows_of(folder: Path) -> list[dict]:
    return pyarrow.parquet.read_table(folder / "results.parquet").to_pylist()


def without_times(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_evaluate_on_the_rendered_set(aosa: Run, tmp_path: Path):
    arguments = (
        "evaluate", "rendered:7", "--limit", 6, "--methods", "grad-cam,aosa-approx,aosa-approx:relu=none,random",
        "--methods", "centre@2", "--out", tmp_path / "out",
    )  # fmt: skip
    done = aosa(*arguments)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 4 * 6 + 2
    assert {row["method"] for row in rows} == {
        "grad-cam", "aosa-approx", "aosa-approx:relu=none", "random", "centre",
    }  # fmt: skip
    assert all(row["status"] == "ok" and row["spt_frames"] == 16 and len(row["deletion_curve"]) == 29 for row in rows)
    by_method = {
        name: np.mean([r["overall_fill"] for r in rows if r["method"] == name]) for name in ("aosa-approx", "random")
    }
    assert by_method["aosa-approx"] > by_method["random"] + 0.2
    assert "| aosa-approx " in done.stdout
    assert "2 of 6" in done.stdout
    text = (tmp_path / "out" / "table.md").read_text()
    assert "aosa-fast evaluate rendered:7 --limit 6" in text
    assert (tmp_path / "out" / "curves.png").exists()
    again = aosa(*arguments)
    assert again.returncode == 0, again.stderr
    assert rows_of(tmp_path / "out") == rows


def test_a_killed_run_goes_on_to_the_same_rows(aosa: Run, tmp_path: Path):
    arguments = [
        "evaluate",
        "rendered:3",
        "--limit",
        "6",
        "--block",
        "1",
        "--methods",
        "aosa,random",
        "--metrics",
        "pointing",
    ]
    arguments += ["--stride", "8"]
    assert aosa(*arguments, "--out", tmp_path / "whole").returncode == 0
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-c",
            "from aosa_fast.cli.main import main; main()",
            *arguments,
            "--out",
            tmp_path / "killed",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    journal = tmp_path / "killed" / FILE
    limit = time.monotonic() + 120
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 4:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "results.parquet").exists()
    assert aosa(*arguments, "--out", tmp_path / "killed").returncode == 0
    assert without_times(rows_of(tmp_path / "killed")) == without_times(rows_of(tmp_path / "whole"))


def test_a_manifest_with_real_and_damaged_clips(aosa: Run, shared_data: Path, tmp_path: Path):
    (tmp_path / "text.mp4").write_text("no video")
    manifest = tmp_path / "clips.csv"
    with open(manifest, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerow([shared_data / "kinetics" / "arm_wrestling.mp4", "left"])
        writer.writerow(["text.mp4", "right"])
        writer.writerow(["missing.mp4", "up"])
        writer.writerow([shared_data / "ucf101" / "jpg" / "CliffDiving" / "v_CliffDiving_g01_c01", "down"])
    done = aosa("evaluate", manifest, "--methods", "aosa-approx,random", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 8
    for row in rows:
        assert row["status"] == ("error" if row["path"].endswith(("text.mp4", "missing.mp4")) else "ok")
    assert all(row["label"] is not None and row["spt_frames"] is None for row in rows)
    assert "2 clips left out: " in done.stdout
    assert "missing.mp4" in done.stdout


@pytest.mark.filterwarnings("ignore:1 clip has a label that the model does not know")
def test_real_boxes(aosa: Run, shared_data: Path, tmp_path: Path):
    folder = tmp_path / "CliffDiving"
    folder.mkdir()
    (folder / "v_CliffDiving_g01_c01").symlink_to(
        shared_data / "ucf101" / "jpg" / "CliffDiving" / "v_CliffDiving_g01_c01"
    )
    done = aosa(
        "evaluate", f"ucf101-24:{tmp_path}", "--annotations", shared_data / "ucf101" / "pyannot_sample.pkl",
        "--target", "pred", "--methods", "aosa-approx,centre", "--metrics", "pointing", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for row in rows_of(tmp_path / "out"):
        assert row["spt_frames"] > 0
        assert 0 < row["energy_chance"] < 0.5


@pytest.mark.parametrize("table", TABLES)
def test_reproduce(aosa: Run, tmp_path: Path, table: str):
    methods = {
        "III": "grad-cam,attention-rollout,aosa-approx,random",
        "V": "grad-cam,aosa-approx,aosa-approx:half-stride",
    }
    methods |= {"VI": "aosa:partners=0,aosa", "VII": "aosa-approx:fill=mean:relu=none,aosa-approx"}
    arguments = ["reproduce", table, "--limit", 2, "--out", tmp_path]
    arguments += ["--methods", methods.get(table, "grad-cam,aosa-approx,random")]
    done = aosa(*arguments, *(["--model", "demo"] if table != "III" else []))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "table.md").read_text()
    assert text.startswith(f"# Table {table}: {TABLES[table].title}")
    line = next(line for line in text.splitlines() if line.startswith("| aosa-approx |") or line.startswith("| aosa |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    known = TABLES[table].values[cells[0]]
    for cell, values in zip(cells[1:], known, strict=False):
        assert cell == " / ".join(f"{value:.3f}" for value in values)
    measured = cells[1 + len(known) :]
    assert len(measured) == (2 if table == "III" else 1)
    for cell in measured:
        numbers = [float(part) for part in re.findall(r"-?\d+\.\d+", cell)]
        assert len(numbers) >= len(TABLES[table].quantities)
    if table == "III":
        rollout = next(line for line in text.splitlines() if line.startswith("| attention-rollout |"))
        assert [cell.strip() for cell in rollout.strip("|").split("|")][3] == "-"  # the first model has no attention


def test_reproduce_scales_the_papers_settings(aosa: Run, tmp_path: Path):
    done = aosa(
        "reproduce", "VI", "--limit", 1, "--model", "R(2+1)D=demo", "--methods", "aosa,random", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    (results,) = tmp_path.glob(f"*/{FILE}")
    assert '"radius": 4.0' in results.read_text()  # 7 pixels at 112, at 64
    assert "measured: R(2+1)D=demo" in done.stdout


def test_reproduce_names_seeds_and_counts(aosa: Run, tmp_path: Path):
    arguments = ("reproduce", "I", "--limit", 3, "--model", "demo", "--out", tmp_path, "--seed", 5)
    done = aosa(*arguments, "--methods", "aosa-approx:partners=0,random,osa@1:cuboid_step=8")
    assert done.returncode == 0, done.stderr
    lines = {line.split(" | ")[0].strip("| "): line for line in done.stdout.splitlines() if line.startswith("| ")}
    assert re.search(r"\d\.\d{3} \(n = 1\) \|$", lines["osa:cuboid_step=8"])
    assert "(n =" not in lines["random"]
    assert re.search(r"\d ± ", lines["aosa-approx:partners=0"])
    assert "demo: anchors every 5 pixels, boxes of 9, radius 4 pixels; 3 clips, 0 left out; seed 5." in done.stdout
    other = aosa(*arguments[:-1], 6, "--methods", "random")
    assert other.returncode == 2  # random maps of another seed do not go into the same folder
    assert "must hold the same settings" in one_line_error(other)


def test_tables_without_boxes_are_refused_at_once(aosa: Run, shared_data: Path, tmp_path: Path):
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "a.mp4").symlink_to(shared_data / "kinetics" / "arm_wrestling.mp4")
    done = aosa("reproduce", "IV", "--data", tmp_path, "--model", "demo", "--out", tmp_path / "out")
    assert "must have boxes for table IV; it has none" in one_line_error(done)
    assert not (tmp_path / "out").exists()


def test_compare(aosa: Run, tmp_path: Path):
    done = aosa("compare", demo_clip_path(), "--methods", "grad-cam,aosa-approx", "--out", tmp_path / "deep" / "c.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "deep" / "c.png") as image:
        assert min(image.size) > 400
    assert "right" in done.stdout
    wide = aosa(*("compare", demo_clip_path(), "--methods", "random", "--resize", "tall", "--out", tmp_path / "d.png"))
    assert "resize must be one of short, exact, letterbox; got tall" in one_line_error(wide)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "nowhere"), "nowhere"),
        (("evaluate", "rendered", "--metrics", "speed"), "metrics must be one of "),
        (("evaluate", "rendered", "--methods", "magic"), "method must be one of "),
        (("evaluate", "rendered", "--target", "best"), "target must be label or pred; got best"),
        (("evaluate", "rendered", "--radius-px", "inf"), "radius must be at least 0, and finite; got inf"),
        (("evaluate", "rendered", "--box", "big"), "box must be a side or HEIGHTxWIDTH"),
        (("evaluate", "rendered", "--model", "nothing"), "model must be one of "),
        (("reproduce", "VIII"), "table must be I to VII, or 1 to 7; got VIII"),
        (("compare", "missing.mp4"), "missing.mp4"),
        (("compare", demo_clip_path(), "--out", "picture.txt"), "out must end in .png or .jpg; got picture.txt"),
    ],
)
def test_bad_input_gets_one_line(aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in one_line_error(aosa(*arguments))
    assert not list(tmp_path.iterdir())
