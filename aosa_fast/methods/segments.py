"""Segments of the user's own in place of tubes that follow the flow: labels, boxes or tracks (method: section 14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.kernels.tracking import rasterize_boxes
from aosa_fast.methods.registry import METHODS
from aosa_fast.methods.tubes import Tubes

_KINDS = (
    "segments must be integer labels (T, H, W) or (B, T, H, W) of the clip's size, boxes (N, T, 4) or (B, N, T, 4), or "
    "tracks (N, T, 2) or (B, N, T, 2)"
)


@dataclass(frozen=True)
class Segments:
    """A user's segments as tubes.

    Attributes:
        kind: what was given: "labels", "boxes" or "tracks".
        tubes: of every clip, in main memory; a mask is many boxes, see `aosa_fast.kernels.pieces`.
        labels: of each tube, for masks.
    """

    kind: str
    tubes: Tubes
    labels: list[int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """What an explanation's metadata say of them."""
        return {"kind": self.kind, "labels": self.labels}


def read_segments(given: NDArray[Any] | Tensor, shape: tuple[int, int, int, int], config: Config) -> Segments:
    """Makes tubes of what a tracker, a segmentation or a person found.

    Integers (or bools) of the clip's own (T, H, W) are labels, and of all else the last axis decides: 4 for boxes, 2
    for tracks.

    Args:
        given: labels (T, H, W) or (B, T, H, W), 0 where there is no segment; their order is that of the tubes, and the
            tube of a label that a clip lacks is empty there. Boxes (N, T, 4) or (B, N, T, 4), (x0, y0, x1, y1) in
            pixels, half-open, rounded to whole ones and cut to the frame; empty or NaN where there is none. Tracks
            (N, T, 2) or (B, N, T, 2), (x, y) in pixels, NaN where there is none; hidden by boxes of `config.box`.
        shape: (B, T, H, W) of the clips. What comes without B serves for every clip.
        config: gives `box`.

    Raises:
        InputError: no such array, of another size than the clips, or without any segment; or a config that has other
            tubes, or partners.
    """
    if not config.record.segments:
        names = ", ".join(method.name for method in METHODS.own() if method.segments)
        raise InputError(f"segments must come with a method whose tubes they can be: {names}; got {config.method}")
    if config.partners:
        raise InputError(f"partners must be 0 or left out where segments are given; got {config.partners}")
    array = _read(given)
    frames, height, width = shape[1:]
    if array.dtype.kind in "iub" and array.ndim in (3, 4) and array.shape[-3:] == shape[1:]:
        return _of_labels(_for_clips(array, shape))
    if array.ndim not in (3, 4) or array.shape[-1] not in (2, 4) or array.dtype.kind not in "iuf":
        raise InputError(f"{_KINDS}, {_size(shape)}; got {array.dtype} {array.shape}")
    if array.shape[-2] != frames:
        raise InputError(f"segments must have the clip's frames, T={frames}; got {array.shape[-2]} of {array.shape}")
    found = torch.from_numpy(_for_clips(array, shape).astype(np.float64))
    if 0 in found.shape:
        raise InputError(f"segments must have at least one tube; got {array.shape}")
    if array.shape[-1] == 4:
        boxes = _whole(found, height, width)
        middles = (boxes[..., :2] + boxes[..., 2:] - 1) / 2
        kind, tubes = "boxes", _single(middles, (boxes[..., :2] < boxes[..., 2:]).all(-1), boxes)
    else:
        inside = ((found >= 0) & (found <= torch.tensor([width - 1, height - 1], device="cpu"))).all(-1)
        boxes = rasterize_boxes(found.float(), inside, config.box_size, height, width)
        kind, tubes = "tracks", _single(found, inside, boxes)
    if not tubes.alive.any():
        raise InputError(f"segments must have at least one tube that is in the frame; got none in {array.shape}")
    return Segments(kind, tubes)


def _read(given: NDArray[Any] | Tensor) -> NDArray[Any]:
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        return (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    if not isinstance(given, np.ndarray):
        raise InputError(f"{_KINDS}; got {type(given).__name__}")
    return given


def _size(shape: tuple[int, int, int, int]) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in zip("BTHW", shape, strict=True))


def _for_clips(array: NDArray[Any], shape: tuple[int, int, int, int]) -> NDArray[Any]:
    if array.ndim == 4 and len(array) != shape[0]:
        raise InputError(f"segments must be of every clip, B={shape[0]}; got {array.shape}")
    return array if array.ndim == 4 else np.broadcast_to(array, (shape[0], *array.shape))


def _whole(boxes: Tensor, height: int, width: int) -> Tensor:
    """(B, N, T, 4) int32: rounded, cut to the frame, and all 0 where there is none."""
    sides = torch.tensor([width, height] * 2, device="cpu")
    whole = boxes.round().nan_to_num(nan=0.0).clamp(min=0).minimum(sides).int()
    none = boxes.isnan().any(-1) | (whole[..., :2] >= whole[..., 2:]).any(-1)
    return whole.masked_fill(none.unsqueeze(-1), 0)


def _single(places: Tensor, alive: Tensor, boxes: Tensor) -> Tubes:
    """Tubes of one box in each frame."""
    rows = torch.arange(boxes.shape[1], dtype=torch.int32, device="cpu")
    members = rows.expand(len(boxes), -1).unsqueeze(2).contiguous()
    return Tubes(_at_rest(places, alive), alive, boxes, members)


def _at_rest(places: Tensor, alive: Tensor) -> Tensor:
    """Tracks (B, N, T, 2) float32: where a tube is not, it rests where it last was, or before where it will be."""
    frames = alive.shape[2]
    times = torch.arange(frames, device="cpu").expand(alive.shape)
    last = torch.where(alive, times, -1).cummax(2).values
    first = torch.where(alive, times, frames).amin(2, keepdim=True)
    seen = torch.where(last < 0, first, last)
    index = seen.clamp(max=frames - 1).unsqueeze(-1).expand(places.shape)
    tracks = places.gather(2, index).masked_fill((seen == frames).unsqueeze(-1), 0.0)
    return tracks.float().contiguous()


def _of_labels(labels: NDArray[Any]) -> Segments:
    """Tubes of masks (B, T, H, W): of every label a set of boxes that do not overlap, frame by frame."""
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise InputError(f"segments must be labels from 0 on, 0 for none; got {labels.min()}")
    frame, owner, boxes = _rectangles(labels.reshape(-1, *labels.shape[2:]))
    if not len(owner):
        raise InputError("segments must have at least one label that is not 0; got none")
    frames = labels.shape[1]
    names, owner = np.unique(owner, return_inverse=True)
    # Pieces of one tube and frame are numbered; as many rows as the most that a frame has are the tube's.
    group = frame * len(names) + owner
    order = np.argsort(group, kind="stable")
    group = group[order]
    number = np.arange(len(group)) - np.searchsorted(group, group)
    most = np.zeros(len(names), np.int64)
    np.maximum.at(most, owner[order], number + 1)
    begin = np.cumsum(most) - most
    rows = np.zeros((len(labels), most.sum(), frames, 4), np.int32)
    clip, time = np.divmod(frame[order], frames)
    rows[clip, begin[owner[order]] + number, time] = boxes[order]
    slots = np.arange(most.max())
    members = np.where(slots < most[:, None], begin[:, None] + slots, -1).astype(np.int32)
    alive, middles = _middles(group, boxes[order], (len(labels), frames, len(names)))
    there = alive.any(2, keepdims=True)  # of a label that a clip lacks, not even empty boxes
    tubes = Tubes(
        _at_rest(torch.from_numpy(middles), torch.from_numpy(alive)),
        torch.from_numpy(alive),
        torch.from_numpy(rows),
        torch.from_numpy(np.where(there, members, np.int32(-1))),
    )
    return Segments("labels", tubes, [int(name) for name in names])


def _rectangles(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int32]]:
    """Cuts masks (F, H, W), 0 for none, into rectangles that do not overlap: their frames, labels and boxes (R, 4).

    Pixels of a row that follow each other are a run; runs that lie under each other and are as wide are a rectangle.
    """
    frames, height, width = labels.shape
    edge = np.ones((frames, height, width + 1), bool)
    edge[..., 1:-1] = labels[..., 1:] != labels[..., :-1]
    frame, y, begin = np.nonzero(edge[..., :-1])
    end = np.nonzero(edge[..., 1:])[2] + 1
    kept = np.flatnonzero(labels[frame, y, begin])
    order = kept[np.lexsort((y[kept], end[kept], begin[kept], frame[kept]))]
    frame, y, begin, end = (part[order] for part in (frame, y, begin, end))
    owner = labels[frame, y, begin]
    fresh = np.ones(len(y), bool)
    fresh[1:] = np.any([part[1:] != part[:-1] for part in (frame, owner, begin, end)], 0) | (y[1:] != y[:-1] + 1)
    top = np.flatnonzero(fresh)
    last = np.append(top[1:], len(y))[: len(top)] - 1
    return frame[top], owner[top], np.stack([begin[top], y[top], end[top], y[last] + 1], 1).astype(np.int32)


def _middles(
    group: NDArray[np.int64], boxes: NDArray[np.int32], shape: tuple[int, int, int]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each tube is there (B, N, T), and the mean place of its pixels (B, N, T, 2); `shape` is (B, T, N)."""
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:]
    areas = (high - low).prod(1)
    size = shape[0] * shape[1] * shape[2]
    area = np.bincount(group, areas, size)
    sums = [np.bincount(group, areas * (low + high - 1)[:, axis] / 2, size) for axis in (0, 1)]
    middles = np.stack(sums, 1) / np.maximum(area, 1)[:, None]
    return (area > 0).reshape(shape).swapaxes(1, 2).copy(), middles.reshape(*shape, 2).swapaxes(1, 2).copy()
