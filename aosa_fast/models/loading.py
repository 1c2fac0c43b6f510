"""What `--model SPEC` means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from aosa_fast.errors import InputError, ModelError, describe_error
from aosa_fast.inference.precision import resolve_device
from aosa_fast.models.anatomy import find_anatomy
from aosa_fast.models.classifier import KINETICS, Classifier
from aosa_fast.models.downloads import allow_downloads
from aosa_fast.models.exported import SUFFIXES
from aosa_fast.models.registry import FAMILIES, PROGRAM, ModelFamily, model_help
from aosa_fast.registry import foreign_code, import_object


def find_family(spec: str) -> ModelFamily:
    """The family that a spec belongs to.

    Raises:
        InputError: none.
    """
    kind, _, rest = spec.partition(":")
    family = FAMILIES.get(kind) if kind != PROGRAM else None
    if family is not None and bool(rest) == (":" in family.spec):
        return family
    if spec.lower().endswith(SUFFIXES):
        return FAMILIES[PROGRAM]
    raise InputError(f"model must be one of {model_help()}; got {spec}{FAMILIES.hint(kind)}")


def runs_code(spec: str) -> bool:
    """Whether `load` of this spec would run code of the model's authors, rather than read their tensors."""
    try:
        return find_family(spec).runs_code
    except InputError:
        return True


def load(spec: str = "demo", *, download: bool = False) -> Classifier:
    """Loads a model.

    Args:
        spec: what to load, as `aosa_fast.list_models` names it; `aosa-fast list models` says more. Modules of
            "python:", programs, and families of other packages that say so run code of their authors (`runs_code`);
            the others read plain tensors only.
        download: whether weights that this machine lacks are fetched from where they are published: of hf: a model's
            id, of torchvision: and pytorchvideo: a name. Otherwise nothing is, and the error says where they are. They
            are kept in the caches of Hugging Face and of torch.hub; who may have them is settled by `hf auth login`.

    Returns:
        The classifier, with its anatomy where the network is of a family that `find_anatomy` knows.

    Raises:
        InputError: an unknown spec, weights that are not on this machine, cannot be fetched or do not fit, a function
            that fails.
    """
    family = find_family(spec)
    with allow_downloads(download), _usual_defaults(family):
        classifier: Classifier = import_object(family.load)(spec, spec.partition(":")[2])
    if classifier.anatomy is not None or not isinstance(classifier.network, nn.Module):
        return classifier
    return replace(classifier, anatomy=find_anatomy(classifier.network))


def load_on(spec: str, device: str) -> Classifier:
    """The model of a spec, on a device by name, see `resolve_device`.

    Raises:
        InputError: as `load`, or the device cannot be used; a `ModelError`: it cannot go there.
    """
    classifier = load(spec)
    where = resolve_device(device)
    if not isinstance(classifier.network, nn.Module):
        return classifier
    try:
        return replace(classifier, network=classifier.network.to(where))
    except Exception as error:
        raise ModelError(f"model={spec} must go to {where}; it raised {describe_error(error)}") from error


@contextmanager
def _usual_defaults(family: ModelFamily) -> Iterator[None]:
    """Tensors are made on the CPU, in float32, whatever the caller's defaults are; a user's own function sees these."""
    if family.name == "python":
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def load_python(spec: str, rest: str) -> Classifier:
    """What the function of "python:PACKAGE.MODULE:FUNCTION" returns; a module gets the preprocessing `KINETICS`.

    Raises:
        InputError: it returns something else; a `ModelError`: it cannot be imported, or fails.
    """
    with foreign_code(f"model={spec}", "an importable function without arguments that works", ModelError):
        made = import_object(rest)()
        made = made.eval() if isinstance(made, nn.Module) else made
    if isinstance(made, Classifier):
        return made
    if not isinstance(made, nn.Module):
        raise InputError(f"model={spec} must return a Classifier or a torch.nn.Module; got {type(made).__name__}")
    return Classifier(made, KINETICS)
