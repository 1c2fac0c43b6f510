"""A choice that is checked in one way wherever it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aosa_fast.errors import InputError

MOST = 2**31 - 1  # the largest whole number that the operators take


@dataclass(frozen=True)
class Option:
    """A choice, checked in one way wherever it is given: a field of `Config`, or an option of one method.

    Attributes:
        name: as in `Config(NAME=...)`; the command line's is --name.
        default: where nothing is given.
        help: whole sentences.
        kind: of its values, one or several: int, float or str.
        choices: the texts that it may be; none: any.
        least: the smallest number; None: any.
        share: whether numbers are shares of a whole: "" if not, else the rule, as in "must be a share".
        open: whether None leaves the choice to the method, or to torch.
        several: whether it is a tuple of at least one value.
    """

    name: str
    default: Any
    help: str
    kind: type = int
    choices: tuple[str, ...] = ()
    least: float | None = None
    share: str = ""
    open: bool = False
    several: bool = False

    def check(self, value: Any) -> None:
        """Raises InputError where `value` breaks a rule of the option."""
        if value is None and self.open:
            return
        if self.choices and not (isinstance(value, str) and value in self.choices):
            raise InputError(f"{self.name} must be one of {', '.join(self.choices)}; got {value}")
        if self.kind is str and not (self.choices or isinstance(value, str)):
            raise InputError(f"{self.name} must be text; got {value!r}")
        if self.several and not (isinstance(value, tuple) and value):
            raise InputError(f"{self.name} {self.share}; got {value}")
        if self.least is not None:
            listed = isinstance(value, tuple) and (self.several or self.name == "box")
            for number in value if listed else (value,):
                self._check_number(number, value)

    def _check_number(self, number: Any, given: Any) -> None:
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not (whole or (self.kind is float and isinstance(number, float))):
            kind = "a number" if self.kind is float else "a whole number"
            raise InputError(f"{self.name} must be {kind}; got {number!r}")
        assert self.least is not None
        if not number >= self.least:
            raise InputError(f"{self.name} must be at least {self.least}; got {number}")
        if self.share and not (0 < number < 1 or (number == 1 and not self.several)):
            raise InputError(f"{self.name} {self.share}; got {given}")
        if whole and number > MOST and self.name != "seed":
            raise InputError(f"{self.name} must be at most {MOST}; got {number}")
