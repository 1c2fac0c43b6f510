"""What is sent back: prediction, map and metadata, in the form that was asked for."""

from __future__ import annotations

import base64
import json
import math
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from aosa_fast.explanation import Explanation
from aosa_fast.service.arguments import RESULTS, Arguments

_BEST = 5
_NAMES = {"npz": "explanation.npz", "png": "sheet.png", "mp4": "overlay.mp4"}


def render(
    explanation: Explanation,
    display: NDArray[np.uint8],
    facts: dict[str, Any],
    arguments: Arguments,
    seconds: dict[str, float],
) -> tuple[bytes, dict[str, str]]:
    """The body of the answer and its headers; nothing is made that was not asked for.

    Args:
        explanation: of one clip.
        display: (T, H, W, 3) uint8, the frames to paint on.
        facts: about the clip.
        arguments: what is asked for.
        seconds: what each stage took so far.
    """
    explanation.metadata["source"] = facts
    described = _describe(explanation)
    headers = {
        "content-type": RESULTS[arguments.result],
        "x-aosa-prediction": quote(str(described["prediction"])),
        "x-aosa-probability": f"{described['probability']:.6g}",
        "x-aosa-target": quote(str(described["target"]["class"])),
    }
    if arguments.result != "json":
        headers["content-disposition"] = f'inline; filename="{_NAMES[arguments.result]}"'
        return _file(explanation, display, arguments.result), headers
    files = {name: base64.b64encode(_file(explanation, display, name)).decode("ascii") for name in arguments.include}
    answer = {**described, "seconds": {name: round(value, 6) for name, value in seconds.items()}, "files": files}
    return json_bytes(answer), headers


def json_bytes(value: object) -> bytes:
    """A line of JSON; what JSON has no number for is null."""
    return (json.dumps(_finite(value), allow_nan=False) + "\n").encode()


def _describe(explanation: Explanation) -> dict[str, Any]:
    facts = explanation.metadata
    probabilities = explanation.probabilities[0].detach().cpu()
    values, indices = probabilities.topk(min(_BEST, len(probabilities)))
    names = explanation.class_names
    top = [
        {"class": names[index] if names else str(index), "index": index, "probability": value}
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]
    return {
        "prediction": facts["prediction"][0],
        "prediction_index": int(explanation.logits[0].argmax()),
        "probability": facts["prediction_probability"][0],
        "top": top,
        "target": {
            "class": facts["target"][0],
            "index": facts["target_index"][0],
            "probability": facts["probability"][0],
        },
        "metadata": {name: value for name, value in facts.items() if name != "class_names"},
    }


def _file(explanation: Explanation, display: NDArray[np.uint8], kind: str) -> bytes:
    # Those who write them write files; this folder is gone with the answer, whatever happens.
    with tempfile.TemporaryDirectory(prefix="aosa_fast-") as folder:
        path = Path(folder, _NAMES[kind])
        if kind == "npz":
            explanation.save(path)
        else:
            explanation.save_overlay(path, frames=display)
        return path.read_bytes()


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
