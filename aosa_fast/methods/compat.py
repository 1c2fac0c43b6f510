"""The choices of the authors' code of 2022, where they differ from the paper (`compat="authors2022"`).

Red and blue are swapped in the grey that the flow sees; positions are rounded in every frame, so slow motion is lost;
displacements are raw flow, and go on after an anchor has left; a tube is its own candidate partner with similarity 0;
the neighbourhood mean pads with zeros and keeps the centre; the first-order score has no ReLU; each tube is weighed by
the inverse of the fraction that it keeps.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.kernels.saliency_map import saliency_map
from aosa_fast.kernels.tracking import anchor_grid
from aosa_fast.kernels.tube_scores import tube_scores


def to_frames(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, T, H, W) back to (B, T, H, W, C) uint8: by the inverse normalisation in float32, truncated."""
    mean, std = mean.reshape(-1, 1, 1, 1), std.reshape(-1, 1, 1, 1)
    pixels = (video - (-mean / std)) / (1 / std) * 255
    return pixels.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def track_and_select(flow: Tensor, stride: int, partners: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tracks (B, N, T, 2) float32, alive (B, N, T) and members (B, N, K+1) int32 from flow (B, T-1, H, W, 2)."""
    clips = [_track_clip(clip.numpy(), stride, partners) for clip in flow]
    tracks, alive, members = (np.stack(parts) for parts in zip(*clips, strict=True))
    return torch.from_numpy(tracks), torch.from_numpy(alive), torch.from_numpy(members)


def _track_clip(
    flow: NDArray[np.float32], stride: int, partners: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32]]:
    steps, height, width, _ = flow.shape
    position = anchor_grid(height, width, stride).astype(np.int64)
    limit = np.array([width - 1, height - 1])
    tracks = np.empty((len(position), steps + 1, 2), dtype=np.float32)
    alive = np.ones((len(position), steps + 1), dtype=bool)
    moves = np.empty((len(position), steps, 2), dtype=np.float32)
    tracks[:, 0] = position
    for t in range(steps):
        inside = np.clip(position, 0, limit)
        moves[:, t] = flow[t, inside[:, 1], inside[:, 0]]
        moved = inside + moves[:, t]
        alive[:, t + 1] = alive[:, t] & ((moved >= 0) & (moved <= limit)).all(1)
        position = np.rint(np.nan_to_num(moved, nan=-1, posinf=-1, neginf=-1)).astype(np.int64)
        tracks[:, t + 1] = position
    return tracks, alive, _select(moves.reshape(len(position), -1), partners)


def _select(moves: NDArray[np.float32], partners: int) -> NDArray[np.int32]:
    norm = np.linalg.norm(moves, axis=1)
    similarity = moves @ moves.T / (np.outer(norm, norm) + 1e-10)
    np.fill_diagonal(similarity, 0)
    count = len(moves)
    best = np.argsort(similarity, axis=1)[:, count - min(partners, count) :][:, ::-1]
    members = np.full((count, partners + 1), -1, dtype=np.int32)
    members[:, 0] = np.arange(count)
    members[:, 1 : 1 + best.shape[1]] = best
    return members


def neighbourhood_mean(video: Tensor, radius: int) -> Tensor:
    """(2r+1)^2 box mean per frame, zeros beyond the border, the pixel itself included; like `video`."""
    frames = video.transpose(1, 2).flatten(0, 1)
    mean = torch.nn.functional.avg_pool2d(frames, 2 * radius + 1, stride=1, padding=radius, count_include_pad=True)
    return mean.unflatten(0, (video.shape[0], video.shape[2])).transpose(1, 2).contiguous()


def weighted_map(scores: Tensor, boxes: Tensor, members: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The mean over tubes of -S_i m_i / mean(m_i), m_i the kept part, and the coverage; both (B, T, H, W)."""
    volume = scores.new_ones(boxes.shape[0], boxes.shape[2], height, width)
    kept = 1 - tube_scores(volume, boxes, members) / volume[0].numel()
    weights = torch.where(kept > 0, scores / kept, 0.0)  # a tube that hides everything keeps nothing to weigh
    sums, coverage = saliency_map(weights, boxes, members, height, width)
    return (sums - weights.double().sum(1).float()[:, None, None, None]) / scores.shape[1], coverage
