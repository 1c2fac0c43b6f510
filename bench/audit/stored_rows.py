"""What an audit's rows cost: seconds to write and to read them, bytes on disk, memory of what takes all of them."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aosa_fast.audit.store.parts import PartWriter, done_ids, read_rows
from aosa_fast.audit.store.run_folder import open_run
from aosa_fast.audit.tasks import Row
from aosa_fast.bench.audit.child import CHILD
from aosa_fast.bench.audit.files import SMALL
from aosa_fast.bench.audit.made_up import CLASSES, PER_PART, check_findings, write_audit
from aosa_fast.bench.fresh import fresh
from aosa_fast.bench.report import Report, Target

WRITTEN = 20_000  # rows, with maps
GROUP = 8  # rows that come together
SHARD = (1, 1)
FEW = 200  # parts of a few rows, to see what a part costs


def rows(report: Report, quick: bool) -> None:
    """Writes rows of a real audit again and again under new names, and reads them."""
    count = 3000 if quick else WRITTEN
    report.section(f"rows of clips of 16x112x112, 196 tubes; {count} of them for what takes them all")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real = _real_rows(report, folder / "real", 32 if quick else PER_PART)
        _sizes(report, folder, real)
        _write(report, folder / "many", real, count)
        _manifest(folder / "clips.csv", count)
        _manifest(folder / "few.csv", PER_PART)
        _read(report, folder, count)
        _small_parts(report, folder / "small", real)
        _many_names(report, folder / "names", 1000 if quick else 100_000)
        _reports(report, folder, (3000, 10_000) if quick else (10_000, 100_000, 1_000_000))


def _real_rows(report: Report, folder: Path, count: int) -> list[Row]:
    """Of an audit of clips with a camera that pans, by a network that takes no time; with whole maps beside."""
    fresh(
        f"{CHILD}:audit", data="rendered:0:pan=0.3", model=SMALL, out=str(folder), limit=count,
        settings={"dense": True},
    )  # fmt: skip
    dense = sum(path.stat().st_size for path in (folder / "dense").rglob("*") if path.is_file())
    files = sum(path.is_file() for path in (folder / "dense").rglob("*"))
    report.add("dense maps, 16x112x112", "on disk", "kB/clip", [dense / count / 1e3], note=f"{files} files")
    return [{**row, "dense_index": None} for row in read_rows(folder).to_pylist()]


def _sizes(report: Report, folder: Path, real: list[Row]) -> None:
    summary = [{k: v for k, v in row.items() if not k.startswith("map_")} for row in real]
    plain = [{k: v for k, v in row.items() if not k.startswith("grid")} for row in summary]
    for case, rows in (("with maps", real), ("maps=summary", summary), ("neither maps nor grids", plain)):
        where = folder / case
        with PartWriter(where, SHARD) as writer:
            writer.add(rows)
        size = sum(path.stat().st_size for path in (where / "clips").iterdir())
        report.add(f"rows, {case}", "on disk", "kB/clip", [size / len(rows) / 1e3])


def _write(report: Report, folder: Path, real: list[Row], count: int) -> None:
    with open_run(folder, {"data": "made up"}, {}, SHARD):
        adding, committing, done = 0.0, [], 0
        writer = PartWriter(folder, SHARD, rows=count + 1, seconds=1e9)
        for rows in _many(real, count):
            start = time.perf_counter()
            for i in range(0, len(rows), GROUP):
                writer.add(rows[i : i + GROUP])
            middle = time.perf_counter()
            writer.flush()
            adding += middle - start
            committing.append(time.perf_counter() - middle)
            done += len(rows)
        full = committing[: max(done // PER_PART, 1)]
        report.add(f"PartWriter, {GROUP} rows at a time", "throughput", "rows/s", [done / (adding + sum(committing))])
        report.add(f"PartWriter, {GROUP} rows at a time", "time in add", "ms/row", [1e3 * adding / done])
        report.add(f"commit of a part of {PER_PART} rows", "time", "ms", [1e3 * seconds for seconds in full])


def _many(real: list[Row], count: int) -> Iterator[list[Row]]:
    """Rows under new names, a part's at a time; grids are mixtures of two clips', so that no two are the same."""
    rng = np.random.default_rng(0)
    for begin in range(0, count, PER_PART):
        rows = []
        for number in range(begin, min(begin + PER_PART, count)):
            one, other = real[number % len(real)], real[rng.integers(len(real))]
            label = int(rng.integers(CLASSES))
            rows.append({**one, **_mixture(rng, one, other), **_named(number, label)})
        yield rows


def _mixture(rng: np.random.Generator, one: Row, other: Row) -> dict[str, Any]:
    share = rng.random()
    mixed = {}
    for name in ("grid", "grid_moving", "grid_around"):
        if one[name] is not None and other[name] is not None:
            values = share * np.array(one[name], np.float32) + (1 - share) * np.array(other[name], np.float32)
            mixed[name] = values.astype(np.float32)
    return mixed


def _named(number: int, label: int) -> dict[str, Any]:
    name = f"class {label:03}"
    return {
        "id": f"{name}/clip{number:09}.mp4",
        "path": f"/data/videos/{name}/clip{number:09}.mp4",
        **dict.fromkeys(("data_label", "label", "prediction", "target"), label),
        **dict.fromkeys(("label_name", "prediction_name"), name),
    }


def _manifest(path: Path, count: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for number in range(count):
            label = f"class {number % CLASSES:03}"
            writer.writerow((f"{label}/clip{number:09}.mp4", label))


def _read(report: Report, folder: Path, count: int) -> None:
    of_clips = ("open_manifest", "choose_shard", "wanted_ids")
    of_rows = ("done_ids", "read_ids", "read_without_maps", "read_all", "sum_rows", "summarize")
    for name in (*of_clips, *of_rows):
        large, small = ("clips.csv", "few.csv") if name in of_clips else ("many", "real")
        answer = fresh(f"{CHILD}:step", name=name, argument=str(folder / large), small=str(folder / small))
        case = f"{name}, {count} rows"
        report.add(case, "time per 1e5 rows", "s", [1e5 / count * answer["seconds"]])
        report.add(case, "peak memory per row", "bytes", [1e6 * answer["peak"] / count])
        report.add(case, "memory kept per row", "bytes", [1e6 * answer["kept"] / count])


def _reports(report: Report, folder: Path, sizes: Sequence[int]) -> None:
    """`audit-report`, page and tables included, and how its time and memory grow."""
    real = read_rows(folder / "real")
    seconds, peaks = [], []
    report.section(f"audit-report of made-up audits of {CLASSES} classes")
    for count in sizes:
        where = folder / f"report-{count}"
        write_audit(where, real, count)
        answer = fresh(f"{CHILD}:report", folder=str(where))
        check_findings(where / "findings.parquet")
        shutil.rmtree(where)
        targets = (Target("<=", 300), Target("<=", 1000)) if count == 1_000_000 else (None, None)
        seconds.append(report.add(f"audit-report, {count} rows", "time", "s", [answer["seconds"]], targets[0]))
        peaks.append(report.add(f"audit-report, {count} rows", "peak memory", "MB", [answer["peak"]], targets[1]))
    name = f"audit-report, {sizes[0]} to {sizes[-1]} rows"
    for what, values, unit in (("time", seconds, "s"), ("peak memory", peaks, "MB")):
        report.add(name, f"{what}, exponent", "power", [float(np.polyfit(np.log(sizes), np.log(values), 1)[0])])
        slope = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])  # without what reports of any size take
        report.add(name, f"{what}, of 1e5 more rows", unit, [1e5 * slope])


def _small_parts(report: Report, folder: Path, real: list[Row]) -> None:
    writer = PartWriter(folder, SHARD, rows=1)
    rows = [{**real[i % len(real)], **_named(i, 0)} for i in range(FEW)]
    start = time.perf_counter()
    for row in rows:
        writer.add([row])
    middle = time.perf_counter()
    done_ids(folder)
    end = time.perf_counter()
    read_rows(folder)
    report.add(f"{FEW} parts of one row", "commit", "ms/part", [1e3 * (middle - start) / FEW])
    report.add(f"{FEW} parts of one row", "done_ids", "ms/part", [1e3 * (end - middle) / FEW])
    report.add(f"{FEW} parts of one row", "read_rows", "ms/part", [1e3 * (time.perf_counter() - end) / FEW])


def _many_names(report: Report, folder: Path, count: int) -> None:
    """What it takes to list a folder of so many parts, and to commit one more name to it."""
    folder.mkdir()
    for number in range(count):
        os.close(os.open(folder / f"part-1of1-{number:06}.parquet", os.O_CREAT | os.O_WRONLY))
    start = time.perf_counter()
    names = sorted(os.listdir(folder))
    report.add(f"folder of {len(names)} files", "list and sort", "ms", [1e3 * (time.perf_counter() - start)])
