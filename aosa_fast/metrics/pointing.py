"""Whether a map lies on the boxes that people drew: S-PT, energy and overlap (paper IV-B; method: section 9).

Boxes are (x0, y0, x1, y1) in pixels of the map, half-open: the pixels x0..x1-1 and y0..y1-1. An empty one, such as
(0, 0, 0, 0), is none. Only frames with a box count, and the boxes of a frame count as one region, their union.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.errors import InputError
from aosa_fast.metrics.similarity import Map, per_clip, read_map

Maps = Map | Sequence[Map]
Boxes = Tensor | NDArray[Any] | Sequence[Tensor | NDArray[Any] | None]
Labels = Tensor | NDArray[Any] | Sequence[Hashable]


@dataclass(frozen=True, eq=False)
class Pointing:
    """How often the map's maximum is on a box.

    Attributes:
        hits: (B,) float64, frames of each clip where it is; fractions where maxima are tied.
        frames: (B,) int64, frames of each clip with a box.
        micro: hits per frame over all clips; NaN without any box.
        macro: the mean over classes of the class's hits per frame; None without labels.
        chance: what maxima at random would get for `micro`.
        metadata: every choice, in plain types.
    """

    hits: Tensor
    frames: Tensor
    micro: float
    macro: float | None
    chance: float
    metadata: dict[str, Any]


def spatial_pointing(
    saliency: Maps, boxes: Boxes, labels: Labels | None = None, *, radius: float = 7.0, ties: str = "mean"
) -> Pointing:
    """S-PT: in each frame, a hit if the disk round the map's maximum meets a box.

    Args:
        saliency: (B, T, H, W), (T, H, W) for one clip, or a list of (T, H, W) of any sizes.
        boxes: (B, T, M, 4) int, (T, M, 4) for one clip, or a list of (T, M, 4), None for a clip without any.
        labels: a class per clip, for `macro`.
        radius: of the disk, pixels, from the middle of a pixel to that of another.
        ties: "mean": the share of a frame's equal maxima that hit; "first": the first of them, row by row.

    Raises:
        InputError: arguments that do not fit each other, or break a rule.
    """
    if ties not in ("mean", "first"):
        raise InputError(f"ties must be mean or first; got {ties}")
    if not (math.isfinite(radius) and radius >= 0):
        raise InputError(f"radius must be a number of pixels, at least 0; got {radius}")
    hits, frames, chances = [], [], []
    for values, rectangles in _clips(saliency, boxes):
        annotated = _region(rectangles, values, 0).flatten(1).any(1)
        near = _region(rectangles, values, radius).flatten(1)[annotated]
        pixels = values.flatten(1)[annotated]
        maxima = pixels == pixels.amax(1, keepdim=True)
        if ties == "first":
            maxima &= maxima.cumsum(1) == 1
        hits.append(float(((maxima & near).sum(1).double() / maxima.sum(1)).sum()))
        frames.append(len(pixels))
        chances.append(float(near.double().mean(1).sum()))
    micro, macro = pool_pointing(hits, frames, labels)
    return Pointing(
        hits=per_clip(hits),
        frames=torch.tensor(frames, device="cpu"),
        micro=micro,
        macro=macro,
        chance=pool_pointing(chances, frames)[0],
        metadata={
            "metric": "S-PT",
            "radius": float(radius),
            "distance": "disk to rectangle",
            "ties": ties,
            "frames": "with a box",
            "macro": "mean over classes",
        },
    )


def pool_pointing(
    hits: Sequence[float], frames: Sequence[int], labels: Labels | None = None
) -> tuple[float, float | None]:
    """Micro and macro (None without labels) of many clips' hits and frames, which may come from many calls.

    A class without any frame does not count; NaN if there is no frame at all.

    Raises:
        InputError: not one value per clip.
    """
    names = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else labels
    if len(frames) != len(hits) or (names is not None and len(names) != len(hits)):
        raise InputError(f"hits, frames and labels must be one per clip, {len(hits)}")
    micro = sum(hits) / sum(frames) if sum(frames) else math.nan
    if names is None:
        return float(micro), None
    classes: dict[Hashable, list[tuple[float, int]]] = {}
    for name, hit, count in zip(names, hits, frames, strict=True):
        classes.setdefault(name, []).append((hit, count))
    sums = [[sum(values) for values in zip(*own, strict=True)] for own in classes.values()]
    rates = [hit / count for hit, count in sums if count]
    return float(micro), float(np.mean(rates)) if rates else math.nan


def energy_pointing(saliency: Maps, boxes: Boxes) -> Tensor:
    """The share of a clip's positive saliency that lies in its boxes; compare with `box_share`.

    Arguments and errors as `spatial_pointing`.

    Returns:
        (B,) float64 in main memory, pooled over the clip's frames with a box; NaN without any box, or any positive
        saliency in these frames.
    """
    positive = ((values.clamp(min=0), inside) for values, inside in _annotated(saliency, boxes))
    return per_clip(_ratio(float(values[inside].sum()), float(values.sum())) for values, inside in positive)


def box_mass(saliency: Maps, boxes: Boxes) -> Tensor:
    """(B,) float64: the map's sum in its boxes over the sum of its absolute values, in frames with a box: -1 to 1.

    Arguments and errors as `energy_pointing`; NaN without any box, or where the map is 0 in all these frames.
    """
    clips = _annotated(saliency, boxes)
    return per_clip(_ratio(float(values[inside].sum()), float(values.abs().sum())) for values, inside in clips)


def box_share(saliency: Maps, boxes: Boxes) -> Tensor:
    """(B,) float64: the share of the voxels that lies in boxes, in frames with a box: what a constant map's energy is.

    Arguments and errors as `energy_pointing`; NaN without any box.
    """
    return per_clip(_ratio(int(inside.sum()), inside.numel()) for _, inside in _annotated(saliency, boxes))


def box_iou(saliency: Maps, boxes: Boxes) -> Tensor:
    """(B,) float64: intersection over union of the boxes and as many of the most salient voxels, in frames with a box.

    Of equally salient voxels the first in (T, H, W) order is taken first. Arguments and errors as `energy_pointing`;
    NaN without any box.
    """
    overlaps = []
    for values, inside in _annotated(saliency, boxes):
        count = int(inside.sum())
        chosen = values.flatten().sort(descending=True, stable=True).indices[:count]
        both = int(inside.flatten()[chosen].sum())
        overlaps.append(_ratio(both, 2 * count - both))
    return per_clip(overlaps)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _annotated(saliency: Maps, boxes: Boxes) -> list[tuple[Tensor, Tensor]]:
    """Per clip, the map and the boxes' region in the frames with a box, both (frames, H, W)."""
    clips = []
    for values, rectangles in _clips(saliency, boxes):
        inside = _region(rectangles, values, 0)
        frames = inside.flatten(1).any(1)
        clips.append((values[frames], inside[frames]))
    return clips


def _region(boxes: Tensor, values: Tensor, radius: float) -> Tensor:
    """(T, H, W) bool: the pixels that are at most so far from the part of a box (T, M, 4) that is in the frame."""
    height, width = values.shape[1:]
    x, y = (torch.arange(size, device=values.device) for size in (width, height))
    region = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    for box in boxes.unbind(1):
        x0, y0, x1, y1 = (edge.unsqueeze(1) for edge in box.unbind(1))  # (T, 1)
        x0, y0, x1, y1 = x0.clamp(min=0), y0.clamp(min=0), x1.clamp(max=width), y1.clamp(max=height)
        across = torch.maximum(x0 - x, x - (x1 - 1)).clamp(min=0)  # (T, W)
        down = torch.maximum(y0 - y, y - (y1 - 1)).clamp(min=0)  # (T, H)
        near = across.square().unsqueeze(1) + down.square().unsqueeze(2) <= radius * radius
        region |= near & ((x1 > x0) & (y1 > y0)).unsqueeze(2)
    return region


def _clips(saliency: Maps, boxes: Boxes) -> list[tuple[Tensor, Tensor]]:
    """Per clip, its map (T, H, W) float64 and its boxes (T, M, 4) int64, on the map's device."""
    maps = [read_map(part) for part in ([saliency] if isinstance(saliency, Tensor | np.ndarray) else saliency)]
    if not isinstance(saliency, Tensor | np.ndarray) and any(len(part) != 1 for part in maps):
        raise InputError("saliency in a list must be one (T, H, W) per clip")
    clips = [values for part in maps for values in part]
    one = isinstance(boxes, Tensor | np.ndarray) and boxes.ndim != 4
    listed: list[Any] = [boxes] if one else list(boxes)
    if len(listed) != len(clips):
        raise InputError(f"boxes must be given for each of the {len(clips)} clips; got {len(listed)}")
    return [(values, _rectangles(own, values)) for values, own in zip(clips, listed, strict=True)]


def _rectangles(boxes: Tensor | NDArray[Any] | None, values: Tensor) -> Tensor:
    frames = len(values)
    if boxes is None:
        return torch.zeros(frames, 0, 4, dtype=torch.int64, device=values.device)
    if isinstance(boxes, Tensor):
        whole = not (boxes.is_floating_point() or boxes.is_complex() or boxes.dtype == torch.bool)
    else:
        whole = isinstance(boxes, np.ndarray) and boxes.dtype.kind in "iu"
    if not whole:
        raise InputError(f"boxes must be whole numbers; got {getattr(boxes, 'dtype', type(boxes).__name__)}")
    if boxes.ndim != 3 or boxes.shape[0] != frames or boxes.shape[2] != 4:
        raise InputError(f"boxes must have shape (T, M, 4) per clip, with T={frames}; got {tuple(boxes.shape)}")
    own = boxes if isinstance(boxes, Tensor) else torch.from_numpy(boxes.astype(np.int64))
    return own.to(values.device, torch.int64)
