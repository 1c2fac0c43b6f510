"""Models by name: a network with its preprocessing and its class names."""

from __future__ import annotations

from aosa_fast.models.loading import Classifier, load
from aosa_fast.models.preprocess import Preprocessing

__all__ = ["Classifier", "Preprocessing", "load"]
