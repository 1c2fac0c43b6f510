"""What `--model SPEC` means."""

from __future__ import annotations

import importlib
import os
import pickle
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing

# Kinetics preprocessing of the 3-D ResNet tools: the default where a model does not say its own.
KINETICS = Preprocessing(
    frames=16, stride=2, size=112, crop=(112, 112), mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737)
)

SPECS = "demo, torchvision:NAME[:WEIGHTS], python:PACKAGE.MODULE:FUNCTION"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A video classifier, ready for clips.

    Attributes:
        network: maps (B, C, T, H, W) to logits, in evaluation mode.
        preprocessing: from frames to its input.
        class_names: by index, or None.
    """

    network: nn.Module | Callable[[Tensor], Any]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None


def load(spec: str = "demo") -> Classifier:
    """Loads a model.

    Args:
        spec: "demo", the embedded network; "torchvision:NAME[:WEIGHTS]", WEIGHTS being a name that torchvision knows
            (default: its DEFAULT), "random", or a checkpoint file; or "python:PACKAGE.MODULE:FUNCTION", a function
            without arguments that returns a `Classifier` or a `torch.nn.Module`.

    Returns:
        The classifier.

    Raises:
        InputError: an unknown spec, weights that are not on this machine or do not fit, a function that fails.
    """
    kind, _, rest = spec.partition(":")
    if spec == "demo":
        return _demo()
    if kind == "torchvision" and rest:
        return _torchvision(spec, *rest.partition(":")[::2])
    if kind == "python" and rest:
        return _python(spec, rest)
    raise InputError(f"model must be one of {SPECS}; got {spec}")


def _demo() -> Classifier:
    from aosa_fast.demo import CLASS_NAMES, load_demo_network
    from aosa_fast.demo.network import PREPROCESSING

    return Classifier(load_demo_network(), PREPROCESSING, CLASS_NAMES)


def _torchvision(spec: str, name: str, weights: str) -> Classifier:
    try:
        from torchvision.models import get_model, get_model_weights, list_models, video
    except ImportError:
        raise InputError(f"model={spec} must have torchvision; it is missing: pip install torchvision") from None
    if name not in list_models(module=video):
        raise InputError(f"model must be one of torchvision's {', '.join(list_models(module=video))}; got {name}")
    known = get_model_weights(name)
    if weights == "random":
        network, entry = get_model(name), known.DEFAULT
    elif weights and weights not in known.__members__:
        if not os.path.isfile(weights):
            choices = ", ".join(known.__members__)
            raise InputError(f"model={spec} must name a checkpoint file, random, or one of {choices}; got {weights}")
        state = _checkpoint(weights)
        classes = [value.shape[0] for value in state.values() if value.ndim][-1]
        network, entry = get_model(name, num_classes=classes), known.DEFAULT
        _load_state(network, state, weights)
    else:
        entry = known[weights or "DEFAULT"]
        network = get_model(name, weights=None)
        _load_state(network, _checkpoint(_downloaded(spec, entry)), str(entry))
    transform = entry.transforms()
    crop = tuple(transform.crop_size) if isinstance(transform.crop_size, list | tuple) else (transform.crop_size,) * 2
    preprocessing = Preprocessing(
        frames=int(entry.meta.get("min_temporal_size", 16)),
        stride=2,
        size=max(min(transform.resize_size), *crop),
        crop=(int(crop[0]), int(crop[-1])),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )
    names = tuple(entry.meta["categories"])
    last = [parameter.shape[0] for parameter in network.parameters()][-1]
    return Classifier(network.eval(), preprocessing, names if last == len(names) else None)


def _downloaded(spec: str, entry: Any) -> str:
    import torch

    path = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(entry.url))
    if not os.path.isfile(path):
        raise InputError(f"model={spec} must have its weights at {path}; download them from {entry.url}")
    return path


def _checkpoint(path: str) -> dict[str, Tensor]:
    """A state dict, alone or under "state_dict", without the prefix that DataParallel adds. No code in it is run."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, struct.error, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: must be a PyTorch checkpoint of plain tensors; {_first_line(error)}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: must hold a state dict of tensors; got {type(content).__name__}")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise InputError(f"{source}: must fit {type(network).__name__}; {detail[:200]}") from None


def _python(spec: str, rest: str) -> Classifier:
    module_name, _, function_name = rest.partition(":")
    sys.path.insert(0, os.getcwd())  # as `python -m` does: the user's own module lies beside the user
    try:
        made = getattr(importlib.import_module(module_name), function_name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(
            f"model={spec} must be an importable function without arguments; {_first_line(error)}"
        ) from None
    finally:
        sys.path.remove(os.getcwd())
    if isinstance(made, Classifier):
        return made
    if not isinstance(made, nn.Module):
        raise InputError(f"model={spec} must return a Classifier or a torch.nn.Module; got {type(made).__name__}")
    return Classifier(made.eval(), KINETICS)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
