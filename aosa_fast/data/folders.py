"""Clips in folders: one folder per class, or one folder of clips."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar, cast

from aosa_fast.addresses import Address, Place
from aosa_fast.boundary import reading
from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.errors import InputError
from aosa_fast.video.series import SUFFIXES

_SUFFIXES = ".avi .mp4 .mkv .mov .webm .m4v .mpg .mpeg .ts .wmv .flv .3gp .ogv .gif"
VIDEO_SUFFIXES = tuple(_SUFFIXES.split())
P = TypeVar("P", bound=Place)


def open_folder(root: Place) -> Dataset:
    """A folder of videos and frame folders, without labels; or one such folder per class, whose name is the label.

    Class names are in sorted order, ids are paths from `root`.

    Raises:
        InputError: there are no clips, or some with and some without a class.
    """
    check_folder(root)
    kinds = [(_kind(entry), entry) for entry in entries(root)]
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


def open_images(root: Place) -> Dataset:
    """A folder of images for each class, whose name is the label: each image is a clip of one frame.

    It is a kind of its own, as a folder of images is elsewhere one clip, and its images are the frames.

    Raises:
        InputError: there are no such folders.
    """
    check_folder(root)
    folders = [folder for folder in entries(root) if folder.is_dir()]
    images = {folder: [file for file in entries(folder) if file.suffix.lower() in SUFFIXES] for folder in folders}
    classes = [folder for folder in folders if images[folder]]
    if not classes:
        raise InputError(f"{root}: must hold one folder of images per class; it holds none")
    samples = [
        Sample(f"{folder.name}/{file.name}", str(file), label)
        for label, folder in enumerate(classes)
        for file in images[folder]
    ]
    return Dataset(root.resolve().name, tuple(folder.name for folder in classes), tuple(samples))


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


def class_folders(root: P) -> list[P]:
    """The folders in `root` that hold clips, by name."""
    return [entry for entry in entries(root) if _kind(entry) == "class"]


def list_clips(folder: P) -> list[P]:
    """The video files and the folders (of frames) in a folder, by name."""
    return [entry for entry in entries(folder) if entry.suffix.lower() in VIDEO_SUFFIXES or _is_folder(entry)]


def clip_name(clip: Path) -> str:
    """Its name without suffix; a folder of frames has none."""
    return clip.name if clip.is_dir() else clip.stem


def check_folder(root: Place) -> None:
    """Raises an InputError that says what is wrong with `root`, if it is no folder that can be read."""
    if not root.is_dir():
        raise InputError(f"{root}: must be a folder; there is {'a file' if root.exists() else 'nothing'} of that name")
    entries(root)


def entries(folder: P) -> list[P]:
    """What a folder holds, by name, but hidden files.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(folder, Address):
        with reading(folder, "must be a folder that can be read"):
            names = folder.names()
    else:
        try:
            names = os.listdir(folder)
        except OSError as error:
            raise InputError(f"{folder}: must be a folder that can be read; got {error.strerror}") from None
    return cast(list[P], [folder / name for name in sorted(names) if name[:1] not in ("", ".")])


def _kind(entry: Place) -> str | None:
    """What an entry of the root is: a "clip", a "class" of clips, or None, which is neither."""
    if not entry.is_dir():
        return "clip" if entry.suffix.lower() in VIDEO_SUFFIXES else None
    inside = entries(entry)
    if any(file.suffix.lower() in VIDEO_SUFFIXES or _is_folder(file) for file in inside):
        return "class"
    return "clip" if any(file.suffix.lower() in SUFFIXES for file in inside) else None


def _is_folder(entry: Place) -> bool:
    # By name first: of a long folder of frames, the disk need not be asked about any.
    return entry.suffix.lower() not in SUFFIXES and entry.is_dir()
