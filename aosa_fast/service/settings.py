"""What a service lets in, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from aosa_fast.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a service: whatever comes, it stays within them.

    Attributes:
        megabytes: of an upload.
        megapixels: of one frame.
        frames: of a clip, as its file holds them.
        seconds: of a clip.
        timeout: seconds from a request to its answer.
        decode_timeout: seconds to decode an upload.
        decode_memory: MiB that a decoder may take beyond what it has while it waits.
        concurrency: requests that are read, decoded, explained or answered at once; one more is refused.
        queue: clips that wait for the model.
        batch: clips that go through the model together, at most.
        wait_ms: how long the first clip of a batch waits for others.
        decoders: processes that decode.
    """

    megabytes: float = 64.0
    megapixels: float = 9.0
    frames: int = 100_000
    seconds: float = 600.0
    timeout: float = 30.0
    decode_timeout: float = 10.0
    decode_memory: int = 1024
    concurrency: int = 16
    queue: int = 8
    batch: int = 4
    wait_ms: float = 5.0
    decoders: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = isinstance(field.default, int)
            least = 1 if whole else 0
            if not math.isfinite(value) or value < least or (not whole and value == 0 and field.name != "wait_ms"):
                rule = f"at least {least}" if whole or field.name == "wait_ms" else "above 0"
                raise InputError(f"{field.name} must be {rule}; got {value:g}")
