"""Parquet files, opened such that a process may end at any time, and read whatever version wrote them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aosa_fast.addresses import is_elsewhere
from aosa_fast.boundary import open_file
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


@contextmanager
def open_parquet(path: str | os.PathLike[str], **options: Any) -> Iterator[pq.ParquetFile]:
    """A Parquet file, to be read by pyarrow's threads.

    They let go of what they read a moment after the caller has it. Were that an object of Python's, such as an open
    file or bytes, they would need the interpreter for it, and where that has ended meanwhile, the process would abort
    ("terminate called without an active exception"; 3 of 15 runs of `audit-clip DIR MISSING`).

    Args:
        path: of any bytes; pyarrow would take some texts for addresses. What lies elsewhere is read whole.
        options: of `pyarrow.parquet.ParquetFile`.

    Raises:
        OSError: it cannot be opened.
        pyarrow.ArrowException: it is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if is_elsewhere(os.fsdecode(path)):
        copy = pa.BufferOutputStream()  # in memory of pyarrow's own
        with open_file(path) as source:
            copy.write(source.read())
        opened: Any = pa.BufferReader(copy.getvalue())
    else:
        open_file(path).close()  # its errors say more
        opened = pa.OSFile(os.fsencode(path))
    with opened as file, pq.ParquetFile(file, **options) as parquet:
        yield parquet


def read_columns(
    path: Path, parquet: pq.ParquetFile, schema: pa.Schema, required: Sequence[str] = (), group: int | None = None
) -> pa.Table:
    """The columns of a schema, whatever the file has: null where it lacks one, and nothing of what else it has.

    So files are read that an older version wrote, before a column came, and those of a newer one. `group` is the row
    group that is read; None: all of them.

    Raises:
        InputError: a required column is missing or has nulls, or one has another type.
        pyarrow.ArrowException: the file is damaged.
    """
    import pyarrow as pa

    there = {field.name: field.type for field in parquet.schema_arrow}
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in required and name not in there:
            raise InputError(f"{path}: must have a column {name}; it has none")
        if not there.get(name, kind).equals(kind):
            raise InputError(f"{path}: must have {kind} in its column {name}; got {there[name]}")
    names = [name for name in schema.names if name in there]
    table = parquet.read(names) if group is None else parquet.read_row_group(group, names)
    table.validate(full=True)  # else text that is no UTF-8 would be found out by whoever reads it
    for name in required:
        if table[name].null_count:
            raise InputError(f"{path}: must have {name} in each row; one is missing")
    rows = (parquet.metadata if group is None else parquet.metadata.row_group(group)).num_rows
    columns = [table[field.name] if field.name in there else pa.nulls(rows, field.type) for field in schema]
    return pa.table(columns, schema=schema)
