"""Models by name: a network with its preprocessing, its class names and its anatomy.

Names are imported when first used: preprocessing alone does without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosa_fast.lazy import lazy

if TYPE_CHECKING:
    from aosa_fast.models.classifier import Classifier
    from aosa_fast.models.loading import load
    from aosa_fast.models.preprocess import Preprocessing

__all__ = ["Classifier", "Preprocessing", "load"]

__getattr__ = lazy(__name__, {"Classifier": "classifier", "Preprocessing": "preprocess", "load": "loading"})
