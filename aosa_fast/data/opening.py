"""What DATA means."""

from __future__ import annotations

import os
from pathlib import Path

from aosa_fast.boundary import reading
from aosa_fast.data.dataset import Dataset
from aosa_fast.data.folders import open_folder
from aosa_fast.data.kinetics import open_kinetics
from aosa_fast.data.manifest import SUFFIXES, open_manifest
from aosa_fast.data.planted import open_planted
from aosa_fast.data.rendered import open_rendered
from aosa_fast.data.ucf101 import open_ucf101
from aosa_fast.data.ucf101_24 import open_ucf101_24
from aosa_fast.errors import InputError

KINDS = (
    "rendered[:SEED][:key=value...], planted[:SEED], ucf101:ROOT, ucf101-24:ROOT, kinetics:ROOT, manifest:FILE, or a "
    "file or folder"
)

_WITH_LISTS = {"ucf101": open_ucf101, "ucf101-24": open_ucf101_24, "kinetics": open_kinetics}


def open_dataset(
    data: str | os.PathLike[str],
    *,
    annotations: str | os.PathLike[str] | None = None,
    split: str | None = None,
) -> Dataset:
    """Open a data set; no clip is read yet.

    Args:
        data: "ucf101:ROOT", "ucf101-24:ROOT", "kinetics:ROOT", "manifest:FILE", "rendered[:SEED][:key=value...]",
            "planted[:SEED]", the path of a csv or Parquet manifest, or of a folder of clips or of one such folder per
            class.
        annotations: the lists, json, csv or pickle that belong to the first three.
        split: part of the first three and of the rendered set.

    Returns:
        The data set; see `aosa_fast.data.ucf101`, `ucf101_24`, `kinetics`, `manifest`, `rendered`, `planted` and
        `folders` for what each of them holds.

    Raises:
        InputError: an unknown kind, something missing, or a file that breaks its format.
    """
    text = os.fspath(data)
    with reading(text, "must be a data set that can be read"):
        return _open(text, annotations, split)


def _open(text: str, annotations: str | os.PathLike[str] | None, split: str | None) -> Dataset:
    kind, _, rest = text.partition(":")
    lists = None if annotations is None else Path(annotations)
    if kind in _WITH_LISTS and not os.path.exists(text):
        if not rest:
            raise InputError(f"data must be {kind}:ROOT, ROOT the folder of its videos; got {text}")
        return _WITH_LISTS[kind](Path(rest), lists, split)
    if lists is not None:
        raise InputError(f"annotations must be left out for data={text}; got {lists}")
    if kind == "rendered" and not os.path.exists(text):
        return open_rendered(rest, split)
    if split is not None:
        raise InputError(f"split must be left out for data={text}; got {split}")
    if kind == "planted" and not os.path.exists(text):
        return open_planted(rest)
    if kind == "manifest" and not os.path.exists(text):
        return open_manifest(Path(rest))
    path = Path(text)
    if text and path.is_dir():
        return open_folder(path)
    if path.suffix.lower() in SUFFIXES:
        return open_manifest(path)
    raise InputError(f"data must be {KINDS}; got {text}" + ("" if os.path.exists(text) else ", which does not exist"))
