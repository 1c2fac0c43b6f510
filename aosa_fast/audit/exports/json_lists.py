"""JSON files with long lists, written an entry at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any


class JsonList:
    """A list that is being written."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self.count = file, 0

    def add(self, entry: Any) -> None:
        """Appends an entry, in plain types."""
        self._file.write((",\n" if self.count else "") + json.dumps(entry, allow_nan=False))
        self.count += 1


@contextmanager
def write_list(path: Path) -> Iterator[JsonList]:
    """A file that is one list. Raises OSError."""
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n")
        yield JsonList(file)
        file.write("\n]\n")


@contextmanager
def write_lists(path: Path, *names: str, head: Mapping[str, Any] | None = None) -> Iterator[dict[str, JsonList]]:
    """A file that is an object with these lists, behind the values of `head`; they grow side by side.

    Each grows in a file of its own, beside it, until the end. Raises OSError.
    """
    parts = {name: path.with_name(f".{path.stem}-{name}.tmp") for name in names}
    with ExitStack() as stack:
        for part in parts.values():
            stack.callback(part.unlink, missing_ok=True)
        with ExitStack() as opened:
            files = {name: opened.enter_context(part.open("w", encoding="utf-8")) for name, part in parts.items()}
            yield {name: JsonList(file) for name, file in files.items()}
        with path.open("w", encoding="utf-8") as whole:
            before = "{"
            for name, value in (head or {}).items():
                whole.write(f"{before}{json.dumps(name)}: {json.dumps(value, allow_nan=False)}")
                before = ",\n"
            for name, part in parts.items():
                whole.write(f"{before}{json.dumps(name)}: [\n")
                with part.open(encoding="utf-8") as file:
                    shutil.copyfileobj(file, whole)
                whole.write("\n]")
                before = ",\n"
            whole.write("}\n")
