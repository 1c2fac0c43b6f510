"""How each method makes tube scores and a map, once there are tubes (paper III-B, III-D; method: sections 4, 5, 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.fills import channel_fill, make_fill
from aosa_fast.gradients import input_gradients, path_gradients
from aosa_fast.kernels.field import field
from aosa_fast.kernels.tube_scores import tube_scores
from aosa_fast.maps import make_map
from aosa_fast.model import Model, batch_clips, call_model, input_format
from aosa_fast.selfcheck import exact_check
from aosa_fast.sweep import occlusion_sweep
from aosa_fast.targets import ResolvedTarget, Target, class_scores, resolve_target
from aosa_fast.timing import Timings
from aosa_fast.tubes import Tubes

Progress = Callable[[int, int], None]  # (steps done, steps in all)
Values = Sequence[float] | Tensor


@dataclass(frozen=True)
class Job:
    """What is asked of a method: `explain`'s arguments, checked."""

    model: Model
    video: Tensor
    targets: list[Target]
    config: Config
    mean: Values | None
    std: Values | None
    names: tuple[str, ...] | None
    progress: Progress | None
    timings: Timings

    def resolve(self, logits: Tensor) -> list[ResolvedTarget]:
        """The class indices of every target, given the clean clips' logits (B, n_classes)."""
        if self.names and len(self.names) != logits.shape[1]:
            raise InputError(f"class_names must be one per class, {logits.shape[1]}; got {len(self.names)}")
        return [resolve_target(target, logits, self.names) for target in self.targets]


@dataclass(frozen=True)
class Result:
    """What a method finds for one target; shapes as in `Explanation`."""

    target: ResolvedTarget
    tubes: Tubes
    scores: Tensor
    saliency: Tensor
    coverage: Tensor
    logits: Tensor
    samples: Tensor | None = None
    relevance: Tensor | None = None
    check: list[dict[str, Any]] | None = None


def exact(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """AOSA: one forward per tube; a result per target from one sweep."""
    config, video = job.config, job.video
    with job.timings("model"):
        logits = _clean_logits(job)
    clean = class_scores(logits, config.score)
    targets = job.resolve(logits)
    fill = make_fill(video, config, job.mean, job.std)
    tubes = tubes_soon.result()
    clips = len(video)
    with job.timings("sweep"):
        samples = torch.stack(
            [
                occlusion_sweep(
                    job.model, video[b], fill[b], tubes.clip(b), config, progress=_shifted(job.progress, b, clips)
                )
                for b in range(clips)
            ]
        )
    results = []
    for target in targets:
        base = target.pick(clean)
        scores = base.unsqueeze(1) - target.pick(samples.mean(2))
        with job.timings("map"):
            saliency, coverage = make_map(scores, base, tubes, config, *video.shape[3:])
        results.append(Result(target, tubes, scores, saliency, coverage, logits, samples=samples))
    return results


def first_order(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """AOSA-approx and AOSA-path: a gradient per target, then one field."""
    config, video = job.config, job.video
    path = config.method == "aosa-path"
    fill: Tensor | None
    if path or config.compat or (config.fill_name in ("blur", "tensor")):
        fill = make_fill(video, config, job.mean, job.std)
    else:
        fill = channel_fill(config, video.shape[1], job.mean, job.std)  # None: the field makes the conditional mean
    with job.timings("model"):
        logits, targets, grads = _path_gradients(job, fill) if path and fill is not None else _gradients(job)
    clean = class_scores(logits, config.score)
    relu = "none" if path or config.compat else config.relu
    tubes = tubes_soon.result()
    results = []
    for target, grad in zip(targets, grads, strict=True):
        with job.timings("field"):
            relevance = field(video, grad, fill, radius=config.radius, relu=relu)  # type: ignore[arg-type]
        with job.timings("tube scores"):
            scores = tube_scores(relevance, tubes.boxes, tubes.members)
        with job.timings("map"):
            saliency, coverage = make_map(scores, target.pick(clean), tubes, config, *video.shape[3:])
        check = None
        if config.check:
            with job.timings("check"):
                full = make_fill(video, config, job.mean, job.std)
                check = exact_check(job.model, video, full, tubes, scores, clean, target, config)
        results.append(Result(target, tubes, scores, saliency, coverage, logits, relevance=relevance, check=check))
    return results


def _gradients(job: Job) -> tuple[Tensor, list[ResolvedTarget], list[Tensor]]:
    """Logits (B, n_classes), targets, and per target the gradient (B, C, T, H, W), `batch_size` clips at a time."""
    size = batch_clips(job.config.batch_size)
    if len(job.video) <= size:
        made = input_gradients(job.model, job.video, job.config.score, job.resolve)
        if job.progress:
            job.progress(len(job.video), len(job.video))
        return made
    logits = _clean_logits(job)
    targets = job.resolve(logits)
    parts: list[list[Tensor]] = []
    for begin in range(0, len(job.video), size):
        chunk = [target.clips(begin, begin + size) for target in targets]
        clips = job.video[begin : begin + size]
        parts.append(input_gradients(job.model, clips, job.config.score, lambda _, chunk=chunk: chunk)[2])  # type: ignore[misc]
        if job.progress:
            job.progress(min(begin + size, len(job.video)), len(job.video))
    return logits, targets, [torch.cat(grads) for grads in zip(*parts, strict=True)]


def _path_gradients(job: Job, fill: Tensor) -> tuple[Tensor, list[ResolvedTarget], list[Tensor]]:
    """Like `_gradients`, with the mean gradient on the way to the fill, clip by clip."""
    config, clips = job.config, len(job.video)
    logits = _clean_logits(job)
    targets = job.resolve(logits)
    parts = [
        path_gradients(
            job.model,
            job.video[b : b + 1],
            fill[b : b + 1],
            config.score,
            [target.clips(b, b + 1) for target in targets],
            config.steps,
            batch_clips(config.batch_size),
            _shifted(job.progress, b, clips),
        )
        for b in range(clips)
    ]
    return logits, targets, [torch.cat(grads) for grads in zip(*parts, strict=True)]


def _clean_logits(job: Job) -> Tensor:
    dtype, layout = input_format(job.model)
    with torch.no_grad():
        parts = [
            # A copy: a model that normalises in place must not change the user's clip.
            call_model(job.model, clips.to(dtype=dtype, memory_format=layout, copy=True))
            for clips in job.video.split(batch_clips(job.config.batch_size))
        ]
    return torch.cat(parts)


def _shifted(progress: Progress | None, clip: int, clips: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, count: progress(clip * count + done, clips * count)
