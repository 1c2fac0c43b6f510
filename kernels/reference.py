"""The whole method in plain PyTorch and NumPy, in the paper's order: the truth that every operator is held against.

Every function has the name, arguments and meaning of the operator that it defines, works in float64, and is as plain
as the paper. This is the only place where a mask is ever materialised; like everywhere, True means occluded, the
opposite of the paper's M.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aosa_fast.kernels.farneback_reference import farneback as farneback  # long enough for a file of its own

Score = Callable[[Tensor], Tensor]  # (B, C, T, H, W) -> (B,), the score f of each clip


def normalize_frames(frames: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, T, H, W, 3) uint8 to (B, 3, T, H, W): (x / 255 - mean) / std."""
    return ((frames.double() / 255 - mean.double()) / std.double()).movedim(-1, 1)


def grey_frames(frames: Tensor) -> Tensor:
    """(B, T, H, W, 3) uint8 to (B, T, H, W) uint8: OpenCV's luma, in steps of 2^-15, rounded to the nearest."""
    weights = torch.tensor([9798, 19235, 3735])
    return (((frames.long() * weights).sum(-1) + 2**14) // 2**15).to(torch.uint8)


def anchor_grid(height: int, width: int, stride: int) -> Tensor:
    """III-A, step 1: (N, 2) start positions (x, y), row by row."""
    points = [(x, y) for y in range(stride // 2, height, stride) for x in range(stride // 2, width, stride)]
    return torch.tensor(points, dtype=torch.float64)


def track_anchors(flow: Tensor, stride: int, reseed: int = 0) -> tuple[Tensor, Tensor]:
    """III-A, steps 3 and 4: tracks (B, N, T, 2) float64, and alive (B, N, T)."""
    clips, steps, height, width, _ = flow.shape
    grid = anchor_grid(height, width, stride)
    births = range(0, steps + 1, reseed) if reseed else [0]
    tracks = torch.zeros(clips, len(grid) * len(births), steps + 1, 2, dtype=torch.float64)
    alive = torch.zeros(tracks.shape[:3], dtype=torch.bool)
    for b in range(clips):
        for i in range(tracks.shape[1]):
            birth, position, living = births[i // len(grid)], grid[i % len(grid)], True
            for t in range(steps + 1):
                if living and t > birth:
                    moved = position + _bilinear(flow[b, t - 1].double(), position)
                    x, y = moved.tolist()
                    living = 0 <= x <= width - 1 and 0 <= y <= height - 1
                    position = moved if living else position
                tracks[b, i, t] = position
                alive[b, i, t] = living and t >= birth
    return tracks, alive


def _bilinear(flow: Tensor, position: Tensor) -> Tensor:
    """The flow (H, W, 2) at one float position (x, y)."""
    height, width, _ = flow.shape
    x, y = position.tolist()
    x0, y0 = math.floor(x), math.floor(y)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    ax, ay = x - x0, y - y0
    top = (1 - ax) * flow[y0, x0] + ax * flow[y0, x1]
    bottom = (1 - ax) * flow[y1, x0] + ax * flow[y1, x1]
    return (1 - ay) * top + ay * bottom


def rasterize_boxes(tracks: Tensor, alive: Tensor, box: tuple[int, int], height: int, width: int) -> Tensor:
    """III-A, steps 2 and 5: (B, N, T, 4) int32 rectangles (x0, y0, x1, y1), half-open, clipped; zeros when dead."""
    size, frame = np.array([box[1], box[0]]), np.array([width, height])
    low = np.rint(tracks.double().numpy()) - size // 2
    corners = np.concatenate([np.clip(low, 0, frame), np.clip(low + size, 0, frame)], axis=-1)
    inside = alive.numpy()[..., None] & ~np.isnan(corners)
    return torch.from_numpy(np.where(inside, corners, 0).astype(np.int32))


def cooccurrence(tracks: Tensor) -> Tensor:
    """III-B, Eq. 1: (B, N, N) cosines of the displacement vectors; 0 where a norm is 0.

    Terms are added in the order of the frames, in float64, and rounded to float32 at the end (see `select_partners`).
    """
    steps = tracks.double().diff(dim=2).flatten(2)
    norm = torch.zeros(steps.shape[:2], dtype=torch.float64)
    for d in range(steps.shape[2]):
        norm += steps[..., d] * steps[..., d]
    unit = steps / torch.where(norm > 0, norm.sqrt(), 1.0).unsqueeze(-1)
    total = torch.zeros(*tracks.shape[:2], tracks.shape[1], dtype=torch.float64)
    for d in range(steps.shape[2]):
        total += unit[:, :, None, d] * unit[:, None, :, d]
    return total.float()


def select_partners(tracks: Tensor, partners: int, min_motion: float = 0.0) -> Tensor:
    """III-B: (B, N, K+1) int32; the total order is Co descending, start distance ascending, index ascending."""
    clips, count = tracks.shape[:2]
    members = torch.full((clips, count, partners + 1), -1, dtype=torch.int32)
    similarity = cooccurrence(tracks)
    starts = tracks[:, :, 0].double()
    reach = (tracks.double() - starts.unsqueeze(2)).square().sum(-1).amax(-1)
    for b in range(clips):
        for i in range(count):
            co = similarity[b, i].tolist() if reach[b, i] > min_motion**2 else [0.0] * count
            distance = (starts[b] - starts[b, i]).square().sum(-1).tolist()
            others = [j for j in range(count) if j != i]
            others.sort(key=lambda j, co=co, distance=distance: (-co[j], distance[j], j))  # type: ignore[misc]
            chosen = [i, *others[:partners]]
            members[b, i, : len(chosen)] = torch.tensor(chosen, dtype=torch.int32)
    return members


def tube_masks(boxes: Tensor, members: Tensor, height: int, width: int) -> Tensor:
    """III-B, integration: (B, N, T, H, W) bool, True where the union of the members' boxes occludes."""
    (clips, count, _), frames = members.shape, boxes.shape[2]
    masks = torch.zeros(clips, count, frames, height, width, dtype=torch.bool)
    for b in range(clips):
        for i in range(count):
            for j in members[b, i].tolist():
                if j < 0:
                    continue
                for t, (x0, y0, x1, y1) in enumerate(boxes[b, j].tolist()):
                    masks[b, i, t, y0:y1, x0:x1] = True
    return masks


def _shifts(video: Tensor, radius: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """All shifted copies x(q + d), d != 0, (D, ..., H, W), whether q + d is inside (D, H, W), and the (dy, dx)."""
    height, width = video.shape[-2:]
    padded = torch.nn.functional.pad(video, [radius] * 4)
    inside = torch.nn.functional.pad(torch.ones(height, width, dtype=torch.bool), [radius] * 4)
    offsets = [(dy, dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1) if (dy, dx) != (0, 0)]
    windows = [
        (slice(radius + dy, radius + dy + height), slice(radius + dx, radius + dx + width)) for dy, dx in offsets
    ]
    if not offsets:
        return video.new_zeros(0, *video.shape), inside.new_zeros(0, height, width), offsets
    return (
        torch.stack([padded[..., rows, columns] for rows, columns in windows]),
        torch.stack([inside[rows, columns] for rows, columns in windows]),
        offsets,
    )


def conditional_mean(video: Tensor, radius: int = 4) -> Tensor:
    """III-C: mean over the shifted patches, the occluded one left out, in float64."""
    video = video.double()
    copies, inside, _ = _shifts(video, radius)
    count = inside.sum(0)
    total = (copies * inside.reshape(len(inside), *[1] * (video.ndim - 2), *inside.shape[1:])).sum(0)
    return torch.where(count > 0, total / count.clamp(min=1), video)


def field(video: Tensor, grad: Tensor, fill: Tensor | None = None, *, radius: int = 4, relu: str = "element") -> Tensor:
    """III-D: e (B, T, H, W) float64, Eq. 8 with the sign that its text asks for, or a named variant."""
    video, grad = video.double(), grad.double()
    if fill is None:
        fill = conditional_mean(video, radius)
    elif fill.ndim == 1:
        fill = fill.reshape(-1, 1, 1, 1)
    change = grad * (fill.double() - video)  # what the score gains, to first order
    if relu == "element":
        return (-change).clamp(min=0).sum(1)
    if relu == "channel":
        return (-change).sum(1).clamp(min=0)
    if relu == "none":
        return (-change).sum(1)
    if relu == "eq8-literal":
        return -change.clamp(min=0).sum(1)
    raise ValueError(relu)


def tube_scores(field: Tensor, boxes: Tensor, members: Tensor) -> Tensor:
    """III-D: (B, N) sums of the field over each tube's mask."""
    masks = tube_masks(boxes, members, *field.shape[2:])
    return (masks * field.double().unsqueeze(1)).sum(dim=(2, 3, 4))


def field_scores(
    video: Tensor,
    grad: Tensor,
    boxes: Tensor,
    members: Tensor,
    fill: Tensor | None = None,
    *,
    radius: int = 4,
    relu: str = "element",
) -> tuple[Tensor, Tensor]:
    """III-D: the field (B, T, H, W), and its sums over the tubes (B, N)."""
    out = field(video, grad, fill, radius=radius, relu=relu)
    return out, tube_scores(out, boxes, members)


def saliency_map(scores: Tensor, boxes: Tensor, members: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """III-B: per voxel the sum of the scores of the tubes that cover it, and their number (B, T, H, W)."""
    masks = tube_masks(boxes, members, height, width)
    return (masks * scores.double()[..., None, None, None]).sum(1), masks.sum(1).int()


def tube_overlaps(weights: Tensor, boxes: Tensor, members: Tensor, cell: int) -> Tensor:
    """(B, N, N): sums over cells of w c_i c_j, where c_i is the share of a cell's area that tube i covers."""
    height, width = (cell * size for size in weights.shape[2:])
    masks = tube_masks(boxes, members, height, width).double()
    shares = torch.nn.functional.avg_pool2d(masks.flatten(0, 1), cell).reshape(*members.shape[:2], -1)
    return (shares * weights.double().flatten(1).unsqueeze(1)) @ shares.mT


def occlude(video: Tensor, fill: Tensor, boxes: Tensor, members: Tensor, clips: Tensor, out: Tensor) -> None:
    """III-A: x outside of the tube, the fill inside; row i of `out` (n, C, T, H, W) shows clip clips[i]."""
    masks = tube_masks(boxes[clips], members.unsqueeze(1), *video.shape[3:])
    out.copy_(torch.where(masks, fill[clips], video[clips]))


def occlude_sampled(
    video: Tensor, mean: Tensor, boxes: Tensor, members: Tensor, clips: Tensor, noise: Tensor, out: Tensor
) -> None:
    """III-C: rows like `occlude`'s, with draws mu + sum_j noise_j (x_j - mu) / sqrt(n - 1) inside the tube."""
    video, mean, noise = video.double(), mean.double(), noise.double()
    radius = noise.shape[-1] // 2
    masks = tube_masks(boxes[clips], members.unsqueeze(1), *video.shape[3:])
    copies, inside, offsets = _shifts(video, radius)
    scale = (inside.sum(0) - 1).clamp(min=1).sqrt()
    for i, b in enumerate(clips.tolist()):
        draw = mean[b].clone()
        for copy, valid, (dy, dx) in zip(copies, inside, offsets, strict=True):
            coefficient = noise[i, :, dy + radius, dx + radius].reshape(-1, 1, 1)
            draw += torch.where(valid, coefficient * (copy[b] - mean[b]) / scale, 0.0)
        draw = torch.where(inside.sum(0) > 1, draw, mean[b])
        out[i] = torch.where(masks[i], draw, video[b])


def aggregate(sums: Tensor, coverage: Tensor, count: int, rule: str = "sum") -> Tensor:
    """The map in units of the score: the sum over N, or the mean over the tubes that cover the voxel."""
    return sums / count if rule == "sum" else sums / coverage.clamp(min=1)


@torch.no_grad()
def aosa(score: Score, video: Tensor, boxes: Tensor, members: Tensor, fill: Tensor) -> Tensor:
    """III-A and III-B, exact AOSA: (B, N) drops f(x) - f(occluded x), one forward per tube."""
    drops = torch.zeros(members.shape[:2], dtype=torch.float64)
    for b in range(len(video)):
        clean = score(video[b : b + 1])[0]
        for i in range(members.shape[1]):
            occluded = torch.empty_like(video[b : b + 1])
            occlude(video, fill, boxes, members[b, i : i + 1], torch.tensor([b]), occluded)
            drops[b, i] = clean - score(occluded)[0]
    return drops


def gradient(score: Score, video: Tensor) -> Tensor:
    """J = df/dx of each clip."""
    leaf = video.detach().clone().requires_grad_()
    (grad,) = torch.autograd.grad(score(leaf).sum(), leaf)
    return grad


def aosa_approx(
    score: Score, video: Tensor, boxes: Tensor, members: Tensor, fill: Tensor | None = None, *, relu: str = "element"
) -> Tensor:
    """III-D, AOSA-approx: (B, N) scores from one gradient."""
    return tube_scores(field(video, gradient(score, video), fill, relu=relu), boxes, members)


def aosa_path(
    score: Score, video: Tensor, boxes: Tensor, members: Tensor, fill: Tensor, steps: int = 8
) -> tuple[Tensor, Tensor]:
    """AOSA-path: (B, N) scores and the field (B, T, H, W), from the mean gradient at `steps` midpoints to the fill."""
    points = [(k + 0.5) / steps for k in range(steps)]
    grads = [gradient(score, video + alpha * (fill - video)) for alpha in points]
    relevance = field(video, torch.stack(grads).mean(0), fill, relu="none")
    return tube_scores(relevance, boxes, members), relevance


def aosa_dual(
    score: Score,
    video: Tensor,
    families: list[tuple[Tensor, Tensor]],
    ends: list[Tensor],
    steps: tuple[int, int],
    detail: str,
) -> Tensor:
    """The map (B, T, H, W) of AOSA-dual with a given detail (method: section 12).

    Args:
        score: (B, C, T, H, W) to (B,).
        video: (B, C, T, H, W).
        families: boxes and members of the tubes that follow the flow, and of those that stand still.
        ends: of the two ways, the fill and the clip without its motion, each like `video`.
        steps: points on each.
        detail: "voxel", "both" or "tube".
    """
    height, width = video.shape[3:]
    fields, drops = [], []
    for end, count in zip(ends, steps, strict=True):
        points = [video + (k + 0.5) / count * (end - video) for k in range(count)]
        mean = torch.stack([gradient(score, point) for point in points]).mean(0)
        fields.append((mean * (video - end)).sum(1))
        drops.append(fields[-1].sum((1, 2, 3)).abs())
    share = (drops[1] / (drops[0] + drops[1])).reshape(-1, 1, 1, 1)
    own = (1 - share) * fields[0] + share * fields[1]
    follow, stand = (
        saliency_map(tube_scores(own, boxes, members), boxes, members, height, width)[0] / boxes.shape[1]
        for boxes, members in families
    )
    amount = follow / follow.abs().sum((1, 2, 3), keepdim=True) + 2 * stand / stand.abs().sum((1, 2, 3), keepdim=True)
    taps = [math.exp(-(s**2) / 2) for s in range(-3, 4)]
    smooth, last = torch.zeros_like(own), own.shape[1] - 1
    for t in range(last + 1):
        for s, tap in zip(range(-3, 4), taps, strict=True):
            smooth[:, t] += tap / sum(taps) * own[:, min(max(t + s, 0), last)]
    there = amount.sign() * smooth / (5 * smooth.abs().mean((1, 2, 3), keepdim=True))
    maps = {
        "voxel": own,
        "both": amount * (there + torch.sqrt(1 + there**2)),
        "tube": amount * there.clamp(min=1),
    }
    sharp = maps[detail].sign() * maps[detail].abs() ** 3
    return sharp / sharp.abs().sum((1, 2, 3), keepdim=True) * follow.abs().sum((1, 2, 3), keepdim=True)
