"""The record of an evaluation while it runs: what is in it is never computed again, and never half there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from aosa_fast.errors import InputError

if sys.platform != "win32":
    import fcntl

Row = dict[str, Any]
FILE = "journal.jsonl"


class Journal:
    """Lines of JSON: the identity of the run, then one line per block of clips and entry, flushed to the disk.

    Floats are written such that they read back as they were, so a run that was interrupted gives the same values.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Opens the record of an earlier run, or begins one.

        Args:
            folder: made if it is missing.
            identity: what the values depend on; an earlier run must have had the same.

        Raises:
            InputError: the folder holds another run, is in use by one, or cannot be written.
        """
        self.path = folder / FILE
        self.blocks: dict[tuple[str, int], list[Row]] = {}
        self._configs: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise InputError(f"{folder}: must be a folder that can be written; {error.strerror}") from None
        try:
            self._lock(folder)
            self._length = self._read(identity)
            os.ftruncate(self._file, self._length)  # a line that an earlier run did not finish
            if not self._length:
                self._write({"identity": identity})
        except BaseException:
            self.close()
            raise

    def check(self, entry: str, config: str) -> None:
        """Refuses an entry that is recorded with another config.

        Raises:
            InputError: as said.
        """
        if self._configs.get(entry, config) != config:
            raise InputError(f"{self.path.parent}: must hold {entry} with the same options; it holds it with others")

    def add(self, entry: str, config: str, block: int, rows: list[Row]) -> None:
        """Records the rows of one block of clips; they are on the disk when this returns.

        Raises:
            InputError: the disk is full.
        """
        self._write({"entry": entry, "config": config, "block": block, "rows": rows})
        self._configs[entry] = config
        self.blocks[entry, block] = rows

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _lock(self, folder: Path) -> None:
        if sys.platform == "win32":
            return  # there, two runs in one folder are not kept apart
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: must not be in use; another run writes to its {FILE}") from None
        except OSError:
            pass  # some network file systems have no locks

    def _write(self, line: dict[str, Any]) -> None:
        content = json.dumps(line, allow_nan=False).encode() + b"\n"
        try:
            done = 0
            while done < len(content):  # a disk that gets full takes a part
                done += os.write(self._file, content[done:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._length)
            raise InputError(f"{self.path}: must have room on the disk; {error.strerror}") from None
        self._length += len(content)

    def _read(self, identity: dict[str, Any]) -> int:
        """Takes in all whole lines, and returns how many bytes they have."""
        length = 0
        with open(self.path, "rb") as file:
            for number, raw in enumerate(file):
                if not raw.endswith(b"\n"):
                    break
                try:
                    line = json.loads(raw)
                    if number == 0:
                        before = dict(line["identity"])
                    else:
                        self._configs[line["entry"]] = line["config"]
                        self.blocks[line["entry"], line["block"]] = line["rows"]
                except (ValueError, TypeError, KeyError):
                    rule = f"must be a record of an evaluation; line {number + 1} is not"
                    raise InputError(f"{self.path}: {rule}") from None
                if number == 0:
                    _compare(self.path.parent, before, identity)
                length += len(raw)
        return length


def _compare(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise InputError(
                f"{folder}: must hold the same {name}; it holds {before.get(name)}, and now is {now.get(name)}"
            )
