"""Made-up clips of an audit, for tests of the statistics: maps as one wishes, without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.store.schema import MEASURES

Change = Callable[[np.random.Generator, dict[str, Any]], None]


def make_clips(classes: int = 5, per_class: int = 24, seed: int = 0, change: dict[int, Change] | None = None) -> Clips:
    """Clips whose motion is anywhere, and whose maps follow it, in all classes alike.

    Args:
        classes: how many.
        per_class: clips of each.
        seed: of all that is random.
        change: by class, called with a generator and the clip's values, which it may change: "grid" and "grid_moving"
            (8, 8, 8), "grid_around" (9, 9), and the columns.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(classes * per_class):
        label = i % classes
        moving = _blob(rng)
        spread = rng.dirichlet(np.full(512, 2.0)).reshape(8, 8, 8)
        row: dict[str, Any] = {
            "id": f"clip/{i:04d}",
            "label": label,
            "prediction": label,
            "target": label,
            "label_name": f"class {label}",
            "prediction_name": f"class {label}",
            "probability": rng.uniform(0.9, 0.95),
            "label_probability": 0.9,
            "frames": 16,
            "uncovered_share": 0.05,
            "saturated": False,
            "positive_share": rng.uniform(0.6, 0.8),
            "taylor_error": np.nan,
            "taylor_correlation": np.nan,
            "static_prediction": np.nan,
            **dict.fromkeys(MEASURES, np.nan),
            "share_border": rng.uniform(0.2, 0.3),
            "share_static": 0.0,
            "area_static": 0.0,
            "share_moving": rng.uniform(0.4, 0.6),
            "best_frame_share": rng.uniform(0.08, 0.12),
            "effective_area": rng.uniform(0.3, 0.4),
            "centroid_x": rng.uniform(0.4, 0.6),
            "centroid_y": rng.uniform(0.4, 0.6),
            "spread": rng.uniform(0.2, 0.25),
            "grid": 0.5 * moving + 0.5 * spread,
            "grid_moving": moving,
            "grid_around": 0.3 * rng.dirichlet(np.full(81, 2.0)).reshape(9, 9),
        }
        if change and label in change:
            change[label](rng, row)
        rows.append(row)
    texts = ("id", "label_name", "prediction_name")
    columns = {
        name: np.array([row[name] for row in rows], object if name in texts else float)
        for name in rows[0]
        if not name.startswith("grid")
    }
    grids = {
        name: np.stack([row[name] for row in rows]).astype(np.float32)
        for name in ("grid", "grid_moving", "grid_around")
    }
    return Clips(columns, grids)


def lit(grid: np.ndarray, where: tuple[Any, ...], share: float) -> np.ndarray:
    """A grid with this share of its mass moved, in equal parts, to some cells."""
    target = np.zeros_like(grid)
    target[where] = 1
    return (1 - share) * grid + share * grid.sum() * target / target.sum()


def _blob(rng: np.random.Generator) -> np.ndarray:
    """(8, 8, 8), sums to 1: two cells a side, somewhere, through the whole clip."""
    grid = np.zeros((8, 8, 8))
    row, column = rng.integers(0, 7, 2)
    grid[:, row : row + 2, column : column + 2] = 1
    return grid / grid.sum()
