"""The service as a process: started, looked at while it is under load, and ended."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aosa_fast.bench.processes import AOSA_FAST, descendants, memory
from aosa_fast.bench.serve_answers import Answers, read_answers, start_client

STAGES = ("body", "decode", "queue", "model", "render")
READY = 300.0  # seconds until it must be, of which a busy machine may take many


@dataclass
class Service:
    """`aosa-fast serve` on a free port of this machine; in a with statement, killed at its end if it still runs.

    Attributes:
        model: its specification.
        options: of the command, beyond the model and the port.
        before: seconds until it was ready.
    """

    model: str
    options: tuple[str, ...] = ()
    port: int = field(init=False)
    before: float = field(init=False)

    def __enter__(self) -> Service:
        start = time.monotonic()
        self.port = free_port()
        self._said = tempfile.TemporaryFile("w+")
        words = ["serve", "--model", self.model, "--port", str(self.port), *self.options]
        self.process = subprocess.Popen([*AOSA_FAST, *words], stdout=self._said, stderr=subprocess.STDOUT)
        try:
            while self._status("/ready") != 200:
                if self.process.poll() is not None or time.monotonic() - start > READY:
                    raise SystemExit(f"the service must be ready within {READY:g} s; it said: {self.said()[-2000:]}")
                time.sleep(0.1)
        except BaseException:
            self.__exit__()
            raise
        self.before = time.monotonic() - start
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def send(self, body: Path, path: str, **load: Any) -> Answers:
        """Loads it, as `serve_client.Load` says, and looks at its memory meanwhile, at most once a second."""
        before, samples = self.metrics(), []
        with tempfile.TemporaryDirectory() as folder:
            client, out = start_client(Path(folder), port=self.port, body=str(body), path=path, **load)
            begin = time.monotonic()
            while client.poll() is None:
                with suppress(OSError):
                    samples.append((time.monotonic() - begin, *self.memory()))
                time.sleep(min(1.0, 0.05 * load["seconds"]))
            answers = read_answers(client, out, load["seconds"])
        answers.memory = np.array(samples, float).reshape(-1, 3)
        answers.stages = stage_means(before, self.metrics())
        return answers

    def memory(self) -> tuple[float, float]:
        """MB of the server, and of all processes that it started, none of which are a file's."""
        others = 0.0
        for pid in descendants(self.process.pid):
            with suppress(OSError):  # it has just ended
                others += memory(pid, "RssAnon")
        return memory(self.process.pid, "RssAnon"), others

    def metrics(self) -> dict[str, float]:
        """What /metrics says: name with labels, value."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30).read().decode()
        found = re.findall(r"^([a-z_]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def in_flight(self) -> float:
        """How many requests it says that it holds."""
        return self.metrics()["aosa_requests_in_flight"]

    def until_idle(self, patience: float) -> float:
        """Seconds until it holds none any more; NaN: it still does after so long."""
        start = time.monotonic()
        while time.monotonic() - start < patience:
            if self.in_flight() == 0:
                return time.monotonic() - start
            time.sleep(0.01)
        return float("nan")

    def said(self) -> str:
        """What it wrote so far."""
        self._said.seek(0)
        return self._said.read()

    def _status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def stage_means(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Milliseconds of each stage for each request that had it between two looks at /metrics, and clips a batch."""

    def mean(name: str, labels: str = "") -> float:
        total, count = (after[key] - before.get(key, 0.0) for key in (f"{name}_sum{labels}", f"{name}_count{labels}"))
        return total / count if count else float("nan")

    found = {stage: 1e3 * mean("aosa_stage_seconds", f'{{stage="{stage}"}}') for stage in STAGES}
    return {**found, "batch": mean("aosa_batch_clips")}


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
