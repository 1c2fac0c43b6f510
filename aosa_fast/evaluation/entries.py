"""What is evaluated: methods by name, with options of their own, such as aosa:partners=0 or step@24."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aosa_fast.config import COMMON, Config, own_options, read_choice
from aosa_fast.errors import InputError
from aosa_fast.methods.option import Option
from aosa_fast.methods.registry import PATTERNS, find_method

DEFAULT_METHODS = (
    "grad-cam", "osa", "smoothgrad", "aosa", "aosa-approx", "aosa-path", "aosa-dual", "gradient", "input-x-gradient",
    "integrated-gradients", "random", "centre", "motion", "motion-tubes",
)  # fmt: skip
"""What is compared unless told otherwise: the order of the paper's tables, then what it does not have."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A row of the tables.

    Attributes:
        name: as the user wrote it, without the number of clips.
        config: every choice.
        clips: how many of the first clips it is run on; None for all.
    """

    name: str
    config: Config
    clips: int | None = None

    @property
    def identity(self) -> str:
        """A hash of the choices: what is recorded under one name must come from one config."""
        text = json.dumps(self.config.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def split_names(texts: Sequence[str]) -> list[str]:
    """Names that are repeated options, or separated by commas or spaces within one."""
    return [name for text in texts for name in text.replace(",", " ").split()]


def parse_entries(texts: Sequence[str], base: Config) -> list[Entry]:
    """Reads `METHOD[@CLIPS][:FIELD=VALUE[:FIELD=VALUE...]]`.

    Args:
        texts: the methods, each with the fields of `Config` in which it differs from `base`.
        base: what holds for all of them; its fill, score and steps are given to those methods only that do not choose
            their own.

    Raises:
        InputError: an unknown method or field, a value out of range, a method twice.
    """
    entries: list[Entry] = []
    for text in texts:
        head, options = _split(text)
        method, at, count = head.partition("@")
        if at and not re.fullmatch("[1-9][0-9]*", count):
            raise InputError(f"methods must have a number of clips after @, such as {method}@24; got {text}")
        choices = COMMON | own_options(find_method(method))
        parts = [part for part in options.split(":") if part]
        changes = dict(_field(part, text, choices) for part in parts)
        name = ":".join([method, *parts])
        if any(entry.name == name for entry in entries):
            raise InputError(f"methods must differ; got {name} twice")
        entries.append(Entry(name, dataclasses.replace(base, method=method, **changes), int(count) if at else None))
    if not entries:
        raise InputError("methods must name at least one; got none")
    return entries


def _split(text: str) -> tuple[str, str]:
    """The method, in whose name there may be colons, with its number of clips; and the options."""
    pattern = PATTERNS.get(text.partition(":")[0])
    names = 1 + (pattern.name.count(":") if pattern else 0)
    parts = text.split(":")
    return ":".join(parts[:names]), ":".join(parts[names:])


def _field(text: str, whole: str, choices: dict[str, Option]) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or name not in choices or name == "method":
        known = ", ".join(name for name in choices if name != "method")
        raise InputError(f"methods must have options FIELD=VALUE of {known}; got {text!r} in {whole}")
    return name, read_choice(choices[name], value, "+")  # commas part methods
