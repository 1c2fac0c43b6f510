"""Forms as they come: files and pictures go to the disk, arguments are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from aosa_fast.service.arguments import LONGEST, short
from aosa_fast.service.errors import RequestError

FORM = "multipart/form-data"
_FRAMES = 4096  # pictures of a clip
_PICTURES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
}


@dataclass(frozen=True)
class Body:
    """A clip that has come.

    Attributes:
        path: of the file, or of the folder of its pictures.
        media: its media type.
        fields: further ones of a form, as text.
    """

    path: Path
    media: str
    fields: dict[str, str]


class Form:
    """A form: one file `clip`, or pictures `frames` in their order, and arguments."""

    def __init__(self, folder: Path, boundary: bytes) -> None:
        if not boundary:
            raise RequestError(400, f"Content-Type {FORM} must name its boundary; got none")
        self._folder, self._pictures = folder, folder / "frames"
        self._file: BinaryIO | None = None
        self._clip: tuple[Path, str] | None = None
        self._frames = 0
        self._fields: dict[str, bytearray] = {}
        self._whole = False
        self._name = self._header = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field: bytearray | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self.close,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._start,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        """Takes what has come. Raises RequestError."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise RequestError(400, f"body must be {FORM}; it breaks its rules") from None

    def end(self) -> Body:
        """What it was. Raises RequestError."""
        if not self._whole:
            raise RequestError(400, f"body must be {FORM}; it ends before its end")
        fields = {}
        for name, value in self._fields.items():
            try:
                fields[name] = value.decode()
            except UnicodeDecodeError:
                raise RequestError(400, f"{short(name)} must be UTF-8") from None
        if self._frames:
            return Body(self._pictures, FORM, fields)
        if self._clip is None:
            raise RequestError(400, "form must have a file `clip`, or pictures `frames`; got neither")
        return Body(*self._clip, fields)

    def close(self) -> None:
        """Closes the file of the part that has ended."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._headers, self._field = {}, None

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _start(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name, file = options.get(b"name", b"").decode("latin-1"), options.get(b"filename", b"").decode("latin-1")
        media = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1").partition(";")[0]
        if name == "clip" and self._clip is None and not self._frames:
            self._clip = self._folder / "clip", "application/x-npy" if file.lower().endswith(".npy") else media.strip()
            self._file = self._clip[0].open("xb")
        elif name == "frames" and self._clip is None:
            if self._frames == _FRAMES:
                raise RequestError(413, f"form must have at most {_FRAMES} pictures `frames`")
            self._pictures.mkdir(exist_ok=True)
            suffix = _PICTURES.get(media.strip().lower(), ".jpg")
            self._file = (self._pictures / f"{self._frames:08d}{suffix}").open("xb")
            self._frames += 1
        elif name in ("clip", "frames"):
            raise RequestError(400, "form must have one file `clip`, or pictures `frames`; got more than that")
        elif len(self._fields) > 8:
            raise RequestError(400, "form must have the fields clip or frames, target, result, include; got more")
        else:
            self._field = self._fields[name] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif self._field is not None:
            self._field += data[start:end]
            if len(self._field) > 4 * LONGEST:
                raise RequestError(400, f"fields of a form must have at most {LONGEST} characters")

    def _end(self) -> None:
        self._whole = True
