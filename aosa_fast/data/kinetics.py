"""Kinetics-400 and -700, as their downloaders leave them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.data.folders import check_folder, class_folders, clip_name, list_clips, listed_clips, open_folder
from aosa_fast.data.tables import Row, read_csv
from aosa_fast.errors import InputError

_SPLITS = (("train",), ("val", "validate", "validation"), ("test",))
_PREFIXES = ("", "kinetics_", "kinetics400_", "kinetics-400_", "kinetics700_", "kinetics-700_", "kinetics700_2020_")


def open_kinetics(root: Path, annotations: Path | None, split: str | None) -> Dataset:
    """Kinetics.

    Args:
        root: holds one folder of videos (or of frame folders) per class; or, with a csv, videos at any place down to
            the third level, called ID.mp4 or ID_000012_000022.mp4. All are taken to be cut to their part already.
        annotations: a csv with the columns label, youtube_id, time_start, time_end and, if it holds several splits,
            split; None: train.csv, val.csv, kinetics400_val.csv and so on in `root` or its folder annotations, if
            `split` is given.
        split: "train", "val" or "test": rows of the csv; without a csv, the folder in `root` of that name.

    Returns:
        The videos that are on the disk; the others are counted, as many are no longer to be had. Classes are sorted.

    Raises:
        InputError: no such file, rows that break the format, or none of the videos on the disk.
    """
    check_folder(root)
    synonyms = _synonyms(split)
    if annotations is not None and not annotations.is_file():
        raise InputError(f"{annotations}: must be a csv file; there is none of that name")
    table = annotations or _find_csv(root, synonyms)
    if table is None:
        inner = next((root / folder for folder in synonyms if (root / folder).is_dir()), root)
        if synonyms and inner == root:
            raise InputError(f"split={split} must have a folder {synonyms[0]} or a file {synonyms[0]}.csv in {root}")
        if not class_folders(inner):
            raise InputError(f"{inner}: must hold one folder of videos per class, or annotations must name a csv")
        return replace(open_folder(inner), name=f"kinetics:{split}" if split else "kinetics")
    rows = read_csv(table, ("label", "youtube_id"))
    names = tuple(sorted({row.text("label") for row in rows}))
    labels = {label: i for i, label in enumerate(names)}
    rows = [row for row in rows if not synonyms or not row.text("split") or row.text("split").lower() in synonyms]
    videos = _index(root)
    samples: dict[str, Sample] = {}
    missing = 0
    for row in rows:
        key = next((key for key in _keys(row) if key in videos), None)
        missing += key is None
        if key is not None:
            label = labels[row.text("label")]
            samples.setdefault(key, Sample(f"{names[label]}/{key}", str(videos[key]), label))
    return listed_clips("kinetics", split, names, samples.values(), missing, root, f"the videos of {table}")


def _synonyms(split: str | None) -> tuple[str, ...]:
    if split is None:
        return ()
    found = next((names for names in _SPLITS if split in names), None)
    if found is None:
        raise InputError(f"split must be train, val or test; got {split}")
    return tuple(dict.fromkeys((split, *found)))


def _find_csv(root: Path, synonyms: tuple[str, ...]) -> Path | None:
    folders = (root, root / "annotations")
    paths = (folder / f"{prefix}{name}.csv" for folder in folders for prefix in _PREFIXES for name in synonyms)
    return next((path for path in paths if path.is_file()), None)


def _index(root: Path) -> dict[str, Path]:
    """Clips by name without suffix, in `root`, in its folders, and in theirs."""
    out: dict[str, Path] = {}
    level = [root]
    for _ in range(3):
        clips = [clip for folder in level for clip in list_clips(folder)]
        level = [clip for clip in clips if clip.is_dir()]
        for clip in clips:
            out.setdefault(_plain(clip_name(clip)), clip)
    return out


def _plain(name: str) -> str:
    """ID_12_22 and ID_000012_000022 are one name."""
    match = re.fullmatch("(.+)_([0-9]{1,6})_([0-9]{1,6})", name)
    return name if match is None else f"{match[1]}_{int(match[2]):06d}_{int(match[3]):06d}"


def _keys(row: Row) -> list[str]:
    """The names that a row's video may have."""
    video = row.text("youtube_id")
    if not video:
        raise row.error("youtube_id must not be empty")
    start, end = row.text("time_start"), row.text("time_end")
    if not start and not end:
        return [_plain(video)]
    try:
        times = f"{int(float(start)):06d}_{int(float(end)):06d}"
    except (ValueError, OverflowError):
        raise row.error(f"time_start and time_end must be seconds; got {start!r} and {end!r}") from None
    return [f"{video}_{times}", _plain(video)]
