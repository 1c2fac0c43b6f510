"""Files that are there whole or not at all, and records that grow line by line.

Whatever lies in an output folder already, no link in it is followed: a folder from elsewhere cannot make us write
outside of it. A link in the place of a finished file is replaced; one in the place of a record, a lock or a folder is
refused. The folder that the user names may itself be a link.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from aosa_fast.boundary import reading, reason
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
            # Some file systems notice a full disk only here.
            with temporary.open("rb") as file:
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
    path.unlink(missing_ok=True)
    # "x": where a link has come meanwhile, this fails.
    with open(path, "xb", buffering=0) as file:
        _write(file.write, content)
        os.fsync(file.fileno())


def _write(write: Callable[[memoryview], int], content: Any) -> None:
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


class Record:
    """A file of lines of JSON, each of them there whole or not at all.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path, *names: str, take: Callable[[int, Any], None], what: str, alone: str = "") -> None:
        """Opens a record and reads it, or begins one.

        Args:
            folder: made if it is missing, as are those that `names` begins with.
            names: of the file in it; the last one is the file's.
            take: called with each line's number, from 1, and what it holds; an exception says that it is not as it must
                be.
            what: it is a record of, for messages.
            alone: what is said where another process has it open; "": nothing, and it is not looked at.

        Raises:
            InputError: the file is no such record, another process has it, or it cannot be written.
        """
        self._folder = folder
        self.path = folder.joinpath(*names)
        try:
            make_folder(folder, *names[:-1])
            self._file: int | None = open_own(self.path, os.O_APPEND)
            try:
                if alone and not lock(self._file):
                    raise InputError(f"{folder}: must not be in use; {alone}")
                self._length = self._read(take, what)
                os.ftruncate(self._file, self._length)  # a line that an earlier run did not finish
                sync_folder(self.path.parent)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise disk_error(folder, error) from None

    @property
    def empty(self) -> bool:
        """Whether it has no line yet."""
        return not self._length

    def add(self, line: dict[str, Any], *, sync: bool = True) -> None:
        """Adds a line; with `sync` it is on the disk when this returns.

        Raises:
            InputError: the disk is full, or the file cannot be written; then nothing is added.
            ValueError: a number that JSON has not, or the record is closed.
        """
        if self._file is None:
            raise ValueError("the record is closed")
        content = json.dumps(line, allow_nan=False).encode() + b"\n"
        try:
            _write(partial(os.write, self._file), content)
            if sync:
                os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):  # if not now, then at the next start
                os.ftruncate(self._file, self._length)
            raise disk_error(self._folder, error) from None
        self._length += len(content)

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self, take: Callable[[int, Any], None], what: str) -> int:
        """Takes in all whole lines, and returns how many bytes they have."""
        assert self._file is not None
        length = 0
        with open(self._file, "rb", closefd=False) as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                with reading(f"{self.path}, line {number}", f"must be a record of {what}"):
                    take(number, json.loads(raw))
                length += len(raw)
        return length
