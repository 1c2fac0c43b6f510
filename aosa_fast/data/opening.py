"""What DATA means."""

from __future__ import annotations

import os
from pathlib import Path

from aosa_fast.boundary import reading
from aosa_fast.data.dataset import Dataset
from aosa_fast.data.manifest import SUFFIXES
from aosa_fast.data.registry import FOLDER, KINDS, MANIFEST, DataKind, data_help
from aosa_fast.errors import InputError
from aosa_fast.registry import foreign_code, import_object


def open_dataset(
    data: str | os.PathLike[str],
    *,
    annotations: str | os.PathLike[str] | None = None,
    split: str | None = None,
) -> Dataset:
    """Open a data set; no clip is read yet.

    Args:
        data: as `aosa_fast.data.list_datasets` names it; `aosa-fast list data` says more. Or the path of a csv or
            Parquet manifest, or of a folder of clips or of one such folder per class.
        annotations: the lists, json, csv or pickle that belong to ucf101, ucf101-24 and kinetics.
        split: part of these three and of the rendered set.

    Returns:
        The data set; see `aosa_fast.data.ucf101`, `ucf101_24`, `kinetics`, `manifest`, `rendered`, `planted` and
        `folders` for what each of them holds.

    Raises:
        InputError: an unknown kind, something missing, or a file that breaks its format.
    """
    text = os.fspath(data)
    with reading(text, "must be a data set that can be read"):
        return _open(text, {"annotations": None if annotations is None else Path(annotations), "split": split})


def _open(text: str, given: dict[str, str | Path | None]) -> Dataset:
    kind, _, rest = text.partition(":")
    path = Path(text)
    if kind in KINDS and kind != FOLDER and not os.path.exists(text):
        record: DataKind | None = KINDS[kind]
    else:
        is_folder, is_manifest = bool(text) and path.is_dir(), path.suffix.lower() in SUFFIXES
        record, rest = KINDS[FOLDER] if is_folder else KINDS[MANIFEST] if is_manifest else None, text
    for name, value in given.items():
        if value is not None and (record is None or name not in record.takes):
            raise InputError(f"{name} must be left out for data={text}; got {value}")
    if record is None:
        missing = "" if os.path.exists(text) else f", which does not exist{KINDS.hint(kind)}"
        raise InputError(f"data must be {data_help()}; got {text}{missing}")
    if record.root and not rest:
        raise InputError(f"data must be {record.spec}, {record.root}; got {text}")
    place = Path(rest) if record.is_path else rest
    found: Dataset = import_object(record.open)(place, **{name: given[name] for name in record.takes})
    return found


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
