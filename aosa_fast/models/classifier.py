"""A video classifier with what is known about it, and the names of its classes."""

from __future__ import annotations

import json
import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aosa_fast.boundary import read_bytes, reading
from aosa_fast.errors import InputError
from aosa_fast.models.anatomy import Anatomy, find_anatomy
from aosa_fast.models.preprocess import Preprocessing

# Kinetics preprocessing of the 3-D ResNet tools: the default where a model does not say its own.
KINETICS = Preprocessing(
    frames=16, stride=2, size=112, crop=(112, 112), mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737)
)


Names = Iterable[str] | Mapping[int, str] | Mapping[str, int] | Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A video classifier, ready for clips.

    Attributes:
        network: maps (B, C, T, H, W) to logits, in evaluation mode.
        preprocessing: from frames to its input.
        class_names: by index, or None; given as `read_names` takes them.
        anatomy: its layer for Grad-CAM, the layout of that layer's tokens, and its attention; None if not known. Given
            for a network of a family that is not known, it is left on the network as its attribute `anatomy`, where
            the methods look for it.
    """

    network: nn.Module | Callable[[Tensor], Any]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    anatomy: Anatomy | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", read_names(self.class_names))
        network = self.network
        if self.anatomy is not None and isinstance(network, nn.Module) and find_anatomy(network) is None:
            network.anatomy = self.anatomy  # type: ignore[assignment]


def read_names(names: Names | None) -> tuple[str, ...] | None:
    """Names of classes by index.

    Args:
        names: a list or any other sequence of names; or a mapping from index to name, or from name to index, in any
            order, as in the id2label and label2id of transformers. Indices may be text, as JSON makes them.

    Returns:
        The names; None for None and for nothing.

    Raises:
        InputError: something else, or indices that are not 0 to n - 1, each once.
    """
    if isinstance(names, Mapping):
        names = _in_order(dict(names))
    if names is None:
        return None
    if isinstance(names, str | bytes | Set) or not isinstance(names, Iterable):
        raise InputError(f"class_names must be a list of names, or a mapping of them; got {type(names).__name__}")
    found = tuple(names)
    for name in found:
        if not isinstance(name, str):
            raise InputError(f"class_names must be text; got {name!r}")
    return found or None


def _in_order(names: dict[Any, Any]) -> list[Any]:
    """The names of a mapping, in either direction."""
    pairs = list(names.items())
    if all(isinstance(index, numbers.Integral) for index in names.values()) or not _are_indices(names):
        pairs = [(index, name) for name, index in pairs]
    if not _are_indices(index for index, _ in pairs):
        raise InputError(f"class_names must map index to name or name to index; got {_some(names.items())}")
    pairs.sort(key=lambda pair: int(pair[0]))
    if [int(index) for index, _ in pairs] != list(range(len(pairs))):
        got = _some(index for index, _ in pairs)
        raise InputError(f"class_names must have every index from 0 to {len(pairs) - 1} once; got {got}")
    return [name for _, name in pairs]


def _are_indices(values: Iterable[Any]) -> bool:
    return all(re.fullmatch("[0-9]{1,9}", str(value)) for value in values)


def _some(values: Iterable[Any]) -> str:
    shown = [str(value) for value in values]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


def read_class_names(path: str, count: int) -> tuple[str, ...]:
    """Names of classes by index, from a text or JSON file.

    Args:
        path: one name per line, as they are or numbered from 1 in order ("1 ApplyEyeMakeup", UCF101's classInd.txt); or
            JSON: a list, an object from name to index (Kinetics' class names) or from index to name, or the annotation
            file of the 3D-ResNets tools, whose "labels" is the list.
        count: how many classes the network has.

    Raises:
        InputError: the file cannot be read, or does not name `count` classes.
    """
    with reading(path, "must be a readable file of class names", named=False):
        text = read_bytes(path).decode("utf-8-sig")
        content = json.loads(text) if path.lower().endswith(".json") else text.strip().splitlines()
        names = _names(content)
    if names is None or len(names) != count:
        found = "none" if names is None else str(len(names))
        raise InputError(f"{path}: must name the {count} classes of the network, one per line or in JSON; got {found}")
    return names


def _names(content: Any) -> tuple[str, ...] | None:
    if isinstance(content, dict) and "labels" in content:
        content = content["labels"]
    if isinstance(content, dict):
        # Kinetics' file has names in quotes of their own.
        content = [name.strip('"') for name in read_names(content) or ()]
    if not isinstance(content, list) or not all(isinstance(name, str) and name.strip() for name in content):
        return None
    names = tuple(name.strip() for name in content)
    numbered = [re.fullmatch(r"(\d+)\s+(.+)", name) for name in names]
    if all(match and int(match[1]) == i for i, match in enumerate(numbered, 1)):
        return tuple(match[2] for match in numbered if match)
    return names
