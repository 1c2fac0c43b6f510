"""A manifest: one's own clips, in a csv or Parquet file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aosa_fast.boundary import reading
from aosa_fast.data.boxes import Boxes, boxes_from_lists
from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.data.tables import Row, read_csv, read_parquet
from aosa_fast.errors import InputError

SUFFIXES = (".csv", ".parquet")
_REQUIRED = ("path", "label")


def open_manifest(path: Path) -> Dataset:
    """Read a manifest.

    Columns, in any order, others being ignored:

    - `path`: a video, an image, a folder of frames or a pattern for a series of them ("frames/img_*.jpg"); relative to
      the folder of the manifest. Files are opened when they are read, and may be missing until then.
    - `label`: the class by name, or by number (in all rows) as the model counts; empty where it is not known. Names
      are sorted to make the classes of the data.
    - `start`, `end`: the part of the video that counts, `end` excluded: whole numbers (12) are frames from 0 on, others
      (1.5, "1.5s", "12s") seconds. The window lies in its middle; with a `start` alone, it begins there.
    - `boxes`: in pixels of the source, half-open, frames counted from 0 in the source whatever `start` is; JSON text,
      or in Parquet nested lists: `[[frame, x0, y0, x1, y1], ...]`, or one entry for each frame from 0 on: null,
      `[x0, y0, x1, y1]`, or a list of these.
    - `id`: a unique name; else the path, followed by the part if there is one.
    - `group`: the source that clips share, such as one long video; statistics of an audit count a source once.

    Raises:
        InputError: the file cannot be read, or a row breaks a rule; the message names the line.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a manifest must end in {' or '.join(SUFFIXES)}")
    rows = (read_csv if path.suffix.lower() == ".csv" else read_parquet)(path, _REQUIRED)
    if not rows:
        raise InputError(f"{path}: must have at least one row; got none")
    labels, names = _labels(rows)
    samples = [_sample(path.parent, row, label) for row, label in zip(rows, labels, strict=True)]
    seen: dict[str, str] = {}
    for row, sample in zip(rows, samples, strict=True):
        if sample.id in seen:
            raise row.error(f"id must be unique; {sample.id} is also that of {seen[sample.id]}")
        seen[sample.id] = row.place
    return Dataset(path.stem, names, tuple(samples))


def _sample(folder: Path, row: Row, label: int | None) -> Sample:
    name = row.text("path")
    if not name:
        raise row.error("path must not be empty")
    start, end = _place(row, "start"), _place(row, "end")
    if start is not None and end is not None and type(start) is type(end) and end <= start:
        raise row.error(f"end must be behind start={start}; got {end}")
    part = "" if start is None and end is None else f"@{written_place(start)}-{written_place(end)}"
    return Sample(
        row.text("id") or name + part,
        str(folder / name),
        label,
        start,
        end,
        _boxes(row),
        group=row.text("group") or None,
    )


def _labels(rows: Sequence[Row]) -> tuple[list[int | None], tuple[str, ...] | None]:
    """The label of each row, and the names if labels are names."""
    given = [row.values.get("label") for row in rows]
    numbers = [_whole(label) for label in given]
    if all(label is None or number is not None for label, number in zip(given, numbers, strict=True)):
        for row, number in zip(rows, numbers, strict=True):
            if number is not None and number < 0:
                raise row.error(f"label must be a name or a number from 0 on; got {number}")
        return numbers, None
    texts = [row.text("label") for row in rows]
    names = tuple(sorted({text for text in texts if text}))
    index = {name: label for label, name in enumerate(names)}
    return [index.get(text) for text in texts], names


def _whole(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*-?[0-9]{1,9}\s*", value) else None
    # A column of integers with gaps is one of floating-point numbers in many files.
    return int(value) if isinstance(value, int | float) and abs(value) < 1e9 and value == int(value) else None


def _place(row: Row, column: str) -> int | float | None:
    value = row.values.get(column)
    if value is None:
        return None
    seconds = value
    if isinstance(value, str):
        text = value.strip().lower()
        if re.fullmatch("[0-9]{1,9}", text):
            return int(text)
        number = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]*)?|\.[0-9]+)\s*s?", text)
        seconds = float(number[1]) if number else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        raise row.error(f'{column} must be a frame number like 12, or seconds like 1.5 or "12s"; got {value!r}')
    return seconds


def written_place(place: int | float | None) -> str:
    """A place in a video as a manifest writes it; "" for None."""
    if place is None:
        return ""
    return f"{place:g}s" if isinstance(place, float) else str(place)


def read_place(text: str | None) -> int | float | None:
    """What `written_place` wrote; None for None."""
    if not text:
        return None
    return float(text[:-1]) if text.endswith("s") else int(text)


def _boxes(row: Row) -> Boxes | None:
    content = row.values.get("boxes")
    with reading(row.place, "boxes must be JSON"):
        if isinstance(content, str):
            content = json.loads(content)
        try:
            return None if content is None else boxes_from_lists(content)
        except InputError as error:
            raise row.error(f"boxes {error}") from None
