"""The plain ways that the operators are measured against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 64  # tubes whose masks exist at once in the chunked dense way


def numpy_partners(tracks: NDArray[np.float32], partners: int) -> NDArray[np.int32]:
    """(N, T, 2) to (N, K+1): the whole cosine matrix, then the best of each row; ties as NumPy leaves them."""
    count = len(tracks)
    steps = np.diff(tracks, axis=1).reshape(count, -1)
    norm = np.linalg.norm(steps, axis=1, keepdims=True)
    unit = steps / np.where(norm > 0, norm, 1)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    best = np.argpartition(-cosine, partners, axis=1)[:, :partners]
    starts = tracks[:, 0]
    distance = np.square(starts[best] - starts[:, None]).sum(-1)
    order = np.lexsort((best, distance, -np.take_along_axis(cosine, best, 1)), axis=1)
    return np.column_stack([np.arange(count), np.take_along_axis(best, order, 1)]).astype(np.int32)


def cosines(tracks: NDArray[np.float32], members: NDArray[np.int32]) -> NDArray[np.float64]:
    """(N, K) cosine of each anchor with its partners, in float64: compares choices that differ by a rounding."""
    steps = np.diff(tracks.astype(np.float64), axis=1).reshape(len(tracks), -1)
    unit = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-300)
    return np.einsum("nd,nkd->nk", unit, unit[members[:, 1:]])


def dense_masks(boxes: Tensor, members: Tensor, height: int, width: int) -> Tensor:
    """(N, T, 4) and (n, K1) to (n, T, H, W) float32: 1 where a tube is, as the authors' code holds it.

    Written with array operations throughout, so that the yardstick is not slowed by Python loops over boxes.
    """
    x, y = torch.arange(width, dtype=torch.int32), torch.arange(height, dtype=torch.int32)
    masks = torch.zeros(len(members), boxes.shape[1], height, width)
    for k in range(members.shape[1]):
        x0, y0, x1, y1 = boxes[members[:, k].clamp(min=0).long()].unsqueeze(-1).unbind(2)  # (n, T, 1) each
        columns = ((x >= x0) & (x < x1)).float()
        rows = ((y >= y0) & (y < y1)).float() * (members[:, k] >= 0).reshape(-1, 1, 1)
        torch.maximum(masks, rows.unsqueeze(-1) * columns.unsqueeze(-2), out=masks)
    return masks


def dense_scores_and_map(field: Tensor, boxes: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """The dense-mask way, `CHUNK` tubes at a time: scores (N,) and the summed map (T, H, W).

    Args:
        field: (T, H, W) float32.
        boxes: (N, T, 4) int32.
        members: (N, K1) int32.
    """
    scores, total = [], torch.zeros_like(field)
    for rows in members.split(CHUNK):
        masks = dense_masks(boxes, rows, *field.shape[1:])
        part = (masks * field).sum((1, 2, 3))
        total += torch.tensordot(part, masks, dims=1)
        scores.append(part)
    return torch.cat(scores), total


def dense_whole(field: Tensor, boxes: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """The same with all masks at once, as the authors' code does it: N x T x H x W floats."""
    masks = dense_masks(boxes, members, *field.shape[1:])
    scores = torch.tensordot(masks, field, dims=3)
    return scores, torch.tensordot(scores, masks, dims=1)


def dense_channels(drops: Tensor, boxes: Tensor, members: Tensor) -> Tensor:
    """The map by masks that have channels, all of them at once: N x C x T x H x W floats, and as many once weighted.

    Args:
        drops: (C, T, H, W) float32, by how much each element lowers the score.
        boxes: (N, T, 4) int32.
        members: (N, K1) int32.
    """
    masks = torch.empty(len(members), *drops.shape)
    for start in range(0, len(members), CHUNK):
        masks[start : start + CHUNK] = dense_masks(boxes, members[start : start + CHUNK], *drops.shape[2:])[:, None]
    scores = torch.stack([(drops * mask).sum() for mask in masks])
    return (masks * scores.reshape(-1, 1, 1, 1, 1)).sum(0).mean(0)
