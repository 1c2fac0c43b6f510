"""AOSA-dual: tubes that move and tubes that stand still say how much, the field says where (method: section 12)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import call_model, input_format
from aosa_fast.kernels.tracking import rasterize_boxes, track_anchors
from aosa_fast.kernels.tube_scores import tube_scores
from aosa_fast.methods.fills import make_fill, temporal_median
from aosa_fast.methods.input_gradients import clean_answer, path_gradients
from aosa_fast.methods.job import Job, Result
from aosa_fast.methods.maps import make_map
from aosa_fast.methods.tubes import Tubes
from aosa_fast.targets import ResolvedTarget, class_scores

_LEAST_WAY = 0.5  # pixels: a camera that goes less far stands still
_STILL = 2.0  # weight of the tubes that stand still; of those that follow the flow it is 1
_SMOOTH = 5.0  # mean absolute values of the field at which a voxel changes what its tubes say
_SHARP = 3  # power of the map before it is scaled: the order stays, and what is small vanishes
_TOP = 1 / 7  # share of the voxels by which a detail is tried out


def dual(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """Two paths, two families of tubes, and the detail that the model itself answers to best.

    The field is made from the mean gradients on the ways to the fill and to the clip without its motion. Tubes that
    follow the flow, and wider ones that stand still in the scene, integrate it: these say how much. The field itself
    says where: alone, together with the tubes, or only at its largest values. Of these three maps the one is taken
    whose largest voxels raise the score most when they are put into the fill, and lower it most when they are hidden.

    `config.step_count` points are parted between the two ways; the choice takes six forwards, the clip one.
    """
    config, video = job.config, job.video
    fill = make_fill(video, config, job.mean, job.std)
    follow = tubes_soon.result()
    camera = camera_way(follow)
    stopped = stopped_clip(video, camera)
    stand = still_tubes(follow, camera, config, *video.shape[3:])
    tubes = Tubes(*(torch.cat(pair, 1) for pair in _pairs(follow, stand)))
    with job.timings("model"):
        logits, targets = clean_answer(job.model, video, config, job.resolve)
        to_fill, to_stopped = (
            path_gradients(job.model, video, end, replace(config, steps=steps), targets, job.progress)
            for end, steps in ((fill, max(1, config.step_count // 2)), (stopped, -(-config.step_count // 2)))
        )
    results = []
    for target, first, second in zip(targets, to_fill, to_stopped, strict=True):
        with job.timings("field and scores"):
            field = _mixed((first * (video - fill)).sum(1), (second * (video - stopped)).sum(1))
            scores = [tube_scores(field, family.boxes, family.members) for family in (follow, stand)]
        with job.timings("map"):
            base = target.pick(class_scores(logits, config.score_name))
            parts = zip(scores, (follow, stand), strict=True)
            (moving, seen), (still, also) = (make_map(s, base, own, config, *video.shape[3:]) for s, own in parts)
            maps = _detailed(field, _share(moving) + _STILL * _share(still))
        chosen = [config.detail] * len(video)
        if config.detail == "auto":
            with job.timings("choice"):
                chosen = _best(job, fill, target, maps)
        saliency = torch.stack([maps[name][clip] for clip, name in enumerate(chosen)])
        saliency = _share(saliency.sign() * saliency.abs() ** _SHARP) * moving.abs().sum((1, 2, 3), keepdim=True)
        every = torch.cat(scores, 1)
        results.append(Result(target, tubes, every, saliency, seen + also, logits, relevance=field, detail=chosen))
    return results


def _mixed(to_fill: Tensor, to_stopped: Tensor) -> Tensor:
    """(B, T, H, W): both fields, each weighted by its sum, which is the score's drop at the end of its way.

    What stands still is not on the way to the clip without its motion: there that field is noise, and its sum small.
    """
    drops = [field.sum((1, 2, 3), keepdim=True).abs() for field in (to_fill, to_stopped)]
    share = drops[1] / (drops[0] + drops[1]).clamp(min=1e-30)
    return torch.lerp(to_fill, to_stopped, share)


def _detailed(field: Tensor, amount: Tensor) -> dict[str, Tensor]:
    """The map of each detail, (B, T, H, W); on scales of their own."""
    smooth = smooth_in_time(field)
    size = (_SMOOTH * smooth.abs().mean((1, 2, 3), keepdim=True)).clamp(min=1e-30)
    there = amount.sign() * smooth / size
    return {"voxel": field, "both": amount * grow(there), "tube": amount * there.clamp(min=1)}


def _best(job: Job, fill: Tensor, target: ResolvedTarget, maps: dict[str, Tensor]) -> list[str]:
    """Per clip, the map whose largest voxels the score rests on most: put into the fill, less taken out of the clip."""
    dtype, layout = input_format(job.model, job.config.dtype)
    names, video = list(maps), job.video
    count = max(1, round(_TOP * video[0, 0].numel()))
    top = torch.stack([torch.zeros_like(m.flatten(1), dtype=torch.bool) for m in maps.values()], 1)
    order = torch.stack([m.flatten(1) for m in maps.values()], 1).sort(dim=2, descending=True, stable=True).indices
    top.scatter_(2, order[..., :count], True)
    top = top.view(*top.shape[:2], 1, *video.shape[2:])
    parts: list[Tensor] = []

    def step(begin: int, end: int) -> None:
        rows = [(row // (2 * len(names)), row // 2 % len(names), row % 2) for row in range(begin, end)]
        batch = torch.stack([torch.where(top[b, k] == (hidden == 0), video[b], fill[b]) for b, k, hidden in rows])
        own = target.take([b for b, _, _ in rows])
        logits = call_model(job.model, batch.to(dtype=dtype, memory_format=layout))
        parts.append(own.pick(class_scores(logits, job.config.score_name)))

    with torch.no_grad():
        BatchSize(job.config.batch_size, video.device).run(len(video) * 2 * len(names), step)
    inside, outside = torch.cat(parts).view(len(video), len(names), 2).unbind(2)
    return [names[k] for k in (inside - outside).argmax(1).tolist()]


def camera_way(tubes: Tubes) -> Tensor:
    """(B, T, 2) float32, how far the scene has moved since the first frame, pixels: the median of the anchors' ways.

    Anchors that are not alive have no say; 0 where it stays under half a pixel.
    """
    ways = (tubes.tracks - tubes.tracks[:, :, :1]).masked_fill(~tubes.alive.unsqueeze(-1), torch.nan)
    way = ways.nanmedian(1).values.nan_to_num()
    far = way.abs().amax((1, 2), keepdim=True) >= _LEAST_WAY
    return torch.where(far, way, 0.0)


def stopped_clip(video: Tensor, camera: Tensor) -> Tensor:
    """The clip without its motion: every voxel is the median over time of the place in the scene that it shows.

    Args:
        video: (B, C, T, H, W) float32.
        camera: (B, T, 2), see `camera_way`; whole pixels of it are used, and edges are repeated.
    """
    clips = []
    for clip, way in zip(video, camera.round().long(), strict=True):
        if not way.any():
            clips.append(temporal_median(clip[None])[0].expand_as(clip))
            continue
        frames = []
        for shift in way:
            seen = [_shifted(clip[:, s], other - shift) for s, other in enumerate(way)]
            frames.append(torch.stack(seen).median(0).values)
        clips.append(torch.stack(frames, 1))
    return torch.stack(clips)


def _shifted(picture: Tensor, by: Tensor) -> Tensor:
    """(C, H, W): at (y, x), what the picture has at (y + by_y, x + by_x), or at its edge."""
    dx, dy = by.tolist()
    height, width = picture.shape[1:]
    rows = (torch.arange(height, device=picture.device) + dy).clamp(0, height - 1)
    columns = (torch.arange(width, device=picture.device) + dx).clamp(0, width - 1)
    return picture[:, rows][:, :, columns]


def still_tubes(follow: Tubes, camera: Tensor, config: Config, height: int, width: int) -> Tubes:
    """As many tubes as follow the flow, which stand still in the scene, without partners.

    Their boxes have sides of 2h - 1, wide enough to hide the way of an object: a hole that moves as the object did
    still shows its motion.
    """
    clips, frames = camera.shape[:2]
    flow = camera.diff(dim=1)[:, :, None, None].expand(clips, frames - 1, height, width, 2).contiguous()
    tracks, alive = track_anchors(flow, config.stride, config.reseed)
    sides = (2 * config.box_size[0] - 1, 2 * config.box_size[1] - 1)
    boxes = rasterize_boxes(tracks, alive, sides, height, width)
    members = torch.full_like(follow.members, -1)
    members[:, :, 0] = torch.arange(members.shape[1], device=members.device)
    return Tubes(tracks, alive, boxes, members)


def _pairs(follow: Tubes, stand: Tubes) -> Iterator[tuple[Tensor, Tensor]]:
    """The parts of both families, the members of the second counted on from those of the first."""
    yield follow.tracks, stand.tracks
    yield follow.alive, stand.alive
    yield follow.boxes, stand.boxes
    yield follow.members, torch.where(stand.members < 0, -1, stand.members + follow.tracks.shape[1])


def _share(values: Tensor) -> Tensor:
    """(B, T, H, W) over the sum of its absolute values, per clip."""
    return values / values.abs().sum((1, 2, 3), keepdim=True).clamp(min=1e-30)


def smooth_in_time(field: Tensor) -> Tensor:
    """(B, T, H, W), a Gaussian of one frame's standard deviation over time; the first and last frames are repeated."""
    taps = torch.exp(-0.5 * torch.arange(-3, 4, dtype=torch.float32, device=field.device) ** 2)
    frames = field.shape[1]
    places = torch.arange(-3, frames + 3, device=field.device).clamp(0, frames - 1)
    return torch.einsum("btkhw->bthwk", field[:, places].unfold(1, 7, 1).movedim(-1, 2)) @ (taps / taps.sum())


def grow(detail: Tensor) -> Tensor:
    """u + sqrt(1 + u²): about 2u for large u, 1 at 0, and about 1 / (2 |u|) for large negative u."""
    root = torch.sqrt(1 + detail * detail)
    return torch.where(detail >= 0, detail + root, 1 / (root - detail))
