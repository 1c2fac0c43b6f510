"""Files that lie elsewhere: at an address such as s3://bucket/clip.mp4, or inside of a tar file.

They are read in parts, where they lie, and never copied. fsspec, which comes with torch, knows the addresses; it is
imported when the first one is read. A file in a tar file is named by the archive and by the bytes that it takes there:
"shard-000.tar#1536+40960/clip.mp4".
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from aosa_fast.errors import InputError, brief

BLOCK = 1 << 20  # bytes that are asked for at once, at least
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # not C:\
_MEMBER = re.compile(r"(?P<archive>.+\.tar)#(?P<start>[0-9]+)\+(?P<size>[0-9]+)/(?P<name>.+)", re.DOTALL)
# What file systems call the mark of a file's content: S3, HTTP, Google, Azure, Hugging Face.
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "blob_id", "checksum")


@dataclass(frozen=True)
class Address(os.PathLike[str]):
    """A file or folder at an address, with as much of what a `Path` has as data sets need."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __fspath__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.text}{'' if self.text.endswith('/') else '/'}{name}")

    @property
    def name(self) -> str:
        """Its last part; what follows a question mark belongs to the request."""
        text = self.text.partition("?")[0] if self.text.startswith("http") else self.text
        return text.partition("://")[2].rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """As of a `Path`."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Address:
        """The folder that it is in."""
        protocol, mark, path = self.text.partition("://")
        return Address(protocol + mark + path.rstrip("/").rpartition("/")[0])

    def resolve(self) -> Address:
        """Itself: no address leads to another one."""
        return self

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        system, path = _file_system(self.text)
        return bool(system.isdir(path))

    def is_file(self) -> bool:
        """Whether it is a file."""
        system, path = _file_system(self.text)
        return bool(system.isfile(path))

    def exists(self) -> bool:
        """Whether there is anything."""
        system, path = _file_system(self.text)
        return bool(system.exists(path))

    def names(self) -> list[str]:
        """What a folder holds. Raises whatever its file system does."""
        system, path = _file_system(self.text)
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in system.ls(path, detail=False)]


Place = Path | Address


def is_address(path: object) -> bool:
    """Whether this is the address of a file, and not the name of one that there is on this machine."""
    return _ADDRESS.match(str(path)) is not None and not os.path.lexists(str(path))


def is_elsewhere(path: object) -> bool:
    """Whether this is no file of its own on this machine: at an address, or in a tar file."""
    return is_address(path) or is_in_archive(path)


def is_in_archive(path: object) -> bool:
    """Whether this is a file in a tar file, wherever that is."""
    return _MEMBER.fullmatch(str(path)) is not None and not os.path.lexists(str(path))


def locate(text: str) -> Place:
    """The place that a text names; file:///a/b is the path /a/b."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return Address(text) if is_address(text) else Path(text)


def joined(folder: Place, name: str) -> str:
    """What a file in `folder` calls `name`: an address or an absolute path as it stands, else what is in the folder."""
    return str(locate(name) if is_address(name) or os.path.isabs(name) else folder / name)


def member(archive: object, start: int, size: int, name: str) -> str:
    """How a file in a tar file is named, whose content begins at `start` and has `size` bytes."""
    return f"{archive}#{start}+{size}/{name}"


def open_elsewhere(path: str, open_local: Callable[[str], BinaryIO], block: int = BLOCK) -> BinaryIO:
    """Opens a file at an address or in a tar file, to read its bytes.

    Args:
        path: see the module.
        open_local: opens a tar file of this machine.
        block: how much is asked for at once, bytes.

    Raises:
        InputError: nothing is there, or its kind of address is not known or lacks a package.
        Exception: what a file system raises, for `boundary.reading`.
    """
    found = _MEMBER.fullmatch(path)
    if found is not None:
        archive = found["archive"]
        file = open_elsewhere(archive, open_local, block) if is_address(archive) else open_local(archive)
        return cast(BinaryIO, io.BufferedReader(Part(file, int(found["start"]), int(found["size"])), 1 << 16))
    system, inner = _file_system(path)
    try:
        return cast(BinaryIO, system.open(inner, "rb", block_size=block))
    except FileNotFoundError:
        raise InputError(f"{path}: must exist; there is nothing at this address") from None


def content_mark(path: str) -> bytes:
    """What changes when the content of a file elsewhere does, as far as its file system tells without reading it.

    Of an address the mark of its content, such as an ETag, or else its size and times; of a part of a tar file at an
    address that of the archive, with the part.
    """
    found = _MEMBER.fullmatch(path)
    system, inner = _file_system(path if found is None else found["archive"])
    facts = system.info(inner)
    mark = next((str(facts[name]) for name in _MARKS if facts.get(name)), None) or system.ukey(inner)
    part = "" if found is None else f"{found['start']}+{found['size']}"
    return f"{facts.get('size')} {mark} {part}".encode()


class Part(io.RawIOBase):
    """A part of an open file, as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._at = file, start, 0
        self.size = size

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As of any file; it may read less than there is room for."""
        data = self.fetch(self._at, min(self._at + len(buffer), self.size))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def fetch(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, or the first of them."""
        self._file.seek(self._start + start)
        return self._file.read(max(0, end - start))

    def close(self) -> None:
        """Closes the file, too."""
        if not self.closed:
            self._file.close()
        super().close()


def _file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path there."""
    from fsspec.core import url_to_fs

    match = _ADDRESS.match(address)
    protocol = "" if match is None else match[1]
    try:
        found: tuple[Any, str] = url_to_fs(address)
    except ImportError as error:
        raise InputError(f"{address}: must have the package for {protocol}://; it is missing: {brief(error)}") from None
    except ValueError as error:
        if "rotocol not known" not in str(error):
            raise
        raise InputError(f"{address}: must be an address that fsspec knows; it does not know {protocol}://") from None
    return found
