"""Files that a person names: opened without waiting for anybody, and whatever is wrong with them said in one line."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aosa_fast.addresses import BLOCK, is_elsewhere, open_elsewhere
from aosa_fast.errors import InputError, VideoError, brief, describe_error


@contextmanager
def reading(path: object, rule: str, error: type[InputError] = InputError, *, named: bool = True) -> Iterator[None]:
    """Around all that reads a foreign file and takes its content apart.

    What a damaged or hostile file makes a library raise is nowhere listed: Pillow raises SyntaxError, json
    RecursionError, zarr KeyError, torch nearly anything. So it is any exception, here and nowhere else.

    Args:
        path: what is read, for the message.
        rule: what it must be: "must be a JSON file"; where it cannot be opened, that says so instead.
        error: `InputError` or `VideoError`.
        named: whether an `InputError` that is raised inside names the file; else it is put before it.

    Raises:
        InputError: anything went wrong; one line with path, rule and reason. One that was raised inside, and names the
            file, goes through as it is.
    """
    try:
        yield
    except InputError as own:
        if named:
            raise
        raise InputError(f"{path}: {own}") from None
    except Exception as cause:
        text = f"{rule}; got {reason(cause)}"
        if isinstance(cause, OSError) and cause.errno is not None and cause.filename is not None:
            text = f"must be readable; got {reason(cause)}"
            text += "" if str(cause.filename) == str(path) else f": {cause.filename}"
        raise VideoError(path, text) if error is VideoError else InputError(f"{path}: {text}") from cause


@contextmanager
def unlogged(name: str) -> Iterator[None]:
    """Without what a library logs of a damaged file, on stderr and in many lines, beside raising it."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def open_file(path: str | os.PathLike[str], block: int = BLOCK) -> BinaryIO:
    """Opens a regular file to read its bytes, or one that lies elsewhere: see `addresses`, also for `block`.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which could keep the reader waiting for ever.
        Exception: as `addresses.open_elsewhere`.
    """
    if is_elsewhere(os.fsdecode(path)):
        return open_elsewhere(os.fsdecode(path), open_file, block)
    return open(path, "rb", opener=_open_regular)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file. Raises OSError."""
    with open_file(path) as file:
        return file.read()


def read_json(path: str | os.PathLike[str], rule: str = "must be a JSON file") -> Any:
    """What a JSON file holds, in UTF-8 with or without a byte order mark.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    with reading(path, rule):
        return json.loads(read_bytes(path))


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name. Unlike numpy.load, it allocates no more than the file holds.

    Raises:
        Exception: it cannot be read; for `reading`.
    """
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        return {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}


def read_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array of an .npy file, or the only one of an .npz file; as `read_arrays`."""
    content = read_bytes(path)
    if not content.startswith(b"PK"):
        return _array(content)
    arrays = read_arrays(path)
    if len(arrays) != 1:
        raise ValueError(f"arrays {', '.join(arrays) or 'none'}")
    return next(iter(arrays.values()))


def _array(content: bytes) -> NDArray[Any]:
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read_header[np.lib.format.read_magic(stream)](stream)
    values: NDArray[Any] = np.frombuffer(bytearray(content[stream.tell() :]), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def reason(error: Exception) -> str:
    """What an exception says, in one line that is not long."""
    if isinstance(error, RecursionError):
        return "values nested too deep"
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    if isinstance(error, FileNotFoundError) and error.filename is not None and os.path.islink(error.filename):
        return "a link to a file that is missing"
    # These are made for programmers: str(KeyError("fps")) is 'fps'.
    if isinstance(error, LookupError | AttributeError | TypeError | AssertionError):
        return describe_error(error)
    return brief(getattr(error, "strerror", None) or error) or type(error).__name__


def _open_regular(name: str, flags: int) -> int:
    descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    kind = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # open() itself refuses folders
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a pipe or a device, no regular file", name)
    return descriptor
