"""What an audit and its report do with all clips at once, each a function to be timed in a process of its own.

Each of them takes the folder of an audit, or a manifest, and gives the step, with all that is needed imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Step = Callable[[], object]


def open_manifest(data: str) -> Step:
    """The driver's list of clips."""
    from aosa_fast.data import open_dataset

    return lambda: open_dataset(data)


def choose_shard(data: str) -> Step:
    """The list of clips, and a sixteenth of it, as one task of a job array has them."""
    from aosa_fast.audit import driver
    from aosa_fast.data import open_dataset

    def run() -> object:
        dataset = open_dataset(data)
        return dataset, driver._left(dataset, (1, 16), {})

    return run


def wanted_ids(data: str) -> Step:
    """The driver's places of the clips without a row."""
    from aosa_fast.audit import driver
    from aosa_fast.data import open_dataset

    dataset = open_dataset(data)
    return lambda: driver._left(dataset, (1, 1), {})


def done_ids(folder: str) -> Step:
    """What a run that goes on knows of the rows that are there."""
    from aosa_fast.audit.store.parts import done_ids

    return lambda: done_ids(Path(folder))


def read_all(folder: str) -> Step:
    """Every column, maps too."""
    from aosa_fast.audit.store.parts import read_rows

    return lambda: read_rows(Path(folder))


def read_without_maps(folder: str) -> Step:
    """Every column but the maps'."""
    from aosa_fast.audit.store.parts import read_rows
    from aosa_fast.audit.store.schema import SCHEMA

    return lambda: read_rows(Path(folder), [name for name in SCHEMA.names if not name.startswith("map_")])


def read_ids(folder: str) -> Step:
    """Two columns."""
    from aosa_fast.audit.store.parts import read_rows

    return lambda: read_rows(Path(folder), ["id", "status"])


def sum_rows(folder: str) -> Step:
    """What the statistics are made of."""
    from aosa_fast.audit.findings.sums import sum_rows

    return lambda: sum_rows(Path(folder))


def summarize(folder: str) -> Step:
    """All statistics of the report, without its pictures."""
    from aosa_fast.audit.findings.summary import summarize

    return lambda: summarize(Path(folder))
