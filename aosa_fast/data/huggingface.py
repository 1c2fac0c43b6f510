"""Folders as Hugging Face's `datasets` has them: a table of the files, one for each split, or folders of splits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from aosa_fast.addresses import Place, joined
from aosa_fast.boundary import open_file, reading
from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.data.folders import check_folder, class_folders, entries, list_clips, open_folder
from aosa_fast.data.labels import index_labels
from aosa_fast.data.tables import Row, read_csv, read_parquet
from aosa_fast.errors import InputError

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE = "file_name"
LABELS = ("label", "label_name", "class", "class_name", "category")
_SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip


def open_tree(root: Place, split: str | None = None) -> Dataset:
    """A folder that `datasets.load_dataset` knows, or else any folder of clips: see `folders.open_folder`.

    Of the first kind are:

    - A table `metadata.csv`, `.jsonl` or `.parquet` with a column `file_name`, relative to the folder that the table is
      in: the root, or one for each split, called train, validation, test or as `datasets` also calls them. The class is
      in the column label, label_name, class, class_name or category, by name or number; without, there is none.
    - Folders called so, and no others, with one folder of clips per class in them.

    Args:
        root: the folder.
        split: which of them is meant; None: all. A table in the root has no splits.

    Raises:
        InputError: a table that breaks its format, no such split, or no clips.
    """
    check_folder(root)
    found = _find(root, split)
    if found is None and split is not None:
        raise InputError(f"split must be left out for data={root}; got {split}")
    return open_folder(root) if found is None else found


def _find(root: Place, split: str | None) -> Dataset | None:
    inside = entries(root)
    folders = {entry.name: entry for entry in inside if entry.name.lower() in _SPLITS and entry.is_dir()}
    wanted = [folder for name, folder in folders.items() if split is None or _same(name, split)]
    own = _table([entry.name for entry in inside], root)
    tables = [(root, own)] if own else []
    if not own:
        tables = [(folder, table) for folder in wanted if (table := _table([e.name for e in entries(folder)], folder))]
    if tables and not (own and split is not None):
        return _listed(root, tables, split)
    others = [entry for entry in inside if entry.name not in folders and entry.is_dir()]
    if own or others or not folders or not any(class_folders(folder) for folder in folders.values()):
        return None
    if not wanted:
        raise InputError(f"split must be one of {', '.join(folders)} in {root}; got {split}")
    clips = [
        (f"{folder.name}/{one.name}/{clip.name}", str(clip), one.name)
        for folder in wanted
        for one in class_folders(folder)
        for clip in list_clips(one)
    ]
    names = tuple(sorted({label for _, _, label in clips}))
    samples = (Sample(id, path, names.index(label)) for id, path, label in clips)
    return Dataset(_name(root, split), names, tuple(samples))


def _listed(root: Place, tables: Sequence[tuple[Place, list[Row]]], split: str | None) -> Dataset:
    """The clips of the tables, each with the folder that its names are relative to."""
    rows = [(folder, row) for folder, table in tables for row in table]
    columns = {name for _, row in rows for name in row.values}
    column = next((name for name in LABELS if name in columns), LABELS[0])
    labels, names = index_labels([row for _, row in rows], column)
    samples = {}
    for (folder, row), label in zip(rows, labels, strict=True):
        name = row.text(FILE)
        if not name:
            raise row.error(f"{FILE} must not be empty")
        id = name if folder is root else f"{folder.name}/{name}"
        if id in samples:
            raise row.error(f"{FILE} must be unique; got {name} twice")
        samples[id] = Sample(id, joined(folder, name), label)
    return Dataset(_name(root, split), names, tuple(samples.values()))


def _table(names: Sequence[str], folder: Place) -> list[Row]:
    """The rows of the table in a folder; none where there is none, or another one of that name."""
    found = next((folder / name for name in TABLES if name in names), None)
    if found is None:
        return []
    readers = {".csv": read_csv, ".parquet": read_parquet, ".jsonl": _read_lines}
    rows = list(readers[found.suffix](found, ()))
    return rows if any(FILE in row.values for row in rows) else []


def _read_lines(path: Place, required: Sequence[str]) -> Iterator[Row]:
    """The rows of a file that has an object of JSON in each line."""
    rule = "must be an object of JSON"
    with reading(path, "must be a text file in UTF-8"), open_file(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            with reading(place, rule):
                values = json.loads(line)
            if not isinstance(values, dict):
                raise InputError(f"{place}: {rule}; got {type(values).__name__}")
            yield Row(place, {name.strip().lower(): value for name, value in values.items() if value not in (None, "")})


def _same(name: str, split: str) -> bool:
    return name == split or _SPLITS[name.lower()] == _SPLITS.get(split.lower(), split)


def _name(root: Place, split: str | None) -> str:
    name = root.resolve().name
    return f"{name}:{split}" if split else name
