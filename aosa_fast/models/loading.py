"""What `--model SPEC` means."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import replace

from torch import nn

from aosa_fast.errors import InputError
from aosa_fast.models.checkpoints import first_line
from aosa_fast.models.classifier import KINETICS, Classifier

SPECS = (
    "demo, demo-attention, demo-planted:SEED, torchvision:NAME[:WEIGHTS[:NAMES]], hf:MODEL, "
    "pytorchvideo:NAME[:WEIGHTS[:NAMES]], resnet3d:NAME:FILE[:NAMES], python:PACKAGE.MODULE:FUNCTION, or "
    "FILE.pt2 of torch.export, FILE.pt of TorchScript"
)


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

            Modules of "python:" and programs run code of their authors; the other kinds read plain tensors only.

    Returns:
        The classifier, with its anatomy where the network is of a family that `find_anatomy` knows.

    Raises:
        InputError: an unknown spec, weights that are not on this machine or do not fit, a function that fails.
    """
    from aosa_fast.models.anatomy import find_anatomy

    classifier = _load(spec)
    if classifier.anatomy is not None or not isinstance(classifier.network, nn.Module):
        return classifier
    return replace(classifier, anatomy=find_anatomy(classifier.network))


def _load(spec: str) -> Classifier:
    from aosa_fast.models.exported import SUFFIXES, load_exported

    kind, _, rest = spec.partition(":")
    if spec == "demo":
        return _demo()
    if spec == "demo-attention":
        return _demo_attention()
    if kind == "demo-planted" and rest:
        return _demo_planted(spec, rest)
    if kind == "torchvision" and rest:
        from aosa_fast.models.torchvision_models import load_torchvision

        return load_torchvision(spec, rest)
    if kind == "hf" and rest:
        from aosa_fast.models.huggingface import load_huggingface

        return load_huggingface(spec, rest)
    if kind == "pytorchvideo" and rest:
        from aosa_fast.models.pytorchvideo_models import load_pytorchvideo

        return load_pytorchvideo(spec, rest)
    if kind == "resnet3d" and rest:
        from aosa_fast.models.resnet3d import load_resnet3d

        return load_resnet3d(spec, rest)
    if kind == "python" and rest:
        return _python(spec, rest)
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
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(
            f"model={spec} must be an importable function without arguments; {first_line(error)}"
        ) from None
    finally:
        sys.path.remove(os.getcwd())
    if isinstance(made, Classifier):
        return made
    if not isinstance(made, nn.Module):
        raise InputError(f"model={spec} must return a Classifier or a torch.nn.Module; got {type(made).__name__}")
    return Classifier(made.eval(), KINETICS)
