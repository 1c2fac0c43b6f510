"""What the page says of the run, from run.json, whose keys it takes as they come."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from aosa_fast.audit.report.text import shorten

_LONGEST = 2000  # characters of a value
# What the head of the page shows, and what it calls it, where that is not the key.
_HEAD = (
    "data", "annotations", "split", "model", "weights", "method", "fill", "score", "target", "started", "command",
    "versions",
)  # fmt: skip
_TERMS = {"target": "explained class", "started": "date"}


def head(run: dict[str, Any]) -> dict[str, str]:
    """The terms that the page begins with; those that are not known are left out."""
    found = {name: _look_up(run, name) for name in _HEAD}
    return {_TERMS.get(name, name): _written(name, value) for name, value in found.items() if value is not None}


def everything(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Every entry of run.json, nested names joined by dots."""
    return [(shorten(name, 200), _text(value)) for name, value in _flat("", run)]


def _look_up(run: dict[str, Any], name: str) -> Any:
    """The value of a name in the facts or the identity, however deep; None where there is none."""
    for part in ("facts", "identity"):
        queue = deque([run.get(part)])
        while queue:
            value = queue.popleft()
            if isinstance(value, dict):
                if value.get(name) is not None:
                    return value[name]
                queue.extend(value.values())
    return None


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    else:
        yield prefix, value


def _written(name: str, value: Any) -> str:
    if name == "started" and isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M %Z").strip()
    if isinstance(value, dict):
        return _text([f"{key} {inner}" for key, inner in value.items()])
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        value = ", ".join(map(str, value))
    return shorten(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), _LONGEST)
