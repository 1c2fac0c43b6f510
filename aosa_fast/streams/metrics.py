"""What became of each frame, as lines of JSON, and the sums of it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aosa_fast.explanation import Explanation
from aosa_fast.files import refuse_special
from aosa_fast.streams.buffer import Frame
from aosa_fast.streams.recording import writing


@dataclass
class Tally:
    """Sums over a stream.

    Attributes:
        frames: that were taken, and followed from the one before.
        maps: that were made.
        dropped: frames that were decoded, and dropped.
        damaged: packets and frames that could not be decoded.
        connections: how often the source was opened, and frames came.
        age: of the newest frame when its map was there, seconds, the last time.
        oldest: the largest of these.
        said: what the last map explains.
    """

    frames: int = 0
    maps: int = 0
    dropped: int = 0
    damaged: int = 0
    connections: int = 0
    age: float = 0.0
    oldest: float = 0.0
    said: str = ""

    def __str__(self) -> str:
        parts = [_count(self.frames, "frame"), _count(self.maps, "map"), f"{self.dropped} dropped"]
        parts += [f"{self.damaged} damaged"] * bool(self.damaged)
        parts += [_count(self.connections, "connection")] * (self.connections > 1)
        return ", ".join(parts)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


class Metrics:
    """A file of JSON lines: one for each frame that was taken, each map, and whatever happens to the connection."""

    def __init__(self, path: Path) -> None:
        """Begins it; a file of that name stays what it is until there is a frame.

        Raises:
            InputError: it cannot be written.
        """
        self._path, self._lock = path, threading.Lock()
        with writing(path):
            refuse_special(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", buffering=1)
        # What happens before the first frame waits for it where there is something to lose.
        self._held: list[str] | None = [] if self._file.tell() else None

    def frame(self, frame: Frame, age: float, dropped: int) -> None:
        """A frame was taken from the buffer; `age` in seconds, `dropped` frames so far."""
        self._write(
            "frame", connection=frame.connection, number=frame.number, time=frame.time, age=age, dropped=dropped
        )

    def map(self, frame: Frame, explanation: Explanation, age: float, oldest: float, seconds: float) -> None:
        """A map was made; `age` of its newest and its oldest frame, and how long the model and all took, in seconds."""
        facts = explanation.metadata
        named = {name: facts[name][0] for name in ("target", "probability", "prediction", "prediction_probability")}
        self._write(
            "map", connection=frame.connection, number=frame.number, time=frame.time, age=age, oldest=oldest,
            seconds=seconds, **named,
        )  # fmt: skip

    def event(self, text: str) -> None:
        """Something happened; from any thread."""
        self._write("event", text=text)

    def _write(self, kind: str, **facts: Any) -> None:
        rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in facts.items()}
        line = json.dumps({"kind": kind, **rounded}) + "\n"
        with self._lock, writing(self._path):
            if self._file.closed:
                return
            if self._held is not None and kind == "event":
                self._held.append(line)
                return
            if self._held is not None:
                self._file.truncate(0)
                line, self._held = "".join([*self._held, line]), None
            self._file.write(line)

    def close(self) -> None:
        """Ends the file."""
        with self._lock, writing(self._path):
            self._file.close()
