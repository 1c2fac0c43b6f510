"""Which class of a model is which class of the data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.data.dataset import Dataset
    from aosa_fast.data.tables import Row

_SHOWN = 10


def match_labels(data_names: Sequence[str], model_names: Sequence[str] | None) -> list[int]:
    """Find each class of the data among the model's, by name.

    A name that the model has counts first; else the one name that differs only in case, spaces and signs, so that
    "ArmWrestling", "arm_wrestling" and "arm wrestling" are one class.

    Args:
        data_names: class names of the data, by label.
        model_names: class names of the model, by index; None where they are not known: then labels are taken to be
            the model's indices.

    Returns:
        The model's index for each label.

    Raises:
        InputError: classes that the model does not have, or that two of its names fit.
    """
    if model_names is None:
        return list(range(len(data_names)))
    exact = {name: i for i, name in reversed(list(enumerate(model_names)))}
    alike: dict[str, list[int]] = {}
    for i, name in enumerate(model_names):
        alike.setdefault(_plain(name), []).append(i)
    found: list[int] = []
    unmatched: list[str] = []
    for name in data_names:
        candidates = [exact[name]] if name in exact else alike.get(_plain(name), [])
        if len(candidates) == 1:
            found += candidates
        else:
            unmatched.append(name)
    if unmatched:
        shown = _list([(name, _nearest(name, model_names)) for name in unmatched])
        raise InputError(
            f"classes of the data must be classes of the model; {len(unmatched)} of {len(data_names)} are not: {shown}"
        )
    return found


def index_labels(rows: Sequence[Row], column: str) -> tuple[list[int | None], tuple[str, ...] | None]:
    """The label of each row of a table, and the sorted names of the classes where labels are names.

    Labels are the model's numbers where all that there are are whole.

    Raises:
        InputError: a negative number, or what is neither text nor a number.
    """
    texts = [row.text(column) for row in rows]
    if all(re.fullmatch(r"-?[0-9]{1,9}(\.0)?", text) for text in texts if text):
        numbers = [int(float(text)) if text else None for text in texts]
        for row, number in zip(rows, numbers, strict=True):
            if number is not None and number < 0:
                raise row.error(f"{column} must be a name or a number from 0 on; got {number}")
        return numbers, None
    names = tuple(sorted({text for text in texts if text}))
    index = {name: label for label, name in enumerate(names)}
    return [index.get(text) for text in texts], names


def describe_unknown(clips: Mapping[str, int], model_names: Sequence[str] | None) -> str:
    """What is to be said of labels that the model does not know; nothing where there are none.

    Args:
        clips: how many clips have each of them, by name.
        model_names: class names of the model; None where they are not known.
    """
    if not clips:
        return ""
    names = sorted(clips, key=lambda name: (-clips[name], name))
    shown = _list([(name, f"{clips[name]}{_nearest(name, model_names or ())}") for name in names])
    count = sum(clips.values())
    return (
        f"{count} clip{'s have' if count > 1 else ' has'} a label that the model does not know, and no accuracy counts "
        f"{'them' if count > 1 else 'it'}: {shown}"
    )


def unknown_labels(dataset: Dataset, labels: Mapping[int, int], model_names: Sequence[str] | None) -> str:
    """`describe_unknown` of the clips of a data set whose label is not among `labels`; it is warned of, too."""
    names = dataset.class_names
    unknown = {i: count for i, count in dataset.count_labels().items() if i not in labels}
    text = describe_unknown({names[i] if names else str(i): count for i, count in unknown.items()}, model_names)
    if text:
        warnings.warn(text, stacklevel=3)
    return text


def _list(labels: Sequence[tuple[str, str]]) -> str:
    texts = [f"{name} ({more.lstrip(', ')})" if more else name for name, more in labels[:_SHOWN]]
    return ", ".join(texts) + (", ..." if len(labels) > _SHOWN else "")


def _nearest(name: str, model_names: Sequence[str]) -> str:
    """The model's name that a label may mean, as ", like NAME"; none where it fits several."""
    alike = {_plain(known): known for known in reversed(model_names)}
    close = [] if _plain(name) in alike else get_close_matches(_plain(name), alike, n=1, cutoff=0.5)
    return f", like {alike[close[0]]}" if close else ""


def _plain(name: str) -> str:
    letters = "".join(character for character in name.casefold() if character.isalnum())
    return letters or name
