"""Video files that lie elsewhere: their time stamps are read without what lies between them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import av

from aosa_fast.addresses import Part

# Of these containers a table says where each packet lies and when it is shown: its bytes need not be asked for.
_HAVE_TABLE = (".mp4", ".mov", ".m4v", ".3gp")
_MOST_BOXES = 64  # at the top of such a file; one in fragments has more, and is read as it is
_SMALL = 1 << 20  # bytes; of less, nothing is saved
_HEAD = 16  # bytes of a box: its size, its name and perhaps its size again


class Skimmed(Part):
    """A file whose media data can be left out: then zeros stand for them, and nothing is asked for.

    Attributes:
        skim: whether they are left out now.
        media: where they lie, (start, end), in bytes; empty where that is not known.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, 0, file.seek(0, io.SEEK_END))
        self.skim = False
        has_table = name.lower().endswith(_HAVE_TABLE) and self.size > _SMALL
        self.media = _find_media(file, self.size) if has_table else []

    def fetch(self, start: int, end: int) -> bytes:
        """Zeros for media data that are left out."""
        for first, last in self.media if self.skim else ():
            if first <= start < last:
                return bytes(min(end, last) - start)
            if start < first:
                end = min(end, first)
        return super().fetch(start, end)


@contextmanager
def skimming(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Callable[[], bool]]:
    """Yields what is to be called once no content of a packet is needed any more, only its stamps.

    It returns whether packets are without their content from then on. At the end content is read again. Of a file of
    this machine, all is read as it is.
    """
    file = getattr(container.file, "file", None)
    source = file if isinstance(file, Skimmed) and file.media else None

    def begin() -> bool:
        if source is not None:
            source.skim = True
        return source is not None

    try:
        yield begin
    finally:
        if source is not None and source.skim:
            source.skim = False
            # FFmpeg keeps the last bytes that it has read: at another place it forgets the zeros.
            container.seek(stream.start_time or 0, stream=stream)
            next(container.demux(stream), None)


def _find_media(file: BinaryIO, size: int) -> list[tuple[int, int]]:
    """Where the media data lie in a file of the MP4 family, (start, end), in bytes; none where that is not clear."""
    found: list[tuple[int, int]] = []
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= size:
            return found
        file.seek(at)
        head = file.read(_HEAD)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        length = {0: size - at, 1: int.from_bytes(head[8:], "big")}.get(length, length)
        if len(head) < _HEAD or length < _HEAD // 2:
            return []
        if name == b"mdat":
            found.append((at + _HEAD, min(at + length, size)))
        at += length
    return []


def demuxer_options(source: Any) -> dict[str, str]:
    """Of `av.open`: without its parsers, which would look for key frames in zeros."""
    return {"fflags": "noparse"} if isinstance(source, Skimmed) and source.media else {}
