"""The rows of an audit as arrays, for statistics: explained clips only."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aosa_fast.audit.measures import MEASURES
from aosa_fast.audit.store.schema import GRID, WINDOW
from aosa_fast.audit.tasks import OK

Floats = NDArray[np.float32]
MOST_CLIPS = 50  # that a finding names
GRIDS = {"grid": GRID, "grid_moving": GRID, "grid_signed": GRID[1:], "grid_around": (WINDOW, WINDOW)}
_PLAIN = (
    "data_label", "label", "label_name", "prediction", "prediction_name", "target", "probability",
    "label_probability", "frames", "uncovered_share", "saturated", "positive_share", "taylor_error",
    "taylor_correlation", "static_prediction",
)  # fmt: skip
COLUMNS = ("id", "status", *_PLAIN, *MEASURES, *GRIDS)  # that `read_clips` asks for


@dataclass(frozen=True, eq=False)
class PlainClips:
    """What is known of explained clips but where their maps lie; n of them, in the order of the rows.

    Attributes:
        columns: the row's columns but grids, each (n,): numbers are floats, NaN where null; texts are objects. And
            "has_map".
    """

    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["id"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def ids(self, clips: Iterable[int], most: int = MOST_CLIPS) -> tuple[str, ...]:
        """The ids of some clips, by their indices, at most so many."""
        return tuple(str(self["id"][i]) for i in islice(clips, most))

    @property
    def target(self) -> NDArray[np.int64]:
        """(n,) the class that each map explains."""
        return self["target"].astype(np.int64)

    @property
    def has_map(self) -> NDArray[np.bool_]:
        """(n,) whether anything lowers the score; shares mean nothing otherwise."""
        return np.asarray(self["has_map"], bool)

    @cached_property
    def members(self) -> dict[int, NDArray[np.int64]]:
        """The indices of the clips whose maps explain each class, by the model's index, in order."""
        order = np.argsort(self.target, kind="stable")
        classes, starts = np.unique(self.target[order], return_index=True)
        return {int(c): own for c, own in zip(classes, np.split(order, starts[1:]), strict=True)}

    @cached_property
    def names(self) -> dict[int, str]:
        """Name of each class that a clip was predicted or labelled as, by the model's index; the index where none."""
        found: dict[int, str] = {}
        for index, name in (("label", "label_name"), ("prediction", "prediction_name")):
            known = np.flatnonzero(np.isfinite(self[index]) & (self[name] != None))[::-1]  # noqa: E711 - of each
            classes, last = np.unique(self[index][known], return_index=True)
            found |= {int(c): str(text) for c, text in zip(classes, self[name][known[last]], strict=True)}
        return {label: str(label) for label in self.members} | found


@dataclass(frozen=True, eq=False)
class Clips(PlainClips):
    """Explained clips with their grids.

    Attributes:
        columns: as of `PlainClips`. And "source", the number of each clip's source.
        grids: by name: "grid" and "grid_moving" (n, 8, 8, 8), time first; "grid_signed" (n, 8, 8); "grid_around"
            (n, 9, 9). Where there is none (no motion, an empty map, a row of an older version) they are 0.
    """

    grids: dict[str, Floats]

    @property
    def source(self) -> NDArray[np.int64]:
        """(n,) the number of each clip's source, which statistics count once; see `number_sources`."""
        return self.columns["source"].astype(np.int64) if "source" in self.columns else np.arange(len(self))

    @cached_property
    def has_map(self) -> NDArray[np.bool_]:
        """(n,) as of `PlainClips`."""
        # Kept: it is asked for with each class, and sums all grids.
        return np.asarray(self.grids["grid"].sum((1, 2, 3)) > 0)


def read_clips(batch: pa.RecordBatch) -> Clips:
    """The explained ones among rows with all `COLUMNS`, texts being shared between rows.

    Raises:
        ValueError: a target or a grid that no audit writes.
    """
    batch = batch.filter(pc.equal(batch["status"], OK))
    columns = {"id": np.array(batch["id"].to_pylist(), object)}
    columns |= {name: _column(batch[name]) for name in (*_PLAIN, *MEASURES)}
    clips = Clips(columns, {name: _grid(batch[name], shape) for name, shape in GRIDS.items()})
    columns["has_map"] = clips.has_map
    if not all(np.isfinite(values).all() for values in (clips["target"], *clips.grids.values())):
        raise ValueError("a target or a grid that is not finite")
    return clips


def _column(values: Any) -> NDArray[Any]:
    if not pa.types.is_string(values.type):
        return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    coded = values.dictionary_encode()
    texts = np.array([*map(sys.intern, coded.dictionary.to_pylist()), None], object)
    return np.asarray(texts[coded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)])


def _grid(values: Any, shape: tuple[int, ...]) -> Floats:
    found = np.zeros((len(values), *shape), np.float32)
    there = values.is_valid().to_numpy(zero_copy_only=False)
    flat = values.drop_null().flatten().to_numpy(zero_copy_only=False)
    found[there] = flat.reshape(-1, *shape)
    return found
