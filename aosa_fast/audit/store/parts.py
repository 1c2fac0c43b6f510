"""Parquet parts of an audit: rows are committed many at a time, each exactly once, whatever is killed."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aosa_fast.audit.store.run_folder import CLIPS, shard_name
from aosa_fast.audit.store.schema import SCHEMA, SCHEMA_VERSION
from aosa_fast.audit.tasks import ERROR, OK, QUARANTINED, Row
from aosa_fast.boundary import reading
from aosa_fast.data.parquet import open_parquet, read_columns
from aosa_fast.errors import InputError
from aosa_fast.files import disk_error, list_folder, make_folder, sync_folder, write_file

STATUSES = (OK, ERROR, QUARANTINED)

_KEY = b"aosa_fast_audit"
_NAMES = frozenset(SCHEMA.names)
_PART = re.compile(r"part-(?P<shard>\d+of\d+)-\d+\.parquet")


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
        done: dict[str, str] | None = None,
        before_commit: Callable[[], None] | None = None,
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
            clock: tells the time, seconds.

        Raises:
            InputError: the folder cannot be written, or holds a part that cannot be read.
        """
        self._folder = folder
        self._stem = f"part-{shard_name(shard)}"
        self._rows, self._seconds, self._clock = rows, seconds, clock
        self._before_commit = before_commit
        try:
            make_folder(folder, CLIPS)
            for leftover in folder.glob(_temporary(folder, f"{self._stem}-*").name):
                leftover.unlink()
        except OSError as error:
            raise disk_error(folder, error) from None
        self.done = done_ids(folder) if done is None else done
        numbers = [int(path.stem.rpartition("-")[2]) for path in _parts(folder, shard)]
        self._pending = _Pending(1 + max(numbers, default=-1))

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
                self.done[id] = sys.intern(row["status"])
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


def done_ids(folder: Path, shard: tuple[int, int] | None = None) -> dict[str, str]:
    """The status of every clip that has a row, by id; of the parts of one shard, (i, n), or of all.

    Takes some 120 bytes of memory a clip, for ids of 30 letters. Where clips belong to shards by their names, those of
    one shard are enough for its `PartWriter`.

    Raises:
        InputError: a part cannot be read.
    """
    done: dict[str, str] = {}
    for path in _parts(folder, shard):
        table = _open(path, _schema(("id", "status")))
        for id, status in zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True):
            done[id] = sys.intern(status)
    return done


def drop_failed(folder: Path, shard: tuple[int, int]) -> int:
    """Takes the rows of clips that failed out of the parts of a shard, and returns how many: they are tried again.

    Each part is replaced in one step, or removed with its last row: whoever reads meanwhile, or after a kill, sees a
    clip once or not at all. To be called before the `PartWriter` is made; clips with deaths to their names must be
    forgiven first (`Attempts.forgive`).

    Raises:
        InputError: a part cannot be read or written; it is as it was.
    """
    dropped = 0
    for path in _parts(folder, shard):
        failed = pc.not_equal(_open(path, _schema(("status",)))["status"], OK)
        count = pc.sum(failed).as_py()
        if not count:
            continue
        with _part(path) as part:
            # With the columns that it has: a newer version's are not ours to drop.
            kept = (SCHEMA.empty_table() if part is None else part.read()).filter(pc.invert(failed))
        try:
            if kept.num_rows:
                _write_part(folder, path, kept)
            else:
                path.unlink()
            sync_folder(path.parent)
        except OSError as error:
            raise disk_error(folder, error) from None
        dropped += count
    return dropped


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of all shards, by the names of the parts, with some columns of the schema or all.

    Raises:
        KeyError: a column that there is not.
        InputError: a file in DIR/clips that is no part, or of another format, or broken, or a clip that has two rows.
    """
    schema = _schema(columns)
    paths = _parts(folder)
    wider = _schema(list(dict.fromkeys(["id", *schema.names])))
    tables = [_open(path, wider) for path in paths]
    _check_unique(paths, [table["id"] for table in tables])
    return pa.concat_tables([table.select(schema.names) for table in tables]) if tables else schema.empty_table()


def iter_rows(folder: Path, columns: Sequence[str] | None = None, batch_rows: int = 8192) -> Iterator[pa.RecordBatch]:
    """All rows of all shards, by the names of the parts, at most `batch_rows` at once and no more than one part's.

    Arguments and errors are those of `read_rows`, but that ids are not held against each other, which takes memory.
    """
    schema = _schema(columns)
    for path in _parts(folder):
        yield from _open(path, schema).to_batches(batch_rows)


def _parts(folder: Path, shard: tuple[int, int] | None = None) -> list[Path]:
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


def _temporary(folder: Path, stem: str) -> Path:
    # Beside the folder of the parts, as some readers take every file in a folder for a part.
    return folder / f".{stem}.tmp"


def _write_part(folder: Path, path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    # In memory first: pyarrow's own files hide why a write failed.
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_file(path, sink.getvalue(), _temporary(folder, path.stem))


def _schema(columns: Sequence[str] | None) -> pa.Schema:
    if columns is None:
        return SCHEMA
    if unknown := [name for name in columns if name not in _NAMES]:
        raise KeyError(f"columns must be of the schema; got {', '.join(unknown)}")
    return pa.schema([SCHEMA.field(name) for name in columns], SCHEMA.metadata)


def _open(path: Path, schema: pa.Schema = SCHEMA) -> pa.Table:
    """These columns of a part, null where it is older than a column. Raises InputError where it is none, or broken."""
    with _part(path) as part:
        if part is None:
            return schema.empty_table()
        return read_columns(path, part, schema, [name for name in ("id", "status") if name in schema.names])


@contextmanager
def _part(path: Path) -> Iterator[pq.ParquetFile | None]:
    """A part; None where it is gone since the folder was listed: the last of its rows was dropped."""
    with ExitStack() as stack:
        stack.enter_context(reading(path, "must be Parquet in one piece"))
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
