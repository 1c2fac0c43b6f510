"""Clips to evaluate on: data sets, manifests and rendered clips, with their classes and boxes.

Names are imported when first used: the command line lists the kinds of data at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aosa_fast.data.boxes import Boxes
    from aosa_fast.data.dataset import Clip, Dataset, Sample
    from aosa_fast.data.labels import describe_unknown, match_labels, unknown_labels
    from aosa_fast.data.opening import open_dataset
    from aosa_fast.data.registry import list_datasets

__all__ = [
    "Boxes",
    "Clip",
    "Dataset",
    "Sample",
    "describe_unknown",
    "list_datasets",
    "match_labels",
    "open_dataset",
    "unknown_labels",
]

_HOMES = {
    "Boxes": "boxes",
    "Clip": "dataset",
    "Dataset": "dataset",
    "Sample": "dataset",
    "describe_unknown": "labels",
    "list_datasets": "registry",
    "match_labels": "labels",
    "open_dataset": "opening",
    "unknown_labels": "labels",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
