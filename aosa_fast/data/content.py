"""What tells whether a clip's file has changed."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from aosa_fast.addresses import content_mark, is_address, is_in_archive
from aosa_fast.boundary import open_file, reading
from aosa_fast.errors import VideoError
from aosa_fast.video.series import find_series

_DIGITS = 32
_RULE = "must be readable"


def content_id(path: str) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of a series of frames; the first 32 hexadecimal digits.

    Of a file at an address, which is not read for it, SHA-256 of the mark that its file system has for the content.

    Raises:
        VideoError: it cannot be read.
    """
    if is_address(path):
        with reading(path, _RULE, VideoError):
            return hashlib.sha256(content_mark(path)).hexdigest()[:_DIGITS]
    if is_in_archive(path):
        return _digest(path)[:_DIGITS]
    if os.path.isfile(path):
        facts = os.stat(path)
        return _hash_file(path, facts.st_size, facts.st_mtime_ns)[:_DIGITS]
    digest = hashlib.sha256()
    for name in sorted(find_series(path).files):
        # Names end in 0, which no name holds, and digests have one length: no other folder makes the same bytes.
        digest.update(os.fsencode(Path(name).name) + b"\0" + bytes.fromhex(_digest(name)))
    return digest.hexdigest()[:_DIGITS]


@lru_cache(maxsize=64)
def _hash_file(path: str, size: int, changed: int) -> str:
    """Of a file with this size and time of change: samples are often parts of one long video."""
    return _digest(path)


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with reading(path, _RULE, VideoError), open_file(path) as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
