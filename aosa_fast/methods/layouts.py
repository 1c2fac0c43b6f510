"""Clips as people have them, told by their axes and their type, and what to do with those that are turned or scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.inference.call import Model

_RULE = "(B, T, H, W, 3) uint8 pictures or a normalised (B, C, T, H, W) float32 clip, with or without B, nothing empty"
_MOST_CHANNELS = 4  # where the model does not say how many it takes, what is more than this is frames


def as_clips(video: object, model: Model) -> Tensor:
    """The clips as a tensor with a batch, of which a clip without one is the only one; no value is changed.

    Args:
        video: (B, T, H, W, 3) uint8 or (B, C, T, H, W) float32, or either without B.
        model: whose convolutions may tell that three channels are wanted.

    Raises:
        InputError: other axes; where it can be told what they are, the message has the call that turns them.
        TypeError: neither array nor tensor, or numbers of another type; likewise.
    """
    if not isinstance(video, Tensor | np.ndarray):
        hint = "; give numpy.stack(video)" if isinstance(video, list | tuple) else ""
        raise TypeError(f"video must be a path, a NumPy array or a torch.Tensor; got {type(video).__name__}{hint}")
    wrong = _wrong(video, model)
    if wrong is not None:
        kind, hint = wrong
        raise kind(f"video must be {_RULE}; got {video.dtype} {tuple(video.shape)}{hint}")
    if isinstance(video, np.ndarray):
        array = np.ascontiguousarray(video)
        video = torch.from_numpy(array if array.flags.writeable else array.copy())
    return video.unsqueeze(0) if video.ndim == 4 else video


def _wrong(video: NDArray[Any] | Tensor, model: Model) -> tuple[type[Exception], str] | None:
    """The error that says what is wrong with clips, and what to give in their place, "" where that is not known."""
    if video.ndim not in (4, 5) or 0 in video.shape:
        return InputError, ""
    frames, second, last = video.shape[-4], video.shape[-3], video.shape[-1]
    kind = str(video.dtype).removeprefix("torch.")
    is_real = video.dtype.kind == "f" if isinstance(video, np.ndarray) else video.is_floating_point()
    if is_real:
        foreign = frames != 3 and 3 in (second, last) and _wants_rgb(model, frames)
        if foreign and last == 3:
            levels = _levels(video)
            if levels is None:
                return InputError, _turned(video, "T H W C", -1, -4)
            return TypeError, _cast(video, "uint8", f"pictures in {levels}")
        if foreign:
            return InputError, _turned(video, "T C H W", -4, -3)
        return None if kind == "float32" else (TypeError, _cast(video, "float32", "a normalised clip"))
    if last == 3:
        return None if kind == "uint8" else (TypeError, _cast(video, "uint8", "pictures in 0..255"))
    if kind != "uint8":
        return TypeError, ""
    if second == 3:
        return InputError, _turned(video, "T C H W", -3, -1)
    if frames == 3:
        return InputError, _turned(video, "C T H W", -4, -1)
    return InputError, "; of RGBA give video[..., :3]" if last == 4 else ""


def _turned(video: NDArray[Any] | Tensor, axes: str, source: int, target: int) -> str:
    source, target = (axis + video.ndim for axis in (source, target))
    if isinstance(video, np.ndarray):
        call = f"numpy.moveaxis(video, {source}, {target})"
    else:
        call = f"video.{'transpose' if target == source + 1 else 'movedim'}({source}, {target})"
    names = ", ".join((["B"] if video.ndim == 5 else []) + axes.split())
    return f", which looks like ({names}): give {call}"


def _cast(video: NDArray[Any] | Tensor, kind: str, what: str) -> str:
    scaled = {"pictures in [0, 1]": "(video * 255).round()", "pictures in [0, 255]": "video.round()"}.get(what, "video")
    call = f'{scaled}.astype("{kind}")' if isinstance(video, np.ndarray) else f"{scaled}.to(torch.{kind})"
    return f"; if it is {what}, give {call}"


def _levels(video: NDArray[Any] | Tensor) -> str | None:
    """The range of real numbers that may be pictures; None where they cannot be."""
    if isinstance(video, Tensor) and video.is_meta:
        return None
    low, high = float(video.min()), float(video.max())
    if not 0 <= low <= high <= 255:
        return None
    return "[0, 1]" if high <= 1 else "[0, 255]"


def _wants_rgb(model: Model, frames: int) -> bool:
    """Whether so many cannot be the channels: by the model's convolutions where it has any, or by their number."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d | nn.Conv3d)]
    if convolutions:
        return any(convolution.in_channels == 3 for convolution in convolutions)
    return frames > _MOST_CHANNELS
