"""Every method on every clip of a data set: rows, tables and curves, in a folder that a later run goes on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aosa_fast.errors import InputError
from aosa_fast.evaluation.entries import Entry
from aosa_fast.evaluation.identity import describe_run, match_classes, sample_hash
from aosa_fast.evaluation.journal import Journal, Row
from aosa_fast.evaluation.measure import Item, Settings, measure
from aosa_fast.models import Classifier

if TYPE_CHECKING:
    from aosa_fast.data import Dataset, Sample

Report = Callable[[int, int, str], None]  # (blocks done, blocks in all, what is done now)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        rows: one per clip and method, in the order of the data and then of the methods; plain types.
        entries: the methods.
        identity: the data, model and settings that the values depend on.
        missing: clips that the data's lists name, and that are not there.
        unknown: what is to be said of labels that the model does not know; nothing if it knows them all.
    """

    rows: list[Row]
    entries: list[Entry]
    identity: dict[str, Any]
    missing: int = 0
    unknown: str = ""


def evaluate(
    dataset: Dataset,
    classifier: Classifier,
    entries: Sequence[Entry],
    out: Path,
    settings: Settings | None = None,
    *,
    model_name: str = "",
    retry: bool = False,
    report: Report | None = None,
) -> Evaluation:
    """Explains clips with several methods and measures the maps.

    Clips are read, explained and measured in blocks of `settings.block`, and each block is on the disk before the next
    begins: interrupted, it goes on where it stopped, to the same values. Methods and clips may be added later: only
    what is missing is computed. A clip that cannot be read has rows with its error, and stops nothing.

    Args:
        dataset: the clips; with labels, unless the target is the prediction.
        classifier: the model.
        entries: the methods.
        out: folder for the journal.
        settings: metrics, target, size of the blocks.
        model_name: how the model was called, for the record.
        retry: whether blocks with clips that failed are made again; else their errors stay.
        report: called before each block of a method.

    Returns:
        All rows.

    Raises:
        InputError: labels that the model does not know, a folder that holds another evaluation, a method that cannot
            explain this model at all.
    """
    from aosa_fast.data import unknown_labels

    settings = settings or Settings()
    labels = match_classes(dataset, classifier, settings)
    unknown = unknown_labels(dataset, labels, classifier.class_names)
    identity = describe_run(dataset, classifier, settings, model_name)
    journal = Journal(out, identity)
    try:
        for entry in entries:
            journal.check(entry.name, entry.identity)
        blocks = [dataset.samples[i : i + settings.block] for i in range(0, len(dataset.samples), settings.block)]
        work = _Work(dataset, classifier, settings, labels, journal, retry)
        work.hashes.update({sample.id: sample_hash(sample, work.label(sample)) for sample in dataset.samples})
        todo = [
            [entry for entry in entries if work.missing(entry, number, block)] for number, block in enumerate(blocks)
        ]
        done, count = 0, sum(map(len, todo))
        for number, missing in enumerate(todo):
            items, errors = work.read(blocks[number]) if missing else ([], [])
            for entry in missing:
                if report:
                    report(done, count, f"{entry.name}, clip {number * settings.block + 1} of {len(dataset.samples)}")
                work.run(entry, number, items, errors)
                done += 1
        rows = [row for entry in entries for row in work.rows(entry, blocks)]
    finally:
        journal.close()
    place = {sample.id: i for i, sample in enumerate(dataset.samples)}
    return Evaluation(
        sorted(rows, key=lambda row: place[row["clip"]]), list(entries), identity, dataset.missing, unknown
    )


@dataclass(frozen=True, eq=False)
class _Work:
    dataset: Dataset
    classifier: Classifier
    settings: Settings
    labels: dict[int, int]
    journal: Journal
    retry: bool
    hashes: dict[str, str] = field(default_factory=dict)  # of each clip, by its id

    def missing(self, entry: Entry, number: int, block: Sequence[Sample]) -> bool:
        begin = number * self.settings.block
        if entry.clips is not None and begin >= entry.clips:
            return False
        found = self.journal.blocks.get((entry.name, number))
        if found is None or (self.retry and any(row["status"] == "error" for row in found)):
            return True
        # The last block of a run with fewer clips was shorter, and a manifest may have been changed since: such blocks
        # are made again, whole.
        return [row.get("sample") for row in found] != [self.hashes[sample.id] for sample in block]

    def label(self, sample: Sample) -> int | None:
        """The model's index of a clip's class."""
        return None if sample.label is None else self.labels.get(sample.label)

    def read(self, block: Sequence[Sample]) -> tuple[list[Item], list[Row]]:
        """The clips of a block that can be read, and rows with the errors of the others."""
        items, errors = [], []
        for sample in block:
            label = self.label(sample)
            try:
                if label is None and self.settings.target == "label":
                    given = "none" if sample.label is None else sample.label
                    raise InputError(f"{sample.id}: must have a label that the model knows; got {given}")
                items.append(Item(sample, self.dataset.read(sample, self.classifier.preprocessing), label))
            except (InputError, OSError) as error:
                errors.append(_failed(sample, label, error))
        return items, errors

    def run(self, entry: Entry, number: int, items: list[Item], errors: list[Row]) -> None:
        """Measures a block, and records it."""
        rows = [{**row, "method": entry.name} for row in errors]
        try:
            rows += measure(self.classifier, items, entry, self.settings) if items else []
        except InputError:
            alone = [self._alone(entry, item) for item in items]
            worked = any(row["status"] == "ok" for row in (*alone, *self._recorded(entry)))
            if not worked:
                raise  # not the clips' fault, as far as is known: nothing has worked yet
            rows += alone
        begin, end = number * self.settings.block, (number + 1) * self.settings.block
        place = {sample.id: i for i, sample in enumerate(self.dataset.samples[begin:end])}
        rows.sort(key=lambda row: place[row["clip"]])
        rows = [{**row, "sample": self.hashes[row["clip"]]} for row in rows]
        self.journal.add(entry.name, entry.identity, number, rows)

    def _alone(self, entry: Entry, item: Item) -> Row:
        try:
            return measure(self.classifier, [item], entry, self.settings)[0]
        except InputError as error:
            return {**_failed(item.sample, item.label, error), "method": entry.name}

    def _recorded(self, entry: Entry) -> Iterator[Row]:
        return (row for (name, _), rows in self.journal.blocks.items() if name == entry.name for row in rows)

    def rows(self, entry: Entry, blocks: Sequence[Sequence[Sample]]) -> list[Row]:
        chosen: list[Row] = []
        for number in range(len(blocks)):
            if entry.clips is None or number * self.settings.block < entry.clips:
                chosen += self.journal.blocks[entry.name, number]
        return chosen[: entry.clips]


def _failed(sample: Sample, label: int | None, error: Exception) -> Row:
    return {
        "clip": sample.id,
        "path": sample.path,
        "label": label,
        "status": "error",
        "error": " ".join(str(error).split()),
    }
