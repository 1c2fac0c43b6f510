"""Models by name: a network with its preprocessing, its class names and its anatomy.

Names are imported when first used: preprocessing alone does without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aosa_fast.models.classifier import Classifier
    from aosa_fast.models.loading import load
    from aosa_fast.models.preprocess import Preprocessing

__all__ = ["Classifier", "Preprocessing", "load"]

_HOMES = {"Classifier": "classifier", "Preprocessing": "preprocess", "load": "loading"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
