"""How good is a map? Measures of the paper and around it, for maps from anywhere, as (B, T, H, W) or (T, H, W).

from aosa_fast import metrics
metrics.overall(model, video, saliency, target, protocol="aosa-28-fill").area
"""

from __future__ import annotations

from aosa_fast.metrics.causal import causal_metrics, deletion, insertion, overall
from aosa_fast.metrics.pointing import (
    Pointing,
    box_iou,
    box_mass,
    box_share,
    energy_pointing,
    pool_pointing,
    spatial_pointing,
)
from aosa_fast.metrics.protocol import PROTOCOLS, Curve, Overall, Protocol, find_protocol
from aosa_fast.metrics.sanity import SanityStage, default_stages, sanity_check
from aosa_fast.metrics.similarity import spearman, ssim
from aosa_fast.metrics.taylor import TaylorError, taylor_error, taylor_error_of

__all__ = [
    "PROTOCOLS", "Curve", "Overall", "Pointing", "Protocol", "SanityStage", "TaylorError", "box_iou", "box_mass",
    "box_share", "causal_metrics", "default_stages", "deletion", "energy_pointing", "find_protocol", "insertion",
    "overall", "pool_pointing", "sanity_check", "spatial_pointing", "spearman", "ssim", "taylor_error",
    "taylor_error_of",
]  # fmt: skip
