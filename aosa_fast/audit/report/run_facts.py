"""What the page says of the run, from run.json, whose keys it takes as they come."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from aosa_fast.audit.report.text import duration, shorten

_LONGEST = 2000  # characters of a value

# What the head of the page shows: the term, and the keys that may hold it, the first that is there.
_HEAD = (
    ("data", ("data",)),
    ("annotations", ("annotations",)),
    ("split", ("split",)),
    ("model", ("model",)),
    ("weights", ("weights", "weights_hash")),
    ("method", ("method",)),
    ("fill", ("fill",)),
    ("score", ("score",)),
    ("explained class", ("target",)),
    ("date", ("started", "date")),
    ("duration", ("seconds", "duration")),
    ("command", ("command",)),
    ("versions", ("versions",)),
)


def look_up(run: dict[str, Any], *names: str) -> Any:
    """The value of the first of these names in the facts or the identity, however deep; None where there is none."""
    for name in names:
        for part in ("facts", "identity"):
            queue = deque([run.get(part)])
            while queue:
                value = queue.popleft()
                if not isinstance(value, dict):
                    continue
                if value.get(name) is not None:
                    return value[name]
                queue.extend(value.values())
    return None


def head(run: dict[str, Any]) -> dict[str, str]:
    """The terms that the page begins with; those that are not known are left out."""
    found = {term: look_up(run, *names) for term, names in _HEAD}
    return {term: _written(term, value) for term, value in found.items() if value is not None}


def everything(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Every entry of run.json, nested names joined by dots."""
    return [(shorten(name, 200), _text(value)) for name, value in _flat("", run)]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    else:
        yield prefix, value


def _written(term: str, value: Any) -> str:
    if term == "date" and isinstance(value, str):
        return _date(value)
    if term == "duration" and isinstance(value, int | float):
        return duration(value)
    if isinstance(value, dict):
        return _text([f"{name} {inner}" for name, inner in value.items()])
    return _text(value)


def _date(value: str) -> str:
    try:
        return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return shorten(value, _LONGEST)
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        return shorten(", ".join(map(str, value)), _LONGEST)
    return shorten(json.dumps(value, ensure_ascii=False, default=str), _LONGEST)
