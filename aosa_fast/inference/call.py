"""The model under explanation: calling it, and leaving it as it was."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast.errors import InputError, ModelError, describe_error
from aosa_fast.inference.batching import BatchSize

Model = nn.Module | Callable[[Tensor], Any]
NO_GRADIENT = "use method='aosa' (--method aosa)"


def call_model(model: Model, batch: Tensor) -> Tensor:
    """The logits of a batch, as float32, whatever the model wraps them in.

    Args:
        model: maps (B, C, T, H, W) to (B, n_classes), or to an object with `.logits` or a mapping with "logits".
        batch: (B, C, T, H, W). It may be overwritten: some models normalise in place.

    Returns:
        (B, n_classes) float32, on the device of `batch`.

    Raises:
        ModelError: the model fails.
        InputError: the output is not (B, n_classes), or not finite.
    """
    clips, device = len(batch), batch.device  # before the model may squeeze it in place
    with model_errors(_way_out(batch)):
        return _logits(model(batch), clips).to(device, torch.float32)  # a function may hide a model that is elsewhere


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite: by the extremes, an order of magnitude faster than value by value."""
    return all(math.isfinite(float(extreme)) for extreme in torch.aminmax(values))


def _logits(output: Any, clips: int) -> Tensor:
    """The scores (B, n_classes) of so many clips in what a model returned, checked."""
    got = type(output).__name__
    if isinstance(output, Mapping):
        got = f"a {got} with {', '.join(map(str, output)) or 'nothing'}"
        output = output.get("logits")
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise InputError(
            "model must return logits as a tensor, an object with .logits, or a mapping with 'logits'; wrap it, as in "
            f"lambda video: model(video)[KEY]; got {got}"
        )
    if logits.ndim == 1 and clips == 1 < len(logits):
        logits = logits.unsqueeze(0)  # squeezed, for the one clip that there is
    if logits.ndim != 2 or logits.shape[0] != clips or logits.shape[1] < 1:
        raise InputError(
            f"model must return one row of class scores per clip, (B, n_classes) with B={clips}; "
            f"got {tuple(logits.shape)}"
        )
    if logits.is_complex():
        raise InputError(f"model must return real logits; got {logits.dtype}")
    if not torch.isfinite(logits).all():
        raise InputError(f"model must return finite logits; got {int((~torch.isfinite(logits)).sum())} NaN or infinite")
    return logits


_route = threading.local()


@contextmanager
def routed(mode: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Within this block and this thread, a model's own code runs inside of what `mode` makes, and nothing else does."""
    before = getattr(_route, "mode", nullcontext)
    _route.mode = mode
    try:
        yield
    finally:
        _route.mode = before


@contextmanager
def model_errors(way_out: str) -> Iterator[None]:
    """Runs a model's own code, forward or backward, on the way of the block around it (`routed`).

    Says in one line what it raised, and what may help; where memory ran out, the caller tries less of it.

    Raises:
        ModelError: from the error of the model.
    """
    try:
        with getattr(_route, "mode", nullcontext)():
            yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        text = describe_error(error)
        if "use_reentrant" in text:
            way_out = "set use_reentrant=False in its torch.utils.checkpoint, or use method='aosa' (--method aosa)"
        raise ModelError(f"model must run on the clip without an error; it raised {text}; {way_out}") from error


def _way_out(batch: Tensor) -> str:
    shape = ", ".join(map(str, batch.shape))
    if batch.requires_grad:
        return f"{NO_GRADIENT} if it works without a gradient only"
    if len(batch) > 1:
        return f"use batch_size=1 (--batch-size 1) if it takes one clip at a time; it was given {len(batch)}"
    return (
        f"it was given (B, C, T, H, W) = ({shape}), and must be wrapped if it wants another layout, such as "
        "lambda video: model(video.transpose(1, 2)) for (B, T, C, H, W)"
    )


def clean_logits(model: Model, video: Tensor, batches: BatchSize, dtype: str | None = None) -> Tensor:
    """The logits of whole clips, a batch at a time.

    Args:
        model: see `call_model`.
        video: (B, C, T, H, W) float32, on the model's device; not written to.
        batches: clips per forward.
        dtype: as in `Config`.

    Returns:
        (B, n_classes) float32.

    Raises:
        InputError: as `call_model`.
    """
    own, layout = input_format(model, dtype)
    parts = []

    def add(begin: int, end: int) -> None:
        # Copies: a model may normalise its input in place, and what it returns may be a view of it.
        batch = video[begin:end].to(dtype=own, memory_format=layout, copy=True)
        parts.append(call_model(model, batch).clone())

    with torch.no_grad():
        batches.run(len(video), add)
    return torch.cat(parts)


def input_format(model: Model, dtype: str | None = None) -> tuple[torch.dtype, torch.memory_format]:
    """The dtype and memory format in which the model takes its input fastest: those of its own weights.

    With `dtype` "bfloat16" (`Config.dtype`), float32 weights are multiplied in bfloat16, and take their input so.
    """
    own, layout = torch.float32, torch.contiguous_format
    if isinstance(model, nn.Module):
        weights = [p for p in model.parameters() if p.is_floating_point()]
        if weights:
            own = weights[0].dtype
        if any(
            p.ndim == 5 and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last_3d)
            for p in weights
        ):
            layout = torch.channels_last_3d
    return torch.bfloat16 if dtype == "bfloat16" and own == torch.float32 else own, layout


_lock = threading.Lock()
_users: dict[int, tuple[int, list[nn.Module]]] = {}  # by the identity of a model that is being explained


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Puts the model in evaluation mode, and back, module by module, also after an exception.

    Batch statistics would couple the clips of a batch. Several threads may explain one model at once: the last one
    out restores. Gradients, `requires_grad` flags and hooks are never touched.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    with _lock:
        count, training = _users.get(id(model), (0, []))
        # A TorchScript that was frozen has no such flag.
        training = training or [module for module in model.modules() if getattr(module, "training", False)]
        _users[id(model)] = (count + 1, training)
        for module in training:
            module.training = False
    try:
        yield
    finally:
        with _lock:
            count, training = _users[id(model)]
            if count > 1:
                _users[id(model)] = (count - 1, training)
            else:
                del _users[id(model)]
                for module in training:
                    module.training = True
