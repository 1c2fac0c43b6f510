"""Pictures of the clips that the page names, drawn again from the rows of an audit and its data set."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.report.links import clip_link, page_link
from aosa_fast.audit.report.rows import find_rows, label_of, name_of
from aosa_fast.audit.report.strips import draw_moving, draw_strip
from aosa_fast.audit.report.text import shell_word
from aosa_fast.audit.store.compact import load_map
from aosa_fast.audit.store.run_folder import RUN, read_run
from aosa_fast.audit.store.schema import GRID, SCHEMA
from aosa_fast.audit.store.strip import unpack_strip
from aosa_fast.audit.tasks import OK, Row, sample_of
from aosa_fast.data import Dataset
from aosa_fast.data.content import content_id
from aosa_fast.data.opening import open_recorded
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing

_CAPTION = (
    "id", "path", "status", "stage", "attempts", "error", "label_name", "data_label", "prediction_name", "prediction",
    "probability",
)  # fmt: skip
_FILMSTRIP = tuple(name for name in SCHEMA.names if not name.startswith("grid_"))
_LARGE = 1 << 28  # bytes


@dataclass(frozen=True)
class Caption:
    """What a row says of a clip; None where it says nothing."""

    label: str | None = None  # the class by the data
    prediction: str | None = None  # the class by the model
    probability: float | None = None  # of the prediction
    status: str | None = None  # "ok", "error" or "quarantined"
    stage: str | None = None  # where it failed: "read" or "explain"
    attempts: int | None = None  # how often it was tried
    error: str | None = None  # why it failed
    path: str | None = None  # of its file, or address


class ClipPictures:
    """What the page needs of the clips that it names. Clips are read again from where they were.

    Args:
        folder: of the audit.
        trust: whether data whose opening runs code are opened because the folder names them.

    Raises:
        InputError: it holds no audit.
    """

    def __init__(self, folder: Path, *, trust: bool = False) -> None:
        self._folder, self._trust = folder, trust
        run = read_run(folder)
        self._facts: dict[str, Any] = run["facts"]
        self._captions: dict[str, Caption] = {}
        self._rows: dict[str, Row] = {}
        self._moving: dict[str, bytes] = {}
        self._dataset: Dataset | None = None
        self._closed = ""  # why no clip can be read
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

    def prepare(self, ids: Collection[str], filmstrips: Collection[str]) -> None:
        """Told once, before all else, which clips are named, and which of them are shown.

        Reads the rows of these clips; those with filmstrips take some 12 kB each until they are drawn.

        Raises:
            InputError: the parts of the audit cannot be read.
        """
        self._captions = {row["id"]: _caption(row) for row in find_rows(self._folder, ids, _CAPTION)}
        self._rows = {row["id"]: row for row in find_rows(self._folder, filmstrips, _FILMSTRIP)}

    def filmstrip(self, id: str) -> tuple[bytes | None, str]:
        """Six frames of the clip under the field, under the map, and as they are, as WebP, drawn anew on each call.

        The frames are those that the row has kept, if it has, else read again. The field, which measures are taken of,
        is drawn from the row's 8 x 8 x 8 cells.

        Returns:
            The picture, or None where the clip cannot be read any more, or is not the one that was audited; and what to
            know of it, or why there is none.
        """
        try:
            return self._draw(id)
        except (InputError, OSError) as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - whatever a decoder makes of a file that changed, there is a page
            return None, f"{type(error).__name__}: {error}"

    def moving(self, id: str) -> bytes | None:
        """A clip that a browser cannot open, as an animated WebP, once its filmstrip is drawn; else None."""
        return self._moving.pop(id, None)

    def caption(self, id: str) -> Caption:
        """What the audit found about the clip; all None for one that was not prepared, or has no row."""
        return self._captions.get(id, Caption())

    def command(self, id: str) -> str:
        """A line for a shell that draws the clip's map in full."""
        words = [shell_word(str(self._folder)), shell_word(id)]
        # What begins like an option is none behind these dashes.
        return " ".join(["aosa-fast audit-clip", *["--"] * any(word.startswith("-") for word in words), *words])

    def _draw(self, id: str) -> tuple[bytes, str]:
        row = self._rows.get(id)
        if row is None or row["status"] != OK:
            raise InputError("the audit has no row of it" if row is None else "it could not be explained")
        field = None if row["grid"] is None else np.array(row["grid"], np.float32).reshape(GRID)
        frames = self._read(row) if row["strip"] is None else unpack_strip(row["strip"], row["frames"])
        if not page_link(clip_link(row["path"], self._folder)):
            self._moving[id] = draw_moving(frames)
        if row["map_shape"] is None:
            return draw_strip(frames, None, field), "without its map: the audit kept no maps (maps=summary)"
        return draw_strip(frames, load_map(row), field), ""

    def _read(self, row: Row) -> NDArray[np.uint8]:
        """The clip's frames, read again."""
        if self._dataset is None and not self._closed:
            facts = {name: self._facts.get(name) for name in ("data", "annotations", "split")}
            try:
                self._dataset = open_recorded(facts, self._folder / RUN, trust=self._trust)
            except (InputError, OSError) as error:
                self._closed = f"the data set cannot be opened: {error}"
        if self._dataset is None:
            raise InputError(self._closed)
        clip = self._dataset.read(sample_of(row), self._preprocessing)
        expected = (row["frames"], row["height"], row["width"])
        same = clip.frames.shape[:3] == expected and clip.indices[0] == row["first_frame"]
        if not same or _file_hash(row["path"]) not in (None, row["content_hash"]):
            raise InputError("its source has changed since the audit")
        return clip.frames


def _caption(row: Row) -> Caption:
    return Caption(
        label=label_of(row),
        prediction=name_of(row["prediction_name"], row["prediction"]),
        **{name: row[name] for name in ("probability", "status", "stage", "attempts", "error", "path")},
    )


def _file_hash(path: str | None) -> str | None:
    """What a row's `content_hash` must be; None for what is rendered, a folder, or so large that reading it is slow."""
    if path is None or not os.path.isfile(path) or os.path.getsize(path) > _LARGE:
        return None
    return content_id(path)
