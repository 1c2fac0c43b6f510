"""The few rows of an audit that the page names, without reading the maps of all others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from aosa_fast.audit.store.walk import walk_rows
from aosa_fast.audit.tasks import Row

LABEL_COLUMNS = ("label_name", "data_label")


def find_rows(folder: Path, ids: Collection[str], columns: Sequence[str]) -> Iterator[Row]:
    """The rows of these clips, in plain types, by the names of the parts.

    Of parts that hold none of them only the ids are read: a million maps are 12 GB.

    Args:
        folder: of the audit.
        ids: of the clips; those without a row are left out.
        columns: of the schema.

    Raises:
        InputError: a part of the audit cannot be read.
    """
    # What UTF-8 cannot hold is in no row.
    wanted = pa.array([id for id in ids if id == id.encode(errors="ignore").decode()], pa.string())
    if not len(wanted):
        return
    for rows in walk_rows(folder):
        here = pc.is_in(rows.read(["id"])["id"], value_set=wanted)
        if pc.any(here).as_py():
            yield from rows.read(columns).filter(here).to_pylist()


def label_of(row: Row) -> str | None:
    """The name of a clip's class by the data, or its index as text; None without a label."""
    return name_of(row["label_name"], row["data_label"])


def name_of(name: str | None, index: int | None) -> str | None:
    """The name of a class, or its index as text; None where there is neither."""
    return name if name is not None or index is None else str(index)
