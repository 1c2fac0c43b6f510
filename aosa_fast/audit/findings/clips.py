"""The rows of an audit as arrays, for statistics: explained clips only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aosa_fast.audit.findings.sources import number_sources
from aosa_fast.audit.measures import MEASURES
from aosa_fast.audit.store.parts import read_rows
from aosa_fast.audit.store.schema import GRID, WINDOW
from aosa_fast.boundary import reading
from aosa_fast.errors import InputError

Floats = NDArray[np.float32]
_GRIDS = {"grid": GRID, "grid_moving": GRID, "grid_around": (WINDOW, WINDOW)}
_PLAIN = (
    "id", "data_label", "label", "label_name", "prediction", "prediction_name", "target", "probability",
    "label_probability", "frames", "uncovered_share", "saturated", "positive_share", "taylor_error",
    "taylor_correlation", "static_prediction",
)  # fmt: skip
_SOURCE = ("group", "frame_hash", "appearance")


@dataclass(frozen=True, eq=False)
class Clips:
    """Explained clips, in the order of the rows; n of them.

    Attributes:
        columns: the row's columns but grids, each (n,): numbers are float64, NaN where null; texts are objects. And
            "source", the number of each clip's source.
        grids: by name: "grid" and "grid_moving" (n, 8, 8, 8), time first; "grid_around" (n, 9, 9). Where there is none
            (no motion, an empty map) they are 0.
    """

    columns: dict[str, NDArray[Any]]
    grids: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.columns["id"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def ids(self, clips: Iterable[int], most: int = 50) -> tuple[str, ...]:
        """The ids of some clips, by their indices, at most so many."""
        return tuple(str(self["id"][i]) for i in islice(clips, most))

    @property
    def target(self) -> NDArray[np.int64]:
        """(n,) the class that each map explains."""
        return self["target"].astype(np.int64)

    @property
    def source(self) -> NDArray[np.int64]:
        """(n,) the number of each clip's source, which statistics count once; see `number_sources`."""
        return self.columns["source"].astype(np.int64) if "source" in self.columns else np.arange(len(self))

    @property
    def has_map(self) -> NDArray[np.bool_]:
        """(n,) whether anything lowers the score; shares mean nothing otherwise."""
        return np.asarray(self.grids["grid"].reshape(len(self), -1).sum(1) > 0)

    @cached_property
    def names(self) -> dict[int, str]:
        """Name of each class that a clip was predicted or labelled as, by the model's index; the index where none."""
        found: dict[int, str] = {}
        for index, name in (("label", "label_name"), ("prediction", "prediction_name")):
            for i, text in zip(self[index], self[name], strict=True):
                if np.isfinite(i) and text is not None:
                    found[int(i)] = str(text)
        return {int(i): found.get(int(i), str(int(i))) for i in np.unique(self.target)} | found


def load_clips(folder: Path) -> Clips:
    """The explained clips of an audit.

    Raises:
        InputError: there are none, or the folder is no audit.
    """
    table = read_rows(folder, ["status", *_PLAIN, *_SOURCE, *MEASURES, *_GRIDS])
    table = table.filter(pa.compute.equal(table["status"], "ok"))
    if not len(table):
        raise InputError(f"{folder}: must hold at least one explained clip; got none")
    with reading(folder, "must hold rows as an audit writes them"):
        columns: dict[str, NDArray[Any]] = {}
        for name in (*_PLAIN, *MEASURES):
            values = table[name].combine_chunks()
            if pa.types.is_string(values.type):
                columns[name] = np.array(values.to_pylist(), object)
            else:
                columns[name] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        columns["source"] = number_sources(*(table[name].to_pylist() for name in _SOURCE))
        clips = Clips(columns, {name: _grid(table[name].combine_chunks(), shape) for name, shape in _GRIDS.items()})
        if not all(np.isfinite(values).all() for values in (clips["target"], *clips.grids.values())):
            raise ValueError("a target or a grid that is not finite")
    return clips


def _grid(values: Any, shape: tuple[int, ...]) -> Floats:
    found = np.zeros((len(values), *shape), np.float32)
    there = values.is_valid().to_numpy(zero_copy_only=False)
    flat = values.drop_null().flatten().to_numpy(zero_copy_only=False)
    found[there] = flat.reshape(-1, *shape)
    return found
