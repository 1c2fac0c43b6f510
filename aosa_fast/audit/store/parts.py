"""Parquet parts of an audit: rows are committed many at a time, each exactly once, whatever is killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aosa_fast.audit.store.done import DoneIds
from aosa_fast.audit.store.merging import finish_merge, temporary_path, write_groups
from aosa_fast.audit.store.run_folder import CLIPS, shard_name
from aosa_fast.audit.store.schema import SCHEMA
from aosa_fast.audit.store.walk import last_number, list_parts, merged_sizes, open_part, select_columns, walk_rows
from aosa_fast.audit.tasks import ERROR, OK, QUARANTINED, Row
from aosa_fast.data.parquet import read_columns
from aosa_fast.errors import InputError
from aosa_fast.files import disk_error, make_folder, sync_folder, write_file

STATUSES = (OK, ERROR, QUARANTINED)
_NAMES = frozenset(SCHEMA.names)


@dataclass
class _Pending:
    """Rows that wait to become the part of this number."""

    number: int
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    since: float = 0.0  # when the first of them came


class PartWriter:
    """Collects the rows of a shard and commits them as DIR/clips/part-<i>of<n>-<number>.parquet.

    A part is on the disk with all its rows before its name appears. The shard must be this process' own, see
    `aosa_fast.audit.store.run_folder.open_run`.
    """

    def __init__(
        self,
        folder: Path,
        shard: tuple[int, int],
        *,
        rows: int = 1024,
        seconds: float = 60.0,
        done: DoneIds | dict[str, str] | None = None,
        before_commit: Callable[[], None] | None = None,
        after_commit: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Removes what a killed run of the same shard left half-written, and goes on after its last part.

        Args:
            folder: of the audit; DIR/clips is made if it is missing.
            shard: (i, n), the part i of 1..n.
            rows: a part is committed when it has so many.
            seconds: or when its first row has waited so long.
            done: as of `done_ids`, which is asked if it is None; taken over and kept up to date.
            before_commit: called before a part is written, for what its rows refer to and must be on the disk first.
            after_commit: called when a part is on the disk.
            clock: tells the time, seconds.

        Raises:
            InputError: the folder cannot be written, or holds a part that cannot be read.
        """
        self._folder = folder
        self._stem = f"part-{shard_name(shard)}"
        self._rows, self._seconds, self._clock = rows, seconds, clock
        self._before_commit, self._after_commit = before_commit, after_commit
        try:
            make_folder(folder, CLIPS)
            for leftover in folder.glob(temporary_path(folder, f"{self._stem}-*").name):
                leftover.unlink()
        except OSError as error:
            raise disk_error(folder, error) from None
        self.done = done_ids(folder) if done is None else done
        finish_merge(folder, shard)
        self._pending = _Pending(1 + last_number(folder, shard))

    def add(self, rows: Sequence[Row]) -> None:
        """Takes rows, but those of clips that have one; commits a part when it is full or old.

        Args:
            rows: by column; what is missing is null.

        Raises:
            KeyError: a column that there is not, or a row without id or status.
            ValueError: another status, or a value that its column cannot hold (pyarrow's own errors).
            InputError: as `flush`; the rows are kept.
        """
        new: dict[str, Row] = {}
        for row in rows:
            if unknown := row.keys() - _NAMES:
                raise KeyError(f"row must have columns of the schema only; got {', '.join(sorted(unknown))}")
            if row["status"] not in STATUSES:
                raise ValueError(f"status must be one of {', '.join(STATUSES)}; got {row['status']}")
            if row["id"] not in self.done:
                new.setdefault(row["id"], row)
        if new:
            # At once, so that a row that cannot be written takes no others with it, and for their size in memory.
            batch = pa.RecordBatch.from_pylist(list(new.values()), schema=SCHEMA)
            for id, row in new.items():
                self.done[id] = row["status"]
            if not self._pending.rows:
                self._pending.since = self._clock()
            self._pending.batches.append(batch)
            self._pending.rows += len(new)
        self.poll()

    def poll(self) -> None:
        """Commits a part if it is full or old; to be called now and then while no rows come.

        Raises InputError as `flush`.
        """
        pending = self._pending
        if pending.rows >= self._rows or (pending.rows and self._clock() - pending.since >= self._seconds):
            self.flush()

    def flush(self) -> None:
        """Commits the rows that wait, if there are any; they are on the disk when this returns.

        Raises:
            InputError: the disk is full, or the folder cannot be written. The rows are kept for the next time.
        """
        pending = self._pending
        if not pending.rows:
            return
        path = self._folder / CLIPS / f"{self._stem}-{pending.number:06}.parquet"
        if self._before_commit is not None:
            self._before_commit()
        try:
            _write_part(self._folder, path, pa.Table.from_batches(pending.batches, SCHEMA))
            # Number and rows in one step: an interrupt before it writes the same part again, not the rows twice.
            self._pending = _Pending(pending.number + 1)
            sync_folder(path.parent)
        except OSError as error:
            raise disk_error(self._folder, error) from None
        if self._after_commit is not None:
            self._after_commit()

    def close(self) -> None:
        """Commits the rows that wait; as `flush`."""
        self.flush()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(InputError):  # the first error says more
                self.close()


def done_ids(folder: Path, shard: tuple[int, int] | None = None) -> DoneIds:
    """What became of every clip that has a row; of the parts of one shard, (i, n), or of all.

    Where clips belong to shards by their names, those of one shard are enough for its `PartWriter`.

    Raises:
        InputError: a part cannot be read.
    """
    done = DoneIds(folder)
    for rows in walk_rows(folder, shard):
        table = rows.read(("id", "status"))
        for id, status in zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True):
            done[id] = status
    return done


def count_rows(folder: Path, shard: tuple[int, int]) -> int:
    """How many rows the parts of a shard have. Raises InputError as `done_ids`."""
    return sum(map(len, walk_rows(folder, shard)))


def drop_failed(folder: Path, shard: tuple[int, int]) -> int:
    """Takes the rows of clips that failed out of the parts of a shard, and returns how many: they are tried again.

    Each part is replaced in one step, or removed with its last row: whoever reads meanwhile, or after a kill, sees a
    clip once or not at all. To be called before the `PartWriter` is made; clips with deaths to their names must be
    forgiven first (`Attempts.forgive`).

    Raises:
        InputError: a part cannot be read or written; it is as it was.
    """
    finish_merge(folder, shard)
    dropped = 0
    for path in list_parts(folder, shard):
        with open_part(path) as part:
            if part is None:
                continue
            good = _is_ok(path, part)
            if pc.all(good).as_py():
                continue
            sizes = merged_sizes(path, part)
            # With the columns that it has: a newer version's are not ours to drop.
            schema, begin = part.schema_arrow, 0
            for at, (number, rows) in enumerate(sizes):
                sizes[at] = (number, pc.sum(good.slice(begin, rows)).as_py())
                begin += rows
            groups = (part.read_row_group(group) for group in range(part.num_row_groups))
            try:
                if pc.any(good).as_py():
                    kept = (table.filter(pc.equal(table["status"], OK)) for table in groups)
                    write_groups(folder, path, kept, schema, sizes)
                else:
                    path.unlink()
                sync_folder(path.parent)
            except OSError as error:
                raise disk_error(folder, error) from None
        dropped += pc.sum(pc.invert(good)).as_py()
    return dropped


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of all shards, by the names of the parts, with some columns of the schema or all.

    Raises:
        KeyError: a column that there is not.
        InputError: a file in DIR/clips that is no part, or of another format, or broken, or a clip that has two rows.
    """
    schema = select_columns(columns)
    wider = list(dict.fromkeys(["id", *schema.names]))
    paths, tables = [], []
    for rows in walk_rows(folder):
        paths.append(rows.path)
        tables.append(rows.read(wider))
    _check_unique(paths, [table["id"] for table in tables])
    return pa.concat_tables([table.select(schema.names) for table in tables]) if tables else schema.empty_table()


def iter_rows(folder: Path, columns: Sequence[str] | None = None, batch_rows: int = 8192) -> Iterator[pa.RecordBatch]:
    """All rows of all shards, by the names of the parts, at most `batch_rows` at once and no more than a row group's.

    Arguments and errors are those of `read_rows`, but that ids are not held against each other, which takes memory.
    """
    names = select_columns(columns).names
    for rows in walk_rows(folder):
        yield from rows.read(names).to_batches(batch_rows)


def _write_part(folder: Path, path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    # In memory first: pyarrow's own files hide why a write failed.
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_file(path, sink.getvalue(), temporary_path(folder, path.stem))


def _is_ok(path: Path, part: pq.ParquetFile) -> pa.ChunkedArray:
    return pc.equal(read_columns(path, part, select_columns(("status",)), ("status",))["status"], OK)


def _check_unique(paths: Sequence[Path], ids: Sequence[pa.ChunkedArray]) -> None:
    together = pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())
    if len(pc.unique(together)) == len(together):
        return
    places: dict[str, Path] = {}
    for path, column in zip(paths, ids, strict=True):
        for id in column.to_pylist():
            if id in places:
                raise InputError(f"{path}: must not hold a clip that another part holds; {id!r} is in {places[id]} too")
            places[id] = path
