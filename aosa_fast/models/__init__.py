"""Models by name: a network with its preprocessing, its class names and its anatomy."""

from __future__ import annotations

from aosa_fast.models.classifier import Classifier
from aosa_fast.models.loading import load
from aosa_fast.models.preprocess import Preprocessing

__all__ = ["Classifier", "Preprocessing", "load"]
