"""Maps from anywhere, and how alike two of them are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.errors import InputError
from aosa_fast.libraries import check_libraries

Map = Tensor | NDArray[Any]

SSIM_WINDOW = 7  # pixels, or the largest odd number that fits the frame


def read_map(saliency: Map, name: str = "saliency") -> Tensor:
    """A map from anywhere, (B, T, H, W) or (T, H, W) of any real dtype, as (B, T, H, W) float64 on its own device.

    Raises:
        InputError: another shape or kind of numbers, nothing in it, NaN or infinity.
    """
    if not isinstance(saliency, Tensor | np.ndarray):
        raise InputError(f"{name} must be a tensor or a NumPy array; got {type(saliency).__name__}")
    real = not saliency.is_complex() if isinstance(saliency, Tensor) else saliency.dtype.kind in "fiub"
    if not real:
        raise InputError(f"{name} must be real numbers; got {saliency.dtype}")
    if saliency.ndim not in (3, 4) or 0 in saliency.shape:
        hint = "; it must hold one value per voxel, so sum over the channels first" if saliency.ndim == 5 else ""
        raise InputError(
            f"{name} must have shape (B, T, H, W) or (T, H, W), nothing empty; got {tuple(saliency.shape)}{hint}"
        )
    if isinstance(saliency, Tensor):
        values = saliency.detach().double()
    else:  # copied by NumPy: torch knows neither other byte orders nor negative strides
        values = torch.from_numpy(saliency.astype(np.float64))
    if not torch.isfinite(values).all():
        raise InputError(f"{name} must be finite; got NaN or infinity")
    return values.unsqueeze(0) if values.ndim == 3 else values


def spearman(first: Map, second: Map) -> Tensor:
    """Rank correlation of two maps of one shape, over all voxels of a clip; ties get their average rank.

    Returns:
        (B,) float64 in main memory, from -1 to 1; NaN where one of the maps is constant.

    Raises:
        InputError: maps of different shapes, or as `read_map`.
    """
    return per_clip(rank_correlation(a, b) for a, b in _pairs(first, second))


def ssim(first: Map, second: Map) -> Tensor:
    """Structural similarity of two maps: the mean over frames (Wang et al., 2004; scikit-image's). As `spearman`.

    Each map is first scaled to 0..1 over its clip. The window is uniform, 7 pixels or what fits the frame.

    Raises:
        InputError: no scikit-image, frames under 3 pixels, or as `spearman`.
    """
    check_libraries("skimage", extra="evaluate", what="ssim")
    from skimage import metrics

    structural_similarity: Any = metrics.structural_similarity
    values = []
    for a, b in _pairs(first, second):
        window = min(SSIM_WINDOW, *a.shape[1:])
        window -= 1 - window % 2
        if window < 3:
            raise InputError(f"maps must have frames of at least 3x3 pixels for ssim; got {a.shape[1]}x{a.shape[2]}")
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            values.append(float("nan"))
            continue
        a, b = ((part - part.min()) / np.ptp(part) for part in (a, b))
        frames = [structural_similarity(p, q, win_size=window, data_range=1.0) for p, q in zip(a, b, strict=True)]
        values.append(float(np.mean(frames)))
    return per_clip(values)


def per_clip(values: Iterable[float]) -> Tensor:
    """(B,) float64 in main memory."""
    return torch.tensor(list(values), dtype=torch.float64, device="cpu")


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's coefficient of all values of two arrays; NaN where one of them is constant."""
    return correlation(average_ranks(first), average_ranks(second))


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's coefficient of all values of two arrays; NaN where one of them is constant."""
    centred = []
    for values in (first, second):
        spread = float(np.ptp(values))
        if spread == 0:
            return float("nan")
        unit = (values.ravel() - values.min()) / spread  # squares of very small or large values would not fit
        centred.append(unit - unit.mean())
    a, b = centred
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank of each value from 1, the smallest; ties get their average rank."""
    _, place, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks


def _pairs(first: Map, second: Map) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    a, b = read_map(first, "first map"), read_map(second, "second map")
    if a.shape != b.shape:
        raise InputError(f"maps must have one shape to be compared; got {tuple(a.shape)} and {tuple(b.shape)}")
    return list(zip(a.cpu().numpy(), b.cpu().numpy(), strict=True))
