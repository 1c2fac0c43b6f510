"""What a model turns out to be: what it returns, and whether its answers depend on the batch or on chance.

Asked once per model and kind of clip, and remembered for as long as the model lives: later explanations pay nothing.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast.errors import InputError, ModelWarning, describe_error
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import Model, clean_logits
from aosa_fast.targets import class_scores

# What rounding may change, as a share of the range of a clip's logits. Convolutions of one clip and of two differ by
# 1e-6 in float32; logits of bfloat16 move in steps of 1/256 of their size, and TF32 in steps of 1/1024.
EXACT, COARSE = 0.01, 0.1
# bfloat16 rounds by up to 2^-9: so far may the sum of probabilities be from 1.
SUM_ERROR = 4e-3
STRONG = 64.0  # contrast at which logits leave [0, 1], and probabilities do not


@dataclass
class Behaviour:
    """How a model answered the first clip of a kind; rows are (n_classes,) float32 in main memory.

    Attributes:
        output: what it returns: "logits", or "softmax" or "sigmoid" where it applies these itself.
        alone: its answer to the clip alone.
        again: to the same clip once more, as it was explained; None before that.
        beside: to the clip in a batch of two; None where no batch was wanted, or none works.
        one_by_one: whether it must be given its clips one by one.
        tolerance: what rounding may change, as a share of the range of an answer.
    """

    output: str
    alone: Tensor
    tolerance: float
    again: Tensor | None = None
    beside: Tensor | None = None
    one_by_one: bool = False

    def batch_size(self, wanted: int) -> int:
        """The batch size for this model where `wanted` (as in `Config`) is asked for."""
        return 1 if self.one_by_one else wanted

    def differs(self, other: Tensor | None) -> bool:
        """Whether another answer differs by more than rounding."""
        if other is None:
            return False
        size = float(self.alone.abs().max())
        reach = float(self.alone.max() - self.alone.min()) if len(self.alone) > 1 else size
        return float((self.alone - other).abs().max()) > self.tolerance * max(reach, 0.1 * size)

    def difference(self, other: Tensor | None, score: str) -> float | None:
        """The largest difference of another answer over the classes, in units of the score."""
        if other is None:
            return None
        used = score if len(self.alone) > 1 else "logit"  # a single class has no softmax
        first, second = (class_scores(row.unsqueeze(0), used) for row in (self.alone, other))
        return float((first - second).abs().max())

    def as_dict(self, score: str) -> dict[str, Any]:
        """For the self-check of an explanation."""
        return {
            "output": self.output,
            "repeat_difference": self.difference(self.again, score),
            "batch_difference": self.difference(self.beside, score),
        }


@dataclass
class _Memory:
    kinds: dict[tuple[Any, ...], Behaviour] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)


# By identity: models that are equal, by an __eq__ of their own, may answer otherwise.
_memories: dict[int, _Memory] = {}


def _memory(model: Model) -> _Memory:
    if id(model) not in _memories:
        try:
            weakref.finalize(model, _memories.pop, id(model), None).atexit = False
        except TypeError:  # of a kind that cannot be referred to weakly
            return _Memory()
        _memories[id(model)] = _Memory()
    return _memories[id(model)]


def study(model: Model, video: Tensor, *, batched: bool, dtype: str | None = None, route: str = "as-is") -> Behaviour:
    """Asks the model about the first clip, unless it was asked about one of this shape before.

    One forward, three where all it returns lies in [0, 1], and one of two clips where batches are wanted. A model whose
    answer changes with the batch (BatchNorm without running statistics), or that takes no batch, is to be given its
    clips one by one, and a warning says so.

    Args:
        model: see `call_model`; in evaluation mode.
        video: (B, C, T, H, W) float32, on the model's device.
        batched: whether clips are to go through the model together.
        dtype: as in `Config`.
        route: the way that it is on, as in `Config`.

    Raises:
        InputError: as `call_model`.
    """
    memory = _memory(model)
    clip = video[:1]

    def ask(clips: Tensor) -> Tensor:
        return clean_logits(model, clips, BatchSize(len(clips), clips.device), dtype)[0].cpu()

    key = (clip.shape, clip.device, dtype, route)
    seen = memory.kinds.get(key)
    # All answers must be to one clip: what an earlier one was not asked, or did not live to see, is asked anew.
    if seen is None or seen.again is None or (batched and seen.beside is None and not seen.one_by_one):
        alone = ask(clip)
        seen = Behaviour(_output_of(ask, clip, alone), alone, _tolerance(model, clip, dtype))
        memory.kinds[key] = seen
        if batched:
            _try_batch(model, memory, seen, ask, clip)
    return seen


def _try_batch(model: Model, memory: _Memory, seen: Behaviour, ask: Callable[[Tensor], Tensor], clip: Tensor) -> None:
    try:
        # Beside itself with half of the contrast, since statistics of two equal clips are those of one.
        seen.beside = ask(torch.cat([clip, clip / 2]))
    except InputError as error:
        seen.again = ask(clip)  # raises where it is not the batch that fails
        seen.one_by_one = True
        found = str(error) if error.__cause__ is None else describe_error(error.__cause__)
        _warn(memory, f"the model takes one clip at a time, and gets its clips so (batch_size=1); two at once: {found}")
        return
    if seen.differs(seen.beside):  # or is it chance? Of three more answers, the one that is furthest from the first
        seen.again = max((ask(clip) for _ in range(3)), key=lambda row: float((row - seen.alone).abs().max()))
    without = _without_statistics(model)
    if without or (seen.differs(seen.beside) and not seen.differs(seen.again)):
        seen.one_by_one = True
        why = f"{without} has no running statistics" if without else "another clip beside it changes the answer"
        _warn(memory, f"the model's answer depends on its batch ({why}): it gets its clips one by one (batch_size=1)")


def settle(model: Model, seen: Behaviour, logits: Tensor, score: str) -> None:
    """Holds the answers to all clips (B, n_classes) against that of `study`, and warns of a model that draws lots."""
    memory = _memory(model)
    if seen.again is None:  # then `study` has just asked about this clip
        seen.again = logits[0].detach().cpu()
    if seen.differs(seen.again):
        _warn(
            memory,
            "the model answers the same clip differently each time, by up to "
            f"{seen.difference(seen.again, score):.2g} of its score, and its maps differ as well: turn off what is "
            "random in it, such as functional dropout without training=self.training",
        )


def check_score(model: Model, seen: Behaviour, score: str) -> None:
    """Warns where a score is for logits, and the model returns probabilities."""
    if seen.output == "logits" or score not in ("prob", "logprob", "sigmoid"):
        return
    what = "rows in [0, 1] that sum to 1" if seen.output == "softmax" else "each class on its own, in [0, 1]"
    again = "sigmoid" if score == "sigmoid" else "softmax"
    _warn(
        _memory(model),
        f"the model returns probabilities ({what}), and score={score} takes their {again} once more: explain it with "
        f"score='logit' (--score logit), which takes what it returns as it is, or without its last {seen.output}"
        + (", with score='sigmoid'" if seen.output == "sigmoid" else ""),
    )


def _warn(memory: _Memory, text: str) -> None:
    """Once per model: an evaluation asks thousands of times."""
    kind = ModelWarning.kind(text)
    if kind not in memory.said:
        memory.said.add(kind)
        warnings.warn(text, ModelWarning, stacklevel=6)


def _output_of(ask: Callable[[Tensor], Tensor], clip: Tensor, alone: Tensor) -> str:
    """What the model returns, of which nothing is known but its answers."""
    if not _is_bounded(alone):
        return "logits"
    rows = [alone]
    for contrast in (-STRONG, STRONG):
        try:
            rows.append(ask(clip * contrast))
        except InputError:  # it was not made for such a clip
            break
    if not all(map(_is_bounded, rows)):
        return "logits"
    if len(alone) > 1 and all(abs(float(row.double().sum()) - 1) <= SUM_ERROR for row in rows):
        return "softmax"
    # Unlike logits that are small or do not depend on the clip, as of a model that was not trained yet.
    varies = len(rows) == 3 and all(float((row - alone).abs().max()) > SUM_ERROR for row in rows[1:])
    large = max(float(row.max()) for row in rows) > 0.5
    return "sigmoid" if varies and large else "logits"


def _is_bounded(row: Tensor) -> bool:
    return bool(((row >= 0) & (row <= 1)).all())


def _without_statistics(model: Model) -> str | None:
    """The name of a layer that normalises over the batch also in evaluation mode."""
    if isinstance(model, nn.Module):
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
                return f"layer {name}" if name else type(module).__name__
    return None


def _tolerance(model: Model, clip: Tensor, dtype: str | None) -> float:
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    coarse = any(weight.dtype in (torch.bfloat16, torch.float16) for weight in weights)
    return COARSE if coarse or dtype in ("bfloat16", "tf32") or (clip.is_cuda and dtype is None) else EXACT
