"""Pictures of the clips that the page names, drawn again from the rows of an audit and its data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.report.strips import draw_strip
from aosa_fast.audit.report.text import shell_word
from aosa_fast.audit.store.compact import load_map
from aosa_fast.audit.store.run_folder import read_run
from aosa_fast.audit.tasks import OK, Row, sample_of
from aosa_fast.data import Clip, Dataset, open_dataset
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing

_CAPTION = (
    "id", "status", "stage", "attempts", "error", "label_name", "data_label", "prediction_name", "prediction",
    "probability",
)  # fmt: skip
_SOURCE = (
    "id",
    "path",
    "start",
    "end",
    "seed",
    "data_label",
    "frames",
    "height",
    "width",
    "first_frame",
    "content_hash",
)
_MAP = (
    "status", "label", "target", "score", "map_shape", "map_tracks", "map_alive", "map_members", "map_scores",
    "map_scores_label", "map_aggregate",
)  # fmt: skip
MOST = 200
_LARGE = 1 << 28  # bytes


@dataclass(frozen=True)
class Caption:
    """What a row says of a clip; None where it says nothing.

    Attributes:
        label: the class by the data.
        prediction: the class by the model.
        probability: of the prediction.
        status: "ok", "error" or "quarantined".
        stage: where it failed: "read" or "explain".
        attempts: how often it was tried.
        error: why it failed.
    """

    label: str | None = None
    prediction: str | None = None
    probability: float | None = None
    status: str | None = None
    stage: str | None = None
    attempts: int | None = None
    error: str | None = None


class Pictures(Protocol):
    """What the page needs of the clips that it names."""

    @property
    def most(self) -> int:
        """How many filmstrips the page may have at most."""

    def prepare(self, ids: Collection[str], filmstrips: Collection[str]) -> None:
        """Told once, before all else, which clips are named, and which of them are shown."""

    def filmstrip(self, id: str) -> bytes | None:
        """A WebP, JPEG or PNG of the clip, frames under their maps above the plain frames; None if there is none."""

    def note(self, id: str) -> str:
        """What to know of the filmstrip, or why there is none; "" for nothing. Asked after `filmstrip`."""

    def caption(self, id: str) -> Caption:
        """What the audit found about the clip."""

    def command(self, id: str) -> str:
        """The command that draws the clip's map in full."""


class ClipPictures:
    """Pictures of an audit's folder: see `Pictures`. Clips are read again from where they were.

    Args:
        folder: of the audit.
        most: at most so many filmstrips, 15 to 25 kB each.

    Raises:
        InputError: it holds no audit.
    """

    def __init__(self, folder: Path, *, most: int = MOST) -> None:
        self._folder = folder
        self._most = most
        run = read_run(folder)
        self._facts: dict[str, Any] = run["facts"]
        self._preprocessing: Preprocessing | None = None
        self._captions: dict[str, Caption] = {}
        self._rows: dict[str, Row] = {}
        self._notes: dict[str, str] = {}
        self._dataset: Dataset | None = None
        self._closed = ""
        given = run["identity"].get("preprocessing")
        if not isinstance(given, dict):
            self._closed = "run.json does not say how clips were prepared"
        elif "class" in given:
            # Anything else than its own code would show other pixels than the model saw.
            self._closed = f"the model prepares clips by code of its own, {given['class']}, which only it can run again"
        else:
            try:
                self._preprocessing = Preprocessing.from_dict(given)
            except InputError as error:
                raise InputError(f"run.json: identity.{error}") from None

    @property
    def most(self) -> int:
        """How many filmstrips the page may have at most."""
        return self._most

    def prepare(self, ids: Collection[str], filmstrips: Collection[str]) -> None:
        """Reads the rows of these clips; those with filmstrips take some 12 kB each until they are drawn.

        Raises:
            InputError: the parts of the audit cannot be read.
        """
        self._captions = {row["id"]: _caption(row) for row in find_rows(self._folder, ids, _CAPTION)}
        self._rows = {row["id"]: row for row in find_rows(self._folder, filmstrips, (*_SOURCE, *_MAP))}

    def filmstrip(self, id: str) -> bytes | None:
        """Six frames of the clip under their maps above the plain ones, as WebP, drawn anew on each call.

        None where the clip cannot be read any more, or is not the one that was audited; `note` says why. Where the
        audit kept no map, the frames stand alone, and `note` says so.
        """
        try:
            picture, self._notes[id] = self._draw(id)
        except (InputError, OSError) as error:
            picture, self._notes[id] = None, str(error)
        except Exception as error:  # noqa: BLE001 - whatever a decoder makes of a file that changed, there is a page
            picture, self._notes[id] = None, f"{type(error).__name__}: {error}"
        return picture

    def note(self, id: str) -> str:
        """What to know of the filmstrip; "" before it was drawn."""
        return self._notes.get(id, "")

    def caption(self, id: str) -> Caption:
        """What the row says; all None for a clip that was not prepared, or has no row."""
        return self._captions.get(id, Caption())

    def command(self, id: str) -> str:
        """A line for a shell."""
        words = [shell_word(str(self._folder)), shell_word(id)]
        # What begins like an option is none behind these dashes.
        return " ".join(["aosa-fast audit-clip", *["--"] * any(word.startswith("-") for word in words), *words])

    def _draw(self, id: str) -> tuple[bytes | None, str]:
        row = self._rows.get(id)
        if row is None or row["status"] != OK:
            return None, "the audit has no row of it" if row is None else "it could not be explained"
        clip = self._read(row)
        if clip is None:
            return None, self._closed
        expected = (row["frames"], row["height"], row["width"])
        same = clip.frames.shape[:3] == expected and clip.indices[0] == row["first_frame"]
        if not same or _file_hash(row["path"]) not in (None, row["content_hash"]):
            return None, "its source has changed since the audit"
        if row["map_shape"] is None:
            return draw_strip(clip.frames, None), "plain frames: the audit kept no maps (maps=summary)"
        return draw_strip(clip.frames, load_map(row)), ""

    def _read(self, row: Row) -> Clip | None:
        """None where the data set cannot be opened."""
        if self._dataset is None and not self._closed:
            facts = self._facts
            try:
                self._dataset = open_dataset(
                    str(facts.get("data")), annotations=facts.get("annotations"), split=facts.get("split")
                )
            except (InputError, OSError) as error:
                self._closed = f"the data set cannot be opened: {error}"
        if self._dataset is None or self._preprocessing is None:
            return None
        return self._dataset.read(sample_of(row), self._preprocessing)


def _caption(row: Row) -> Caption:
    return Caption(
        label=_name(row["label_name"], row["data_label"]),
        prediction=_name(row["prediction_name"], row["prediction"]),
        **{name: row[name] for name in ("probability", "status", "stage", "attempts", "error")},
    )


def _name(name: str | None, index: int | None) -> str | None:
    return name if name is not None or index is None else str(index)


def _file_hash(path: str | None) -> str | None:
    """What a row's `content_hash` must be; None for what is rendered, a folder, or so large that reading it is slow."""
    if path is None or not os.path.isfile(path) or os.path.getsize(path) > _LARGE:
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
