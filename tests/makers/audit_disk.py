"""What is on a disk, and a disk that gets full, for tests: the same error without a disk."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def failing(error: BaseException) -> Callable[..., Any]:
    """In place of a function that fails."""

    def fail(*arguments: object) -> Any:
        raise error

    return fail


@contextmanager
def short_files(length: int) -> Iterator[None]:
    """No file of this process may become longer than so many bytes.

    Not as a fixture: what pytest itself writes, in between a test and the end of its fixtures, would count too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
