"""Names of files made from texts that come from elsewhere: classes, clips, ids."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

# Of the common file systems, eCryptfs takes the shortest names, 143 bytes: with a number and the suffixes of the files
# that are made from a name, it stays below that.
BYTES = 112
LONGEST = 143  # bytes: no name that is made here, with all that is put before and behind it, has more
# What a file system or a shell takes for something else, what no file system holds, and what cannot be seen.
_SPECIAL = re.compile(r"""[\s\x00-\x1f\x7f-\x9f/\\<>:"|?*'`$&;!\u200b-\u200f\u2028-\u202e\ud800-\udc7f\udd00-\udfff]""")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)  # by Windows, with any suffix


def file_names(texts: Iterable[str]) -> list[str]:
    """A name for each text: readable, safe in every file system, and different from all others of this call.

    Names have 1 to `BYTES` + 8 bytes and begin with neither dot nor dash; they differ also where capitals and the
    composition of accents do not count. Where texts would get one name, later ones get a number: C, C-2.
    """
    names: list[str] = []
    taken: set[str] = set()
    for text in texts:
        stem = name = _clean(text)
        number = 1
        while _folded(name) in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(_folded(name))
        names.append(name)
    return names


def _clean(text: str) -> str:
    name = _SPECIAL.sub("-", text[:4096]).lstrip("-. ")[:BYTES]
    while len(os.fsencode(name)) > BYTES:
        name = name[:-1]
    name = name.rstrip("-. ") or "unnamed"
    return f"_{name}" if _RESERVED.match(name) else name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
