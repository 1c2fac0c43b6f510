"""Whether weights that this machine lacks are fetched: only where somebody asks for it. torch is not loaded here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from aosa_fast.boundary import reason
from aosa_fast.errors import InputError

HINT = "or give --download, in Python load(..., download=True)"

_allowed = ContextVar("aosa_fast_downloads", default=False)


def downloads_allowed() -> bool:
    """Whether a function that loads a model may fetch weights from the net; families of other packages ask it too."""
    return _allowed.get()


@contextmanager
def allow_downloads(allowed: bool) -> Iterator[None]:
    """Within it, they are allowed if this says so, or if they were before."""
    token = _allowed.set(allowed or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


@contextmanager
def fetching(spec: str, source: str) -> Iterator[None]:
    """Around all that comes from the net.

    Raises:
        InputError: anything went wrong; one line with the model, the source and the reason.
    """
    try:
        yield
    except Exception as error:
        # The libraries of hubs say in several lines what to do about it, and why in the error behind.
        while isinstance(error.__cause__, Exception) and not isinstance(error, InputError):
            error = error.__cause__
        text = reason(error).partition(" For more information check:")[0]
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            text += f": {error.filename}"  # of the cache, which may be read-only or full
        raise InputError(f"model={spec} must be fetched from {source}; got {text}") from error
