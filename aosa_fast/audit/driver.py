"""An audit from start to end: which clips are still to be done, who does them, and where their rows go."""

from __future__ import annotations

import hashlib
import time
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.request import AuditRequest
from aosa_fast.audit.settings import Ready, Setup
from aosa_fast.audit.store.merging import merge_parts
from aosa_fast.audit.store.parts import PartWriter, done_ids, drop_failed
from aosa_fast.audit.store.remote import working_folder
from aosa_fast.audit.store.run_folder import open_run
from aosa_fast.audit.tasks import ERROR, OK, QUARANTINED, Row, plain_text, row_id
from aosa_fast.audit.workers.attempts import Attempts
from aosa_fast.data import open_dataset, unknown_labels
from aosa_fast.errors import InputError, ModelWarning
from aosa_fast.models.downloads import downloads_allowed
from aosa_fast.progress import Report, show_progress
from aosa_fast.version import __version__

if TYPE_CHECKING:
    from aosa_fast.addresses import Place
    from aosa_fast.audit.store.dense import DenseWriter
    from aosa_fast.audit.store.done import DoneIds
    from aosa_fast.data import Dataset, Sample


@dataclass(frozen=True)
class AuditResult:
    """What became of the clips of a shard.

    Attributes:
        folder: of the audit, as it was asked for.
        clips: how many the shard has.
        counts: of all of them, by status: "ok", "error", "quarantined".
        new: how many of them this run did.
        seconds: that it took, the model's loading included.
        busy: seconds from the first clip's start to the last row.
    """

    folder: Place
    clips: int
    counts: dict[str, int]
    new: int
    seconds: float
    busy: float


class _Tally:
    """What became of the clips of a shard so far, and the warnings of the model by their kind, earlier runs' too."""

    def __init__(self, counts: Counter[str], earlier: Mapping[str, Any]) -> None:
        self.counts = counts
        self.new, self.started = 0, time.monotonic()
        texts = earlier.get("warnings")  # from a file that anybody may have written
        self.warnings = {ModelWarning.kind(str(text)): str(text) for text in (texts if isinstance(texts, list) else ())}

    def add(self, rows: Sequence[Row]) -> None:
        """Counts rows, and warns of what is new in them."""
        self.new += len(rows)
        self.counts.update(row["status"] for row in rows)
        for text in (text for row in rows for text in row.get("warnings", ())):
            if ModelWarning.kind(text) not in self.warnings:
                self.warnings[ModelWarning.kind(text)] = text
                warnings.warn(text, ModelWarning, stacklevel=3)

    def __str__(self) -> str:
        failed = self.counts[ERROR] + self.counts[QUARANTINED]
        return f"{failed} failed" if failed else ""


class Engine(Protocol):
    """Who does the clips: processes of this machine, or a Ray cluster."""

    def start(self) -> Ready:
        """Loads the model, and returns what its process says of it. Raises an InputError if it cannot be loaded."""

    def run(self, samples: Sequence[Sample], attempts: Attempts) -> Iterator[list[Row]]:
        """Rows of all samples, each exactly once: of a group of `settings.batch` that follow each other at a time.

        Groups come in any order. Raises an InputError if processes die again and again without a clip done.
        """

    def close(self) -> None:
        """Ends all that was started; a second call does nothing."""


def audit(
    request: AuditRequest, progress: Report | None = None, failed: Callable[[Row], None] | None = None
) -> AuditResult:
    """Explains all clips of a data set, or of a shard of it, that have no row yet.

    Args:
        request: see there.
        progress: as for `aosa_fast.explain`; a step is a clip, and a function is called before the first as well, and
            with a text too if it takes three arguments.
        failed: called with the row of each clip that cannot be read or explained, as it comes.

    Returns:
        What became of the clips. Those that cannot be read or explained have rows that say so, and stop nothing.

    Raises:
        InputError: the data, the model or the folder; the disk is full (what was written stays, and a later run goes
            on); or processes die again and again without a clip done.
    """
    with working_folder(request.out, request.shard) as (folder, put):
        return replace(_audit(request, folder, put, progress, failed), folder=request.out)


def _audit(
    request: AuditRequest,
    folder: Path,
    put: Callable[[], None],
    progress: Report | None,
    failed: Callable[[Row], None] | None,
) -> AuditResult:
    """As `audit`, in a folder of this machine; `put` is called when a part has come to it."""
    begin = time.monotonic()
    dataset = choose_clips(request)
    engine = _engine(request, dataset)
    with ExitStack() as stack:
        report = stack.enter_context(show_progress(progress, request.data))
        stack.callback(engine.close)
        ready = engine.start()
        unknown_labels(dataset, ready.labels, ready.class_names)  # warns of them
        identity, facts = describe_run(request, dataset, ready), describe_facts(request, dataset, ready)
        run = stack.enter_context(open_run(folder, identity, facts, request.shard))
        attempts = stack.enter_context(Attempts(folder, request.shard))
        if request.retry:
            for suspect in attempts.suspects():
                attempts.forgive(suspect)
            drop_failed(folder, request.shard)
        dense = _open_dense(request, folder, ready, stack)
        done, flush = done_ids(folder, request.shard), None if dense is None else dense.flush
        writer = PartWriter(folder, request.shard, done=done, before_commit=flush, after_commit=put)
        parts = stack.enter_context(writer)
        left, counts = _left(dataset, request.shard, parts.done)
        clips, tally = len(left) + sum(counts.values()), _Tally(counts, run.earlier or {})
        report(clips - len(left), clips, str(tally))
        for rows in engine.run(dataset.take(left).samples, attempts):
            parts.add([_complete(row, dataset, dense) for row in rows])
            parts.poll()
            tally.add(rows)
            if failed:
                for row in (row for row in rows if row["status"] != OK):
                    failed(row)
            report(sum(counts.values()), clips, str(tally))
        parts.flush()
        end = time.monotonic()
        busy, seconds = end - tally.started, end - begin
        facts = {"finished": True, "clips": clips, "counts": dict(counts), "new": tally.new, "seconds": seconds}
        run.finish({**facts, "warnings": list(tally.warnings.values())})
        try:
            merge_parts(folder, request.shard)
        except InputError as error:  # all rows are there, in more files than there need be
            warnings.warn(f"parts stay small: {error}", stacklevel=2)
    return AuditResult(folder, clips, dict(counts), tally.new, seconds, busy)


def choose_clips(request: AuditRequest) -> Dataset:
    """The data set with the clips that are asked for."""
    dataset = open_dataset(request.data, annotations=request.annotations, split=request.split)
    everything = request.limit is None and request.per_class is None
    return dataset if everything else dataset.select(request.per_class, request.limit, request.settings.seed)


def describe_run(request: AuditRequest, dataset: Dataset, ready: Ready) -> dict[str, Any]:
    """What the rows depend on, in plain types; a folder holds one such run only."""
    return {
        "data": dataset.name,
        "model": request.model,
        "weights": ready.weights,
        "preprocessing": ready.preprocessing.as_dict(),
        "settings": request.settings.identity(ready.config),
        "version": __version__,
    }


def describe_facts(request: AuditRequest, dataset: Dataset, ready: Ready) -> dict[str, Any]:
    """What else is worth keeping: how to open the data again, names, versions, and how the run was started."""
    return {
        **{name: getattr(request, name) for name in ("data", "annotations", "split", "limit", "per_class")},
        "clips": len(dataset),
        "missing": dataset.missing,
        "class_names": None if ready.class_names is None else list(ready.class_names),
        "device": ready.device,
        "engine": request.engine,
        "versions": ready.versions,
        "command": request.command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def make_setup(request: AuditRequest, dataset: Dataset) -> Setup:
    """What the processes need to begin."""
    used = tuple(sorted(dataset.count_labels()))
    names, device, threads = dataset.class_names, request.device, request.threads
    return Setup(
        request.model, request.settings, names, used, dataset.name, device, threads, download=downloads_allowed()
    )


def _engine(request: AuditRequest, dataset: Dataset) -> Engine:
    setup = make_setup(request, dataset)
    if request.engine == "ray":
        from aosa_fast.audit.ray.engine import RayEngine

        return RayEngine(setup, dataset, request)
    from aosa_fast.audit.workers.pool import Pool

    devices = [f"cuda:{i}" for i in range(request.gpus)] or [request.device]
    return Pool(setup, dataset, devices=devices, readers=request.readers)


def _left(
    dataset: Dataset, shard: tuple[int, int], done: DoneIds | dict[str, str]
) -> tuple[NDArray[np.int64], Counter[str]]:
    """The places of the shard's clips that have no row yet, and what became of its others."""
    left, counts = array("q"), Counter({OK: 0, ERROR: 0, QUARANTINED: 0})
    for place, sample in enumerate(dataset.samples):
        if _is_mine(sample.id, shard):
            status = done.get(row_id(sample))
            if status is None:
                left.append(place)
            else:
                counts[status] += 1
    return np.array(left, np.int64), counts


def _is_mine(name: str, shard: tuple[int, int]) -> bool:
    """Whether a clip belongs to a shard: by its name, so that clips can be added to the data later."""
    number, count = shard
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return count == 1 or int.from_bytes(digest, "big") % count == number - 1


def _complete(row: Row, dataset: Dataset, dense: DenseWriter | None) -> Row:
    """A row with its label's name, which whoever could not read the clip does not know, and the place of its map."""
    row = {name: value for name, value in row.items() if name != "warnings"}
    label = row.get("data_label")
    if label is not None and dataset.class_names is not None and row.get("label_name") is None:
        row["label_name"] = plain_text(dataset.class_names[label])
    values = row.pop("dense", None)
    if dense is not None and values is not None:
        row["dense_index"] = dense.append(row["id"], values)
    return row


def _open_dense(request: AuditRequest, folder: Path, ready: Ready, stack: ExitStack) -> DenseWriter | None:
    """The store of whole maps, if they are wanted."""
    if not request.settings.dense:
        return None
    from aosa_fast.audit.store.dense import DenseWriter

    shape = (ready.preprocessing.frames, *ready.preprocessing.crop)
    return stack.enter_context(DenseWriter(folder, request.shard, shape))
