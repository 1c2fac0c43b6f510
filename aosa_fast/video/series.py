"""Which images of a folder are one video, and in which order: told by the numbers in their names.

A series is a set of images whose names differ in numbers only, one of which is another in every name: the number of the
frame. `img_0001.jpg` and `flow_x_0001.jpg` belong to two series, and so do `1.jpg` and `1.png`, `cam1_0001.jpg` and
`cam2_0001.jpg`. Letters count alike in upper and lower case.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

from aosa_fast.addresses import is_elsewhere
from aosa_fast.boundary import reading
from aosa_fast.errors import VideoError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_MARKS = "*?["
_SHOWN = 5  # series that a message names
_LOST = Fraction(3, 2)  # usual steps: a lost frame makes two, rounded time stamps a little more or less than one
_DECIMALS, _WHOLE = re.compile(r"([0-9]+(?:\.[0-9]+)?)"), re.compile("([0-9]+)")
_POINT = re.compile(r"[0-9]\.[0-9]")

_Number = int | Fraction


@dataclass(frozen=True)
class Series:
    """Images that are one video.

    Attributes:
        pattern: their names, with * for what differs.
        files: their paths, in the order of their numbers.
        numbers: of each; empty where a single image has none, or where the order is that of several.
    """

    pattern: str
    files: tuple[str, ...]
    numbers: tuple[_Number, ...]


def is_pattern(path: str) -> bool:
    """Whether this is no file or folder but a pattern for images in a folder: "frames/img_*.jpg"."""
    marked = any(mark in os.path.basename(path) for mark in _MARKS)
    return marked and not is_elsewhere(path) and not os.path.lexists(path)


def find_series(path: str) -> Series:
    """The images in a folder, or those of them that a pattern names; hidden ones are left out.

    In the last part of a pattern *, ? and [...] mean what they mean in a shell. Of several series that match, the one
    is taken in which every * stands for a number. Names that match and differ in several numbers, none of which counts
    up one by one (12-00-59.png, 12-01-00.png), are one series, in the order of all of these; in a folder they are
    several, or refused where it is uncertain which of the numbers counts.

    Raises:
        VideoError: no images, several series, or two images with the same number.
    """
    by_pattern = is_pattern(path)
    folder, wanted = os.path.split(path) if by_pattern else (path, "*")
    with reading(folder or ".", "must be a folder that can be read", VideoError):
        names = [name for name in os.listdir(folder or ".") if name[0] != "."]
    names = [name for name in sorted(names) if os.path.splitext(name)[1].lower() in SUFFIXES]
    names = [name for name in names if fnmatch.fnmatchcase(name, wanted)]
    if not names:
        what = "exist, or be a pattern for images" if by_pattern else "hold images"
        raise VideoError(
            path, f"must {what} ({', '.join(SUFFIXES)}); {'none match' if by_pattern else 'it holds none'}"
        )
    found = _group(path, folder, names, by_pattern)
    chosen = [series for series in found if series.pattern == wanted] or found
    if len(chosen) > 1:
        chosen.sort(key=lambda series: -len(series.files))
        kinds = ", ".join(f"{series.pattern} ({len(series.files)})" for series in chosen[:_SHOWN])
        more = ", ..." if len(chosen) > _SHOWN else ""
        example = os.path.join(folder, chosen[0].pattern)
        rule = f"must be one series of images; it has {len(chosen)}: {kinds}{more}"
        raise VideoError(path, f"{rule}; choose one by a pattern, such as {example}")
    return chosen[0]


def warn_of_gaps(path: str, series: Series, first: int, last: int) -> None:
    """Warns where numbers are missing between the images `first` and `last` of a series, as if frames had been lost.

    That is where the number grows by more than one and a half of its usual step, the median of the series': every fifth
    frame is a series without gaps.
    """
    steps = [b - a for a, b in pairwise(series.numbers)]
    gaps = [i for i in range(first, min(last, len(steps))) if steps[i] > _LOST * median_low(steps) > 0]
    if gaps:
        before, after = (os.path.basename(series.files[gaps[0] + i]) for i in (0, 1))
        more = f", and {len(gaps) - 1} more such gaps" if len(gaps) > 1 else ""
        text = f"{path}: frames are missing between {before} and {after}{more}; the leap counts as motion"
        warnings.warn(text, UserWarning, stacklevel=6)


def _group(path: str, folder: str, names: Sequence[str], joined: bool) -> list[Series]:
    """All series among the names; `joined`: names that differ in several numbers are one."""
    kinds: dict[tuple[str, ...], list[tuple[str, list[str]]]] = {}
    number = _DECIMALS if _have_decimals(names) else _WHOLE
    for name in names:
        parts = number.split(name)  # text and numbers by turns
        kinds.setdefault(tuple(text.lower() for text in parts[::2]), []).append((name, parts))
    found = []
    for members in kinds.values():
        values = [tuple(_value(part) for part in parts[1::2]) for _, parts in members]
        differing = [c for c, column in enumerate(zip(*values, strict=True)) if len(set(column)) > 1]
        counters = [c for c in differing if len({row[c] for row in values}) == len(values)]
        apart = [] if joined or counters else differing[:-1]
        shown = [c for c in differing if c not in apart]
        order: Sequence[int] = _find_count(values, differing, counters) or shown or range(len(values[0]))
        if not joined and counters and order == differing != counters[:1]:
            rule = "must have names with one number that counts the frames"
            wanted = os.path.join(folder, _pattern(members[0][1], shown))
            raise VideoError(
                path, f"{rule}; in {members[0][0]} several may, in other orders; {wanted} takes them as read"
            )
        parts_of: dict[tuple[_Number, ...], list[tuple[list[_Number], str, list[str]]]] = {}
        for row, (name, parts) in zip(values, members, strict=True):
            parts_of.setdefault(tuple(row[c] for c in apart), []).append(([row[c] for c in order], name, parts))
        for rows in parts_of.values():
            rows.sort()
            for (number_before, before, _), (number_after, after, _) in pairwise(rows):
                if number_before == number_after:
                    raise VideoError(path, f"must have one image for each number; got {before} and {after}")
            pattern = _pattern(rows[0][2], shown)
            files = tuple(os.path.join(folder, name) for _, name, _ in rows)
            found.append(Series(pattern, files, tuple(key[0] for key, _, _ in rows if len(key) == 1)))
    return found


def _find_count(values: Sequence[tuple[_Number, ...]], differing: list[int], counters: list[int]) -> list[int]:
    """Of the places of numbers that differ in all names, the first that counts; all that differ if this is uncertain.

    In 00-59.png, 01-00.png the seconds differ, and yet are in the wrong order without the minutes.
    """
    for c in counters:
        column = [row[c] for row in values]
        if max(column) - min(column) == len(column) - 1:
            return [c]
    in_order = sorted(values, key=lambda row: [row[c] for c in differing])
    agree = all(before[c] < after[c] for before, after in pairwise(in_order) for c in counters)
    return counters[:1] if agree else differing


def _pattern(parts: Sequence[str], shown: Sequence[int]) -> str:
    return "".join("*" if i % 2 and i // 2 in shown else glob.escape(part) for i, part in enumerate(parts))


def _value(digits: str) -> _Number:
    return int(digits) if digits.isdecimal() else Fraction(digits)


def _have_decimals(names: Sequence[str]) -> bool:
    """Whether a point inside of digits is a decimal point: "0.2" comes after "0.12", but "1.2" before "1.12".

    It is none where fractions have several lengths and one ends in 0, as a count does on its way (1.9, 1.10), and what
    programs write as a number does not.
    """
    fractions: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        if not _POINT.search(name):
            continue
        parts = _DECIMALS.split(name.lower())
        for c, part in enumerate(parts[1::2]):
            fraction = part.partition(".")[2]
            if fraction:
                fractions.setdefault((*parts[::2], str(c)), set()).add(fraction)
    return not any(
        len({len(fraction) for fraction in found}) > 1 and any(f != "0" and f.endswith("0") for f in found)
        for found in fractions.values()
    )
