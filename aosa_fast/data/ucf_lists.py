"""The files that say which videos of UCF101 belong to a split: the official lists, and the 3-D ResNet tools' json."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from aosa_fast.boundary import read_bytes, read_json, reading
from aosa_fast.errors import InputError

_LIST_FOLDERS = ("", "ucfTrainTestlist", "annotations", "splitfiles")
_SUBSETS = {"test": "validation", "val": "validation", "train": "training"}


def class_of(video: str) -> str:
    """The class of Class/name."""
    return video.partition("/")[0]


def group_of(video: str) -> str | None:
    """The clips cut from one video, v_Class_g01 of Class/v_Class_g01_c02; None where the name does not say."""
    match = re.search(r"([^/]+_g[0-9]+)_c[0-9]+$", video)
    return match[1] if match else None


def read_split(split: str, folders: Sequence[Path], places: str) -> list[str]:
    """The videos of an official split: "test01" (or "test1") in testlist01.txt, which lies in one of the folders.

    Raises:
        InputError: there is no such split, or no list of it; `places` says where it was looked for.
    """
    match = re.fullmatch("(train|test)0?([123])", split)
    if match is None:
        raise InputError(f"split must be test01, test02, test03, train01, train02 or train03; got {split}")
    name = f"{match[1]}list0{match[2]}.txt"
    path = find(name, *folders)
    if path is None:
        raise InputError(f"split={split} must have its list: there is no {name} in {places}")
    return read_list(path)


def find(name: str, *folders: Path) -> Path | None:
    """The first file of this name in the folders, or where lists usually lie inside them."""
    candidates = (folder / inner / name for folder in folders for inner in _LIST_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def read_classes(path: Path) -> tuple[str, ...]:
    """The class names of classInd.txt, "1 ApplyEyeMakeup" and so on, by number."""
    lines = _lines(path, r"([0-9]{1,4})\s+(\S+)", "a number and a class name")
    return tuple(name for _, name in sorted({int(line[1]): line[2] for line in lines}.items()))


def read_list(path: Path) -> list[str]:
    """The videos of a split list, Class/video.avi a line, as Class/video; train lists have the class number behind."""
    pattern = r"([^/\s]+)/([^/\s]+?)(\.[A-Za-z0-9]+)?(\s+[0-9]+)?"
    return [f"{line[1]}/{line[2]}" for line in _lines(path, pattern, "Class/video.avi, with or without a number")]


def read_annotations(path: Path, split: str | None) -> tuple[list[str], tuple[str, ...]]:
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
            f"{entry['annotations']['label']}/{name}"
            for name, entry in database.items()
            if wanted is None or entry["subset"] == wanted
        ]
        names = tuple(str(name) for name in content["labels"])
    if wanted is not None and wanted not in subsets:
        raise InputError(f"split must be one of {', '.join(sorted(subsets))} in {path}; got {split}")
    return listed, names


def _lines(path: Path, pattern: str, rule: str) -> list[re.Match[str]]:
    """The lines that are not empty; every one must be as the pattern says."""
    with reading(path, "must be a text file"):
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    found = []
    for number, text in enumerate(map(str.strip, lines), 1):
        match = re.fullmatch(pattern, text)
        if text and match is None:
            raise InputError(f"{path}, line {number}: must be {rule}; got {text[:60]}")
        found += [match] if match else []
    return found
