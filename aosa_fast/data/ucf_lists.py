"""The files that say which videos of UCF101 belong to a split: the official lists, and the 3-D ResNet tools' json."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aosa_fast.boundary import read_bytes, read_json, reading
from aosa_fast.errors import InputError

_LIST_FOLDERS = ("", "ucfTrainTestlist", "annotations", "splitfiles")
_SUBSETS = {"test": "validation", "val": "validation", "train": "training"}


@dataclass(frozen=True)
class Listed:
    """A video that a list names: its class, and its name without suffix."""

    label: str
    name: str

    @property
    def key(self) -> str:
        """Class/name."""
        return f"{self.label}/{self.name}"


def list_name(split: str) -> str:
    """The file of an official split: "test01" (or "test1") to testlist01.txt."""
    match = re.fullmatch("(train|test)0?([123])", split)
    if match is None:
        raise InputError(f"split must be test01, test02, test03, train01, train02 or train03; got {split}")
    return f"{match[1]}list0{match[2]}.txt"


def find(name: str, *folders: Path) -> Path | None:
    """The first file of this name in the folders, or where lists usually lie inside them."""
    candidates = (folder / inner / name for folder in folders for inner in _LIST_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def read_classes(path: Path) -> tuple[str, ...]:
    """The class names of classInd.txt, "1 ApplyEyeMakeup" and so on, by number."""
    names: dict[int, str] = {}
    for line, text in _lines(path):
        match = re.fullmatch(r"([0-9]{1,4})\s+(\S+)", text)
        if match is None:
            raise InputError(f"{path}, line {line}: must be a number and a class name; got {text[:60]}")
        names[int(match[1])] = match[2]
    return tuple(name for _, name in sorted(names.items()))


def read_list(path: Path) -> list[Listed]:
    """The videos of a split list, "Class/video.avi" a line; train lists carry the class number behind it."""
    out = []
    for line, text in _lines(path):
        match = re.fullmatch(r"([^/\s]+)/([^/\s]+?)(\.[A-Za-z0-9]+)?(\s+[0-9]+)?", text)
        if match is None:
            raise InputError(f"{path}, line {line}: must be Class/video.avi, with or without a number; got {text[:60]}")
        out.append(Listed(match[1], match[2]))
    return out


def read_annotations(path: Path, split: str | None) -> tuple[list[Listed], tuple[str, ...]]:
    """The videos of a subset and the class names, of ucf101_01.json as the 3-D ResNet tools make it.

    Its segments are not read: in this data set they always span the whole video.
    """
    match = re.fullmatch("(test|val|train)(ing|idation)?(0?[123])?", split or "")
    with reading(path, 'must hold "labels" and "database" as the 3-D ResNet tools write them'):
        content = read_json(path)
        database = content["database"]
        subsets = {str(entry["subset"]) for entry in database.values()}
        wanted = split if split is None or split in subsets or match is None else _SUBSETS[match[1]]
        listed = [
            Listed(str(entry["annotations"]["label"]), name)
            for name, entry in database.items()
            if wanted is None or entry["subset"] == wanted
        ]
        names = tuple(str(name) for name in content["labels"])
    if wanted is not None and wanted not in subsets:
        raise InputError(f"split must be one of {', '.join(sorted(subsets))} in {path}; got {split}")
    return listed, names


def _lines(path: Path) -> list[tuple[int, str]]:
    with reading(path, "must be a text file"):
        text = read_bytes(path).decode("utf-8-sig")
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
