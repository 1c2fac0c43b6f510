"""aosa_fast: see what a video classifier looks at.

    import aosa_fast
    explanation = aosa_fast.explain("demo", "clip.mp4", target="pred")
    explanation.save_overlay("overlay.mp4")

`logging.getLogger("aosa_fast")` says what was read, applied and chosen (INFO), and how it is run (DEBUG).

Names are imported when first used, so that the command line answers at once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aosa_fast.errors import InputError, VideoError
from aosa_fast.lazy import lazy
from aosa_fast.version import __version__

if TYPE_CHECKING:
    from aosa_fast import audit, data, evaluation, metrics, models, video
    from aosa_fast.attribution import AOSA, AOSAApprox, AOSADual, AOSAPath
    from aosa_fast.audit.store.compact import load_map
    from aosa_fast.config import Config
    from aosa_fast.display.comparison import Comparison
    from aosa_fast.evaluation.compare import compare
    from aosa_fast.explainer import Explainer
    from aosa_fast.explanation import Explanation
    from aosa_fast.methods.registry import list_methods
    from aosa_fast.models.registry import list_models
    from aosa_fast.pipeline import explain
    from aosa_fast.streams.explainer import StreamingExplainer
    from aosa_fast.targets import Difference

logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "AOSA",
    "AOSAApprox",
    "AOSADual",
    "AOSAPath",
    "Comparison",
    "Config",
    "Difference",
    "Explainer",
    "Explanation",
    "InputError",
    "StreamingExplainer",
    "VideoError",
    "__version__",
    "audit",
    "compare",
    "data",
    "evaluation",
    "explain",
    "list_methods",
    "list_models",
    "load_map",
    "metrics",
    "models",
    "video",
]

__getattr__ = lazy(
    __name__,
    {
        "AOSA": "attribution",
        "AOSAApprox": "attribution",
        "AOSADual": "attribution",
        "AOSAPath": "attribution",
        "Comparison": "display.comparison",
        "Config": "config",
        "Difference": "targets",
        "Explainer": "explainer",
        "Explanation": "explanation",
        "StreamingExplainer": "streams.explainer",
        "compare": "evaluation.compare",
        "explain": "pipeline",
        "list_methods": "methods.registry",
        "list_models": "models.registry",
        "load_map": "audit.store.compact",
    },
    packages=("audit", "data", "evaluation", "metrics", "models", "video"),
)


def __dir__() -> list[str]:
    return __all__
