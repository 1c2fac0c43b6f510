"""The errors that a user can cause, told apart from bugs: the command line prints them in one line and exits with 2."""

from __future__ import annotations


class InputError(ValueError):
    """An argument, model or file breaks a rule. The message names it, the rule, and what was given."""


class ModelError(InputError):
    """The user's own model failed: the error that it raised is the cause, `__cause__`, of this one."""


class ModelWarning(UserWarning):
    """What the user should know of a model: what it returns, or that its answers depend on the batch or on chance."""

    @staticmethod
    def kind(text: str) -> str:
        """The part of its message that is the same each time."""
        return text.partition("(")[0].partition(",")[0]


def brief(value: object, longest: int = 200) -> str:
    """The text of a foreign value for a message: one line, cut off where it is long (in characters)."""
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[:longest]}..."


def describe_error(error: BaseException) -> str:
    """The kind and the message of an error of somebody else's code, in one line of bounded length."""
    try:
        text = brief(error, 400)
    except Exception:  # noqa: BLE001 - its message is somebody else's code too
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_BROKEN = ("CUDA error", "Triton Error [CUDA]")


def is_broken_device(error: BaseException) -> bool:
    """Whether the error leaves the accelerator unusable for this process."""
    if type(error).__name__ == "AcceleratorError":  # by name: importing torch takes seconds, and older ones have none
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _BROKEN)


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
