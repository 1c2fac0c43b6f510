"""Maps that know nothing of the model: where a metric rates them well, it says nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.call import Model
from aosa_fast.methods.fills import content_hash
from aosa_fast.methods.input_gradients import Found, Resolve, clean_answer


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


def _bell(size: int) -> Tensor:
    return torch.exp(
        -0.5 * ((torch.arange(size, dtype=torch.float32, device="cpu") - (size - 1) / 2) / (size / 4)) ** 2
    )


def _same_for_all(model: Model, video: Tensor, config: Config, resolve: Resolve, saliency: Tensor) -> Found:
    logits, targets = clean_answer(model, video, config, resolve)
    return logits, targets, [saliency.clone(memory_format=torch.contiguous_format).to(video.device) for _ in targets]
