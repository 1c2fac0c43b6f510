"""The gradient family: maps from gradients of the score by the input (paper IV-A; method: section 8).

Captum has these methods too, and the tests hold ours against it. It is not called here: it takes a forward per target,
sets `requires_grad` on the caller's clip, and hands the model that leaf, on which a model that normalises in place
fails. Its `NoiseTunnel` has one absolute sigma for all clips and draws from torch's global generator, and its
`IntegratedGradients` cannot take a smaller batch than the clips it was given when the memory runs out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.call import Model
from aosa_fast.methods.fills import content_hash
from aosa_fast.methods.input_gradients import Found, Resolve, clean_answer, input_gradients, mean_gradients


def gradient(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """The size of the gradient, sum over channels of |df/dx| (Simonyan et al., arXiv 1312.6034): see `Comparator`."""
    logits, targets, grads = input_gradients(model, video, config, resolve)
    return logits, targets, [grad.abs().sum(1) for grad in grads]


def input_x_gradient(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """Sum over channels of x df/dx, with its sign (Shrikumar et al., arXiv 1605.01713): see `Comparator`."""
    logits, targets, grads = input_gradients(model, video, config, resolve)
    return logits, targets, [(grad * video).sum(1) for grad in grads]


def smoothgrad(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """The size of the mean gradient at noisy copies of the clip (Smilkov et al., arXiv 1706.03825).

    The noise is normal, its standard deviation `config.noise` times the clip's range (max - min). Its seeds are
    `config.seed` and the clip's content, so it is the same on every device and in every batch. The sum over channels is
    taken of the mean gradient's absolute values. See `Comparator`; of `config` it reads `noise_samples` too.
    """
    hashes = [content_hash(clip) for clip in video]
    sigma = [config.noise * float(clip.max() - clip.min()) for clip in video]

    def noisy(clip: int, sample: int) -> Tensor:
        # Counted from 1: NumPy pads a seed with zeros, and (seed, clip) is the random map's.
        generator = np.random.default_rng((config.seed, hashes[clip], 1 + sample))
        noise = generator.standard_normal(tuple(video.shape[1:]), dtype=np.float32)
        return video[clip] + sigma[clip] * torch.from_numpy(noise).to(video.device)

    logits, targets = clean_answer(model, video, config, resolve)
    weights = [1 / config.noise_samples] * config.noise_samples
    means = mean_gradients(model, video, config, targets, noisy, weights)
    return logits, targets, [mean.abs().sum(1) for mean in means]


def integrated_gradients(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """Sum over channels of x times the mean gradient on the way from 0 to x (Sundararajan et al., arXiv 1703.01365).

    The mean is taken by Gauss-Legendre quadrature at `config.step_count` points, as captum does; it is exact for scores
    that are polynomials of degree 2 `step_count` on that way. A map's sum over a clip tends to f(x) - f(0). See
    `Comparator`.
    """
    nodes, weights = np.polynomial.legendre.leggauss(config.step_count)
    points = ((nodes + 1) / 2).tolist()
    logits, targets = clean_answer(model, video, config, resolve)
    means = mean_gradients(
        model, video, config, targets, lambda clip, k: video[clip] * points[k], (weights / 2).tolist()
    )
    return logits, targets, [(mean * video).sum(1) for mean in means]


def expected_gradients(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """Sum over channels of the mean of (x - x') times the gradient at x' + a (x - x') (Erion et al., arXiv 1906.10670).

    The fills x' are the other clips of the batch, so that a map depends on what a clip is explained with. For each of
    `config.step_count` samples one of them is drawn, and a from [0, 1), seeded by `config.seed` and the clip's content.
    A map's sum over a clip tends to f(x) less the mean of f(x'). See `Comparator`.

    Raises:
        InputError: one clip alone.
    """
    if len(video) < 2:
        raise InputError("video must have at least two clips for expected-gradients, whose fills are the others; got 1")
    samples = config.step_count
    others, points = [], []
    for clip in range(len(video)):
        generator = np.random.default_rng((config.seed, content_hash(video[clip])))
        others.append(((clip + generator.integers(1, len(video), samples)) % len(video)).tolist())
        points.append(generator.random(samples).tolist())

    def way(clip: int, k: int) -> Tensor:
        return video[clip] - video[others[clip][k]]

    def point(clip: int, k: int) -> Tensor:
        return torch.lerp(video[others[clip][k]], video[clip], points[clip][k])

    logits, targets = clean_answer(model, video, config, resolve)
    means = mean_gradients(model, video, config, targets, point, [1 / samples] * samples, factor=way)
    return logits, targets, [mean.sum(1) for mean in means]
