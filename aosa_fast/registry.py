"""What has a name: methods, models, data sets and metrics, ours and other packages', as records free of torch."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, TypeVar

from aosa_fast.errors import InputError, brief, describe_error


class Record(Protocol):
    """What a registry holds: frozen dataclasses with these and more."""

    @property
    def name(self) -> str:
        """What a user writes."""

    @property
    def help(self) -> str:
        """One sentence for a listing."""


R = TypeVar("R", bound=Record)


class Registry(Mapping[str, R]):
    """Records by name, in the order of the listing: our own, then those that other packages bring as entry points.

    An entry point is imported when its record is asked for; what is wrong with it stops nobody who uses another one.
    """

    def __init__(self, argument: str, records: Iterable[R], group: str = "") -> None:
        """Takes our records.

        Args:
            argument: which one chooses among them, for messages: "method".
            records: of one class.
            group: of the entry points, each of which is a record of that class, or nothing.
        """
        self._argument, self._group = argument, group
        self._records = {record.name: record for record in records}
        self._kind = type(next(iter(self._records.values())))

    def find(self, name: str) -> R:
        """The record of a name.

        Raises:
            InputError: there is none; the message lists all and the nearest. Or another package's is no such record.
        """
        if not isinstance(name, str) or name not in self:
            raise InputError(f"{self._argument} must be one of {', '.join(self)}; got {brief(name)}{self.hint(name)}")
        if name in self._records:
            return self._records[name]
        point = self._points()[name]
        with foreign_code(f"{self._argument}={name}", f"an importable {self._kind.__name__}, {point.value}"):
            record = point.load()
            if not isinstance(record, self._kind) or record.name != name:
                raise InputError(f"{point.value} must be a {self._kind.__name__} of that name; got {brief(record)}")
        return record

    def hint(self, name: object) -> str:
        """The names that come nearest to another one, for the end of a message; nothing where none is near."""
        return nearest(name, self)

    def specs(self) -> list[str]:
        """How each record's name is written with what may follow it; an entry point's name, without a look at it."""
        return [str(getattr(self._records.get(name), "spec", name)) for name in self]

    def own(self) -> list[R]:
        """Our own records: no look at what is installed beside."""
        return list(self._records.values())

    def __getitem__(self, name: str) -> R:
        if name not in self:
            raise KeyError(name)
        return self.find(name)

    def __contains__(self, name: object) -> bool:
        return name in self._records or name in self._points()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._records, *self._points()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _points(self) -> dict[str, EntryPoint]:
        return _entry_points(self._group, tuple(sys.path)) if self._group else {}


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """The entry points of a group that lie on a search path, by name."""
    return {point.name: point for point in entry_points(group=group)}


def nearest(name: object, names: Iterable[str]) -> str:
    """ " (did you mean A or B?)", of the names that come nearest to another one; nothing where none is near."""
    near = difflib.get_close_matches(str(name).lower(), list(names), n=3, cutoff=0.65)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def or_list(texts: Sequence[str]) -> str:
    """The texts with commas between, and "or" before the last."""
    return f"{', '.join(texts[:-1])}, or {texts[-1]}"


def import_object(place: str) -> Any:
    """What PACKAGE.MODULE:NAME stands for; any exception that the import raises goes through."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@contextmanager
def foreign_code(argument: str, rule: str, error: type[InputError] = InputError) -> Iterator[None]:
    """Around the import and the call of a user's function: whatever it raises is said in one line.

    Modules of the working directory are found, as `python -m` finds them.

    Args:
        argument: and what was given, "model=python:mine:make".
        rule: what it must be.
        error: of what is raised for everything but an `InputError`.

    Raises:
        InputError: as said; its cause is what the function raised.
    """
    sys.path.insert(0, os.getcwd())
    try:
        yield
    except InputError as own:
        raise InputError(f"{argument}: {own}") from own
    except (Exception, SystemExit) as cause:
        raise error(f"{argument} must be {rule}; it raised {describe_error(cause)}") from cause
    finally:
        sys.path.remove(os.getcwd())
