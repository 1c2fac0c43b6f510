"""Files that are there whole or not at all, and what makes sure of that; `journal` has those that grow line by line.

Whatever lies in an output folder already, no link in it is followed: a folder from elsewhere cannot make us write
outside of it. A link in the place of a finished file is replaced; one in the place of a record, a lock or a folder is
refused. The folder that the user names may itself be a link.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aosa_fast.boundary import reason
from aosa_fast.errors import InputError

if sys.platform != "win32":
    import fcntl

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it over `path` at the end, or remove it.

    The parent folder is created. A symbolic link is replaced, not followed.

    Raises:
        InputError: `path` is a folder or a device, or anything in the block cannot be written (OSError).
    """
    target = Path(path)
    if "\0" in str(path):
        raise InputError(f"{path!r}: must be the name of a file; got embedded null byte")
    try:
        refuse_special(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            target.lstat()  # a name that is too long is refused now, not after the work
        temporary = target.with_name(f".partial-{secrets.token_hex(6)}{target.suffix}")
        try:
            yield temporary
            # Some file systems notice a full disk only here; Windows flushes what may be written, only.
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: must be writable; got {reason(error)}") from error


def write_file(path: Path, content: Any, temporary: Path) -> None:
    """Writes a file in one piece, in place of one of that name, or not at all.

    Its content outlasts a power cut, its name does so after `sync_folder`.

    Args:
        path: the file.
        content: bytes, or any other buffer.
        temporary: a name on the same file system that nobody else uses.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    try:
        write_new(temporary, content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_new(path: Path, content: Any) -> None:
    """Writes a file that is not there, in place of what a killed process left; it outlasts a power cut.

    Raises OSError.
    """
    with new_file(path) as file:
        write_all(file.write, content)


@contextmanager
def new_file(path: Path) -> Iterator[io.FileIO]:
    """As `write_new`, with a file whose `write` may take a part only."""
    path.unlink(missing_ok=True)
    # "x": where a link has come meanwhile, this fails.
    with open(path, "xb", buffering=0) as file:
        yield file
        os.fsync(file.fileno())


def write_all(write: Callable[[memoryview], int], content: Any) -> None:
    """Calls `write`, which may take a part only, until all of a buffer is written. Raises OSError."""
    view = memoryview(content)
    while view:  # a disk that gets full takes a part
        view = view[write(view) :]


def make_folder(root: Path, *names: str) -> Path:
    """Makes a folder and those above it, and folders in it, one inside the other; they outlast a power cut.

    Returns:
        The innermost folder.

    Raises:
        OSError: one cannot be made.
        InputError: a link is in the place of one below `root`.
    """
    if not root.is_dir():
        if not root.parent.is_dir():
            make_folder(root.parent)
        root.mkdir(exist_ok=True)
        sync_folder(root.parent)
    for name in names:
        root = root / name
        refuse_link(root, "folder")
        make_folder(root)
    return root


def open_own(path: Path, flags: int = 0) -> int:
    """Opens a file to read and write it, or makes it, and returns its descriptor.

    Raises:
        OSError: it cannot be opened.
        InputError: a link or something else than a file is there.
    """
    refuse_link(path, "file")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path}: must be a file; it is a device")
    return descriptor


def refuse_special(path: Path) -> None:
    """Raises InputError where something else than a file is in the place of one. Raises OSError."""
    if os.path.exists(path) and not path.is_file():
        raise InputError(f"{path}: must be a file name; it is a {'folder' if path.is_dir() else 'device'}")


def refuse_link(path: Path, kind: str) -> None:
    """Raises InputError where a link is in the place of a "file" or "folder" inside an output folder."""
    if path.is_symlink():
        raise InputError(f"{path}: must be a {kind}, not a link; links in output folders are not followed")


def lock(descriptor: int) -> bool:
    """Keeps a file to this process until it is closed; False if another one has it.

    Not the library filelock: it locks a file of its own beside, which would be one more in an output folder.
    Windows and some network file systems have no locks: there, nobody is kept out.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def list_folder(path: Path, suffix: str) -> list[str]:
    """The names in a folder that end so, sorted, but hidden ones; none where there is no folder. Raises OSError.

    Unlike pathlib's glob, to which a folder that cannot be read is an empty one.
    """
    try:
        return sorted(name for name in os.listdir(path) if name.endswith(suffix) and not name.startswith("."))
    except FileNotFoundError:
        return []


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk. Raises OSError."""
    if sys.platform == "win32":
        return  # there, folders cannot be flushed
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def disk_error(folder: Path, error: OSError) -> InputError:
    """The error of a folder that cannot be written, to be raised."""
    rule = "must have room on the disk" if error.errno in _FULL else "must be a folder that can be written"
    return InputError(f"{folder}: {rule}; {reason(error)}")
