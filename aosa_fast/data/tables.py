"""Rows of csv and Parquet files, each of which knows its place for error messages."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aosa_fast.addresses import Place
from aosa_fast.boundary import open_file, reading
from aosa_fast.data.parquet import open_parquet
from aosa_fast.errors import InputError, brief
from aosa_fast.libraries import check_libraries

_MOST_ROWS = 100_000_000
_BATCH = 1024  # rows of a Parquet file that are in memory at once
_LONGEST_FIELD = 1 << 30  # boxes of a long video are a long field


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        place: the file and the line, for messages.
        values: by column, whose names are in lower case; texts of a csv, anything of a Parquet file. What is empty or
            missing in the file is missing here.
    """

    place: str
    values: dict[str, Any]

    def text(self, column: str) -> str:
        """The value as text, without spaces around it; empty if there is none.

        Raises:
            InputError: it is neither text, which some programs store as bytes, nor a number.
        """
        value = self.values.get(column, "")
        if isinstance(value, bytes):
            with reading(self.place, f"{column} must be text in UTF-8"):
                value = value.decode()
        if not isinstance(value, str | int | float):
            raise self.error(f"{column} must be text or a number; got {type(value).__name__}")
        return str(value).strip()

    def error(self, rule: str) -> InputError:
        """An error at this row, to be raised."""
        return InputError(f"{self.place}: {brief(rule)}")


def read_csv(path: Place, required: Sequence[str]) -> list[Row]:
    """All rows of `iter_csv`."""
    return list(iter_csv(path, required))


def read_parquet(path: Place, required: Sequence[str]) -> list[Row]:
    """All rows of `iter_parquet`."""
    return list(iter_parquet(path, required))


def iter_csv(path: Place, required: Sequence[str]) -> Iterator[Row]:
    """Read a comma-separated file with a header, in UTF-8 with or without a byte order mark, a row at a time.

    Raises:
        InputError: it cannot be read, lacks a required column, or has a row of another length than the header.
    """
    before = csv.field_size_limit(_LONGEST_FIELD)
    rule = "must be comma-separated values in UTF-8"
    try:
        with reading(path, rule), open_file(path) as file:
            reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
            try:
                yield from _csv_rows(path, reader, required)
            except csv.Error as error:
                raise InputError(f"{path}, line {reader.line_num}: {rule}; got {error}") from None
    finally:
        csv.field_size_limit(before)


def iter_parquet(path: Place, required: Sequence[str]) -> Iterator[Row]:
    """Read a Parquet file, a row at a time.

    Raises:
        InputError: pyarrow is missing, or the file cannot be read or lacks a required column.
    """
    check_libraries("pyarrow", extra="evaluate", what=f"{path}: a Parquet file")
    with reading(path, "must be a Parquet file in one piece"), open_parquet(path) as file:
        if file.metadata.num_rows > _MOST_ROWS:  # a small file can say so, and would fill the disk
            raise InputError(f"{path}: must have at most {_MOST_ROWS} rows; got {file.metadata.num_rows}")
        header = [name.strip().lower() for name in file.schema_arrow.names]
        _check_columns(path, header, required)
        number = 0
        for batch in file.iter_batches(_BATCH, use_threads=False):
            for cells in zip(*batch.to_pydict().values(), strict=True):
                number += 1
                values = {name: cell for name, cell in zip(header, cells, strict=True) if not _is_empty(cell)}
                yield Row(f"{path}, row {number}", values)


def _csv_rows(path: Place, reader: Any, required: Sequence[str]) -> Iterator[Row]:
    header = [name.strip().lower() for name in next(reader, [])]
    _check_columns(path, header, required)
    for cells in reader:
        place = f"{path}, line {reader.line_num}"
        if cells and len(cells) != len(header):
            raise InputError(f"{place}: must have {len(header)} fields, as the header; got {len(cells)}")
        if any(cell.strip() for cell in cells):
            yield Row(place, {name: c for name, c in zip(header, cells, strict=True) if c.strip()})


def _check_columns(path: Place, header: Sequence[str], required: Sequence[str]) -> None:
    lacking = [name for name in required if name not in header]
    if lacking:
        got = brief(", ".join(header) or "none")
        raise InputError(
            f"{path}: must have the columns {', '.join(required)}; {', '.join(lacking)} missing, got {got}"
        )
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: must have each column once; got {brief(twice[0])} twice")


def _is_empty(cell: Any) -> bool:
    # pandas writes what is missing among numbers as NaN.
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())
