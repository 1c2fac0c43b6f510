"""Where an explanation comes from: every choice, versions, timings and self-checks, in plain types."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aosa_fast import _C
from aosa_fast.config import Config
from aosa_fast.inference.behaviour import Behaviour
from aosa_fast.libraries import OPENCV, version_of
from aosa_fast.methods.job import Result
from aosa_fast.methods.regression import agreement
from aosa_fast.methods.selfcheck import is_saturated, uncovered_share
from aosa_fast.targets import ResolvedTarget, probabilities
from aosa_fast.version import __version__


def describe(
    result: Result,
    *,
    config: Config,
    names: Sequence[str] | None,
    model: str,
    seen: Behaviour,
    flow: str,
    segments: dict[str, Any] | None,
    source: dict[str, Any] | None,
    seconds: dict[str, float],
    threads: int,
) -> dict[str, Any]:
    """The metadata of an explanation, which JSON can hold; lists have one entry per clip.

    Args:
        result: what the method found.
        config: every choice.
        names: of the classes.
        model: its class.
        seen: how it answers.
        flow: where the optical flow came from: a method, or the caller.
        segments: what is to be said of the user's own.
        source: the file, its frames, and how they were read, where one was.
        seconds: per stage.
        threads: torch's number of them.
    """
    logits, target = result.logits, result.target
    return {
        "config": {**config.as_dict(), "flow": flow},
        **describe_target(logits, target, names, config.score_name, seen.output),
        "class_names": list(names) if names else None,
        "model": model,
        "shape": dict(zip("BTHW", result.coverage.shape, strict=True)),
        "self_check": {
            "uncovered_share": uncovered_share(result.coverage),
            "saturated": is_saturated(logits, target, config, seen.output),
            "exact": result.check,
            **({} if result.detail is None else {"detail": result.detail}),
            **({} if result.exact is None else {"budget": _describe_budget(result)}),
            **seen.as_dict(config.score_name),
        },
        "seconds": seconds,
        "versions": {
            "aosa_fast": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "numba": version_of("numba"),
            "opencv": version_of(*OPENCV),
        },
        "threads": threads,
        "simd": _C.simd_level(),
        **({} if segments is None else {"segments": segments}),
        **({} if source is None else {"source": source}),
    }


def _describe_budget(result: Result) -> list[dict[str, Any]]:
    """Per clip: how many tubes are exact, and how near the estimate takes itself to be (None: nothing was asked)."""
    assert result.exact is not None
    assert result.errors is not None
    near = agreement(result.scores, result.errors)
    return [
        {"exact_tubes": int(known.sum()), "tubes": len(known), "agreement": None if math.isnan(own) else own}
        for known, own in zip(result.exact, near.tolist(), strict=True)
    ]


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
