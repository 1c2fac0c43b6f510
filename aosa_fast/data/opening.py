"""What DATA means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aosa_fast.addresses import Address, is_address, locate
from aosa_fast.boundary import reading
from aosa_fast.data.dataset import Dataset
from aosa_fast.data.manifest import SUFFIXES
from aosa_fast.data.registry import FOLDER, KINDS, MANIFEST, WEBDATASET, DataKind, data_help
from aosa_fast.errors import InputError
from aosa_fast.registry import foreign_code, import_object

_RECORDED = ("data", "annotations", "split")


def open_dataset(
    data: str | os.PathLike[str],
    *,
    annotations: str | os.PathLike[str] | None = None,
    split: str | None = None,
) -> Dataset:
    """Open a data set; no clip is read yet.

    Args:
        data: as `aosa_fast.data.list_datasets` names it; `aosa-fast list data` says more. Or the path of a csv or
            Parquet manifest, of a folder of clips or of one such folder per class, or of tar files; or the address of
            one of these, "s3://bucket/clips.csv".
        annotations: the lists, json, csv or pickle that belong to ucf101, ucf101-24 and kinetics.
        split: part of these three, of the rendered set, and of a folder that has some.

    Returns:
        The data set; see `aosa_fast.data.ucf101`, `ucf101_24`, `kinetics`, `manifest`, `rendered`, `planted`,
        `folders`, `huggingface` and `webdataset` for what each of them holds.

    Raises:
        InputError: an unknown kind, something missing, or a file that breaks its format.
    """
    text = os.fspath(data)
    with reading(text, "must be a data set that can be read"):
        return _open(text, {"annotations": None if annotations is None else Path(annotations), "split": split})


def open_recorded(facts: Mapping[str, Any], file: Path, *, trust: bool) -> Dataset:
    """Open the data set that a record of a run names.

    Args:
        facts: "data", "annotations" and "split", as `open_dataset` takes them, or None.
        file: the record, for messages; anybody may have written it.
        trust: whether a kind of data whose opening runs code is opened.

    Raises:
        InputError: as `open_dataset`, or a kind that runs code and is not trusted.
    """
    data, annotations, split = (None if facts[name] is None else str(facts[name]) for name in _RECORDED)
    kind = KINDS.get((data or "").partition(":")[0])
    if kind is not None and kind.runs_code and not trust:
        raise InputError(f"data={data} of {file} must be trusted by --trust: opening it runs code")
    return open_dataset(data or "", annotations=annotations, split=split)


def _open(text: str, given: dict[str, str | Path | None]) -> Dataset:
    kind, _, rest = text.partition(":")
    if kind in KINDS and kind != FOLDER and not is_address(text) and not os.path.exists(text):
        record: DataKind | None = KINDS[kind]
    else:
        record, rest = _kind_of(text), text
    for name, value in given.items():
        if value is not None and (record is None or name not in record.takes):
            raise InputError(f"{name} must be left out for data={text}; got {value}")
    if record is None:
        missing = "" if os.path.exists(text) else f", which does not exist{KINDS.hint(kind)}"
        raise InputError(f"data must be {data_help()}; got {text}{missing}")
    if record.root and not rest:
        raise InputError(f"data must be {record.spec}, {record.root}; got {text}")
    place = locate(rest) if record.is_place else Path(rest) if record.is_path else rest
    found: Dataset = import_object(record.open)(place, **{name: given[name] for name in record.takes})
    return found


def _kind_of(text: str) -> DataKind | None:
    """What a path or an address is, by its name where that is enough."""
    place = locate(text)
    suffix = place.suffix.lower()
    if suffix in (*SUFFIXES, ".tar") and (isinstance(place, Address) or not place.is_dir()):
        return KINDS[WEBDATASET if suffix == ".tar" else MANIFEST]
    return KINDS[FOLDER] if text and (isinstance(place, Address) or place.is_dir()) else None


def open_python(place: str) -> Dataset:
    """What the function of "python:PACKAGE.MODULE:FUNCTION" returns.

    Raises:
        InputError: it cannot be imported, fails, or returns something else than a `Dataset`.
    """
    with foreign_code(f"data=python:{place}", "an importable function without arguments that works"):
        made = import_object(place)()
    if not isinstance(made, Dataset):
        raise InputError(f"data=python:{place} must return a Dataset; got {type(made).__name__}")
    return made
