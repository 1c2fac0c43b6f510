"""Maps of other people's functions: captum's attributions, and a user's own (`--method captum:NAME`, `python:...`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast.config import Config
from aosa_fast.errors import InputError, ModelError
from aosa_fast.inference.call import Model, call_model
from aosa_fast.libraries import check_libraries
from aosa_fast.methods.input_gradients import Found, Resolve, clean_answer
from aosa_fast.registry import foreign_code, import_object
from aosa_fast.targets import class_scores


def python_map(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """The map of "python:PACKAGE.MODULE:FUNCTION", in units of its own.

    The function is called with the model, a copy of the clips (B, C, T, H, W) float32 and their classes (B,) int64, and
    returns (B, T, H, W), or (B, C, T, H, W), over whose channels the sum is taken.

    Raises:
        InputError: it cannot be imported, raises, returns something else, or the target is a difference.
    """
    place = config.method.partition(":")[2]
    with foreign_code(f"method={config.method}", "an importable function"):
        function = import_object(place)
    return _mapped(model, video, config, resolve, lambda clips, index: function(model, clips, index))


def captum_map(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """The attribution of a class of `captum.attr`, "captum:NAME", of the score, summed over channels.

    A class that must have baselines gets 0, the mean colour; one that slides a window gets one of `config.box`, with
    the length and the steps of OSA's cuboids; `config.steps` are its n_steps. What it wants else, it cannot get.

    Raises:
        InputError: captum is missing or has no such class, it fails, or the target is a difference.
    """
    check_libraries("captum", extra="captum")
    import captum.attr

    name = config.method.partition(":")[2]
    kind: Any = getattr(captum.attr, name, None)
    if not (isinstance(kind, type) and captum.attr.Attribution in kind.__mro__):
        raise InputError(f"method must be captum:NAME, NAME a class of captum.attr; got {config.method}")
    _, channels, T, H, W = video.shape
    height, width = config.box_size
    windows = {
        "sliding_window_shapes": (channels, config.cuboid_frames or max(1, T // 2), min(height, H), min(width, W)),
        "strides": (channels, config.cuboid_step, config.stride, config.stride),
    }
    with foreign_code(f"method={config.method}", "a class of captum that needs a function alone", ModelError):
        attribution: Any = kind(_Scores(model, config.score_name))
    wanted = inspect.signature(attribution.attribute).parameters
    arguments: dict[str, Any] = {key: value for key, value in windows.items() if key in wanted}
    if config.steps and "n_steps" in wanted:
        arguments["n_steps"] = config.steps
    must = "baselines" in wanted and wanted["baselines"].default is inspect.Parameter.empty

    def attribute(clips: Tensor, index: Tensor) -> Tensor:
        baselines = {"baselines": torch.zeros_like(clips)} if must else {}
        found: Tensor = attribution.attribute(clips.requires_grad_(), target=index, **arguments, **baselines)
        return found

    return _mapped(model, video, config, resolve, attribute)


class _Scores(nn.Module):
    """The scores of a model; a module, for the classes of captum that put hooks on layers."""

    def __init__(self, model: Model, score: str) -> None:
        super().__init__()
        self.model, self.score = model, score

    def forward(self, video: Tensor) -> Tensor:
        # A copy: a model may normalise its input in place, which must not be a leaf.
        return class_scores(call_model(self.model, video.clone()), self.score)


def _mapped(
    model: Model, video: Tensor, config: Config, resolve: Resolve, function: Callable[[Tensor, Tensor], Any]
) -> Found:
    logits, targets = clean_answer(model, video, config, resolve)
    maps = []
    for target in targets:
        if target.minus is not None:
            raise InputError(f"target must be a class, not a difference, for method={config.method}")
        with foreign_code(f"method={config.method}", "a function that works on these clips", ModelError):
            found = function(video.clone(), target.index.to(video.device))
            if not isinstance(found, Tensor) or found.shape not in (video.shape, video[:, 0].shape):
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise InputError(f"the map must be {tuple(video[:, 0].shape)} or {tuple(video.shape)}; got {shape}")
        found = found.detach().float()
        maps.append((found.sum(1) if found.ndim == 5 else found).to(video.device))
    return logits, targets, maps
