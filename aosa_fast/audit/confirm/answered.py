"""What a model said of findings before, kept in the audit's folder: a second report need not ask it again."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from aosa_fast.audit.confirm.choice import Choice
from aosa_fast.audit.findings.types import Confirmation, Finding
from aosa_fast.boundary import read_json, reading
from aosa_fast.errors import InputError
from aosa_fast.files import atomic_path
from aosa_fast.version import __version__

FILE = "confirmed.json"
_VERSION = 1
_KINDS = {"str": str, "bool": bool, "int": int, "float": float}


class Answered:
    """The confirmations of an audit that are known, by all that they depend on."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Takes what `run.json` says of the run.

        Raises:
            InputError: the file is there, and not as it was written.
        """
        self._path = folder / FILE
        self._identity = identity
        self._known: dict[str, dict[str, Any]] = {}
        if self._path.is_file() and not self._path.is_symlink():
            with reading(self._path, "must be as a report writes it; remove it"):
                content = read_json(self._path)
                if content["format"] == _VERSION:
                    self._known = {key: asdict(_read(value)) for key, value in content["confirmed"].items()}

    def find(self, finding: Finding, choice: Choice, seed: int) -> Confirmation | None:
        """What was found; None where something else was asked, or nothing."""
        known = self._known.get(self._key(finding, choice, seed))
        return None if known is None else _read(known)

    def keep(self, finding: Finding, choice: Choice, seed: int, found: Confirmation) -> None:
        """Remembers it, and writes the file; in a folder that cannot be written, it is asked again the next time."""
        self._known[self._key(finding, choice, seed)] = asdict(found)
        with suppress(InputError), atomic_path(self._path) as temporary:
            content = {"format": _VERSION, "confirmed": self._known}
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _key(self, finding: Finding, choice: Choice, seed: int) -> str:
        what = [finding.class_index, finding.where, finding.boxes, finding.frames, finding.offsets]
        facts = [__version__, self._identity, what, asdict(choice), seed]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _read(value: dict[str, Any]) -> Confirmation:
    own = {field.name: _KINDS[str(field.type)](value[field.name]) for field in fields(Confirmation)}
    return Confirmation(**own)
