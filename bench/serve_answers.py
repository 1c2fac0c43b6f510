"""What became of the requests that a client sent."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CLIENT = Path(__file__).with_name("serve_client.py")


@dataclass
class Answers:
    """What became of the requests of one load.

    Attributes:
        rows: (n, 5) as of `serve_client.Load`; seconds from its start, status, whether the client meant to leave.
        seconds: for which requests were sent.
        broken: why answers were neither whole nor of status 200 or 503, and how many.
        spent: processor time of the client, seconds.
        memory: (m, 3) seconds, MB of the server, MB of its other processes, none of which are a file's.
        stages: milliseconds of each stage of a request, in the mean, and clips a batch, by the service's account.
    """

    rows: np.ndarray
    seconds: float
    broken: dict[str, int]
    spent: float
    memory: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    stages: dict[str, float] = field(default_factory=dict)

    def times(self, status: int = 200) -> np.ndarray:
        """Milliseconds from when a request was due to its answer of this status, of clients that stayed."""
        due, _, done = self.rows[self._stayed() & (self.rows[:, 3] == status)].T[:3]
        return 1e3 * (done - due)

    def late(self) -> np.ndarray:
        """Milliseconds by which requests were sent too late, which is the client's own doing."""
        return 1e3 * (self.rows[:, 1] - self.rows[:, 0])

    def goodput(self) -> float:
        """Answers a second to clients that stayed, after a first second that fills what was empty."""
        lead = min(1.0, 0.1 * self.seconds)
        done = self.rows[self._stayed() & (self.rows[:, 3] == 200), 2]
        return float(((done > lead) & (done <= self.seconds)).sum() / (self.seconds - lead))

    def slices(self, seconds: float = 10.0) -> list[float]:
        """Goodput of each slice of so many seconds."""
        done = self.rows[self._stayed() & (self.rows[:, 3] == 200), 2]
        count = max(1, int(self.seconds // seconds))
        return list(np.histogram(done, count, (0, self.seconds))[0] * count / self.seconds)

    def share(self, *status: int) -> float:
        """Of the requests whose clients stayed, how many had one of these statuses, percent."""
        return float(100 * np.isin(self.rows[self._stayed(), 3], status).mean())

    def first(self, status: int) -> float:
        """Seconds until this status came first; NaN: it never did."""
        return float(min(self.rows[self.rows[:, 3] == status, 2], default=np.nan))

    def _stayed(self) -> np.ndarray:
        stayed: np.ndarray = self.rows[:, 4] == 0
        return stayed


def start_client(folder: Path, **load: Any) -> tuple[subprocess.Popen[bytes], Path]:
    """A client at work, and where its answers will be."""
    out = folder / "answers.json"
    return subprocess.Popen([sys.executable, "-I", str(CLIENT), "load", json.dumps(load), str(out)]), out


def read_answers(client: subprocess.Popen[bytes], out: Path, seconds: float) -> Answers:
    """Waits for a client's end, and gives what it found."""
    if client.wait():
        raise SystemExit(f"the client ended with code {client.returncode}")
    found = json.loads(out.read_text())
    return Answers(np.array(found.pop("rows"), float).reshape(-1, 5), seconds, **found)
