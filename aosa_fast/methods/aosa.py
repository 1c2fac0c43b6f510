"""AOSA: exact, to first order, and along a path (paper III-B, III-D; method: sections 4, 5 and 11)."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from torch import Tensor

from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import clean_logits
from aosa_fast.kernels.field import field_scores
from aosa_fast.methods.budget import budgeted
from aosa_fast.methods.comparators import in_batches
from aosa_fast.methods.fills import channel_fill, make_fill
from aosa_fast.methods.input_gradients import clean_answer, input_gradients, path_gradients
from aosa_fast.methods.job import Job, Result
from aosa_fast.methods.maps import make_map
from aosa_fast.methods.selfcheck import exact_check
from aosa_fast.methods.sweep import occlusion_sweep
from aosa_fast.methods.tubes import Tubes
from aosa_fast.targets import ResolvedTarget, class_scores


def exact(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """AOSA and OSA: one forward per tube or cuboid; a result per target from one sweep."""
    config, video = job.config, job.video
    if config.budget_ms is not None:
        return budgeted(job, tubes_soon)
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


def approx(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """AOSA-approx: a gradient per target at the clip, then one field (Eq. 8)."""
    config, video = job.config, job.video
    if config.compat or config.fill_name in ("blur", "tensor"):
        fill: Tensor | None = make_fill(video, config, job.mean, job.std)
    else:
        fill = channel_fill(config, video, job.mean, job.std)  # None: the field makes the conditional mean
    with job.timings("model"):
        found = in_batches(job, input_gradients)
    return _first_order(job, tubes_soon, fill, "none" if config.compat else config.relu, *found)


def path(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """AOSA-path: the mean gradient on the way to the fill per target, then one field."""
    config, video = job.config, job.video
    fill = make_fill(video, config, job.mean, job.std)
    with job.timings("model"):
        logits, targets = clean_answer(job.model, video, config, job.resolve)
        grads = path_gradients(job.model, video, fill, config, targets, job.progress)
    return _first_order(job, tubes_soon, fill, "none", logits, targets, grads)


def _first_order(
    job: Job,
    tubes_soon: Future[Tubes],
    fill: Tensor | None,
    relu: Any,
    logits: Tensor,
    targets: list[ResolvedTarget],
    grads: list[Tensor],
) -> list[Result]:
    config, video = job.config, job.video
    clean = class_scores(logits, config.score_name)
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
