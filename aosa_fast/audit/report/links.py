"""Addresses of clips' files, as seen from the folder of a page."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_OPENED = ("http", "https", "file")  # by a browser


def clip_link(path: str | None, folder: Path) -> str:
    """Where a clip's file is, relative to a folder and escaped as addresses are; "" for a rendered clip.

    What is an address already, such as s3://bucket/clip.mp4, stays one. Of a series of frames it is their folder.
    """
    if path is None:
        return ""
    if _ADDRESS.match(path):
        return quote(path, safe=":/?#[]@!$&()*+,;=%~")
    if "*" in os.path.basename(path) and not os.path.lexists(path):
        path = os.path.dirname(path)
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return Path(os.path.abspath(path)).as_uri()
    return quote(relative.replace(os.sep, "/"))


def page_link(link: str) -> str:
    """The link where a browser can open it, else ""."""
    address = _ADDRESS.match(link)
    return link if address is None or address[1].lower() in _OPENED else ""
