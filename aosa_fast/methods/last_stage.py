"""The last stage of convolutions of a network of which nothing is known: where Grad-CAM looks unless told otherwise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.utils.weak import WeakIdKeyDictionary

from aosa_fast.inference.call import call_model, input_format
from aosa_fast.methods.hooks import forward_hooks

_found: Any = WeakIdKeyDictionary()  # by network: the names of its layers, and the stage
_SHOWN = 8  # layers that a message names


@dataclass(frozen=True)
class LastStage:
    """What one clip shows of a network.

    Attributes:
        layer: the name of the stage's layer; None where none can be told.
        candidates: names of all layers that are called once, and give (B, C, T', H', W') or (BT', C, H', W') with the
            places of a convolution.
    """

    layer: str | None
    candidates: tuple[str, ...]

    def __str__(self) -> str:
        shown = self.candidates[-_SHOWN:]
        more = f", and {len(self.candidates) - len(shown)} before" if len(shown) < len(self.candidates) else ""
        return (", ".join(shown) or "none") + more


@dataclass(frozen=True)
class _Call:
    name: str
    convolves: bool
    shape: tuple[int, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """How many places the output has along each axis but its channels; empty where a frame is one place."""
        places = (self.shape[0], *self.shape[2:])
        return places if len(self.shape) in (4, 5) and self.shape[-1] * self.shape[-2] > 1 else ()


def last_stage(network: nn.Module, video: Tensor, dtype: str | None) -> LastStage:
    """The last layer whose output still has the places of the last convolution: of a residual network, its last stage.

    2-D convolutions, frame by frame, count as well. Convolutions of a single place are heads. Where tokens of all
    places follow, as behind the patches of a transformer, the convolutions are not the last stage, and there is none.

    Args:
        network: in evaluation mode; asked once, by one forward of a clip, and remembered.
        video: (B, C, T, H, W) float32, on its device; not written to.
        dtype: as in `Config`.

    Raises:
        InputError: as `call_model`.
    """
    names = [name for name, _ in network.named_modules()]
    known, found = _found.get(network, (None, None))
    if known != names:
        found = _choose(_calls(network, video[:1], dtype))
        _found[network] = names, found
    assert isinstance(found, LastStage)
    return found


def _calls(network: nn.Module, clip: Tensor, dtype: str | None) -> list[_Call]:
    """The calls of all layers that give one tensor, in the order in which they end."""
    calls: list[_Call] = []

    def note(name: str, module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            calls.append(_Call(name, isinstance(module, nn.Conv2d | nn.Conv3d), tuple(output.shape)))

    layers = [(name, module) for name, module in network.named_modules() if name]
    hooks = [(layer, partial(note, name, layer)) for name, layer in layers if not isinstance(layer, ScriptModule)]
    own, layout = input_format(network, dtype)
    with torch.no_grad(), forward_hooks(hooks):
        call_model(network, clip.to(dtype=own, memory_format=layout, copy=True))
    return calls


def _choose(calls: list[_Call]) -> LastStage:
    times = Counter(call.name for call in calls)
    places = {call.grid for call in calls if call.convolves and call.grid}
    candidates = tuple(call.name for call in calls if times[call.name] == 1 and call.grid in places)
    convolutions = [place for place, call in enumerate(calls) if call.convolves and call.grid]
    if not convolutions:
        return LastStage(None, candidates)
    last, stage, is_lost = calls[convolutions[-1]], None, False
    for call in calls[convolutions[-1] :]:
        if call.grid == last.grid:
            stage, is_lost = (call.name if times[call.name] == 1 else stage), False
        elif _has_tokens(call, last):  # until a layer has the channels second again, as at the end of ConvNeXt's blocks
            is_lost = True
        elif call.grid:  # pooled: what has as many places later on has other ones
            break
    return LastStage(None if is_lost else stage, candidates)


def _has_tokens(call: _Call, last: _Call) -> bool:
    """Whether a layer gives something for each place of a convolution, but not with the channels second.

    With the channels last, or as tokens (rows, N, C) with up to two special ones.
    """
    grid = (last.shape[0], *last.shape[2:])
    if call.shape[:-1] == grid:
        return True
    if len(call.shape) != 3:
        return False
    *times, height, width = grid
    frames = times[-1]
    rows = [(1, frames * height * width), (frames, height * width)]
    orders = (call.shape[:2], call.shape[1::-1])  # with the batch first, or the tokens
    return any(order[0] == row and 0 <= order[1] - many <= 2 for order in orders for row, many in rows)
