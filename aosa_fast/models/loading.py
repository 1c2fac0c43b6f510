"""What `--model SPEC` means."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from aosa_fast.errors import InputError, ModelError, describe_error
from aosa_fast.models.classifier import KINETICS, Classifier

SPECS = (
    "demo, demo-attention, demo-planted:SEED, torchvision:NAME[:WEIGHTS[:NAMES]], hf:MODEL, "
    "pytorchvideo:NAME[:WEIGHTS[:NAMES]], resnet3d:NAME:FILE[:NAMES], python:PACKAGE.MODULE:FUNCTION, or "
    "FILE.pt2 of torch.export, FILE.pt of TorchScript"
)


# What reads plain tensors only, and in which module. Whatever else a spec may be, it runs code of its authors.
_EMBEDDED = ("demo", "demo-attention")
_OF_TENSORS = {
    "demo-planted": ("loading", "_demo_planted"),
    "torchvision": ("torchvision_models", "load_torchvision"),
    "hf": ("huggingface", "load_huggingface"),
    "pytorchvideo": ("pytorchvideo_models", "load_pytorchvideo"),
    "resnet3d": ("resnet3d", "load_resnet3d"),
}


def runs_code(spec: str) -> bool:
    """Whether `load` of this spec would run code of the model's authors, rather than read their tensors."""
    kind, _, rest = spec.partition(":")
    return spec not in _EMBEDDED and not (kind in _OF_TENSORS and rest)


def load(spec: str = "demo") -> Classifier:
    """Loads a model.

    Args:
        spec: what to load:

            - "demo" and "demo-attention", the embedded networks;
            - "demo-planted:SEED" and "demo-planted:none", networks with and without shortcuts, see `demo.planted`;
            - "torchvision:NAME[:WEIGHTS[:NAMES]]", see `load_torchvision`;
            - "hf:MODEL", an id of Hugging Face or a folder, see `load_huggingface`;
            - "pytorchvideo:NAME[:WEIGHTS[:NAMES]]", see `load_pytorchvideo`;
            - "resnet3d:NAME:FILE[:NAMES]", see `load_resnet3d`;
            - "python:PACKAGE.MODULE:FUNCTION", a function without arguments that returns a `Classifier` or a
              `torch.nn.Module`, which gets the preprocessing `KINETICS`;
            - a path that ends in .pt2, .pt, .pth or .ts: a program, see `load_exported`.

            Modules of "python:" and programs run code of their authors (`runs_code`); the other kinds read plain
            tensors only.

    Returns:
        The classifier, with its anatomy where the network is of a family that `find_anatomy` knows.

    Raises:
        InputError: an unknown spec, weights that are not on this machine or do not fit, a function that fails.
    """
    from aosa_fast.models.anatomy import find_anatomy

    kind, _, rest = spec.partition(":")
    classifier = _python(spec, rest) if kind == "python" and rest else _load(spec)
    if classifier.anatomy is not None or not isinstance(classifier.network, nn.Module):
        return classifier
    return replace(classifier, anatomy=find_anatomy(classifier.network))


@contextmanager
def _usual_defaults() -> Iterator[None]:
    """Tensors are made on the CPU, in float32, whatever the caller's defaults are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


@_usual_defaults()
def _load(spec: str) -> Classifier:
    from aosa_fast.models.exported import SUFFIXES, load_exported

    kind, _, rest = spec.partition(":")
    if spec == "demo":
        return _demo()
    if spec == "demo-attention":
        return _demo_attention()
    if kind in _OF_TENSORS and rest:
        module, function = _OF_TENSORS[kind]
        loaded: Classifier = getattr(importlib.import_module(f"aosa_fast.models.{module}"), function)(spec, rest)
        return loaded
    if spec.lower().endswith(SUFFIXES):
        return load_exported(spec)
    raise InputError(f"model must be one of {SPECS}; got {spec}")


def _demo() -> Classifier:
    from aosa_fast.demo import CLASS_NAMES, load_demo_network
    from aosa_fast.demo.network import PREPROCESSING

    return Classifier(load_demo_network(), PREPROCESSING, CLASS_NAMES)


def _demo_attention() -> Classifier:
    from aosa_fast.demo import CLASS_NAMES
    from aosa_fast.demo.attention import PREPROCESSING, load_demo_attention

    return Classifier(load_demo_attention(), PREPROCESSING, CLASS_NAMES)


def _demo_planted(spec: str, rest: str) -> Classifier:
    from aosa_fast.demo import CLASS_NAMES
    from aosa_fast.demo.planted import PREPROCESSING, SEEDS, load_planted

    if rest not in ("none", *map(str, SEEDS)):
        raise InputError(f"model={spec} must be demo-planted:none or one of :{', :'.join(map(str, SEEDS))}")
    network = load_planted(0, shortcuts=False) if rest == "none" else load_planted(int(rest))
    return Classifier(network, PREPROCESSING, CLASS_NAMES)


def _python(spec: str, rest: str) -> Classifier:
    module_name, _, function_name = rest.partition(":")
    sys.path.insert(0, os.getcwd())  # as `python -m` does: the user's own module lies beside the user
    try:
        made = getattr(importlib.import_module(module_name), function_name)()
        made = made.eval() if isinstance(made, nn.Module) else made
    except InputError as error:
        raise InputError(f"model={spec}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"model={spec} must be an importable function without arguments that works; "
            f"it raised {describe_error(error)}"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if isinstance(made, Classifier):
        return made
    if not isinstance(made, nn.Module):
        raise InputError(f"model={spec} must return a Classifier or a torch.nn.Module; got {type(made).__name__}")
    return Classifier(made, KINETICS)
