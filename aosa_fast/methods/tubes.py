"""Tubes: from flow to tracks, boxes and members, once per clip, whatever is explained (paper III-A, III-B)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.timing import Timings
from aosa_fast.kernels.partners import select_partners
from aosa_fast.kernels.tracking import rasterize_boxes, track_anchors
from aosa_fast.methods import compat


@dataclass(frozen=True)
class Tubes:
    """The occluders of a batch of clips.

    Attributes:
        tracks: (B, N, T, 2) float32, (x, y), pixels.
        alive: (B, N, T) bool.
        boxes: (B, N, T, 4) int32, (x0, y0, x1, y1), half-open, pixels; or more rows than tubes, disjoint pieces, each
            of one tube: see `aosa_fast.kernels.pieces`.
        members: (B, N, K+1) int32.
    """

    tracks: Tensor
    alive: Tensor
    boxes: Tensor
    members: Tensor

    def to(self, device: torch.device) -> Tubes:
        """All of it on `device`."""
        return Tubes(*(part.to(device) for part in (self.tracks, self.alive, self.boxes, self.members)))

    @classmethod
    def none(cls, clips: int, frames: int, device: torch.device) -> Tubes:
        """No tubes at all, for methods that know none: N = 0."""

        def empty(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(clips, 0, *shape, dtype=dtype, device=device)

        return cls(
            empty(frames, 2, dtype=torch.float32),
            empty(frames, dtype=torch.bool),
            empty(frames, 4, dtype=torch.int32),
            empty(1, dtype=torch.int32),
        )


def make_tubes(flow: Tensor, config: Config, timings: Timings) -> Tubes:
    """Tracks anchors along `flow` (B, T-1, H, W, 2) float32 and joins those that move alike.

    Raises:
        InputError: the stride leaves no anchor in the frame.
    """
    height, width = flow.shape[2:4]
    if config.stride // 2 >= min(height, width):
        raise InputError(
            f"stride must be at most {2 * min(height, width) - 1} for frames of {height}x{width}; got {config.stride}"
        )
    if config.compat:
        with timings("tracking and partners"):
            tracks, alive, members = compat.track_and_select(flow, config.stride, config.partner_count)
    else:
        with timings("tracking"):
            tracks, alive = track_anchors(flow, config.stride, config.reseed)
        with timings("partners"):
            min_motion = config.min_motion if config.partners_rule == "motion-aware" else 0.0
            members = select_partners(tracks, config.partner_count, float(min_motion))
    with timings("boxes"):
        boxes = rasterize_boxes(tracks, alive, config.box_size, height, width)
    return Tubes(tracks, alive, boxes, members)
