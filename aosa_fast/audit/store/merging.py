"""Small parts of a run become large ones when it has finished: a slow run commits a part each minute."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aosa_fast.audit.store.run_folder import CLIPS, shard_name
from aosa_fast.audit.store.walk import MERGED, list_parts, merged_sizes, open_part, part_number
from aosa_fast.files import disk_error, new_file, sync_folder, write_new

ROWS = 16_384  # of a part at most
BYTES = 1 << 27
_GROUP_ROWS = 1024  # of a row group at least, and at once in memory


@dataclass
class _Group:
    """Parts that follow each other and become one."""

    schema: pa.Schema
    paths: list[Path] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)  # as of `write_groups`
    rows: int = 0
    bytes: int = 0


def merge_parts(folder: Path, shard: tuple[int, int], *, rows: int = ROWS, size: int = BYTES) -> None:
    """Makes few parts of the many small ones of a shard, which must be this process' own.

    Of parts that follow each other, the first is replaced in one step by one with the rows of all, which says whose
    they are; then the others are removed. At any moment `aosa_fast.audit.store.walk` reads each row exactly once;
    other readers do so before and after. Of a merge that was killed, the shard's next run does the rest.

    Args:
        folder: of the audit.
        shard: (i, n), the part i of 1..n.
        rows: that a part has at most; those that have more than half of it stay as they are.
        size: bytes, likewise.

    Raises:
        InputError: a part cannot be read, the disk is full, or the folder cannot be written; no row is lost.
    """
    finish_merge(folder, shard)
    for group in _groups(folder, shard, rows, size):
        first, *others = group.paths
        try:
            write_new(merge_mark(folder, shard), b"")
            sync_folder(folder)
            write_groups(folder, first, _read(group.paths), group.schema, group.sizes)
            sync_folder(first.parent)
            for path in others:
                path.unlink()
            sync_folder(first.parent)
            merge_mark(folder, shard).unlink()
        except OSError as error:
            finish_merge(folder, shard)
            raise disk_error(folder, error) from None


def merge_mark(folder: Path, shard: tuple[int, int]) -> Path:
    """The file that is there as long as parts may lie beside one that has their rows."""
    return folder / f".merge-{shard_name(shard)}.tmp"


def finish_merge(folder: Path, shard: tuple[int, int]) -> None:
    """Removes the parts whose rows are in another one, where a merge was killed before it did so.

    Raises:
        InputError: a part cannot be read, or removed.
    """
    if not merge_mark(folder, shard).exists():
        return
    last = -1
    try:
        for path in list_parts(folder, shard):
            if part_number(path)[1] <= last:
                path.unlink(missing_ok=True)
                continue
            with open_part(path) as part:
                last = max((number for number, _ in merged_sizes(path, part)), default=-1) if part is not None else -1
        sync_folder(folder / CLIPS)
        merge_mark(folder, shard).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from None


def write_groups(
    folder: Path, path: Path, groups: Iterable[pa.Table], schema: pa.Schema, sizes: Sequence[tuple[int, int]]
) -> None:
    """Puts a part in the place of one of that name, in one step, a row group at a time.

    Args:
        folder: of the audit.
        path: of the part.
        groups: the rows.
        schema: of the groups.
        sizes: numbers of the parts that it takes the place of, and how many rows each has in it; empty: none.

    Raises:
        OSError: it cannot be written; what was there still is.
    """
    metadata = {**(schema.metadata or {}), MERGED: json.dumps(sizes).encode()} if sizes else schema.metadata
    temporary = temporary_path(folder, path.stem)
    try:
        with new_file(temporary) as file:
            buffered = io.BufferedWriter(file, 1 << 20)
            schema = schema.with_metadata(metadata)
            with pq.ParquetWriter(buffered, schema, compression="zstd", write_page_checksum=True) as writer:
                for table in groups:
                    if table.num_rows:
                        writer.write_table(
                            table.replace_schema_metadata(metadata), row_group_size=max(table.num_rows, 1)
                        )
            buffered.flush()
            buffered.detach()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(folder: Path, stem: str) -> Path:
    """Where a part is before it is whole."""
    # Beside the folder of the parts, as some readers take every file in a folder for a part.
    return folder / f".{stem}.tmp"


def _groups(folder: Path, shard: tuple[int, int], rows: int, size: int) -> list[_Group]:
    groups: list[_Group] = []
    last: _Group | None = None
    for path in list_parts(folder, shard):
        with open_part(path) as part:
            if part is None:
                continue
            schema, count, length = part.schema_arrow, part.metadata.num_rows, path.stat().st_size
            sizes = merged_sizes(path, part) or [(part_number(path)[1], count)]
        if count > rows // 2 or length > size // 2:
            last = None
            continue
        if last is None or last.rows + count > rows or last.bytes + length > size or not schema.equals(last.schema):
            last = _Group(schema)
            groups.append(last)
        last.paths.append(path)
        last.sizes += sizes
        last.rows, last.bytes = last.rows + count, last.bytes + length
    return [group for group in groups if len(group.paths) > 1]


def _read(paths: Sequence[Path]) -> Iterator[pa.Table]:
    """All rows, with the columns that they have, in groups that are not small."""
    waiting: list[pa.Table] = []
    for path in paths:
        with open_part(path) as part:
            assert part is not None
            for group in range(part.num_row_groups):
                waiting.append(part.read_row_group(group).replace_schema_metadata(None))
                if sum(table.num_rows for table in waiting) >= _GROUP_ROWS:
                    yield pa.concat_tables(waiting)
                    waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
