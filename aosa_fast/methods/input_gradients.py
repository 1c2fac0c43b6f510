"""Gradients of the score by the input, and by nothing else (paper III-D; method: sections 5 and 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import NO_GRADIENT, Model, call_model, clean_logits, input_format, is_finite, model_errors
from aosa_fast.methods.libra import constant_scales
from aosa_fast.targets import ResolvedTarget, class_scores

# Samples per forward and backward on a CPU. Not one for each thread, as elsewhere: models round differently in batches
# of different sizes, and these maps are to be the same at any number of threads. R3D-18 on 2 threads takes
# 21.1 and 22.3 s for 4 points of integrated gradients at 2 and 4 samples.
ON_CPU = 4

Resolve = Callable[[Tensor], list[ResolvedTarget]]  # (B, n_classes) logits to targets
Found = tuple[Tensor, list[ResolvedTarget], list[Tensor]]  # the logits, the targets, and for each what was looked for


def clean_answer(model: Model, video: Tensor, config: Config, resolve: Resolve) -> tuple[Tensor, list[ResolvedTarget]]:
    """The logits (B, n_classes) of whole clips, and the targets, for methods that take no gradient of them."""
    logits = clean_logits(model, video, BatchSize(config.batch_size, video.device), config.dtype)
    return logits, resolve(logits)


def input_gradients(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """One forward, and one backward per target.

    Args:
        model: see `call_model`.
        video: (B, C, T, H, W) float32.
        config: gives `score`, which is differentiated, `backward` and `dtype`.
        resolve: turns the logits into targets, so that the forward serves the choice of the class too.

    Returns:
        The logits (B, n_classes), the targets, and for each the gradient (B, C, T, H, W) float32.

    Raises:
        InputError: as `call_model` and `constant_scales`; the score does not depend on the input, or its gradient
            is not finite.
    """
    dtype, layout = input_format(model, config.dtype)
    with torch.enable_grad(), constant_scales(model) if config.backward == "libra" else nullcontext(model) as model:
        leaf = video.detach().requires_grad_()  # of the same memory, which is only read
        # A copy, also in float32: a model that normalises in place must not do so on a leaf.
        batch = leaf.to(dtype=dtype, memory_format=layout, copy=True)
        logits = call_model(model, batch)
        scores = class_scores(logits, config.score_name)
        targets = resolve(logits.detach())
        sums = [target.pick(scores).sum() for target in targets]  # clips are independent: each gets its own gradient
        grads = []
        for i, total in enumerate(sums):
            if total.requires_grad:
                with model_errors(NO_GRADIENT):
                    (grad,) = torch.autograd.grad(total, leaf, retain_graph=i + 1 < len(sums), allow_unused=True)
            if not total.requires_grad or grad is None:
                raise InputError("model must be differentiable by its input for this method; use method=aosa")
            grads.append(grad)
    for grad in grads:
        if not is_finite(grad):
            raise InputError("model must have a finite gradient by its input; got NaN or infinity")
    return logits.detach(), targets, grads


def mean_gradients(
    model: Model,
    video: Tensor,
    config: Config,
    targets: Sequence[ResolvedTarget],
    make: Callable[[int, int], Tensor],
    weights: Sequence[float],
    progress: Callable[[int, int], None] | None = None,
    factor: Callable[[int, int], Tensor] | None = None,
) -> list[Tensor]:
    """The weighted mean of the gradients at samples of each clip, per target.

    Batches go on from one clip to the next, and each gradient is added by itself, in the order of the samples: a batch
    of another size does not change the sum.

    Args:
        model: see `call_model`.
        video: (B, C, T, H, W) float32.
        config: gives `score`, `dtype` and `batch_size`, the samples per forward and backward.
        targets: of the clips.
        make: (clip, sample) to the sample (C, T, H, W) float32.
        weights: of each sample of a clip; they add up to 1.
        progress: called with (samples done, samples in all).
        factor: (clip, sample) to what its gradient is multiplied by, (C, T, H, W) float32; by default nothing.

    Returns:
        For each target the mean gradient (B, C, T, H, W) float32.

    Raises:
        InputError: as `input_gradients`, or one clip does not fit into the GPU's memory.
    """
    means = [torch.zeros_like(video) for _ in targets]
    count = len(video) * len(weights)

    def add(begin: int, end: int) -> None:
        rows = [divmod(row, len(weights)) for row in range(begin, end)]
        wanted = [target.take([clip for clip, _ in rows]) for target in targets]
        batch = torch.stack([make(*row) for row in rows])
        _, _, grads = input_gradients(model, batch, config, lambda _: wanted)
        for mean, grad in zip(means, grads, strict=True):
            for (clip, sample), part in zip(rows, grad, strict=True):
                mean[clip].add_(factor(clip, sample) * part if factor else part, alpha=weights[sample])
        if progress:
            progress(end, count)

    BatchSize(config.batch_size or (ON_CPU if video.device.type == "cpu" else 0), video.device).run(count, add)
    return means


def path_gradients(
    model: Model,
    video: Tensor,
    fill: Tensor,
    config: Config,
    targets: Sequence[ResolvedTarget],
    progress: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """The mean gradient at the m = `config.steps` midpoints x + (k + 1/2)/m (fill - x) of the way to the fill.

    `fill` is like `video`, which is x; all else is as in `mean_gradients`.
    """
    steps = config.step_count

    def point(clip: int, k: int) -> Tensor:
        return torch.lerp(video[clip], fill[clip], (k + 0.5) / steps)

    return mean_gradients(model, video, config, targets, point, [1 / steps] * steps, progress)
