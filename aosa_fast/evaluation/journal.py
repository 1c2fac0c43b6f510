"""The record of an evaluation while it runs: what is in it is never computed again, and never half there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aosa_fast.errors import InputError
from aosa_fast.evaluation.metrics import Row
from aosa_fast.journal import JournalFile

FILE = "journal.jsonl"


class Journal:
    """Lines of JSON: the identity of the run, then one line per block of clips and entry, flushed to the disk.

    Floats are written such that they read back as they were, so a run that was interrupted gives the same values.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Opens the record of an earlier run, which must have had the same identity, or begins one.

        Raises:
            InputError: the folder holds another run, is in use by one, or cannot be written.
        """
        self._folder, self._identity = folder, identity
        self.blocks: dict[tuple[str, int], list[Row]] = {}
        self._configs: dict[str, str] = {}
        alone = f"another run writes to its {FILE}"
        self._record = JournalFile(folder, FILE, take=self._take, what="an evaluation", alone=alone)
        if self._record.empty:
            try:
                self._record.add({"identity": identity})
            except BaseException:
                self.close()
                raise

    def check(self, entry: str, config: str) -> None:
        """Raises InputError for an entry that is recorded with another config."""
        if self._configs.get(entry, config) != config:
            raise InputError(f"{self._folder}: must hold {entry} with the same options; it holds it with others")

    def add(self, entry: str, config: str, block: int, rows: list[Row]) -> None:
        """Records the rows of one block of clips; they are on the disk when this returns.

        Raises:
            InputError: the disk is full.
        """
        self._record.add({"entry": entry, "config": config, "block": block, "rows": rows})
        self._configs[entry] = config
        self.blocks[entry, block] = rows

    def close(self) -> None:
        """Closes the file."""
        self._record.close()

    def _take(self, number: int, line: Any) -> None:
        if number == 1:
            self._compare(dict(line["identity"]))
        else:
            self._configs[line["entry"]] = line["config"]
            rows = [{**row, "clip": str(row["clip"]), "status": str(row["status"])} for row in line["rows"]]
            self.blocks[str(line["entry"]), int(line["block"])] = rows

    def _compare(self, before: dict[str, Any]) -> None:
        now = self._identity
        if "resize" in now.get("preprocessing", {}):  # which is younger than the format
            before["preprocessing"] = {"resize": "short", **before.get("preprocessing", {})}
        for name in {**before, **now}:
            then, current = before.get(name), now.get(name)
            if then != current:
                raise InputError(f"{self._folder}: must hold the same {name}; it holds {then}, and now is {current}")
