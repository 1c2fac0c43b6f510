"""Grad-CAM in space and time (Selvaraju et al. 2017; method: section 8)."""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.call import NO_GRADIENT, Model, call_model, input_format, is_finite, model_errors
from aosa_fast.methods.hooks import find_layer, forward_hooks
from aosa_fast.methods.input_gradients import Found, Resolve
from aosa_fast.methods.last_stage import last_stage
from aosa_fast.models.anatomy import Anatomy, find_anatomy, unwrap
from aosa_fast.models.token_layout import TokenLayout
from aosa_fast.targets import ResolvedTarget, class_scores

_log = logging.getLogger(__name__)


def grad_cam(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """ReLU of the layer's channels, weighted by the mean gradient of the score, stretched to the clip.

    Only what follows the layer is differentiated, by the layer's output: the network's parameters get no gradients and
    their `requires_grad` does not matter, and what precedes the layer keeps nothing for a backward.

    Of `config` it reads `layer` (None: that of the model's anatomy, or its `last_stage`) and `cam_weights`, "frame" for
    a mean over H', W' of each frame or "global" for a mean over T', H', W'. Maps are not negative. See `Comparator`.

    Raises:
        InputError: a model that is no module, an unknown layer, one that gives no grid of places in an order that is
            known, one that the score does not depend on, a gradient that is not finite.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module for grad-cam; got {type(model).__name__}")
    network = unwrap(model)
    anatomy = find_anatomy(network)
    name = config.layer or (anatomy.layer if anatomy else _default_layer(network, video, config))
    layer = find_layer(network, name)
    logits, kept = _forward(network, layer, name, video, config)
    if kept.ndim == 4 and len(video) > 1:  # clip by clip: which rows are whose, the network alone knows
        targets = resolve(logits.detach())
        own = [partial(_taken, targets, clip) for clip in range(len(video))]
        alone = [grad_cam(model, video[i : i + 1], config, taken)[2] for i, taken in enumerate(own)]
        return logits.detach(), targets, [torch.cat(of_clips) for of_clips in zip(*alone, strict=True)]
    _log.info("grad-cam takes layer %s of %s, %s", name, type(network).__name__, tuple(kept.shape))
    with torch.enable_grad():
        scores = class_scores(logits, config.score_name)
        targets = resolve(logits.detach())
        sums = [target.pick(scores).sum() for target in targets]  # clips are independent: each gets its own gradient
        if not all(total.requires_grad for total in sums):
            raise InputError(f"layer must be one whose output the score depends on, differentiably; got {name}")
        with model_errors(NO_GRADIENT):
            grads = [
                torch.autograd.grad(total, kept, retain_graph=i + 1 < len(sums), allow_unused=True)[0]
                for i, total in enumerate(sums)
            ]
    layout = _layout(anatomy, name, layer, kept)
    places = layout.to_grid(kept.detach(), video.shape).float()
    axes = (3, 4) if config.cam_weights == "frame" else (2, 3, 4)
    maps = []
    for grad in grads:
        if grad is None:
            raise InputError(f"layer must be one whose output the score depends on; got {name}")
        weights = layout.to_grid(grad, video.shape).float().mean(axes, keepdim=True)
        cam = (weights * places).sum(1, keepdim=True).relu()
        if not is_finite(cam):
            raise InputError(f"layer must have finite activations and gradients; got NaN or infinity in {name}")
        maps.append(interpolate(cam, video.shape[2:], mode="trilinear", align_corners=False).squeeze(1))
    return logits.detach(), targets, maps


def _taken(targets: list[ResolvedTarget], clip: int, _: Tensor) -> list[ResolvedTarget]:
    return [target.take([clip]) for target in targets]


def _default_layer(network: nn.Module, video: Tensor, config: Config) -> str:
    stage = last_stage(network, video, config.dtype)
    if stage.layer is None:
        raise InputError(
            f"layer must be given for grad-cam with {type(network).__name__}, whose last stage of convolutions isn't "
            f"known; got None: layers that give (B, C, T', H', W') or (BT', C, H', W') are {stage}"
        )
    return stage.layer


def _forward(network: nn.Module, layer: nn.Module, name: str, video: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """The logits, and the layer's output, with a graph from the one to the other and none before."""
    kept: list[Tensor] = []

    def keep(_: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise InputError(f"layer must give one tensor of numbers; got {type(output).__name__} from {name}")
        kept.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)  # until no_grad's end, below
        # A copy goes on: a ReLU in place must not overwrite what is kept.
        return kept[0].clone()

    dtype, layout = input_format(network, config.dtype)
    with torch.no_grad(), forward_hooks([(layer, keep)]):
        logits = call_model(network, video.to(dtype=dtype, memory_format=layout, copy=True))
    if len(kept) != 1:
        hint = "" if kept else " (the layers of exported programs are not called)"
        raise InputError(f"layer must be called once in the model's forward; {name} was called {len(kept)} times{hint}")
    return logits, kept[0]


def _layout(anatomy: Anatomy | None, name: str, layer: nn.Module, output: Tensor) -> TokenLayout:
    """The anatomy's, for its own layer and the same layer of other blocks; else what its axes tell."""
    if anatomy and _kind(name) == _kind(anatomy.layer):
        return anatomy.layout
    if output.ndim == 4:
        return TokenLayout("frames")
    if output.ndim != 5:
        raise InputError(
            f"layer must give (B, C, T', H', W') or (BT', C, H', W'), or be the default; grad-cam doesn't know the "
            f"layout of {name}, {tuple(output.shape)}"
        )
    if anatomy and anatomy.layout.order == "channels-last" and not isinstance(layer, nn.Conv3d):
        return anatomy.layout
    return TokenLayout("channels-first")


def _kind(name: str) -> str:
    return re.sub(r"\.\d+", ".N", name)
