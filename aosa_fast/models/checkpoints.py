"""Checkpoints: weights read from files of plain tensors, without running any code that a file may hold."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from urllib.error import HTTPError

import torch
from torch import Tensor, nn

from aosa_fast.boundary import open_file, reading
from aosa_fast.errors import InputError
from aosa_fast.models.downloads import HINT, downloads_allowed, fetching

# What tools call the state dict in the files that they save: the 3D-ResNets, pytorchvideo, DeepSpeed, and others.
CONTAINERS = ("state_dict", "model_state", "model_state_dict", "model", "module")


def parts_of(rest: str) -> tuple[str, str, str]:
    """NAME, WEIGHTS and NAMES of a spec's NAME[:WEIGHTS[:NAMES]]; "" for what is left out."""
    name, weights, names = [*rest.split(":", 2), "", ""][:3]
    return name, weights, names


def network_with(weights: str, build: Callable[[int], nn.Module], rule: str) -> nn.Module:
    """A network with random weights for the 400 classes of Kinetics ("random"), or with those of a checkpoint file.

    Args:
        weights: "random" or the file.
        build: as for `fit`.
        rule: what the weights must be, for the message.

    Raises:
        InputError: no such file, or as `read_state` and `fit`.
    """
    if weights == "random":
        return initialised(lambda: build(400))
    if not os.path.isfile(weights):
        raise InputError(f"{rule}; got {weights or 'none'}")
    return fit(build, read_state(weights), weights)


def read_state(path: str) -> dict[str, Tensor]:
    """A state dict, alone or in one of `CONTAINERS`, without the prefix that DataParallel adds. No code in it is run.

    Args:
        path: a file that `torch.save` wrote; an optimizer's state and the like beside the weights are left out.

    Returns:
        Tensors on the CPU by name.

    Raises:
        InputError: not a file, damaged, or with anything else than plain tensors, numbers and strings in it.
    """
    with reading(path, "must be a PyTorch checkpoint of plain tensors"), open_file(path) as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(_without_advice(error)) from None
    inner = (content[name] for name in CONTAINERS if isinstance(content, dict) and isinstance(content.get(name), dict))
    state = next(inner, content)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: must hold a state dict of tensors; got {type(content).__name__}")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def fit(build: Callable[[int], nn.Module], state: dict[str, Tensor], source: str) -> nn.Module:
    """A network with the weights of a checkpoint, and with as many classes as that has.

    Args:
        build: makes the network for a number of classes. Its last linear or convolutional layer is the classifier.
        state: from `read_state`.
        source: the file, for messages.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        InputError: the weights are not those of such a network.
    """
    with torch.device("meta"):
        skeleton = build(1)
    name, _ = _classifying_layer(skeleton)
    weight = state.get(f"{name}.weight")
    if weight is None or weight.ndim < 2:
        raise InputError(f"{source}: must fit {type(skeleton).__name__}; it has no {name}.weight")
    with reading(source, f"must fit {type(skeleton).__name__}"):
        # One number can be saved as a tensor of any size.
        if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
            raise ValueError(f"{name}.weight {tuple(weight.shape)} that repeats what is stored")
        network = initialised(lambda: build(len(weight)))
        network.load_state_dict(state)
        return network


def count_classes(network: nn.Module) -> int:
    """How many classes a network of `fit` or `initialised` has."""
    return int(_classifying_layer(network)[1].weight.shape[0])


def _classifying_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv3d]:
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv3d)][-1]


def initialised(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with its initial weights, those of `seeded`, in evaluation mode."""
    with seeded():
        return build().eval()


@contextmanager
def seeded() -> Iterator[None]:
    """With the random numbers of seed 0, so that the same name gives the same network each time.

    The caller's go on as if nothing had been drawn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed the GPUs too
        yield


def downloaded(spec: str, url: str) -> str:
    """Where torch.hub keeps the file of `url`, which is fetched if it is not there and downloads are allowed.

    Raises:
        InputError: it is not there; the message says where it comes from and where it belongs. Or it cannot be fetched.
    """
    folder, name = os.path.join(torch.hub.get_dir(), "checkpoints"), os.path.basename(url)
    path = os.path.join(folder, name)
    if os.path.isfile(path):
        return path
    if not downloads_allowed():
        raise InputError(f"model={spec} must have its weights at {path}; download them from {url}, {HINT}")
    with fetching(spec, url):
        os.makedirs(folder, exist_ok=True)
        with TemporaryDirectory(dir=folder) as beside:
            part = os.path.join(beside, name)
            digest = torch.hub.HASH_REGEX.search(name)
            try:
                torch.hub.download_url_to_file(url, part, hash_prefix=digest and digest[1])
            except HTTPError as error:
                error.close()  # which is the answer too
                raise
            try:
                read_state(part)
            except InputError:  # not all names have a hash: it may be a part of it, or the page of a proxy
                raise InputError("no checkpoint, or a part of one") from None
            os.replace(part, path)
    return path


def _without_advice(error: Exception) -> str:
    """What torch.load found, and not how to load the file unsafely."""
    found = re.search(r"WeightsUnpickler error:\s*(.+?)(?: was not an allowed global|$)", str(error), re.MULTILINE)
    return found[1] if found else str(error).strip().partition("\n")[0]
