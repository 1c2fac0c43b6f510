"""From tube scores to the saliency map (paper III-B, Eq. 2; method: section 6)."""

from __future__ import annotations

from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.kernels.saliency_map import saliency_map
from aosa_fast.methods import compat
from aosa_fast.methods.tubes import Tubes


def make_map(
    scores: Tensor, clean: Tensor, tubes: Tubes, config: Config, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Aggregates tube scores as `config.aggregate` says.

    Args:
        scores: (B, N) float32, drops S_i.
        clean: (B,) float32, the score of the whole clip.
        tubes: the occluders.
        config: gives `aggregate` and `compat`.
        height: H, pixels.
        width: W, pixels.

    Returns:
        The map (B, T, H, W) float32 in units of the score, and the coverage (B, T, H, W) int32.
    """
    if config.compat:
        return compat.weighted_map(scores, tubes.boxes, tubes.members, height, width)
    sums, coverage = saliency_map(scores, tubes.boxes, tubes.members, height, width)
    count = scores.shape[1]
    if config.aggregate == "sum":
        return sums.div_(count), coverage
    if config.aggregate == "mean":
        return sums.div_(coverage.clamp(min=1)), coverage
    # Eq. 2 weighs with f_i = f - S_i where the tube is not: the sum of all f_i less that over the covering tubes.
    clean = clean.reshape(-1, 1, 1, 1)
    total = count * clean - scores.sum(1).reshape(-1, 1, 1, 1)
    return (total - clean * coverage + sums) / count, coverage
