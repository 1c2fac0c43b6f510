"""The methods that AOSA is compared with, all with one signature (paper IV-A; method: section 8).

OSA is not among them: it is a sweep over cuboids in place of tubes.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.batching import FIRST, BatchSize
from aosa_fast.inference.call import Model
from aosa_fast.methods.input_gradients import Found, Resolve
from aosa_fast.methods.job import Job, Result
from aosa_fast.methods.tubes import Tubes
from aosa_fast.registry import import_object
from aosa_fast.targets import ResolvedTarget


class Comparator(Protocol):
    """The signature of all of them."""

    def __call__(self, model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
        """A map per target.

        Args:
            model: see `call_model`.
            video: (B, C, T, H, W) float32.
            config: gives the score, `dtype`, `batch_size`, and what each comparator says it reads beside.
            resolve: turns the clean logits into targets.

        Returns:
            The logits (B, n_classes) float32, the targets, and for each a map (B, T, H, W) float32; its unit stands in
            the method's record.

        Raises:
            InputError: as `call_model` and `input_gradients`; one clip does not fit into the GPU's memory; or what
                the comparator says beside.
        """


def compared(job: Job) -> list[Result]:
    """The comparators without tubes: a map per target, voxel by voxel."""
    video = job.video
    with job.timings("model"):
        logits, targets, maps = in_batches(job, import_object(job.config.record.run))
    tubes = Tubes.none(video.shape[0], video.shape[2], video.device)
    scores = video.new_zeros(len(video), 0)
    coverage = torch.ones_like(maps[0], dtype=torch.int32)
    return [
        Result(target, tubes, scores, saliency, coverage, logits)
        for target, saliency in zip(targets, maps, strict=True)
    ]


def in_batches(job: Job, function: Comparator) -> Found:
    """Logits (B, n_classes), targets, and per target what `function` makes of each clip, a batch of clips at a time."""
    if job.config.record.whole_batch:
        return function(job.model, job.video, job.config, job.resolve)
    parts: list[Found] = []

    def add(begin: int, end: int) -> None:
        clips = job.video[begin:end]
        parts.append(function(job.model, clips, job.config, lambda found: job.resolve(found, (begin, end))))
        if job.progress:
            job.progress(end, len(job.video))

    # What such a method takes at once says nothing of what a clip takes: a fixed number of clips.
    wanted = job.config.batch_size or (FIRST if job.config.record.many_passes and job.video.is_cuda else 0)
    BatchSize(wanted, job.video.device).run(len(job.video), add)
    if len(parts) == 1:
        return parts[0]
    logits, targets, made = zip(*parts, strict=True)
    return (
        torch.cat(logits),
        [ResolvedTarget.join(of_clips) for of_clips in zip(*targets, strict=True)],
        [torch.cat(of_clips) for of_clips in zip(*made, strict=True)],
    )
