"""Rows of an audit without a model: plausible, complete, and the same for the same id."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from aosa_fast.audit.measures import MEASURES

CLASS_NAMES = ("sit", "stand", "walk", "run", "jump")


def fake_row(id: str, **columns: Any) -> dict[str, Any]:
    """The full row of a clip that was explained: 4 tubes over 4 frames of 32x32; `columns` replace its values."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(id.encode()).digest()[:8]))
    label = int(rng.integers(len(CLASS_NAMES)))
    logits = rng.normal(size=len(CLASS_NAMES))
    logits[label] += 3.0
    probabilities = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-probabilities)
    row = {
        "id": id,
        "path": f"/data/{id}.mp4",
        "status": "ok",
        "attempts": 1,
        "content_hash": hashlib.sha256(id.encode()).hexdigest()[:32],
        "frames": 16,
        "height": 112,
        "width": 112,
        "first_frame": int(rng.integers(100)),
        "looped": 0,
        "damaged": 0,
        "replaced": 0,
        "data_label": label,
        "label_name": CLASS_NAMES[label],
        "label": label,
        "prediction": int(order[0]),
        "prediction_name": CLASS_NAMES[order[0]],
        "probability": float(probabilities[order[0]]),
        "label_probability": float(probabilities[label]),
        "top5": order.tolist(),
        "top5_names": [CLASS_NAMES[index] for index in order],
        "top5_probabilities": probabilities[order].astype(np.float32).tolist(),
        "target": int(order[0]),
        "score": float(logits[order[0]]),
        "uncovered_share": float(rng.uniform(0, 0.01)),
        "saturated": False,
        "positive_share": float(rng.uniform(0.6, 0.9)),
        **{name: float(value) for name, value in zip(MEASURES, rng.uniform(0.1, 0.9, len(MEASURES)), strict=True)},
        "effective_frames": float(rng.uniform(4, 16)),
        "grid": _shares(rng, 512),
        "grid_moving": _shares(rng, 512),
        "grid_around": _shares(rng, 81),
        **fake_map(rng),
        **{f"seconds_{name}": 0.0625 for name in ("read", "flow", "motion", "model", "measures")},
    }
    return {**row, **columns}


def fake_failure(id: str, status: str = "error", **columns: Any) -> dict[str, Any]:
    """The row of a clip that could not be read."""
    row = {"id": id, "path": f"/data/{id}.mp4", "data_label": 0, "status": status, "stage": "read", "attempts": 1}
    return {**row, "error": f"/data/{id}.mp4: must be a video; it is empty", **columns}


def fake_map(rng: np.random.Generator) -> dict[str, Any]:
    """The columns of a small map that can be drawn: anchors at rest, tubes of two members."""
    tracks = np.zeros((4, 2, 4), "<i2")
    tracks[0] = rng.integers(8, 24, (2, 4))
    return {
        "map_shape": [4, 4, 2, 32, 32, 8, 8],
        "map_tracks": tracks.tobytes(),
        "map_alive": np.packbits(np.ones((4, 4), bool)).tobytes(),
        "map_members": np.array([[0, 1], [1, 2], [2, 3], [3, 0]], "<i2").tobytes(),
        "map_scores": rng.normal(1, 0.5, 4).astype("<f4").tobytes(),
        "map_aggregate": "mean",
    }


def _shares(rng: np.random.Generator, cells: int) -> list[float]:
    values = rng.random(cells)
    return (values / values.sum()).astype(np.float32).tolist()
