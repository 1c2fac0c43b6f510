"""What the tests of both engines of an audit need: samples, rows by their ids, waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import waiting

from aosa_fast.audit.workers.attempts import Attempts
from aosa_fast.data import Sample


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    return waiting.wait_for(condition, seconds)


def samples(*ids: str, folder: Path | None = None) -> list[Sample]:
    return [Sample(id, None if folder is None else str(folder), None) for id in ids]


def by_id(groups: Iterable[Iterable[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The rows of a run, each sample's the only one."""
    rows = [row for group in groups for row in group]
    assert max(Counter(row["id"] for row in rows).values(), default=1) == 1
    return {row["id"]: row for row in rows}


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Attempts]:
    with Attempts(tmp_path / "run", (1, 1)) as attempts:
        yield attempts
