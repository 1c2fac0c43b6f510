"""An audit as exports see it: its clips one after the other, each with what was found about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.exports.geometry import Source, find_source
from aosa_fast.audit.exports.tracks import Track, find_tracks
from aosa_fast.audit.findings.types import TIME
from aosa_fast.audit.report.rows import label_of, name_of
from aosa_fast.audit.store.compact import load_map
from aosa_fast.audit.store.parts import iter_rows
from aosa_fast.audit.store.run_folder import RUN, read_run
from aosa_fast.audit.store.schema import GRID, SCHEMA
from aosa_fast.audit.tasks import OK, Row
from aosa_fast.boundary import reading
from aosa_fast.data.parquet import open_parquet
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.progress import Progress

FINDINGS = "findings.parquet"
_BATCH = 256  # rows held at once
FLAT = tuple(name for name in SCHEMA.names if not name.startswith(("grid", "map_")))


@dataclass(frozen=True)
class Named:
    """A finding that names a clip."""

    kind: str
    where: str
    class_name: str
    text: str
    frames: tuple[int, ...]  # the eighths of the clip that it is about

    @property
    def tag(self) -> str:
        """Its kind, and its place where it has one."""
        return f"{self.kind}:{self.where}" if self.where else self.kind


@dataclass(frozen=True, eq=False)
class ExportedClip:
    """A row of an audit.

    Attributes:
        row: by column.
        findings: those that name the clip, the most important first.
        preprocessing: the model's; None where only the model knows it.
    """

    row: Row
    findings: tuple[Named, ...]
    preprocessing: Preprocessing | None

    @property
    def label(self) -> str | None:
        """The name of its class, or its number as text; None without a label."""
        return label_of(self.row)

    @property
    def prediction(self) -> str | None:
        """The name or number of the class that the model gives it; None of a clip that failed."""
        return name_of(self.row["prediction_name"], self.row["prediction"])

    @property
    def explained(self) -> str:
        """The name or number of the class that its map explains."""
        row = self.row
        names = dict(zip(row["top5"] or (), row["top5_names"] or (), strict=False))
        own = self.label if row["target"] == row["label"] else None
        return name_of(names.get(row["target"]) or own, row["target"]) or ""

    @property
    def tags(self) -> list[str]:
        """What to look for it by: the findings about it, and whether it failed, or is not what its label says."""
        found = list(dict.fromkeys(finding.tag for finding in self.findings))
        if self.row["status"] != OK:
            found.append(self.row["status"])
        elif self.row["label"] is not None and self.row["label"] != self.row["prediction"]:
            found.append("mismatch")
        return found

    @property
    def has_map(self) -> bool:
        """Whether its row has one. Raises an InputError for one that is not of the clip."""
        row, shape = self.row, self.row["map_shape"]
        if row["status"] != OK or shape is None:
            return False
        wanted = [row[name] for name in ("frames", "height", "width")]
        if [*shape[1:2], *shape[3:5]] != wanted:
            raise InputError(
                f"{row['id']}: map_shape must be of its {' x '.join(map(str, wanted))} voxels; got {shape}"
            )
        return True

    @cached_property
    def source(self) -> Source | None:
        """Of what frames it is; None where that can no longer be found out."""
        return find_source(self.row, self.preprocessing)

    def tracks(self, most: int = 3) -> list[Track]:
        """Its strongest tubes in pixels of the source; none without a map or a source."""
        source = self.source
        return find_tracks(self.row, source, most) if self.has_map and source is not None else []

    def heatmaps(self) -> NDArray[np.float32]:
        """(T, H, W): its map over whole frames of the source, resized as the model has them; 0 beside the crop."""
        values = np.nan_to_num(load_map(self.row), posinf=0, neginf=0)
        return values if self.source is None else self.source.spread(values)

    def times(self) -> list[tuple[Named, int, int]]:
        """The findings about its time, each with the first and the last frame of the source that they are about."""
        source = self.source
        found = []
        for finding in self.findings if source is not None else ():
            if finding.where == TIME and self.row["grid"] is not None:
                parts = finding.frames or (int(_by_time(self.row["grid"]).argmax()),)
                for part in parts:
                    assert source is not None
                    shown = source.shown(part / GRID[0], (part + 1) / GRID[0])
                    found.append((finding, shown[0], shown[-1]))
        return found


class Audit:
    """An audit's folder.

    Attributes:
        run: what its run.json holds.
        class_names: of the model, by index; None where they are not known.
        preprocessing: of the model; None for one of a class of its own.
    """

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        """Reads all but the rows.

        Raises:
            InputError: there is no audit, or it cannot be read.
        """
        self.folder, self._progress = folder, progress
        self.run = read_run(folder)
        self.class_names: list[str] | None = self.run["facts"].get("class_names")
        with reading(folder / RUN, "must hold the preprocessing of a model", named=False):
            plain = self.run["identity"]["preprocessing"]
            self.preprocessing = None if "class" in plain else Preprocessing.from_dict(plain)
        self._findings = _read_findings(folder / FINDINGS)

    def clips(self, columns: Sequence[str] = SCHEMA.names) -> Iterator[ExportedClip]:
        """All clips, in the order of their rows, few of them at once.

        Raises:
            InputError: a part of the audit cannot be read.
        """
        total, done = int(self.run["facts"].get("clips") or 0), 0
        for batch in iter_rows(self.folder, columns, _BATCH):
            for row in batch.to_pylist():
                # What a broken model made has no place in JSON.
                row |= {name: None for name, value in row.items() if isinstance(value, float) and not isfinite(value)}
                yield ExportedClip(row, self._findings.get(row["id"], ()), self.preprocessing)
            done += batch.num_rows
            if self._progress:
                self._progress(done, max(total, done), "")


def _read_findings(path: Path) -> dict[str, tuple[Named, ...]]:
    """The findings about each clip that `audit-report` has left; none where it did not run."""
    if not path.is_file():
        return {}
    with reading(path, "must be a table of findings"), open_parquet(path) as table:
        wanted = ["kind", "where", "class_name", "text", "clips", *({"frames"} & set(table.schema_arrow.names))]
        rows = table.read(wanted).to_pylist()
        found: dict[str, tuple[Named, ...]] = {}
        for row in rows:
            kind, where, name, text = (str(row[column] or "") for column in ("kind", "where", "class_name", "text"))
            named = Named(kind, where, name, text, tuple(row.get("frames") or ()))
            for id in row["clips"] or ():
                found[id] = (*found.get(id, ()), named)
    return found


def _by_time(grid: list[float]) -> NDArray[np.float64]:
    return np.asarray(grid, np.float64).reshape(GRID).sum((1, 2))
