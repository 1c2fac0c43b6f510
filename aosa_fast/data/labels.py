"""Which class of a model is which class of the data."""

from __future__ import annotations

from collections.abc import Sequence

from aosa_fast.errors import InputError

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
        shown = ", ".join(unmatched[:_SHOWN]) + (", ..." if len(unmatched) > _SHOWN else "")
        raise InputError(
            f"classes of the data must be classes of the model; {len(unmatched)} of {len(data_names)} are not: {shown}"
        )
    return found


def _plain(name: str) -> str:
    letters = "".join(character for character in name.casefold() if character.isalnum())
    return letters or name
