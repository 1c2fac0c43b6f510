"""Clips in folders: one folder per class, or one folder of clips."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.errors import InputError
from aosa_fast.video.series import SUFFIXES

_SUFFIXES = ".avi .mp4 .mkv .mov .webm .m4v .mpg .mpeg .ts .wmv .flv .3gp .ogv .gif"
VIDEO_SUFFIXES = tuple(_SUFFIXES.split())


def open_folder(root: Path) -> Dataset:
    """A folder of videos and frame folders, without labels; or one such folder per class, whose name is the label.

    Class names are in sorted order, ids are paths from `root`.

    Raises:
        InputError: there are no clips, or some with and some without a class.
    """
    check_folder(root)
    kinds = [(_kind(entry), entry) for entry in _entries(root)]
    classes, clips = ([entry for kind, entry in kinds if kind == wanted] for wanted in ("class", "clip"))
    if clips and classes:
        raise InputError(
            f"{root}: must hold either clips or one folder of clips per class; "
            f"got both, such as {clips[0].name} and {classes[0].name}"
        )
    if not clips and not classes:
        raise InputError(f"{root}: must hold videos, folders of frames, or one folder of these per class; got neither")
    samples = [Sample(clip.name, str(clip), None) for clip in clips]
    for label, folder in enumerate(classes):
        samples += [Sample(f"{folder.name}/{clip.name}", str(clip), label) for clip in list_clips(folder)]
    return Dataset(root.resolve().name, tuple(folder.name for folder in classes) or None, tuple(samples))


def listed_clips(
    kind: str,
    split: str | None,
    names: tuple[str, ...],
    samples: Collection[Sample],
    missing: int,
    root: Path,
    rule: str,
) -> Dataset:
    """The data set KIND[:SPLIT] of the listed clips that are on the disk.

    Raises:
        InputError: none of them is: `root` must hold what `rule` says.
    """
    if not samples:
        raise InputError(f"{root}: must hold {rule}; it holds none of {missing}")
    return Dataset(f"{kind}:{split}" if split else kind, names, tuple(samples), missing)


def class_folders(root: Path) -> list[Path]:
    """The folders in `root` that hold clips, by name."""
    return [entry for entry in _entries(root) if _kind(entry) == "class"]


def list_clips(folder: Path) -> list[Path]:
    """The video files and the folders (of frames) in a folder, by name."""
    return [entry for entry in _entries(folder) if entry.suffix.lower() in VIDEO_SUFFIXES or _is_folder(entry)]


def clip_name(clip: Path) -> str:
    """Its name without suffix; a folder of frames has none."""
    return clip.name if clip.is_dir() else clip.stem


def check_folder(root: Path) -> None:
    """Raises an InputError that says what is wrong with `root`, if it is no folder that can be read."""
    if not root.is_dir():
        raise InputError(f"{root}: must be a folder; there is {'a file' if root.exists() else 'nothing'} of that name")
    _entries(root)


def _entries(folder: Path) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if name[0] != ".")
    except OSError as error:
        raise InputError(f"{folder}: must be a folder that can be read; got {error.strerror}") from None
    return [folder / name for name in names]


def _kind(entry: Path) -> str | None:
    """What an entry of the root is: a "clip", a "class" of clips, or None, which is neither."""
    if not entry.is_dir():
        return "clip" if entry.suffix.lower() in VIDEO_SUFFIXES else None
    inside = _entries(entry)
    if any(file.suffix.lower() in VIDEO_SUFFIXES or _is_folder(file) for file in inside):
        return "class"
    return "clip" if any(file.suffix.lower() in SUFFIXES for file in inside) else None


def _is_folder(entry: Path) -> bool:
    # By name first: of a long folder of frames, the disk need not be asked about any.
    return entry.suffix.lower() not in SUFFIXES and entry.is_dir()
