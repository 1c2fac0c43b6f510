"""Where the model computes, and in which precision; our own operators always add in float32 or better."""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from aosa_fast.errors import InputError
from aosa_fast.inference.call import Model

_lock = threading.Lock()


def model_device(model: Model, default: torch.device) -> torch.device:
    """The device of the model's first parameter or buffer; of one without any, `default`."""
    if isinstance(model, nn.Module):
        for tensors in (model.parameters(), model.buffers()):
            for tensor in tensors:
                return tensor.device
    return default


def resolve_device(name: str) -> torch.device:
    """A device by name: "cpu", "cuda", "cuda:1", or "auto", the first GPU that torch and Triton can use, else the CPU.

    Raises:
        InputError: another name, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and _has_triton() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N; got {name}")
    device = torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        reason = "" if torch.version.cuda else ", and this torch is a build without CUDA"
        raise InputError(f"device={name} must be a GPU that torch can use; it finds {count}{reason}")
    return device


def current(device: torch.device) -> AbstractContextManager[Any]:
    """While a block runs, this is the GPU that Triton and CUDA's streams take; of a CPU, nothing."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def check_device(model: torch.device, video: torch.device, dtype: str | None = None, compat: str | None = None) -> None:
    """Raises InputError where the devices of model and video cannot do what is asked for."""
    for name, device in (("model", model), ("video", video)):
        if device.type not in ("cpu", "cuda"):
            raise InputError(f"{name} must be on a CPU or a CUDA device; got {device}")
    if model.type == "cuda" and not _has_triton():
        raise InputError(f"model must come with Triton on a GPU: pip install triton (Linux only); got {model}")
    if model.type == "cuda" and compat:
        raise InputError(f"compat={compat} must run with the model on the CPU, bit for bit; got {model}")
    if model.type == "cpu" and dtype == "tf32":
        raise InputError("dtype=tf32 must run on a CUDA device; got cpu")


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@contextmanager
def precision(dtype: str | None, device: torch.device) -> Iterator[None]:
    """Sets the precision of the model's matrix products and convolutions, and sets it back.

    Torch's switches for TF32 are those of the process: threads that need them changed take turns.

    Args:
        dtype: "float32" (TF32 off), "tf32", "bfloat16" (autocast), or None: as torch is set.
        device: where the model is.
    """
    with torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext():
        wanted = [] if device.type == "cpu" or dtype in (None, "bfloat16") else _switches(dtype == "tf32")
        if all(getattr(owner, name) == value for owner, name, value in wanted):
            yield
            return
        with _lock:
            before = [getattr(owner, name) for owner, name, _ in wanted]
            try:
                for owner, name, value in wanted:
                    setattr(owner, name, value)
                yield
            finally:
                for (owner, name, _), value in zip(wanted, before, strict=True):
                    setattr(owner, name, value)


def _switches(tf32: bool) -> list[tuple[Any, str, Any]]:
    """(owner, attribute, value): the old names, or those since torch 2.9, after which the old ones can't be read."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    try:
        _ = matmul.allow_tf32, cudnn.allow_tf32
    except RuntimeError:
        return [(owner, "fp32_precision", "tf32" if tf32 else "ieee") for owner in (matmul, cudnn.conv, cudnn.rnn)]
    return [(matmul, "allow_tf32", tf32), (cudnn, "allow_tf32", tf32)]
