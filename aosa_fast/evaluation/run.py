"""Every method on every clip of a data set: rows, in a folder that a later run goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aosa_fast.errors import InputError
from aosa_fast.evaluation.entries import Entry
from aosa_fast.evaluation.identity import describe_run, load_judge, match_classes, sample_hash
from aosa_fast.evaluation.journal import Journal
from aosa_fast.evaluation.measure import Item, Settings, measure
from aosa_fast.evaluation.metrics import Row
from aosa_fast.models import Classifier
from aosa_fast.progress import Report, show_progress

if TYPE_CHECKING:
    from aosa_fast.data import Dataset, Sample


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        rows: one per clip and method, in the order of the data and then of the methods.
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
    progress: Report | None = None,
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
        progress: as for `aosa_fast.explain`; a step is a block of a method, and a function is called before each, with
            a text too if it takes three arguments.

    Raises:
        InputError: labels that the model does not know, a folder that holds another evaluation, a method that cannot
            explain this model at all, a judge that is not the model's like.
    """
    from aosa_fast.data import unknown_labels

    settings = settings or Settings()
    used = {sample.label for sample in dataset.samples if sample.label is not None}
    wanted = settings.target == "label"
    if wanted and not used and not dataset.class_names:
        raise InputError(f"{dataset.name}: must have labels, or be evaluated with target=pred; it has none")
    labels = match_classes(dataset.name, dataset.class_names, used, classifier, all_known=wanted)
    unknown = unknown_labels(dataset, labels, classifier.class_names)
    judge = load_judge(settings.judge, classifier) if settings.judge else None
    identity = describe_run(dataset, classifier, settings, model_name, judge)
    with closing(Journal(out, identity)) as journal, show_progress(progress, dataset.name) as report:
        for entry in entries:
            journal.check(entry.name, entry.identity)
        work = _Work(dataset, classifier, settings, labels, journal, retry, judge)
        todo = [[entry for entry in entries if work.is_missing(entry, i)] for i in range(len(work.blocks))]
        done, count = 0, sum(map(len, todo))
        for number, missing in enumerate(todo):
            items, errors = work.read(number) if missing else ([], [])
            for entry in missing:
                report(done, count, f"{entry.name}, clip {number * settings.block + 1} of {len(dataset.samples)}")
                work.run(entry, number, items, errors)
                done += 1
        rows = [row for entry in entries for row in work.rows(entry)]
    place = {sample.id: i for i, sample in enumerate(dataset.samples)}
    rows.sort(key=lambda row: place[row["clip"]])
    return Evaluation(rows, list(entries), identity, dataset.missing, unknown)


@dataclass(eq=False)
class _Work:
    dataset: Dataset
    classifier: Classifier
    settings: Settings
    labels: dict[int, int]  # the model's index of each label that it knows
    journal: Journal
    retry: bool
    judge: Classifier | None
    blocks: list[Sequence[Sample]] = field(init=False)
    hashes: dict[str, str] = field(init=False)  # of each clip, by its id

    def __post_init__(self) -> None:
        samples, size = self.dataset.samples, self.settings.block
        self.blocks = [samples[i : i + size] for i in range(0, len(samples), size)]
        self.hashes = {sample.id: sample_hash(sample, self._label(sample)) for sample in samples}

    def is_missing(self, entry: Entry, number: int) -> bool:
        """Whether a block is wanted of a method, and is not in the journal as it must be now."""
        if entry.clips is not None and number * self.settings.block >= entry.clips:
            return False
        found = self.journal.blocks.get((entry.name, number))
        if found is None or (self.retry and any(row["status"] == "error" for row in found)):
            return True
        # The last block of a run with fewer clips was shorter, and a manifest may have been changed since: such blocks
        # are made again, whole.
        return [row.get("sample") for row in found] != [self.hashes[sample.id] for sample in self.blocks[number]]

    def read(self, number: int) -> tuple[list[Item], list[Row]]:
        """The clips of a block that can be read, and rows with the errors of the others."""
        items, errors = [], []
        for sample in self.blocks[number]:
            label = self._label(sample)
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
            rows += measure(self.classifier, items, entry, self.settings, self.judge) if items else []
        except InputError:
            alone = [self._alone(entry, item) for item in items]
            recorded = [row for (name, _), own in self.journal.blocks.items() if name == entry.name for row in own]
            if all(row["status"] != "ok" for row in (*alone, *recorded)):
                raise  # not the clips' fault, as far as is known: nothing has worked yet
            rows += alone
        place = {sample.id: i for i, sample in enumerate(self.blocks[number])}
        rows.sort(key=lambda row: place[row["clip"]])
        rows = [{**row, "sample": self.hashes[row["clip"]]} for row in rows]
        self.journal.add(entry.name, entry.identity, number, rows)

    def rows(self, entry: Entry) -> list[Row]:
        """What the journal holds of a method's clips."""
        numbers = [i for i in range(len(self.blocks)) if entry.clips is None or i * self.settings.block < entry.clips]
        return [row for i in numbers for row in self.journal.blocks[entry.name, i]][: entry.clips]

    def _label(self, sample: Sample) -> int | None:
        return None if sample.label is None else self.labels.get(sample.label)

    def _alone(self, entry: Entry, item: Item) -> Row:
        try:
            return measure(self.classifier, [item], entry, self.settings, self.judge)[0]
        except InputError as error:
            return {**_failed(item.sample, item.label, error), "method": entry.name}


def _failed(sample: Sample, label: int | None, error: Exception) -> Row:
    text = " ".join(str(error).split())
    return {"clip": sample.id, "path": sample.path, "label": label, "status": "error", "error": text}
