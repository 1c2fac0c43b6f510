"""Parquet files, opened such that a process may end at any time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aosa_fast.boundary import open_file

if TYPE_CHECKING:
    import pyarrow.parquet as pq


@contextmanager
def open_parquet(path: str | os.PathLike[str], **options: Any) -> Iterator[pq.ParquetFile]:
    """A Parquet file, to be read by pyarrow's threads.

    They let go of what they read a moment after the caller has it. Were that an object of Python's, such as an open
    file or bytes, they would need the interpreter for it, and where that has ended meanwhile, the process would abort
    ("terminate called without an active exception"; 3 of 15 runs of `audit-clip DIR MISSING`).

    Args:
        path: of any bytes; pyarrow would take some texts for addresses.
        options: of `pyarrow.parquet.ParquetFile`.

    Raises:
        OSError: it cannot be opened.
        pyarrow.ArrowException: it is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    open_file(path).close()  # its errors say more
    with pa.OSFile(os.fsencode(path)) as file, pq.ParquetFile(file, **options) as parquet:
        yield parquet
