"""The methods that AOSA is compared with, all with one signature (paper IV-A; method: section 8).

A comparator takes (model, video, config, resolve) and returns what `input_gradients.input_gradients` returns, with
maps (B, T, H, W) in place of gradients. OSA is not among them: it is a sweep over cuboids in place of tubes.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.call import Model
from aosa_fast.methods.input_gradients import Resolve
from aosa_fast.targets import ResolvedTarget

Comparator = Callable[[Model, Tensor, Config, Resolve], tuple[Tensor, list[ResolvedTarget], list[Tensor]]]

# Those that call the model many times, in batches of their own.
MANY_PASSES = ("smoothgrad", "step", "integrated-gradients")
_HOMES = {
    "grad-cam": ("grad_cam", "grad_cam"),
    "smoothgrad": ("gradients", "smoothgrad"),
    "step": ("step", "step"),
    "attention-rollout": ("attention_rollout", "attention_rollout"),
    "gradient": ("gradients", "gradient"),
    "input-x-gradient": ("gradients", "input_x_gradient"),
    "integrated-gradients": ("gradients", "integrated_gradients"),
    "random": ("baselines", "random_map"),
    "centre": ("baselines", "centre_blob"),
}


def find_comparator(method: str) -> Comparator:
    """The comparator of one of `Config.method`'s names."""
    module, function = _HOMES[method]
    found: Comparator = getattr(import_module(f"aosa_fast.methods.{module}"), function)
    return found
