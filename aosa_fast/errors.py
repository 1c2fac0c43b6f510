"""The errors that a user can cause, told apart from bugs: the command line prints them in one line and exits with 2."""

from __future__ import annotations


class InputError(ValueError):
    """An argument, model or file breaks a rule. The message names it, the rule, and what was given."""


class VideoError(InputError):
    """A video file or frame folder cannot be read as asked.

    Attributes:
        path: the file or folder.
        frames_ok: frames that could be decoded, when the reader got that far.
        packets_bad: damaged packets met on the way.
    """

    def __init__(self, path: object, rule: str, *, frames_ok: int = 0, packets_bad: int = 0) -> None:
        super().__init__(f"{path}: {rule}")
        self.path = str(path)
        self.frames_ok = frames_ok
        self.packets_bad = packets_bad
