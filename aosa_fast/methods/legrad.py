"""LeGrad: the score's gradient by the attention of all layers (arXiv 2404.03214; method: section 8)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.call import NO_GRADIENT, Model, call_model, input_format, model_errors
from aosa_fast.methods.attention_rollout import Attention, find_attention
from aosa_fast.methods.hooks import forward_hooks
from aosa_fast.methods.input_gradients import Found, Resolve
from aosa_fast.models.anatomy import Anatomy
from aosa_fast.targets import class_scores


def legrad(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """The positive part of the score's gradient by the attention to each token, its mean over heads and queries.

    Then the mean over all attentions; of divided attention those in time and those in space are layers of their own,
    and the mean over queries counts all of the clip's tokens. In the paper each layer has a score of its own, made of
    its tokens by the network's head; here all have the network's score, which is the same for the last layer. Of
    V-JEPA 2, the pooler's attentions are layers too, the last with a single query. No
    matrix of attention is needed for that: as a head gives A V, the gradient by A is the gradient by A V times V.

    Values are per token, stretched to the clip. See `Comparator`.

    Raises:
        InputError: a model whose attention `aosa_fast.models.anatomy` does not know, or that has no gradient.
    """
    network, anatomy, blocks = find_attention(model, "legrad")
    attentions = [attention for block in blocks for attention in block]
    values: dict[nn.Module, Tensor] = {}
    mixed: dict[nn.Module, Tensor] = {}
    hooks = [hook for attention in attentions for hook in _hooks(attention, values, mixed)]
    dtype, layout = input_format(network, config.dtype)
    with torch.enable_grad(), forward_hooks(hooks):
        # Also where all weights are frozen there is to be a graph.
        leaf = video.detach().clone().requires_grad_()
        logits = call_model(network, leaf.to(dtype=dtype, memory_format=layout, copy=True))
        scores = class_scores(logits, config.score_name)
        targets = resolve(logits.detach())
        sums = [target.pick(scores).sum() for target in targets]
    if any(attention.module not in made for attention in attentions for made in (values, mixed)):
        raise InputError(f"legrad must have attention that is called, with values; got {type(network).__name__}")
    maps = []
    for i, total in enumerate(sums):
        with model_errors(NO_GRADIENT):
            places = [mixed[attention.module] for attention in attentions]
            grads = torch.autograd.grad(total, places, retain_graph=i + 1 < len(sums))
        cells = torch.stack(
            [
                _per_token(attention, values[attention.module].detach(), grad, anatomy, video)
                for attention, grad in zip(attentions, grads, strict=True)
            ]
        ).mean(0)
        maps.append(interpolate(cells, video.shape[2:], mode="trilinear", align_corners=False).squeeze(1))
    return logits.detach(), targets, maps


def _hooks(attention: Attention, values: dict[nn.Module, Tensor], mixed: dict[nn.Module, Tensor]) -> list[Any]:
    """What keeps an attention's values (N, L, C), and what its heads make of them, before any further layer."""
    module = attention.module

    def keep_values(_: Any, output: Any) -> None:
        values[module] = output.chunk(3, -1)[2] if len(attention.layers) == 1 else output

    def keep_output(_: Any, output: Any) -> None:
        mixed[module] = output if isinstance(output, Tensor) else output[0]

    def keep_input(inputs: Any, _: Any) -> None:
        mixed[module] = inputs[0]

    named = [getattr(module, name, None) for name in ("qkv", "value", "v_proj")]
    ends = [getattr(module, name, None) for name in ("proj", "o_proj", "out_proj")]
    hooks = [(layer, keep_values) for layer in named if isinstance(layer, nn.Module)]
    end = next((layer for layer in ends if isinstance(layer, nn.Module)), None)
    return [*hooks, (module, keep_output) if end is None else (end, keep_input)]


def _per_token(attention: Attention, values: Tensor, grad: Tensor, anatomy: Anatomy, video: Tensor) -> Tensor:
    """(B, 1, T', H', W'): the mean over heads and all queries of ReLU(gradient by the attention to each token)."""
    pooled = attention.kind == "pooled"
    if values.ndim != 3 or (values.shape != grad.shape and not pooled):
        raise InputError(
            f"legrad must have as many values as outputs of attention, (N, L, C); got {tuple(values.shape)} and "
            f"{tuple(grad.shape)}"
        )
    with torch.autocast(video.device.type, enabled=False):
        heads = (part.unflatten(-1, (attention.heads, -1)).movedim(2, 0).float() for part in (values, grad))
        shares = values.new_zeros(values.shape[:2], dtype=torch.float32)
        for value, slope in zip(*heads, strict=True):  # head by head: the matrices of all would fill the memory
            shares += (slope @ value.mT).relu().sum(1)
    grid = anatomy.layout.grid_of(video.shape)
    queries = grad.shape[1] if pooled else grid[0] * grid[1] * grid[2] + anatomy.layout.special
    shares = shares / (attention.heads * queries)
    if attention.kind == "time":  # the batch is the places of all clips
        return shares.unflatten(0, (len(video), 1, *grid[1:])).movedim(-1, 2)
    return anatomy.layout.to_grid(shares.unsqueeze(-1), video.shape)
