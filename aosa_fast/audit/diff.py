"""What changed between two audits: of two models on the same clips, or of one model on two versions of the data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aosa_fast.audit.findings.summary import summarize
from aosa_fast.audit.findings.tables import FINDINGS, finding_rows
from aosa_fast.audit.findings.types import UNEXPLAINED
from aosa_fast.audit.report.run_facts import everything
from aosa_fast.audit.sheets import write_csv
from aosa_fast.audit.store.parts import read_rows
from aosa_fast.audit.store.run_folder import CLIPS, read_run
from aosa_fast.audit.tasks import Row
from aosa_fast.audit.verdicts import leave_out
from aosa_fast.boundary import reading
from aosa_fast.data.parquet import open_parquet, read_columns
from aosa_fast.files import atomic_path

_COLUMNS = (
    "id", "content_hash", "start", "end", "status", "label_name", "data_label", "label", "prediction_name",
    "prediction",
)  # fmt: skip
SUFFIXES = (".csv", ".parquet", ".json")
_SAID = 10  # of each kind of change, on the console


@dataclass(frozen=True)
class Change:
    """A difference; the columns of the table, in their order.

    Attributes:
        what: "prediction", "label", "status", "only before", "only after" (of a clip, with its label), "accuracy" (of a
            class, or of all), "finding gone", "finding new" or "finding kept".
        name: the clip's id, or the class.
        before: what it was; "" where there was nothing.
        after: what it is.
    """

    what: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """All differences of two audits.

    Attributes:
        settings: what the two runs do not have in common, such as "model" or "settings.config.fill", with both values.
        clips: how many both have.
        changes: the rest.
    """

    settings: tuple[Change, ...]
    clips: int
    changes: tuple[Change, ...]

    def lines(self) -> Iterator[tuple[str, str]]:
        """What to say of it, as pairs of a short name and a text; at most ten of a kind."""
        for change in self.settings:
            yield change.what, f"{change.before} -> {change.after}"
        yield "clips", f"{self.clips} in both"
        for what in dict.fromkeys(change.what for change in self.changes):
            same = [change for change in self.changes if change.what == what]
            yield what, f"{len(same)}" if what != "accuracy" else "of clips whose label the model knows"
            for change in (change for change in same[:_SAID] if change.before or change.after):
                values = dict.fromkeys(filter(None, (change.before, change.after)))
                yield "", ": ".join(filter(None, (change.name, " -> ".join(values))))
            if len(same) > _SAID:
                yield "", f"and {len(same) - _SAID} more"


def compare(before: Path, after: Path) -> Comparison:
    """Compares two audits, by their rows and their findings.

    Clips are the same where their ids are; of the others, where their content and their part of it are, and nothing
    else in either audit has the same. Findings are the same where class and kind are, and place or time overlap.

    Raises:
        InputError: one of the folders holds no audit, or none with an explained clip.
    """
    own, other = (dict(everything(read_run(folder)["identity"])) for folder in (before, after))
    settings = tuple(
        Change(name, "", own.get(name, ""), other.get(name, ""))
        for name in dict.fromkeys([*own, *other])
        if own.get(name) != other.get(name) and name != "shards"
    )
    tables = [_read_clips(folder) for folder in (before, after)]
    pairs = _match(*tables)
    both = [table.take(pairs[:, side]) for side, table in enumerate(tables)]
    alone = [table.take(np.setdiff1d(np.arange(len(table)), pairs[:, side])) for side, table in enumerate(tables)]
    return Comparison(
        settings,
        len(pairs),
        (
            *_accuracies(tables, both),
            *_findings(_read_findings(before), _read_findings(after)),
            *(change for what in ("prediction", "label", "status") for change in _changed(what, *both)),
            *(Change("only before", row["id"], row["label"], "") for row in alone[0].to_pylist()),
            *(Change("only after", row["id"], "", row["label"]) for row in alone[1].to_pylist()),
        ),
    )


def write_changes(found: Comparison, path: Path) -> None:
    """Writes all changes, those of the settings first, to a file of one of the `SUFFIXES`.

    Raises:
        InputError: it cannot be written.
    """
    suffix = path.suffix.lower()
    rows = [vars(change) for change in (*found.settings, *found.changes)]
    with atomic_path(path) as temporary:
        if suffix == ".json":
            temporary.write_text(json.dumps({"clips": found.clips, "changes": rows}, indent=1) + "\n", "utf-8")
        elif suffix == ".csv":
            write_csv(temporary, [field.name for field in fields(Change)], rows)
        else:
            schema = pa.schema([(field.name, pa.string()) for field in fields(Change)])
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def _read_clips(folder: Path) -> pa.Table:
    """Clips with the names of their label and their prediction; millions of them are a few hundred megabytes."""
    table = read_rows(folder, _COLUMNS).combine_chunks()
    text = pa.string()
    names = {
        what: pc.fill_null(pc.coalesce(table[name], pc.cast(table[index], text)), "")
        for what, name, index in (
            ("label", "label_name", "data_label"),
            ("prediction", "prediction_name", "prediction"),
        )
    }
    part = [pc.fill_null(table[name], "") for name in ("content_hash", "start", "end")]
    return pa.table(
        {
            "id": table["id"],
            "content": pc.binary_join_element_wise(*part, " "),
            "has_content": pc.is_valid(table["content_hash"]),
            "status": table["status"],
            **names,
            "right": pc.equal(table["label"], table["prediction"]),  # null where the model does not know the label
        }
    ).combine_chunks()


def _match(own: pa.Table, other: pa.Table) -> NDArray[np.int64]:
    """(n, 2) rows of the clips that both have."""
    pairs = _places(own["id"], other["id"])
    left = [
        np.setdiff1d(np.flatnonzero(table["has_content"]), pairs[:, side]) for side, table in enumerate((own, other))
    ]
    contents = [table["content"].take(rows) for table, rows in zip((own, other), left, strict=True)]
    once = [_once(content) for content in contents]
    more = _places(*(content.take(rows) for content, rows in zip(contents, once, strict=True)))
    more = np.stack([left[side][once[side][more[:, side]]] for side in (0, 1)], axis=1)
    together = np.concatenate([pairs, more])
    return together[np.argsort(together[:, 0], kind="stable")]


def _places(own: pa.ChunkedArray, other: pa.ChunkedArray) -> NDArray[np.int64]:
    """(n, 2) places of the values that are in both; each occurs once in each."""
    where = pc.index_in(own, value_set=pa.array(other.to_numpy(), own.type)).to_numpy()
    there = np.flatnonzero(np.isfinite(where))
    return np.stack([there, where[there].astype(np.int64)], axis=1)


def _once(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where the values are that occur once."""
    counts = values.value_counts()
    single = pc.filter(counts.field("values"), pc.equal(counts.field("counts"), 1))
    return np.flatnonzero(pc.is_in(values, value_set=single))


def _accuracies(tables: list[pa.Table], both: list[pa.Table]) -> Iterator[Change]:
    """Of all clips of each, of those in both, and of the classes where it changed, the largest change first."""
    yield Change("accuracy", "all clips of each", *(_share(_by_class(table, [])) for table in tables))
    known = pc.and_(*(pc.is_valid(table["right"]) for table in both))
    both = [table.filter(known) for table in both]
    yield Change("accuracy", "clips in both", *(_share(_by_class(table, [])) for table in both))
    classes = [_by_class(table, ["label"]) for table in both]
    values = {name: [side.get(name, (0.0, 0)) for side in classes] for name in {**classes[0], **classes[1]}}
    for name, (mine, its) in sorted(values.items(), key=lambda item: -abs(item[1][0][0] - item[1][1][0])):
        if mine != its:
            yield Change("accuracy", name, _share({"": mine}), _share({"": its}))


def _by_class(table: pa.Table, keys: list[str]) -> dict[str, tuple[float, int]]:
    """Accuracy, and clips whose label the model knows, by class; without keys of all, by ""."""
    right = table.select(keys).append_column("right", pc.cast(table["right"], pa.float64()))
    found = right.group_by(keys).aggregate([("right", "mean"), ("right", "count")]).to_pylist()
    return {row.get("label", ""): (row["right_mean"], row["right_count"]) for row in found if row["right_count"]}


def _share(accuracy: dict[str, tuple[float, int]]) -> str:
    mean, count = accuracy.get("", (0.0, 0))
    return f"{100 * mean:.1f} % of {count}" if count else ""


def _changed(what: str, own: pa.Table, other: pa.Table) -> Iterator[Change]:
    where = pc.not_equal(own[what], other[what])
    changed = [own["id"].filter(where), own[what].filter(where), other[what].filter(where)]
    for name, before, after in zip(*(column.to_pylist() for column in changed), strict=True):
        yield Change(what, name, before or "none", after or "none")


def _read_findings(folder: Path) -> list[Row]:
    """The findings of a report that is not older than the rows, or what one would find now."""
    path = folder / "findings.parquet"
    newest = max((part.stat().st_mtime for part in (folder / CLIPS).glob("*.parquet")), default=0.0)
    if path.exists() and path.stat().st_mtime >= newest:
        with reading(path, "must be Parquet in one piece"), open_parquet(path) as file:
            return read_columns(path, file, FINDINGS).to_pylist()
    return finding_rows(leave_out(summarize(folder), folder))


def _findings(own: list[Row], other: list[Row]) -> Iterator[Change]:
    left = list(other)
    kept, gone = [], []
    for finding in own:
        same = next((one for one in left if _is_same(finding, one)), None)
        if same is None:
            gone.append(Change("finding gone", finding["class_name"], finding["text"], ""))
        else:
            left.remove(same)
            kept.append(Change("finding kept", finding["class_name"], finding["text"], same["text"]))
    yield from gone
    yield from (Change("finding new", finding["class_name"], "", finding["text"]) for finding in left)
    yield from kept


def _is_same(own: Row, other: Row) -> bool:
    if (own["kind"], own["class_name"]) != (other["kind"], other["class_name"]):
        return False
    if own["kind"] == UNEXPLAINED:  # of the whole data set, one for each reason
        return bool(own["text"].partition(": ")[2] == other["text"].partition(": ")[2])
    for name in ("cells", "frames"):
        if own[name] and other[name]:
            return not set(own[name]).isdisjoint(other[name])
    return bool(own["where"] == other["where"])
