"""The pictures of a page, each held once however often it is shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Stored:
    """A picture in the page."""

    key: str  # its id in the page
    uri: str  # its content as data URI
    width: int  # pixels
    height: int
    cells: bool  # whether its pixels are cells, to be shown with sharp edges


def data_uri(data: bytes, kind: str) -> str:
    """Content of a MIME type as the address of itself."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


class Store:
    """Collects pictures; the page has them all in one place and refers to them from everywhere."""

    def __init__(self) -> None:
        self._pictures: dict[bytes, Stored] = {}

    def add(self, data: bytes, *, cells: bool = False) -> Stored:
        """Keeps a WebP, JPEG or PNG, unless it is there already."""
        if data not in self._pictures:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                kind = Image.MIME[image.format or ""]
            key = f"i{len(self._pictures)}"
            self._pictures[data] = Stored(key, data_uri(data, kind), width, height, cells)
        return self._pictures[data]

    def __iter__(self) -> Iterator[Stored]:
        return iter(self._pictures.values())
