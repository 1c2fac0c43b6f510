"""A manifest: one's own clips, in a csv or Parquet file."""

from __future__ import annotations

import hashlib
import json
import math
import re
from array import array
from collections.abc import Generator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.addresses import Place, joined
from aosa_fast.boundary import reading
from aosa_fast.data.boxes import Boxes, boxes_from_lists
from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.data.spool import Spool
from aosa_fast.data.tables import Row, iter_csv, iter_parquet
from aosa_fast.errors import InputError

SUFFIXES = (".csv", ".parquet")
_REQUIRED = ("path", "label")


def open_manifest(path: Place) -> Dataset:
    """Read a manifest.

    Columns, in any order, others being ignored:

    - `path`: a video, an image, a folder of frames or a pattern for a series of them ("frames/img_*.jpg"); relative to
      the folder of the manifest; or an address ("s3://bucket/clip.mp4"). Files are opened when they are read, and may
      be missing until then.
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
    spool, labels, hashes = Spool(), _Labels(), array("Q")
    with closing(_rows(path)) as rows:
        for row in rows:
            labels.add(row)
            sample = _sample(path.parent, row)
            hashes.append(_short_hash(sample.id))
            spool.add(sample)
    if not len(spool):
        raise InputError(f"{path}: must have at least one row; got none")
    numbers, names = labels.finish()
    _check_unique(path, np.frombuffer(hashes, np.uint64))
    return Dataset(path.stem, names, spool.samples(numbers))


def _rows(path: Place) -> Generator[Row]:
    yield from (iter_csv if path.suffix.lower() == ".csv" else iter_parquet)(path, _REQUIRED)


def _check_unique(path: Place, hashes: NDArray[np.uint64]) -> None:
    """Refuses ids that come twice. Hashes of theirs are enough to tell that there are none, at 8 bytes a row."""
    ordered = np.sort(hashes)
    twice = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    seen: dict[str, str] = {}
    if not twice:
        return
    with closing(_rows(path)) as rows:
        for row in rows:
            id = _sample(path.parent, row).id
            if id in seen:
                raise row.error(f"id must be unique; {id} is also that of {seen[id]}")
            if _short_hash(id) in twice:
                seen[id] = row.place


def _short_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def _sample(folder: Place, row: Row) -> Sample:
    name = row.text("path")
    if not name:
        raise row.error("path must not be empty")
    start, end = _place(row, "start"), _place(row, "end")
    if start is not None and end is not None and type(start) is type(end) and end <= start:
        raise row.error(f"end must be behind start={start}; got {end}")
    part = "" if start is None and end is None else f"@{written_place(start)}-{written_place(end)}"
    return Sample(
        row.text("id") or name + part,
        joined(folder, name),
        None,
        start,
        end,
        _boxes(row),
        group=row.text("group") or None,
    )


class _Labels:
    """The labels of the rows, as they come: which of them are names is known at the end."""

    def __init__(self) -> None:
        self._codes, self._known = array("i"), dict[str, int]()
        self._numbers: list[int | None] = []  # of each text, in the order of `_known`
        self._negative: InputError | None = None

    def add(self, row: Row) -> None:
        """Takes that of a row."""
        text = row.text("label")
        if text not in self._known:
            self._known[text] = len(self._known)
            number = _whole(row.values.get("label"))
            self._numbers.append(number)
            if number is not None and number < 0 and self._negative is None:
                self._negative = row.error(f"label must be a name or a number from 0 on; got {number}")
        self._codes.append(self._known[text])

    def finish(self) -> tuple[NDArray[np.int32], tuple[str, ...] | None]:
        """The label of each row, -1 where there is none, and the names if labels are names."""
        codes = np.frombuffer(self._codes, np.int32)
        if all(number is not None or not text for text, number in zip(self._known, self._numbers, strict=True)):
            if self._negative is not None:
                raise self._negative
            return np.array([-1 if number is None else number for number in self._numbers], np.int32)[codes], None
        names = tuple(sorted(text for text in self._known if text))
        index = {name: label for label, name in enumerate(names)}
        return np.array([index.get(text, -1) for text in self._known], np.int32)[codes], names


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
