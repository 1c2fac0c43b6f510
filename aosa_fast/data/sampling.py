"""A seeded random part of a data set that changes little when the data set does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.data.dataset import Sample


def choose(
    samples: Sequence[Sample], class_names: Sequence[str] | None, per_class: int | None, limit: int | None, seed: int
) -> tuple[Sample, ...]:
    """Take samples of all classes in turn.

    Each sample draws a number from the seed and its own id, and each class one from the seed and its name. The
    smallest of each class come first, then the second smallest, and so on: what is taken of one class does not depend
    on the others, nor on the order of files, and a smaller choice is the beginning of a larger one.

    Args:
        samples: all of them; those without a label count as one class.
        class_names: by label, or None.
        per_class: at most so many of each class, or None.
        limit: at most so many in all, after `per_class`, or None.
        seed: of the draws.

    Returns:
        The samples; all, in their own order, if neither number is given.

    Raises:
        InputError: a number below 1.
    """
    check_counts(per_class, limit)
    if per_class is None and limit is None:
        return tuple(samples)
    classes: dict[str, list[tuple[bytes, Sample]]] = {}
    for sample in samples:
        name = class_names[sample.label] if class_names and sample.label is not None else str(sample.label)
        classes.setdefault(name, []).append((_draw(seed, "sample", sample.id), sample))
    ranked = []
    for name, members in classes.items():
        members.sort(key=lambda member: member[0])
        place = _draw(seed, "class", name)
        ranked += [(rank, place, sample) for rank, (_, sample) in enumerate(members[:per_class])]
    ranked.sort(key=lambda entry: entry[:2])
    return tuple(sample for _, _, sample in ranked[:limit])


def check_counts(per_class: int | None, limit: int | None) -> None:
    """Refuse numbers of samples below 1."""
    for name, value in (("per_class", per_class), ("limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1; got {value}")


def _draw(seed: int, kind: str, name: str) -> bytes:
    # A hash, not a generator: no draw depends on how many were made before it.
    return hashlib.blake2b(f"{seed}\0{kind}\0{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
