"""How each method makes tube scores and a map (paper III-B, III-D; method: sections 4, 5, 8 and 11)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.batching import FIRST, BatchSize
from aosa_fast.inference.call import Model, clean_logits
from aosa_fast.inference.timing import Timings
from aosa_fast.kernels.field import field_scores
from aosa_fast.methods.comparators import MANY_PASSES, Comparator, find_comparator
from aosa_fast.methods.fills import channel_fill, make_fill
from aosa_fast.methods.input_gradients import input_gradients, path_gradients
from aosa_fast.methods.inputs import Values
from aosa_fast.methods.maps import make_map
from aosa_fast.methods.selfcheck import exact_check
from aosa_fast.methods.sweep import occlusion_sweep
from aosa_fast.methods.tubes import Tubes
from aosa_fast.targets import ResolvedTarget, Target, class_scores, resolve_target, target_of_clips

Progress = Callable[[int, int], None]  # (steps done, steps in all)


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

    def resolve(self, logits: Tensor, part: tuple[int, int] | None = None) -> list[ResolvedTarget]:
        """The class indices of every target, given the clean clips' logits (B, n_classes).

        With `part`, (begin, end), of these clips alone: `logits` are theirs, and a target's tensor is cut.
        """
        begin, end = part or (0, len(self.video))
        wanted = [target_of_clips(target, begin, end, len(self.video)) for target in self.targets]
        return [resolve_target(target, logits, self.names) for target in wanted]


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

    def to(self, device: torch.device) -> Result:
        """Every tensor on `device`, but for the target's indices."""
        names = ("scores", "saliency", "coverage", "logits", "samples", "relevance")
        moved: dict[str, Any] = {name: None if (t := getattr(self, name)) is None else t.to(device) for name in names}
        return replace(self, tubes=self.tubes.to(device), **moved)


def exact(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """AOSA and OSA: one forward per tube or cuboid; a result per target from one sweep."""
    config, video = job.config, job.video
    batches = BatchSize(config.batch_size, video.device)
    with job.timings("model"):
        logits = clean_logits(job.model, video, batches, config.dtype)
    clean = class_scores(logits, config.score_name)
    targets = job.resolve(logits)
    fill = make_fill(video, config, job.mean, job.std)
    tubes = tubes_soon.result()
    with job.timings("sweep"):
        samples = occlusion_sweep(job.model, video, fill, tubes, config, batches, progress=job.progress)
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
        fill = channel_fill(config, video, job.mean, job.std)  # None: the field makes the conditional mean
    with job.timings("model"):
        logits, targets, grads = (
            _path_gradients(job, fill) if path and fill is not None else _in_batches(job, input_gradients)
        )
    clean = class_scores(logits, config.score_name)
    relu: Any = "none" if path or config.compat else config.relu
    tubes = tubes_soon.result()
    results = []
    for target, grad in zip(targets, grads, strict=True):
        with job.timings("field and scores"):
            relevance, scores = field_scores(
                video, grad, tubes.boxes, tubes.members, fill, radius=config.radius, relu=relu
            )
        with job.timings("map"):
            saliency, coverage = make_map(scores, target.pick(clean), tubes, config, *video.shape[3:])
        check = None
        if config.check:
            with job.timings("check"):
                full = make_fill(video, config, job.mean, job.std)
                check = exact_check(job.model, video, full, tubes, scores, clean, target, config)
        results.append(Result(target, tubes, scores, saliency, coverage, logits, relevance=relevance, check=check))
    return results


def compared(job: Job) -> list[Result]:
    """The comparators without tubes: a map per target, voxel by voxel."""
    video = job.video
    with job.timings("model"):
        logits, targets, maps = _in_batches(job, find_comparator(job.config.method))
    tubes = Tubes.none(video.shape[0], video.shape[2], video.device)
    scores = video.new_zeros(len(video), 0)
    coverage = torch.ones_like(maps[0], dtype=torch.int32)
    return [
        Result(target, tubes, scores, saliency, coverage, logits)
        for target, saliency in zip(targets, maps, strict=True)
    ]


def _in_batches(job: Job, function: Comparator) -> tuple[Tensor, list[ResolvedTarget], list[Tensor]]:
    """Logits (B, n_classes), targets, and per target what `function` makes of each clip, a batch of clips at a time."""
    parts: list[tuple[Tensor, list[ResolvedTarget], list[Tensor]]] = []

    def add(begin: int, end: int) -> None:
        clips = job.video[begin:end]
        parts.append(function(job.model, clips, job.config, lambda found: job.resolve(found, (begin, end))))
        if job.progress:
            job.progress(end, len(job.video))

    # What such a method takes at once says nothing of what a clip takes: a fixed number of clips.
    wanted = job.config.batch_size or (FIRST if job.config.method in MANY_PASSES and job.video.is_cuda else 0)
    BatchSize(wanted, job.video.device).run(len(job.video), add)
    logits, targets, made = zip(*parts, strict=True)
    return (
        torch.cat(logits),
        [ResolvedTarget.join(of_clips) for of_clips in zip(*targets, strict=True)],
        [torch.cat(of_clips) for of_clips in zip(*made, strict=True)],
    )


def _path_gradients(job: Job, fill: Tensor) -> tuple[Tensor, list[ResolvedTarget], list[Tensor]]:
    """Like `_in_batches`, with the mean gradient on the way to the fill."""
    config = job.config
    logits = clean_logits(job.model, job.video, BatchSize(config.batch_size, job.video.device), config.dtype)
    targets = job.resolve(logits)
    return logits, targets, path_gradients(job.model, job.video, fill, config, targets, job.progress)
