"""A package of somebody else's, installed beside ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str, points: str) -> Iterator[None]:
    """A distribution of one module `name` in `folder`, with these entry points; afterwards it is forgotten."""
    (folder / f"{name}.py").write_text(code)
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop(name, None)
