"""Clips to evaluate on: data sets, manifests and rendered clips, with their classes and boxes.

Names are imported when first used: the command line lists the kinds of data at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosa_fast.lazy import lazy

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

__getattr__ = lazy(
    __name__,
    {
        "Boxes": "boxes",
        "Clip": "dataset",
        "Dataset": "dataset",
        "Sample": "dataset",
        "describe_unknown": "labels",
        "list_datasets": "registry",
        "match_labels": "labels",
        "open_dataset": "opening",
        "unknown_labels": "labels",
    },
)
