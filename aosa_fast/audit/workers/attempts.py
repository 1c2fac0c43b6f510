"""The record of processes that died over clips: a clip that kills twice is not tried a third time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.store.run_folder import shard_name
from aosa_fast.audit.tasks import QUARANTINED, Row, failed_row
from aosa_fast.journal import JournalFile

if TYPE_CHECKING:
    from aosa_fast.data import Sample

QUARANTINE = 2  # deaths, after which a clip is not tried again
FOLDER = "attempts"


@dataclass
class _Record:
    deaths: int
    stage: str
    reason: str


class Suspects:
    """How many processes died over which clips, and of what. Clips that never met a death take no memory."""

    def __init__(self, write: Callable[[dict[str, Any], bool], None]) -> None:
        """Begins without any.

        Args:
            write: takes a line of the record, and whether it must be on the disk when it returns.
        """
        self._records: dict[str, _Record] = {}
        self._write = write

    def deaths(self, id: str) -> int:
        """How many processes died over a clip, since it was last forgiven."""
        record = self._records.get(id)
        return 0 if record is None else record.deaths

    def suspects(self) -> set[str]:
        """The clips with one death or more, the quarantined ones among them."""
        return set(self._records)

    def record(self, ids: Sequence[str], stage: str, reason: str) -> None:
        """Records that a process died.

        Args:
            ids: the clips that it had.
            stage: "read" or "explain".
            reason: of what it died, with the end of its standard error.

        Raises:
            InputError: the disk is full, or the file cannot be written; then nothing is recorded.
        """
        died = {"died": list(dict.fromkeys(ids)), "stage": stage, "reason": reason}
        self._write(died, True)
        self.take(died)

    def forgive(self, id: str) -> None:
        """Forgets the deaths of a clip: it was done alone, so that another one in its batch was to blame.

        A power cut may undo it, at the cost of doing the clip alone once more.

        Raises:
            InputError: as `record`.
        """
        if id in self._records:
            self._write({"forgiven": id}, False)
            del self._records[id]

    def quarantine_row(self, sample: Sample) -> Row:
        """The row of a clip that is not tried again, with the stage and the reason of its last death.

        Raises:
            KeyError: no process died over it.
        """
        record = self._records[sample.id]
        return failed_row(sample, record.stage, record.reason, status=QUARANTINED, attempts=record.deaths)

    def take(self, line: Any) -> None:
        """Takes in a line of a record; an exception says that it is none."""
        if "forgiven" in line:
            self._records.pop(line["forgiven"], None)
            return
        stage, reason = str(line["stage"]), str(line["reason"])
        for id in map(str, line["died"]):
            self._records[id] = _Record(self.deaths(id) + 1, stage, reason)


class Attempts(Suspects):
    """The same in a file, lines of JSON: what is recorded is on the disk when the call returns.

    The shard must be this process' own, see `aosa_fast.audit.store.run_folder.open_run`.
    """

    def __init__(self, folder: Path, shard: tuple[int, int]) -> None:
        """Opens the record of earlier runs, or begins one: DIR/attempts/<i>of<n>.jsonl.

        Args:
            folder: of the audit.
            shard: (i, n), the part i of 1..n.

        Raises:
            InputError: the file is no such record, or cannot be written.
        """
        super().__init__(lambda line, sync: self._lines.add(line, sync=sync))
        name = f"{shard_name(shard)}.jsonl"
        self._lines = JournalFile(folder, FOLDER, name, take=lambda number, line: self.take(line), what="attempts")
        self.path = self._lines.path

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._lines.close()

    def __enter__(self) -> Attempts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
