"""Clips to evaluate on: data sets, manifests and rendered clips, with their classes and boxes."""

from __future__ import annotations

from aosa_fast.data.boxes import Boxes
from aosa_fast.data.dataset import Clip, Dataset, Sample
from aosa_fast.data.labels import describe_unknown, match_labels, unknown_labels
from aosa_fast.data.opening import open_dataset

__all__ = ["Boxes", "Clip", "Dataset", "Sample", "describe_unknown", "match_labels", "open_dataset", "unknown_labels"]
