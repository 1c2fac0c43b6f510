"""Rows of a large audit without the audit: mixtures of a few real ones, written as parts straight from arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aosa_fast.audit.findings.types import LABEL, SHORTCUT
from aosa_fast.audit.store.run_folder import CLIPS, open_run
from aosa_fast.audit.store.schema import SCHEMA

CLASSES = 100
PER_PART = 1024
MARKED = 20  # every so many classes, one has a mark in a corner
WRONG = 500  # one of so many labels is wrong
_CORNER = (..., slice(6, 8), slice(0, 2))
_SHARE = 0.7  # of the map, on the mark
_SHARD = (1, 1)

Floats = NDArray[np.float32]


def write_audit(folder: Path, real: pa.Table, count: int) -> None:
    """An audit of `count` clips, in parts of 1024; no two grids are the same, and maps are left out."""
    rng = np.random.default_rng(0)
    grids = {name: _dense(real[name]) for name in ("grid", "grid_moving", "grid_signed", "grid_around")}
    with open_run(folder, {"data": "made up"}, {}, _SHARD):
        (folder / CLIPS).mkdir()
        for number, first in enumerate(range(0, count, PER_PART)):
            rows = np.arange(first, min(first + PER_PART, count))
            path = folder / CLIPS / f"part-1of1-{number:06}.parquet"
            pq.write_table(_part(real, grids, rows, rng), path, compression="zstd", write_page_checksum=True)


def check_findings(path: Path) -> None:
    """Of a report's findings.parquet: that the marked classes, and no others, are shortcuts; else it shows nothing.

    Raises:
        AssertionError: they are not.
    """
    found = pq.read_table(path, columns=["kind", "class"]).to_pylist()
    shortcuts = {finding["class"] for finding in found if finding["kind"] == SHORTCUT}
    assert shortcuts == set(range(0, CLASSES, MARKED)), f"shortcuts in classes {sorted(shortcuts)}"
    assert any(finding["kind"] == LABEL for finding in found), "no wrong label"


def _part(real: pa.Table, grids: dict[str, Floats], rows: NDArray[np.int64], rng: np.random.Generator) -> pa.Table:
    count = len(rows)
    one, other = rng.integers(real.num_rows, size=(2, count))
    share = rng.random(count, np.float32)[:, None]
    labels = rng.integers(CLASSES, size=count)
    predictions = np.where(rng.random(count) < 1 / WRONG, (labels + 1) % CLASSES, labels)
    mixed = {name: (share * values[one] + (1 - share) * values[other]) for name, values in grids.items()}
    marked = np.flatnonzero(predictions % MARKED == 0)
    for name in ("grid", "grid_signed"):
        _mark(mixed[name], marked)
    names = np.array([f"class {label:03}" for label in range(CLASSES)])
    ids = [f"{names[label]}/clip{row:09}.mp4" for row, label in zip(rows, labels, strict=True)]
    new: dict[str, Any] = {
        "id": ids,
        "path": [f"/data/videos/{id}" for id in ids],
        "data_label": labels,
        "label": labels,
        "prediction": predictions,
        "target": predictions,
        "label_name": names[labels],
        "prediction_name": names[predictions],
        "probability": rng.uniform(0.9, 1, count),
        "label_probability": rng.uniform(0, 0.05, count),
        "frame_hash": rng.integers(2**63, size=count, dtype=np.uint64),
        **{name: _lists(values) for name, values in mixed.items()},
    }
    kept = real.take(pa.array(one))
    columns = []
    for field in SCHEMA:
        if field.name.startswith(("map_", "dense_")):
            columns.append(pa.nulls(count, field.type))
        elif field.name in new:
            values = new[field.name]
            columns.append(values if isinstance(values, pa.Array) else pa.array(values, field.type))
        else:
            columns.append(kept[field.name])
    return pa.table(columns, schema=SCHEMA)


def _mark(grid: Floats, rows: NDArray[np.int64]) -> None:
    """Moves a share of the maps of these rows, or of their positive part, to a corner, in place."""
    cells = grid[rows].reshape(len(rows), -1, 8, 8)
    moved = _SHARE * np.maximum(cells, 0).sum((1, 2, 3), keepdims=True)
    cells *= np.float32(1 - _SHARE)
    cells[_CORNER] += moved / (cells.shape[1] * 4)
    grid[rows] = cells.reshape(len(rows), -1)


def _dense(column: pa.ChunkedArray) -> Floats:
    values = column.combine_chunks()
    cells = max(len(value) for value in values if value.is_valid)
    found = np.zeros((len(values), cells), np.float32)
    found[values.is_valid().to_numpy(zero_copy_only=False)] = values.flatten().to_numpy().reshape(-1, cells)
    return found


def _lists(values: Floats) -> pa.Array:
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))
