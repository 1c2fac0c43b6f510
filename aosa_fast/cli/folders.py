"""Folders that commands write to, looked at before anything is loaded."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from aosa_fast.cli.names import LONGEST
from aosa_fast.errors import InputError
from aosa_fast.files import refuse_special


def check_folder(out: Path, *names: str) -> None:
    """Finds out before minutes of work whether files can be written to a folder, without making anything yet.

    Args:
        out: the folder.
        names: of files in it; none may be that of a folder or a device.

    Raises:
        InputError: it cannot be written, or a name or the path is too long.
    """
    path = out.absolute()
    existing = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    try:
        for name in (*path.relative_to(existing).parts, *names, str(path / ("x" * LONGEST))):
            with suppress(FileNotFoundError):
                (existing / name).lstat()  # refuses what is too long
        for name in names:
            refuse_special(path / name)
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"{out}: must be a folder that can be written; {existing}: {error.strerror}") from None
