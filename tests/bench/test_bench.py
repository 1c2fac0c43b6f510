from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aosa_fast.bench import replay, scaling
from aosa_fast.bench.compare import compare
from aosa_fast.bench.harness import Cases, Seconds, peak_of
from aosa_fast.bench.plot import plot
from aosa_fast.bench.registry import SUITES, chosen_parts
from aosa_fast.bench.report import Report
from aosa_fast.bench.rows import RESULTS, Row, publish, read_rows, write_run, write_table
from aosa_fast.errors import InputError
from aosa_fast.registry import import_object
from cli_runs import aosa_process


def row(case: str, values: list[float], unit: str = "ms", metric: str = "time", **others: Any) -> Row:
    p20, p50, p80 = (sorted(values)[int(share * (len(values) - 1))] for share in (0.2, 0.5, 0.8))
    own = {"part": "approx", "case": case, "metric": metric, "unit": unit, "value": p50, "p20": p20, "p80": p80}
    where = {"threads": 2, "machine": "a machine", "torch": "2", "aosa_fast": "1", "peak_mb": 12.0}
    return {**own, **where, "repeats": len(values), "rounds": values, **others}


def test_every_recorded_row_says_how_it_was_measured():
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for one in rows:
        assert all(one[name] for name in ("part", "case", "metric", "unit", "value", "p20", "p80", "repeats"))
        assert all(one[name] for name in ("threads", "load", "machine", "torch", "commit", "utc"))
    keys = [tuple(one[name] for name in ("part", "case", "metric", "threads", "machine")) for one in rows]
    assert len(keys) == len(set(keys))


def test_every_part_can_be_run_and_has_a_name_of_its_own():
    parts = [part for suite in SUITES.values() for part in suite.parts]
    assert len({part.name for part in parts}) == len(parts)
    for place in {place for part in parts for place in (part.run, part.cuda, part.check) if place}:
        assert callable(import_object(place)), place


def test_rows_on_record_are_of_parts_or_studies():
    parts = {part.name for suite in SUITES.values() for part in suite.parts}
    assert {one["part"] for one in read_rows(RESULTS)} <= parts | {"agreement", "marks"}


def test_suites_and_parts_are_chosen_by_name():
    assert [part.name for part in chosen_parts(["stages:flow", "scaling", "stages:flow"], cuda=False)] == [
        "flow",
        "scaling",
    ]
    assert "copy" not in {part.name for part in chosen_parts(["stages"], cuda=False)}
    with pytest.raises(InputError, match="did you mean stages"):
        chosen_parts(["stagez"], cuda=False)
    with pytest.raises(InputError, match="got stages:copy"):
        chosen_parts(["stages:copy"], cuda=False)


def test_a_run_is_written_with_every_round(tmp_path: Path):
    done = aosa_process("bench", "--suite", "stages:estimate", "--quick", "--json", tmp_path / "run.json")
    assert done.returncode == 0, done.stderr
    assert "Targets, of few rounds" in done.stdout
    rows = read_rows(tmp_path / "run.json")
    assert {one["part"] for one in rows} == {"estimate"}
    assert all(len(one["rounds"]) == one["repeats"] == 3 and one["peak_mb"] >= 0 for one in rows)
    with pytest.raises(InputError, match="must be a run without --quick"):
        publish(tmp_path / "run.json", tmp_path / "table.csv", overwrite=False)


def test_a_run_is_published_and_what_is_there_stays(tmp_path: Path):
    write_run(tmp_path / "run.json", [row("a", [1.0, 2.0, 3.0]), row("b", [4.0])], quick=False)
    write_table(tmp_path / "table.csv", [row("a", [9.0])])
    assert publish(tmp_path / "run.json", tmp_path / "table.csv", overwrite=False) == (1, 1)
    assert [one["value"] for one in read_rows(tmp_path / "table.csv")] == [9.0, 4.0]
    assert publish(tmp_path / "run.json", tmp_path / "table.csv", overwrite=True) == (2, 0)
    assert [one["value"] for one in read_rows(tmp_path / "table.csv")] == [2.0, 4.0]


def test_compare_names_what_changed_beyond_noise(tmp_path: Path):
    noise = [0.98, 1.01, 1.0, 1.03, 0.97, 0.99, 1.02, 1.0]
    before = [row("same", noise), row("slower", noise), row("few", [1.0, 1.0]), row("gone", noise)]
    after = [row("same", noise[::-1]), row("slower", [1.2 * v for v in noise]), row("few", [9.0, 9.0])]
    write_run(tmp_path / "a.json", before, quick=False)
    write_run(tmp_path / "b.json", after, quick=False)
    done = aosa_process("bench", "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "1 of 3 rows have changed beyond noise"
    assert lines[1].startswith("  approx: slower, time, 2 threads: 1 -> 1.2 ms, 1.200 times (1.1")
    assert lines[2] == "fewer than 6 rounds, so that none can tell: 1 of them"
    assert lines[3] == f"in {tmp_path / 'a.json'} only: 1 more"
    # A table has no rounds: the spread is that of p20 and p80.
    write_table(tmp_path / "b.csv", after)
    assert compare(tmp_path / "a.json", tmp_path / "b.csv")[0] == lines[0]


def test_verify_says_which_published_ratios_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ratio = {"unit": "ratio", "metric": "total / (fwd + bwd)"}
    published = [row("near", [1.04], **ratio), row("far", [1.04], **ratio), row("left out", [2.0], **ratio)]
    published.append(row("noisy", [0.9, 1.0, 1.1] * 4, **ratio))
    write_table(tmp_path / "results.csv", [*published, row("near", [700.0])])
    asked = []

    def run(parts: list[Any], device: str, quick: bool, made: Path) -> int:
        asked.append((device, *[part.name for part in parts]))
        made_again = [row("near", [1.1], **ratio), row("far", [2.0], **ratio), row("noisy", [1.15] * 2, **ratio)]
        write_run(made, [*made_again, row("near", [70.0])], quick)
        return 0

    monkeypatch.setattr(replay, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr("aosa_fast.bench.run.run_parts", run)
    code, lines = replay.verify(None, "cpu", quick=True)
    assert code == 1
    assert lines[0].startswith("holds: approx: near, total / (fwd + bwd), 2 threads: 1.04 published, 1.1 here")
    assert lines[1].startswith("DIFFERS: approx: far")
    assert lines[1].endswith("ratio (+92.3 %)")
    assert lines[2].startswith("not made here: approx: left out")
    assert lines[3].startswith("holds: approx: noisy"), "two rounds of that spread may be 15 % off"
    assert lines[4] == "2 of 3 hold; 1 were not made here"
    assert replay.verify("near fwd", "cpu", quick=True)[0] == 0
    assert asked == [("cpu", "approx")] * 2
    with pytest.raises(InputError, match="row must be named as in"):
        replay.verify("nothing", "cpu", quick=True)


def test_verify_wants_a_row_or_all():
    done = aosa_process("bench", "verify", "--all", "approx")
    assert done.returncode == 2
    assert done.stderr == "error: verify must have either a row or --all; got both\n"


@pytest.mark.parametrize("what", ["peers", "scaling"])
def test_pictures_are_drawn(tmp_path: Path, what: str):
    cases = (
        "network, forward + backward",
        "aosa_fast, AOSA-approx, s=8",
        "authors, dense masks, s=8",
        "Captum, Saliency",
    )
    if what == "peers":
        rows = [row(case, [1.0 + i, 1.2 + i], "ratio", "time / (fwd + bwd)", part=what) for i, case in enumerate(cases)]
    else:
        rows = [row(f"N, partners={n}", [float(n), 1.1 * n], part=what) for n in (1, 4, 16)]
        rows.append(row("N, partners", [1.0], "power", "exponent of time, expected 1", part=what))
    write_run(tmp_path / "run.json", rows, quick=False)
    plot([tmp_path / "run.json"], what, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width == 1350
    with pytest.raises(InputError, match="out must have a suffix that Matplotlib writes"):
        plot([tmp_path / "run.json"], what, tmp_path / "picture.mp5")


def test_a_file_that_is_no_run_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "run.json"
    for text in ("", "[]", json.dumps({"schema": 2, "rows": []}), json.dumps({"schema": 1, "rows": [{"part": "x"}]})):
        path.write_text(text)
        with pytest.raises(InputError, match=r"run\.json"):
            read_rows(path)


def test_an_exponent_is_fitted_to_the_times_and_peaks_of_a_size_that_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def timed(cases: Cases, repeats: int) -> dict[str, Seconds]:
        made = {name: Seconds([0.02 * int(name) ** 2] * repeats) for name in cases}
        for name, seconds in made.items():
            seconds.peak = 8.0 * int(name)
        return made

    monkeypatch.setattr(scaling, "interleave", timed)
    sweep = scaling.Sweep("n", (1, 2, 4), lambda n: partial(int, n), expected=2.0, memory=1.0)
    monkeypatch.setattr(scaling, "sweeps", lambda: [sweep])
    scaling.scaling(Report("scaling", json=tmp_path / "run.json", quick=True), quick=True)
    found = {row["metric"]: row["value"] for row in read_rows(tmp_path / "run.json") if row["case"] == "n"}
    assert found == {
        "exponent of time, expected 2": pytest.approx(2),
        "exponent of memory, expected 1": pytest.approx(1),
    }


def test_the_peak_of_a_call_is_what_it_held_beyond_what_was_held_before():
    kept = bytearray(b"x") * 50_000_000
    assert peak_of(lambda: bytearray(b"x") * 100_000_000) == pytest.approx(100, abs=20)
    assert len(kept) == 50_000_000
