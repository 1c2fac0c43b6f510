"""Maps that know nothing of the model: where a metric rates them well, it says nothing."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.call import Model
from aosa_fast.kernels.tube_scores import tube_scores
from aosa_fast.methods.fills import content_hash, temporal_median
from aosa_fast.methods.input_gradients import Found, Resolve, clean_answer
from aosa_fast.methods.job import Job, Result
from aosa_fast.methods.maps import make_map
from aosa_fast.methods.tubes import Tubes


def random_map(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """Uniform noise, seeded by `config.seed` and the clip's content: the same on every device and in every batch.

    In [0, 1), without a unit. See `Comparator`.
    """
    shape = tuple(video.shape[2:])
    noise = [np.random.default_rng((config.seed, content_hash(clip))).random(shape, np.float32) for clip in video]
    return _same_for_all(model, video, config, resolve, torch.from_numpy(np.stack(noise)))


def centre_blob(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """A Gaussian in the middle of every frame, with a quarter of the frame's sides for its standard deviations.

    In (0, 1]. See `Comparator`.
    """
    blob = _bell(video.shape[3]).unsqueeze(1) * _bell(video.shape[4])
    return _same_for_all(model, video, config, resolve, blob.expand(video.shape[0], *video.shape[2:]))


def motion(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """How far each voxel is from its pixel's median over time: `moving`, for a `Comparator`."""
    return _same_for_all(model, video, config, resolve, moving(video))


def moving(video: Tensor) -> Tensor:
    """The sum over channels of |x - median of x over time|, (B, T, H, W), in units of the model's input."""
    return (video - temporal_median(video)).abs().sum(1)


def motion_tubes(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """`moving` in place of the field of AOSA-approx: the same tubes and the same map, without the model."""
    config, video = job.config, job.video
    with job.timings("model"):
        logits, targets = clean_answer(job.model, video, config, job.resolve)
    field = moving(video)
    tubes = tubes_soon.result()
    with job.timings("field and scores"):
        scores = tube_scores(field, tubes.boxes, tubes.members)
    with job.timings("map"):
        saliency, coverage = make_map(scores, torch.zeros_like(scores[:, 0]), tubes, config, *video.shape[3:])
    return [
        Result(target, tubes, scores.clone(), saliency.clone(), coverage.clone(), logits, relevance=field.clone())
        for target in targets
    ]


def _bell(size: int) -> Tensor:
    return torch.exp(
        -0.5 * ((torch.arange(size, dtype=torch.float32, device="cpu") - (size - 1) / 2) / (size / 4)) ** 2
    )


def _same_for_all(model: Model, video: Tensor, config: Config, resolve: Resolve, saliency: Tensor) -> Found:
    logits, targets = clean_answer(model, video, config, resolve)
    return logits, targets, [saliency.clone(memory_format=torch.contiguous_format).to(video.device) for _ in targets]
