"""What stands in for decoders and models in the tests of an audit's processes; a sample's id says what befalls it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.settings import AuditSettings, Ready, Setup
from aosa_fast.audit.tasks import OK, Row, describe_sample
from aosa_fast.config import Config
from aosa_fast.data import Dataset, Sample
from aosa_fast.errors import InputError

FACTORIES = {"read": "audit_models:Reader", "explain": "audit_models:Explainer"}


@dataclass
class Clip:
    """What stands in for a prepared clip."""

    sample: Sample
    frames: NDArray[np.uint8]  # of any length, so that what follows it may begin anywhere
    flow: NDArray[np.float32]
    read_by: int
    threads: str


class AcceleratorError(RuntimeError):
    """Named as torch names what leaves a device unusable."""


class Unreadable:
    """Cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (ValueError("damaged"),)


class Reader:
    """Reads nothing: "read-WHAT" anywhere in an id does WHAT; else it takes so long as "sNNN" says, in milliseconds."""

    def __init__(self, dataset: Dataset, preprocessing: Any, settings: AuditSettings) -> None:
        if dataset.samples:
            raise ValueError("a reader needs no list of samples")
        if dataset.name == "refused":
            raise InputError("dataset must be another one")
        self.size = int(preprocessing)

    def prepare(self, sample: Sample) -> Clip:
        misbehave(sample, "read")
        for part in sample.id.split("/"):
            if part.startswith("s") and part[1:].isdecimal():
                time.sleep(int(part[1:]) / 1000)
        flow = np.arange(5, dtype=np.float32)
        return Clip(sample, content(sample.id, self.size), flow, os.getpid(), os.environ["OMP_NUM_THREADS"])


class Explainer:
    """Explains nothing: rows say what was in a batch.

    The model's name: "[load-WHAT][,wait=SECONDS][,size=BYTES][,weights=FILE][,fuse=FILE that ends it]".
    """

    def __init__(self, setup: Setup) -> None:
        options = dict(part.partition("=")[::2] for part in setup.model.split(","))
        misbehave(Sample(setup.model, None, None), "load")
        self.calls = 0
        self.wait, self.fuse = float(options.get("wait", 0)), options.get("fuse")
        versions = {name: os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONPATH")}
        weights = Path(options["weights"]).read_text() if "weights" in options else None
        self.ready = Ready(options.get("size", "10"), None, {}, weights, Config(), setup.device, versions)

    def explain(self, clips: list[Clip]) -> list[Row]:
        rows: list[Row] = []
        self.calls += 1
        if self.fuse and os.path.exists(self.fuse):
            os._exit(5)
        for clip in clips:
            misbehave(clip.sample, "explain")
            time.sleep(self.wait)
            batch = [other.sample.id for other in clips]
            facts = {"status": OK, "batch": batch, "explained_by": os.getpid(), "size": len(clip.frames)}
            facts["calls"] = self.calls
            clip.flow += 1
            whole = np.array_equal(clip.frames, content(clip.sample.id, len(clip.frames)))
            facts["whole"] = bool(whole and clip.flow.flags.aligned and clip.flow.tolist() == [1, 2, 3, 4, 5])
            facts |= {"read_by": clip.read_by, "read_threads": clip.threads}
            rows.append({**describe_sample(clip.sample), **facts, "attempts": 1})
            if "explain-fewer-rows" in clip.sample.id:
                rows.pop()
            if "explain-strange-row" in clip.sample.id:
                rows[-1]["facts"] = Unreadable()
        return rows


def content(id: str, size: int) -> NDArray[np.uint8]:
    """What stands in for the frames of a clip."""
    text = id.encode()
    return np.frombuffer((text * (size // len(text) + 1))[:size], np.uint8).copy()


def misbehave(sample: Sample, stage: str) -> None:
    """Does what a sample's id asks for at this stage; "once-" before it: only where a file in its path is new."""
    for part in sample.id.replace(",", "/").split("/"):
        if not part.startswith(f"{stage}-"):
            continue
        what = part.removeprefix(f"{stage}-")
        if what.startswith("once-"):
            what = what.removeprefix("once-")
            mark = Path(sample.path or "", part)
            if mark.exists():
                continue
            mark.touch()
        if sample.path is not None:
            Path(sample.path, f"begun-{part}").touch()
            os.chdir(sample.path)
        _ACTS.get(what, bool)()


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    time.sleep(1000)


def _hang_with_lock() -> None:
    ctypes.PyDLL(None).sleep(1000)  # unlike CDLL, keeps the interpreter's lock


def _print() -> None:
    sys.stdout.write("garbage\n" * 10_000)
    sys.stdout.flush()
    os.write(1, bytes(range(256)) * 4096)
    os.system("echo and a program prints too; cat")  # and asks for input


def _shout() -> None:
    for _ in range(64):
        os.write(2, b"\xffa line that tells nobody anything\n" * 32_768)
    sys.stderr.write("the last words\n")
    sys.stderr.flush()
    os._exit(3)


def _child_holds_pipes() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
    Path(f"forked-{os.getpid()}").write_text(str(pid))
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: BaseException) -> None:
    raise error


_ACTS = {
    "segfault": _segfault,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": _hang,
    "hang-with-lock": _hang_with_lock,
    "exit": lambda: os._exit(0),
    "system-exit": lambda: _raise(SystemExit(3)),
    "print": _print,
    "shout": _shout,
    "fork": _child_holds_pipes,
    "close-pipes": lambda: os.closerange(3, 100) or time.sleep(1000),
    "input-error": lambda: _raise(InputError("FILE: must be\na video")),
    "os-error": lambda: _raise(FileNotFoundError(2, "No such file or directory", "gone.mp4")),
    "bug": lambda: _raise(ValueError("a bug in the decoder")),
    "cuda": lambda: _raise(RuntimeError("CUDA error: an illegal memory access was encountered")),
    "accelerator": lambda: _raise(AcceleratorError("the device is gone")),
    "sigint": lambda: [os.kill(os.getpid(), s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    "die-at-start": lambda: os._exit(4),
}
