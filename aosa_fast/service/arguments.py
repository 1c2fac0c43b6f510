"""What a request asks for: the arguments in its address, its headers and its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from aosa_fast.service.errors import RequestError

RESULTS = {"json": "application/json", "npz": "application/x-npz", "png": "image/png", "mp4": "video/mp4"}
"""What can be asked for, and its media type."""

LONGEST = 1000
"""Characters of an argument, at most."""


@dataclass(frozen=True)
class Arguments:
    """What is asked for.

    Attributes:
        target: class to explain: "pred", an index, or a name.
        result: one of `RESULTS`.
        include: what the JSON holds besides, of the other `RESULTS`.
    """

    target: str = "pred"
    result: str = "json"
    include: tuple[str, ...] = ()

    @classmethod
    def read(cls, query: str, accept: str) -> Arguments:
        """Those of an address, and of the header Accept.

        Raises:
            RequestError: one that is unknown or cannot be.
        """
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=100) if query else []
        return cls(result=_accepted(accept)).updated(dict(given))

    def updated(self, given: Mapping[str, str]) -> Arguments:
        """With others in place of some; raises as `read`."""
        changed: dict[str, Any] = {}
        for name, value in given.items():
            if name not in ("target", "result", "include"):
                raise RequestError(400, f"arguments must be of target, result, include; got {short(name)}")
            if len(value) > LONGEST:
                raise RequestError(400, f"{name} must have at most {LONGEST} characters; got {len(value)}")
            if name == "result" and value not in RESULTS:
                raise RequestError(400, f"result must be one of {', '.join(RESULTS)}; got {short(value)}")
            changed[name] = value
        if "include" in changed:
            asked = tuple(dict.fromkeys(word for word in changed["include"].split(",") if word))
            for word in asked:
                if word not in RESULTS or word == "json":
                    raise RequestError(400, f"include must be of npz, png, mp4; got {short(word)}")
            changed["include"] = asked
        return replace(self, **changed)


def _accepted(accept: str) -> str:
    """The first of the results that a client likes best; JSON where it likes none of them more."""
    names = {media: name for name, media in RESULTS.items()}
    best, most = "json", 0.0
    for part in accept[:LONGEST].split(","):
        media, _, rest = part.strip().lower().partition(";")
        try:
            weight = float(rest.partition("q=")[2] or 1)
        except ValueError:
            continue
        if media in names and weight > most:
            best, most = names[media], weight
    return best


def short(text: str) -> str:
    """A text of somebody else's, for a message."""
    return ascii(text[:60])
