"""The append-only journal: a file of lines of JSON that outlasts kills and power cuts, line by line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from aosa_fast.boundary import reading
from aosa_fast.errors import InputError
from aosa_fast.files import disk_error, lock, make_folder, open_own, sync_folder, write_all


class JournalFile:
    """A file of lines of JSON, each of them there whole or not at all.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path, *names: str, take: Callable[[int, Any], None], what: str, alone: str = "") -> None:
        """Opens a record and reads it, or begins one.

        Args:
            folder: made if it is missing, as are those that `names` begins with.
            names: of the file in it; the last one is the file's.
            take: called with each line's number, from 1, and what it holds; an exception says that it is not as it must
                be.
            what: it is a record of, for messages.
            alone: what is said where another process has it open; "": nothing, and it is not looked at.

        Raises:
            InputError: the file is no such record, another process has it, or it cannot be written.
        """
        self._folder = folder
        self.path = folder.joinpath(*names)
        try:
            make_folder(folder, *names[:-1])
            self._file: int | None = open_own(self.path, os.O_APPEND)
            try:
                if alone and not lock(self._file):
                    raise InputError(f"{folder}: must not be in use; {alone}")
                self._length = self._read(take, what)
                os.ftruncate(self._file, self._length)  # a line that an earlier run did not finish
                sync_folder(self.path.parent)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise disk_error(folder, error) from None

    @property
    def empty(self) -> bool:
        """Whether it has no line yet."""
        return not self._length

    def add(self, line: dict[str, Any], *, sync: bool = True) -> None:
        """Adds a line; with `sync` it is on the disk when this returns.

        Raises:
            InputError: the disk is full, or the file cannot be written; then nothing is added.
            ValueError: a number that JSON has not, or the record is closed.
        """
        if self._file is None:
            raise ValueError("the record is closed")
        content = json.dumps(line, allow_nan=False).encode() + b"\n"
        try:
            write_all(partial(os.write, self._file), content)
            if sync:
                os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):  # if not now, then at the next start
                os.ftruncate(self._file, self._length)
            raise disk_error(self._folder, error) from None
        self._length += len(content)

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self, take: Callable[[int, Any], None], what: str) -> int:
        """Takes in all whole lines, and returns how many bytes they have."""
        assert self._file is not None
        length = 0
        with open(self._file, "rb", closefd=False) as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                with reading(f"{self.path}, line {number}", f"must be a record of {what}"):
                    take(number, json.loads(raw))
                length += len(raw)
        return length
