"""What is explained: the score f of a class, or of the difference of two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aosa_fast.errors import InputError
from aosa_fast.registry import nearest


@dataclass(frozen=True)
class Difference:
    """A target: why this class rather than that one. Its score is f(first) - f(second).

    Attributes:
        first: a class: index, name, or "pred".
        second: likewise.
    """

    first: int | str | Tensor
    second: int | str | Tensor


@dataclass(frozen=True)
class PerClip:
    """A target of its own for each clip of a batch.

    Attributes:
        targets: one per clip: index, name, or "pred".
    """

    targets: tuple[int | str, ...]


Target = int | str | Tensor | Difference | PerClip


@dataclass(frozen=True)
class ResolvedTarget:
    """Class indices per clip: `index` (B,) int64, `minus` (B,) int64 or None."""

    index: Tensor
    minus: Tensor | None = None

    def pick(self, class_scores: Tensor) -> Tensor:
        """(B, ..., n_classes) to (B, ...): the explained score of each clip."""
        score = _pick(class_scores, self.index)
        return score if self.minus is None else score - _pick(class_scores, self.minus)

    @staticmethod
    def join(parts: Sequence[ResolvedTarget]) -> ResolvedTarget:
        """The targets of consecutive parts of a batch, as one."""
        minus = [part.minus for part in parts if part.minus is not None]
        return ResolvedTarget(torch.cat([part.index for part in parts]), torch.cat(minus) if minus else None)

    def clips(self, begin: int, end: int) -> ResolvedTarget:
        """The targets of some clips of the batch."""
        return self.take(range(begin, end))

    def take(self, clips: Sequence[int]) -> ResolvedTarget:
        """The targets of the clips with these indices, in this order; they may repeat."""
        chosen = list(clips)
        return ResolvedTarget(self.index[chosen], None if self.minus is None else self.minus[chosen])

    def names(self, class_names: Sequence[str] | None) -> list[str]:
        """A readable name per clip."""

        def name(index: int) -> str:
            return class_names[index] if class_names else f"class {index}"

        first = [name(i) for i in self.index.tolist()]
        if self.minus is None:
            return first
        return [f"{a} - {name(i)}" for a, i in zip(first, self.minus.tolist(), strict=True)]


def _pick(class_scores: Tensor, index: Tensor) -> Tensor:
    shape = (len(index), *[1] * (class_scores.ndim - 1))
    where = index.to(class_scores.device).reshape(shape).expand(*class_scores.shape[:-1], 1)
    return class_scores.gather(-1, where).squeeze(-1)


def class_scores(logits: Tensor, score: str) -> Tensor:
    """f of every class: (..., n_classes) logits to the scores of `Config.score`.

    The margin of a class is its logit less the best other logit; its sigmoid is the probability of the class on its
    own, for models of several labels at once.

    Raises:
        InputError: a score that needs more classes than one.
    """
    if logits.shape[-1] < 2 and score in ("prob", "logprob", "margin"):
        raise InputError(
            f"score={score} must have at least two classes; got a model with one: use score='sigmoid' "
            "(--score sigmoid) or score='logit'"
        )
    if score == "prob":
        return logits.softmax(-1)
    if score == "logprob":
        return logits.log_softmax(-1)
    if score == "logit":
        return logits
    if score == "sigmoid":
        return logits.sigmoid()
    best, where = logits.topk(2, dim=-1)
    is_best = torch.arange(logits.shape[-1], device=logits.device) == where[..., :1]
    return logits - torch.where(is_best, best[..., 1:], best[..., :1])


def probabilities(logits: Tensor, score: str, output: str = "logits") -> Tensor:
    """(..., n_classes), what the model says of each class.

    Args:
        logits: (..., n_classes), what the model returns.
        score: as in `Config`; "sigmoid" for models of several labels at once.
        output: what that is: "logits", or "softmax" or "sigmoid" where these are applied already.
    """
    if output != "logits":
        return logits
    return logits.sigmoid() if score == "sigmoid" or logits.shape[-1] == 1 else logits.softmax(-1)


def resolve_target(target: Target, logits: Tensor, class_names: Sequence[str] | None = None) -> ResolvedTarget:
    """Turns what the user asked for into class indices.

    Args:
        target: an index, a name (or an index as a string), "pred" for each clip's best class, a (B,) integer tensor
            with one class per clip, a `Difference` of two of these, or `PerClip`.
        logits: (B, n_classes) of the clean clips.
        class_names: names by index, if known.

    Raises:
        InputError: an index out of range, an unknown name, a tensor or `PerClip` of another length, or names that are
            not one per class.
    """
    if class_names and len(class_names) != logits.shape[1]:
        raise InputError(f"class_names must be one per class, {logits.shape[1]}; got {len(class_names)}")
    if isinstance(target, Difference):
        first, second = (_indices(part, logits, class_names) for part in (target.first, target.second))
        return ResolvedTarget(first, second)
    return ResolvedTarget(_indices(target, logits, class_names))


def target_of_clips(target: Target, begin: int, end: int, clips: int) -> Target:
    """What is asked of the clips from `begin` to `end` of a batch of `clips`, for `resolve_target`.

    Raises:
        InputError: a tensor, or `PerClip`, that does not have one class per clip.
    """
    if isinstance(target, PerClip):
        _check_count(target, clips)
        return PerClip(target.targets[begin:end])
    if isinstance(target, Difference):
        return Difference(
            *(target_of_clips(part, begin, end, clips) for part in (target.first, target.second))  # type: ignore[arg-type]
        )
    if not isinstance(target, Tensor) or target.ndim == 0:
        return target
    if target.shape != (clips,):
        raise InputError(f"target must have one class per clip, B={clips}; got shape {tuple(target.shape)}")
    return target[begin:end]


def _indices(target: Any, logits: Tensor, class_names: Sequence[str] | None) -> Tensor:
    clips, classes = logits.shape
    if isinstance(target, Tensor):
        return _per_clip(target, clips, classes)
    if isinstance(target, PerClip):
        _check_count(target, clips)
        own = zip(target.targets, logits.split(1), strict=True)
        return torch.cat([_indices(one, row, class_names) for one, row in own])
    if target == "pred" or (target is None and classes == 1):
        return logits.argmax(-1).cpu()
    if isinstance(target, str):
        target = _by_name(target, class_names)
    elif isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise InputError(f"target must be an index, a name, 'pred', a tensor or a Difference; got {target!r}")
    return torch.full((clips,), _in_range(int(target), classes), device="cpu")


def _check_count(target: PerClip, clips: int) -> None:
    if len(target.targets) != clips:
        raise InputError(f"target must have one class per clip, B={clips}; got {len(target.targets)}")


def _per_clip(target: Tensor, clips: int, classes: int) -> Tensor:
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise InputError(f"target must be integer class indices; got {target.dtype}")
    index = target.detach().cpu().long()
    index = index.expand(clips) if index.ndim == 0 else index
    if index.shape != (clips,):
        raise InputError(f"target must have one class per clip, B={clips}; got shape {tuple(target.shape)}")
    for value in index.tolist():
        _in_range(value, classes)
    return index


def _in_range(index: int, classes: int) -> int:
    if not 0 <= index < classes:
        raise InputError(f"target must be a class from 0 to {classes - 1}; got {index}")
    return index


def _by_name(name: str, class_names: Sequence[str] | None) -> int:
    exact = [i for i, other in enumerate(class_names or []) if other == name]
    if len(exact) > 1:
        raise InputError(f"target must be an index where several classes have the name, here {exact}; got {name}")
    alike = exact or [i for i, other in enumerate(class_names or []) if other.casefold() == name.casefold()]
    if len(alike) == 1:
        return alike[0]
    if re.fullmatch(r"-?[0-9]{1,4000}", name):
        return int(name)
    if not class_names:
        raise InputError(f"target must be an index, as this model has no class names; got {name}")
    known = ", ".join(class_names[:12]) + (", ..." if len(class_names) > 12 else "")
    raise InputError(f"target must be an index or one of {known}; got {name}{nearest(name, class_names)}")
