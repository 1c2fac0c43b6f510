"""Where an explanation comes from: every choice, versions, timings and self-checks, in plain types."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aosa_fast import _C
from aosa_fast.config import Config
from aosa_fast.inference.behaviour import Behaviour
from aosa_fast.inference.call import Model
from aosa_fast.inference.timing import Timings
from aosa_fast.libraries import OPENCV, version_of
from aosa_fast.methods.selfcheck import saturation, uncovered_share
from aosa_fast.targets import ResolvedTarget, probabilities
from aosa_fast.version import __version__


def describe(
    model: Model,
    seen: Behaviour,
    config: Config,
    flow_name: str,
    logits: Tensor,
    target: ResolvedTarget,
    coverage: Tensor,
    check: list[dict[str, Any]] | None,
    class_names: Sequence[str] | None,
    timings: Timings,
) -> dict[str, Any]:
    """The metadata of an explanation; lists have one entry per clip.

    Args:
        model: the explained model.
        seen: how it answers.
        config: every choice.
        flow_name: where the optical flow came from: a method, or the caller.
        logits: (B, n_classes) of the clean clips.
        target: what is explained.
        coverage: (B, T, H, W) int32.
        check: what `exact_check` found, if it ran.
        class_names: names by index, if known.
        timings: seconds per stage.

    Returns:
        A dictionary that JSON can hold.
    """
    return {
        "config": {**config.as_dict(), "flow": flow_name},
        **describe_target(logits, target, class_names, config.score_name, seen.output),
        "class_names": list(class_names) if class_names else None,
        "model": type(model).__name__,
        "shape": dict(zip("BTHW", coverage.shape, strict=True)),
        "self_check": {
            "uncovered_share": uncovered_share(coverage),
            "saturated": saturation(logits, target, config, seen.output),
            "exact": check,
            **seen.as_dict(config.score_name),
        },
        "seconds": dict(timings.seconds),
        "versions": {
            "aosa_fast": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "numba": version_of("numba"),
            "opencv": version_of(*OPENCV),
        },
        "threads": torch.get_num_threads(),
        "simd": _C.simd_level(),
    }


def describe_target(
    logits: Tensor, target: ResolvedTarget, class_names: Sequence[str] | None, score: str, output: str
) -> dict[str, Any]:
    """The part of the metadata that depends on the target; arguments as `describe` and `probabilities`."""
    values = probabilities(logits, score, output)
    best = ResolvedTarget(logits.argmax(-1))
    return {
        "target": target.names(class_names),
        "target_index": target.index.tolist(),
        "minus_index": None if target.minus is None else target.minus.tolist(),
        "probability": ResolvedTarget(target.index).pick(values).tolist(),
        "prediction": best.names(class_names),
        "prediction_probability": best.pick(values).tolist(),
    }
