"""A video classifier with what is known about it, and the names of its classes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from aosa_fast.boundary import read_bytes, reading
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing

if TYPE_CHECKING:
    from aosa_fast.models.anatomy import Anatomy

# Kinetics preprocessing of the 3-D ResNet tools: the default where a model does not say its own.
KINETICS = Preprocessing(
    frames=16, stride=2, size=112, crop=(112, 112), mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737)
)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A video classifier, ready for clips.

    Attributes:
        network: maps (B, C, T, H, W) to logits, in evaluation mode.
        preprocessing: from frames to its input.
        class_names: by index, or None.
        anatomy: its layer for Grad-CAM, the layout of that layer's tokens, and its attention; None if not known. Given
            for a network of a family that is not known, it is left on the network as its attribute `anatomy`, where
            the methods look for it.
    """

    network: nn.Module | Callable[[Tensor], Any]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    anatomy: Anatomy | None = None

    def __post_init__(self) -> None:
        if self.anatomy is not None and isinstance(self.network, nn.Module):
            from aosa_fast.models.anatomy import find_anatomy

            if find_anatomy(self.network) is None:
                self.network.anatomy = self.anatomy  # type: ignore[assignment]


def read_class_names(path: str, count: int) -> tuple[str, ...]:
    """Names of classes by index, from a text or JSON file.

    Args:
        path: one name per line, as they are or numbered from 1 in order ("1 ApplyEyeMakeup", UCF101's classInd.txt); or
            JSON: a list, an object from name to index (Kinetics' class names), or the annotation file of the
            3D-ResNets tools, whose "labels" is the list.
        count: how many classes the network has.

    Raises:
        InputError: the file cannot be read, or does not name `count` classes.
    """
    with reading(path, "must be a readable file of class names"):
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
        if not all(type(index) is int for index in content.values()):
            return None
        if sorted(content.values()) != list(range(len(content))):
            return None
        # Kinetics' file has names in quotes of their own.
        return tuple(name.strip('"') for name in sorted(content, key=lambda name: content[name]))
    if not isinstance(content, list) or not all(isinstance(name, str) and name.strip() for name in content):
        return None
    names = tuple(name.strip() for name in content)
    numbered = [re.fullmatch(r"(\d+)\s+(.+)", name) for name in names]
    if all(match and int(match[1]) == i for i, match in enumerate(numbered, 1)):
        return tuple(match[2] for match in numbered if match)
    return names
