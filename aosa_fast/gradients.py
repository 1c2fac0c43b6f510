"""Gradients of the score by the input, and by nothing else (paper III-D; method: sections 5 and 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aosa_fast.batching import BatchSize
from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.model import Model, call_model, input_format
from aosa_fast.targets import ResolvedTarget, class_scores

Resolve = Callable[[Tensor], list[ResolvedTarget]]  # (B, n_classes) logits to targets


def input_gradients(
    model: Model, video: Tensor, config: Config, resolve: Resolve
) -> tuple[Tensor, list[ResolvedTarget], list[Tensor]]:
    """One forward, and one backward per target.

    Args:
        model: see `call_model`.
        video: (B, C, T, H, W) float32.
        config: gives `score`, which is differentiated, and `dtype`.
        resolve: turns the logits into targets, so that the forward serves the choice of the class too.

    Returns:
        The logits (B, n_classes), the targets, and for each the gradient (B, C, T, H, W) float32.

    Raises:
        InputError: as `call_model`; the score does not depend on the input, or its gradient is not finite.
    """
    dtype, layout = input_format(model, config.dtype)
    with torch.enable_grad():
        leaf = video.detach().clone().requires_grad_()
        # A copy, also in float32: a model that normalises in place must not do so on a leaf.
        batch = leaf.to(dtype=dtype, memory_format=layout, copy=True)
        logits = call_model(model, batch)
        scores = class_scores(logits, config.score_name)
        targets = resolve(logits.detach())
        sums = [target.pick(scores).sum() for target in targets]  # clips are independent: each gets its own gradient
        grads = []
        for i, total in enumerate(sums):
            if total.requires_grad:
                (grad,) = torch.autograd.grad(total, leaf, retain_graph=i + 1 < len(sums), allow_unused=True)
            if not total.requires_grad or grad is None:
                raise InputError("model must be differentiable by its input for this method; use method=aosa")
            grads.append(grad)
    for grad in grads:
        if not torch.isfinite(grad).all():
            raise InputError("model must have a finite gradient by its input; got NaN or infinity")
    return logits.detach(), targets, grads


def path_gradients(
    model: Model,
    video: Tensor,
    fill: Tensor,
    config: Config,
    targets: Sequence[ResolvedTarget],
    batches: BatchSize,
    progress: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """The mean gradient at m midpoints of the straight way from one clip to its fill, per target.

    Args:
        model: see `call_model`.
        video: (1, C, T, H, W) float32.
        fill: (1, C, T, H, W) float32.
        config: gives `score`, `dtype` and `steps`, which is m; the points are x + (k + 1/2)/m (fill - x).
        targets: of this clip.
        batches: points per forward and backward.
        progress: called with (points done, points in all).

    Returns:
        For each target the mean gradient (1, C, T, H, W) float32.

    Raises:
        InputError: as `input_gradients`.
    """
    means = [torch.zeros_like(video) for _ in targets]
    points = (torch.arange(config.step_count, dtype=torch.float32, device=video.device) + 0.5) / config.step_count

    def add(begin: int, end: int) -> None:
        clips = torch.lerp(video, fill, points[begin:end].reshape(-1, 1, 1, 1, 1))
        repeated = [target.take([0] * len(clips)) for target in targets]
        _, _, grads = input_gradients(model, clips, config, lambda _: repeated)
        for mean, grad in zip(means, grads, strict=True):
            mean += grad.sum(0, keepdim=True) / config.step_count
        if progress:
            progress(end, config.step_count)

    batches.run(config.step_count, add)
    return means
