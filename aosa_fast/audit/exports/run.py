"""An audit exported to a folder, which appears whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aosa_fast.audit.exports.clips import Audit
from aosa_fast.audit.exports.registry import EXPORTS
from aosa_fast.errors import InputError
from aosa_fast.files import disk_error, make_folder
from aosa_fast.progress import Report, show_progress
from aosa_fast.registry import import_object

_MARK = ".aosa-fast-export"


def export_audit(folder: Path, to: str, out: Path, progress: Report | None = None) -> int:
    """Writes the clips of an audit, finished or not, in another tool's format.

    Args:
        folder: of the audit. What `audit-report` has found there is exported with it.
        to: a name of `aosa_fast.audit.exports.registry.EXPORTS`.
        out: the folder to be made; one that an earlier export made is replaced.
        progress: as for `aosa_fast.explain`; a step is a clip.

    Returns:
        How many clips were written.

    Raises:
        InputError: no audit or a damaged one, no such format, `out` is something else than an export, or the disk is
            full.
    """
    write = import_object(EXPORTS.find(to).write)
    with show_progress(progress, to) as step:
        audit = Audit(folder, step)
        with _new_folder(out) as made:
            count: int = write(audit, made)
    return count


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which takes its place at the end."""
    if os.path.lexists(path) and (path.is_symlink() or not (path / _MARK).is_file()):
        raise InputError(f"out must be a new folder, or one that an export made; {path} is something else")
    temporary = path.with_name(f".partial-{secrets.token_hex(6)}")
    try:
        make_folder(temporary)
        (temporary / _MARK).touch()
        yield temporary
        if path.exists():
            old = temporary.with_name(f"{temporary.name}-old")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
