"""How the parts of an audit are read: every row exactly once, while a run may write, merge and drop some."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aosa_fast.audit.store.run_folder import CLIPS, shard_name
from aosa_fast.audit.store.schema import SCHEMA, SCHEMA_VERSION
from aosa_fast.boundary import reading
from aosa_fast.data.parquet import open_parquet, read_columns
from aosa_fast.errors import InputError
from aosa_fast.files import list_folder

MERGED = b"aosa_fast_merged"  # of a part in place of several: their numbers and how many rows each has, in its order

_KEY = b"aosa_fast_audit"
_RULE = "must be Parquet in one piece"
_NAMES = frozenset(SCHEMA.names)
_PART = re.compile(r"part-(?P<shard>\d+of\d+)-(?P<number>\d+)\.parquet")


@dataclass(frozen=True)
class Rows:
    """Some rows of a part, which are together in its file: a row group, or a piece of one.

    Attributes:
        path: of the part.
        begin, end: those of the group's rows that count.
    """

    path: Path
    begin: int
    end: int
    _part: pq.ParquetFile
    _group: int

    def __len__(self) -> int:
        return self.end - self.begin

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of the schema, or all of them, null where the part is older than a column.

        Raises:
            InputError: the part is broken.
        """
        schema = select_columns(columns)
        required = [name for name in ("id", "status") if name in schema.names]
        with reading(self.path, _RULE):
            return read_columns(self.path, self._part, schema, required, self._group)[self.begin : self.end]


def walk_rows(folder: Path, shard: tuple[int, int] | None = None) -> Iterator[Rows]:
    """Every row exactly once, of all shards or of one, by the names of the parts, while a run may write and merge.

    A part that took the place of several says which: those that are still there, as the merge goes on or was killed,
    are passed over, and of one that is gone when it is its turn, the rows come from the part that took its place.

    Raises:
        InputError: as `read_rows`.
    """
    paths, held = list_parts(folder, shard), dict[str, int]()  # the last number that was read, of each shard
    for place, path in enumerate(paths):
        name, number = part_number(path)
        if number <= held.get(name, -1):
            continue
        with open_part(path) as part:
            if part is not None:
                held[name] = max([number, *(other for other, _ in merged_sizes(path, part))])
                for group in range(part.num_row_groups):
                    yield Rows(path, 0, part.metadata.row_group(group).num_rows, part, group)
                continue
        following = part_number(paths[place + 1]) if place + 1 < len(paths) else (name, sys.maxsize)
        yield from _moved(folder, path, following[1] if following[0] == name else sys.maxsize)


def _moved(folder: Path, path: Path, following: int) -> Iterator[Rows]:
    """The rows of a part that is gone since the folder was listed, but not those of parts from `following` on.

    None, where it was not merged: the last of its rows was dropped.
    """
    name, number = part_number(path)
    for other in reversed([other for other in list_parts(folder) if part_number(other)[0] == name and other < path]):
        with open_part(other) as part:
            if part is None:
                continue
            begin = 0
            for moved, rows in merged_sizes(other, part):
                if number <= moved < following:
                    yield from _between(other, part, begin, begin + rows)
                begin += rows
            return


def _between(path: Path, part: pq.ParquetFile, begin: int, end: int) -> Iterator[Rows]:
    for group in range(part.num_row_groups):
        size = part.metadata.row_group(group).num_rows
        if begin < size and end > 0:
            yield Rows(path, max(begin, 0), min(end, size), part, group)
        begin, end = begin - size, end - size


def list_parts(folder: Path, shard: tuple[int, int] | None = None) -> list[Path]:
    """The parts of all shards or of one, by name. Raises InputError for a Parquet file that is none."""
    clips = folder / CLIPS
    try:
        names = list_folder(clips, ".parquet")
    except OSError as error:
        raise InputError(f"{clips}: must be a folder that can be read; got {error.strerror}") from None
    found = []
    for name in names:
        match = _PART.fullmatch(name)
        if match is None:
            raise InputError(f"{clips / name}: must be a part of an audit, part-<i>of<n>-<number>.parquet; remove it")
        if shard is None or match["shard"] == shard_name(shard):
            found.append(clips / name)
    return found


@contextmanager
def open_part(path: Path) -> Iterator[pq.ParquetFile | None]:
    """A part; None where it is gone since the folder was listed: the last of its rows was dropped."""
    with ExitStack() as stack:
        stack.enter_context(reading(path, _RULE))
        try:
            part = stack.enter_context(open_parquet(path, page_checksum_verification=True))
        except FileNotFoundError:
            if os.path.lexists(path):
                raise
            yield None
            return
        version = (part.schema_arrow.metadata or {}).get(_KEY)
        if version != str(SCHEMA_VERSION).encode():
            got = "none" if version is None else version.decode("utf-8", "replace")
            raise InputError(f"{path}: must be a part of an audit of format {SCHEMA_VERSION}; got {got}")
        yield part


def part_number(path: Path) -> tuple[str, int]:
    """Shard and number of a part."""
    match = _PART.fullmatch(path.name)
    assert match is not None
    return match["shard"], int(match["number"])


def merged_sizes(path: Path, part: pq.ParquetFile) -> list[tuple[int, int]]:
    """The numbers of the parts whose place a part took, its own first, and how many of its rows are theirs."""
    with reading(path, "must be a part of an audit"):
        found = json.loads((part.schema_arrow.metadata or {}).get(MERGED, b"[]"))
        return [(int(number), int(rows)) for number, rows in found]


def last_number(folder: Path, shard: tuple[int, int]) -> int:
    """The last number that a part of a shard has, or had before it was merged; -1 where there is none."""
    paths = list_parts(folder, shard)
    if not paths:
        return -1
    with open_part(paths[-1]) as part:
        merged = [] if part is None else merged_sizes(paths[-1], part)
    return max([part_number(paths[-1])[1], *(number for number, _ in merged)])


def select_columns(columns: Sequence[str] | None) -> pa.Schema:
    """Columns of the schema, or all of them. Raises KeyError for one that there is not."""
    if columns is None:
        return SCHEMA
    if unknown := [name for name in columns if name not in _NAMES]:
        raise KeyError(f"columns must be of the schema; got {', '.join(unknown)}")
    return pa.schema([SCHEMA.field(name) for name in columns], SCHEMA.metadata)
